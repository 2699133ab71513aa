"""Kills by the clock: `kill -9` of a real `tallyd run` at random moments, while real hosts drop all the time.

Hosts are processes of their own with the stub; one lives yesterday, so that its counts are sealed and
sent, one tomorrow, so that they stay in buckets. Now and then a host is killed too. A request for a
flush waits at every start of the daemon, so its work begins at once and the kill falls into it; one
daemon in ten is a fresh interpreter, the others are forked from a warm one. At the end the hosts are told
to stop, one flush recovers, and the sums must be what each host says that it counted.
"""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from crash import pictures
from crash.lab import REQUEST, Lab, Outcome, ask, program_environ
from crash.scenarios import Scenario
from support.processes import wait_for

# The daemon's clock moves on by this from start to start, so that the rate limit lets it send.
_STEP_S = 5
# And so many kills at most, or the clock would be an hour ahead of what hosts write just now.
ROUND = 300
_FRESH_ONE_IN = 10
_HOST_ONE_IN = 30
_ANSWERS = ("204", "204", "204", "lost", "none", "503")
_SAID = re.compile(rb"(counted|dropped|ended) (\d+)\n")


class _Host:
    """A host that drops until it is told to stop, or killed."""

    def __init__(self, lab: Lab, home: Path, tool: str, days: int) -> None:
        self.tool, self._log = tool, home.parent / f"{home.name}-{tool}"
        self.is_killed = False
        with self._log.open("wb") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "crash.hosts", tool, str(days)],
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=subprocess.DEVNULL,
                env={**program_environ(), **lab.environ(home)},
            )

    def counts(self) -> bool:
        return self._log.stat().st_size > 0

    def kill(self) -> None:
        self.is_killed = True
        self._process.kill()

    def stop(self) -> None:
        self._process.communicate()

    def bounds(self) -> tuple[int, int]:
        """At least, and at most, what it has dropped."""
        said = {word: int(number) for word, number in _SAID.findall(self._log.read_bytes())}
        if b"ended" in said:
            return said[b"ended"], said[b"ended"]
        assert self.is_killed, f"{self.tool} ended by itself"
        return said.get(b"dropped", 0), said.get(b"counted", 0)


def kills(lab: Lab, seed: int, number: int, *, wrong: str | None = None) -> Iterator[Outcome]:
    """One round of up to ROUND kills in one home; the last outcome has what is wrong at its end."""
    chance = random.Random(seed)
    scenario = lab.scenario(seed, features=())
    home = scenario.home
    # Whatever lies there, we begin with an empty spool.
    for file in (home / "state" / "spool").rglob("*.*"):
        file.unlink()
    (home / "state" / "spool" / "tallyd-demo" / "new" / "not-a-name").unlink(missing_ok=True)
    lab.gateway.homes[home.name].answers = (*chance.choices(_ANSWERS, k=5000), "204")
    lab.gateway.delay_s = lambda: chance.random() * 0.03
    hosts = [_Host(lab, home, f"h{place}", days) for place, days in enumerate((-1, 1, -1))]
    try:
        wait_for(lambda: all(one.counts() for one in hosts))
        longest_s = _whole_s(lab, scenario)
        for place in range(min(number, ROUND)):
            how = _kill_one(lab, home, place, chance, longest_s, wrong)
            outcome = Outcome(
                "random run", seed, f"{place} after {how[0] * 1000:.1f} ms", wrong, how[1]
            )
            if chance.randrange(_HOST_ONE_IN) == 0:
                chance.choice(hosts[-3:]).kill()
                hosts.append(_Host(lab, home, f"h{len(hosts)}", chance.choice((-1, 1))))
            if place < min(number, ROUND) - 1:
                yield outcome
    finally:
        for one in hosts:
            one.stop()
        lab.gateway.delay_s = float
    outcome.faults = _wrong_at_the_end(lab, scenario, hosts, wrong)
    yield outcome
    lab.remove(scenario)


def _environ(lab: Lab, home: Path, place: int) -> dict[str, str]:
    return lab.environ(home, TALLYD_CLOCK_AHEAD=str((place + 1) * _STEP_S))


def _whole_s(lab: Lab, scenario: Scenario) -> float:
    """How long a daemon takes from its start to its answer, in seconds."""
    ask(scenario.home)
    began = time.monotonic()
    pid = lab.zygote.fork("run", _environ(lab, scenario.home, -1))
    wait_for((scenario.home / "state" / "flush" / f"{REQUEST}.answer").exists)
    took_s = time.monotonic() - began
    os.kill(pid, signal.SIGTERM)
    lab.zygote.wait(pid)
    return took_s


def _kill_one(
    lab: Lab, home: Path, place: int, chance: random.Random, longest_s: float, wrong: str | None
) -> tuple[float, int | None]:
    ask(home)
    (home / "state" / "flush" / f"{REQUEST}.answer").unlink(missing_ok=True)
    environ = _environ(lab, home, place)
    if wrong is None and chance.randrange(_FRESH_ONE_IN) == 0:
        log = (home / "log").open("ab")
        with (
            log,
            subprocess.Popen(
                [sys.executable, "-m", "tallyd", "run"], env=environ, stdout=log, stderr=log
            ) as fresh,
        ):
            after_s = chance.random() * (longest_s * 1.2 + 0.5)
            time.sleep(after_s)
            fresh.kill()
        return after_s, fresh.returncode
    pid = lab.zygote.fork("run", environ, wrong=wrong)
    after_s = chance.random() * longest_s * 1.2
    time.sleep(after_s)
    os.kill(pid, signal.SIGKILL)
    return after_s, lab.zygote.wait(pid).code


def _wrong_at_the_end(
    lab: Lab, scenario: Scenario, hosts: list[_Host], wrong: str | None
) -> list[str]:
    home = scenario.home
    codes = [lab.flush(home, wrong, TALLYD_CLOCK_AHEAD="10800") for _ in range(2)]
    faults = [f"ended: the recovery by {code}" for code in codes if code != 0]
    (home / "state" / "flush" / REQUEST).unlink(missing_ok=True)
    (home / "state" / "flush" / f"{REQUEST}.answer").unlink(missing_ok=True)
    seen = pictures.take(home, lab.gateway.homes[home.name])
    by_tool: Counter[str] = Counter()
    for (_, _, tool), calls in seen.calls.items():
        by_tool[tool] += calls
    # A daemon that is killed again and again leaves a spool to fill up: what hosts removed at their cap
    # is missing, and each of it is told.
    bounds = {one.tool: one.bounds() for one in hosts}
    missing = sum(max(0, least - by_tool[tool]) for tool, (least, _) in bounds.items())
    told = sum(count for (_, cause), count in seen.lost.items() if cause == "cap")
    is_told = missing == told
    for one in hosts:
        least, most = bounds[one.tool]
        have = by_tool.pop(one.tool, 0)
        if have < least and not is_told:
            faults.append(f"sum: {one.tool}: {have} instead of {least} to {most}")
        if have > most:
            faults.append(f"twice: {one.tool}: {have} instead of {least} to {most}")
    wanted = pictures.Picture(calls=seen.calls, events=seen.events, starts=1)
    if is_told:
        wanted.lost = Counter({key: n for key, n in seen.lost.items() if key[1] == "cap"})
    wanted.waiting_days, wanted.batches_waiting = seen.waiting_days, seen.batches_waiting
    return faults + pictures.compare(seen, wanted)

"""Kills a host at each step of its drops, from inside and from outside, with and without a full spool.

Whatever moment it is: what stands in `new/` are whole deltas, as many as it had dropped, one more or one
less is impossible; what it left is in `tmp/` and swept after an hour; the daemon merges the rest once.
"""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import accumulate
from pathlib import Path

from crash import outside, pictures, scenarios
from crash.hosts import DROPS, PRODUCT
from crash.lab import Ended, Lab, Outcome
from crash.scenarios import Scenario
from support.deltas import delta, drop, tool_calls
from tallyd.paths import Paths

# Over the cap of docs/spool.md, so that a host that looks has some to remove.
_CAP_FILES = 2048
_OVER = 6
_BY_HOST = {0, *accumulate(DROPS)}


# What a host finds: a home where nobody was before, a spool in use, or one that is over its cap.
KINDS = ("new", "in use", "full")


def prepare(lab: Lab, seed: int, kind: str) -> Scenario:
    """A home of this kind; what other hosts have dropped is of yesterday."""
    scenario = lab.scenario(seed, features=())
    scenario.features.append(kind)
    if kind == "new":
        shutil.rmtree(scenario.home)
        scenario.home.mkdir()
        return scenario
    new = scenario.home / "state" / "spool" / PRODUCT / "new"
    for file in new.iterdir():
        file.unlink()
    now = time.time()
    for number in range(_CAP_FILES + _OVER if kind == "full" else 2):
        counts = [tool_calls("old", count=1, errors=0)]
        day = time.strftime("%Y-%m-%d", time.gmtime(now - 86400))
        drop(scenario.home / "state", delta(counts=counts, day=day), at=now - 9000 + number)
    return scenario


def kills_inside(
    lab: Lab, scenario: Scenario, *, every: int = 1, wrong: str | None = None
) -> Iterator[Outcome]:
    """Before every `every`-th step, until it gets through."""
    at = 1
    while True:
        outcome = _kill(
            lab,
            scenario,
            Outcome("inside drop", scenario.seed, str(at), wrong),
            lambda home, at=at: lab.zygote.wait(  # type: ignore[misc]
                lab.zygote.fork(
                    "drop",
                    lab.environ(home),
                    at=at,
                    wrong=wrong,
                    count=True,
                    cap=_is_full(scenario),
                )
            ),
        )
        yield outcome
        if not outcome.is_kill:
            return
        at += every


# How often a point is tried that a run did not come to.
_TRIES = 3


def kills_outside(
    lab: Lab, scenario: Scenario, *, every: int = 1, wrong: str | None = None
) -> Iterator[Outcome]:
    """Before every `every`-th system call."""
    calls = outside.traced(lab, scenario, "drop", "main", wrong, cap=_is_full(scenario))
    points = [("main", call, n) for call, times in calls.items() for n in range(1, times + 1)]
    for point in points[::every]:
        # A run may make a futex or a brk less than the one in which they were counted, and ends by itself.
        for _ in range(_TRIES):
            outcome = _kill(
                lab,
                scenario,
                Outcome("outside drop", scenario.seed, "{} {} {}".format(*point), wrong),
                lambda home, at=point: outside.run_to(
                    lab, home, "drop", at, wrong, cap=_is_full(scenario)
                ),  # type: ignore[misc]
            )
            if outcome.is_kill or outcome.faults:
                break
        yield outcome


def _kill(
    lab: Lab, scenario: Scenario, outcome: Outcome, killed: Callable[[Path], Ended]
) -> Outcome:
    with lab.copy(scenario) as home:
        before = _whole(home)[0]["old"]
        ended = killed(home)
        outcome.ended, outcome.files, outcome.sql = ended.code, ended.files, ended.sql
        in_new, outcome.faults = _whole(home)
        lost = in_new.pop("lost")
        if in_new["host"] not in _BY_HOST:
            outcome.faults.append(f"sum: of the host {in_new['host']}, which is no number of drops")
        if ended.code == 0 and in_new["host"] != sum(DROPS):
            outcome.faults.append(f"sum: of the host {in_new['host']}, and it was not killed")
        missing = before - in_new["old"] - lost
        # A killed host does not tell of what it had just removed for the drop that it did not make.
        if missing < 0 or missing > (_OVER + len(DROPS) if outcome.is_kill else 0):
            outcome.faults.append(f"sum: {missing} removed and not told of")
        # A host that is the first registers its contract after its drop; here it is there in any case.
        scenarios.register(Paths.locate(lab.environ(home)), PRODUCT, time.time())
        if lab.flush(home, TALLYD_CLOCK_AHEAD="7200") != 0:
            outcome.faults.append("ended: the recovery did not")
        outcome.faults += _after(home, lab, in_new, lost)
    return outcome


def _is_full(scenario: Scenario) -> bool:
    return "full" in scenario.features


def _whole(home: Path) -> tuple[Counter[str], list[str]]:
    """What stands in `new/`, by tool, and what is no whole delta."""
    found = Counter({"old": 0, "host": 0, "lost": 0})
    faults = []
    for file in (home / "state" / "spool" / PRODUCT / "new").glob("*"):
        try:
            said = json.loads(file.read_bytes())
        except ValueError:
            faults.append(f"sum: {file.name} is no whole delta")
            continue
        for _, dimensions, measures in said["counts"]:
            found[dimensions["tool"]] += measures["count"]
        found["lost"] += sum(said.get("lost", {}).values())
    return found, faults


def _after(home: Path, lab: Lab, in_new: Counter[str], lost: int) -> list[str]:
    """What is wrong after the daemon has merged what stood in `new/`."""
    seen = pictures.take(home, lab.gateway.homes[home.name])
    merged: Counter[str] = Counter()
    for (_, _, tool), calls in seen.calls.items():
        if not tool.startswith("!"):
            merged[tool] += calls
    faults = [f"leftover: {one}" for one in seen.leftovers]
    if merged != +in_new:
        faults.append(f"sum: merged {dict(merged)} of {dict(+in_new)}")
    if seen.lost.total() != lost:
        faults.append(f"sum: lost {dict(seen.lost)} instead of {lost}")
    if seen.quarantined:
        faults.append(f"sum: {seen.quarantined} set aside")
    return faults

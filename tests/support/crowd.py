"""Thousands of short hosts that may each start the daemon, and what is seen of daemons meanwhile.

    python -m support.crowd --hosts 10000     (`make autostart HOSTS=10000`)

Each host is a process of its own that counts once and ends. A thread looks at the processes and at
the lock all the while; some daemons are killed. Prints one line of JSON, and ends with 1 when anything
is not as promised.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tallyd.runs import StopReason

from support.hosts import environ_of_host, program
from support.on_demand import (
    counted,
    daemons_of,
    holder,
    on_demand,
    processes_of,
    run_starting,
    runs,
    starting,
    waiting,
)
from support.processes import wait_for

_LOOK_S = 0.01


@dataclass
class Seen:
    """All that was seen; `together` is the largest number of daemons that were there at once.

    One of them holds the lock, the others are on their way out. `killed` were killed by us, `losers`
    found the lock taken.
    """

    hosts: int
    failed: int = 0
    counted: int = 0
    waiting: int = 0
    looks: int = 0
    holders_at_once: int = 0
    together: int = 0
    daemons: int = 0
    runs: int = 0
    killed: int = 0
    losers: int = 0
    left: dict[int, str] = field(default_factory=dict)
    reasons: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def problems(self) -> list[str]:
        """What is not as promised, in words."""
        checks = {
            f"{self.failed} hosts failed": self.failed == 0,
            f"{self.counted} counted of {self.hosts}": self.counted == self.hosts,
            f"{self.waiting} files wait": self.waiting == 0,
            f"{self.holders_at_once} held the lock at once": self.holders_at_once == 1,
            f"{self.left} is left": not self.left,
            f"runs ended by {self.reasons}": set(self.reasons) <= {"idle", "unclean"},
            f"{self.losers} daemons found the lock taken": self.losers <= self.killed,
            f"{self.looks} looks at the processes": self.looks > self.hosts / 20,
        }
        return [words for words, is_well in checks.items() if not is_well]


def crowd(home: Path, *, hosts: int, at_once: int, kills: int) -> Seen:
    """Run so many hosts, a few at once, and kill the daemon now and then; waits for the last to leave."""
    began = time.monotonic()
    seen = Seen(hosts)
    pids: set[int] = set()
    is_over = threading.Event()
    # Without the modules that a user's Python loads at its start: more hosts in the time.
    command = [sys.executable, "-S", "-c", program(starting())]
    environ = environ_of_host(home)

    def watch() -> None:
        while not is_over.is_set():
            there = daemons_of(home)
            pids.update(there)
            seen.looks += 1
            seen.together = max(seen.together, len(there))
            seen.holders_at_once = max(seen.holders_at_once, len(_holders(home)))
            is_over.wait(_LOOK_S)

    def run_one(_: int) -> int:
        return subprocess.run(
            command, env=environ, stdin=subprocess.DEVNULL, capture_output=True, check=False
        ).returncode

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        with ThreadPoolExecutor(at_once) as pool:
            for part in range(kills + 1):
                if part:
                    seen.killed += _kill(home)
                share = hosts // (kills + 1) + (hosts % (kills + 1) if part == kills else 0)
                seen.failed += sum(code != 0 for code in pool.map(run_one, range(share)))
        _see_to_the_rest(home, seen)
        wait_for(lambda: not processes_of(home))
    finally:
        is_over.set()
        watcher.join()
    ends = runs(home)
    names = {one.value: one.word for one in StopReason}
    seen.reasons = sorted({names.get(int(reason), "none") for _, reason in ends})
    seen.counted, seen.waiting = counted(home), waiting(home)
    # Those that were killed before they recorded their start are in `killed`.
    seen.daemons, seen.runs = len(pids), len(ends)
    seen.losers = max(0, len(pids) - len(ends))
    seen.left = processes_of(home)
    seen.seconds = round(time.monotonic() - began, 1)
    return seen


def _see_to_the_rest(home: Path, seen: Seen) -> None:
    """What the last daemon's death left is for the next host: one more."""
    wait_for(lambda: not waiting(home) or holder(home) is None)
    if waiting(home):
        claim = home / "state" / "starting"
        with suppress(FileNotFoundError):
            old = time.time() - 61
            os.utime(claim, (old, old))
        run_starting(home)
        seen.hosts += 1


def _kill(home: Path) -> int:
    """Kill the daemon that has settled, if one has."""
    found = holder(home)
    if found is None or (home / "state" / "starting").exists():
        return 0
    with suppress(ProcessLookupError):
        os.kill(found.pid, signal.SIGKILL)
    return 1


def _holders(home: Path) -> set[str]:
    """The processes that hold the lock, as the system tells."""
    try:
        about = (home / "state" / "daemon.lock").stat()
    except FileNotFoundError:
        return set()
    place = f"{os.major(about.st_dev):02x}:{os.minor(about.st_dev):02x}:{about.st_ino}"
    found = set()
    for line in Path("/proc/locks").read_text().splitlines():
        words = line.split()
        if "FLOCK" in words and "WRITE" in words and place in words:
            found.add(words[words.index(place) - 1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--hosts", type=int, default=10_000)
    parser.add_argument("--at-once", type=int, default=8)
    parser.add_argument("--kills", type=int, default=10)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place, on_demand(Path(place)) as home:
        seen = crowd(home, hosts=asked.hosts, at_once=asked.at_once, kills=asked.kills)
    problems = seen.problems()
    print(json.dumps({**asdict(seen), "problems": problems}))
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()

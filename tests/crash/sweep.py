"""All injectors, for as many kills as wanted: `python -m crash.sweep --seed S --kills N`.

One line of JSON per kill goes to stdout, progress and a last line with the figures to stderr. Seeds S, S+1, …
are drawn one after another, each killed at every step, until each injector has its share. Ends with 1 when
anything was wrong. `--only` takes some of the injectors, `--wrong` one of the wrong orderings.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from crash import at_random, host_kills, inside, outside
from crash.lab import Lab, Outcome, laboratory
from crash.wrong import WRONG

Source = Callable[[Lab, int, int, str | None], Iterator[Outcome]]


def _inside(mode: str) -> Source:
    return lambda lab, seed, _, wrong: _swept(lab, seed, inside, mode, wrong)


def _outside(mode: str) -> Source:
    return lambda lab, seed, _, wrong: _swept(lab, seed, outside, mode, wrong)


def _swept(
    lab: Lab, seed: int, injector: object, mode: str, wrong: str | None
) -> Iterator[Outcome]:
    scenario = lab.scenario(seed)
    if mode == "flush" or scenario.is_for_run:
        yield from injector.kills(lab, scenario, mode, wrong=wrong)  # type: ignore[attr-defined]
    lab.remove(scenario)


def _hosts(lab: Lab, seed: int, _: int, wrong: str | None) -> Iterator[Outcome]:
    for kind in host_kills.KINDS:
        scenario = host_kills.prepare(lab, seed, kind)
        yield from host_kills.kills_inside(lab, scenario, wrong=wrong)
        yield from host_kills.kills_outside(lab, scenario, wrong=wrong)
        lab.remove(scenario)


def _random(lab: Lab, seed: int, left: int, wrong: str | None) -> Iterator[Outcome]:
    yield from at_random.kills(lab, seed, left, wrong=wrong)


# Each injector with its share of all kills, in percent.
SOURCES: dict[str, tuple[int, Source]] = {
    "outside-flush": (22, _outside("flush")),
    "inside-flush": (25, _inside("flush")),
    "outside-run": (18, _outside("run")),
    "inside-run": (15, _inside("run")),
    "random": (14, _random),
    "hosts": (6, _hosts),
}


class _Told:
    """What was found so far; prints it."""

    def __init__(self, wanted: int) -> None:
        self.kills: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self._wanted, self._lock = wanted, threading.Lock()
        self._began = self._told_at = time.monotonic()

    def tell(self, outcome: Outcome) -> None:
        with self._lock:
            self.kills[outcome.injector] += outcome.is_kill
            self.faults.update(kind_of(one) for one in outcome.faults)
            print(outcome.line(), flush=True)
            now = time.monotonic()
            if outcome.faults or now - self._told_at > 10:
                self._told_at = now
                print(self.line(), *outcome.faults, sep="\n  ", file=sys.stderr, flush=True)

    def line(self) -> str:
        kinds = {
            one: self.faults[one] for one in ("wrong sums", "duplicates", "leftovers", "others")
        }
        faults = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
        took_s = time.monotonic() - self._began
        return f"{self.kills.total()} of {self._wanted} kills in {took_s:.0f} s: {faults}"

    def last_line(self) -> str:
        by = ", ".join(f"{name} {count}" for name, count in sorted(self.kills.items()))
        return f"{self.line()} ({by})"


def kind_of(fault: str) -> str:
    """Which figure of the last line a fault counts for."""
    kinds = {
        "sum": "wrong sums",
        "twice": "duplicates",
        "batch": "duplicates",
        "leftover": "leftovers",
    }
    return kinds.get(fault.partition(":")[0], "others")


def main() -> None:
    parser = argparse.ArgumentParser(prog="crash.sweep", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kills", type=int, default=10_000)
    parser.add_argument("--only", nargs="*", choices=SOURCES, default=list(SOURCES))
    parser.add_argument("--wrong", choices=WRONG)
    parser.add_argument("--jobs", type=int, default=2, help="injectors at work at a time")
    said = parser.parse_args()
    told = _Told(said.kills)
    whole = sum(SOURCES[one][0] for one in said.only)

    def sweep(name: str) -> None:
        share, source = SOURCES[name]
        left, seed = -(-said.kills * share // whole), said.seed
        with laboratory() as lab:
            while left > 0:
                for outcome in source(lab, seed, left, said.wrong):
                    told.tell(outcome)
                    left -= outcome.is_kill
                    if left <= 0 and name != "random":
                        break
                seed += 1

    with ThreadPoolExecutor(said.jobs) as jobs:
        for one in [jobs.submit(sweep, name) for name in said.only]:
            one.result()
    print(told.last_line(), file=sys.stderr)
    print(json.dumps({"seed": said.seed, "kills": told.kills, "faults": told.faults}))
    sys.exit(bool(told.faults))


if __name__ == "__main__":
    main()

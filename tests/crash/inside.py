"""Kills before the n-th step that a process itself takes: `steps` counts, `zygote` forks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from crash.lab import Ended, Lab, Outcome, ask, ask_and_wait
from crash.scenarios import Scenario


def kills(
    lab: Lab,
    scenario: Scenario,
    mode: str,
    *,
    every: int = 1,
    first: int = 1,
    wrong: str | None = None,
) -> Iterator[Outcome]:
    """Every `every`-th step, until it gets through; the last outcome is no kill."""
    at = first
    while True:
        outcome = lab.kill(
            Outcome(f"inside {mode}", scenario.seed, str(at), wrong),
            scenario,
            lambda home, at=at: _run(lab, home, mode, at, wrong),  # type: ignore[misc]
        )
        yield outcome
        if not outcome.is_kill:
            return
        at += every


def hand_overs(lab: Lab, scenario: Scenario, wrong: str) -> tuple[int, int]:
    """The steps at which a flush first removes a delta, and first makes a connection."""
    with lab.copy(scenario) as home:
        ended = _run(lab, home, "flush", 0, wrong)
    return ended.removed_at, ended.connected_at


def _run(lab: Lab, home: Path, mode: str, at: int, wrong: str | None) -> Ended:
    if mode == "run":
        ask(home)
    pid = lab.zygote.fork(mode, lab.environ(home), at=at, wrong=wrong, count=True)
    if mode == "run":
        ask_and_wait(home, pid)
    return lab.zygote.wait(pid)

"""What a count costs in the host, and that none is lost."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from support.hosts import built, environ_of_host

from benchmarks.measure import Figure, made, median, progress, said_by


def counting(root: Path, *, quick: bool) -> list[Figure]:
    """Counts in dict increments (F), each floor and call in turn in one process."""
    rounds = 3 if quick else 9
    home = made(root / "counting")
    contract = _contract(home)
    said = said_by(
        sys.executable, "count_loop.py", str(rounds), contract, environ=environ_of_host(home)
    )
    floor_s = median(said["floor_1"])
    floor = f"F = {floor_s * 1e9:.0f} ns"
    found = []
    for name, budget in (
        ("empty_1", "empty_function"),
        ("bound_1", "bound_1"),
        ("bound_4", "bound_4"),
        ("rollup_1", "rollup_1"),
        ("rollup_4", "rollup_4"),
        ("off_1", "off"),
    ):
        taken = median(said[name])
        found.append(Figure(budget, taken / floor_s, f"{taken * 1e9:.0f} ns", floor, rounds))
    return found


def losing(root: Path, *, quick: bool) -> list[Figure]:
    """Increments lost by eight threads while drains run, with the GIL and without."""
    found = []
    free_threaded = _find_free_threaded()
    for budget, python in (("lost", sys.executable), ("lost_free_threaded", free_threaded)):
        if python is None:
            found.append(
                Figure(budget, None, "not run: no free-threaded Python (python3.13t) here")
            )
            continue
        home = made(root / budget)
        said = said_by(python, "lost_counts.py", _contract(home), environ=environ_of_host(home))
        found.append(
            Figure(
                budget, said["lost"], f"{said['lost']} ({said['drains']} drains)", where=_of(python)
            )
        )
    return found


def measure(root: Path, *, quick: bool) -> list[Figure]:
    progress("counting")
    return [*counting(root, quick=quick), *losing(root, quick=quick)]


def _contract(home: Path) -> str:
    file = home / "contract.json"
    file.write_text(json.dumps(built()))
    return str(file)


def _of(python: str) -> str:
    return "" if python == sys.executable else "Python 3.13t"


def _find_free_threaded() -> str | None:
    known = sorted(Path.home().glob(".pyenv/versions/3.*t/bin/python"))
    return (
        shutil.which("python3.14t")
        or shutil.which("python3.13t")
        or (str(known[-1]) if known else None)
    )

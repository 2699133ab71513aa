"""Two versions of tallyd on one machine: hosts that bring either never make them fight."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path

import pytest
from support.hosts import environ_of_host, program
from support.on_demand import (
    asked,
    counted,
    daemons_of,
    holder,
    installed,
    log_of,
    on_demand,
    run_starting,
    runs,
    set_idle,
    starting,
    wait_for_daemon,
    wait_until_gone,
    waiting,
)
from support.processes import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.system]

_OLD, _NEW = "0.9.1", "0.10.0"


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python whose environment has the older version."""
    return installed(tmp_path_factory.mktemp("old") / "venv", _OLD)


@pytest.fixture(scope="module")
def new(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python whose environment has the newer version."""
    return installed(tmp_path_factory.mktemp("new") / "venv", _NEW)


@pytest.fixture
def demand(home: Path) -> Iterator[Path]:
    with on_demand(home) as made:
        yield made


def _version(home: Path) -> str:
    found = holder(home)
    return found.version if found is not None else ""


def test_hosts_of_both_versions_run_for_a_while_and_versions_only_go_up(
    demand: Path, old: Path, new: Path
):
    """However many of the older there are: one hand-over, and from then on the newer one is started.

    A daemon of the newer is killed in the end; an older host is next, and starts the newer.
    """
    set_idle(demand, 4)
    seen: list[str] = []
    together = 0
    is_over = threading.Event()

    def watch() -> None:
        nonlocal together
        while not is_over.is_set():
            if version := _version(demand):
                seen.append(version)
            together = max(together, len(daemons_of(demand)))
            is_over.wait(0.02)

    def run(python: Path) -> int:
        command = [str(python), "-c", program(starting())]
        return subprocess.run(command, env=environ_of_host(demand), check=False).returncode

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        assert run(old) == 0
        first = wait_for_daemon(demand)
        hosts = 1
        with ThreadPoolExecutor(4) as pool:
            while _version(demand) != _NEW or hosts < 120:
                # Four older hosts to each newer one.
                assert set(pool.map(run, [new, *[old] * 4])) == {0}
                hosts += 5
        second = wait_for_daemon(demand)
        os.kill(second, 9)
        wait_until_gone(demand)
        assert {run(old) for _ in range(5)} == {0}
        hosts += 5
        wait_for_daemon(demand)
        wait_until_gone(demand)
    finally:
        is_over.set()
        watcher.join()
    versions = [version for version, _ in runs(demand)]

    assert [one for one, _ in groupby(seen)] == [_OLD, _NEW]
    assert [one for one, _ in groupby(versions)] == [_OLD, _NEW]
    # The process stayed, the program in it became another.
    assert (first, versions.count(_OLD)) == (second, 1)
    assert (counted(demand), waiting(demand)) == (hosts, 0)
    assert together == 1
    assert f"makes room for {_NEW}" in log_of(demand)
    assert json.loads((demand / "state" / "program.json").read_text())["version"] == _NEW
    assert not (demand / "state" / "handover").exists()


def test_a_newer_daemon_is_asked_by_nobody(demand: Path, old: Path, new: Path):
    run_starting(demand, python=str(new))
    wait_for_daemon(demand)
    run_starting(demand, python=str(old))
    run_starting(demand, python=str(new))
    wait_until_gone(demand)

    assert (runs(demand), (demand / "state" / "handover").exists()) == ([(_NEW, 3)], False)


def test_the_older_is_started_again_when_the_newer_was_taken_away(
    demand: Path, old: Path, tmp_path_factory: pytest.TempPathFactory
):
    """Its environment is still there, with its Python, and tallyd is not."""
    newer = installed(tmp_path_factory.mktemp("taken") / "venv", _NEW)
    run_starting(demand, python=str(newer))
    wait_for_daemon(demand)
    wait_until_gone(demand)
    package = next(newer.parents[1].glob("lib/*/site-packages/tallyd"))
    package.rename(package.with_name("gone"))
    run_starting(demand, python=str(old))
    wait_for(lambda: _version(demand) == _OLD)
    wait_until_gone(demand)

    assert (counted(demand), [version for version, _ in runs(demand)]) == (2, [_NEW, _OLD])


def test_a_newer_program_that_cannot_run_costs_one_hand_over(
    demand: Path, old: Path, tmp_path_factory: pytest.TempPathFactory
):
    """It was asked for, it failed at once; the older one is started again and stays."""
    broken = installed(tmp_path_factory.mktemp("broken") / "venv", _NEW)
    (broken.parent / "tallyd").write_text("#!/bin/sh\nexit 1\n")
    state = demand / "state"
    run_starting(demand, python=str(old))
    first = wait_for_daemon(demand)
    run_starting(demand, python=str(broken))
    said = asked(demand)
    wait_until_gone(demand)
    # Ten minutes later.
    was = time.time() - 601
    for file in ("handover", "starting"):
        os.utime(state / file, (was, was))
    set_idle(demand, 5)
    run_starting(demand, python=str(old))
    wait_for(lambda: _version(demand) == _OLD)
    second = holder(demand)
    mark = (state / "handover").stat().st_mtime_ns
    run_starting(demand, python=str(broken))
    wait_until_gone(demand)

    assert said == {"version": _NEW, "program": str(broken.parent / "tallyd")}
    assert second is not None
    assert (first != second.pid, (state / "handover").stat().st_mtime_ns) == (True, mark)
    assert (counted(demand), [reason for _, reason in runs(demand)]) == (4, [2, 3])


def test_an_upgrade_in_place_goes_on_as_the_new_version_and_a_removal_ends_it(
    demand: Path, tmp_path_factory: pytest.TempPathFactory
):
    """What comes while the one lets go and the other begins is found by its first scan."""
    python = installed(tmp_path_factory.mktemp("upgraded") / "venv", _OLD)
    package = next(python.parents[1].glob("lib/*/site-packages/tallyd/__init__.py"))
    set_idle(demand, 2)
    run_starting(demand, python=str(python))
    first = wait_for_daemon(demand)
    fresh = package.with_name("fresh.py")
    fresh.write_text(package.read_text().replace(_OLD, _NEW))
    fresh.rename(package)
    while _version(demand) != _NEW:
        # Somebody works, or an idle daemon leaves first.
        run_starting(demand, python=str(python))
    second = wait_for_daemon(demand)
    package.parent.rename(package.parent.with_name("gone"))
    wait_until_gone(demand)

    assert (first, [version for version, _ in runs(demand)]) == (second, [_OLD, _NEW])
    assert (waiting(demand), "tallyd was upgraded" in log_of(demand)) == (0, True)

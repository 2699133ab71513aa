"""A hundred thousand files at once: each counted once, in bounded memory, and nobody else waits for it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from support.faults import OTHER, counted, delta_of, drop_now, set_up
from support.hosts import environ_of_host, program, spool_of
from support.pipeline import Pipeline
from support.processes import daemon, status, tallyd, wait_for
from tallyd import intake, passes, spool
from tallyd.errors import StateUnusable

pytestmark = pytest.mark.slow
_numbers = count(1)
# Measured 3 MiB. Without the watch, for watchfiles holds what happened within a debounce: another 48 MiB for
# 100,000 deletions (docs/decisions.md).
_GROWTH_MIB = 15


@pytest.fixture
def memory_home() -> Iterator[Path]:
    """A home in memory where there is such a place: the test is not about a disk."""
    place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    made = tempfile.mkdtemp(prefix="tallyd-", dir=place)
    try:
        yield Path(made)
    finally:
        shutil.rmtree(made)


def _flood(new: Path, files: int) -> None:
    new.mkdir(parents=True, exist_ok=True, mode=0o700)
    content = json.dumps(delta_of()).encode()
    for _ in range(files):
        number = next(_numbers)
        at = os.open(
            new / f"1795176000000-1-{number}-{number:016x}.json", os.O_WRONLY | os.O_CREAT, 0o600
        )
        os.write(at, content)
        os.close(at)


def _waiting(new: Path) -> int:
    with os.scandir(new) as entries:
        return sum(1 for _ in entries)


def _peak_mib(pid: int) -> float:
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.split("VmHWM:")[1].split()[0]) / 1024


@pytest.mark.timeout(600)
@pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="memory is told by Linux")
def test_a_hundred_thousand_files_are_counted_once_and_starve_nobody(memory_home):
    """Stopped in the middle, started again; a second product has its turn all the while."""
    home = memory_home
    files = 100_000
    set_up(home, other=True, watch=False)
    new = spool_of(home).new
    with daemon(home) as process:
        for _ in range(300):
            drop_now(home)
            drop_now(home, OTHER)
        wait_for(lambda: counted(home, "tallyd-demo", OTHER) == {"tallyd-demo": 300, OTHER: 300})
        Path(f"/proc/{process.pid}/clear_refs").write_text("5")
        before = _peak_mib(process.pid)
        _flood(home / "aside", files)
        for part in (new, home / "aside"):
            part.rename(home / f"{part.name}-moved")
        (home / "aside-moved").rename(new)
        wait_for(lambda: _waiting(new) < files)
        drop_now(home, OTHER)
        wait_for(lambda: counted(home, OTHER) == {OTHER: 301})
        left_when_the_other_had_its_turn = _waiting(new)
        grown = _peak_mib(process.pid) - before
        process.terminate()
        ended = process.wait(90)
        left = _waiting(new)

    assert left_when_the_other_had_its_turn > 0
    assert (ended, 0 < left < files) == (0, True)
    with daemon(home) as process:
        wait_for(lambda: _waiting(new) < left)
        wait_for(lambda: not _waiting(new))
        again = _peak_mib(process.pid)

    assert counted(home) == {"tallyd-demo": files + 300}
    assert (grown < _GROWTH_MIB, again - before < _GROWTH_MIB) == (True, True), (grown, again)
    assert status(home)["last_stop"]["reason"] == "signal"


def test_each_product_has_its_turn_before_any_has_a_second(pipeline: Pipeline, monkeypatch):
    """Whatever their names are: also the one that comes last in the alphabet."""
    monkeypatch.setattr(passes, "MERGE_TURN_FILES", 300)
    files = 700
    text = Path(pipeline.around.paths.contracts / "tallyd-demo.toml").read_text()
    for name in ("aaa", "zzz"):
        changed = text.replace('name = "tallyd-demo"', f'name = "{name}"')
        pipeline.register(name, text=changed.encode())
    _flood(pipeline.around.paths.spool("tallyd-demo").new, files)
    for name in ("aaa", "zzz"):
        pipeline.drop(delta_of(name), product=name)
    turns: list[str] = []
    merge = intake.merge_batch

    def watched(store, view, *rest, **how):
        if turns[-1:] != [view.name]:
            turns.append(view.name)
        return merge(store, view, *rest, **how)

    monkeypatch.setattr(intake, "merge_batch", watched)
    monkeypatch.setattr("support.deltas.TODAY", "2026-11-20")

    assert pipeline.intake().merged == files
    assert turns == ["aaa", "tallyd-demo", "zzz", "tallyd-demo"]


@pytest.mark.timeout(600)
def test_ten_thousand_drops_while_no_daemon_runs_are_counted_or_lost_by_the_cap(home):
    """Eight hosts at once. The disk stays bounded, and what went is told by those who removed it."""
    hosts, each = 8, 1250
    set_up(home)
    code = f"for _ in range({each}):\n    search()\n    client.drain()\n"
    running = [
        subprocess.Popen(
            [sys.executable, "-c", program(code)],
            env=environ_of_host(home),
            stderr=subprocess.DEVNULL,
        )
        for _ in range(hosts)
    ]
    assert [one.wait(300) for one in running] == [0] * hosts
    waiting = _waiting(spool_of(home).new)

    tallyd(home, "flush")

    lost = status(home)["products"]["tallyd-demo"]["lost"]
    assert (list(lost), waiting <= 4096, waiting > 1000) == (["cap"], True, True)
    assert counted(home)["tallyd-demo"] + lost["cap"] == hosts * each


def test_more_files_that_stay_than_one_turn_takes_do_not_hide_the_next(pipeline, monkeypatch):
    """Files that cannot be removed lie before all others, a turn's worth and more."""
    monkeypatch.setattr(passes, "MERGE_TURN_FILES", 5)
    stuck = {pipeline.drop().name for _ in range(12)}
    good = pipeline.drop()
    discard = spool.NewFiles.discard

    def refused(files: spool.NewFiles, entry: spool.NewEntry) -> None:
        if entry.name in stuck:
            path = files.path_of(entry)
            raise StateUnusable(f"{path} cannot be removed: Operation not permitted")
        discard(files, entry)

    monkeypatch.setattr(spool.NewFiles, "discard", refused)
    for _ in range(2):
        with pytest.raises(AssertionError, match=r"12 files stay in the spool: .*not permitted"):
            pipeline.intake()

    assert (good.exists(), pipeline.tally().counted) == (False, {"search": 13})
    monkeypatch.undo()
    pipeline.intake()
    assert (pipeline.tally().new, pipeline.tally().counted) == (0, {"search": 13})

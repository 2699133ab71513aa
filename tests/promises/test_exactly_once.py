"""Exactly once, with real processes: many at once, killed in the middle, in any language."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.deltas import delta, drop, tool_calls
from support.processes import (
    DEMO_CONTRACT,
    STUB,
    daemon,
    environ_of,
    show,
    status,
    tallyd,
    wait_for,
)
from support.tools import need

_WRITERS = Path(__file__).with_name("writers")
_HOST = f"""
import sys
sys.path.insert(0, {str(STUB)!r})
from tallyd_client import Client
Client("tallyd-demo", "1.0.0", contract={str(DEMO_CONTRACT)!r}).counter("tool_calls", tool="search")()
"""


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_thousand_processes_with_one_count_each_give_one_row_with_a_thousand(home):
    """The incident that tallyd was made for: each of them used to be a row of its own."""
    environ = environ_of(home)
    with daemon(home):
        running: list[subprocess.Popen[bytes]] = []
        for _ in range(1000):
            running.append(
                subprocess.Popen(
                    [sys.executable, "-I", "-S", "-c", _HOST],
                    env=environ,
                    stderr=subprocess.DEVNULL,
                )
            )
            if len(running) >= 4:
                assert running.pop(0).wait() == 0
        assert {0} == {one.wait() for one in running}
        wait_for(lambda: status(home)["products"]["tallyd-demo"]["spool"]["files"] == 0)
        tallyd(home, "flush")

    (row,) = show(home)
    assert row["measures"] == {"count": 1000, "error_count": 0}


@pytest.mark.slow
def test_a_daemon_killed_in_the_middle_of_a_merge_counts_everything_once(home):
    """3,000 files are three merges; the kill falls between the removals that follow the second."""
    tallyd(home, "contract", "add", str(DEMO_CONTRACT))
    today = time.strftime("%Y-%m-%d", time.gmtime())
    files = [
        drop(home / "state", delta(day=today, counts=[tool_calls(count=1)]), at=time.time())
        for _ in range(3000)
    ]
    removals = "unlink,unlinkat"
    inject = f"inject={removals}:signal=KILL:when=1500"
    killed = subprocess.run(
        [
            *(
                need("strace"),
                "-f",
                "-qq",
                "-o",
                os.devnull,
                "-e",
                f"trace={removals}",
                "-e",
                inject,
            ),
            *(sys.executable, "-m", "tallyd", "run"),
        ],
        env=environ_of(home),
        stderr=subprocess.DEVNULL,
        timeout=120,
        check=False,
    )
    left = len(list(files[0].parent.iterdir()))

    tallyd(home, "flush")

    (row,) = show(home)
    assert (killed.returncode, 1000 < left < 2000) == (-signal.SIGKILL, True), left
    assert row["measures"]["count"] == 3000


@pytest.mark.slow
@pytest.mark.parametrize(("program", "writer"), [("sh", "writer.sh"), ("node", "writer.mjs")])
def test_deltas_written_by_hand_in_another_language_are_counted(home, program, writer):
    """Written from docs/spool.md alone: nothing of ours runs in the writer."""
    tallyd(home, "contract", "add", str(DEMO_CONTRACT))
    environ = environ_of(home)
    for _ in range(3):
        subprocess.run([need(program), str(_WRITERS / writer)], env=environ, check=True)

    tallyd(home, "flush")

    (row,) = show(home)
    assert (row["dimensions"], row["measures"]) == (
        {"tool": "by_hand"},
        {"count": 6, "error_count": 3},
    )


@pytest.mark.slow
def test_counts_arrive_by_a_wake_up_long_before_the_slow_timer(home):
    _settings(home, "rescan_interval_s = 3600")
    tallyd(home, "contract", "add", str(DEMO_CONTRACT))
    with daemon(home):
        _drop_now(home)
        wait_for(lambda: show(home))


@pytest.mark.slow
def test_counts_arrive_with_a_watcher_that_never_fires(home):
    """A wake-up is a hint, the scan is the truth."""
    _settings(home, "rescan_interval_s = 1\nwatch = false")
    tallyd(home, "contract", "add", str(DEMO_CONTRACT))
    with daemon(home):
        _drop_now(home)
        wait_for(lambda: show(home))


@pytest.mark.slow
def test_counts_arrive_after_the_spool_was_removed_and_made_again(home):
    """Watchfiles goes deaf then, without a word."""
    _settings(home, "rescan_interval_s = 1")
    tallyd(home, "contract", "add", str(DEMO_CONTRACT))
    with daemon(home):
        _drop_now(home)
        wait_for(lambda: show(home))
        shutil.rmtree(home / "state" / "spool")
        _drop_now(home)
        wait_for(lambda: show(home)[0]["measures"]["count"] == 2)


def _settings(home: Path, text: str) -> None:
    (home / "config").mkdir()
    (home / "config" / "config.toml").write_text(f"[daemon]\n{text}\n")


def _drop_now(home: Path) -> None:
    today = time.strftime("%Y-%m-%d", time.gmtime())
    drop(home / "state", delta(day=today), at=time.time())

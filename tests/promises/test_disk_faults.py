"""Calls that the system refuses: read-only, no descriptor left, a disk that fails. Sums stay exact.

strace refuses single calls of real processes from outside; a real file system is forced read-only.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.deltas import delta, drop, tool_calls
from support.disks import (
    DEMO,
    daemon_with_log,
    drop_now,
    mend,
    real_disk,
    registered,
    small_disk,
)
from support.processes import (
    DEMO_CONTRACT,
    STUB,
    environ_of,
    run,
    show,
    status,
    tallyd,
    wait_for,
)
from support.recorder import Recorder, recording
from support.tools import need

pytestmark = pytest.mark.slow
_HOST = f"""
import sys
sys.path.insert(0, {str(STUB)!r})
from tallyd_client import Client
client = Client("tallyd-demo", "1.0.0", contract={str(DEMO_CONTRACT)!r})
count = client.counter("tool_calls", tool="search")
for _ in range(3):
    count()
    client.drain()
client.close()
"""


def _counted(home: Path) -> int:
    return sum(row["measures"]["count"] for row in show(home))


def _drop_yesterdays(home: Path, count: int) -> None:
    """Counts of a finished day: they are sealed and sent by the next flush."""
    now = time.time()
    day = time.strftime("%Y-%m-%d", time.gmtime(now - 86400))
    drop(home / "state", delta(day=day, counts=[tool_calls(count=count)]), at=now)


def _arrived(recorder: Recorder) -> tuple[int, int]:
    """(batches under different ids, the counts in them), each id taken once as a gateway does."""
    batches = {one["batch_id"]: one for one in recorder.batches}
    counts = [event["props"].get("count", 0) for one in batches.values() for event in one["events"]]
    return len(batches), sum(counts)


def _refusing(trace: Path, calls: str, how: str, *more: str) -> list[str]:
    """The words of strace that refuse these calls; what it did stands in `trace`."""
    return [
        *(need("strace"), "-f", "-qq", "-o", str(trace)),
        *("-e", f"trace={calls}", "-e", f"inject={calls}:{how}", *more),
    ]


@pytest.mark.parametrize(
    ("calls", "error", "when"),
    [
        ("fdatasync,fsync", "EIO", "1"),
        ("fdatasync,fsync", "EIO", "3"),
        ("fdatasync,fsync", "EIO", "1+"),
        ("pwrite64", "ENOSPC", "2"),
        ("pwrite64", "ENOSPC", "9+"),
        ("pwrite64", "EIO", "6"),
        # The id's file is made by a link, which no other program's file can be replaced by.
        ("?link,linkat", "EIO", "1"),
        ("?unlink,unlinkat", "EROFS", "1+"),
        ("ftruncate", "EIO", "1+"),
    ],
)
def test_a_flush_whose_calls_are_refused_loses_and_doubles_nothing(
    tmp_path, home, calls, error, when
):
    """Whatever it managed, the next flush ends with each count in one place."""
    registered(home)
    tallyd(home, "flush")
    trace = home / "trace"
    with recording() as recorder:
        environ = environ_of(home, TALLYD_DEMO_ENDPOINT=recorder.url)
        drop_now(home, 3)
        _drop_yesterdays(home, 5)
        done = subprocess.run(
            [
                *_refusing(trace, calls, f"error={error}:when={when}"),
                *(sys.executable, "-m", "tallyd", "flush"),
            ],
            env=environ,
            capture_output=True,
            text=True,
            check=False,
        )
        for _ in range(2):
            run("tallyd", "flush", environ=environ)
        arrived = _arrived(recorder)

    assert ("Traceback" in done.stderr, "(INJECTED)" in trace.read_text()) == (False, True)
    assert (_counted(home), arrived) == (3, (1, 5))
    assert (status(home)["problems"], status(home)["last_damage"]) == ([], None)


@pytest.mark.parametrize(
    ("calls", "how"),
    [
        ("rename", "error=EIO:when=1"),
        ("rename", "error=ENOSPC:when=1..2"),
        ("write", "error=ENOSPC:when=1..2"),
        ("mkdir", "error=EIO:when=1"),
    ],
)
def test_a_host_whose_calls_are_refused_keeps_its_counts_for_the_next_drop(home, calls, how):
    """It says nothing, and neither loses nor doubles."""
    registered(home)
    trace = home / "trace"
    done = subprocess.run(
        [*_refusing(trace, calls, how), sys.executable, "-c", _HOST],
        env=environ_of(home),
        capture_output=True,
        text=True,
        check=False,
    )
    tallyd(home, "flush")

    assert (done.returncode, done.stdout, "(INJECTED)" in trace.read_text()) == (0, "", True)
    assert _counted(home) == 3, done.stderr


@contextmanager
def _strace_of(process: subprocess.Popen[bytes], words: list[str]) -> Iterator[None]:
    """Strace attached to a running process while inside."""
    with subprocess.Popen([*words, "-p", str(process.pid)]) as strace:
        try:
            wait_for(lambda: _is_traced(process.pid))
            yield
        finally:
            strace.send_signal(signal.SIGINT)
    wait_for(lambda: not _is_traced(process.pid))


def _is_traced(pid: int) -> bool:
    threads = Path(f"/proc/{pid}/task").iterdir()
    return all("TracerPid:\t0" not in (one / "status").read_text() for one in threads)


@pytest.mark.parametrize(("error", "words"), [("EROFS", "disk"), ("EIO", "disk")])
def test_a_running_daemon_whose_database_cannot_be_written_lives_says_so_and_recovers(
    home, tmp_path, error, words
):
    registered(home)
    state = home / "state"
    with daemon_with_log(home, tmp_path / "log") as process:
        wait_for((state / "reserve").exists)
        database = [
            part for one in ("", "-wal", "-shm") for part in ("-P", f"{state}/tallyd.db{one}")
        ]
        calls = "pwrite64,fdatasync,fsync,ftruncate"
        with _strace_of(process, _refusing(tmp_path / "trace", calls, f"error={error}", *database)):
            drop_now(home, 2)
            wait_for(lambda: status(home)["daemon"]["problems"])
            told = status(home)["daemon"]["problems"][0]
        wait_for(lambda: _counted(home) == 2 and not status(home)["daemon"]["problems"])
        is_alive = process.poll() is None

    assert (told["duty"], told["product"], words in told["why"], is_alive) == (
        "intake",
        DEMO,
        True,
        True,
    )
    assert _counted(home) == 2


def test_a_daemon_without_a_descriptor_left_names_it_and_recovers(home, tmp_path):
    """Its own text on the lock needs none: it is told also then."""
    registered(home)
    with daemon_with_log(home, tmp_path / "log") as process:
        wait_for((home / "state" / "reserve").exists)
        told: list[dict[str, object]] = []
        before = _limit(process.pid)
        # Those that are open stay so, and no further one can be.
        _limit(process.pid, 3)
        drop_now(home, 2)
        wait_for(lambda: told.extend(status(home)["daemon"]["problems"]) or told)
        _limit(process.pid, before)
        wait_for(lambda: _counted(home) == 2 and not status(home)["daemon"]["problems"])
        is_alive = process.poll() is None

    assert ("Too many open files" in told[0]["why"], is_alive) == (True, True)


def _limit(pid: int, files: int | None = None) -> int:
    """The limit of open files of a process, after setting it where `files` is given."""
    import resource

    both = (files, resource.prlimit(pid, resource.RLIMIT_NOFILE)[1]) if files else None
    if both:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, both)
    return resource.prlimit(pid, resource.RLIMIT_NOFILE)[0]


def test_a_disk_that_turns_read_only_under_the_daemon_costs_no_count_and_sends_none_twice(tmp_path):
    """As ext4 does by itself when it meets an error; mended and mounted again, everything is there."""
    with recording() as recorder, real_disk(tmp_path / "disk") as home:
        endpoint = {"TALLYD_DEMO_ENDPOINT": recorder.url}
        log = tmp_path / "log"
        registered(home)
        _drop_yesterdays(home, 5)
        with daemon_with_log(home, log, **endpoint) as process:
            tallyd(home, "flush", **endpoint)
            drop_now(home, 2)
            subprocess.run(["sync", "-f", str(home)], check=True)
            subprocess.run(["mount", "-o", "remount,abort", str(home)], check=False)
            wait_for(lambda: "action=failing" in log.read_text())
            done = run("tallyd", "status", environ=environ_of(home), check=False)
            is_alive = process.poll() is None
        mend(home)
        for _ in range(2):
            tallyd(home, "flush", **endpoint)

        assert (is_alive, "Traceback" in done.stderr) == (True, False)
        ids, sent = _arrived(recorder)
        # No batch came twice, not even one that a gateway would recognise.
        assert (_counted(home), sent, len(recorder.bodies)) == (2, 5, ids)


def test_a_start_on_a_read_only_disk_says_so_and_leaves_with_73(tmp_path):
    with small_disk(tmp_path / "small") as home:
        registered(home)
        tallyd(home, "flush")
        subprocess.run(["mount", "-o", "remount,ro", str(home)], check=True)
        done = [
            run("tallyd", *words, environ=environ_of(home), check=False)
            for words in (["run"], ["flush"], ["off", DEMO], ["status"])
        ]

    assert [one.returncode for one in done] == [73, 73, 73, 3]
    said = [one.stdout + one.stderr for one in done]
    assert ["mount that disk writable again" in one for one in said] == [True] * 4
    assert ["Traceback" in one for one in said] == [False] * 4

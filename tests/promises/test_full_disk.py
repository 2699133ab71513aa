"""A disk filled to the last byte: nothing is lost or doubled, a "no" works, and it heals by itself.

The disk is a small one in memory, filled by another file. What tallyd gives up then is its reserve.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
from support.clock import DAY_S
from support.deltas import tool_calls
from support.disks import (
    DEMO,
    daemon_with_log,
    drop_now,
    fill,
    registered,
    room,
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
from tallyd.limits import RESERVE_BYTES

pytestmark = pytest.mark.slow
_FILES, _TOOLS = 60, 200
_MANY = _FILES * _TOOLS
_HOST = f"""
import sys
sys.path.insert(0, {str(STUB)!r})
from tallyd_client import Client
client = Client("tallyd-demo", "1.0.0", contract={str(DEMO_CONTRACT)!r})
count = client.counter("tool_calls", tool="search")
for line in sys.stdin:
    count()
    client.drain()
    print(client.problem or "", flush=True)
client.close()
"""


def _counted(home: Path) -> int:
    """What `search` came to, in all buckets."""
    return sum(row["measures"]["count"] for row in show(home))


def _problems(home: Path) -> dict[str, str]:
    """What the daemon says is wrong, by duty."""
    return {one["duty"]: one["why"] for one in status(home)["daemon"]["problems"]}


def test_a_disk_that_fills_while_hosts_drop_loses_and_doubles_nothing(tmp_path):
    """A host keeps what it cannot drop; the daemon lives, says what is wrong, and goes on when there is room."""
    with small_disk(tmp_path / "small") as home:
        registered(home)
        with (
            daemon_with_log(home, tmp_path / "log") as process,
            subprocess.Popen(
                [sys.executable, "-c", _HOST],
                env=environ_of(home),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            ) as host,
        ):
            assert host.stdin is not None
            assert host.stdout is not None
            host.stdin.write("\n")
            host.stdin.flush()
            host.stdout.readline()
            wait_for(lambda: _counted(home) == 1)
            # Dropped while the daemon stands still, so that it surely finds it on a full disk.
            process.send_signal(signal.SIGSTOP)
            drop_now(home, 10)
            filler = fill(home)
            process.send_signal(signal.SIGCONT)
            for _ in range(5):
                host.stdin.write("\n")
                host.stdin.flush()
                host.stdout.readline()
            wait_for(lambda: _problems(home))
            told = status(home)
            filler.unlink()
            # A host keeps what it could not drop for its next drop.
            host.stdin.write("\n")
            host.stdin.flush()
            host.stdin.close()
            host.wait()
            wait_for(lambda: _counted(home) >= 17 and not _problems(home))
            is_alive = process.poll() is None

        assert (_counted(home), is_alive) == (17, True)
        assert "full" in told["daemon"]["problems"][0]["why"]
        assert [one["place"] for one in told["problems"]] == ["disk"]
        log = (tmp_path / "log").read_text()
        assert [log.count(f"action={one} duty=intake") for one in ("failing", "recovered")] == [
            1,
            1,
        ]


@pytest.mark.parametrize("with_daemon", [False, True])
@pytest.mark.parametrize("words", ["off", "reset"])
def test_a_no_deletes_every_byte_on_a_full_disk_and_frees_room(tmp_path, words, with_daemon):
    """Deleting needs room for a log, and a fresh file for the choice: the reserve gives both."""
    with small_disk(tmp_path / "small") as home:
        _with_many_counts(home)
        running = daemon_with_log(home, tmp_path / "log") if with_daemon else nullcontext()
        with running:
            before = _everything(home).count(b"marked-tool")
            fill(home)
            left = room(home)
            done = run("tallyd", words, DEMO, environ=environ_of(home), check=False)
            freed = room(home)
        after = _everything(home).count(b"marked-tool")

        assert (done.returncode, done.stderr.count("Traceback")) == (0, 0), done.stderr
        assert (before > 10_000, left, after, freed > RESERVE_BYTES) == (True, 0, 0, True)
        assert status(home)["products"][DEMO]["buckets"]["rows"] == 0


def test_what_is_too_old_goes_on_a_full_disk_and_is_counted(tmp_path):
    """A day's rows may be more than the reserve holds: they go in pieces, each counted with its rows."""
    with small_disk(tmp_path / "small") as home:
        _with_many_counts(home)
        fill(home)
        # A clock that leapt is believed at the second look.
        for _ in range(2):
            done = run(
                "tallyd",
                "flush",
                environ=environ_of(home, TALLYD_CLOCK_AHEAD=str(40 * DAY_S)),
                check=False,
            )
        product = status(home)["products"][DEMO]

        assert "Traceback" not in done.stderr
        assert (product["buckets"]["rows"], product["lost"]) == (0, {"age": _MANY})


def test_a_daemon_starts_and_its_stop_is_recorded_on_a_full_disk(tmp_path):
    """Filled again once the reserve is used up: the room of the log does. What waits is merged later."""
    with small_disk(tmp_path / "small") as home:
        registered(home)
        tallyd(home, "flush")
        drop_now(home, 3)
        filler = fill(home)
        with daemon_with_log(home, tmp_path / "log"):
            started = status(home)
            filler = fill(home)
        stopped = status(home)
        filler.unlink()
        tallyd(home, "flush")

        assert (started["daemon"]["running"], stopped["last_stop"]["reason"]) == (True, "signal")
        assert _counted(home) == 3


def test_the_reserve_is_real_room_made_where_there_is_plenty_and_made_again(tmp_path):
    """Blocks, not a hole; and the last of a disk is not ours to take."""
    with small_disk(tmp_path / "small", "12m") as home:
        registered(home)
        tallyd(home, "flush")
        reserve = home / "state" / "reserve"
        made = reserve.stat()
        reserve.unlink()
        filler = home / "filler"
        filler.write_bytes(b"x" * (6 << 20))
        tallyd(home, "flush")
        is_there = [reserve.exists()]
        filler.unlink()
        reserve.write_bytes(b"cut by a kill")
        tallyd(home, "flush")
        is_there.append(reserve.exists())

        assert (made.st_size, made.st_blocks * 512 >= RESERVE_BYTES, made.st_mode & 0o777) == (
            RESERVE_BYTES,
            True,
            0o600,
        )
        assert (is_there, reserve.stat().st_size) == ([False, True], RESERVE_BYTES)


def _with_many_counts(home: Path) -> None:
    """Megabytes of counts, merged; and a reserve."""
    registered(home)
    for file in range(_FILES):
        calls = [tool_calls(f"marked-tool-{file}-{one}-" + "x" * 30) for one in range(_TOOLS)]
        drop_now(home, counts=calls)
    tallyd(home, "flush")
    assert _counted(home) == _MANY


def _everything(home: Path) -> bytes:
    """Every byte of the state."""
    return b"".join(one.read_bytes() for one in (home / "state").rglob("*") if one.is_file())

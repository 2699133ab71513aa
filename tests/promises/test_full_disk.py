"""A disk filled to the last byte: nothing is lost or doubled, a "no" works, and it heals by itself.

The disk is a small one in memory, filled by another file. What tallyd gives up then is its reserve.
"""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from support.clock import DAY_S
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
    STUB,
    DEMO_CONTRACT,
    environ_of,
    run,
    show,
    status,
    tallyd,
    wait_for,
)
from support.recorder import recording
from tallyd.limits import RESERVE_BYTES

pytestmark = pytest.mark.slow
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
            # Written by hand, so that they surely lie there while nobody can merge them.
            filler = fill(home)
            for _ in range(40):
                with suppress(OSError):
                    filler.write_bytes(b"")
                    drop_now(home, 10)
                    fill(home)
                    break
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

"""Whatever file system the spool lies on, counts arrive, and the daemon says how it finds them."""

from __future__ import annotations

import re
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.disks import bound, daemon_with_log, fill, overlay, small_disk
from support.faults import counted, drop_now, inotify_watches, set_up
from support.processes import background, environ_of, wait_for
from support.tools import need
from tallyd.mounts import look_at_place

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/mountinfo").exists(), reason="mountinfo is Linux"),
]
_ONE = {"tallyd-demo": 1}


def _told(log: Path) -> list[str]:
    """What the daemon said of its choices, without the instants."""
    return re.findall(r"action=watching (.*)", log.read_text())


@pytest.mark.parametrize(("made", "kind"), [(overlay, "overlay"), (small_disk, "tmpfs")])
def test_events_arrive_on_an_overlay_and_on_a_disk_in_memory(tmp_path, made, kind):
    """The timer would need an hour. Watched are spool, its product, its new, and flush."""
    with made(tmp_path / "disk") as home:
        set_up(home, rescan_s=3600)
        drop_now(home)
        with daemon_with_log(home, tmp_path / "log") as process:
            wait_for(lambda: counted(home) == _ONE)
            wait_for(lambda: inotify_watches(process.pid) == 4)
            drop_now(home, count=2)
            wait_for(lambda: counted(home) == {"tallyd-demo": 3})

    assert _told(tmp_path / "log") == [f'way=watch why="{kind} tells of every arrival"']


def test_a_directory_of_an_overlays_lower_layer_is_watched_too(tmp_path):
    """A container's image brought it: the first drop is what copies it up."""
    with ExitStack() as stack:
        lower = tmp_path / "disk-lower"
        lower.mkdir()
        set_up(lower, rescan_s=3600)
        drop_now(lower)
        home = stack.enter_context(overlay(tmp_path / "disk"))
        with daemon_with_log(home, tmp_path / "log"):
            wait_for(lambda: counted(home) == _ONE)
            drop_now(home, count=2)
            wait_for(lambda: counted(home) == {"tallyd-demo": 3})


def test_on_a_full_disk_the_daemon_waits_says_so_and_watches_again_once_there_is_room(tmp_path):
    with small_disk(tmp_path / "disk", "8m") as home:
        set_up(home, rescan_s=1)
        drop_now(home)
        with daemon_with_log(home, tmp_path / "log") as process:
            wait_for(lambda: counted(home) == _ONE)
            filler = fill(home)
            wait_for(lambda: "is full" in (tmp_path / "log").read_text())
            wait_for(lambda: inotify_watches(process.pid) == 1)
            filler.unlink()
            wait_for(lambda: len(_told(tmp_path / "log")) >= 3)
            drop_now(home, count=2)
            wait_for(lambda: counted(home) == {"tallyd-demo": 3})
            wait_for(lambda: inotify_watches(process.pid) == 4)

    watching = 'way=watch why="tmpfs tells of every arrival"'
    assert _told(tmp_path / "log") == [
        watching,
        'way=wait why="tmpfs is full: nothing can be taken out" every_s=1',
        watching,
    ]


def test_where_the_spool_went_read_only_the_daemon_waits_and_goes_on_once_it_is_mended(home):
    """A mount over the spool, as a container's runtime sets one: what was watched is hidden by it."""
    set_up(home, rescan_s=1)
    drop_now(home)
    log, spool = home / "log", home / "state/spool"
    with daemon_with_log(home, log):
        wait_for(lambda: counted(home) == _ONE)
        with bound(spool, spool, read_only=True):
            wait_for(lambda: "read-only here" in log.read_text())
        wait_for(lambda: len(_told(log)) >= 3)
        drop_now(home, count=2)
        wait_for(lambda: counted(home) == {"tallyd-demo": 3})

    kind = look_at_place(home).mount.kind
    watching = f'way=watch why="{kind} tells of every arrival"'
    assert _told(log) == [
        watching,
        f'way=wait why="{kind} is read-only here: nothing can be taken out" every_s=1',
        watching,
    ]


def test_on_a_network_file_system_the_spool_is_polled_and_a_flush_is_still_heard(tmp_path):
    """None can be mounted here: the daemon's own table of mounts is replaced by one that says so."""
    home = tmp_path / "home"
    home.mkdir()
    set_up(home, rescan_s=1)
    drop_now(home)
    table = tmp_path / "mountinfo"
    table.write_text(
        "28 1 259:2 / / rw - ext4 /dev/sda rw\n"
        f"29 28 0:26 / {home} rw,relatime shared:2 - nfs4 files:/export rw,vers=4.2\n"
    )
    script = f'mount --bind {table} /proc/$$/mountinfo && exec "$@"'
    command = (need("unshare"), "-U", "-r", "-m", "sh", "-c", script, "sh")
    with background(
        *(*command, sys.executable, "-m", "tallyd", "run"),
        environ=environ_of(home),
        log=tmp_path / "log",
        until="action=daemon_started",
    ) as process:
        wait_for(lambda: counted(home) == _ONE)
        drop_now(home, count=2)
        wait_for(lambda: counted(home) == {"tallyd-demo": 3})
        wait_for(lambda: inotify_watches(process.pid) == 1)

    assert _told(tmp_path / "log") == [
        'way=poll why="nfs4: no event tells of what another machine writes" every_s=1'
    ]

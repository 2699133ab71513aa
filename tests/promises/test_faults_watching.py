"""When the system gives no watch, or loses events: counts come later, and none is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import anyio
import pytest
from support.faults import counted, drop_now, inotify_watches, problems, set_up
from support.processes import background, daemon, environ_of, wait_for
from support.tools import need
from tallyd import wakeups

pytestmark = pytest.mark.slow
_INOTIFY = Path("/proc/sys/fs/inotify")
linux_only = pytest.mark.skipif(not _INOTIFY.exists(), reason="inotify is Linux")


@linux_only
@pytest.mark.parametrize(
    ("limit", "says"),
    [("max_inotify_instances", "Too many open files"), ("max_inotify_watches", "watch limit")],
)
def test_without_a_watch_the_timer_counts_and_status_says_so_until_there_is_one(home, limit, says):
    """Editors and build tools use these limits up. The real limit of a user namespace is set here."""
    set_up(home, rescan_s=1)
    file = f"/proc/sys/user/{limit}"
    script = f'echo 0 > {file} && exec "$@"'
    command = (need("unshare"), "-U", "-r", "sh", "-c", script, "sh")
    with background(
        *(*command, sys.executable, "-m", "tallyd", "run"),
        environ=environ_of(home),
        log=home / "daemon-1.log",
        until="action=daemon_started",
    ) as process:
        drop_now(home)
        wait_for(lambda: counted(home) == {"tallyd-demo": 1})
        wait_for(lambda: problems(home))
        (key,), (why,) = problems(home).keys(), problems(home).values()
        # Somebody closed the other program: the limit has room again.
        inside = (need("nsenter"), "-U", "--preserve-credentials", "-t", str(process.pid))
        subprocess.run([*inside, "sh", "-c", f"echo 128 > {file}"], check=True)
        wait_for(lambda: not problems(home))

        assert (key, says in why, "by the timer, every 1 s" in why) == (
            ("watching", ""),
            True,
            True,
        )
        assert inotify_watches(process.pid) > 0

    log = (home / "daemon-1.log").read_text()
    assert (log.count("duty=watching"), log.count("action=recovered duty=watching")) == (2, 1)


@linux_only
def test_a_limit_met_between_the_directories_leaves_the_timer_too(home):
    """Some of the watches were given, one was not: that is no watch at all."""
    set_up(home, rescan_s=1)
    script = 'echo 3 > /proc/sys/user/max_inotify_watches && exec "$@"'
    command = (need("unshare"), "-U", "-r", "sh", "-c", script, "sh")
    with background(
        *(*command, sys.executable, "-m", "tallyd", "run"),
        environ=environ_of(home),
        log=home / "daemon-1.log",
        until="action=daemon_started",
    ):
        wait_for(lambda: ("watching", "") in problems(home))
        drop_now(home)

        wait_for(lambda: counted(home) == {"tallyd-demo": 1})


@linux_only
def test_what_is_dropped_after_the_queue_of_events_overflowed_is_counted(home):
    """The kernel queues so many events for a reader that does not read, and drops all others."""
    set_up(home, rescan_s=2)
    queue = int((_INOTIFY / "max_queued_events").read_text())
    with daemon(home) as process:
        drop_now(home)
        wait_for(lambda: counted(home) == {"tallyd-demo": 1})
        process.send_signal(signal.SIGSTOP)
        new = home / "state/spool/tallyd-demo/new"
        # Each file is an event at least, and none of them may stay.
        for number in range(queue + 100):
            (new / f"{number}").touch()
            (new / f"{number}").unlink()
        for _ in range(1000):
            drop_now(home)
        process.send_signal(signal.SIGCONT)

        wait_for(lambda: not os.listdir(new))
        assert counted(home) == {"tallyd-demo": 1001}


@linux_only
def test_a_thousand_drops_while_the_daemon_stands_still_are_counted_by_one_wake_up(home):
    set_up(home, rescan_s=3600)
    with daemon(home) as process:
        drop_now(home)
        wait_for(lambda: counted(home) == {"tallyd-demo": 1})
        process.send_signal(signal.SIGSTOP)
        for _ in range(1000):
            drop_now(home)
        process.send_signal(signal.SIGCONT)

        wait_for(lambda: counted(home) == {"tallyd-demo": 1001})


@linux_only
def test_no_link_in_the_spool_leads_the_watcher_out_of_it(home):
    """A watch for each directory below `/` would use up what the system gives to all programs."""
    set_up(home, rescan_s=1)
    outside = home / "outside"
    for number in range(50):
        (outside / f"{number}").mkdir(parents=True)
    drop_now(home)
    spool = home / "state/spool/tallyd-demo"
    for place in (spool / "bad", spool.parent):
        place.mkdir(exist_ok=True)
        (place / "a-link").symlink_to(outside)
    with daemon(home) as process:
        wait_for(lambda: counted(home) == {"tallyd-demo": 1})
        wait_for(lambda: inotify_watches(process.pid) >= 4)

        # spool, its product, its new, flush.
        assert inotify_watches(process.pid) == 4


@linux_only
def test_a_spool_that_is_itself_a_link_is_not_watched(home):
    set_up(home, rescan_s=1)
    for number in range(50):
        (home / "outside" / f"{number}" / "new").mkdir(parents=True)
    (home / "state").mkdir(exist_ok=True)
    (home / "state/spool").symlink_to(home / "outside")
    with daemon(home) as process:
        wait_for(lambda: ("intake", "tallyd-demo") in problems(home))

        # flush alone.
        assert inotify_watches(process.pid) == 1


def test_a_directory_made_again_with_the_identity_of_the_old_one_is_watched_again(
    home, monkeypatch
):
    """A file system gives the number of a removed directory to the next one; its watch is gone."""
    inner = home / "product"
    inner.mkdir()

    async def is_armed_again() -> bool:
        bell = wakeups.Doorbell()
        watcher = wakeups.Watcher({home: bell})
        same = watcher._armed
        monkeypatch.setattr(watcher, "_places", lambda: same)
        assert not watcher.rearm_if_needed()
        while not watcher._has_lost_one:
            inner.rmdir()
            inner.mkdir()
            await bell.wait(5)
        try:
            return watcher.rearm_if_needed()
        finally:
            watcher.close()

    assert anyio.run(is_armed_again)

"""One daemon at a time, whatever happens to the file that says so."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO

import pytest
from support.clock import NOON
from support.faults import counted, drop_now, set_up
from support.processes import daemon, environ_of, run, show, status, tallyd, wait_for
from tallyd import lock
from tallyd.errors import AlreadyRunning, StateMoved
from tallyd.paths import Paths

pytestmark = pytest.mark.slow


def _lock_file(home: Path) -> Path:
    (home / "state").mkdir(mode=0o700, exist_ok=True)
    return home / "state" / "daemon.lock"


def _start(home: Path) -> subprocess.Popen[bytes]:
    with (home / f"many-{os.urandom(4).hex()}.log").open("wb") as log:
        command = [sys.executable, "-m", "tallyd", "run"]
        return subprocess.Popen(command, env=environ_of(home), stdout=log, stderr=log)


@pytest.mark.parametrize("number", [2, 10])
def test_of_daemons_started_at_once_one_goes_on_and_the_others_leave(home, number):
    """A login that starts a service while a host starts it too."""
    set_up(home)
    for _ in range(100):
        drop_now(home)
    started = [_start(home) for _ in range(number)]
    try:
        flushed = [json.loads(tallyd(home, "flush", "--json", check=False) or "{}")]
        wait_for(lambda: sum(one.poll() is None for one in started) == 1)
        wait_for(lambda: status(home)["daemon"]["running"])
        wait_for(lambda: counted(home) == {"tallyd-demo": 100})
        (left,) = (one for one in started if one.poll() is None)

        assert (status(home)["daemon"]["pid"], len(flushed)) == (left.pid, 1)
        assert {one.returncode for one in started} == {None, 75}
    finally:
        for one in started:
            one.terminate()
        ended = [one.wait(90) for one in started]
    # Whoever left early never was a run that has to be told of.
    assert (ended.count(0), status(home)["last_stop"]["reason"]) == (1, "signal")


def test_ten_flushes_at_once_merge_everything_once(home):
    set_up(home)
    for _ in range(500):
        drop_now(home)
    ended = []

    def flush() -> None:
        done = run("tallyd", "flush", "--json", environ=environ_of(home), check=False)
        ended.append(done.returncode)

    threads = [threading.Thread(target=flush) for _ in range(10)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()

    # 75: another flush had the lock for longer than this one would wait.
    assert (set(ended) <= {0, 75}, 0 in ended, counted(home)) == (True, True, {"tallyd-demo": 500})


@pytest.mark.parametrize("text", ["", "{", "null", "\0" * 4096, "9" * 5000, '{"pid": 1e999}'])
def test_a_stale_lock_file_of_any_text_stops_no_start(home, text):
    """The file means nothing: only the lock that a living process holds on it does."""
    set_up(home)
    _lock_file(home).write_text(text)
    assert status(home)["daemon"]["running"] is False
    with daemon(home) as process:
        assert status(home)["daemon"]["pid"] == process.pid


def test_a_file_that_names_a_living_process_without_its_lock_is_no_daemon(home):
    """The number of a process is used again; what has it now is not ours, and nobody ends it."""
    set_up(home)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stranger:
        _lock_file(home).write_text(_text_of(stranger.pid))
        before = status(home)["daemon"]
        with daemon(home) as process:
            running = status(home)["daemon"]["pid"]
        stranger_lives = stranger.poll() is None

        assert (before["running"], before["pid"], running == process.pid, stranger_lives) == (
            False,
            None,
            True,
            True,
        )


def test_memory_and_cpu_of_another_program_are_not_shown_as_ours(home):
    """Somebody else, a backup, holds a lock on the file of a dead daemon, whose number is used again."""
    set_up(home)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stranger:
        file = _lock_file(home)
        file.write_text(_text_of(stranger.pid))
        import fcntl

        with file.open() as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            said = status(home)["daemon"]

        assert (said["rss_bytes"], said["cpu_seconds"], stranger.poll()) == (None, None, None)


def test_a_lock_file_that_is_deleted_ends_its_daemon_before_two_write(home):
    """The next daemon makes a new file, and neither sees the other's lock."""
    set_up(home)
    with daemon(home) as first:
        drop_now(home)
        wait_for(lambda: counted(home) == {"tallyd-demo": 1})
        first.send_signal(signal.SIGSTOP)
        _lock_file(home).unlink()
        with daemon(home) as second:
            first.send_signal(signal.SIGCONT)
            for _ in range(50):
                drop_now(home)

            assert first.wait(90) == 73
            wait_for(lambda: counted(home) == {"tallyd-demo": 51})
            assert (status(home)["daemon"]["pid"], second.poll()) == (second.pid, None)


def test_a_lock_that_was_replaced_before_it_was_taken_is_not_taken(home):
    """Opened, then replaced, then locked: the lock on a file that nobody sees excludes nobody."""
    paths = Paths(home / "config", home / "state")
    holder = lock.Holder(1, "daemon", "1", NOON)
    with lock.hold_lock(paths, holder) as first:
        paths.lock.unlink()
        with lock.hold_lock(paths, holder) as second:
            second.check()
            with pytest.raises(StateMoved):
                first.check()
            with pytest.raises(AlreadyRunning), lock.hold_lock(paths, holder):
                raise AssertionError("two have the lock")


def test_a_lock_file_that_goes_while_somebody_waits_for_it_is_not_the_one_he_gets(
    home, monkeypatch
):
    """He opened it in time, and gets the lock of a file that the next one does not find."""
    paths = Paths(home / "config", home / "state")
    holder = lock.Holder(1, "daemon", "1", NOON)
    waits, got = threading.Event(), []
    take = lock._take

    def watched(file: IO[str]) -> None:
        try:
            take(file)
        except OSError:
            waits.set()
            raise

    def second() -> None:
        with lock.hold_lock(paths, holder):
            try:
                with lock.hold_lock(paths, holder):
                    got.append("two")
            except AlreadyRunning:
                got.append("one")

    monkeypatch.setattr(lock, "_take", watched)
    monkeypatch.setattr(lock, "LOCK_PATIENCE_S", 5)
    waiting = threading.Thread(target=second)
    with lock.hold_lock(paths, holder):
        waiting.start()
        assert waits.wait(90)
        paths.lock.unlink()
    waiting.join()

    assert got == ["one"]


def _as_directory(file: Path) -> None:
    file.mkdir()


def _as_link(file: Path) -> None:
    (file.parent / "precious").write_text("precious")
    file.symlink_to(file.parent / "precious")


def _as_dangling_link(file: Path) -> None:
    file.symlink_to(file.parent / "made-by-nobody")


@pytest.mark.parametrize(
    "put", [_as_directory, _as_link, _as_dangling_link, os.mkfifo], ids=lambda one: one.__name__
)
@pytest.mark.parametrize("when", ["before the start", "while it runs"])
def test_a_lock_file_that_is_none_is_refused_and_touched_by_nobody(home, put, when):
    set_up(home)
    file = _lock_file(home)
    if when == "while it runs":
        with daemon(home) as process:
            file.unlink()
            put(file)
            drop_now(home)
            assert process.wait(90) == 73
    else:
        file.unlink(missing_ok=True)
        put(file)
    kind = os.lstat(file).st_mode

    started = run("tallyd", "run", environ=environ_of(home), check=False)
    flushed = run("tallyd", "flush", environ=environ_of(home), check=False)

    assert (started.returncode, flushed.returncode) == (73, 73)
    for one in (started, flushed):
        assert (str(file) in one.stderr, "Traceback" in one.stderr) == (True, False)
    assert (status(home)["daemon"]["running"], os.lstat(file).st_mode) == (False, kind)
    if put is _as_link:
        assert (file.parent / "precious").read_text() == "precious"
    assert not (file.parent / "made-by-nobody").exists()
    _remove(file)
    with daemon(home):
        drop_now(home)
        wait_for(lambda: show(home))


def _remove(file: Path) -> None:
    file.rmdir() if file.is_dir() and not file.is_symlink() else file.unlink()


def _text_of(pid: int) -> str:
    said = {"pid": pid, "role": "daemon", "version": "0.1.0", "started_at": NOON}
    return json.dumps(said)

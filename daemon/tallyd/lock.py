"""One daemon per user, by an OS lock that dies with its process.

It owns `daemon.lock`: who holds the lock is the daemon (or a foreground flush); the file's text
says which, for `status`; its modification time is the last heartbeat. A leftover file means
nothing, and neither does a process id in it: only the lock counts.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

from tallyd.contract.days import day_of
from tallyd.contract.frozen import Frozen
from tallyd.errors import AlreadyRunning, StateUnusable
from tallyd.files import make_directory
from tallyd.limits import LOCK_PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tallyd.paths import Paths

if os.name == "nt":
    import msvcrt

    def _take(file: IO[str]) -> None:
        # Far behind the text, which others must be able to read while it is locked.
        file.seek(1 << 20)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined, unused-ignore]  # Windows only

    def _peek(file: IO[str]) -> None:
        _take(file)
else:
    import fcntl

    def _take(file: IO[str]) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _peek(file: IO[str]) -> None:
        # Shared, so that two who look never see each other.
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)


class Holder(Frozen):
    """Who holds the lock: `role` is "daemon" or "flush", `started_at` Unix seconds."""

    pid: int
    role: str
    version: str
    started_at: float


@contextmanager
def hold_lock(paths: Paths, holder: Holder) -> Iterator[float]:
    """Hold the daemon's lock while inside, and tell the last heartbeat of whoever held it before.

    The heartbeat is in Unix seconds. Raises AlreadyRunning or StateUnusable.
    """
    make_directory(paths.state)
    try:
        descriptor = os.open(
            paths.lock, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600
        )
    except OSError as error:
        raise StateUnusable(
            f"{paths.lock} cannot be opened: {error.strerror}",
            "free space, or make the directory yours and writable",
        ) from error
    with os.fdopen(descriptor, "r+", encoding="utf-8") as file:
        deadline = time.monotonic() + LOCK_PATIENCE_S
        while True:
            try:
                _take(file)
                break
            except OSError:
                if time.monotonic() >= deadline:
                    other = _read(file)
                    who = f"{other.role}, process {other.pid}" if other else "another process"
                    raise AlreadyRunning(
                        f"tallyd is already running here ({who})", 'see "tallyd status"'
                    ) from None
                time.sleep(0.02)
        previous_beat = os.fstat(file.fileno()).st_mtime
        try:
            # Unbuffered: what a full disk refuses must not be tried again when the file is closed.
            text = json.dumps(holder.as_dict()).encode("ascii")
            os.ftruncate(file.fileno(), os.pwrite(file.fileno(), text, 0))
        except OSError as error:
            raise StateUnusable(
                f"{paths.lock} cannot be written: {error.strerror}", "free space on that disk"
            ) from error
        beat(paths, holder.started_at)
        yield previous_beat


def current_holder(paths: Paths) -> Holder | None:
    """Who holds the lock now; None when nobody does. Changes nothing."""
    try:
        with open(paths.lock, encoding="utf-8") as file:
            try:
                _peek(file)
            except OSError:
                return _read(file)
    except OSError:
        return None
    return None


def is_daemon_running(paths: Paths) -> bool:
    """Whether a daemon, and no passing command, holds the lock. Changes nothing."""
    holder = current_holder(paths)
    return holder is not None and holder.role == "daemon"


def beat(paths: Paths, now: float) -> None:
    """Note that the holder lives at `now`; a failure costs only the precision of an uptime."""
    try:
        os.utime(paths.lock, (now, now))
    except OSError:
        return


def _read(file: IO[str]) -> Holder | None:
    try:
        file.seek(0)
        said = json.loads(file.read(4096))
        holder = Holder(
            int(said["pid"]), str(said["role"]), str(said["version"]), float(said["started_at"])
        )
        # Told as a date; a number that is none raises.
        day_of(holder.started_at)
        return holder
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return Holder(0, "unknown", "unknown", 0.0)

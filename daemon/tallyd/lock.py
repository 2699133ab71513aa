"""One daemon per user, by an OS lock that dies with its process.

It owns `daemon.lock`: who holds the lock is the daemon (or a foreground flush); the file's text
says which, and what is wrong now, for `status`; its modification time is the last heartbeat. A
leftover file means nothing, and neither does a process id in it: only the lock counts.

The text always fills the same block, written at the start and overwritten in place through the
descriptor that holds the lock. So it can be told also on a full disk, with a damaged database and
with no descriptor left. A reader may meet half a text: it looks twice.
"""

from __future__ import annotations

import errno
import json
import os
import stat
import time
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING, Any

from tallyd.contract.days import day_of
from tallyd.contract.frozen import Frozen, replace
from tallyd.errors import AlreadyRunning, StateMoved, StateUnusable, refused
from tallyd.files import NO_TRAPS, make_directory
from tallyd.limits import BOARD_BYTES, BOARD_PROBLEMS, BOARD_WHY_CHARS, LOCK_PATIENCE_S
from tallyd.troubles import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

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


# How a daemon was started: by a service manager, by a host for as long as there is work, by a person.
SERVICE, ON_DEMAND, FOREGROUND = "service", "on demand", "foreground"


class Holder(Frozen):
    """Who holds the lock: `role` is "daemon" or "flush", `started_at` Unix seconds.

    `way` is how a daemon was started, "" where that is not told.

    `problems` are what is wrong with it now, `more_problems` how many had no place beside them.
    `up_s` is how long it had been up at its last heartbeat: where the clock was set since the start,
    the two instants do not say it.
    """

    pid: int
    role: str
    version: str
    started_at: float
    problems: tuple[Problem, ...] = ()
    more_problems: int = 0
    up_s: float = 0.0
    way: str = ""

    @property
    def in_words(self) -> str:
        """Who it is, for people."""
        who = {
            SERVICE: "the service",
            ON_DEMAND: "the daemon that a tool started",
            FOREGROUND: "tallyd in a terminal",
        }.get(self.way, f"a {self.role}")
        return f"{who} (process {self.pid})"


class HeldLock:
    """The lock, held; `previous` held it before, its last heartbeat was at `previous_beat` (Unix s)."""

    def __init__(self, file: IO[str], path: Path, holder: Holder) -> None:
        self._descriptor = file.fileno()
        self._path = path
        self._problems: Sequence[Problem] = ()
        self._beat_at: float | None = None
        self.holder = holder
        self.previous = _read(file)
        self.previous_beat = os.fstat(self._descriptor).st_mtime

    def post(self, problems: Sequence[Problem]) -> None:
        """Say what is wrong now. A disk that refuses even this keeps the old text."""
        self._problems = problems
        with suppress(OSError):
            self._write(problems)
            if self._beat_at is not None:
                # Writing is no heartbeat.
                os.utime(self._descriptor, (self._beat_at, self._beat_at))

    def beat(self, now: float, up_s: float) -> None:
        """Note that the holder lives at `now` (Unix s), up for `up_s`; failing costs only precision."""
        self.holder = replace(self.holder, up_s=up_s)
        with suppress(OSError):
            self._write(self._problems)
            os.utime(self._descriptor, (now, now))
            self._beat_at = now

    def check(self) -> None:
        """Raise StateMoved when the file is gone or another: who comes next does not see this lock."""
        if not _is_at(self._path, self._descriptor):
            raise StateMoved(f"{self._path} was removed or replaced", "start tallyd again")

    def begin(self) -> None:
        """Say who holds the lock, and that nothing is wrong so far. Raises OSError."""
        if self._write([]) < BOARD_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.ftruncate(self._descriptor, BOARD_BYTES)

    def _write(self, problems: Sequence[Problem]) -> int:
        # One unbuffered write: what a full disk refuses must not be tried again at the close.
        return os.pwrite(self._descriptor, _text(self.holder, problems), 0)


@contextmanager
def hold_lock(paths: Paths, holder: Holder) -> Iterator[HeldLock]:
    """Hold the daemon's lock while inside. Raises AlreadyRunning or StateUnusable."""
    make_directory(paths.state)
    deadline = time.monotonic() + LOCK_PATIENCE_S
    while True:
        with _open(paths.lock) as file:
            _wait_for(file, deadline)
            if not _is_at(paths.lock, file.fileno()):
                # Removed or replaced between the two: the next one would lock another file.
                continue
            held = HeldLock(file, paths.lock, holder)
            try:
                held.begin()
            except OSError as error:
                raise refused(f"{paths.lock} cannot be written", error) from error
            held.beat(holder.started_at, 0.0)
            yield held
            return


def _open(path: Path) -> IO[str]:
    """The lock's file, made if need be; of anything but a plain file nothing is touched."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | NO_TRAPS, 0o600)
    except OSError as error:
        raise refused(f"{path} cannot be opened", error) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise StateUnusable(f"{path} is not a regular file", "remove it")
    return os.fdopen(descriptor, "r+", encoding="utf-8")


def _wait_for(file: IO[str], deadline: float) -> None:
    while True:
        try:
            _take(file)
            return
        except OSError:
            if time.monotonic() >= deadline:
                other = _read(file)
                who = f"{other.role}, process {other.pid}"
                raise AlreadyRunning(
                    f"tallyd is already running here ({who})", 'see "tallyd status"'
                ) from None
            time.sleep(0.02)


def _is_at(path: Path, descriptor: int) -> bool:
    """Whether the open file is the one that stands at `path`."""
    try:
        return os.path.samestat(os.lstat(path), os.fstat(descriptor))
    except OSError:
        return False


def current_holder(paths: Paths) -> Holder | None:
    """Who holds the lock now; None when nobody does. Changes nothing, waits for nothing."""
    try:
        descriptor = os.open(paths.lock, os.O_RDONLY | NO_TRAPS)
    except OSError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        with open(descriptor, encoding="utf-8", closefd=False) as file:
            try:
                _peek(file)
            except OSError:
                return _read(file)
    finally:
        os.close(descriptor)
    return None


def last_beat(paths: Paths) -> float:
    """When the holder lived last, Unix seconds; 0 when that cannot be told."""
    try:
        return os.lstat(paths.lock).st_mtime
    except OSError:
        return 0.0


def is_daemon_running(paths: Paths) -> bool:
    """Whether a daemon, and no passing command, holds the lock. Changes nothing."""
    holder = current_holder(paths)
    return holder is not None and holder.role == "daemon"


def _text(holder: Holder, problems: Sequence[Problem]) -> bytes:
    """The text of the file: always BOARD_BYTES long, whatever it has to say."""
    told, chars = list(problems[:BOARD_PROBLEMS]), BOARD_WHY_CHARS
    while True:
        said = {
            **holder.as_dict(),
            "problems": [{**one.as_dict(), "why": _cut(one.why, chars)} for one in told],
            "more_problems": len(problems) - len(told),
            "up_s": round(holder.up_s, 3),
        }
        text = json.dumps(said).encode("ascii")
        if len(text) < BOARD_BYTES or not told:
            return text.ljust(BOARD_BYTES - 1) + b"\n"
        # A path of signs that JSON spells out takes six times its length.
        chars //= 2
        if not chars:
            told.pop()


def _cut(why: str, chars: int) -> str:
    return why if len(why) <= chars else f"{why[: chars - 1]}…"


def _read(file: IO[str]) -> Holder:
    # The second look is for a text that was being overwritten at the first.
    for _ in range(2):
        try:
            file.seek(0)
            return _holder(json.loads(file.read(BOARD_BYTES)))
        except (
            OSError,
            ArithmeticError,
            AttributeError,
            LookupError,
            RecursionError,
            TypeError,
            ValueError,
        ):
            continue
    return Holder(0, "unknown", "unknown", 0.0)


def _holder(said: dict[str, Any]) -> Holder:
    # A daemon of an earlier version that still runs says nothing of problems, nor how long it was up.
    problems = tuple(
        Problem(
            str(one["duty"]),
            str(one["product"]),
            str(one["why"]),
            float(one["since"]),
            int(one["times"]),
        )
        for one in said.get("problems", [])
    )
    # Told as a date; a number that is none raises.
    day_of(float(said["started_at"]))
    return Holder(
        int(said["pid"]),
        str(said["role"]),
        str(said["version"]),
        float(said["started_at"]),
        problems,
        int(said.get("more_problems", 0)),
        float(said.get("up_s", 0.0)),
        str(said.get("way", "")),
    )

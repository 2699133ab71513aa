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
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from tallyd.errors import AlreadyRunning, StateUnusable
from tallyd.files import make_directory
from tallyd.limits import BOARD_BYTES, BOARD_PROBLEMS, BOARD_WHY_CHARS, LOCK_PATIENCE_S
from tallyd.troubles import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

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


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds the lock: `role` is "daemon" or "flush", `started_at` Unix seconds.

    `problems` are what is wrong with it now, `more_problems` how many had no place beside them.
    """

    pid: int
    role: str
    version: str
    started_at: float
    problems: tuple[Problem, ...] = ()
    more_problems: int = 0


class HeldLock:
    """The lock, held; `previous_beat` is the last heartbeat (Unix s) of who held it before."""

    def __init__(self, descriptor: int, holder: Holder, previous_beat: float) -> None:
        self._descriptor = descriptor
        self.holder = holder
        self.previous_beat = previous_beat

    def post(self, problems: Sequence[Problem]) -> None:
        """Say what is wrong now. A disk that refuses even this keeps the old text."""
        with suppress(OSError):
            self._write(problems)

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
                    who = f"{other.role}, process {other.pid}"
                    raise AlreadyRunning(
                        f"tallyd is already running here ({who})", 'see "tallyd status"'
                    ) from None
                time.sleep(0.02)
        held = HeldLock(file.fileno(), holder, os.fstat(file.fileno()).st_mtime)
        try:
            held.begin()
        except OSError as error:
            raise StateUnusable(
                f"{paths.lock} cannot be written: {error.strerror}", "free space on that disk"
            ) from error
        beat(paths, holder.started_at)
        yield held


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


def _text(holder: Holder, problems: Sequence[Problem]) -> bytes:
    """The text of the file: always BOARD_BYTES long, whatever it has to say."""
    told, chars = list(problems[:BOARD_PROBLEMS]), BOARD_WHY_CHARS
    while True:
        said = {
            "pid": holder.pid,
            "role": holder.role,
            "version": holder.version,
            "started_at": holder.started_at,
            "problems": [
                {
                    "duty": one.duty,
                    "product": one.product,
                    "why": _cut(one.why, chars),
                    "since": one.since,
                    "times": one.times,
                }
                for one in told
            ],
            "more_problems": len(problems) - len(told),
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
    # A daemon of an earlier version that still runs says nothing of problems.
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
    return Holder(
        int(said["pid"]),
        str(said["role"]),
        str(said["version"]),
        float(said["started_at"]),
        problems,
        int(said.get("more_problems", 0)),
    )

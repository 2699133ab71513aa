"""One service command of a user at a time, so that none plans by what another is about to change.

The lock is on the user's home itself: there is one service per user, whatever directories tallyd was given, and
a lock file would be one more thing to leave behind. It goes with its process. Where it cannot be had (some
network disks, Windows) commands go on without: each may be repeated.
"""

from __future__ import annotations

import os
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from tallyd.errors import AlreadyRunning, StateUnusable
from tallyd.limits import SERVICE_LOOK_S, SERVICE_TURN_S
from tallyd.paths import home_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def turn(tell: Callable[[str], None]) -> Iterator[None]:
    """Be the only service command of this user inside; `tell` of a wait. Raises AlreadyRunning after SERVICE_TURN_S."""
    try:
        import fcntl  # noqa: PLC0415 - not on Windows, where there is no service manager either

        descriptor = os.open(home_of(os.environ), os.O_RDONLY | os.O_CLOEXEC)
    except (ImportError, OSError, StateUnusable):
        yield
        return
    try:
        with suppress(OSError):
            _wait(lambda: fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB), tell)
        yield
    finally:
        os.close(descriptor)


def _wait(take: Callable[[], None], tell: Callable[[str], None]) -> None:
    deadline = time.monotonic() + SERVICE_TURN_S
    has_told = False
    while True:
        try:
            take()
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise AlreadyRunning('another "tallyd service" command runs', "try again") from None
            if not has_told:
                tell('waits for another "tallyd service" command …')
                has_told = True
            time.sleep(SERVICE_LOOK_S)
        else:
            return

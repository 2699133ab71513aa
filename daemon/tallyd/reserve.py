"""The reserve: room on the disk that tallyd gives up to itself when somebody filled it.

Deleting rows needs room for SQLite's log, and writing a "no" down needs room for a file. So a small
file lies in the state directory. Whoever has to free something, to say no or to record a stop does
it through `insist`: refused for want of room, the file goes and the act is tried once more. What
merges or sends never does; it waits. Retention makes the file again once there is room to spare.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from tallyd import logs
from tallyd.errors import StateFull
from tallyd.limits import RESERVE_BYTES, RESERVE_ROOM

if TYPE_CHECKING:
    from collections.abc import Callable

    from tallyd.paths import Paths

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


def insist(paths: Paths, act: Callable[[], _T]) -> _T:
    """Do `act`, which must be safe to repeat; where the disk is full, once more without the reserve.

    Raises what `act` raises, StateFull when even that was too little.
    """
    try:
        return act()
    except StateFull:
        give_up(paths)
        return act()


def give_up(paths: Paths) -> bool:
    """Free the reserve; False when there was none."""
    try:
        paths.reserve.unlink()
    except OSError:
        return False
    _log.warning(logs.line("reserve_given_up"))
    return True


def is_whole(paths: Paths) -> bool:
    """Whether the reserve is there."""
    try:
        return paths.reserve.stat().st_size == RESERVE_BYTES
    except OSError:
        return False


def keep(paths: Paths) -> None:
    """Make the reserve where it is missing and the disk has room to spare. Best effort."""
    if is_whole(paths) or not _has_room(paths):
        return
    try:
        # In place, not beside: one killed here leaves a reserve that is too small, and made anew.
        # Random bytes, for a file system that packs zeros would keep no room for them.
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0)
        descriptor = os.open(paths.reserve, flags, 0o600)
        try:
            os.write(descriptor, os.urandom(RESERVE_BYTES))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        whole = is_whole(paths)
    except OSError:
        whole = False
    if not whole:
        # The last of a disk is not ours to take.
        with suppress(OSError):
            paths.reserve.unlink()


def _has_room(paths: Paths) -> bool:
    if not hasattr(os, "statvfs"):
        return True
    try:
        disk = os.statvfs(paths.state)
    except OSError:
        return False
    return disk.f_bavail * disk.f_frsize >= RESERVE_ROOM * RESERVE_BYTES

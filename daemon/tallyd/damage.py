"""A damaged database: set aside, so that a new one takes its place and nobody has to.

It owns `tallyd.db.damaged-<instant>` and what SQLite keeps beside it. Only the newest is kept, for
DAMAGED_DAYS, and a "no" of any product removes it, for nobody can tell what is in it. What it held
is lost: nothing is read out of it, since a sum that came from damage would be sent as if it were true.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from tallyd.errors import refused

if TYPE_CHECKING:
    from pathlib import Path

    from tallyd.paths import Paths

_MARK, _STAMP = ".damaged-", "%Y%m%dT%H%M%SZ"
# The log and its index belong to the database: the log may hold the newest part of it.
_PARTS = ("-wal", "-shm", "")


def set_aside(paths: Paths, now: float) -> Path:
    """Move the database away as it is; where it lies now. The caller holds the lock.

    An earlier one goes. Raises StateUnusable. Killed in between, the next start does the rest.
    """
    stamp = time.strftime(_STAMP, time.gmtime(now))
    aside = paths.database.with_name(f"{paths.database.name}{_MARK}{stamp}")
    remove(paths)
    try:
        # The database last: while it stands there, the next start finds the damage again.
        for part in _PARTS:
            with suppress(FileNotFoundError):
                os.replace(f"{paths.database}{part}", f"{aside}{part}")
    except OSError as error:
        raise refused(f"{paths.database} is damaged and cannot be set aside", error) from error
    return aside


def last(paths: Paths) -> tuple[float, Path] | None:
    """When (Unix s) the database was last set aside, and where it lies; None when it never was."""
    found = [one for one in _all(paths) if not one.name.endswith(_PARTS[:2])]
    if not found:
        return None
    import calendar  # noqa: PLC0415 - 1 ms that only a damaged database is worth, and status is quick

    newest = max(found)
    try:
        at = time.strptime(newest.name.rpartition(_MARK)[2], _STAMP)
    except ValueError:
        return 0.0, newest
    return float(calendar.timegm(at)), newest


def remove(paths: Paths, before: float = float("inf")) -> None:
    """Remove what was set aside before `before` (Unix s). Best effort; safe to repeat."""
    known = last(paths)
    if known is None or known[0] >= before:
        return
    for one in _all(paths):
        with suppress(OSError):
            one.rmdir() if one.is_dir() and not one.is_symlink() else one.unlink()


def _all(paths: Paths) -> list[Path]:
    try:
        return list(paths.state.glob(f"{paths.database.name}{_MARK}*"))
    except OSError:
        return []

"""What can be wrong with our world, drawn as a tree.

    TallydError              what failed, and a hint the user can act on
    ├── StateUnusable        the state directory or the database refuses (full, read-only, damaged)
    │   ├── StateMoved       the database is no longer the file that was opened: the daemon ends
    │   ├── StateNewer       the database is a newer tallyd's: nothing is touched
    │   ├── StateFull        the disk is full: what has to go goes in pieces, without the reserve
    │   └── StateDamaged     the database cannot be read: it is set aside at the next start
    ├── SettingsError        config.toml is wrong: file, key, what would be right
    ├── AlreadyRunning       another daemon or a flush holds the lock
    ├── NotAllowed           the system, or good sense, does not let this user do it
    ├── NotRegistered        no contract is registered for the product
    └── BadRequest           a command asks for what its product does not know
    Malformed                a delta that is not in the spool format: met by quarantine, never logged as ours

Errors of a contract are `tallyd.contract.ContractError`; expected refusals are values of an enum
(`tallyd.ledger.Verdict`), not exceptions.
"""

from __future__ import annotations

import errno
import os
from typing import Final, TypeVar

from tallyd import exits

_E = TypeVar("_E", bound=BaseException)

_NO_DESCRIPTOR: Final = "raise the limit of open files (ulimit -n), or look who holds so many"
_HINTS: Final = {
    errno.ENOSPC: "free space on that disk",
    errno.EDQUOT: "free some of your quota on that disk",
    errno.EROFS: "mount that disk writable again",
    errno.EACCES: "make it yours and writable",
    errno.EPERM: "make it yours and writable",
    errno.EIO: "look at the system's log: that disk fails",
    errno.EMFILE: _NO_DESCRIPTOR,
    errno.ENFILE: _NO_DESCRIPTOR,
}


class TallydError(Exception):
    """Something the user can do something about; `hint` says what, `exit_code` is the command's."""

    exit_code = exits.BUG

    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(f"{what}; {hint}" if hint else what)
        self.what = what
        self.hint = hint


def find(crash: BaseException, kind: type[_E]) -> _E | None:
    """An error of this kind in what a task group raised, or in an error that is none of a group."""
    if isinstance(crash, kind):
        return crash
    if isinstance(crash, BaseExceptionGroup):
        return next((one for inner in crash.exceptions if (one := find(inner, kind))), None)
    return None


_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


def refused(what: str, error: OSError) -> StateUnusable:
    """The system refused something to us; the error that says so, with what to do about it."""
    kind = StateFull if error.errno in _FULL else StateUnusable
    hint = _HINTS.get(error.errno or 0, "free space, or make it yours and writable")
    return kind(f"{what}: {error.strerror}", hint)


def in_words(error: TallydError | OSError) -> str:
    """What failed and, where we know it, what to do; for people."""
    if isinstance(error, TallydError):
        return str(error)
    where = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
    hint = _HINTS.get(error.errno or 0, "")
    return f"{where}{error.strerror or error}{hint and '; '}{hint}"


class StateUnusable(TallydError):
    """The state directory or the database cannot be used."""

    exit_code = exits.STATE


class StateMoved(StateUnusable):
    """The database was removed or replaced: what is written now would be seen by nobody."""


class StateNewer(StateUnusable):
    """The database was written by a newer tallyd."""


class StateFull(StateUnusable):
    """There is no room left on the disk."""


class StateDamaged(StateUnusable):
    """What stands in the database's place is no database, or one whose content is broken."""


class SettingsError(TallydError):
    """The user's config.toml is wrong."""

    exit_code = exits.CONFIG


class AlreadyRunning(TallydError):
    """Somebody else holds the daemon's lock."""

    exit_code = exits.TRY_AGAIN


class NotAllowed(TallydError):
    """This user may not, or should not, do it."""

    exit_code = exits.REFUSED


class NotRegistered(TallydError):
    """A product that no contract is registered for, or one whose contract is damaged."""

    exit_code = exits.CONFIG


class BadRequest(TallydError):
    """What a command asks for cannot be done for this product."""

    exit_code = exits.USAGE


class Malformed(Exception):
    """A file in the spool that is no delta; the text is the reason that stands beside it in bad/."""

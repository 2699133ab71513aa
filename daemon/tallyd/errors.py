"""What can be wrong with our world, drawn as a tree.

    TallydError              what failed, and a hint the user can act on
    ├── StateUnusable        the state directory or the database refuses (full, read-only, damaged)
    │   └── StateMoved       the database is no longer the file that was opened: the daemon ends
    ├── SettingsError        config.toml is wrong: file, key, what would be right
    ├── AlreadyRunning       another daemon or a flush holds the lock
    ├── NotRegistered        no contract is registered for the product
    └── BadRequest           a command asks for what its product does not know
    Malformed                a delta that is not in the spool format: met by quarantine, never logged as ours

Errors of a contract are `tallyd.contract.ContractError`; expected refusals are values of an enum
(`tallyd.ledger.Verdict`), not exceptions.
"""

from __future__ import annotations

import errno
import os
from typing import Final

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

    exit_code = 70

    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(f"{what}; {hint}" if hint else what)
        self.what = what
        self.hint = hint


def in_words(error: TallydError | OSError) -> str:
    """What failed and, where we know it, what to do; for people."""
    if isinstance(error, TallydError):
        return str(error)
    where = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
    hint = _HINTS.get(error.errno or 0, "")
    return f"{where}{error.strerror or error}{hint and '; '}{hint}"


class StateUnusable(TallydError):
    """The state directory or the database cannot be used."""

    exit_code = 73


class StateMoved(StateUnusable):
    """The database was removed or replaced: what is written now would be seen by nobody."""


class SettingsError(TallydError):
    """The user's config.toml is wrong."""

    exit_code = 78


class AlreadyRunning(TallydError):
    """Somebody else holds the daemon's lock."""

    exit_code = 75


class NotRegistered(TallydError):
    """A product that no contract is registered for, or one whose contract is damaged."""

    exit_code = 78


class BadRequest(TallydError):
    """What a command asks for cannot be done for this product."""

    exit_code = 64


class Malformed(Exception):
    """A file in the spool that is no delta; the text is the reason that stands beside it in bad/."""

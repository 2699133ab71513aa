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


class TallydError(Exception):
    """Something the user can do something about; `hint` says what, `exit_code` is the command's."""

    exit_code = 70

    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(f"{what}; {hint}" if hint else what)
        self.what = what
        self.hint = hint


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

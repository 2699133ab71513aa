"""Findings: what a check saw, how bad it is, and what mends it."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from tallyd.contract.frozen import Frozen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from tallyd.lock import Holder
    from tallyd.product import Surroundings


class Level(Enum):
    """How bad it is, the worst last; from `warning` on something is to be mended."""

    OK = "ok"
    NOTE = "note"  # good to know, and right so
    WARNING = "warning"  # works, and not as anybody would want it
    PROBLEM = "problem"  # does not work

    @property
    def is_to_mend(self) -> bool:
        """Whether a command that found it exits with 1."""
        return self in (Level.WARNING, Level.PROBLEM)


class Finding(Frozen):
    """What one check saw. `fix` is a command where there is one, else words; "" where nothing is to do."""

    check: str
    level: Level
    what: str
    fix: str = ""


class Scene(Frozen):
    """What every check looks at: where things lie, this shell, the time (Unix s), who holds the lock.

    `service` is the environment of the running daemon; None without one, or where it does not show.
    """

    around: Surroundings
    now: float
    holder: Holder | None
    service: Mapping[str, str] | None

    @property
    def has_daemon(self) -> bool:
        """Whether a daemon, and no passing command, holds the lock."""
        return self.holder is not None and self.holder.role == "daemon"


# A family of checks: looks, changes nothing, and says what it saw.
Check = "Callable[[Scene], Iterable[Finding]]"

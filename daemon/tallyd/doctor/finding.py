"""Findings: what a check saw, how bad it is, and what mends it."""

from __future__ import annotations

from enum import Enum

from tallyd.contract.frozen import Frozen


class Level(Enum):
    """How bad it is, the worst last; from `WARNING` on something is to be mended."""

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

"""A kill inside this process: an exception that nothing catches, at the n-th file operation or statement.

From then on every further step of what dies raises it too, so that no handler of the product mends
anything. Locks and transactions that a real kill would end are ended by whoever starts anew.
"""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_STEPS = {"open", "os.rename", "os.remove", "os.mkdir", "os.listdir", "os.scandir", "os.utime"}


class Killed(BaseException):
    """The process is dead: no handler of the product catches this."""


@dataclass
class Death:
    """Kills before the `at`-th step, of all or of those of SQL alone."""

    at: int
    is_sql: bool = False
    home: str = ""
    is_dead: bool = False

    def step(self, *, is_sql: bool) -> None:
        if self.is_sql and not is_sql and not self.is_dead:
            return
        self.at -= 1
        if self.at <= 0:
            # Whoever is dead does nothing more.
            self.is_dead = True
            raise Killed


# Who is to die, while somebody is.
_dying: list[Death] = []


def _step_of_sql() -> None:
    for one in _dying:
        one.step(is_sql=True)


class SteppingConnection(sqlite3.Connection):
    """SQLite, with a step before each statement and each commit."""

    def execute(self, *arguments: Any) -> sqlite3.Cursor:
        _step_of_sql()
        return super().execute(*arguments)

    def executemany(self, *arguments: Any) -> sqlite3.Cursor:
        _step_of_sql()
        return super().executemany(*arguments)

    def commit(self) -> None:
        _step_of_sql()
        super().commit()


def _on_event(event: str, arguments: tuple[Any, ...]) -> None:
    for one in _dying:
        path = str(arguments[0]) if arguments else ""
        # A delta's name stands alone: the daemon holds `new/` open and works below it.
        if event in _STEPS and (one.home in path or path.endswith(".json")):
            one.step(is_sql=False)


# A hook can never be taken away again; while nobody is to die it does nothing.
sys.addaudithook(_on_event)


@contextmanager
def dying(home: Path, death: Death | None) -> Iterator[None]:
    """Inside, what works below `home` may die; on leaving, everything lives again."""
    if death is not None:
        death.home = str(home)
        _dying.append(death)
    try:
        yield
    except Killed:
        pass
    finally:
        _dying.clear()

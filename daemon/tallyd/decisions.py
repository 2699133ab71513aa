"""Decisions: the consent under which what we hold was counted.

It owns the table `decision`. A user may say no and yes again between two looks of ours; what was
counted before belongs to another decision then, or to another id, and must not leave. Every function
works inside its caller's transaction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3


@dataclass(frozen=True, slots=True)
class Decision:
    """The instant of the explicit choice (None: nobody chose), and the id (None: none yet)."""

    effective_from: str | None
    machine_id: str | None

    def covers(self, held: Decision) -> bool:
        """Whether what was counted under `held` may leave under this decision.

        An id that was made meanwhile changes nothing; another choice or another id does.
        """
        same_id = held.machine_id is None or held.machine_id == self.machine_id
        return same_id and held.effective_from == self.effective_from


def held(sql: sqlite3.Connection, product: str) -> Decision | None:
    """The decision under which what we hold of a product was counted; None: it is new to us."""
    row = sql.execute(
        "SELECT effective_from, machine_id FROM decision WHERE product = ?", (product,)
    ).fetchone()
    return None if row is None else Decision(*row)


def hold(sql: sqlite3.Connection, product: str, decision: Decision) -> None:
    """From now on we count under this decision."""
    sql.execute(
        "INSERT INTO decision VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET"
        " effective_from = excluded.effective_from, machine_id = excluded.machine_id",
        (product, decision.effective_from, decision.machine_id),
    )


def holds_any(sql: sqlite3.Connection, product: str) -> bool:
    """Whether a decision of a product is here."""
    return held(sql, product) is not None


def remove_all(sql: sqlite3.Connection, product: str, _rows: int = -1) -> int:
    """Forget the decision: consent is off. How many rows went; they are few."""
    return sql.execute("DELETE FROM decision WHERE product = ?", (product,)).rowcount

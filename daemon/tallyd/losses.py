"""Losses: what was counted and will never arrive, by cause.

It owns the table `loss`. Everything that drops counts on purpose says so here in the same
transaction, so that a day's reader knows how complete it is. `unsent` travels with the next batch
and comes back when that batch is itself lost; `total` never shrinks.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from tallyd.limits import MAX_SUM

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping


_ADD = (
    "INSERT INTO loss VALUES (:product, :cause, :unsent, :total) ON CONFLICT DO UPDATE"
    f" SET unsent = min(unsent + :unsent, {MAX_SUM}), total = min(total + :total, {MAX_SUM})"
)
# Fields, not counts: kept beside the causes, never among them.
_STRIPPED = "stripped_fields"


class Cause(StrEnum):
    """Why counts were lost; the words travel on the wire, never rename them."""

    CAP = "cap"  # a cap was reached, the oldest went
    ERROR = "error"  # a host failed to count
    AGE = "age"  # the day is older than the contract's window
    FUTURE = "future"  # the day is further ahead than tomorrow
    SCREENED = "screened"  # the contract does not list it
    MALFORMED = "malformed"  # not in the spool format; one per file, its counts are unknown
    REFUSED = "refused"  # the gateway answered no, for good
    UNANSWERED = "unanswered"  # no answer, and the contract says drop


def add(sql: sqlite3.Connection, product: str, lost: Mapping[str, int]) -> None:
    """Count what was lost, by cause."""
    sql.executemany(
        _ADD,
        (
            {"product": product, "cause": str(cause), "unsent": count, "total": count}
            for cause, count in ((one, min(given, MAX_SUM)) for one, given in lost.items())
            if count
        ),
    )


def add_stripped(sql: sqlite3.Connection, product: str, fields: int) -> None:
    """Count fields that the contract does not list; no count was lost with them, so none travels."""
    if fields:
        total = min(fields, MAX_SUM)
        sql.execute(_ADD, {"product": product, "cause": _STRIPPED, "unsent": 0, "total": total})


def stripped(sql: sqlite3.Connection, product: str) -> int:
    """How many fields were ever stripped."""
    row = sql.execute(
        "SELECT total FROM loss WHERE product = ? AND cause = ?", (product, _STRIPPED)
    ).fetchone()
    return int(row[0]) if row else 0


def take_unsent(sql: sqlite3.Connection, product: str) -> dict[str, int]:
    """The losses that no batch carried yet; from now on the caller's batch carries them."""
    unsent = peek_unsent(sql, product)
    sql.execute("UPDATE loss SET unsent = 0 WHERE product = ?", (product,))
    return unsent


def peek_unsent(sql: sqlite3.Connection, product: str) -> dict[str, int]:
    """The losses that no batch carried yet."""
    return dict(
        sql.execute(
            "SELECT cause, unsent FROM loss WHERE product = ? AND unsent > 0 ORDER BY cause",
            (product,),
        ).fetchall()
    )


def give_back(sql: sqlite3.Connection, product: str, lost: Mapping[str, int]) -> None:
    """The batch that carried these losses is lost itself: the next one carries them again."""
    sql.executemany(
        f"UPDATE loss SET unsent = min(unsent + ?, {MAX_SUM}) WHERE product = ? AND cause = ?",
        ((count, product, cause) for cause, count in lost.items()),
    )


def totals(sql: sqlite3.Connection, product: str) -> dict[str, int]:
    """Everything ever lost, by cause."""
    return dict(
        sql.execute(
            "SELECT cause, total FROM loss WHERE product = ? AND cause <> ? ORDER BY cause",
            (product, _STRIPPED),
        ).fetchall()
    )


def holds_any(sql: sqlite3.Connection, product: str) -> bool:
    """Whether anything of a product is here."""
    found = sql.execute("SELECT 1 FROM loss WHERE product = ? LIMIT 1", (product,)).fetchone()
    return found is not None


def remove_all(sql: sqlite3.Connection, product: str, _rows: int = -1) -> int:
    """Forget the losses of a product: consent is off. How many rows went; they are few."""
    return sql.execute("DELETE FROM loss WHERE product = ?", (product,)).rowcount

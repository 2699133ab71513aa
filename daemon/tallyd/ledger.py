"""The ledger: the record of what left, to whom, and what came of it.

It owns the tables `ledger` (one row per request) and `schedule` (when each product sends next). It
answers `status` and the sender's pacing. Old rows go by count; only the newest keep their body.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from tallyd.limits import LEDGER_MAX_BODIES, LEDGER_MAX_ROWS

if TYPE_CHECKING:
    import sqlite3

    from tallyd.batch import Batch


class Verdict(Enum):
    """What the gateway's answer, or the lack of one, means for a batch.

    The numbers are persisted, never renumber.
    """

    DELIVERED = 1  # 2xx
    REFUSED = 2  # any other answer: final, never resent
    TRY_LATER = 3  # no answer; 429 and 503 where the contract says busy = "later"
    DROPPED = 4  # no answer where the contract says unanswered = "drop"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request: when (Unix s), where to, and what came of it, in a word for people."""

    batch_id: str
    at: float
    endpoint: str
    verdict: Verdict
    detail: str
    events: int
    body: bytes | None


def record(
    sql: sqlite3.Connection,
    batch: Batch,
    *,
    at: float,
    endpoint: str,
    verdict: Verdict,
    detail: str,
    keep_body: bool = True,
) -> None:
    """Write down one request; without its body when consent went off while it was under way."""
    sql.execute(
        "INSERT INTO ledger (product, batch_id, at, endpoint, verdict, detail, events, sha256, size, body)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            batch.product,
            batch.batch_id,
            at,
            endpoint,
            verdict.value,
            detail,
            batch.events,
            hashlib.sha256(batch.body).hexdigest(),
            len(batch.body),
            batch.body if keep_body else None,
        ),
    )


def last(sql: sqlite3.Connection, product: str, verdict: Verdict | None = None) -> Attempt | None:
    """The newest request, or the newest with that verdict."""
    number = verdict.value if verdict else None
    found = _select(sql, product, number, "ORDER BY id DESC LIMIT 1")
    return found[0] if found else None


def attempts(sql: sqlite3.Connection, product: str) -> list[Attempt]:
    """Every request that the ledger remembers, oldest first."""
    return _select(sql, product, None, "ORDER BY id")


def requests_since(sql: sqlite3.Connection, product: str, since: float, now: float) -> int:
    """Requests between `since` and `now`; those from the future (a clock set back) do not count."""
    return int(
        sql.execute(
            "SELECT count(*) FROM ledger WHERE product = ? AND at > ? AND at <= ?",
            (product, since, now),
        ).fetchone()[0]
    )


def next_send(sql: sqlite3.Connection, product: str) -> float | None:
    """When the product sends next, Unix s; None when it never was scheduled."""
    row = sql.execute("SELECT next_send FROM schedule WHERE product = ?", (product,)).fetchone()
    return None if row is None else float(row[0])


def not_before(sql: sqlite3.Connection, product: str) -> float:
    """Until when (Unix s) a busy gateway asked to be left alone; 0 when it did not."""
    row = sql.execute("SELECT not_before FROM schedule WHERE product = ?", (product,)).fetchone()
    return 0.0 if row is None else float(row[0])


def set_not_before(sql: sqlite3.Connection, product: str, at: float) -> None:
    """A busy gateway asked to be left alone until `at`."""
    sql.execute(
        "INSERT INTO schedule VALUES (:product, :at, :at) ON CONFLICT DO UPDATE SET not_before = :at",
        {"product": product, "at": at},
    )


def set_next_send(sql: sqlite3.Connection, product: str, at: float) -> None:
    """Decide when the product sends next."""
    sql.execute(
        "INSERT INTO schedule (product, next_send) VALUES (?, ?) ON CONFLICT DO UPDATE SET next_send = excluded.next_send",
        (product, at),
    )


def trim(sql: sqlite3.Connection, product: str) -> None:
    """Keep the newest rows, and the bodies of the very newest."""
    for statement, kept in (
        ("DELETE FROM ledger", LEDGER_MAX_ROWS),
        ("UPDATE ledger SET body = NULL", LEDGER_MAX_BODIES),
    ):
        sql.execute(
            f"{statement} WHERE product = :product AND id <= (SELECT id FROM ledger"
            " WHERE product = :product ORDER BY id DESC LIMIT 1 OFFSET :kept)",
            {"product": product, "kept": kept},
        )


def holds_any(sql: sqlite3.Connection, product: str) -> bool:
    """Whether a plan to send or a sent body is here."""
    found = sql.execute(
        "SELECT product FROM schedule WHERE product = :product"
        " UNION SELECT product FROM ledger WHERE product = :product AND body IS NOT NULL LIMIT 1",
        {"product": product},
    ).fetchone()
    return found is not None


def remove_all(sql: sqlite3.Connection, product: str, rows: int = -1) -> int:
    """Consent is off: no plan to send, and the bodies (which hold the id) go; that something left stays.

    `rows` bounds how many go at once; returns how many went.
    """
    gone = sql.execute("DELETE FROM schedule WHERE product = ?", (product,)).rowcount
    return (
        gone
        + sql.execute(
            "UPDATE ledger SET body = NULL WHERE id IN"
            " (SELECT id FROM ledger WHERE product = ? AND body IS NOT NULL LIMIT ?)",
            (product, rows),
        ).rowcount
    )


def _select(sql: sqlite3.Connection, product: str, verdict: int | None, rest: str) -> list[Attempt]:
    return [
        Attempt(batch_id, at, endpoint, Verdict(number), detail, events, body)
        for batch_id, at, endpoint, number, detail, events, body in sql.execute(
            "SELECT batch_id, at, endpoint, verdict, detail, events, body FROM ledger"
            f" WHERE product = :product AND (:verdict IS NULL OR verdict = :verdict) {rest}",
            {"product": product, "verdict": verdict},
        )
    ]

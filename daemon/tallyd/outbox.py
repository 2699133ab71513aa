"""The outbox: batches awaiting a verdict.

It owns the table `outbox`. A batch's bytes never change once they are here; it leaves by a verdict,
by age, by the cap, or because consent went off. Every function works inside its caller's
transaction.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tallyd import losses
from tallyd.batch import Batch
from tallyd.contract.days import unix_of

if TYPE_CHECKING:
    import sqlite3

# As `wire` renders it, before any value that could hold the same.
_SENT_AT = b'"sent_at":"'


def put(sql: sqlite3.Connection, batch: Batch) -> None:
    """Keep a batch until its verdict."""
    sql.execute(
        "INSERT INTO outbox (product, batch_id, machine_id, contract, expires_at, body, events,"
        " counted, lost) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            batch.product,
            batch.batch_id,
            batch.machine_id,
            batch.contract,
            batch.expires_at,
            batch.body,
            batch.events,
            batch.counted,
            json.dumps(batch.lost),
        ),
    )


def replace(sql: sqlite3.Connection, batch: Batch) -> None:
    """Put narrower bytes in the place of a batch's own: its contract lists less by now."""
    sql.execute(
        "UPDATE outbox SET contract = ?, body = ?, events = ?, counted = ? WHERE batch_id = ?",
        (batch.contract, batch.body, batch.events, batch.counted, batch.batch_id),
    )


def oldest(sql: sqlite3.Connection, product: str) -> Batch | None:
    """The batch to send next."""
    found = _select(sql, product, "ORDER BY id LIMIT 1")
    return found[0] if found else None


def holds(sql: sqlite3.Connection, batch_id: str) -> bool:
    """Whether a batch still waits; not when consent went off meanwhile."""
    found = sql.execute("SELECT 1 FROM outbox WHERE batch_id = ?", (batch_id,)).fetchone()
    return found is not None


def expired(sql: sqlite3.Connection, product: str, now: float) -> list[Batch]:
    """Batches that a gateway would refuse, in whole or in part, for their age."""
    return [one for one in waiting(sql, product) if one.expires_at < now]


def waiting(sql: sqlite3.Connection, product: str) -> list[Batch]:
    """Every batch, the one to send next first."""
    return _select(sql, product, "ORDER BY id")


def past_cap(
    sql: sqlite3.Connection, product: str, max_bytes: int, max_batches: int
) -> list[Batch]:
    """The oldest batches that must go so that the rest fits both caps."""
    kept = 0
    over = []
    for place, one in enumerate(_select(sql, product, "ORDER BY id DESC")):
        kept += len(one.body)
        if kept > max_bytes or place >= max_batches:
            over.append(one)
    return over


def remove(sql: sqlite3.Connection, batch_id: str) -> bool:
    """Take a batch out; False when it was gone (consent went off meanwhile)."""
    return sql.execute("DELETE FROM outbox WHERE batch_id = ?", (batch_id,)).rowcount > 0


def lose(sql: sqlite3.Connection, batch: Batch, cause: losses.Cause) -> None:
    """Take a batch out as lost: what it held is counted, what it reported goes with the next one."""
    if remove(sql, batch.batch_id):
        losses.add(sql, batch.product, {cause: batch.counted})
        losses.give_back(sql, batch.product, batch.lost)


def size(sql: sqlite3.Connection, product: str) -> tuple[int, int]:
    """(batches, bytes) that wait."""
    batches, total = sql.execute(
        "SELECT count(*), coalesce(sum(length(body)), 0) FROM outbox WHERE product = ?", (product,)
    ).fetchone()
    return batches, total


def sealed_at(sql: sqlite3.Connection, product: str) -> list[float | None]:
    """When each batch was frozen (Unix s), oldest first; None where its bytes do not say.

    The bytes are where it stands: `sent_at` is the instant of the freeze, in every protocol.
    """
    return [
        unix_of(bytes(one).decode("ascii", "replace"))
        for (one,) in sql.execute(
            "SELECT substr(body, instr(body, :key) + :length, 24) FROM outbox WHERE product = :product"
            " ORDER BY id",
            {"product": product, "key": _SENT_AT, "length": len(_SENT_AT)},
        )
    ]


def holds_any(sql: sqlite3.Connection, product: str) -> bool:
    """Whether anything of a product is here."""
    found = sql.execute("SELECT 1 FROM outbox WHERE product = ? LIMIT 1", (product,)).fetchone()
    return found is not None


def remove_all(sql: sqlite3.Connection, product: str, rows: int = -1) -> int:
    """Drop every batch of a product, or so many of them: consent is off. How many went."""
    return sql.execute(
        "DELETE FROM outbox WHERE id IN (SELECT id FROM outbox WHERE product = ? LIMIT ?)",
        (product, rows),
    ).rowcount


def _select(sql: sqlite3.Connection, product: str, rest: str) -> list[Batch]:
    return [
        Batch(
            batch_id=row[0],
            product=row[1],
            machine_id=row[2],
            contract=row[3],
            expires_at=row[4],
            body=row[5],
            events=row[6],
            counted=row[7],
            lost=json.loads(row[8]),
        )
        for row in sql.execute(
            "SELECT batch_id, product, machine_id, contract, expires_at, body, events, counted, lost"
            f" FROM outbox WHERE product = ? {rest}",
            (product,),
        )
    ]

"""Buckets: the sums of the days that are not sealed yet, and the single events beside them.

It owns the tables `envelope`, `bucket`, `event` and `delta`, and every statement on them. Each
function works inside a transaction that its caller opened, so that a hand-over is visible as one
`with` block in the station. Adding is one additive upsert per measure; sums saturate at MAX_SUM.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from tallyd.body import canonical
from tallyd.limits import MAX_SUM

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator, Mapping

# In a kept envelope, the id that the hosts of a derived identity gave: no envelope field may be called so.
ID_KEY = "machine_id"

# What a sum is kept under: day, envelope (canonical text), event, dimensions (canonical text), measure.
BucketKey = tuple[str, str, str, str, str]


@dataclass(frozen=True, slots=True)
class Row:
    """One bucket with all its measures."""

    day: str
    event: str
    envelope: Mapping[str, object]
    dimensions: Mapping[str, object]
    measures: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class PendingEvent:
    """One single event; `id` is its place in the order of arrival."""

    id: int
    event: str
    ts: str
    envelope: Mapping[str, object]
    properties: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class NewEvent:
    """A single event on its way in: envelope and properties as canonical text."""

    envelope: str
    event: str
    ts: str
    properties: str


def known_deltas(sql: sqlite3.Connection, ids: Iterable[int]) -> set[int]:
    """Those of `ids` that were merged before."""
    wanted = json.dumps(list(ids))
    return {
        row[0]
        for row in sql.execute(
            "SELECT id FROM delta WHERE id IN (SELECT value FROM json_each(?))", (wanted,)
        )
    }


def remember_deltas(sql: sqlite3.Connection, ids: Iterable[int], today: str) -> None:
    """Record the names of merged deltas, in the transaction of their sums."""
    sql.executemany("INSERT INTO delta VALUES (?, ?)", ((one, today) for one in ids))


def count_deltas(sql: sqlite3.Connection) -> int:
    """How many merged deltas are remembered."""
    return int(sql.execute("SELECT count(*) FROM delta").fetchone()[0])


def forget_deltas_before(sql: sqlite3.Connection, day: str, rows: int = -1) -> int:
    """Forget names seen before `day`, or so many of them: a delta that old is refused for its day."""
    return sql.execute(
        "DELETE FROM delta WHERE id IN (SELECT id FROM delta WHERE seen_day < ? LIMIT ?)",
        (day, rows),
    ).rowcount


def add_sums(sql: sqlite3.Connection, product: str, sums: Mapping[BucketKey, int]) -> None:
    """Add each sum to its bucket."""
    envelopes = {
        text: _envelope_id(sql, product, text) for text in dict.fromkeys(key[1] for key in sums)
    }
    sql.executemany(
        "INSERT INTO bucket VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE"
        f" SET value = min(value + excluded.value, {MAX_SUM})",
        (
            (product, day, envelopes[envelope], event, dimensions, measure, min(value, MAX_SUM))
            for (day, envelope, event, dimensions, measure), value in sums.items()
        ),
    )


def add_events(sql: sqlite3.Connection, product: str, events: Iterable[NewEvent]) -> None:
    """Keep single events, in the order given."""
    sql.executemany(
        "INSERT INTO event (product, envelope_id, event, ts, properties) VALUES (?, ?, ?, ?, ?)",
        (
            (product, _envelope_id(sql, product, one.envelope), one.event, one.ts, one.properties)
            for one in events
        ),
    )


def rows(sql: sqlite3.Connection, product: str, before_day: str = "9999") -> Iterator[Row]:
    """Every bucket of days before `before_day`, oldest day first."""
    found = sql.execute(
        "SELECT day, event, envelope.fields, dimensions, measure, value FROM bucket"
        " JOIN envelope ON envelope.id = envelope_id"
        " WHERE bucket.product = ? AND day < ?"
        " ORDER BY day, envelope_id, event, dimensions, measure",
        (product, before_day),
    )
    for (day, event, envelope, dimensions), group in groupby(found, key=lambda one: one[:4]):
        yield Row(
            day,
            event,
            json.loads(envelope),
            json.loads(dimensions),
            {measure: value for *_, measure, value in group},
        )


def events(sql: sqlite3.Connection, product: str) -> Iterator[PendingEvent]:
    """Every single event that waits, in the order of arrival."""
    for one, event, ts, envelope, properties in sql.execute(
        "SELECT event.id, event, ts, envelope.fields, properties FROM event"
        " JOIN envelope ON envelope.id = envelope_id WHERE event.product = ? ORDER BY event.id",
        (product,),
    ):
        yield PendingEvent(one, event, ts, json.loads(envelope), json.loads(properties))


def remove_sealed(sql: sqlite3.Connection, product: str, before_day: str, last_event: int) -> None:
    """Remove what a seal has just frozen, in its transaction."""
    sql.execute("DELETE FROM bucket WHERE product = ? AND day < ?", (product, before_day))
    sql.execute("DELETE FROM event WHERE product = ? AND id <= ?", (product, last_event))


def holds_any(sql: sqlite3.Connection, product: str) -> bool:
    """Whether anything of a product is here."""
    found = sql.execute("SELECT 1 FROM envelope WHERE product = ? LIMIT 1", (product,)).fetchone()
    return found is not None


def remove_all(sql: sqlite3.Connection, product: str, rows: int = -1) -> int:
    """Remove everything of a product, or so many rows of it: consent is off. How many went."""
    gone = 0
    for table, key in (
        ("bucket", "product, day, envelope_id, event, dimensions, measure"),
        ("event", "id"),
        ("envelope", "id"),
    ):
        of_it = f"FROM {table} WHERE product = :product"
        piece = f" AND ({key}) IN (SELECT {key} {of_it} LIMIT :rows)" if rows > 0 else ""
        gone += sql.execute(f"DELETE {of_it}{piece}", {"product": product, "rows": rows}).rowcount
    return gone


def sizes(sql: sqlite3.Connection, product: str) -> tuple[int, int]:
    """(days, rows) of the buckets not sealed."""
    days, count = sql.execute(
        "SELECT count(DISTINCT day), count(DISTINCT"
        " day || char(0) || envelope_id || char(0) || event || char(0) || dimensions)"
        " FROM bucket WHERE product = ?",
        (product,),
    ).fetchone()
    return days, count


def count_events(sql: sqlite3.Connection, product: str) -> int:
    """How many single events wait."""
    found = sql.execute("SELECT count(*) FROM event WHERE product = ?", (product,)).fetchone()
    return int(found[0])


def count_sums(sql: sqlite3.Connection, product: str) -> int:
    """How many sums are stored: one per bucket and measure."""
    found = sql.execute("SELECT count(*) FROM bucket WHERE product = ?", (product,)).fetchone()
    return int(found[0])


def remove_rows(sql: sqlite3.Connection, product: str, gone: Iterable[Row]) -> None:
    """Remove these buckets."""
    sql.executemany(
        "DELETE FROM bucket WHERE product = :product AND day = :day AND event = :event"
        " AND dimensions = :dimensions AND envelope_id ="
        " (SELECT id FROM envelope WHERE product = :product AND fields = :envelope)",
        (
            {
                "product": product,
                "day": row.day,
                "event": row.event,
                "dimensions": canonical(row.dimensions),
                "envelope": canonical(row.envelope),
            }
            for row in gone
        ),
    )


def remove_oldest_events(sql: sqlite3.Connection, product: str, kept: int) -> int:
    """Keep the newest `kept` single events; returns how many went."""
    return sql.execute(
        "DELETE FROM event WHERE product = :product AND id <= (SELECT id FROM event"
        " WHERE product = :product ORDER BY id DESC LIMIT 1 OFFSET :kept)",
        {"product": product, "kept": kept},
    ).rowcount


def remove_unused_envelopes(sql: sqlite3.Connection, product: str) -> None:
    """Remove envelopes that no bucket and no event refers to any more."""
    sql.execute(
        "DELETE FROM envelope WHERE product = :product"
        " AND id NOT IN (SELECT envelope_id FROM bucket WHERE product = :product)"
        " AND id NOT IN (SELECT envelope_id FROM event WHERE product = :product)",
        {"product": product},
    )


def _envelope_id(sql: sqlite3.Connection, product: str, fields: str) -> int:
    sql.execute("INSERT OR IGNORE INTO envelope (product, fields) VALUES (?, ?)", (product, fields))
    row = sql.execute(
        "SELECT id FROM envelope WHERE product = ? AND fields = ?", (product, fields)
    ).fetchone()
    return int(row[0])

"""The embedded store: SQLite that adds.

It owns the database file. It guarantees one row per (product, day, machine, event, envelope,
dimensions, measure), summed on conflict, and that a batch is stored wholly with its id or not at
all: an id seen before writes nothing. What it acknowledged is on the disk (synchronous=FULL).
"""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import ExitStack
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from tallyd.contract.days import shift_day
from tallyd.contract.fields import MAX_INTEGER

from tallyd_ingest.limits import BATCH_ID_DAYS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from tallyd_ingest.body import Batch

SCHEMA_VERSION = 1


class StoreUnusable(Exception):
    """The database refuses; the text says why and what to do."""


class Store:
    """One open database. `accept` is called by one thread at a time; the caller sees to that."""

    def __init__(self, file: str | os.PathLike[str]) -> None:
        """Open or make the database. Raises StoreUnusable."""
        self._file = file
        self._pruned_on = ""
        with ExitStack() as on_failure:
            try:
                os.close(os.open(file, os.O_RDWR | os.O_CREAT, 0o600))
                self._sql = sqlite3.connect(
                    file, timeout=5, isolation_level=None, check_same_thread=False
                )
                on_failure.callback(self._sql.close)
                self._opened = _identity(file)
                self._make_ready()
            except (OSError, sqlite3.Error) as error:
                raise StoreUnusable(
                    f"{file} cannot be opened: {error}; free space or mend its permissions"
                ) from error
            on_failure.pop_all()

    def accept(self, batch: Batch, today: str) -> bool:
        """Add a batch; False when its id was seen before. Raises StoreUnusable, then nothing is kept."""
        try:
            # SQLite goes on writing to a file that was moved away or deleted, where nobody looks.
            if _identity(self._file) != self._opened:
                raise StoreUnusable(f"{self._file} is another file now; restart to use it")
            self._sql.execute("BEGIN IMMEDIATE")
            try:
                is_new = self._accept(batch, today)
            except BaseException:
                self._sql.rollback()
                raise
            self._sql.commit()
        except (OSError, sqlite3.Error) as error:
            if self._sql.in_transaction:
                self._sql.rollback()
            raise StoreUnusable(str(error)) from error
        if is_new:
            self._pruned_on = today
        return is_new

    def rows(self) -> Iterator[dict[str, object]]:
        """Every rollup row, oldest day first, as `export --json` prints it."""
        found = self._read(
            "SELECT product, day, machine_id, event, envelope, dimensions, measure, value"
            " FROM rollup ORDER BY day, product, machine_id, event, envelope, dimensions, measure"
        )
        for key, group in groupby(found, key=lambda one: one[:6]):
            product, day, machine_id, event, envelope, dimensions = key
            yield {
                "product": product,
                "machine_id": machine_id,
                "day": day,
                "event": event,
                "envelope": json.loads(envelope),
                "dimensions": json.loads(dimensions),
                "measures": {measure: value for *_, measure, value in group},
            }

    def events(self) -> Iterator[dict[str, object]]:
        """Every single event, in the order of arrival, as `export --events --json` prints it."""
        for product, machine_id, event, ts, envelope, properties in self._read(
            "SELECT product, machine_id, event, ts, envelope, properties FROM event ORDER BY id"
        ):
            yield {
                "product": product,
                "machine_id": machine_id,
                "event": event,
                "ts": ts,
                "envelope": json.loads(envelope),
                "properties": json.loads(properties),
            }

    def close(self) -> None:
        """Close the database."""
        self._sql.close()

    def _accept(self, batch: Batch, today: str) -> bool:
        if batch.batch_id is not None:
            added = self._sql.execute(
                "INSERT OR IGNORE INTO batch VALUES (?, ?)", (batch.batch_id, today)
            ).rowcount
            if not added:
                return False
        add = f"ON CONFLICT DO UPDATE SET value = min(value + excluded.value, {MAX_INTEGER})"
        who = (batch.product, batch.machine_id)
        self._sql.executemany(
            f"INSERT INTO rollup VALUES (?, ?, ?, ?, ?, ?, ?, ?) {add}",
            (
                (who[0], day, who[1], event, batch.envelope, dimensions, measure, value)
                for day, event, dimensions, measures in batch.rollups
                for measure, value in measures.items()
            ),
        )
        self._sql.executemany(
            "INSERT INTO event (product, received_day, machine_id, event, ts, envelope, properties)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                (who[0], today, who[1], name, ts, batch.envelope, text)
                for name, ts, text in batch.events
            ),
        )
        self._sql.executemany(
            f"INSERT INTO lost VALUES (?, ?, ?, ?, ?) {add}",
            ((who[0], today, who[1], cause, count) for cause, count in batch.lost.items()),
        )
        if self._pruned_on != today:
            self._sql.execute(
                "DELETE FROM batch WHERE seen_day < ?", (shift_day(today, -BATCH_ID_DAYS),)
            )
        return True

    def _make_ready(self) -> None:
        """Bring the file to this schema. Raises StoreUnusable when it is not ours to touch."""
        version = self._sql.execute("PRAGMA user_version").fetchone()[0]
        if version > SCHEMA_VERSION:
            raise StoreUnusable(
                f"{self._file} was written by a newer tallyd-ingest; upgrade this one"
            )
        if version < 1 and self._sql.execute("SELECT 1 FROM sqlite_schema").fetchone() is not None:
            raise StoreUnusable(f"{self._file} is another program's database; give another file")
        self._sql.execute("PRAGMA journal_mode = WAL")
        self._sql.execute("PRAGMA synchronous = FULL")
        if version < 1:
            script = Path(__file__).with_name("schema.sql").read_text(encoding="utf-8")
            self._sql.executescript(
                f"BEGIN; {script}; PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
            )

    def _read(self, query: str) -> Iterator[tuple[Any, ...]]:
        try:
            yield from self._sql.execute(query)
        except sqlite3.Error as error:
            raise StoreUnusable(f"{self._file} cannot be read: {error}") from error


def _identity(file: str | os.PathLike[str]) -> tuple[int, int]:
    """Which file this is, whatever its name."""
    found = os.stat(file)
    return found.st_dev, found.st_ino

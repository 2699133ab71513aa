"""Wrong orderings, kept on purpose: a kill in the right place makes each of them lose or double counts.

Each is right as long as nobody is killed, so only a crash can tell it from the right one. An
injector that does not catch it proves nothing about the right order. They are put around stable
seams (a transaction, a request, the next batch), not into the stations.
"""

from __future__ import annotations

import os
import re
import sqlite3
import stat
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

_OF_NAMES = re.compile(r"INSERT\b.*\bINTO delta\b", re.DOTALL)
_MERGE_BATCH_FILES = 1024


def apply(name: str, home: str) -> None:
    """Make this process do it wrong."""
    WRONG[name](Path(home, "state"))


def _files_first(state: Path) -> None:
    """Files leave `new/` before the sums that they became are committed."""
    from tallyd.store import Store

    right = Store.transaction

    @contextmanager
    def transaction(self: Store) -> Iterator[sqlite3.Connection]:
        with right(self) as sql:
            before = _sums(sql)
            yield sql
            grown = _grown(before, _sums(sql))
            for product in grown:
                new = state / "spool" / product / "new"
                for file in sorted(new.iterdir())[:_MERGE_BATCH_FILES]:
                    # What is malformed is not merged but set aside.
                    if file.is_file() and file.read_bytes()[-1:] == b"}":
                        file.unlink()

    Store.transaction = transaction  # type: ignore[method-assign]


def _sums(sql: sqlite3.Connection) -> dict[str, int]:
    if sql.execute("PRAGMA user_version").fetchone()[0] == 0:
        return {}  # no tables yet
    rows = sql.execute(
        "SELECT product, sum(n) FROM (SELECT product, value AS n FROM bucket UNION ALL"
        " SELECT product, 1 FROM event UNION ALL SELECT product, total FROM loss) GROUP BY product"
    )
    return dict(rows.fetchall())


def _grown(before: dict[str, int], after: dict[str, int]) -> list[str]:
    return [product for product, total in after.items() if total > before.get(product, 0)]


class _NamesLater:
    """A connection that keeps the statements on remembered names for later, row by row."""

    def __init__(self, sql: sqlite3.Connection) -> None:
        self._sql = sql
        self.later: list[Callable[[], object]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sql, name)

    def execute(self, statement: str, *parameters: Any) -> Any:
        if _OF_NAMES.match(statement):
            self.later.append(lambda: self._sql.execute(statement, *parameters))
            return None
        return self._sql.execute(statement, *parameters)

    def executemany(self, statement: str, rows: Any) -> Any:
        if _OF_NAMES.match(statement):
            rows = list(rows)
            known = [
                row
                for row in rows
                if self._sql.execute("SELECT 1 FROM delta WHERE id = ?", row[:1]).fetchone()
            ]
            late = statement.replace("INSERT INTO", "INSERT OR IGNORE INTO")
            for row in rows:
                self.later.append(lambda row=row: self._sql.execute(late, row))
            return SimpleNamespace(rowcount=len(rows) - len(known))
        return self._sql.executemany(statement, rows)


def _names_later(state: Path) -> None:
    """Sums are committed first, and then the names of their deltas, each in a transaction of its own."""
    from tallyd.store import Store

    right = Store.transaction

    @contextmanager
    def transaction(self: Store) -> Iterator[sqlite3.Connection]:
        with right(self) as sql:
            between = _NamesLater(sql)
            yield between  # type: ignore[misc]
        if between.later:
            # Long enough for a kill at random to fall into it.
            time.sleep(0.05)
        for one in between.later:
            with right(self):
                one()

    Store.transaction = transaction  # type: ignore[method-assign]


def _out_first(state: Path) -> None:
    """A batch leaves the outbox before the request, and comes back when the answer is no."""
    from tallyd import transport

    right = transport.post

    async def post(url: str, body: bytes, timeout_s: float) -> transport.Answer:
        sql = sqlite3.connect(state / "tallyd.db", isolation_level=None, timeout=10)
        try:
            columns = "id, product, batch_id, machine_id, contract, expires_at, body, events, counted, lost"
            row = sql.execute(f"SELECT {columns} FROM outbox WHERE body = ?", (body,)).fetchone()
            sql.execute("DELETE FROM outbox WHERE body = ?", (body,))
            answer = await right(url, body, timeout_s)
            if answer.status != 204:
                sql.execute(f"INSERT INTO outbox ({columns}) VALUES ({', '.join('?' * 10)})", row)
        finally:
            sql.close()
        return answer

    transport.post = post


def _new_id_each_time(state: Path) -> None:
    """A batch gets another id each time it is taken to be sent."""
    from tallyd import outbox

    right = outbox.oldest

    def oldest(sql: sqlite3.Connection, product: str) -> Any:
        found = sql.execute(
            "SELECT batch_id, body FROM outbox WHERE product = ? ORDER BY id LIMIT 1", (product,)
        ).fetchone()
        if found is not None:
            another = str(uuid.uuid4())
            body = found[1].replace(found[0].encode(), another.encode())
            sql.execute(
                "UPDATE outbox SET batch_id = ?, body = ? WHERE batch_id = ?",
                (another, body, found[0]),
            )
        return right(sql, product)

    outbox.oldest = oldest


def _file_in_place(_: Path) -> None:
    """A host writes its file where it is read, instead of beside it and then in one rename."""
    from tallyd_client import _drop

    def publish(spool: str, seq: int, content: bytes) -> str | None:
        name = f"{int(time.time() * 1000):013d}-{os.getpid()}-{seq}-{os.urandom(8).hex()}.json"
        target = os.path.join(spool, "new", name)
        _drop._make_directories(spool)
        descriptor = os.open(target, _drop.OPEN_FLAGS, 0o600)
        for part in (content[:100], content[100:]):
            # Opened once more so that the injector inside has a step between the two halves.
            os.close(os.open(target, os.O_RDONLY))
            os.write(descriptor, part)
        os.close(descriptor)
        return target

    _drop._publish = publish


def _weak_sync(state: Path, word: str) -> None:
    right = sqlite3.connect

    class Weak(sqlite3.Connection):
        def execute(self, statement: str, *parameters: Any) -> Any:
            is_it = "PRAGMA synchronous" in statement
            return super().execute(
                f"PRAGMA synchronous = {word}" if is_it else statement, *parameters
            )

    sqlite3.connect = lambda *args, **more: right(*args, factory=Weak, **more)  # type: ignore[assignment, misc]


def _sync_never(state: Path) -> None:
    """Commits are not synced at all."""
    _weak_sync(state, "OFF")


def _sync_at_checkpoint(state: Path) -> None:
    """Commits are synced when the log is copied back, not one by one: SQLite's NORMAL."""
    _weak_sync(state, "NORMAL")


def _no_file_sync(_: Path) -> None:
    """Small files are renamed into place without a sync of their text."""
    right = os.fsync

    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            right(descriptor)

    os.fsync = fsync  # type: ignore[assignment]


def _no_rename_sync(_: Path) -> None:
    """Small files are renamed into place without a sync of the name."""
    right = os.fsync

    def fsync(descriptor: int) -> None:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            right(descriptor)

    os.fsync = fsync  # type: ignore[assignment]


WRONG: dict[str, Callable[[Path], None]] = {
    "files_first": _files_first,
    "names_later": _names_later,
    "out_first": _out_first,
    "new_id_each_time": _new_id_each_time,
    "file_in_place": _file_in_place,
    "sync_never": _sync_never,
    "sync_at_checkpoint": _sync_at_checkpoint,
    "no_file_sync": _no_file_sync,
    "no_rename_sync": _no_rename_sync,
}
# Those of the daemon that a kill can tell; the next is a host's, the last four need a power cut.
OF_THE_DAEMON = tuple(WRONG)[:4]
UNTIL_A_POWER_CUT = tuple(WRONG)[5:]

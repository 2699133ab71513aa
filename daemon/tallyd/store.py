"""The only module that opens SQLite.

It owns the connection, its pragmas, the schema's version and the translation of SQLite's errors
into StateUnusable. It guarantees that `transaction()` is all or nothing and durable when it returns
(WAL, synchronous=FULL). It does not know what the tables mean; the SQL stands with the places.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import time
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from tallyd import __version__
from tallyd.errors import StateDamaged, StateFull, StateMoved, StateNewer, StateUnusable, refused
from tallyd.files import make_directory
from tallyd.limits import FULL_BELOW_BYTES, LOG_PAGES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tallyd.paths import Paths

SCHEMA_VERSION = 1
# One writer by the lock, so a wait can only be a reader's checkpoint: milliseconds.
_BUSY_TIMEOUT_S = 2.0
_AS_IT_LIES = "mode=ro&immutable=1"
_DAMAGE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_MAYBE_FULL = frozenset({sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN})


class Store:
    """One open database. Used by one thread at a time; the caller sees to that."""

    def __init__(self, connection: sqlite3.Connection, file: Path) -> None:
        self._connection = connection
        self._file = file
        about = file.stat()
        self._identity = (about.st_dev, about.st_ino)
        self._guard: Callable[[], None] = lambda: None

    def guard(self, check: Callable[[], None]) -> None:
        """Let `check` too look before every transaction; it raises StateMoved when another may write."""
        self._guard = check

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """One hand-over: everything inside is committed at its end, or nothing is.

        Raises StateUnusable when SQLite refuses (full, read-only, damaged, locked), and StateMoved
        when the file is not the one that was opened.
        """
        self.check_place()
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.rollback()
                raise
            self._connection.commit()
        except sqlite3.Error as error:
            if self._connection.in_transaction:
                self._connection.rollback()
            problem = _unusable(self._file, error)
            if isinstance(problem, StateFull):
                # What the log holds has a place in the database: its room is for the next try.
                with suppress(StateUnusable):
                    self.empty_log()
            raise problem from error

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A consistent view: every statement inside sees the same moment.

        Raises as `transaction` does.
        """
        self.check_place()
        try:
            self._connection.execute("BEGIN")
            try:
                yield self._connection
            finally:
                self._connection.rollback()
        except sqlite3.Error as error:
            raise _unusable(self._file, error) from error

    def scrub(self) -> None:
        """Let no byte of deleted rows stay in the files, and give their room back.

        Raises StateUnusable; StateFull where there is no room for the copy that this makes.
        """
        self._run("VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)")

    @contextmanager
    def zeroing(self) -> Iterator[None]:
        """While inside, each deleted row is overwritten at once, which needs no copy of the rest."""
        self._run("PRAGMA secure_delete = ON")
        try:
            yield
        finally:
            self._run("PRAGMA secure_delete = OFF")

    def empty_log(self) -> None:
        """Write the log back into the database and give its room back. Raises StateUnusable."""
        self._run("PRAGMA wal_checkpoint(TRUNCATE)")

    def _run(self, *statements: str) -> None:
        self.check_place()
        try:
            for one in statements:
                self._connection.execute(one).fetchall()
        except sqlite3.Error as error:
            raise _unusable(self._file, error) from error

    def check_place(self) -> None:
        """Raise StateMoved when the file is not the one that was opened, or the guard says so."""
        self._guard()
        try:
            about = self._file.stat()
            moved = (about.st_dev, about.st_ino) != self._identity
        except OSError:
            moved = True
        if moved:
            raise StateMoved(f"{self._file} was removed or replaced", "start tallyd again")

    def close(self) -> None:
        """Close the database; a second call does nothing."""
        self._connection.close()


def refuse_newer(paths: Paths) -> None:
    """Raise StateNewer when the database is a newer tallyd's, before one byte of anything is changed.

    To be asked before the lock is taken, whose text tells of its last holder, and before the database
    is opened for writing, for closing it writes back a log that a kill has left.
    """
    _refuse_newer_as_it_lies(paths.database)
    if _has_log(paths.database):
        with suppress(sqlite3.Error):
            _open_read_only(paths.database, "mode=ro")[0].close()


def _refuse_newer_as_it_lies(file: Path) -> None:
    """By the file alone, so that SQLite makes none beside it; a file torn by a writer says nothing."""
    with suppress(sqlite3.Error):
        _open_read_only(file, _AS_IT_LIES)[0].close()


def open_store(paths: Paths) -> Store:
    """Open the database for writing, making or migrating it first. The caller holds the lock.

    Raises StateUnusable when it cannot be made, is damaged, or comes from a newer tallyd.
    """
    file = paths.database
    make_directory(paths.state)
    try:
        # Made by us before SQLite does, so that it is never readable by others, not for a moment.
        os.close(os.open(file, os.O_RDWR | os.O_CREAT, 0o600))
    except IsADirectoryError as error:
        raise _damaged(file, "is a directory") from error
    except OSError as error:
        raise refused(f"{file} cannot be opened", error) from error
    connection = None
    try:
        connection = sqlite3.connect(
            file, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
        )
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA wal_autocheckpoint = {LOG_PAGES}")
        store = Store(connection, file)
        _migrate(store)
    except BaseException as error:
        if connection is not None:
            connection.close()
        if isinstance(error, sqlite3.Error):
            raise _unusable(file, error) from error
        raise
    return store


def open_store_for_reading(paths: Paths) -> Store | None:
    """Open the database without changing a row of it; None when there is none yet.

    Raises StateUnusable when it is damaged or comes from a newer tallyd.
    """
    file = paths.database
    try:
        # 0 bytes: made, and then killed before the schema was committed. Nothing was ever kept.
        if file.stat().st_size == 0:
            return None
        _refuse_newer_as_it_lies(file)
        connection, version = _open_read_only(file, "mode=ro")
    except FileNotFoundError:
        return None
    except sqlite3.OperationalError:
        # A read-only file system has no room for the log's index. Nobody writes there: take the
        # file as it is.
        try:
            connection, version = _open_read_only(file, _AS_IT_LIES)
        except sqlite3.Error as error:
            raise _unusable(file, error) from error
    except (OSError, sqlite3.Error) as error:
        raise _unusable(file, error) from error
    return Store(connection, file) if version else None


def examine(paths: Paths, patience_s: float, *, is_held: bool) -> str | None:
    """Look whether the database is whole, for at most `patience_s`, and leave no file behind.

    "" where it is, words where that stayed open, None where there is none. `is_held`: whether
    somebody holds the lock, and so may write meanwhile. Raises StateUnusable for what is wrong.
    """
    file = paths.database
    try:
        about = file.stat()
        if not stat.S_ISREG(about.st_mode):
            raise _damaged(file, "is no regular file")
        if about.st_size == 0:
            return None
        # A reader makes the log and its index where there are none, and leaves them. Without a log
        # and a writer the file stands still, and can be taken as it is.
        is_still = not is_held and not _has_log(file)
        if not is_held and not is_still and not os.path.exists(f"{file}-shm"):
            return "a kill left its log behind without an index; the next start reads it"
        how = _AS_IT_LIES if is_still or not _is_writable(file) else "mode=ro"
        connection, version = _open_read_only(file, how)
    except FileNotFoundError:
        return None
    except (OSError, sqlite3.Error) as error:
        raise _unusable(file, error) from error
    deadline = time.monotonic() + patience_s
    with closing(connection):
        try:
            # Asked every few thousand steps of SQLite's machine: a fraction of a millisecond.
            connection.set_progress_handler(lambda: time.monotonic() > deadline, 10_000)
            said = [str(row[0]) for row in connection.execute("PRAGMA quick_check(1)")]
        except sqlite3.Error as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
                return f"no damage was found within {patience_s:g} s, and not all of it was read"
            raise _unusable(file, error) from error
    if said != ["ok"]:
        raise _damaged(file, "; ".join(said))
    return "" if version else None


def _has_log(file: Path) -> bool:
    try:
        return os.stat(f"{file}-wal").st_size > 0
    except OSError:
        return False


def _is_writable(file: Path) -> bool:
    return os.access(file.parent, os.W_OK)


def _open_read_only(file: Path, how: str) -> tuple[sqlite3.Connection, int]:
    connection = sqlite3.connect(
        f"{file.absolute().as_uri()}?{how}", uri=True, timeout=_BUSY_TIMEOUT_S, isolation_level=None
    )
    try:
        return connection, _version(connection, file)
    except BaseException:
        connection.close()
        raise


def _migrate(store: Store) -> None:
    """Bring the schema to SCHEMA_VERSION: numbered steps, forward only."""
    with store.transaction() as sql:
        if _version(sql, store._file) < 1:  # noqa: SLF001 - the same module
            script = Path(__file__).with_name("schema.sql").read_text(encoding="utf-8")
            for statement in script.split(";\n"):
                sql.execute(statement)
            sql.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _version(connection: sqlite3.Connection, file: Path) -> int:
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    _refuse(version, file)
    return version


def _refuse(version: int, file: Path) -> None:
    if version > SCHEMA_VERSION:
        raise StateNewer(
            f"{file} was written by a newer tallyd (schema {version}; this is {__version__}, which"
            f" knows {SCHEMA_VERSION}), and is left as it is",
            "use the newer one again: uv tool upgrade tallyd, pipx upgrade tallyd, or pip install"
            f" --upgrade tallyd; or move {file}* away, and begin anew without what is in there",
        )


def _unusable(file: Path, error: Exception) -> StateUnusable:
    code = getattr(error, "sqlite_errorcode", 0)
    if "Could not decode to UTF-8" in str(error):
        # Python's own word for a text that no writer of ours wrote.
        return _damaged(file, "a text in it is no UTF-8")
    if code & 0xFF in _DAMAGE:
        return _damaged(file, str(error))
    what = f"{file} cannot be used: {error}"
    # Where there is no room for the index of its log, SQLite speaks of an I/O error.
    if code & 0xFF == sqlite3.SQLITE_FULL or (code & 0xFF in _MAYBE_FULL and _is_full(file)):
        return StateFull(what, "free space on that disk")
    if code & 0xFF == sqlite3.SQLITE_BUSY:
        return StateUnusable(what, "wait for the program that holds it, or end it")
    if code & 0xFF == sqlite3.SQLITE_READONLY:
        return StateUnusable(what, "mount that disk writable again, or mend the file's permissions")
    return StateUnusable(what, "look at that disk and at the file's permissions")


def _damaged(file: Path, why: str) -> StateDamaged:
    return StateDamaged(
        f"{file} is damaged: {why}",
        "tallyd sets it aside at its next start and begins anew; what it held is lost",
    )


def _is_full(file: Path) -> bool:
    try:
        disk = os.statvfs(file.parent)
    except (OSError, AttributeError):
        return False
    return disk.f_bavail * disk.f_frsize < FULL_BELOW_BYTES

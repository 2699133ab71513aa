"""Runs: when each daemon began and how it ended.

It owns the table `run`. A run without a reason was killed hard, or is the one that lives now. Every
function works inside its caller's transaction.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from tallyd.contract.frozen import Frozen
from tallyd.limits import RUNS_MAX_ROWS

if TYPE_CHECKING:
    import sqlite3


class StopReason(Enum):
    """Why a run ended. The numbers are persisted, never renumber."""

    SIGNAL = 1  # SIGTERM, SIGINT, SIGHUP
    REQUEST = 2  # asked by a command
    IDLE = 3  # on demand, and nothing to do
    CRASH = 4  # an error of ours
    UNCLEAN = 5  # killed hard: found out at the next start

    @property
    def word(self) -> str:
        """The reason as logs, events and `status` say it."""
        return self.name.lower()


class Stop(Frozen):
    """A recorded stop: when (Unix s), why, and how long the run had been up."""

    at: float
    reason: StopReason
    uptime_s: float


def begin(sql: sqlite3.Connection, pid: int, version: str, started_at: float) -> int:
    """Record a start; returns the run's id. The oldest runs go."""
    row = sql.execute(
        "INSERT INTO run (pid, version, started_at) VALUES (?, ?, ?) RETURNING id",
        (pid, version, started_at),
    ).fetchone()
    sql.execute("DELETE FROM run WHERE id <= ?", (row[0] - RUNS_MAX_ROWS,))
    return int(row[0])


def end(sql: sqlite3.Connection, run_id: int, stop: Stop) -> tuple[int, str] | None:
    """Record a stop; (pid, version) of that run, None when its stop is recorded already."""
    found: tuple[int, str] | None = sql.execute(
        "UPDATE run SET stopped_at = ?, reason = ?, uptime_s = ? WHERE id = ? AND reason IS NULL"
        " RETURNING pid, version",
        (stop.at, stop.reason.value, stop.uptime_s, run_id),
    ).fetchone()
    return found


def unfinished(sql: sqlite3.Connection) -> list[tuple[int, float]]:
    """(id, started_at) of every run without a stop."""
    return sql.execute("SELECT id, started_at FROM run WHERE reason IS NULL ORDER BY id").fetchall()


def last_stop(sql: sqlite3.Connection) -> Stop | None:
    """The newest recorded stop."""
    row = sql.execute(
        "SELECT stopped_at, reason, uptime_s FROM run WHERE reason IS NOT NULL ORDER BY id DESC LIMIT 1"
    ).fetchone()
    return None if row is None else Stop(row[0], StopReason(row[1]), row[2])

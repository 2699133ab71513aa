"""Heartbeat: the daemon's own life, from start to stop.

It owns the table `run`, and makes `daemon_started` and `daemon_stopped`: logged always, kept as
single events for the products whose contract lists them and whose consent is on. A run without a
stop was killed hard; whoever takes the lock next records it as `unclean`, up at the last heartbeat.
"""

from __future__ import annotations

import logging
import platform
from enum import Enum
from typing import TYPE_CHECKING

from tallyd import __version__, buckets, logs
from tallyd.contract.days import instant
from tallyd.contract.screen import screen_envelope, screen_event
from tallyd.limits import RUNS_MAX_ROWS
from tallyd.wire import canonical

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Mapping

    from tallyd.lock import Holder
    from tallyd.product import ProductView
    from tallyd.store import Store

_log = logging.getLogger(__name__)


class StopReason(Enum):
    """Why a run ended. The numbers are persisted, never renumber."""

    SIGNAL = 1  # SIGTERM, SIGINT, SIGHUP
    REQUEST = 2  # asked by a command
    IDLE = 3  # on demand, and nothing to do
    CRASH = 4  # an error of ours
    UNCLEAN = 5  # killed hard: found out at the next start


def record_start(
    store: Store, holder: Holder, startup_ms: int, views: Iterable[ProductView], now: float
) -> int:
    """Record that this run began; returns its id."""
    facts = {
        "daemon_version": __version__,
        "python_version": platform.python_version(),
        "startup_ms": startup_ms,
    }
    with store.transaction() as sql:
        run_id = sql.execute(
            "INSERT INTO run (pid, version, started_at) VALUES (?, ?, ?)",
            (holder.pid, holder.version, holder.started_at),
        ).lastrowid
        sql.execute("DELETE FROM run WHERE id <= ?", ((run_id or 0) - RUNS_MAX_ROWS,))
        _keep(sql, "daemon_started", facts, views, now)
    _log.info(logs.line("daemon_started", **facts))
    return run_id or 0


def record_stop(
    store: Store,
    run_id: int,
    reason: StopReason,
    uptime_s: float,
    views: Iterable[ProductView],
    now: float,
) -> None:
    """Record that a run ended. Raises StateUnusable."""
    with store.transaction() as sql:
        changed = sql.execute(
            "UPDATE run SET stopped_at = ?, reason = ?, uptime_s = ? WHERE id = ? AND reason IS NULL",
            (now, reason.value, uptime_s, run_id),
        ).rowcount
        if not changed:
            return
        facts = {"reason": reason.name.lower(), "uptime_s": int(uptime_s)}
        _keep(sql, "daemon_stopped", facts, views, now)
    _log.info(logs.line("daemon_stopped", **facts))


def recover(store: Store, last_beat: float, views: Iterable[ProductView]) -> None:
    """Record the stop of every run that was killed hard, at the last heartbeat. Call under the lock."""
    views = list(views)
    with store.reading() as sql:
        open_runs = sql.execute("SELECT id, started_at FROM run WHERE reason IS NULL").fetchall()
    for run_id, started_at in open_runs:
        # A clock set back can put the beat before the start; an uptime is never negative.
        stopped_at = max(last_beat, started_at)
        record_stop(store, run_id, StopReason.UNCLEAN, stopped_at - started_at, views, stopped_at)


def last_stop(sql: sqlite3.Connection) -> dict[str, object] | None:
    """The newest recorded stop, for people: reason, when, uptime."""
    row = sql.execute(
        "SELECT stopped_at, reason, uptime_s FROM run WHERE reason IS NOT NULL ORDER BY id DESC LIMIT 1"
    ).fetchone()
    if row is None:
        return None
    return {"at": instant(row[0]), "reason": StopReason(row[1]).name.lower(), "uptime_s": row[2]}


def _keep(
    sql: sqlite3.Connection,
    event: str,
    facts: Mapping[str, object],
    views: Iterable[ProductView],
    now: float,
) -> None:
    for view in views:
        screened = screen_event(view.contract, event, facts) if view.consent.is_on else None
        if screened is not None:
            envelope = canonical(screen_envelope(view.contract, {})[0])
            new = buckets.NewEvent(envelope, event, instant(now), canonical(screened.properties))
            buckets.add_events(sql, view.name, [new])

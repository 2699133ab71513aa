"""Heartbeat: the daemon's own life, from start to stop.

It makes `daemon_started` and `daemon_stopped`: logged always, kept as
single events for the products whose contract lists them and whose consent is on. A run without a
stop was killed hard; whoever takes the lock next records it as `unclean`, up at the last heartbeat.
"""

from __future__ import annotations

import logging
import platform
from typing import TYPE_CHECKING

from tallyd import __version__, buckets, logs, runs
from tallyd.body import canonical
from tallyd.contract.days import day_of, instant
from tallyd.contract.screen import screen_envelope, screen_event
from tallyd.runs import Stop, StopReason

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Mapping

    from tallyd.lock import HeldLock, Holder
    from tallyd.product import ProductView
    from tallyd.store import Store

_log = logging.getLogger(__name__)


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
        run_id = runs.begin(sql, holder.pid, holder.version, holder.started_at)
        _keep(sql, "daemon_started", facts, views, now)
    _log.info(logs.line("daemon_started", **facts, pid=holder.pid))
    return run_id


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
        ended = runs.end(sql, run_id, Stop(now, reason, uptime_s))
        if ended is None:
            return
        facts = {"reason": reason.word, "uptime_s": int(uptime_s)}
        _keep(sql, "daemon_stopped", facts, views, now)
    pid, version = ended
    level = logging.WARNING if reason is StopReason.UNCLEAN else logging.INFO
    _log.log(level, logs.line("daemon_stopped", **facts, daemon_version=version, pid=pid))


def recover(store: Store, held: HeldLock, views: Iterable[ProductView]) -> None:
    """Record the stop of every run that was killed hard, at the last heartbeat. Call under the lock."""
    views = list(views)
    with store.reading() as sql:
        killed = runs.unfinished(sql)
    for run_id, started_at in killed:
        # A clock set back can put the beat before the start; an uptime is never negative.
        stopped_at = max(held.previous_beat, started_at)
        is_told = held.previous.started_at == started_at and held.previous.up_s > 0
        uptime_s = held.previous.up_s if is_told else stopped_at - started_at
        record_stop(store, run_id, StopReason.UNCLEAN, uptime_s, views, stopped_at)


def _keep(
    sql: sqlite3.Connection,
    event: str,
    facts: Mapping[str, object],
    views: Iterable[ProductView],
    now: float,
) -> None:
    for view in views:
        if view.contract.identity.kind == "derived":
            # Only its hosts know in whose name it would be told.
            continue
        screened = (
            screen_event(view.contract, event, facts, day_of(now)) if view.consent.is_on else None
        )
        if screened is not None:
            envelope = canonical(screen_envelope(view.contract, {}, day_of(now))[0])
            new = buckets.NewEvent(envelope, event, instant(now), canonical(screened.properties))
            buckets.add_events(sql, view.name, [new])

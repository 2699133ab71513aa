"""Status: what is, as data, from the durable state alone.

It works when the daemon is dead, which is when it is needed, and changes nothing: it makes no id,
no directory, no database. It imports none of anyio, httpx and watchfiles, so that a prompt can run
it. Instants are ISO 8601 in UTC, sizes in bytes, durations in seconds.
"""

from __future__ import annotations

import os
from contextlib import closing
from typing import TYPE_CHECKING

from tallyd import buckets, damage, ledger, lock, losses, outbox, runs, spool
from tallyd.contract.days import instant
from tallyd.errors import NotRegistered, StateUnusable
from tallyd.limits import FULL_BELOW_BYTES, HEARTBEAT_INTERVAL_S, SILENT_AFTER_S
from tallyd.product import look_at
from tallyd.store import open_store_for_reading

if TYPE_CHECKING:
    import sqlite3

    from tallyd.lock import Holder
    from tallyd.paths import Paths
    from tallyd.product import ProductView, Surroundings

RUNNING, NOT_RUNNING, NEVER_SET_UP = 0, 3, 4
UNUSABLE = StateUnusable.exit_code

# Every key of a product, there whatever its state; null where nothing is known.
_KEYS = (
    "problem",
    "consent",
    "choice_file",
    "machine_id",
    "identity",
    "contract",
    "endpoint",
    "may_leave",
    "notice_shown_at",
    "spool",
    "buckets",
    "events",
    "outbox",
    "last_attempt",
    "last_success",
    "last_verdict",
    "next_send",
    "lost",
    "stripped_fields",
)


def gather(around: Surroundings, now: float) -> tuple[dict[str, object], int]:
    """Everything `status --json` prints, and the exit code that goes with it.

    A state that cannot be used is named among the report's problems, and the rest is told.
    """
    holder = lock.current_holder(around.paths)
    running = holder if holder is not None and holder.role == "daemon" else None
    problems = _of_the_disk(around.paths)
    if around.paths.lock.is_symlink():
        why = f"{around.paths.lock} is a link, and none is followed; remove it"
        problems.append(_problem("lock", why))
    names: list[str] = []
    try:
        names = around.registry.products()
    except StateUnusable as problem:
        problems.append(_problem("contracts", problem))
    if running is not None:
        problems += _of_the_daemon(around.paths, now)
    report: dict[str, object] = {
        "schema_version": 1,
        "state": str(around.paths.state),
        "config": str(around.paths.config),
        "daemon": _daemon(running, around, now),
    }
    code, is_there = RUNNING, True
    try:
        store = open_store_for_reading(around.paths)
        is_there = store is not None
        if store is None:
            report |= _content(None, names, around, now)
        else:
            with closing(store), store.reading() as sql:
                report |= _content(sql, names, around, now)
                if holder is None and runs.unfinished(sql):
                    seen = instant(lock.last_beat(around.paths))
                    why = f'was killed, last seen at {seen}; start it again: "tallyd run"'
                    problems.append(_problem("daemon", why))
    except StateUnusable as problem:
        problems.append(_problem("database", problem))
        code = UNUSABLE
        report |= _content(None, names, around, now)
    dropping = spool.products_with_spool(around.paths)
    report["unregistered"] = sorted(set(dropping) - set(names))
    problems += _of_the_spool(around.paths, {*names, *dropping})
    report["problems"] = problems
    aside = damage.last(around.paths)
    report["last_damage"] = aside and {"at": instant(aside[0]), "kept": str(aside[1])}
    if code == RUNNING and running is None:
        is_set_up = is_there or names or dropping
        code = NOT_RUNNING if is_set_up else NEVER_SET_UP
    return report, code


def _content(
    sql: sqlite3.Connection | None, names: list[str], around: Surroundings, now: float
) -> dict[str, object]:
    return {
        "last_stop": None if sql is None else _stop(runs.last_stop(sql)),
        "products": {name: _product(sql, name, around, now) for name in names},
    }


def _problem(place: str, why: object, product: str = "") -> dict[str, object]:
    return {"place": place, "product": product, "why": str(why)}


def _of_the_daemon(paths: Paths, now: float) -> list[dict[str, object]]:
    """A daemon that lives and gives no sign of it cannot say either what is wrong."""
    beat_at = lock.last_beat(paths)
    silent_s = now - beat_at
    if not beat_at or silent_s < SILENT_AFTER_S:
        return []
    why = f"has given no sign for {silent_s:.0f} s; look at that disk, then restart tallyd"
    return [_problem("daemon", why)]


def _of_the_disk(paths: Paths) -> list[dict[str, object]]:
    """What keeps anybody from writing into the state directory."""
    if not hasattr(os, "statvfs") or not paths.state.is_dir():
        return []
    disk = os.statvfs(paths.state)
    if disk.f_flag & os.ST_RDONLY:
        return [_problem("disk", f"{paths.state} is read-only; mount that disk writable again")]
    if not os.access(paths.state, os.W_OK | os.X_OK):
        return [_problem("disk", f"{paths.state} is not writable; make it yours and writable")]
    if disk.f_bavail * disk.f_frsize < FULL_BELOW_BYTES:
        return [_problem("disk", f"{paths.state} is on a full disk; free space on it")]
    if disk.f_files and not disk.f_favail:
        return [_problem("disk", f"{paths.state} is on a disk without inodes; remove files there")]
    return []


def _of_the_spool(paths: Paths, products: set[str]) -> list[dict[str, object]]:
    """Directories that hosts and daemon leave alone, since somebody else made them what they are."""
    found = []
    places = [("", paths.spools)]
    for product in sorted(products):
        dirs = paths.spool(product)
        places += [(product, one) for one in (dirs.new.parent, dirs.new, dirs.tmp, dirs.bad)]
    for product, place in places:
        problem = spool.trap(place)
        if problem:
            found.append(_problem("spool", f"{place} {problem}; move it away", product))
    return found


def _daemon(holder: Holder | None, around: Surroundings, now: float) -> dict[str, object]:
    if holder is None:
        return {
            "running": False,
            "pid": None,
            "version": None,
            "started_at": None,
            "uptime_s": None,
            "rss_bytes": None,
            "cpu_seconds": None,
            "problems": [],
            "more_problems": 0,
        }
    rss_bytes, cpu_seconds = _cost(holder.pid, str(around.paths.lock))
    return {
        "running": True,
        "pid": holder.pid,
        "version": holder.version,
        "started_at": instant(holder.started_at),
        "uptime_s": round(_uptime_s(holder, lock.last_beat(around.paths), now), 3),
        "rss_bytes": rss_bytes,
        "cpu_seconds": cpu_seconds,
        "problems": [
            {
                "duty": one.duty,
                "product": one.product,
                "why": one.why,
                "since": instant(one.since),
                "times": one.times,
            }
            for one in holder.problems
        ],
        "more_problems": holder.more_problems,
    }


def _uptime_s(holder: Holder, beat_at: float, now: float) -> float:
    """How long the holder is up: what it said at its last heartbeat, and the time since, if that is sane.

    A clock that was set in between must not make years of a minute.
    """
    return holder.up_s + min(max(0.0, now - beat_at), 2 * HEARTBEAT_INTERVAL_S)


def _cost(pid: int, lock_file: str) -> tuple[int | None, float | None]:
    """(bytes of memory, seconds of CPU) of a process, None where it does not hold the lock's file open.

    Its number may be another program's by now: somebody else locks a file that still tells of us.
    """
    import psutil  # noqa: PLC0415 - 12 ms that only a running daemon is worth

    try:
        process = psutil.Process(pid)
        with process.oneshot():
            if os.path.realpath(lock_file) not in {one.path for one in process.open_files()}:
                return None, None
            cpu = process.cpu_times()
            return process.memory_info().rss, round(cpu.user + cpu.system, 3)
    except (psutil.Error, OSError):
        return None, None


def _product(
    sql: sqlite3.Connection | None, name: str, around: Surroundings, now: float
) -> dict[str, object]:
    report = dict.fromkeys(_KEYS)
    try:
        view = look_at(name, around, now)
    except NotRegistered as problem:
        return report | {"problem": str(problem)}
    size = spool.measure(view.spool)
    report |= {
        "problem": None,
        "consent": {
            "state": view.consent.state,
            "mode": view.consent.mode,
            "decided_by": view.consent.decided_by,
            "says_off": list(view.consent.says_off),
            "effective_from": view.consent.effective_from,
        },
        "choice_file": str(view.choice_file),
        "machine_id": view.machine_id or None,
        "identity": view.registered.identity.kind,
        "contract": {
            "digest": view.registered.short_digest,
            "schema_version": view.registered.schema_version,
            "title": view.registered.title,
            # While a wider contract waits for its notice, only what both list is kept and sent.
            "in_force": view.pending is None,
            "waits_for": view.pending.reason if view.pending is not None else "",
        },
        "endpoint": view.endpoint,
        "may_leave": {
            "open": view.gate.is_open,
            "reason": view.gate.reason,
            "opens_at": _instant(view.gate.opens_at),
        },
        "notice_shown_at": _instant(view.notice_shown_at),
        "spool": {
            "files": size.files,
            "bytes": size.bytes,
            "quarantined": size.quarantined,
            "bad": str(view.spool.bad),
        },
        "buckets": {"days": 0, "rows": 0},
        "events": 0,
        "outbox": {"batches": 0, "bytes": 0},
        "lost": {},
        "stripped_fields": 0,
    }
    return report if sql is None else report | _kept(sql, view)


def _kept(sql: sqlite3.Connection, view: ProductView) -> dict[str, object]:
    days, rows = buckets.sizes(sql, view.name)
    batches, size = outbox.size(sql, view.name)
    attempt = ledger.last(sql, view.name)
    success = ledger.last(sql, view.name, ledger.Verdict.DELIVERED)
    return {
        "buckets": {"days": days, "rows": rows},
        "events": buckets.count_events(sql, view.name),
        "outbox": {"batches": batches, "bytes": size},
        "last_attempt": _instant(attempt.at if attempt else None),
        "last_success": _instant(success.at if success else None),
        "last_verdict": attempt.verdict.name.lower() if attempt else None,
        "next_send": _instant(ledger.next_send(sql, view.name)),
        "lost": losses.totals(sql, view.name),
        "stripped_fields": losses.stripped(sql, view.name),
    }


def _stop(stop: runs.Stop | None) -> dict[str, object] | None:
    if stop is None:
        return None
    return {"at": instant(stop.at), "reason": stop.reason.word, "uptime_s": round(stop.uptime_s, 3)}


def _instant(unix_s: float | None) -> str | None:
    return None if unix_s is None else instant(unix_s)

"""Status: what is, as data, from the durable state alone.

It works when the daemon is dead, which is when it is needed, and changes nothing: it makes no id,
no directory, no database. It imports none of anyio, httpx and watchfiles, so that a prompt can run
it. Instants are ISO 8601 in UTC, sizes in bytes, durations in seconds. Every key of the report stands in
docs/status.md, and is there whatever the state; null where nothing is known.
"""

from __future__ import annotations

import os
from contextlib import closing
from typing import TYPE_CHECKING, Any

from tallyd import cost, damage, exits, lock, policy, portrait, runs, spool, supervisor, symptoms
from tallyd.contract.days import calendar_instant, instant, unix_of
from tallyd.errors import StateUnusable
from tallyd.limits import HEARTBEAT_INTERVAL_S, RESTART_S
from tallyd.store import open_store_for_reading
from tallyd.symptoms import Symptom

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from tallyd.lock import Holder
    from tallyd.paths import Paths
    from tallyd.product import Surroundings

SCHEMA_VERSION = 1


def gather(around: Surroundings, now: float, product: str = "") -> tuple[dict[str, Any], int]:
    """Everything `status --json` prints, and the exit code that goes with it.

    Of one product, if one is named, and of what concerns all. A state that cannot be used is named
    among the report's problems, and the rest is told. Raises NotRegistered for a product that nobody
    registered and nobody dropped for.
    """
    paths = around.paths
    holder = lock.current_holder(paths)
    running = holder if holder is not None and holder.role == "daemon" else None
    found = [*symptoms.of_the_disk(paths), *symptoms.of_the_lock(paths)]
    names: list[str] = []
    try:
        names = around.registry.products()
    except StateUnusable as problem:
        found.append(Symptom("contracts", "", str(problem)))
    dropping = spool.products_with_spool(paths)
    is_set_up = bool(names or dropping)
    if product:
        names, dropping = ([one for one in some if one == product] for some in (names, dropping))
        if not names and not dropping:
            # Says what to do.
            around.registry.get(product)
    service, broken = _service(around, names)
    all_off = policy.all_forbidden_by(paths, around.environ) or None
    daemon = _daemon(running, paths, now, product)
    if running is not None:
        found += symptoms.of_the_daemon(paths, now)
    if daemon["rss_bytes"] is not None:
        # It is known to be that process.
        found += symptoms.of_its_environment(daemon["pid"], around.environ)
    code, last_stop = exits.DONE, None
    try:
        store = open_store_for_reading(paths)
        is_set_up = is_set_up or store is not None
        if store is None:
            products = _products(None, names, around, now, found)
        else:
            with closing(store), store.reading() as sql:
                products = _products(sql, names, around, now, found)
                last_stop = _stop(runs.last_stop(sql))
                has_service = bool(service["installed"])
                found += symptoms.of_the_runs(sql, holder, paths, has_service=has_service)
    except StateUnusable as problem:
        found.append(Symptom("database", "", str(problem)))
        code = exits.STATE
        products = _products(None, names, around, now, found)
        for one in products.values():
            portrait.forget_database(one)
    found += symptoms.of_the_spool(paths, {*names, *dropping})
    found += symptoms.of_the_settings(paths)
    if broken:
        found.append(Symptom("service", "", broken))
    elif holder is None and not service["stopped"] and not all_off:
        found += _missed(service, products, last_stop, {one.place for one in found}, now)
    rests = service["mode"] == "on-demand" and not (service["stopped"] or all_off or found)
    if running is None and not rests:
        code = code or (exits.NOT_RUNNING if is_set_up else exits.NEVER_SET_UP)
    report = {
        "schema_version": SCHEMA_VERSION,
        "at": instant(now),
        "health": "",
        "state": str(paths.state),
        "config": str(paths.config),
        "daemon": daemon,
        "all_off": all_off,
        "forbidden": policy.standing(paths, around.environ),
        "service": service,
        "last_stop": last_stop,
        "problems": [one.as_dict() for one in dict.fromkeys(found)],
        "last_damage": _damage(paths),
        "products": products,
        "unregistered": sorted(set(dropping) - set(names)),
    }
    return report | {"health": _health(report, code)}, code


def _health(report: dict[str, Any], code: int) -> str:
    """The report in a word."""
    is_wrong = (
        report["problems"]
        or report["daemon"]["problems"]
        or any(one["problem"] for one in report["products"].values())
    )
    if is_wrong:
        return "wrong"
    if report["all_off"]:
        return "off"
    found = {exits.NOT_RUNNING: "not_running", exits.NEVER_SET_UP: "not_set_up"}.get(code, "well")
    return "waits" if found == "well" and not report["daemon"]["running"] else found


def _daemon(holder: Holder | None, paths: Paths, now: float, product: str) -> dict[str, Any]:
    if holder is None:
        return {
            "running": False,
            "pid": None,
            "version": None,
            "way": None,
            "started_at": None,
            "uptime_s": None,
            "rss_bytes": None,
            "cpu_seconds": None,
            "problems": [],
            "more_problems": 0,
        }
    rss_bytes, cpu_seconds = cost.of_holder(holder.pid, str(paths.lock))
    return {
        "running": True,
        "pid": holder.pid,
        "version": holder.version,
        "way": holder.way or None,
        "started_at": calendar_instant(holder.started_at),
        "uptime_s": round(_uptime_s(holder, lock.last_beat(paths), now), 3),
        "rss_bytes": rss_bytes,
        "cpu_seconds": cpu_seconds,
        "problems": [
            {
                "duty": one.duty,
                "product": one.product,
                "why": one.why,
                "since": calendar_instant(one.since),
                "times": one.times,
            }
            for one in holder.problems
            if one.product in ("", product) or not product
        ],
        "more_problems": holder.more_problems,
    }


def _service(around: Surroundings, products: Sequence[str]) -> tuple[dict[str, Any], str]:
    """What starts the daemon by itself, by its file alone; and what is wrong with that."""
    installed, problem = None, ""
    try:
        installed = supervisor.installed(around.environ)
    except StateUnusable as error:
        problem = str(error)
    if installed is not None and installed.told_otherwise(around.environ):
        # There is one service per user, and this one is another home's.
        installed = None
    if installed is not None and installed.problem:
        problem = f'{installed.problem}; install tallyd again, then: "tallyd service install"'
    told = {
        "installed": installed is not None,
        "supervisor": installed.supervisor if installed else None,
        "mode": ("on-demand" if installed.is_on_demand else "resident") if installed else None,
        "file": str(installed.file) if installed else None,
        "unwatched": [
            name
            for name in products
            if installed and installed.is_on_demand
            if str(around.paths.spool(name).new) not in installed.watches
        ],
        "stopped": os.path.exists(around.paths.stopped),
    }
    return told, problem


def _missed(
    service: dict[str, Any],
    products: dict[str, dict[str, Any]],
    last_stop: dict[str, Any] | None,
    told: set[str],
    now: float,
) -> list[Symptom]:
    """What the service should have done, where nothing runs; `told` are the places with other symptoms."""
    if service["mode"] == "on-demand":
        return symptoms.of_waiting(products)
    ended_at = unix_of(last_stop["at"]) if last_stop else None
    comes_back = ended_at is not None and 0 <= now - ended_at < RESTART_S
    # Of one that was killed, or cannot start, that is told, and what to do.
    if service["mode"] == "resident" and not comes_back and not told & {"daemon", "settings"}:
        why = f'{service["file"]} is there, and nothing runs; "tallyd service start", or see "tallyd service logs"'
        return [Symptom("service", "", why)]
    return []


def _damage(paths: Paths) -> dict[str, Any] | None:
    aside = damage.last(paths)
    return aside and {"at": instant(aside[0]), "kept": str(aside[1])}


def _uptime_s(holder: Holder, beat_at: float, now: float) -> float:
    """How long the holder is up: what it said at its last heartbeat, and the time since, if that is sane.

    A clock that was set in between must not make years of a minute.
    """
    return holder.up_s + min(max(0.0, now - beat_at), 2 * HEARTBEAT_INTERVAL_S)


def _products(
    sql: sqlite3.Connection | None,
    names: Sequence[str],
    around: Surroundings,
    now: float,
    found: list[Symptom],
) -> dict[str, dict[str, Any]]:
    """Each product; what is wrong with the spool of one goes to `found`."""
    told = {}
    for name in names:
        told[name], problem = portrait.of_product(sql, name, around, now)
        if problem:
            found.append(Symptom("spool", name, problem))
    return told


def _stop(stop: runs.Stop | None) -> dict[str, Any] | None:
    if stop is None:
        return None
    return {
        "at": calendar_instant(stop.at),
        "reason": stop.reason.word,
        "uptime_s": round(stop.uptime_s, 3),
    }

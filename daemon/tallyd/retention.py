"""Retention: everything stays bounded, and what a crash left behind is swept.

Two passes, both safe to repeat: `keep_bounds` for one product (age and caps of buckets, events,
outbox, ledger, quarantine, tmp), `sweep` for what all share (remembered names, leftovers). The
oldest goes first and is counted by cause in the same transaction. `purge` and `keep_to_decision`
remove what a user's choice forbids to keep.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tallyd import buckets, decisions, ledger, losses, outbox, spool
from tallyd.contract.days import day_of, oldest_day, shift_day
from tallyd.contract.model import Rollup
from tallyd.files import is_leftover, remove_older, remove_tree
from tallyd.limits import (
    BUCKETS_MAX_SUMS,
    DELTA_ID_DAYS,
    EVENTS_MAX_ROWS,
    LEFTOVER_S,
    OUTBOX_MAX_BYTES,
)
from tallyd.losses import Cause

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

    from tallyd.paths import Paths
    from tallyd.product import ProductView
    from tallyd.store import Store


# The places that hold something of one product.
_OF_A_PRODUCT = (buckets, outbox, ledger, losses, decisions)


def keep_bounds(store: Store, view: ProductView, now: float, *, may_age: bool = True) -> None:
    """Bring one product within its age and caps; within its age only where `now` can be believed.

    Raises StateUnusable.
    """
    max_age_days = view.contract.endpoint.max_age_days
    with store.transaction() as sql:
        if may_age:
            _drop_days(sql, view, oldest_day(now, max_age_days))
            for batch in outbox.expired(sql, view.name, now):
                outbox.lose(sql, batch, Cause.AGE)
        _cap_rows(sql, view)
        _cap_events(sql, view)
        for batch in outbox.past_cap(sql, view.name, OUTBOX_MAX_BYTES):
            outbox.lose(sql, batch, Cause.CAP)
        ledger.trim(sql, view.name)
        buckets.remove_unused_envelopes(sql, view.name)
    spool.sweep_tmp(view.spool, now)
    remove_older(view.choice_file.parent, LEFTOVER_S, now, is_leftover)
    remove_older(view.notice_dir, LEFTOVER_S, now, _is_notice_leftover)
    spool.trim_quarantine(view.spool)


def purge(store: Store, product: str, paths: Paths) -> None:
    """Remove every unsent trace of a product whose user said no. Raises StateUnusable."""
    spool.purge(paths.spool(product))
    # What hosts keep for the machine: which events were told once, and a stand-in for an id.
    remove_tree(paths.once(product))
    remove_tree(paths.identity(product))
    with store.reading() as sql:
        if not any(place.holds_any(sql, product) for place in _OF_A_PRODUCT):
            return
    with store.transaction() as sql:
        for place in _OF_A_PRODUCT:
            place.remove_all(sql, product)
    # A deleted row's bytes stay in the file and its log until they are written over: a "no" means
    # those too.
    store.scrub()


def keep_to_decision(store: Store, view: ProductView) -> bool:
    """Remove what was counted under another decision or id; False when nothing was.

    Files of the spool are told apart by their date when they are merged. Raises StateUnusable.
    """
    now = view.decision
    with store.reading() as sql:
        held = decisions.held(sql, view.name)
    if held == now:
        return False
    is_covered = held is None or now.covers(held)
    with store.transaction() as sql:
        for place in () if is_covered else _OF_A_PRODUCT:
            place.remove_all(sql, view.name)
        decisions.hold(sql, view.name, now)
    return not is_covered


def sweep(store: Store, paths: Paths, now: float, *, may_age: bool = True) -> None:
    """Forget names that age protects by now; remove what killed processes left beside their files.

    Without `may_age` no name is forgotten: `now` cannot be believed.
    """
    if may_age:
        with store.transaction() as sql:
            buckets.forget_deltas_before(sql, shift_day(day_of(now), -DELTA_ID_DAYS))
    # Flush requests and their answers: nobody waits that long.
    if not paths.flush_requests.is_symlink():
        remove_older(paths.flush_requests, LEFTOVER_S, now, lambda _: True)
    for directory in (paths.contracts, paths.choices, paths.agreements, paths.config):
        remove_older(directory, LEFTOVER_S, now, is_leftover)


def _is_notice_leftover(name: str) -> bool:
    return is_leftover(name) or name.endswith(".claim")


def _cap_rows(sql: sqlite3.Connection, view: ProductView) -> None:
    over = buckets.count_sums(sql, view.name) - BUCKETS_MAX_SUMS
    gone: list[buckets.Row] = []
    for row in buckets.rows(sql, view.name) if over > 0 else ():
        if over <= 0:
            break
        gone.append(row)
        over -= len(row.measures)
    buckets.remove_rows(sql, view.name, gone)
    losses.add(sql, view.name, {Cause.CAP: _counted(view, gone)})


def _drop_days(sql: sqlite3.Connection, view: ProductView, before_day: str) -> None:
    lost = _counted(view, buckets.rows(sql, view.name, before_day))
    buckets.remove_sealed(sql, view.name, before_day, last_event=0)
    losses.add(sql, view.name, {Cause.AGE: lost})


def _counted(view: ProductView, rows: Iterable[buckets.Row]) -> int:
    """How often what these rows count had happened."""
    lost = 0
    for row in rows:
        rollup = view.contract.events.get(row.event)
        lost += row.measures.get(rollup.primary, 0) if isinstance(rollup, Rollup) else 0
    return lost


def _cap_events(sql: sqlite3.Connection, view: ProductView) -> None:
    lost = buckets.remove_oldest_events(sql, view.name, EVENTS_MAX_ROWS)
    losses.add(sql, view.name, {Cause.CAP: lost})

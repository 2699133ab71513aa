"""Retention: everything stays bounded, and what a crash left behind is swept.

Two passes, both safe to repeat: `keep_bounds` for one product (age and caps of buckets, events,
outbox, ledger, quarantine, tmp), `sweep` for what all share (remembered names, leftovers). They run
hourly; `keep_caps` alone runs wherever something is added, so that no flood in between goes far beyond.
The oldest goes first and is counted by cause in the same transaction. `purge` and `keep_to_decision`
remove what a user's choice forbids to keep.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tallyd import buckets, decisions, ledger, losses, outbox, spool
from tallyd.contract.days import day_of, oldest_day, shift_day
from tallyd.contract.model import Rollup
from tallyd.files import is_leftover, remove_older, remove_oldest, remove_tree
from tallyd.limits import (
    BUCKETS_MAX_SUMS,
    DELTA_ID_DAYS,
    DELTA_NAMES_MAX_ROWS,
    ENVELOPES_MAX_ROWS,
    EVENTS_MAX_ROWS,
    LEFTOVER_S,
    NOTICES_MAX_FILES,
    OUTBOX_MAX_BATCHES,
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


def keep_bounds(store: Store, view: ProductView, now: float) -> None:
    """Bring one product within its age and caps. Raises StateUnusable."""
    with store.transaction() as sql:
        _lose_old(sql, view, now)
        for batch in outbox.expired(sql, view.name, now):
            outbox.lose(sql, batch, Cause.AGE)
        _keep_caps(sql, view)
        ledger.trim(sql, view.name)
        buckets.remove_unused_envelopes(sql, view.name)
    spool.sweep_tmp(view.spool, now)
    remove_older(view.choice_file.parent, LEFTOVER_S, now, is_leftover)
    remove_older(view.notice_dir, LEFTOVER_S, now, _is_notice_leftover)
    # An old version's notice would only be shown again, should that version come back.
    remove_oldest(view.notice_dir, NOTICES_MAX_FILES)
    spool.trim_quarantine(view.spool)


def keep_caps(store: Store, view: ProductView) -> None:
    """Bring what waits of one product within its caps. Raises StateUnusable."""
    with store.transaction() as sql:
        _keep_caps(sql, view)


def keep_names(store: Store) -> None:
    """Bring the names of merged deltas within their cap. Raises StateUnusable."""
    with store.transaction() as sql:
        buckets.keep_newest_deltas(sql, DELTA_NAMES_MAX_ROWS)


def lose_old(store: Store, view: ProductView, now: float) -> None:
    """Lose what is older than the contract's window, before a seal puts it beside what is not.

    A batch expires with the oldest that is in it. Raises StateUnusable.
    """
    with store.transaction() as sql:
        _lose_old(sql, view, now)


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


def sweep(store: Store, paths: Paths, now: float) -> None:
    """Forget names that age protects by now; remove what killed processes left beside their files."""
    with store.transaction() as sql:
        buckets.forget_deltas_before(sql, shift_day(day_of(now), -DELTA_ID_DAYS))
        buckets.keep_newest_deltas(sql, DELTA_NAMES_MAX_ROWS)
    # Flush requests and their answers: nobody waits that long.
    remove_older(paths.flush_requests, LEFTOVER_S, now, lambda _: True)
    for directory in (paths.contracts, paths.choices, paths.agreements, paths.config):
        remove_older(directory, LEFTOVER_S, now, is_leftover)


def _is_notice_leftover(name: str) -> bool:
    return is_leftover(name) or name.endswith(".claim")


def _keep_caps(sql: sqlite3.Connection, view: ProductView) -> None:
    _cap_envelopes(sql, view)
    _cap_rows(sql, view)
    _cap_events(sql, view)
    batches, size = outbox.size(sql, view.name)
    if batches > OUTBOX_MAX_BATCHES or size > OUTBOX_MAX_BYTES:
        for batch in outbox.past_cap(sql, view.name, OUTBOX_MAX_BYTES, OUTBOX_MAX_BATCHES):
            outbox.lose(sql, batch, Cause.CAP)


def _cap_envelopes(sql: sqlite3.Connection, view: ProductView) -> None:
    over = buckets.count_envelopes(sql, view.name) - ENVELOPES_MAX_ROWS
    if over > 0:
        buckets.remove_unused_envelopes(sql, view.name)
        over = buckets.count_envelopes(sql, view.name) - ENVELOPES_MAX_ROWS
    if over > 0:
        last = buckets.last_of_oldest_envelopes(sql, view.name, over)
        lost = _counted(view, buckets.rows(sql, view.name, up_to=last))
        lost += buckets.remove_envelopes(sql, view.name, last)
        losses.add(sql, view.name, {Cause.CAP: lost})


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


def _lose_old(sql: sqlite3.Connection, view: ProductView, now: float) -> None:
    before_day = oldest_day(now, view.contract.endpoint.max_age_days)
    lost = _counted(view, buckets.rows(sql, view.name, before_day))
    buckets.remove_sealed(sql, view.name, before_day, last_event=0)
    lost += buckets.remove_old_events(sql, view.name, before_day)
    losses.add(sql, view.name, {Cause.AGE: lost})


def _counted(view: ProductView, rows: Iterable[buckets.Row]) -> int:
    """How often what these rows count had happened."""
    lost = 0
    for row in rows:
        rollup = view.contract.events.get(row.event)
        # An event that is listed no more has no primary measure: the largest stands for it.
        lost += (
            row.measures.get(rollup.primary, 0)
            if isinstance(rollup, Rollup)
            else max(row.measures.values(), default=0)
        )
    return lost


def _cap_events(sql: sqlite3.Connection, view: ProductView) -> None:
    lost = buckets.remove_oldest_events(sql, view.name, EVENTS_MAX_ROWS)
    losses.add(sql, view.name, {Cause.CAP: lost})

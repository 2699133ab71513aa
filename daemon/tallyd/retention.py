"""Retention: everything stays bounded, and what a crash left behind is swept.

Two passes, both safe to repeat: `keep_bounds` for one product (age and caps of buckets, events,
outbox, ledger, quarantine, tmp), `sweep` for what all share (remembered names, leftovers). They run
hourly; `keep_caps` alone runs wherever something is added, so that no flood in between goes far beyond.
The oldest goes first and is counted by cause in the same transaction. `purge` and `keep_to_decision`
remove what a user's choice forbids to keep.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from tallyd import buckets, damage, decisions, ledger, losses, outbox, reserve, spool
from tallyd.contract.days import day_of, oldest_day, shift_day
from tallyd.contract.model import Rollup
from tallyd.errors import StateFull
from tallyd.files import is_leftover, remove_older, remove_oldest, remove_tree
from tallyd.limits import (
    BUCKETS_MAX_SUMS,
    DAMAGED_DAYS,
    DELTA_ID_DAYS,
    DELTA_NAMES_MAX_ROWS,
    ENVELOPES_MAX_ROWS,
    EVENTS_MAX_ROWS,
    LEFTOVER_S,
    NOTICES_MAX_FILES,
    OUTBOX_MAX_BATCHES,
    OUTBOX_MAX_BYTES,
    PIECE_ROWS,
)
from tallyd.losses import Cause

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable

    from tallyd.paths import Paths
    from tallyd.product import ProductView
    from tallyd.store import Store


# The places that hold something of one product.
_OF_A_PRODUCT = (buckets, outbox, ledger, losses, decisions)


def keep_bounds(
    store: Store, view: ProductView, paths: Paths, now: float, *, may_age: bool = True
) -> None:
    """Bring one product within its age and caps, on a full disk too.

    Within its age only where `now` can be believed (`may_age`). Raises StateUnusable.
    """
    _in_pieces(store, paths, lambda sql, rows: _trim(sql, view, now if may_age else None, rows))
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


def holds_old(store: Store, view: ProductView, now: float) -> bool:
    """Whether something is older than the contract's window, if `now` can be believed."""
    with store.reading() as sql:
        before_day = oldest_day(now, view.contract.endpoint.max_age_days)
        return buckets.holds_before(sql, view.name, before_day)


def lose_old(store: Store, view: ProductView, now: float) -> None:
    """Lose what is older than the contract's window, before a seal puts it beside what is not.

    A batch expires with the oldest that is in it. Raises StateUnusable.
    """
    with store.transaction() as sql:
        _lose_old(sql, view, now)


def purge(store: Store, product: str, paths: Paths) -> None:
    """Remove every unsent trace of a product whose user said no. Raises StateUnusable."""
    spool.purge(paths.spool(product))
    # Nobody can tell whose counts are in it.
    damage.remove(paths)
    # What hosts keep for the machine: which events were told once, and a stand-in for an id.
    remove_tree(paths.once(product))
    remove_tree(paths.identity(product))
    with store.reading() as sql:
        if not any(place.holds_any(sql, product) for place in _OF_A_PRODUCT):
            return

    def remove(sql: sqlite3.Connection, rows: int) -> int:
        return sum([place.remove_all(sql, product, rows) for place in _OF_A_PRODUCT])

    # A deleted row's bytes stay in the file and its log until they are written over: a "no" means
    # those too. On a full disk there is no room for the copy that `scrub` makes: then each row is
    # overwritten where it stood.
    with store.zeroing():
        _in_pieces(store, paths, remove)
    try:
        store.scrub()
    except StateFull:
        reserve.insist(paths, store.empty_log)


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


def _in_pieces(
    store: Store, paths: Paths, remove: Callable[[sqlite3.Connection, int], int]
) -> None:
    """Let `remove` delete all at once; on a full disk a few rows at a time, without the reserve.

    `remove` is told how many rows at most (all of them where that is negative) and says how many it
    removed.
    """
    try:
        with store.transaction() as sql:
            remove(sql, -1)
    except StateFull:
        reserve.give_up(paths)
    else:
        return
    rows = PIECE_ROWS
    while True:
        try:
            with store.transaction() as sql:
                gone = remove(sql, rows)
            store.empty_log()
        except StateFull:
            if rows == 1:
                raise
            rows = max(1, rows // 4)
        else:
            if not gone:
                return


def sweep(store: Store, paths: Paths, now: float, *, may_age: bool = True) -> None:
    """Forget names that age protects by now; remove what killed processes left beside their files.

    Without `may_age` no name is forgotten for its age: `now` cannot be believed.
    """
    if may_age:
        before = shift_day(day_of(now), -DELTA_ID_DAYS)
        _in_pieces(store, paths, lambda sql, rows: buckets.forget_deltas_before(sql, before, rows))
        damage.remove(paths, now - DAMAGED_DAYS * 86400)
    keep_names(store)
    # Flush requests and their answers: nobody waits that long.
    if not paths.flush_requests.is_symlink():
        remove_older(paths.flush_requests, LEFTOVER_S, now, lambda _: True)
    for directory in (paths.contracts, paths.choices, paths.agreements, paths.config):
        remove_older(directory, LEFTOVER_S, now, is_leftover)


def _is_notice_leftover(name: str) -> bool:
    return is_leftover(name) or name.endswith(".claim")


def _trim(sql: sqlite3.Connection, view: ProductView, now: float | None, rows: int) -> int:
    """Remove what is too old (not where `now` is None) or too much, at most `rows` of each; how many went."""
    gone = 0
    if now is not None:
        gone += _lose_old(sql, view, now, rows)
        for batch in outbox.expired(sql, view.name, now)[: _batches(rows)]:
            outbox.lose(sql, batch, Cause.AGE)
            gone += 1
    gone += _keep_caps(sql, view, rows)
    if rows < 0 or not gone:
        ledger.trim(sql, view.name)
        buckets.remove_unused_envelopes(sql, view.name)
    return gone


def _batches(rows: int) -> int | None:
    """As many batches as weigh that many rows: one is as large as hundreds."""
    return max(1, rows // PIECE_ROWS) if rows > 0 else None


def _keep_caps(sql: sqlite3.Connection, view: ProductView, rows: int = -1) -> int:
    gone = _cap_envelopes(sql, view, rows)
    gone += _cap_rows(sql, view, rows)
    gone += _cap_events(sql, view, rows)
    batches, size = outbox.size(sql, view.name)
    if batches > OUTBOX_MAX_BATCHES or size > OUTBOX_MAX_BYTES:
        over = outbox.past_cap(sql, view.name, OUTBOX_MAX_BYTES, OUTBOX_MAX_BATCHES)
        for batch in over[: _batches(rows)]:
            outbox.lose(sql, batch, Cause.CAP)
            gone += 1
    return gone


def _cap_envelopes(sql: sqlite3.Connection, view: ProductView, most: int) -> int:
    over = buckets.count_envelopes(sql, view.name) - ENVELOPES_MAX_ROWS
    if over > 0:
        buckets.remove_unused_envelopes(sql, view.name)
        over = buckets.count_envelopes(sql, view.name) - ENVELOPES_MAX_ROWS
    if over <= 0:
        return 0
    over = min(over, most) if most > 0 else over
    last = buckets.last_of_oldest_envelopes(sql, view.name, over)
    lost = _counted(view, buckets.rows(sql, view.name, up_to=last))
    lost += buckets.remove_envelopes(sql, view.name, last)
    losses.add(sql, view.name, {Cause.CAP: lost})
    return over


def _cap_rows(sql: sqlite3.Connection, view: ProductView, most: int) -> int:
    over = buckets.count_sums(sql, view.name) - BUCKETS_MAX_SUMS
    gone: list[buckets.Row] = []
    for row in buckets.rows(sql, view.name) if over > 0 else ():
        if over <= 0 or len(gone) == most:
            break
        gone.append(row)
        over -= len(row.measures)
    buckets.remove_rows(sql, view.name, gone)
    losses.add(sql, view.name, {Cause.CAP: _counted(view, gone)})
    return len(gone)


def _lose_old(sql: sqlite3.Connection, view: ProductView, now: float, most: int = -1) -> int:
    before_day = oldest_day(now, view.contract.endpoint.max_age_days)
    events = buckets.remove_old_events(sql, view.name, before_day, most)
    losses.add(sql, view.name, {Cause.AGE: events})
    old = buckets.rows(sql, view.name, before_day)
    if most < 0:
        lost = _counted(view, old)
        buckets.remove_sealed(sql, view.name, before_day, last_event=0)
        losses.add(sql, view.name, {Cause.AGE: lost})
        return events
    gone = list(islice(old, most))
    buckets.remove_rows(sql, view.name, gone)
    losses.add(sql, view.name, {Cause.AGE: _counted(view, gone)})
    return events + len(gone)


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


def _cap_events(sql: sqlite3.Connection, view: ProductView, most: int) -> int:
    kept = EVENTS_MAX_ROWS
    if most > 0:
        kept = max(kept, buckets.count_events(sql, view.name) - most)
    lost = buckets.remove_oldest_events(sql, view.name, kept)
    losses.add(sql, view.name, {Cause.CAP: lost})
    return lost

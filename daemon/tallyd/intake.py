"""Intake: the daemon's reading of the spool, from files in `new/` to sums in buckets.

One pass takes up to MERGE_BATCH_FILES files: read, fold in memory, then one transaction that adds
the sums *and* remembers the deltas' names; only after its commit are the files removed. A kill
before the commit leaves the files, a kill after it leaves files whose names are known: either way
each is counted once. Malformed files are set aside first. It does not decide about consent; it is
handed a view of a product whose consent is on.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tallyd import buckets, losses, spool
from tallyd.body import canonical
from tallyd.contract.days import day_of, oldest_day, shift_day
from tallyd.contract.fields import Hash
from tallyd.contract.screen import screen_counts, screen_envelope, screen_event
from tallyd.decisions import Decision
from tallyd.delta import parse_delta
from tallyd.errors import Malformed, StateUnusable
from tallyd.limits import MAX_DAYS_AHEAD, MERGE_BATCH_BYTES
from tallyd.losses import Cause

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tallyd.contract import Contract
    from tallyd.delta import Delta
    from tallyd.product import ProductView
    from tallyd.spool import NewEntry
    from tallyd.store import Store


@dataclass(slots=True)
class IntakeCount:
    """What one pass did: files looked at, merged, already known, set aside, older than the consent.

    `stuck` ones could be neither removed nor set aside; `why` tells of the first of them. `held`
    ones wait until the clock can be believed that says their day is wrong.
    """

    seen: int = 0
    merged: int = 0
    known: int = 0
    quarantined: int = 0
    predating: int = 0
    stuck: int = 0
    held: int = 0
    why: str = ""

    def add(self, other: IntakeCount) -> None:
        """Add what another pass did."""
        self.seen += other.seen
        self.merged += other.merged
        self.known += other.known
        self.quarantined += other.quarantined
        self.predating += other.predating
        self.stuck += other.stuck
        self.held += other.held
        self.why = self.why or other.why


@dataclass(slots=True)
class _Fold:
    """What a batch of deltas comes to, before it touches the database."""

    sums: Counter[buckets.BucketKey] = field(default_factory=Counter)
    events: list[buckets.NewEvent] = field(default_factory=list)
    lost: Counter[str] = field(default_factory=Counter)
    stripped: int = 0


def merge_batch(
    store: Store,
    view: ProductView,
    entries: Sequence[NewEntry],
    now: float,
    *,
    may_age: bool = True,
) -> IntakeCount:
    """Merge the first of these files exactly once and remove them; `seen` says how many it took.

    Without `may_age` nothing is refused for its day, for `now` cannot be believed: it waits. As many as MERGE_BATCH_BYTES hold, at least one. Raises StateUnusable; then nothing is lost.
    """
    done = IntakeCount()
    size = 0
    readable: list[tuple[NewEntry, Delta]] = []
    predating: list[NewEntry] = []
    for entry in entries:
        if size >= MERGE_BATCH_BYTES:
            break
        done.seen += 1
        try:
            content = spool.read_delta(entry)
            if content is None:
                continue
            size += len(content)
            delta = parse_delta(content, view.name)
            if (entry.dropped_at or 0.0) < view.counts_from or not _is_covered(delta, view):
                predating.append(entry)
                continue
            if not may_age and _misplaced(delta.day, view.contract, now) is not None:
                done.held += 1
                continue
            readable.append((entry, delta))
        except Malformed as reason:
            _set_aside(entry, view, str(reason), done)
    today = day_of(now)
    with store.transaction() as sql:
        known = buckets.known_deltas(sql, [entry.id for entry, _ in readable])
        fold = _Fold()
        fresh: list[int] = []
        for entry, delta in readable:
            if entry.id not in known:
                fresh.append(entry.id)
                _fold_delta(fold, view.contract_at(entry.dropped_at or 0.0), delta, now)
        fold.lost[Cause.MALFORMED] += done.quarantined
        buckets.add_sums(sql, view.name, fold.sums)
        buckets.add_events(sql, view.name, fold.events)
        losses.add(sql, view.name, fold.lost)
        losses.add_stripped(sql, view.name, fold.stripped)
        buckets.remember_deltas(sql, fresh, today)
    for entry in (*(one for one, _ in readable), *predating):
        try:
            spool.discard(entry)
        except StateUnusable as problem:
            # Its name is known, so it adds nothing ever again; the rest goes on.
            done.stuck += 1
            done.why = done.why or str(problem)
    done.merged, done.known, done.predating = len(fresh), len(known), len(predating)
    return done


def _is_covered(delta: Delta, view: ProductView) -> bool:
    """Whether it was counted under the decision that stands now; by its date alone, if it does not say."""
    if delta.consent is None:
        return True
    since, machine_id = delta.consent
    return view.decision.covers(Decision(since, machine_id))


def _set_aside(entry: NewEntry, view: ProductView, reason: str, done: IntakeCount) -> None:
    """Quarantine one file. Where that is refused it stays, is met again, and stops no other."""
    try:
        spool.quarantine(entry, view.spool, reason)
        done.quarantined += 1
    except StateUnusable as problem:
        done.stuck += 1
        done.why = done.why or str(problem)


def _fold_delta(fold: _Fold, contract: Contract, delta: Delta, now: float) -> None:
    fold.lost.update(delta.lost)
    kept_envelope, stripped = screen_envelope(contract, delta.envelope, delta.day)
    fold.stripped += stripped
    derived_id = _derived_id(contract, delta)
    if derived_id is None and contract.identity.kind == "derived":
        # Nobody to send it as: a host of another version, or one that failed.
        fold.lost[Cause.SCREENED] += delta.weight
        return
    envelope = canonical(kept_envelope | ({buckets.ID_KEY: derived_id} if derived_id else {}))
    misplaced = _misplaced(delta.day, contract, now)
    for event, dimensions, measures in delta.counts:
        screened = screen_counts(contract, event, dimensions, measures, delta.day)
        if screened is None or misplaced is not None:
            # An unlisted event has no primary measure: the largest stands for what is lost.
            fold.lost[misplaced or Cause.SCREENED] += max(measures.values(), default=0)
            continue
        fold.stripped += screened.stripped
        key = (delta.day, envelope, event, canonical(screened.dimensions))
        for measure, value in screened.measures.items():
            fold.sums[*key, measure] += value
    for event, ts, properties in delta.events:
        kept = screen_event(contract, event, properties, ts[:10])
        wrong_day = _misplaced(ts[:10], contract, now)
        if kept is None or wrong_day is not None:
            fold.lost[wrong_day or Cause.SCREENED] += 1
            continue
        fold.stripped += kept.stripped
        fold.events.append(buckets.NewEvent(envelope, event, ts, canonical(kept.properties)))


def _derived_id(contract: Contract, delta: Delta) -> str | None:
    """The id that a delta brings, when its product's identity is derived and the id is one of that kind."""
    identity = contract.identity
    if identity.kind != "derived" or delta.derived_id is None:
        return None
    kinds = (
        Hash(identity.length, prefix) for prefix in (identity.prefix, identity.fallback_prefix)
    )
    return (
        delta.derived_id
        if any(one.screen(delta.derived_id) == delta.derived_id for one in kinds)
        else None
    )


def _misplaced(day: str, contract: Contract, now: float) -> Cause | None:
    """Why a day is refused: days are never shifted. Text comparison is the order of ISO days."""
    if day > shift_day(day_of(now), MAX_DAYS_AHEAD):
        return Cause.FUTURE
    if day < oldest_day(now, contract.endpoint.max_age_days):
        return Cause.AGE
    return None

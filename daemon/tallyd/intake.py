"""Intake: the daemon's reading of the spool, from files in `new/` to sums in buckets.

One pass takes up to MERGE_BATCH_FILES files: read, fold in memory, then one transaction that adds
the sums *and* remembers the deltas' names; only after its commit are the files removed, and the
malformed ones set aside. A kill before the commit leaves the files, a kill after it leaves files whose
names are known: either way each is counted once. It does not decide about consent; it is
handed a view of a product whose consent is on.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING

from tallyd import buckets, losses, spool
from tallyd.body import canonical
from tallyd.contract.days import day_of, oldest_day, shift_day
from tallyd.contract.fields import Hash
from tallyd.contract.screen import screen_counts, screen_envelope, screen_event
from tallyd.decisions import Decision
from tallyd.errors import Malformed, StateUnusable
from tallyd.limits import MAX_DAYS_AHEAD, MERGE_BATCH_BYTES, MERGE_BATCH_FILES
from tallyd.losses import Cause

if TYPE_CHECKING:
    from tallyd.contract import Contract
    from tallyd.delta import About, Count, Delta, DeltaReader
    from tallyd.product import ProductView
    from tallyd.spool import NewEntry, NewFiles
    from tallyd.store import Store


@dataclass(slots=True)
class IntakeCount:
    """What one pass did: files looked at, merged, already known, set aside, older than the consent.

    `stuck` ones could be neither removed nor set aside; `why` tells of the first of them. `held`
    ones wait until the clock can be believed that says their day is wrong. `rows` is how many sums
    and events it added to.
    """

    seen: int = 0
    merged: int = 0
    known: int = 0
    quarantined: int = 0
    predating: int = 0
    rows: int = 0
    stuck: int = 0
    held: int = 0
    why: str = ""

    @property
    def moved(self) -> int:
        """How many files left the spool."""
        return self.seen - self.stuck - self.held

    def stay(self, problem: StateUnusable) -> None:
        """One more file stays where it is."""
        self.stuck += 1
        self.why = self.why or str(problem)

    def add(self, other: IntakeCount) -> None:
        """Add what another pass did."""
        self.seen += other.seen
        self.merged += other.merged
        self.known += other.known
        self.quarantined += other.quarantined
        self.predating += other.predating
        self.rows += other.rows
        self.stuck += other.stuck
        self.held += other.held
        self.why = self.why or other.why


@dataclass(slots=True)
class _Group:
    """What one envelope of one day comes to: how often each entry of `counts` was met.

    `envelope` is the canonical text that its sums are kept under; with a `cause` they are lost.
    `is_nobodys`: the id is missing as which they would be sent.
    """

    contract: Contract
    day: str
    envelope: str
    cause: Cause | None
    is_nobodys: bool
    stripped: int
    deltas: int = 0
    met: dict[Count, int] = field(default_factory=dict)


class _Fold:
    """What a batch of deltas comes to, before it touches the database."""

    def __init__(self, view: ProductView, now: float) -> None:
        self.sums: Counter[buckets.BucketKey] = Counter()
        self.events: list[buckets.NewEvent] = []
        self.lost: Counter[str] = Counter()
        self.stripped = 0
        self._view, self._now = view, now
        self._groups: dict[tuple[int, About], _Group] = {}

    def add(self, entry: NewEntry, delta: Delta) -> None:
        """Take one delta in."""
        contract = self._view.contract_at(entry.dropped_at or 0.0)
        key = (id(contract), delta.about)
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = self._group(contract, delta.about)
        group.deltas += 1
        met = group.met
        for count in delta.counts:
            met[count] = met.get(count, 0) + 1
        if delta.events:
            self._add_events(group, delta)
        if delta.lost:
            self.lost.update(delta.lost)

    def finish(self) -> None:
        """Screen what was met, each entry once however often it came, and add it up."""
        for group in self._groups.values():
            self.stripped += group.stripped * group.deltas
            for count, times in group.met.items():
                self._add_count(group, count, times)

    def _group(self, contract: Contract, about: About) -> _Group:
        kept, stripped = screen_envelope(contract, about.envelope, about.day)
        derived_id = _derived_id(contract, about)
        # Nobody to send it as: a host of another version, or one that failed.
        is_nobodys = derived_id is None and contract.identity.kind == "derived"
        cause = Cause.SCREENED if is_nobodys else _misplaced(about.day, contract, self._now)
        envelope = canonical(kept | ({buckets.ID_KEY: derived_id} if derived_id else {}))
        return _Group(contract, about.day, envelope, cause, is_nobodys, stripped)

    def _add_count(self, group: _Group, count: Count, times: int) -> None:
        screened = screen_counts(
            group.contract, count.event, count.dimensions, count.measures, group.day
        )
        if screened is None or group.cause is not None:
            # An unlisted event has no primary measure: the largest stands for what is lost.
            self.lost[group.cause or Cause.SCREENED] += count.weight * times
            return
        self.stripped += screened.stripped * times
        key = (group.day, group.envelope, count.event, canonical(screened.dimensions))
        for measure, value in screened.measures.items():
            self.sums[*key, measure] += value * times

    def _add_events(self, group: _Group, delta: Delta) -> None:
        contract = group.contract
        for one in delta.events:
            day = one.ts[:10]
            kept = screen_event(contract, one.event, one.properties, day)
            cause = Cause.SCREENED if group.is_nobodys else _misplaced(day, contract, self._now)
            if kept is None or cause is not None:
                self.lost[cause or Cause.SCREENED] += 1
                continue
            self.stripped += kept.stripped
            self.events.append(
                buckets.NewEvent(group.envelope, one.event, one.ts, canonical(kept.properties))
            )


def merge_batch(
    store: Store,
    view: ProductView,
    files: NewFiles,
    reader: DeltaReader,
    now: float,
    *,
    may_age: bool = True,
) -> IntakeCount:
    """Take the first of these files, merge them exactly once and remove them.

    As many as MERGE_BATCH_FILES and MERGE_BATCH_BYTES allow, at least one. Without `may_age` nothing is
    refused for its day, for `now` cannot be believed: it waits. Raises StateUnusable; then nothing is
    lost.
    """
    done, size = IntakeCount(), 0
    readable: list[tuple[NewEntry, Delta]] = []
    malformed: list[tuple[NewEntry, str]] = []
    predating: list[NewEntry] = []
    is_covered = _Cover(view).includes
    for entry in files.take():
        done.seen += 1
        try:
            content = files.read(entry)
            if content is not None:
                size += len(content)
                delta = reader.read(content)
                if not is_covered(entry, delta):
                    predating.append(entry)
                elif may_age or not _is_misplaced(delta, view.contract, now):
                    readable.append((entry, delta))
                else:
                    done.held += 1
        except Malformed as refusal:
            malformed.append((entry, str(refusal)))
        except StateUnusable as problem:
            # The disk fails at this one, or we may open no more: it waits for the next time.
            done.stay(problem)
        if done.seen >= MERGE_BATCH_FILES or size >= MERGE_BATCH_BYTES:
            break
    ids = [files.id_of(entry) for entry, _ in readable]
    bad_ids = [files.id_of(entry) for entry, _ in malformed]
    fold = _Fold(view, now)
    with store.transaction() as sql:
        known = buckets.remember_deltas(sql, [*ids, *bad_ids], day_of(now))
        for (entry, delta), one in zip(readable, ids, strict=True):
            if one not in known:
                fold.add(entry, delta)
        fold.finish()
        fold.lost[Cause.MALFORMED] += sum(one not in known for one in bad_ids)
        buckets.add_sums(sql, view.name, fold.sums)
        buckets.add_events(sql, view.name, fold.events)
        losses.add(sql, view.name, fold.lost)
        losses.add_stripped(sql, view.name, fold.stripped)
    # From here on their names are known: whatever stays is met again and adds nothing.
    for entry in chain((one for one, _ in readable), predating):
        try:
            files.discard(entry)
        except StateUnusable as problem:
            done.stay(problem)
    for entry, reason in malformed:
        try:
            done.quarantined += spool.quarantine(files, entry, view.spool, reason)
        except StateUnusable as problem:
            done.stay(problem)
    done.predating = len(predating)
    done.known = len(known.intersection(ids))
    done.merged = len(ids) - done.known
    done.rows = len(fold.sums) + len(fold.events)
    return done


class _Cover:
    """Which deltas were counted under the decision that stands now."""

    def __init__(self, view: ProductView) -> None:
        self._from = view.counts_from
        self._decision = view.decision
        self._known: dict[tuple[str | None, str | None], bool] = {}

    def includes(self, entry: NewEntry, delta: Delta) -> bool:
        """By what the delta says of its decision; by its date alone, if it does not say."""
        if (entry.dropped_at or 0.0) < self._from:
            return False
        if delta.about.consent is None:
            return True
        is_covered = self._known.get(delta.about.consent)
        if is_covered is None:
            is_covered = self._decision.covers(Decision(*delta.about.consent))
            self._known[delta.about.consent] = is_covered
        return is_covered


def _derived_id(contract: Contract, about: About) -> str | None:
    """The id that a delta brings, when its product's identity is derived and the id is one of that kind."""
    identity = contract.identity
    if identity.kind != "derived" or about.derived_id is None:
        return None
    kinds = (
        Hash(identity.length, prefix) for prefix in (identity.prefix, identity.fallback_prefix)
    )
    return (
        about.derived_id
        if any(one.screen(about.derived_id) == about.derived_id for one in kinds)
        else None
    )


def _is_misplaced(delta: Delta, contract: Contract, now: float) -> bool:
    """Whether any of it would be refused for its day."""
    days = {delta.about.day, *(one.ts[:10] for one in delta.events)}
    return any(_misplaced(day, contract, now) is not None for day in days)


def _misplaced(day: str, contract: Contract, now: float) -> Cause | None:
    """Why a day is refused: days are never shifted. Text comparison is the order of ISO days."""
    if day > shift_day(day_of(now), MAX_DAYS_AHEAD):
        return Cause.FUTURE
    if day < oldest_day(now, contract.endpoint.max_age_days):
        return Cause.AGE
    return None

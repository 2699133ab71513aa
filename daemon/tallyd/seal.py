"""Seal: freeze finished days into batches.

`plan` says which batches there would be; `freeze` makes them, in one transaction that moves rows
from buckets to outbox. A batch has one envelope, at most the contract's number of events and
BODY_MAX_BYTES. The bytes are rendered here, once, and never change: `sent_at` is the instant of
the freeze. Late counts for a sealed day make another batch, and add.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tallyd import buckets, losses, outbox
from tallyd.batch import Batch
from tallyd.body import NIL_UUID, Body, WireEvent, canonical
from tallyd.buckets import ID_KEY
from tallyd.contract.days import day_of, instant, oldest_day, unix_of
from tallyd.contract.model import Rollup
from tallyd.contract.screen import screen_counts, screen_envelope, screen_event
from tallyd.limits import BODY_MAX_BYTES, MAX_SUM
from tallyd.losses import Cause
from tallyd.wire import narrow_body, render_body, rollup_events, size_of

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Mapping

    from tallyd.contract import Contract
    from tallyd.product import ProductView
    from tallyd.store import Store


@dataclass(frozen=True, slots=True)
class Planned:
    """One batch to be: its envelope and its events, in order.

    `derived_id` is the id that the hosts of a derived identity gave, None for every other kind.
    """

    derived_id: str | None
    envelope: Mapping[str, object]
    events: list[WireEvent]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a freeze would make, and the counts that it would find unlisted, or too old, by now."""

    batches: list[Planned]
    unlisted: int
    aged: int


def freeze(store: Store, view: ProductView, machine_id: str, now: float) -> int:
    """Move every finished day, and every single event, into the outbox; returns how many batches."""
    today = day_of(now)
    with store.transaction() as sql:
        planned = plan(sql, view.contract, today, now)
        losses.add(sql, view.name, {Cause.SCREENED: planned.unlisted, Cause.AGE: planned.aged})
        lost = losses.take_unsent(sql, view.name) if planned.batches and _tells_losses(view) else {}
        for one in planned.batches:
            batch_id = str(uuid.uuid4())
            outbox.put(sql, _batch(view.contract, one, machine_id, batch_id, now, lost))
            lost = {}
        last_event = max((one.id for one in buckets.events(sql, view.name)), default=0)
        buckets.remove_sealed(sql, view.name, today, last_event)
    return len(planned.batches)


def is_due(store: Store, view: ProductView, now: float) -> bool:
    """Whether there is something to freeze."""
    with store.reading() as sql:
        planned = plan(sql, view.contract, day_of(now), now)
    return bool(planned.batches or planned.unlisted or planned.aged)


def preview(store: Store, view: ProductView, now: float) -> tuple[bytes, bool] | None:
    """The body that would be sent next, and whether it is final; None when there is nothing.

    Final means: bytes in the outbox. Otherwise finished days come first, then today as if it were
    over; ids that are made only by a freeze are NIL_UUID. Changes nothing.
    """
    with store.reading() as sql:
        waiting = outbox.oldest(sql, view.name)
        if waiting is not None and waiting.contract == view.contract.short_digest:
            return waiting.body, True
        if waiting is not None:
            return narrow_body(view.contract, waiting.body)[0], True
        lost = losses.peek_unsent(sql, view.name) if _tells_losses(view) else {}
        for before_day in (day_of(now), "9999"):
            planned = plan(sql, view.contract, before_day, now)
            if planned.batches:
                if _tells_losses(view):
                    found = {Cause.SCREENED: planned.unlisted, Cause.AGE: planned.aged}
                    for cause, count in found.items():
                        if count:
                            lost = dict(sorted({**lost, cause: lost.get(cause, 0) + count}.items()))
                machine_id = NIL_UUID if view.machine_id is None else view.machine_id
                first = planned.batches[0]
                return _batch(view.contract, first, machine_id, NIL_UUID, now, lost).body, False
    return None


def plan(sql: sqlite3.Connection, contract: Contract, before_day: str, now: float) -> Plan:
    """The batches that buckets of days before `before_day` and all single events come to.

    Screened once more: the contract may have become narrower since they were counted. What a gateway
    would refuse for its age is left out, or the whole batch that it is in would be too old.
    """
    max_age_days = contract.endpoint.max_age_days
    oldest, earliest = oldest_day(now, max_age_days), now - max_age_days * 86400
    groups: dict[tuple[str, str | None], Planned] = {}
    unlisted = aged = 0

    def group(envelope: Mapping[str, object], day: str) -> list[WireEvent]:
        kept, _ = screen_envelope(contract, envelope, day)
        derived_id = envelope.get(ID_KEY)
        key = (canonical(kept), derived_id if isinstance(derived_id, str) else None)
        return groups.setdefault(key, Planned(key[1], kept, [])).events

    for one in buckets.events(sql, contract.product):
        day = one.ts[:10]
        event = screen_event(contract, one.event, one.properties, day)
        if event is None:
            unlisted += 1
            continue
        if (unix_of(one.ts) or now) < earliest:
            aged += 1
            continue
        group(one.envelope, day).append(WireEvent(one.event, one.ts, event.properties))
    for row in buckets.rows(sql, contract.product, before_day):
        rollup = contract.events.get(row.event)
        counts = screen_counts(contract, row.event, row.dimensions, row.measures, row.day)
        if counts is None or not isinstance(rollup, Rollup):
            unlisted += max(row.measures.values(), default=0)
            continue
        if row.day < oldest:
            aged += counts.measures[rollup.primary]
            continue
        parts = list(rollup_events(rollup, row.day, counts.dimensions, counts.measures))
        unlisted += counts.measures[rollup.primary] - sum(part.counted for part in parts)
        group(row.envelope, row.day).extend(parts)
    batches = [
        Planned(whole.derived_id, whole.envelope, chunk)
        for whole in groups.values()
        for chunk in _chunks(contract, whole.envelope, whole.events)
    ]
    return Plan(batches, unlisted, aged)


def _chunks(
    contract: Contract, envelope: Mapping[str, object], events: list[WireEvent]
) -> Iterator[list[WireEvent]]:
    # Room for the envelope, the ids and a `lost` with every cause at its longest.
    room = BODY_MAX_BYTES - len(canonical(envelope)) - 1024
    chunk: list[WireEvent] = []
    used = 0
    for one in events:
        size = size_of(contract, envelope, one)
        if chunk and (len(chunk) >= contract.endpoint.max_events or used + size > room):
            yield chunk
            chunk, used = [], 0
        chunk.append(one)
        used += size
    if chunk:
        yield chunk


def _batch(
    contract: Contract,
    planned: Planned,
    machine_id: str,
    batch_id: str,
    now: float,
    lost: Mapping[str, int],
) -> Batch:
    # A mode that promises no id has "" for one; hosts of a derived identity brought their own.
    machine_id = machine_id if planned.derived_id is None else planned.derived_id
    body = render_body(
        contract,
        Body(
            machine_id=machine_id,
            batch_id=batch_id,
            sent_at=instant(now),
            envelope=planned.envelope,
            events=planned.events,
            lost=lost,
        ),
    )
    return Batch(
        batch_id=batch_id,
        product=contract.product,
        machine_id=machine_id,
        contract=contract.short_digest,
        expires_at=_expires_at(contract, planned, now),
        body=body,
        events=len(planned.events),
        counted=min(sum(one.counted for one in planned.events), MAX_SUM),
        lost=lost,
    )


def _tells_losses(view: ProductView) -> bool:
    """Whether the protocol has a place for what was lost."""
    return view.contract.endpoint.protocol == "events-v1"


def _expires_at(contract: Contract, planned: Planned, now: float) -> float:
    """When the oldest instant in the batch leaves the contract's window."""
    oldest = unix_of(min(one.ts for one in planned.events))
    return (now if oldest is None else min(now, oldest)) + contract.endpoint.max_age_days * 86400

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
from tallyd.contract.days import day_of, instant
from tallyd.contract.model import Rollup
from tallyd.limits import BODY_MAX_BYTES
from tallyd.wire import NIL_UUID, WireEvent, canonical, render_body, rollup_event

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Mapping

    from tallyd.contract import Contract
    from tallyd.product import ProductView
    from tallyd.store import Store


@dataclass(frozen=True, slots=True)
class Planned:
    """One batch to be: its envelope and its events, in order."""

    envelope: Mapping[str, object]
    events: list[WireEvent]


def freeze(store: Store, view: ProductView, machine_id: str, now: float) -> int:
    """Move every finished day, and every single event, into the outbox; returns how many batches."""
    today = day_of(now)
    with store.transaction() as sql:
        planned = list(plan(sql, view.contract, today))
        if not planned:
            return 0
        lost = losses.take_unsent(sql, view.name)
        for one in planned:
            batch_id = str(uuid.uuid4())
            outbox.put(sql, _batch(view.contract, one, machine_id, batch_id, now, lost))
            lost = {}
        last_event = max((one.id for one in buckets.events(sql, view.name)), default=0)
        buckets.remove_sealed(sql, view.name, today, last_event)
    return len(planned)


def is_due(store: Store, view: ProductView, now: float) -> bool:
    """Whether there is something to freeze."""
    with store.reading() as sql:
        return next(plan(sql, view.contract, day_of(now)), None) is not None


def preview(store: Store, view: ProductView, now: float) -> tuple[bytes, bool] | None:
    """The body that would be sent next, and whether it is final; None when there is nothing.

    Final means: bytes in the outbox. Otherwise finished days come first, then today as if it were
    over; ids that are made only by a freeze are NIL_UUID. Changes nothing.
    """
    with store.reading() as sql:
        waiting = outbox.oldest(sql, view.name)
        if waiting is not None:
            return waiting.body, True
        lost = losses.peek_unsent(sql, view.name)
        for before_day in (day_of(now), "9999"):
            one = next(plan(sql, view.contract, before_day), None)
            if one is not None:
                machine_id = view.machine_id or NIL_UUID
                return _batch(view.contract, one, machine_id, NIL_UUID, now, lost).body, False
    return None


def plan(sql: sqlite3.Connection, contract: Contract, before_day: str) -> Iterator[Planned]:
    """The batches that buckets of days before `before_day` and all single events come to."""
    groups: dict[str, Planned] = {}

    def group(envelope: Mapping[str, object]) -> list[WireEvent]:
        return groups.setdefault(canonical(envelope), Planned(envelope, [])).events

    for one in buckets.events(sql, contract.product):
        group(one.envelope).append(WireEvent(one.event, one.ts, one.properties, 1))
    for row in buckets.rows(sql, contract.product, before_day):
        rollup = contract.events.get(row.event)
        primary = rollup.primary if isinstance(rollup, Rollup) else ""
        group(row.envelope).append(
            rollup_event(row.event, row.day, row.dimensions, row.measures, primary)
        )
    for whole in groups.values():
        for chunk in _chunks(contract, whole.envelope, whole.events):
            yield Planned(whole.envelope, chunk)


def _chunks(
    contract: Contract, envelope: Mapping[str, object], events: list[WireEvent]
) -> Iterator[list[WireEvent]]:
    # Room for the envelope, the ids and a `lost` with every cause at its longest.
    room = BODY_MAX_BYTES - len(canonical(envelope)) - 1024
    chunk: list[WireEvent] = []
    used = 0
    for one in events:
        size = len(canonical(one.props)) + len(one.event) + 64
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
    body = render_body(
        contract,
        machine_id=machine_id,
        batch_id=batch_id,
        sent_at=instant(now),
        envelope=planned.envelope,
        events=planned.events,
        lost=lost,
    )
    counted = sum(one.counted for one in planned.events)
    return Batch(batch_id, contract.product, now, body, len(planned.events), counted, lost)

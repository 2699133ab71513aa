"""The one function that renders what is sent, and the canonical text of small objects.

Pure. It guarantees that the bytes `preview` shows, the bytes in the outbox and the bytes on the
wire come from `render_body` alone, and that equal fields have equal text.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tallyd.contract.days import rollup_instant
from tallyd.contract.field_grammar import REQUEST_KEYS
from tallyd.contract.model import Rollup
from tallyd.contract.screen import screen_counts, screen_envelope, screen_event, split_rollup

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tallyd.contract import Contract

# Stands for an id that is made only when a batch is frozen: a preview must not make one.
NIL_UUID = "00000000-0000-0000-0000-000000000000"


@dataclass(frozen=True, slots=True)
class WireEvent:
    """One entry of `events` on the wire; `counted` is what is lost when it is lost."""

    event: str
    ts: str
    props: Mapping[str, object]
    counted: int


def canonical(fields: Mapping[str, object]) -> str:
    """The one text for these fields: keys sorted, no spaces, ASCII."""
    return json.dumps(fields, sort_keys=True, separators=(",", ":"))


def rollup_event(
    event: str,
    day: str,
    dimensions: Mapping[str, object],
    measures: Mapping[str, int],
    primary: str,
) -> WireEvent:
    """A bucket as it travels: at noon of its day, dimensions and measures side by side."""
    return WireEvent(
        event, rollup_instant(day), {**dimensions, **measures}, measures.get(primary, 0)
    )


def render_body(
    contract: Contract,
    *,
    machine_id: str,
    batch_id: str,
    sent_at: str,
    envelope: Mapping[str, object],
    events: Sequence[WireEvent],
    lost: Mapping[str, int],
) -> bytes:
    """The request's body, wire-v1: one envelope, flat, next to its events."""
    body: dict[str, object] = {
        "machine_id": machine_id,
        **envelope,
        "schema_version": contract.schema_version,
        "batch_id": batch_id,
        "product": contract.product,
        "contract": contract.short_digest,
        "sent_at": sent_at,
    }
    if lost:
        body["lost"] = dict(lost)
    body["events"] = [
        {"event": one.event, "ts": one.ts, "props": dict(one.props)} for one in events
    ]
    return json.dumps(body, separators=(",", ":")).encode("ascii")


def narrow_body(contract: Contract, body: bytes) -> tuple[bytes, int, int]:
    """`body`, rendered under an earlier contract, with what this one lists and nothing else.

    Returns it with the number of its events and of the counts that fell out. Ids stay: it is the
    same batch, and a gateway that has the wider one already keeps that.
    """
    said = json.loads(body)
    given = {name: said.pop(name) for name in list(said) if name not in REQUEST_KEYS}
    kept, dropped = [], 0
    for one in said.pop("events"):
        listed = contract.events.get(one["event"])
        if isinstance(listed, Rollup):
            dimensions, measures = split_rollup(listed, one["props"])
            counts = screen_counts(contract, one["event"], dimensions, measures)
            props = None if counts is None else {**counts.dimensions, **counts.measures}
        else:
            event = screen_event(contract, one["event"], one["props"])
            props = None if event is None else event.properties
        if props is None:
            numbers = [value for value in one["props"].values() if type(value) is int]
            dropped += max(numbers, default=1)
        else:
            kept.append({**one, "props": props})
    envelope, _ = screen_envelope(contract, given)
    said.update(schema_version=contract.schema_version, contract=contract.short_digest)
    narrow = {"machine_id": said.pop("machine_id"), **envelope, **said, "events": kept}
    return json.dumps(narrow, separators=(",", ":")).encode("ascii"), len(kept), dropped

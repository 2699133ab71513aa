"""The protocol `events-v1`: a flat object, the envelope next to its events (docs/wire.md).

Pure: `render` and `read` are each other's inverse for what the contract lists. Names are the
contract's own on one side and those of the wire on the other.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tallyd.body import Body, WireEvent
from tallyd.contract.field_grammar import REQUEST_KEYS
from tallyd.contract.screen import event_on_wire, from_wire, to_wire

if TYPE_CHECKING:
    from tallyd.contract import Contract

# What an event costs beside its props and name, in bytes.
EVENT_OVERHEAD_BYTES = 64


def render(contract: Contract, body: Body) -> bytes:
    """The request's bytes."""
    said: dict[str, object] = {
        "machine_id": body.machine_id,
        **to_wire(contract.envelope, body.envelope),
        "schema_version": contract.schema_version,
        "batch_id": body.batch_id,
        "product": contract.product,
        "contract": contract.short_digest,
        "sent_at": body.sent_at,
    }
    if body.lost:
        said["lost"] = dict(body.lost)
    said["events"] = [_render_event(contract, one) for one in body.events]
    return json.dumps(said, separators=(",", ":")).encode("ascii")


def read(contract: Contract, content: bytes) -> Body:
    """What `render` was given, as far as this contract knows its names."""
    said = json.loads(content)
    envelope = {name: value for name, value in said.items() if name not in REQUEST_KEYS}
    events = []
    for one in said["events"]:
        listed = event_on_wire(contract, one["event"])
        props = from_wire(listed.fields, one["props"]) if listed is not None else one["props"]
        name = listed.name if listed is not None else ""
        events.append(WireEvent(name, one["ts"], props))
    return Body(
        machine_id=said["machine_id"],
        batch_id=said["batch_id"],
        sent_at=said["sent_at"],
        envelope=from_wire(contract.envelope, envelope),
        events=events,
        lost=said.get("lost", {}),
    )


def _render_event(contract: Contract, one: WireEvent) -> dict[str, object]:
    listed = contract.events[one.event]
    return {
        "event": listed.wire_name or one.event,
        "ts": one.ts,
        "props": to_wire(listed.fields, one.props),
    }

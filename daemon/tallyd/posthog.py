"""The protocol `posthog-batch`: events as PostHog takes them, for products that have no gateway.

Pure: `render` and `read` are each other's inverse for what the contract lists. Every event carries
the envelope, and two or three properties of PostHog's own that keep it from making more of it than was
sent: no look-up of a place, and no profile of a person who did not give an id. PostHog drops a
repeated event only where uuid, event, timestamp and distinct_id all agree, so the uuid is made of
the batch's id and the event's place in it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tallyd.body import Body, WireEvent
from tallyd.contract.screen import event_on_wire, from_wire, to_wire

if TYPE_CHECKING:
    from tallyd.contract import Contract

# What an event costs beside its props, envelope and name, in bytes: flags, ids, a group's key.
EVENT_OVERHEAD_BYTES = 512
_GROUPS = "$groups"
_LIB = "tallyd"


def render(contract: Contract, body: Body) -> bytes:
    """The request's bytes."""
    said = {
        "api_key": contract.endpoint.key,
        "sent_at": body.sent_at,
        "batch": [_render_event(contract, body, place) for place in range(len(body.events))],
    }
    return json.dumps(said, separators=(",", ":")).encode("ascii")


def read(contract: Contract, content: bytes) -> Body:
    """What `render` was given, as far as this contract knows its names; a batch's id is not in it."""
    said = json.loads(content)
    machine_id, envelope = "", {}
    in_envelope = {one.wire_name or name for name, one in contract.envelope.items()}
    events = []
    for one in said["batch"]:
        if one["distinct_id"] != one["uuid"]:
            machine_id = one["distinct_id"]
        listed = event_on_wire(contract, one["event"])
        props = {
            name: value for name, value in one["properties"].items() if not name.startswith("$")
        }
        envelope = {name: props.pop(name) for name in list(props) if name in in_envelope}
        if listed is not None:
            props = from_wire(listed.fields, props) | one["properties"].get(_GROUPS, {})
        name = listed.name if listed is not None else ""
        events.append(WireEvent(name, one["timestamp"], props, uuid=one["uuid"]))
    return Body(
        machine_id=machine_id,
        batch_id="",
        sent_at=said["sent_at"],
        envelope=from_wire(contract.envelope, envelope),
        events=events,
        lost={},
    )


def _id_of(body: Body, place: int) -> str:
    import uuid  # noqa: PLC0415 - platform detection that an idle daemon has no use for

    return str(uuid.uuid5(uuid.UUID(body.batch_id), str(place)))


def _render_event(contract: Contract, body: Body, place: int) -> dict[str, object]:
    one = body.events[place]
    listed = contract.events[one.event]
    groups = {
        name: one.props[name]
        for name, field in listed.fields.items()
        if field.is_group and name in one.props
    }
    own = {name: value for name, value in one.props.items() if name not in groups}
    # Nameless, and the same at every attempt: a person is not counted, a repeat is recognised.
    event_id = one.uuid or _id_of(body, place)
    properties: dict[str, object] = {
        **to_wire(listed.fields, own),
        **to_wire(contract.envelope, body.envelope),
    }
    if groups:
        properties[_GROUPS] = groups
    if not (contract.identity.kind == "user" and body.machine_id):
        properties["$process_person_profile"] = False
    return {
        "event": listed.wire_name or one.event,
        "distinct_id": body.machine_id or event_id,
        "uuid": event_id,
        "timestamp": one.ts,
        "properties": {**properties, "$geoip_disable": True, "$lib": _LIB},
    }

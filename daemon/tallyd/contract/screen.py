"""The allowlist at work: what of a delta or a request a contract lets through.

The daemon screens what hosts dropped and the gateway screens what daemons sent with these same
functions. They guarantee that the result holds only listed names with values of the listed types,
none of them past its expiry on the day it belongs to; everything else is stripped and counted. They
never raise on any input. Names are the contract's own; `to_wire` and `from_wire` are their
counterparts on the wire.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tallyd.contract.fields import MAX_INTEGER, FieldValue, _Refused
from tallyd.contract.frozen import Frozen
from tallyd.contract.model import Rollup, SingleEvent

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tallyd.contract.model import Contract, Event, Field

Fields = dict[str, FieldValue]


class ScreenedCounts(Frozen):
    """Counts that may be kept: every measure of the event is there, zero when it was not given."""

    dimensions: Fields
    measures: dict[str, int]
    stripped: int


class ScreenedEvent(Frozen):
    """A single event that may be kept."""

    properties: Fields
    stripped: int


def has_expired(expires: str, day: str) -> bool:
    """Whether something that expires on a day ("": never) is past it on `day`."""
    return bool(expires) and day >= expires


def screen_fields(
    listed: Mapping[str, Field], given: Mapping[str, object], day: str
) -> tuple[Fields, int] | None:
    """The good fields and the number of stripped ones; None when a required one is missing or bad."""
    kept: Fields = {}
    for name, field in listed.items():
        if has_expired(field.expires, day):
            continue
        if name in given:
            value = field.type.screen(given[name])
            if not isinstance(value, _Refused):
                kept[name] = value
                continue
        if not field.is_optional:
            return None
    return kept, len(given) - len(kept)


def screen_envelope(
    contract: Contract, given: Mapping[str, object], day: str
) -> tuple[Fields, int]:
    """The good envelope fields and the number of stripped ones; a bad one never costs the rest."""
    return screen_fields(contract.envelope, given, day) or ({}, len(given))


def screen_counts(
    contract: Contract,
    event: object,
    dimensions: Mapping[str, object],
    measures: Mapping[str, object],
    day: str,
) -> ScreenedCounts | None:
    """The counts of one rollup row; None when the event is not listed or a required part is bad."""
    rollup = contract.events.get(event) if isinstance(event, str) else None
    if not isinstance(rollup, Rollup) or has_expired(rollup.expires, day):
        return None
    screened = screen_fields(rollup.dimensions, dimensions, day)
    if screened is None:
        return None
    kept: dict[str, int] = {}
    good = 0
    for measure in rollup.measures:
        value = measures.get(measure)
        # `type is int`: true is no integer.
        if type(value) is int and 0 <= value <= MAX_INTEGER:
            kept[measure] = value
            good += 1
        elif measure == rollup.primary:
            return None
        else:
            kept[measure] = 0
    return ScreenedCounts(screened[0], kept, screened[1] + len(measures) - good)


def screen_event(
    contract: Contract, event: object, properties: Mapping[str, object], day: str
) -> ScreenedEvent | None:
    """The properties of one single event; None when it is not listed or a required part is bad."""
    listed = contract.events.get(event) if isinstance(event, str) else None
    if not isinstance(listed, SingleEvent) or has_expired(listed.expires, day):
        return None
    screened = screen_fields(listed.properties, properties, day)
    return None if screened is None else ScreenedEvent(*screened)


def split_rollup(
    rollup: Rollup, props: Mapping[str, object]
) -> tuple[dict[str, object], dict[str, object]]:
    """The flat props of a rollup on the wire as (dimensions, measures); the rest stays a dimension."""
    measures = {name: value for name, value in props.items() if name in rollup.measures}
    return {name: value for name, value in props.items() if name not in measures}, measures


def to_wire(listed: Mapping[str, Field], fields: Mapping[str, object]) -> dict[str, object]:
    """`fields` under the names that they have on the wire."""
    return {
        (listed[name].wire_name if name in listed else "") or name: value
        for name, value in fields.items()
    }


def from_wire(listed: Mapping[str, Field], fields: Mapping[str, object]) -> dict[str, object]:
    """What `to_wire` was given; names that nobody listed stay, to be stripped and counted."""
    names = {one.wire_name: name for name, one in listed.items() if one.wire_name}
    # A field that is called otherwise on the wire is not known there by its own name.
    hidden = set(names.values()) - set(names)
    return {names.get(name, name): value for name, value in fields.items() if name not in hidden}


def event_on_wire(contract: Contract, name: object) -> Event | None:
    """The listed event that has this name on the wire."""
    return next(
        (one for one in contract.events.values() if (one.wire_name or one.name) == name), None
    )

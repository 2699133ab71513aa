"""How a contract writes its events: `[events.NAME]`, and the definitions that several share.

It owns the grammar of `[fields]`, `[groups]` and `[events]`, and resolves `uses` and `groups`: an
event that comes out of here holds every field it may carry. `resolve_tables` does the same with the
tables as TOML gives them, for the constants that a stub is built from.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, cast

from tallyd.contract.field_grammar import (
    FIELD_NAME,
    read_expiry,
    read_field,
    read_fields,
    read_wire_name,
)
from tallyd.contract.fields import MAX_INTEGER, Hash, Number
from tallyd.contract.frozen import replace
from tallyd.contract.model import Event, Field, Rollup, Sampling, SingleEvent

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tallyd.contract.model import Once
    from tallyd.contract.table import Table

# Where the rate of a sampled event stands, when the contract names no other place.
_RATE_FIELD: Final = "sample_rate"
_RATE_ABOUT: Final = "The share of processes that record this event, so that it can be weighted."


def read_events(root: Table) -> dict[str, Event]:
    """Every event of a contract, in the order of the file. Raises ContractError."""
    shared = read_fields(root.table("fields"))
    groups = {
        name: replace(read_field(name, one), is_group=True, is_optional=True, wire_name="")
        for name, one in root.table("groups").named_tables(name_pattern=FIELD_NAME, what="a group")
    }
    for name, one in groups.items():
        if not isinstance(one.type, Hash):
            root.table("groups").fail(name, "is not a hash", 'a group is its hash: type = "hash"')
    table = root.table("events", required=True)
    events = {
        name: _event(name, one, shared, groups)
        for name, one in table.named_tables(name_pattern=FIELD_NAME, what="an event")
    }
    if not events:
        table.fail("", "lists no event", "write at least one table [events.NAME]")
    _refuse_twice(table, events)
    return events


def resolve_tables(values: Mapping[str, Any]) -> dict[str, Any]:
    """`[events]` as TOML gives it, with `uses` and `groups` written out in each event."""
    shared, groups = values.get("fields", {}), values.get("groups", {})
    resolved = {}
    for name, event in values["events"].items():
        whole = dict(event)
        own = "dimensions" if event["kind"] == "rollup" else "properties"
        whole[own] = {
            **{one: groups[one] | {"optional": True} for one in whole.pop("groups", ())},
            **{one: shared[one] for one in whole.pop("uses", ())},
            **whole.get(own, {}),
        }
        if "sample" in whole:
            whole[own][whole.setdefault("sample_as", _RATE_FIELD)] = {"type": "number", "max": 1}
        resolved[name] = whole
    return resolved


def _event(
    name: str, table: Table, shared: Mapping[str, Field], groups: Mapping[str, Field]
) -> Event:
    kind = table.choice("kind", "", ("rollup", "event"))
    if not kind:
        table.fail("kind", "is missing", 'write "rollup" (counted by day) or "event" (told singly)')
    about, expires, wire_name = table.text("about"), read_expiry(table), read_wire_name(table)
    own = "properties" if kind == "event" else "dimensions"
    fields = {
        **_named(table, "groups", groups, "[groups]"),
        **_named(table, "uses", shared, "[fields]"),
    }
    for one, field in read_fields(table.table(own)).items():
        if one in fields:
            table.table(own).fail(one, "stands in `uses` or `groups` too", "name it once")
        fields[one] = field
    sampling = _sampling(table, fields)
    if sampling is not None:
        fields[sampling.field] = Field(Number(0, 1), about=_RATE_ABOUT)
    event: Event
    if kind == "event":
        once = cast("Once", table.choice("once", "", ("process", "machine")))
        event = SingleEvent(name, about, fields, expires, wire_name, sampling, once)
    else:
        measures, maxima = _measures(table, fields)
        event = Rollup(name, about, fields, measures, maxima, expires, wire_name, sampling)
    table.finish()
    return event


def _named(table: Table, key: str, known: Mapping[str, Field], where: str) -> dict[str, Field]:
    names = table.texts(key, ())
    for name in names:
        if name not in known:
            table.fail(key, f"{name!r} is not defined", f"define it in {where}")
    return {name: known[name] for name in names}


def _sampling(table: Table, fields: Mapping[str, Field]) -> Sampling | None:
    if "sample" not in table.values:
        if "sample_as" in table.values:
            table.fail("sample_as", "names the place of a rate that is not there", "write `sample`")
        return None
    rate = table.number("sample", 1, low=0, high=1)
    name = _RATE_FIELD
    if "sample_as" in table.values:
        name = table.matching("sample_as", FIELD_NAME, "a field's name")
    if name in fields:
        table.fail("sample_as", f"{name!r} is a field already", "choose another name for the rate")
    return Sampling(rate, name)


def _measures(table: Table, fields: Mapping[str, Field]) -> tuple[tuple[str, ...], dict[str, int]]:
    """The names of the measures, and the largest number of each that one row may carry."""
    maxima: dict[str, int] = {}
    names: list[str] = []
    for one in table.names_or_tables("measures"):
        if isinstance(one, str):
            names.append(one)
            continue
        name = one.matching("name", FIELD_NAME, "a name for a measure")
        maxima[name] = one.integer("max", MAX_INTEGER, low=1, high=MAX_INTEGER)
        one.finish()
        names.append(name)
    if not names:
        table.fail("measures", "is empty", 'name at least the number of times, like ["count"]')
    taken = set(fields)
    for name in names:
        is_new = name not in taken
        taken.add(name)
        if not is_new or re.fullmatch(FIELD_NAME, name, re.ASCII) is None:
            table.fail("measures", f"{name!r} is no name for a measure", "it must be a new name")
    return tuple(names), maxima


def _refuse_twice(table: Table, events: Mapping[str, Event]) -> None:
    """On the wire, too, every name means one thing."""
    seen: set[str] = set()
    for name, event in events.items():
        if (wire_name := event.wire_name or name) in seen:
            table.fail(name, f"{wire_name!r} is another event's name on the wire", "choose another")
        seen.add(wire_name)
        measures = event.measures if isinstance(event, Rollup) else ()
        inner = [
            *((one.wire_name or at) for at, one in event.fields.items()),
            *measures,
        ]
        if len(set(inner)) != len(inner):
            table.fail(name, "gives two fields one name on the wire", "choose another for `as`")

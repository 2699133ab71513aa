"""A contract as JSON Schema (draft 2020-12): the body of a request, for receivers of any make.

It owns the translation of every type and of both protocols. It guarantees that the schema is closed
and that it lets through what `screen` keeps as it is, and nothing that `screen` strips, refuses, cuts
or rewrites. Alphabets are written as "holds none of the others", because `$` stands before a final
line break in some engines.

What it knowingly leaves out: JSON Schema calls 1.0 an integer, `screen` does not. Whether a text
would be redacted once more, no schema can say. A field that expires is never required, and an expired
one is still described. A measure is held to the largest number that one row may carry.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from tallyd.contract.fields import (
    LABEL_ALPHABET,
    MAX_INTEGER,
    Boolean,
    Bucket,
    Enum,
    ErrorClass,
    Hash,
    Integer,
    List,
    Names,
    Number,
    Record,
    Redacted,
    Text,
    Uuid,
)
from tallyd.contract.model import Rollup

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tallyd.contract.fields import FieldType
    from tallyd.contract.model import Contract, Event, Field, Identity

Schema = dict[str, Any]

_DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"
_COMMENT: Final = (
    "JSON Schema takes 1.0 for an integer; tallyd does not. A field past its date is stripped, so"
    " none with a date is required. Text is redacted once more where it arrives."
)
# ASCII by hand: \d and \w mean more than that in some engines.
_NOT_IN_A_NAME: Final = "[^A-Za-z0-9_.:+-]"
# Nor an address, nor a word that is a path of its own.
_NOT_IN_A_LABEL: Final = "[^A-Za-z0-9_.:+/@() -]|://|(^|[ ()])(/|[^ ()]:/)[^ ()]"
_DAY: Final = "[0-9]{4}-[0-9]{2}-[0-9]{2}"


def schema_of(contract: Contract) -> Schema:
    """The schema of one request's body in the contract's protocol."""
    is_posthog = contract.endpoint.protocol == "posthog-batch"
    return {
        "$schema": _DRAFT,
        "title": f"{contract.product}, schema version {contract.schema_version}",
        "description": contract.about or contract.title,
        "$comment": _COMMENT,
        **(_posthog_body(contract) if is_posthog else _events_body(contract)),
    }


def event_schemas(contract: Contract) -> dict[str, Schema]:
    """The schema of each event's own properties by the contract's name for it, keys as on the wire."""
    is_posthog = contract.endpoint.protocol == "posthog-batch"
    return {
        name: _described(_closed(*_own(one, with_groups=not is_posthog)), one.about, one.expires)
        for name, one in contract.events.items()
    }


def type_schema(kind: FieldType) -> Schema:
    """The schema of the values that a type keeps as they are."""
    match kind:
        case Enum():
            return {"enum": list(kind.values)}
        case Text():
            outside = _NOT_IN_A_LABEL if kind.alphabet == LABEL_ALPHABET else _NOT_IN_A_NAME
            return {**_text(kind.max_length), "not": {"pattern": outside}}
        case Integer():
            return _integer(kind.minimum, kind.maximum)
        case Number():
            return {"type": "number", "minimum": kind.minimum, "maximum": kind.maximum}
        case Boolean():
            return {"type": "boolean"}
        case Bucket():
            return {"enum": list(kind.labels)}
        case Uuid():
            return _pattern("^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$", 36)
        case Hash():
            return _digits(kind.prefix, kind.length)
        case ErrorClass():
            return {
                **_text(kind.max_length),
                "pattern": "^[A-Z]",
                "not": {"pattern": "[^A-Za-z0-9_]"},
            }
        case Redacted():
            return _text(kind.max_length)
        case List():
            return {"type": "array", "items": type_schema(kind.of), "maxItems": kind.max_items}
        case Record():
            fields = {name: type_schema(one) for name, one in kind.fields.items()}
            return _closed(fields, [name for name in fields if name not in kind.optional])
        case Names():
            return {
                "type": "object",
                "propertyNames": type_schema(kind.of),
                "additionalProperties": {"const": True},
                "maxProperties": kind.max_items,
            }
    raise TypeError(f"{kind!r} has no schema")


# --- the two protocols ----------------------------------------------------------------------------


def _events_body(contract: Contract) -> Schema:
    events = event_schemas(contract)
    entries = {name: _entry(one, events[name]) for name, one in contract.events.items()}
    body: dict[str, Schema] = {
        "machine_id": type_schema(Uuid()),
        **_fields(contract.envelope),
        "schema_version": {"const": contract.schema_version},
        "batch_id": type_schema(Uuid()),
        "product": {"const": contract.product},
        "contract": _digits("", 16),
        "sent_at": _instant(),
        "lost": {
            "type": "object",
            "propertyNames": {**_text(32), "not": {"pattern": "[^a-z_]"}},
            "additionalProperties": _integer(0, MAX_INTEGER),
        },
        "events": _several(contract, entries),
    }
    # tallyd sends all of it; a receiver needs no more than these.
    return {**_closed(body, ["machine_id", "schema_version", "events"]), "$defs": entries}


def _entry(event: Event, props: Schema) -> Schema:
    """One item of `events`."""
    clock = "12:00:00\\.000" if isinstance(event, Rollup) else ""
    fields = {
        "event": {"const": event.wire_name or event.name},
        "ts": _instant(clock),
        "props": props,
    }
    return _closed(fields, list(fields))


def _posthog_body(contract: Contract) -> Schema:
    entries = {name: _capture(contract, one) for name, one in contract.events.items()}
    key: Schema = {"const": contract.endpoint.key}
    if contract.endpoint.key_env:
        key = {**_text(100), "pattern": "^phc_", "not": {"pattern": "[^A-Za-z0-9_]"}}
    body = {
        "api_key": key,
        "sent_at": {
            "type": "string",
            "maxLength": 32,
            "pattern": f"^{_DAY}T[0-9:]{{8}}(\\.[0-9]{{1,6}})?(Z|\\+00:00)$",
        },
        "historical_migration": {"type": "boolean"},
        "batch": _several(contract, entries),
    }
    return {**_closed(body, ["api_key", "batch"]), "$defs": entries}


def _capture(contract: Contract, event: Event) -> Schema:
    """One item of `batch`."""
    own, required = _own(event, with_groups=False)
    groups = {name: type_schema(one.type) for name, one in event.fields.items() if one.is_group}
    marks: dict[str, Schema] = {
        "$process_person_profile": {"const": False},
        "$geoip_disable": {"const": True},
        "$lib": {"const": "tallyd"},
    }
    always = list(marks)
    if contract.identity.kind == "user":
        # Who chose to be identified has a profile; then the mark is not there.
        always.remove("$process_person_profile")
    if groups:
        marks["$groups"] = _closed(groups, [])
    properties = _closed({**_fields(contract.envelope), **own, **marks}, [*required, *always])
    clock = "12:00:00\\.000" if isinstance(event, Rollup) else ""
    fields: dict[str, Schema] = {
        "event": {"const": event.wire_name or event.name},
        "distinct_id": _distinct_id(contract.identity),
        "uuid": type_schema(Uuid()),
        "timestamp": _instant(clock),
        "properties": properties,
    }
    entry = _closed(fields, [name for name in fields if name != "uuid"])
    return _described(entry, event.about, event.expires)


def _distinct_id(identity: Identity) -> Schema:
    if identity.kind == "random":
        return type_schema(Uuid())
    if identity.kind == "derived":
        prefixes = (identity.prefix, identity.fallback_prefix)
        return {"anyOf": [_digits(one, identity.length) for one in prefixes]}
    # The user's own id, or one that is made for this batch alone.
    return {"type": "string", "minLength": 1}


# --- pieces ---------------------------------------------------------------------------------------


def _own(event: Event, *, with_groups: bool) -> tuple[dict[str, Schema], list[str]]:
    """An event's own properties by their names on the wire, and which must be there."""
    listed = {name: one for name, one in event.fields.items() if with_groups or not one.is_group}
    required = [
        one.wire_name or name
        for name, one in listed.items()
        if not one.is_optional and not one.expires
    ]
    schemas = _fields(listed)
    if isinstance(event, Rollup):
        for name in event.measures:
            schemas[name] = _integer(0, event.maxima.get(name, MAX_INTEGER))
        # The others count as zero when they are not there.
        required.append(event.primary)
    return schemas, required


def _fields(listed: Mapping[str, Field]) -> dict[str, Schema]:
    return {
        one.wire_name or name: _described(type_schema(one.type), one.about, one.expires)
        for name, one in listed.items()
    }


def _described(schema: Schema, about: str, expires: str) -> Schema:
    until = f"Not collected from {expires} on." if expires else ""
    description = " ".join(one for one in (about, until) if one)
    return {**schema, "description": description} if description else schema


def _several(contract: Contract, entries: Mapping[str, Schema]) -> Schema:
    kinds = [{"$ref": f"#/$defs/{name}"} for name in entries]
    return {
        "type": "array",
        "items": {"anyOf": kinds},
        "maxItems": contract.endpoint.max_events,
    }


def _closed(properties: Mapping[str, Schema], required: list[str]) -> Schema:
    return {
        "type": "object",
        "properties": dict(properties),
        "required": required,
        "additionalProperties": False,
    }


def _text(max_length: int) -> Schema:
    return {"type": "string", "minLength": 1, "maxLength": max_length}


def _integer(low: int, high: int) -> Schema:
    return {"type": "integer", "minimum": low, "maximum": high}


def _pattern(pattern: str, length: int) -> Schema:
    return {"type": "string", "maxLength": length, "pattern": pattern}


def _digits(prefix: str, length: int) -> Schema:
    # A prefix holds nothing that a pattern reads as more than itself.
    return _pattern(f"^{prefix}[0-9a-f]{{{length}}}$", len(prefix) + length)


def _instant(clock: str = "") -> Schema:
    at = clock or "[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{3}"
    return _pattern(f"^{_DAY}T{at}Z$", len("2026-01-01T12:00:00.000Z"))

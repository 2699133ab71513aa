"""The JSON Schema of a contract lets through exactly what screening keeps as it is."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from support.inline_contracts import EVERY_TYPE, INLINE, parsed
from support.processes import CONTRACTS, ROOT
from tallyd.contract import Contract
from tallyd.contract.fields import (
    FieldType,
    Integer,
    List,
    Names,
    Record,
)
from tallyd.contract.frozen import replace
from tallyd.contract.json_schema import event_schemas, schema_of, type_schema
from tallyd.contract.model import Event, Rollup
from tallyd.contract.screen import (
    from_wire,
    screen_counts,
    screen_envelope,
    screen_event,
    split_rollup,
    to_wire,
)

CASES = {
    **{file.stem: file.read_text(encoding="utf-8") for file in sorted(CONTRACTS.glob("*.toml"))},
    **INLINE,
}
PARSED = {name: parsed(text) for name, text in CASES.items()}
# The kinds of id change nothing about an event.
EVENTS = [
    (case, name)
    for case, contract in PARSED.items()
    for name in contract.events
    if case not in ("derived", "user", "anonymous")
]
TO_GATEWAYS = [
    case for case, contract in PARSED.items() if contract.endpoint.protocol == "events-v1"
]
MACHINE = "5d0c7a16-2f0e-4c1b-9b58-7e41d2aa9f03"
DAY = "2026-11-19"
MAX = 2**53 - 1


def accepts(schema: Mapping[str, Any], value: object) -> bool:
    return Draft202012Validator(schema).is_valid(value)


@pytest.mark.parametrize("case", PARSED)
def test_every_schema_is_a_schema(case: str):
    for schema in (schema_of(PARSED[case]), *event_schemas(PARSED[case]).values()):
        Draft202012Validator.check_schema(schema)
        assert json.loads(json.dumps(schema)) == schema
    assert schema_of(PARSED[case])["$schema"] == "https://json-schema.org/draft/2020-12/schema"


@pytest.mark.parametrize("case", PARSED)
def test_every_object_is_closed_and_every_pattern_means_the_same_everywhere(case: str):
    """ASCII classes, no escape that is an error elsewhere, a maximum beside each `$`."""

    def walk(one: Any) -> None:
        if isinstance(one, list):
            for item in one:
                walk(item)
        if not isinstance(one, dict):
            return
        if one.get("type") == "object":
            assert "additionalProperties" in one
            assert one["additionalProperties"] is not True
        if isinstance(pattern := one.get("pattern"), str):
            assert re.search(r"\\[^.+]", pattern) is None, pattern
            assert pattern[-1] != "$" or "maxLength" in one, pattern
        for value in one.values():
            walk(value)

    walk(schema_of(PARSED[case]))


# --- the types ------------------------------------------------------------------------------------

KINDS: dict[str, FieldType] = {
    name: one.type for name, one in PARSED["every type"].events["types"].fields.items()
}


@pytest.mark.parametrize(
    ("field", "good", "bad"),
    [
        ("enum", ["a", "b b", "c|d"], ["A", "", 1, True, None]),
        ("token", ["a", "a_.:+-Z", "12345678"], ["", "123456789", "a b", "a\n", "é", "a/b", 1, None]),
        ("cut", ["12345678"], ["123456789"]),
        ("label", ["a b/@()", "-", " "], ["a\n", "a\tb", "123456789", "ä", "a,b", "a]"]),
        ("version", ["1.2.3", "v" * 32], ["v" * 33, "1 2"]),
        ("int", [-5, 0, 100], [-6, 101, 0.5, True, False, "1", None]),
        ("wide one", [0, MAX], [-1, MAX + 1]),
        ("deep", [-MAX, 9], [-MAX - 1, 10]),
        ("number", [-0.5, 0, 1.25, 2.5], [-0.6, 2.6, True, "1"]),
        ("boolean", [True, False], [0, 1, "true", None]),
        ("bucket", ["<10", "100+"], [10, "10", ""]),
        ("uuid", [MACHINE, "0" * 8 + "-0000-0000-0000-" + "f" * 12], [MACHINE.upper(), MACHINE + "\n", MACHINE[1:], "g" + MACHINE[1:], MACHINE.replace("-", "")]),
        ("hash", ["h-x_0123abcd"], ["h-x_0123abcd\n", "h-x_0123ABCD", "0123abcd", "h-x_0123abc", "hxx_0123abcd", "h-x_0123abcd0"]),
        ("project", ["0" * 64], ["0" * 63, "0" * 65, "0" * 64 + "\n"]),
        ("error", ["E", "ValueError", "A_1"], ["e", "", "Error: x", "ValueErrorXXX", "É", "_A", "A\n"]),
        ("detail", ["it broke", "x" * 20], ["", "x" * 21, 5]),
        ("tokens", [[], ["a", "bb"], ["a"] * 3], [["a"] * 4, ["12345"], "a", [1], [["a"]], None]),
        ("ints", [[0, 4]], [[5], [True], [0, 1, 2]]),
        ("records", [[], [{"driver": "pg"}], [{"driver": "pg", "demo": True}]], [[{}], [{"demo": True}], [{"driver": "pg", "x": 1}], [{"driver": "pg", "demo": 1}], [5]]),
        ("flags", [{}, {"a": True}, {"a": True, "b": True}], [{"a": False}, {"a": 1}, {"a b": True}, {"": True}, {"a": True, "b": True, "c": True}, {"12345": True}, ["a"]]),
        ("parts", [{"p": True}], [{"r": True}]),
    ],
)  # fmt: skip
def test_a_type_lets_through_what_it_keeps_and_no_more(field: str, good: list, bad: list):
    kind = KINDS["wide" if field == "wide one" else field]
    schema = type_schema(kind)

    assert [one for one in good if not accepts(schema, one)] == []
    assert [one for one in bad if accepts(schema, one)] == []
    assert [one for one in good if kind.screen(one) != one] == []
    assert [one for one in bad if same(kind.screen(one), one)] == []


def same(one: object, other: object) -> bool:
    """Equal as JSON: true is not 1, and the order of keys says nothing."""
    try:
        return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    except (TypeError, ValueError):
        return False


def test_json_schema_takes_a_whole_float_for_an_integer_and_says_so():
    contract = PARSED["every type"]

    assert accepts(type_schema(Integer()), 1.0)
    assert "1.0" in schema_of(contract)["$comment"]


# --- the properties of events ---------------------------------------------------------------------

# Near misses of every type, so that values are often right and often almost.
_TEXTS = [
    "a",
    "b b",
    "c|d",
    "<10",
    "abcd",
    "12345678",
    "123456789",
    "x" * 65,
    "é",
    "a\n",
    "",
    MACHINE,
]
_TEXTS += [
    MACHINE.upper(),
    "h-x_0123abcd",
    "0" * 64,
    "Error",
    "Error: no",
    "p",
    "x",
    "local",
    "fresh",
]
_TEXTS += ["mcp_tool", "stdio", "100-1k", "<10s", "signal", "it broke", "x" * 21]
_SCALARS = (
    st.sampled_from(_TEXTS)
    | st.booleans()
    | st.sampled_from([-6, -5, 0, 1, 9, 10, 100, 1000, 1001, MAX, MAX + 1, -MAX, 2.5, 2.6, None])
    | st.floats(allow_nan=False, allow_infinity=False).filter(lambda one: one != int(one))
)


def _near(kind: FieldType) -> st.SearchStrategy[Any]:
    """Values that might be of this type."""
    if isinstance(kind, List):
        return st.lists(_near(kind.of), max_size=kind.max_items + 1)
    if isinstance(kind, Record):
        near = {name: _near(one) for name, one in kind.fields.items()}
        return st.fixed_dictionaries({}, optional={**near, "other": _SCALARS})
    if isinstance(kind, Names):
        return st.dictionaries(st.sampled_from(_TEXTS), st.just(True) | _SCALARS, max_size=3)
    return st.sampled_from(_good(kind)) | _SCALARS


def _good(kind: FieldType) -> list[Any]:
    """Values that are."""
    listed = getattr(kind, "values", ()) or getattr(kind, "labels", ())
    tried = [*_TEXTS, *listed, True, 0, 1, 100, 2.5, [], ["a"], [{"driver": "a"}], {}, {"p": True}]
    return [one for one in tried if same(kind.screen(one), one)]


@st.composite
def props_of(draw: Any, event: Event) -> dict[str, Any]:
    """Properties by their names on the wire: right ones, with up to three of them spoiled."""
    good = {at.wire_name or name: _good(at.type) for name, at in event.fields.items()}
    near = {at.wire_name or name: _near(at.type) for name, at in event.fields.items()}
    if isinstance(event, Rollup):
        for name in event.measures:
            good[name], near[name] = [0, 1000], st.sampled_from([1001, MAX]) | _SCALARS
    # A field that has another name on the wire is not known there by its own.
    near |= {name: near[at.wire_name] for name, at in event.fields.items() if at.wire_name}
    near["other"] = _SCALARS
    props = {name: draw(st.sampled_from(good[name])) for name in good}
    for name in draw(st.lists(st.sampled_from(sorted(near)), max_size=3)):
        props.pop(name, None)
        if draw(st.booleans()):
            props[name] = draw(near[name])
    return props


def passes(contract: Contract, event: Event, props: dict[str, Any]) -> bool:
    """Whether screening keeps these properties as they are."""
    given_fields = from_wire(event.fields, props)
    kept: dict[str, Any]
    if isinstance(event, Rollup):
        dimensions, measures = split_rollup(event, given_fields)
        counts = screen_counts(contract, event.name, dimensions, measures, DAY)
        if counts is None or counts.stripped:
            return False
        if any(counts.measures[name] > most for name, most in event.maxima.items()):
            return False
        said = {name: one for name, one in counts.measures.items() if name in measures}
        kept = {**to_wire(event.fields, counts.dimensions), **said}
    else:
        told = screen_event(contract, event.name, given_fields, DAY)
        if told is None or told.stripped:
            return False
        kept = to_wire(event.fields, told.properties)
    return same(kept, props)


def as_screened(contract: Contract) -> Contract:
    """The contract without what a schema of properties and screening see differently.

    A required field with a date is not required by the schema, and groups stand elsewhere in
    posthog-batch, which screening does not know: both are tested below.
    """
    is_posthog = contract.endpoint.protocol == "posthog-batch"
    events: dict[str, Event] = {}
    for name, event in contract.events.items():
        fields = {
            at: replace(one, is_optional=one.is_optional or bool(one.expires))
            for at, one in event.fields.items()
            if not (is_posthog and one.is_group)
        }
        is_rollup = isinstance(event, Rollup)
        events[name] = (
            replace(event, dimensions=fields) if is_rollup else replace(event, properties=fields)
        )
    return replace(contract, events=events)


@pytest.mark.slow
@pytest.mark.parametrize(("case", "name"), EVENTS)
def test_the_schema_of_an_events_properties_is_its_screening(case: str, name: str):
    contract = as_screened(PARSED[case])
    event = contract.events[name]
    validator = Draft202012Validator(event_schemas(contract)[name])
    seen: set[bool] = set()

    @settings(max_examples=150, deadline=None, database=None)
    @given(props=props_of(event))
    def check(props: dict[str, Any]) -> None:
        wanted = passes(contract, event, props)
        seen.add(wanted)
        assert validator.is_valid(props) == wanted, props

    check()
    assert seen == {True, False}


def test_groups_are_properties_of_events_v1_and_stand_apart_for_posthog():
    both = {
        case: event_schemas(PARSED[case])["types"]["properties"]
        for case in ("every type", "posthog")
    }
    batch = schema_of(PARSED["posthog"])["$defs"]["types"]["properties"]["properties"]["properties"]

    assert ("project" in both["every type"], "project" in both["posthog"]) == (True, False)
    assert list(batch["$groups"]["properties"]) == ["project"]
    assert "$groups" not in schema_of(PARSED["posthog"])["$defs"]["needs"]["properties"]["properties"]["properties"]  # fmt: skip


def test_what_expires_is_said_and_never_required():
    needs = event_schemas(PARSED["every type"])["needs"]

    assert needs["required"] == ["must", "rate"]
    assert needs["properties"]["ends"]["description"] == "Ends. Not collected from 2028-01-01 on."
    assert needs["description"].endswith("Not collected from 2030-01-01 on.")


def test_a_measure_is_held_to_the_largest_number_of_a_row():
    sums = event_schemas(PARSED["every type"])["sums"]
    row = {"tool name": "a", "count": 1, "bytes": 1000, "errors": MAX}

    assert accepts(sums, row)
    assert not accepts(sums, {**row, "bytes": 1001})
    assert sums["required"] == ["tool name", "count"]


# --- a whole body, events-v1 ----------------------------------------------------------------------


def good_body() -> dict[str, Any]:
    return {
        "machine_id": MACHINE,
        "every version": "1.2.3",
        "os": "linux",
        "level": 3,
        "schema_version": 7,
        "batch_id": MACHINE,
        "product": "every-type",
        "contract": "961696fad89fead3",
        "sent_at": "2026-09-21T00:04:11.093Z",
        "lost": {"cap": 3},
        "events": [
            {
                "event": "every.types",
                "ts": "2026-09-20T12:34:56.789Z",
                "props": {"project": "0" * 64, "wide one": 5},
            },
            {
                "event": "sums",
                "ts": "2026-09-20T12:00:00.000Z",
                "props": {"tool name": "a", "count": 1, "bytes": 2, "errors": 0},
            },
        ],
    }


def test_a_body_as_the_daemon_sends_it_is_let_through():
    schema = schema_of(PARSED["every type"])

    assert accepts(schema, good_body())
    least = {key: good_body()[key] for key in ("machine_id", "schema_version", "events")}
    assert accepts(schema, least)
    assert accepts(schema, {**least, "events": []})


def spoiled(change: Mapping[str, Any]) -> dict[str, Any]:
    """The body with one thing changed at a dotted place; None takes it out."""
    body: Any = good_body()
    ((place, value),) = change.items()
    *path, last = place.split("/")
    at = body
    for key in path:
        at = at[int(key)] if isinstance(at, list) else at[key]
    if value is None:
        del at[last]
    else:
        at[last] = value
    return body


@pytest.mark.parametrize(
    "change",
    [
        {"machine_id": None}, {"schema_version": None}, {"events": None},
        {"machine_id": "someone"}, {"machine_id": MACHINE.upper()}, {"machine_id": MACHINE + "\n"},
        {"schema_version": 6}, {"schema_version": True}, {"product": "other"}, {"batch_id": "b"},
        {"contract": "961696FAD89FEAD3"}, {"contract": "9616"}, {"sent_at": "yesterday"},
        {"sent_at": "2026-09-21T00:04:11Z"}, {"sent_at": "2026-09-21T00:04:11.093Z\n"},
        {"lost": {"cap": -1}}, {"lost": {"cap": "3"}}, {"lost": {"why not": 3}}, {"lost": []},
        {"version": "1.2.3"}, {"os": "a b"}, {"level": 10}, {"other": 1}, {"events": {}},
        {"events/0/event": "types"}, {"events/0/event": None}, {"events/0/ts": None},
        {"events/0/props": None}, {"events/0/more": 1}, {"events/0/props/more": 1},
        {"events/0/props/wide": 5}, {"events/0/props/wide one": -1},
        {"events/0/ts": "2026-09-20 12:34:56.789Z"}, {"events/0/ts": "2026-09-20T12:34:56Z"},
        {"events/1/ts": "2026-09-20T12:00:00.001Z"}, {"events/1/event": "needs"},
        {"events/1/props/count": None}, {"events/1/props/tool name": None},
        {"events": good_body()["events"] * 2},
    ],
    ids=lambda change: str(change)[:60],
)  # fmt: skip
def test_a_body_with_one_thing_wrong_is_not(change: Mapping[str, Any]):
    assert not accepts(schema_of(PARSED["every type"]), spoiled(change))


@pytest.mark.slow
@pytest.mark.parametrize("case", TO_GATEWAYS)
def test_the_envelope_is_what_screening_keeps(case: str):
    contract = PARSED[case]
    validator = Draft202012Validator(schema_of(contract))
    listed = contract.envelope
    near = {one.wire_name or name: _near(one.type) for name, one in listed.items()}
    hidden = {name: _SCALARS for name, one in listed.items() if one.wire_name}

    @settings(max_examples=100, deadline=None, database=None)
    @given(given_fields=st.fixed_dictionaries({}, optional={**near, **hidden, "other": _SCALARS}))
    def check(given_fields: dict[str, Any]) -> None:
        kept, _ = screen_envelope(contract, from_wire(listed, given_fields), DAY)
        body = {"machine_id": MACHINE, "schema_version": contract.schema_version, "events": []}
        wanted = same(to_wire(listed, kept), given_fields)
        assert validator.is_valid({**body, **given_fields}) == wanted

    check()


def test_codegraphs_own_request_is_let_through_and_that_of_its_first_version_is_not():
    vectors = ROOT / "tests" / "vectors"
    schema = schema_of(PARSED["codegraph"])

    assert accepts(schema, json.loads((vectors / "codegraph_batch.json").read_text()))
    assert not accepts(schema, json.loads((vectors / "codegraph_batch_schema_v1.json").read_text()))


# --- a whole body, posthog-batch ------------------------------------------------------------------

IDS: dict[str, tuple[list[Any], list[Any]]] = {
    "posthog": ([MACHINE], ["someone", "cluster_0123456789abcdef"]),
    "derived": (
        ["cluster_0123456789abcdef", "local_0123456789abcdef"],
        [MACHINE, "other_0123456789abcdef", "cluster_0123", "cluster_0123456789abcdef\n"],
    ),
    "user": (["user-41", MACHINE], ["", 5]),
}


def good_batch(distinct_id: object = MACHINE) -> dict[str, Any]:
    marks = {"$process_person_profile": False, "$geoip_disable": True, "$lib": "tallyd"}
    return {
        "api_key": "phc_every",
        "batch": [
            {
                "event": "every.types",
                "distinct_id": distinct_id,
                "uuid": MACHINE,
                "timestamp": "2026-09-20T12:34:56.789Z",
                "properties": {
                    "wide one": 5,
                    "os": "linux",
                    "every version": "1.2.3",
                    **marks,
                    "$groups": {"project": "0" * 64},
                },
            },
            {
                "event": "sums",
                "distinct_id": distinct_id,
                "timestamp": "2026-09-20T12:00:00.000Z",
                "properties": {"tool name": "a", "count": 1, **marks},
            },
        ],
    }


@pytest.mark.parametrize("case", IDS)
def test_a_batch_for_posthog_is_let_through_with_each_kind_of_id(case: str):
    schema = schema_of(PARSED[case])
    good, bad = IDS[case]

    assert [one for one in good if not accepts(schema, good_batch(one))] == []
    assert [one for one in bad if accepts(schema, good_batch(one))] == []
    more = {"sent_at": "2026-09-21T09:10:00.000000+00:00", "historical_migration": False}
    assert accepts(schema, {**good_batch(good[0]), **more})
    assert accepts(schema, {**good_batch(good[0]), "sent_at": "2026-09-21T09:10:00.000Z"})


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("api_key",), "sk_every"), (("api_key",), None), (("sent_at",), "now"), (("more",), 1),
        (("historical_migration",), 0), (("batch",), None), (("batch",), good_batch()["batch"] * 2),
        (("batch", 0, "event"), "types"), (("batch", 0, "uuid"), "u"), (("batch", 0, "more"), 1),
        (("batch", 0, "timestamp"), None), (("batch", 0, "distinct_id"), None),
        (("batch", 0, "properties"), None), (("batch", 1, "timestamp"), "2026-09-20T12:00:00.001Z"),
        (("batch", 0, "properties", "$lib"), "other"), (("batch", 0, "properties", "$lib"), None),
        (("batch", 0, "properties", "$geoip_disable"), False),
        (("batch", 0, "properties", "$geoip_disable"), None),
        (("batch", 0, "properties", "$process_person_profile"), True),
        (("batch", 0, "properties", "$process_person_profile"), None),
        (("batch", 0, "properties", "$set"), {}), (("batch", 0, "properties", "os"), "a b"),
        (("batch", 0, "properties", "project"), "0" * 64),
        (("batch", 0, "properties", "$groups"), {"project": "mine"}),
        (("batch", 0, "properties", "$groups"), {"other": "0" * 64}),
        (("batch", 1, "properties", "$groups"), {"project": "0" * 64}),
        (("batch", 1, "properties", "count"), None),
    ],
)  # fmt: skip
def test_a_batch_with_one_thing_wrong_is_not(place: tuple[Any, ...], value: object):
    body: Any = copy.deepcopy(good_batch())
    at = body
    for key in place[:-1]:
        at = at[key]
    if value is None:
        del at[place[-1]]
    else:
        at[place[-1]] = value

    assert not accepts(schema_of(PARSED["posthog"]), body)


def test_who_is_identified_has_a_profile_and_nobody_else():
    body = good_batch("user-41")
    for one in body["batch"]:
        del one["properties"]["$process_person_profile"]

    assert accepts(schema_of(PARSED["user"]), body)
    assert not accepts(schema_of(PARSED["posthog"]), good_batch() | {"batch": body["batch"]})


def test_the_key_is_the_contracts_unless_a_variable_may_name_another():
    other = {**good_batch("local_0123456789abcdef"), "api_key": "phc_other"}

    assert not accepts(schema_of(PARSED["derived"]), other)
    assert accepts(schema_of(PARSED["posthog"]), {**good_batch(), "api_key": "phc_other"})
    assert not accepts(schema_of(PARSED["posthog"]), {**good_batch(), "api_key": "phc_é"})


def test_the_schema_says_what_each_thing_is():
    schema = schema_of(parsed(EVERY_TYPE))

    assert (schema["title"], schema["description"]) == (
        "every-type, schema version 7",
        "It is there to be tested.",
    )
    assert schema["properties"]["os"]["description"] == "The system."
    assert schema["$defs"]["sums"]["properties"]["props"]["description"] == "Counts."

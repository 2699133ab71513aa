"""The allowlist at work: what each type of field lets through, and that nothing unlisted ever passes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.clock import TODAY
from support.gateway import contract_of
from tallyd.contract import parse_contract
from tallyd.contract.fields import LABEL_ALPHABET, REFUSED, Text, _Refused
from tallyd.contract.model import Field, Rollup, SingleEvent
from tallyd.contract.screen import (
    ScreenedCounts,
    ScreenedEvent,
    screen_counts,
    screen_envelope,
    screen_event,
    split_rollup,
)

MAX = 2**53 - 1
CONTRACT = parse_contract(
    b"""contract = 1
[product]
name = "every-type"
title = "Every type"
details = "none"
[endpoint]
url = "https://example.com/v1/events"
[consent]
notice = "n"
[envelope]
version = { type = "version" }
level = { type = "int", max = 9 }
[events.types]
kind = "event"
about = "One property of each type, all optional."
properties.enum = { type = "enum", values = ["a", "b b"], optional = true }
properties.token = { type = "token", max = 8, optional = true }
properties.cut_token = { type = "token", max = 8, cut = true, optional = true }
properties.label = { type = "label", max = 8, optional = true }
properties.version = { type = "version", optional = true }
properties.int = { type = "int", min = -5, max = 100, optional = true }
properties.wide = { type = "int", optional = true }
properties.boolean = { type = "boolean", optional = true }
properties.bucket = { type = "bucket", edges = [10, 100], labels = ["<10", "10-99", "100+"], optional = true }
properties.tokens = { type = "list", of = "token", max = 4, max_items = 3, optional = true }
properties.cut_tokens = { type = "list", of = "token", max = 4, cut = true, max_items = 3, optional = true }
properties.enums = { type = "list", of = "enum", values = ["x", "y"], max_items = 3, optional = true }
[events.needs]
kind = "event"
about = "A required and an optional property."
properties.must = { type = "token" }
properties.may = { type = "token", optional = true }
[events.sums]
kind = "rollup"
about = "Counts."
dimensions.tool = { type = "token", max = 8, cut = true }
dimensions.client = { type = "label", max = 8, optional = true }
measures = ["count", "errors", "bytes"]
""",
    "every-type.toml",
)
TYPES = CONTRACT.events["types"]
assert isinstance(TYPES, SingleEvent)


def screened(name: str, value: object) -> object:
    """What the field `name` makes of a value."""
    assert isinstance(TYPES, SingleEvent)
    return TYPES.properties[name].type.screen(value)


# --- each type ------------------------------------------------------------------------------------

GOOD: dict[str, list[object]] = {
    "enum": ["a", "b b"],
    "token": ["x", "c++", "A_z.9:+-", "12345678"],
    "cut_token": ["x", "12345678"],
    "label": ["x", "a (b) @c", " ", "12345678"],
    "version": ["1.6.2", "1.0.0-rc.1+build", "x" * 32],
    "int": [-5, 0, 100],
    "wide": [0, MAX],
    "boolean": [True, False],
    "bucket": ["<10", "10-99", "100+"],
    "tokens": [[], ["a"], ["a", "a", "bbbb"]],
    "enums": [[], ["x", "y", "x"]],
}
NEVER: list[object] = [None, 1.0, 1.5, float("nan"), float("inf"), b"a", {}, {"a": 1}, ("a",)]
BAD: dict[str, list[object]] = {
    "enum": ["", "A", "a ", "c", 0, True, ["a"]],
    "token": ["", "123456789", "a b", "a/b", "a\n", "a\x00", "\xe9", "\ud800", 1, True, ["a"]],
    "cut_token": ["", "a b", "1234567\n89", 1, True],
    "label": ["", "123456789", "a\tb", "a\n", "a;b", "<b>", "\u202ea", "\uff41", "a\u0301", 1],
    "version": ["", "1 2", "x" * 33, "1.0\n", 1],
    "int": [-6, 101, True, False, "5", 10**400, -(10**400)],
    "wide": [-1, MAX + 1, True],
    "boolean": [0, 1, "true", "", []],
    "bucket": [5, 10, 1000, "5", "10", "", True, "<10 "],
    "tokens": ["a", 3, True],
    "enums": ["x"],
}


@pytest.mark.parametrize("name", GOOD)
def test_a_good_value_passes_as_it_is(name: str):
    assert GOOD[name] == [screened(name, value) for value in GOOD[name]]


@pytest.mark.parametrize("name", BAD)
def test_a_bad_value_is_refused(name: str):
    """A boolean is no integer; a number given to a bucket should not have left the host."""
    let_through = [one for one in BAD[name] + NEVER if screened(name, one) is not REFUSED]

    assert let_through == []


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("token", "123456789", REFUSED),
        ("label", "123456789", REFUSED),
        ("cut_token", "123456789", "12345678"),
        ("cut_token", "12345678 /home", "12345678"),
        ("cut_token", "1234 /home/x", REFUSED),
        ("tokens", ["12345", "1234"], ["1234"]),
        ("cut_tokens", ["12345", "1234"], ["1234", "1234"]),
    ],
)
def test_text_is_cut_only_where_the_contract_says_so(name: str, value: object, wanted: object):
    assert wanted == screened(name, value)


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("tokens", ["a", "b c", 3, None, True, "", "d", ["e"]], ["a", "d"]),
        ("tokens", ["a", "b", "c", "d"], ["a", "b", "c"]),
        ("tokens", ["bad one", "a", "b", "c", "d"], ["a", "b", "c"]),
        ("tokens", ["bad one"], []),
        ("enums", ["x", "z", "y"], ["x", "y"]),
    ],
)
def test_a_list_keeps_its_good_items_up_to_its_maximum(name: str, value: object, wanted: object):
    assert wanted == screened(name, value)


# --- required and optional ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "given_props", "wanted"),
    [
        ("needs", {"must": "a"}, ScreenedEvent({"must": "a"}, 0)),
        ("needs", {"must": "a", "may": "b"}, ScreenedEvent({"must": "a", "may": "b"}, 0)),
        ("needs", {"must": "a", "may": "b c"}, ScreenedEvent({"must": "a"}, 1)),
        ("needs", {"must": "a", "other": 1, "may": None}, ScreenedEvent({"must": "a"}, 2)),
        ("needs", {"must": "a b"}, None),
        ("needs", {"may": "b"}, None),
        ("needs", {}, None),
        ("types", {}, ScreenedEvent({}, 0)),
        ("sums", {"tool": "a"}, None),
        ("unknown", {}, None),
        (None, {}, None),
        (["needs"], {"must": "a"}, None),
    ],
)
def test_an_event_needs_its_required_properties_and_loses_its_bad_optional_ones(
    event: object, given_props: Mapping[str, object], wanted: ScreenedEvent | None
):
    assert wanted == screen_event(CONTRACT, event, given_props, TODAY)


@pytest.mark.parametrize(
    ("dimensions", "measures", "wanted"),
    [
        ({"tool": "a"}, {"count": 2}, ({"tool": "a"}, (2, 0, 0), 0)),
        ({"tool": "a"}, {"count": 0, "errors": 1, "bytes": MAX}, ({"tool": "a"}, (0, 1, MAX), 0)),
        (
            {"tool": "a", "client": "c d"},
            {"count": 1},
            ({"tool": "a", "client": "c d"}, (1, 0, 0), 0),
        ),
        ({"tool": "a", "cwd": "/"}, {"count": 1, "seconds": 3}, ({"tool": "a"}, (1, 0, 0), 2)),
        ({"tool": "a"}, {"count": 1, "errors": True, "bytes": -1}, ({"tool": "a"}, (1, 0, 0), 2)),
        ({"tool": "a"}, {"count": 1, "errors": 1.0, "bytes": "1"}, ({"tool": "a"}, (1, 0, 0), 2)),
        ({"tool": "a"}, {"errors": 1}, None),
        ({"tool": "a"}, {"count": True}, None),
        ({"tool": "a"}, {"count": -1}, None),
        ({"tool": "a"}, {"count": MAX + 1}, None),
        ({"tool": "a"}, {"count": 1.0}, None),
        ({"tool": ""}, {"count": 1}, None),
        ({}, {"count": 1}, None),
    ],
)
def test_counts_need_their_required_dimensions_and_their_first_measure(
    dimensions: Mapping[str, object],
    measures: Mapping[str, object],
    wanted: tuple[dict[str, Any], tuple[int, ...], int] | None,
):
    """What was given and not kept is stripped, whether its name or its value was wrong."""
    counts = wanted and ScreenedCounts(
        wanted[0], dict(zip(("count", "errors", "bytes"), wanted[1], strict=True)), wanted[2]
    )

    assert counts == screen_counts(CONTRACT, "sums", dimensions, measures, TODAY)


@pytest.mark.parametrize("event", ["needs", "unknown", "", None, 3, ["sums"], {}])
def test_what_is_no_listed_rollup_has_no_counts(event: object):
    assert screen_counts(CONTRACT, event, {"tool": "a"}, {"count": 1}, TODAY) is None


@pytest.mark.parametrize(
    ("given_fields", "wanted"),
    [
        ({"version": "1", "level": 9}, ({"version": "1", "level": 9}, 0)),
        ({"version": "1 2", "level": 10, "host": "x"}, ({}, 3)),
        ({"level": 0}, ({"level": 0}, 0)),
        ({}, ({}, 0)),
    ],
)
def test_a_bad_envelope_field_never_costs_the_rest(
    given_fields: Mapping[str, object], wanted: tuple[dict[str, Any], int]
):
    assert wanted == screen_envelope(CONTRACT, given_fields, TODAY)


def test_the_flat_props_of_a_rollup_are_split_by_name():
    sums = CONTRACT.events["sums"]
    assert isinstance(sums, Rollup)

    split = split_rollup(sums, {"tool": "a", "count": True, "bytes": "x", "other": 1})

    assert split == ({"tool": "a", "other": 1}, {"count": True, "bytes": "x"})


# --- whatever comes -------------------------------------------------------------------------------

CONTRACTS = [CONTRACT, contract_of("codegraph"), contract_of("tallyd-demo")]
EVENTS = sorted({name for contract in CONTRACTS for name in contract.events})
FIELDS = sorted(
    {
        field
        for contract in CONTRACTS
        for event in contract.events.values()
        for field in (
            [*event.dimensions, *event.measures] if isinstance(event, Rollup) else event.properties
        )
    }
    | {field for contract in CONTRACTS for field in contract.envelope}
)
LISTED = ["a", "<10", "x", "mcp_tool", "cli_command", "local", "fresh", "stdio", "1-5m", "signal"]
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=-3, max_value=12)
    | st.floats()
    | st.text(max_size=80)
    | st.sampled_from(LISTED)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)
OBJECTS = st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=6), VALUES, max_size=10)
NAMES = st.sampled_from(EVENTS) | VALUES
bounded = settings(max_examples=100, deadline=None)


def assert_clean(listed: Mapping[str, Field], kept: Mapping[str, object]) -> None:
    """Only listed names, and values that the listed type keeps as they are."""
    again = {name: listed[name].type.screen(value) for name, value in kept.items()}
    assert kept == again
    assert not any(isinstance(value, float | _Refused | None) for value in kept.values())


def each(test: Callable[..., None]) -> Callable[..., None]:
    return pytest.mark.slow(
        pytest.mark.parametrize("contract", CONTRACTS, ids=lambda c: c.product)(test)
    )


@each
@bounded
@given(event=NAMES, dimensions=OBJECTS, measures=OBJECTS)
def test_counts_that_pass_hold_only_what_is_listed_and_pass_again(
    contract: Any, event: Any, dimensions: Any, measures: Any
):
    counts = screen_counts(contract, event, dimensions, measures, TODAY)

    if counts is not None:
        rollup = contract.events[event]
        assert_clean(rollup.dimensions, counts.dimensions)
        assert tuple(counts.measures) == rollup.measures
        assert all(type(one) is int and 0 <= one <= MAX for one in counts.measures.values())
        again = screen_counts(contract, event, counts.dimensions, counts.measures, TODAY)
        assert ScreenedCounts(counts.dimensions, counts.measures, 0) == again


@each
@bounded
@given(event=NAMES, properties=OBJECTS)
def test_an_event_that_passes_holds_only_what_is_listed_and_passes_again(
    contract: Any, event: Any, properties: Any
):
    kept = screen_event(contract, event, properties, TODAY)

    if kept is not None:
        assert_clean(contract.events[event].properties, kept.properties)
        assert len(properties) == len(kept.properties) + kept.stripped
        again = screen_event(contract, event, kept.properties, TODAY)
        assert ScreenedEvent(kept.properties, 0) == again


@each
@bounded
@given(fields=OBJECTS)
def test_an_envelope_holds_only_what_is_listed_and_passes_again(contract: Any, fields: Any):
    kept, stripped = screen_envelope(contract, fields, TODAY)

    assert_clean(contract.envelope, kept)
    assert (len(fields), (kept, 0)) == (
        len(kept) + stripped,
        screen_envelope(contract, kept, TODAY),
    )


@pytest.mark.parametrize(
    ("label", "passes"),
    [
        ("Claude Code", True),
        ("@scope/package", True),
        ("a / b", True),
        ("Cursor (0.50/beta)", True),
        ("/home/alice/x", False),
        ("see /home/alice/x", False),
        ("(/home/alice/x)", False),
        ("C:/Users/alice", False),
        ("https://alice.example", False),
    ],
)
def test_a_label_is_a_name_and_no_place_whoever_wrote_it(label: str, passes: bool):
    """The stub refuses places; a writer of another make may not."""
    found = Text(LABEL_ALPHABET, 64).screen(label)

    assert (label if passes else REFUSED) == found

"""What two versions of a contract both allow: never more than either, for whatever is given."""

from __future__ import annotations

from typing import Any

import pytest
from support.contracts import DAYS, contract_to_edit
from tallyd.contract import Contract, parse_contract
from tallyd.contract.fields import Boolean, Enum, Integer, List, Number, Record, Text
from tallyd.contract.intersect import intersect
from tallyd.contract.model import Event, Rollup, Sampling, SingleEvent
from tallyd.contract.screen import screen_event

CODEGRAPH = contract_to_edit()
START = b"""contract = 1
[product]
name = "tool"
title = "Tool"
details = "none"
[endpoint]
url = "https://a.example/v1"
[consent]
notice = "It counts."
"""
EVENT = """[events.one]
kind = "event"
about = "One."
"""
ROLLUP = """[events.sums]
kind = "rollup"
about = "Sums."
"""


def tool(rest: str) -> Contract:
    return parse_contract(START + rest.encode(), "tool.toml")


def both(old: str, new: str, event: str = EVENT) -> Event | None:
    """The event of the intersection of two contracts that have this one event."""
    common = intersect(tool(event + old), tool(event + new))
    return next(iter(common.events.values()), None)


def edited(*edits: tuple[str, str]) -> Contract:
    """CodeGraph's contract with these edits."""
    text = CODEGRAPH.text
    for old, new in edits:
        assert text.count(old.encode()) == 1, old
        text = text.replace(old.encode(), new.encode())
    return parse_contract(text, "edited.toml")


# --- events and fields -----------------------------------------------------------------------------


def test_what_only_one_version_lists_is_not_there():
    new = edited(
        ("[events.uninstall]", "[events.removal]"),
        ('["count", "error_count"]', '["count", "tokens"]'),
        ('client_version = { type = "label", max = 32', 'editor = { type = "label", max = 32'),
        ("[envelope]", '[envelope]\nshell = { type = "token" }'),
        ("arch = {", "cpu = {"),
    )

    common = intersect(CODEGRAPH, new)

    sums = common.events["usage_rollup"]
    assert isinstance(sums, Rollup)
    assert list(common.events) == ["install", "index", "usage_rollup"]
    assert list(sums.dimensions) == ["kind", "name", "client_name"]
    assert sums.measures == ("count",)
    assert list(common.envelope) == ["codegraph_version", "os", "node_major", "ci"]


@pytest.mark.parametrize(
    ("old", "new", "is_there"),
    [
        ('{ type = "boolean" }', '{ type = "int" }', False),
        ('{ type = "boolean", optional = true }', '{ type = "int" }', True),
        ('{ type = "enum", values = ["a"] }', '{ type = "enum", values = ["b"] }', False),
        ('{ type = "int", max = 3 }', '{ type = "int", min = 4 }', False),
        ('{ type = "boolean" }\nproperties.was = { type = "int" }', '{ type = "boolean" }', False),
        ('{ type = "boolean" }', '{ type = "boolean" }\nproperties.is = { type = "int" }', True),
    ],
)
def test_an_event_goes_with_a_field_that_the_agreed_version_requires(
    old: str, new: str, is_there: bool
):
    assert is_there == (both(f"properties.f = {old}", f"properties.f = {new}") is not None)


@pytest.mark.parametrize(
    ("old", "new", "kind"),
    [
        ('"enum", values = ["a", "b"]', '"enum", values = ["c", "b"]', Enum(("b",))),
        ('"int", min = 1, max = 9', '"int", min = 3, max = 20', Integer(3, 9)),
        ('"int", max = 9', '"number", min = 1.5, max = 8.5', Integer(2, 8)),
        ('"number", min = 0.5', '"number", max = 2', Number(0.5, 2)),
        (
            '"bucket", edges = [5, 9], labels = ["few", "some", "many"]',
            '"bucket", edges = [5, 20], labels = ["few", "some", "many"]',
            Enum(("few",)),
        ),
    ],
)
def test_a_field_has_the_type_that_both_versions_give_it(old: str, new: str, kind: Any):
    """`some` meant 5 to 8 to whoever agreed to it, and many were 9 already."""
    event = both(f"properties.f = {{ type = {old} }}", f"properties.f = {{ type = {new} }}")

    assert event is not None
    assert kind == event.fields["f"].type


def test_a_text_is_the_shorter_and_cut_only_where_both_cut_and_registered_where_either_is():
    old = 'properties.f = { type = "label", max = 9, cut = true, registered = true }'
    new = 'properties.f = { type = "token", max = 12 }'
    there, back = both(old, new), both(new, old)

    assert there is not None
    assert back is not None
    assert there.fields["f"].type == back.fields["f"].type
    kind = there.fields["f"].type
    assert isinstance(kind, Text)
    assert (kind.max_length, kind.cut, kind.registered) == (9, False, True)
    assert " " not in kind.alphabet


def test_an_item_that_either_version_refuses_is_refused():
    item = 'properties.f = {{ type = "list", of = "record", max_items = {}, fields = {{ {} }} }}'
    a = "a = { type = 'boolean' }"
    old = item.format(3, f"{a}, b = {{ type = 'int', optional = true }}")
    new = item.format(2, "a = { type = 'boolean', optional = true }, b = { type = 'int', max = 9 }")
    more = item.format(9, f"{a}, b = {{ type = 'int' }}, c = {{ type = 'int' }}")
    event, other = both(old, new), both(old, more)

    assert event is not None
    assert other is not None
    wanted = Record({"a": Boolean(), "b": Integer(0, 9)})
    assert List(wanted, 2) == event.fields["f"].type
    assert List(Record({"a": Boolean(), "b": Integer()}), 3) == other.fields["f"].type
    assert both(old, item.format(1, "b = { type = 'int' }")) is None


def test_an_event_keeps_the_stricter_of_every_limit_and_the_newer_name_on_the_wire():
    old = (
        'expires = "2028-01-01"\nonce = "process"\nas = "Old"\n'
        'properties.f = { type = "int", expires = "2027-01-01", as = "F" }'
    )
    new = (
        'expires = "2027-07-01"\nonce = "machine"\nas = "New"\n'
        'properties.f = { type = "int", optional = true, as = "G", about = "New." }'
    )
    for event in (both(old, new), both(new, old)):
        assert isinstance(event, SingleEvent)
        assert (event.expires, event.once) == ("2027-07-01", "machine")
        field = event.properties["f"]
        assert (field.expires, field.is_optional) == ("2027-01-01", True)
    event = both(old, new)
    assert event is not None
    assert (
        event.wire_name,
        event.fields["f"].wire_name,
        event.fields["f"].about,
    ) == ("New", "G", "")


def test_the_measures_of_both_keep_the_order_and_the_smaller_maximum():
    old = 'measures = ["count", { name = "a", max = 5 }, { name = "b", max = 5 }, "c", "d"]'
    new = 'measures = ["c", { name = "b", max = 9 }, { name = "a", max = 3 }, "count"]'

    event = both(old, new, ROLLUP)

    assert isinstance(event, Rollup)
    assert event.measures == ("count", "a", "b", "c")
    assert event.maxima == {"a": 3, "b": 5}


def test_a_rollup_goes_with_the_number_of_times_that_was_agreed_to():
    assert both('measures = ["count", "a"]', 'measures = ["a"]', ROLLUP) is None
    assert both('measures = ["a"]', 'measures = ["count", "a"]', ROLLUP) is not None


def test_an_event_of_another_kind_is_another_event():
    event = tool(EVENT)
    rollup = tool('[events.one]\nkind = "rollup"\nabout = "One."\nmeasures = ["count"]\n')

    assert (intersect(event, rollup).events, intersect(rollup, event).events) == ({}, {})


@pytest.mark.parametrize(
    ("old", "new", "sampling"),
    [
        ("sample = 0.5", "", Sampling(0.5, "sample_rate")),
        ("", "sample = 0.5", Sampling(0.5, "sample_rate")),
        ("sample = 0.5", 'sample = 0.1\nsample_as = "rate"', Sampling(0.1, "rate")),
        ('sample = 0.1\nsample_as = "rate"', "sample = 0.5", Sampling(0.1, "rate")),
        ('sample = 0.1\nsample_as = "rate"', "sample = 0.1", Sampling(0.1, "sample_rate")),
    ],
)
def test_what_its_host_drew_at_a_higher_rate_is_not_let_through(
    old: str, new: str, sampling: Sampling
):
    """The daemon cannot draw again, but the rate travels with the event."""
    common = intersect(tool(EVENT + old), tool(EVENT + new))

    assert sampling == common.events["one"].sampling
    assert [sampling.field] == list(common.events["one"].fields)
    kept = [
        rate
        for rate in (0.05, sampling.rate, sampling.rate + 0.1, 1)
        if screen_event(common, "one", {sampling.field: rate}, DAYS[0]) is not None
    ]
    assert [0.05, sampling.rate] == kept
    assert screen_event(common, "one", {}, DAYS[0]) is None


def test_a_rate_is_not_taken_for_a_field_that_the_other_version_calls_so():
    field = 'properties.sample_rate = { type = "int", optional = true }'
    renamed = 'properties.f = { type = "int", optional = true, as = "sample_rate" }'
    plain = 'properties.f = { type = "int", optional = true }'
    event = both("sample = 0.5", field)

    assert event is not None
    assert Number(0, 0.5) == event.fields["sample_rate"].type
    assert both(f"sample = 0.5\n{plain}", renamed) is None


def test_a_group_and_a_property_are_not_the_same():
    group = '[groups]\ng = { type = "hash" }\n'
    old = tool(group + EVENT + 'groups = ["g"]')
    new = tool(EVENT + 'properties.g = { type = "hash", optional = true }')

    assert [
        list(intersect(*pair).events["one"].fields) for pair in ((old, new), (new, old), (old, old))
    ] == [[], [], ["g"]]


def test_an_envelope_field_comes_from_where_both_versions_take_it():
    sources = ["host", "runtime.os", "runtime.arch"]
    of = {
        one: tool(f'[envelope]\nf = {{ type = "token", from = "{one}" }}\n{EVENT}')
        for one in sources
    }

    found = {
        (one, other): [field.origin for field in intersect(of[one], of[other]).envelope.values()]
        for one in sources
        for other in sources
        if one < other
    }

    assert found == {
        ("host", "runtime.os"): ["runtime.os"],
        ("host", "runtime.arch"): ["runtime.arch"],
        ("runtime.arch", "runtime.os"): [],
    }

"""Types of fields: which is narrower than which, and what two have in common."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from support.values import keeps, values
from tallyd.contract import Contract, fields, parse_contract
from tallyd.contract.diff import Kind, compare
from tallyd.contract.fields import FieldType
from tallyd.contract.overlap import overlap

MORE, LESS, OTHER = Kind.MORE, Kind.LESS, Kind.OTHER

# (a type, another, how it counts to go there, and to come back)
TYPES: list[tuple[str, str, Kind, Kind]] = [
    ('"enum", values = ["a", "b"]', '"bucket", edges = [5], labels = ["a", "b"]', LESS, LESS),
    ('"enum", values = ["a", "b"]', '"bucket", edges = [5], labels = ["a", "c"]', MORE, MORE),
    ('"enum", values = ["a", "b"]', '"token", registered = true', MORE, MORE),
    ('"enum", values = ["a b"]', '"token"', MORE, MORE),
    ('"enum", values = ["a b"]', '"label"', MORE, LESS),
    ('"enum", values = ["abc"]', '"token", max = 2, cut = true', MORE, MORE),
    ('"enum", values = ["Error"]', '"error_class"', MORE, LESS),
    ('"int", min = 1, max = 9', '"number", min = 0.5, max = 9.5', MORE, LESS),
    ('"int", min = 1, max = 9', '"number", min = 1.5, max = 9', MORE, MORE),
    ('"int", min = 0, max = 1', '"boolean"', MORE, MORE),
    ('"number", max = 9', '"number", max = 9.5', MORE, LESS),
    ('"number", min = 0.5', '"number", min = 0', MORE, LESS),
    ('"error_class", max = 9', '"error_class", max = 10', MORE, LESS),
    ('"error_class"', '"token", max = 80', MORE, LESS),
    ('"error_class"', '"token", max = 79', MORE, MORE),
    ('"error_class"', '"token", max = 80, registered = true', MORE, MORE),
    ('"token"', '"uuid"', MORE, MORE),
    ('"token", max = 100', '"hash"', MORE, MORE),
    ('"redacted", switch = "A", max = 9', '"redacted", switch = "A", max = 10', MORE, LESS),
    ('"redacted", switch = "A"', '"redacted", switch = "B"', MORE, MORE),
    ('"bucket", edges = [5, 9], labels = ["a", "b", "c"]', '"bucket", edges = [5], labels = ["a", "b"]', LESS, MORE),
    ('"bucket", edges = [5, 9], labels = ["a", "b", "c"]', '"bucket", edges = [7], labels = ["a", "b"]', MORE, MORE),
    ('"bucket", edges = [5], labels = ["a", "b"]', '"bucket", edges = [6], labels = ["a", "b"]', MORE, MORE),
    ('"bucket", edges = [5], labels = ["a", "b"]', '"bucket", edges = [5], labels = ["b", "a"]', MORE, MORE),
    ('"list", max_items = 1', '"list", of = "label", max_items = 1', MORE, LESS),
    ('"list", max_items = 1', '"list", of = "int", max_items = 1', MORE, MORE),
    ('"list", max_items = 1', '"names"', MORE, MORE),
    ('"names", max = 5', '"names", max = 6', MORE, LESS),
    ('"names", max_items = 5', '"names", max_items = 6', MORE, LESS),
    ('"names", values = ["a"]', '"names", values = ["a", "b"]', MORE, LESS),
    ('"names", values = ["a"]', '"names"', MORE, LESS),
    ('"list", of = "record", max_items = 1, fields = { a = { type = "int" } }', '"list", of = "record", max_items = 1, fields = { a = { type = "int" }, b = { type = "int" } }', MORE, LESS),
    ('"list", of = "record", max_items = 1, fields = { a = { type = "int" } }', '"list", of = "record", max_items = 1, fields = { a = { type = "int", min = -1 } }', MORE, LESS),
    ('"list", of = "record", max_items = 1, fields = { a = { type = "int" } }', '"list", of = "record", max_items = 1, fields = { a = { type = "int", optional = true } }', OTHER, OTHER),
]  # fmt: skip


def typed(kind: str) -> Contract:
    """A contract with one field of this type."""
    text = f"""contract = 1
[product]
name = "tool"
title = "Tool"
details = "none"
[endpoint]
url = "https://a.example"
[consent]
notice = "It counts."
[events.report]
kind = "event"
about = "A report."
properties.field = {{ optional = true, type = {kind} }}
"""
    return parse_contract(text.encode(), "typed.toml")


@pytest.mark.parametrize(("one", "other", "kind", "back"), TYPES)
def test_another_type_is_more_unless_it_is_surely_less(
    one: str, other: str, kind: Kind, back: Kind
):
    there, and_back = (
        {change.kind for change in compare(*pair)}
        for pair in ((typed(one), typed(other)), (typed(other), typed(one)))
    )

    assert ({kind}, {back}) == (there, and_back)


def test_a_field_inside_an_item_has_a_place_and_a_name_of_its_own():
    item = '"list", of = "record", max_items = 1, fields = {{ a = {{ type = "int", max = {} }} }}'

    (change,) = compare(typed(item.format(1)), typed(item.format(2)))

    assert (change.place, change.kind) == ("events.report.properties.field.fields.a", MORE)
    assert "field.a` may now be up to 2 (1 before)" in change.words


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ('"redacted", switch = "A"', '"redacted", switch = "B"'),
        ('"token"', '"uuid"'),
        ('"label", max = 100', '"hash"'),
        ('"hash"', '"hash", length = 32'),
        ('"enum", values = ["a"]', '"token", registered = true'),
        ('"enum", values = ["a"]', '"enum", values = ["b"]'),
        ('"enum", values = ["a b"]', '"token"'),
        ('"int", max = 3', '"number", min = 3.5'),
        ('"int"', '"boolean"'),
        ('"list", max_items = 3', '"list", of = "int", max_items = 3'),
        ('"names"', '"list", max_items = 3'),
    ],
)
def test_types_that_may_have_nothing_in_common_have_nothing_in_common(one: str, other: str):
    """An id is no name, whatever it is written with; free text goes with the switch that was named."""
    there, back = (
        overlap(*(typed(kind).events["report"].fields["field"].type for kind in pair))
        for pair in ((one, other), (other, one))
    )

    assert (there, back) == (None, None)


EVERY_TYPE = [
    typed(text).events["report"].fields["field"].type
    for text in dict.fromkeys(kind for one, other, *_ in TYPES for kind in (one, other))
]


@pytest.mark.slow
@pytest.mark.parametrize("old", EVERY_TYPE, ids=lambda one: type(one).__name__)
def test_a_type_in_common_lets_through_what_both_do_and_nothing_else(
    old: FieldType,
):
    for new in EVERY_TYPE:
        common = overlap(old, new)
        if common is None:
            continue
        assert common == overlap(old, common)
        screens_alike(common, old, new)


def screens_alike(common: FieldType, *types: FieldType) -> None:
    @settings(max_examples=8, deadline=None, database=None)
    @given(value=values(common))
    def check(value: object) -> None:
        kept = common.screen(value)
        if kept is not fields.REFUSED:
            assert all(keeps(one, kept) for one in types), kept

    check()

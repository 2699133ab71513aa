"""Any two versions of a contract: what both allow is never more than either, whatever is given."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.contracts import DAYS, EVENTS, SWITCHES, WORDS, contracts, some, versions
from support.drawn import examples
from support.values import given_fields, keeps
from tallyd.contract import Contract, parse_contract
from tallyd.contract.consent import Choice, StoredChoice, resolve
from tallyd.contract.diff import Kind, compare, is_wider
from tallyd.contract.intersect import intersect
from tallyd.contract.model import Rollup
from tallyd.contract.screen import has_expired, screen_counts, screen_envelope, screen_event

bounded = examples(150)
PINNED = ("endpoint.", "identity.")


@st.composite
def given_rows(draw: Any) -> tuple[Contract, Contract, str, dict[str, Any], dict[str, Any], str]:
    """Two versions, an event's name, what a host gives for it, and the day it belongs to."""
    old, new = draw(versions())
    common = list(intersect(old, new).events)
    name = draw(some(*common) if common and draw(st.integers(0, 7)) else some(*EVENTS))
    listed = [one.events[name] for one in (old, new) if name in one.events]
    fields = draw(given_fields(*(one.fields for one in listed)))
    for one in listed:
        # Every required field is there, most of the time: random ones seldom make an event.
        if draw(st.integers(0, 3)):
            own = {at: field for at, field in one.fields.items() if not field.is_optional}
            fields = {**draw(given_fields(own)), **fields}
    names = {at: st.integers(-1, 9) for at in ("count", "errors", "bytes")}
    measures = draw(st.fixed_dictionaries({}, optional=names))
    return old, new, name, fields, measures, draw(some(*DAYS, "2026-11-20"))


def assert_lists(listed: Any, kept: dict[str, Any], day: str) -> None:
    """Each kept field that this version lists is let through by it, as it is, on that day."""
    for name, value in kept.items():
        if name in listed:
            assert not has_expired(listed[name].expires, day), name
            assert keeps(listed[name].type, value), (name, value)


@pytest.mark.slow
@bounded
@given(row=given_rows())
def test_what_passes_under_both_passes_under_each_as_it_is(row: Any):
    """But for fields that the other does not list: only the rate of a sampled event may be one."""
    old, new, name, fields, measures, day = row
    common = intersect(old, new)
    event = screen_event(common, name, fields, day)
    counts = screen_counts(common, name, fields, measures, day)
    kept = event.properties if event else counts.dimensions if counts else None
    if kept is None:
        return

    for one in (old, new):
        listed = one.events[name]
        assert not has_expired(listed.expires, day)
        assert isinstance(listed, Rollup) == (counts is not None)
        rates = {each.events[name].sampling for each in (old, new)} - {None}
        assert kept.keys() - listed.fields.keys() <= {rate.field for rate in rates if rate}
        assert_lists(listed.fields, kept, day)
        if listed.sampling is not None and listed.sampling.field in kept:
            assert kept[listed.sampling.field] <= listed.sampling.rate
        if isinstance(listed, Rollup) and counts is not None:
            assert counts.measures.keys() <= set(listed.measures)
    # The version that was agreed to lists nothing that has to be there and is not.
    missing = {at for at, field in old.events[name].fields.items() if not field.is_optional}
    for at in missing - kept.keys():
        others = new.events[name].fields.get(at)
        assert (
            has_expired(old.events[name].fields[at].expires, day)
            or at == (old.events[name].sampling and old.events[name].sampling.field)
            or (others is not None and (others.is_optional or has_expired(others.expires, day)))
        )


@pytest.mark.slow
@bounded
@given(drawn=st.data())
def test_an_envelope_that_passes_under_both_passes_under_each_as_it_is(drawn: Any):
    old, new = drawn.draw(versions())
    fields = drawn.draw(given_fields(old.envelope, new.envelope))
    day = drawn.draw(some(*DAYS, "2026-11-20"))

    kept, _ = screen_envelope(intersect(old, new), fields, day)

    for one in (old, new):
        assert kept.keys() <= one.envelope.keys()
        assert_lists(one.envelope, kept, day)


@pytest.mark.slow
@examples(300)
@given(
    both_versions=versions(),
    words=st.fixed_dictionaries({}, optional=dict.fromkeys(SWITCHES, some(*WORDS, "what"))),
    around=st.fixed_dictionaries(
        {}, optional={"DO_NOT_TRACK": some("1", "0", " "), "CI": some("true", "0")}
    ),
    choice=some(*Choice),
    is_terminal=some(None, True, False),
    may_enable=st.booleans(),
    forbidden=some((), (), ("policy",)),
)
def test_whoever_is_off_under_either_is_off_under_both(
    both_versions: Any,
    words: dict[str, str],
    around: dict[str, str],
    choice: Choice,
    is_terminal: bool | None,
    may_enable: bool,
    forbidden: tuple[str, ...],
):
    old, new = both_versions
    decided = [
        resolve(
            one.consent,
            {**words, **around},
            StoredChoice(choice, problem="is damaged" if choice is Choice.DAMAGED else ""),
            forbidden_by=forbidden,
            is_terminal=is_terminal,
            may_enable=may_enable,
        ).is_on
        for one in (old, new, intersect(old, new))
    ]

    assert decided[2] <= (decided[0] and decided[1])


@pytest.mark.slow
@bounded
@given(both_versions=versions())
def test_what_both_allow_is_no_wider_than_either(both_versions: tuple[Contract, Contract]):
    """The receiver and the id are the agreed ones, and so may be others than the newer version's."""
    old, new = both_versions
    common = intersect(old, new)

    assert not is_wider(compare(old, common))
    wider = [one for one in compare(new, common) if one.kind is Kind.MORE]
    assert [one for one in wider if not one.place.startswith(PINNED)] == []


@pytest.mark.slow
@bounded
@given(both_versions=versions())
def test_a_version_has_all_of_itself_in_common_with_itself(both_versions: Any):
    for one in both_versions:
        assert compare(one, intersect(one, one)) == []


@pytest.mark.slow
@bounded
@given(both_versions=versions())
def test_no_two_names_on_the_wire_are_the_same(both_versions: Any):
    common = intersect(*both_versions)
    events = [one.wire_name or one.name for one in common.events.values()]

    assert len(events) == len(set(events))
    for event in common.events.values():
        names = [one.wire_name or at for at, one in event.fields.items() if not one.is_group]
        names += event.measures if isinstance(event, Rollup) else ()
        assert len(names) == len(set(names))


@pytest.mark.slow
@bounded
@given(one=contracts())
def test_a_contract_does_not_differ_from_itself(one: Contract):
    assert compare(one, parse_contract(one.text, "again.toml")) == []

"""What two versions of a contract both allow: the receiver that was agreed to, the stricter consent."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from support.contracts import contract_to_edit
from tallyd.contract import Contract, parse_contract
from tallyd.contract.frozen import replace
from tallyd.contract.intersect import intersect
from tallyd.contract.model import EnvSwitch

CODEGRAPH = contract_to_edit()


def edited(*edits: tuple[str, str]) -> Contract:
    """CodeGraph's contract with these edits."""
    text = CODEGRAPH.text
    for old, new in edits:
        assert text.count(old.encode()) == 1, old
        text = text.replace(old.encode(), new.encode())
    return parse_contract(text, "edited.toml")


@pytest.mark.parametrize(
    ("edit", "is_new"),
    [
        (("telemetry.getcodegraph.com", "b.example"), False),
        (("getcodegraph.com/v1", "getcodegraph.com:8443/v1"), False),
        (('"CODEGRAPH_TELEMETRY_ENDPOINT"', '"OTHER"'), False),
        (("getcodegraph.com/v1", "getcodegraph.com/v2"), True),
        (('override_env = "CODEGRAPH_TELEMETRY_ENDPOINT"\n', ""), True),
        (("max_age_days = 30", "max_age_days = 30\nretention_days = 30"), True),
    ],
)
def test_data_goes_to_the_receiver_that_was_agreed_to(edit: tuple[str, str], is_new: bool):
    new = edited(edit, ('interval = "6h"', 'interval = "1h"'))

    assert (new if is_new else CODEGRAPH).endpoint == intersect(CODEGRAPH, new).endpoint


def test_what_a_person_was_told_stays_and_every_promise_is_kept():
    new = edited(
        ('title = "CodeGraph"', 'title = "Graph"'),
        ("blob/main/TELEMETRY.md", "wiki"),
        ("(no code, no paths)", "(no code)"),
        ("~/.codegraph/telemetry.json", "~/.codegraph/t.json"),
        ('["source code", ', '["names of people", '),
        ("schema_version = 2", "schema_version = 3"),
    )

    common = intersect(CODEGRAPH, new)

    old = CODEGRAPH
    assert (old.title, old.details, old.notice, old.state, old.identity) == (
        *(common.title, common.details, common.notice, common.state, common.identity),
    )
    assert (*old.never, "names of people") == common.never
    assert (3, new.text) == (common.schema_version, common.text)


def test_the_digest_is_of_both_versions_in_their_order():
    new = edited(("max = 99", "max = 98"))

    digests = [intersect(CODEGRAPH, new).digest, intersect(new, CODEGRAPH).digest]

    assert [
        hashlib.sha256((one.digest + other.digest).encode()).hexdigest()
        for one, other in ((CODEGRAPH, new), (new, CODEGRAPH))
    ] == digests
    assert len({*digests, CODEGRAPH.digest, new.digest}) == 4


def test_a_project_is_hashed_only_where_both_versions_say_so():
    project = '[identity]\nproject = "sha256(id:path)"\n\n[envelope]'
    with_it, without = edited(("[envelope]", project)), CODEGRAPH

    assert [
        intersect(*pair).identity.has_project
        for pair in ((with_it, without), (without, with_it), (with_it, with_it))
    ] == [False, False, True]


def test_the_stricter_consent_is_in_force():
    old = replace(
        CODEGRAPH.consent, default="ask", do_not_track="any", grace_s=60.0, needs_terminal=True
    )
    new = replace(
        CODEGRAPH.consent, default="on", do_not_track="ignore", grace_s=3600.0, ci_disables=True
    )
    for one, other in ((old, new), (new, old)):
        policy = intersect(
            replace(CODEGRAPH, consent=one),
            replace(CODEGRAPH, consent=other),
        ).consent
        wanted = replace(old, grace_s=3600.0, ci_disables=True)
        assert wanted == policy


@pytest.mark.parametrize(
    ("one", "other", "wanted"),
    [("any", "set", "any"), ("any", "ignore", "any"), ("set", "ignore", "set")],
)
def test_the_stricter_reading_of_do_not_track_is_in_force(one: Any, other: Any, wanted: str):
    contracts = [
        replace(CODEGRAPH, consent=replace(CODEGRAPH.consent, do_not_track=rule))
        for rule in (one, other)
    ]

    assert wanted == intersect(*contracts).consent.do_not_track
    assert wanted == intersect(*reversed(contracts)).consent.do_not_track


def test_a_way_of_being_on_stays_where_both_versions_have_it():
    def of(*modes: Any) -> Contract:
        consent = replace(CODEGRAPH.consent, default="off", modes=modes)
        return replace(CODEGRAPH, consent=consent)

    every, anonymous = of("off", "anonymous", "identified"), of("off", "anonymous")

    assert intersect(every, anonymous).consent.modes == ("off", "anonymous")
    assert intersect(anonymous, every).consent.modes == ("off", "anonymous")
    assert intersect(of(), every).consent.modes == ("off",)
    assert intersect(every, of()).consent.modes == ("off",)
    assert intersect(of(), of()).consent.modes == ()


def test_a_switch_of_one_version_can_only_turn_off_and_decides_first():
    def of(*env: EnvSwitch) -> Contract:
        consent = replace(CODEGRAPH.consent, env=env)
        return replace(CODEGRAPH, consent=consent)

    def switch(name: str, off: str, on: str) -> EnvSwitch:
        return EnvSwitch(name, frozenset(off), frozenset(on))

    common = intersect(
        of(switch("A", "0", "1y"), switch("B", "0", "1")),
        of(switch("C", "0", "1"), switch("A", "n", "1")),
    )

    assert (
        switch("B", "0", ""),
        switch("C", "0", ""),
        switch("A", "0n", "1"),
    ) == common.consent.env


def test_a_switch_that_another_may_overrule_in_one_version_does_not_turn_on():
    a, b = (EnvSwitch(name, frozenset("0"), frozenset("1")) for name in "AB")
    one, other = (
        replace(CODEGRAPH, consent=replace(CODEGRAPH.consent, env=env)) for env in ((a, b), (b, a))
    )

    assert (replace(a, on=frozenset()), b) == intersect(one, other).consent.env

"""Consent: who decides, who else says off, and when a byte may leave. Truth tables of contract-v1."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from support.clock import NOON
from support.gateway import contract_of
from tallyd.contract.consent import (
    Choice,
    Consent,
    Gate,
    StoredChoice,
    may_leave,
    resolve,
    stricter,
)
from tallyd.contract.frozen import replace
from tallyd.contract.model import ConsentPolicy, EnvSwitch

CODEGRAPH = contract_of("codegraph")
SWITCH = "CODEGRAPH_TELEMETRY"
SINCE = "2026-11-01T08:00:00.000Z"
NOBODY = StoredChoice(Choice.NONE)
ON = StoredChoice(Choice.ON, SINCE)
OFF = StoredChoice(Choice.OFF, SINCE)
NOT_ASKED = "default (nobody was asked yet)"
DAMAGED = StoredChoice(Choice.DAMAGED, problem="is not JSON")


def policy(**changes: Any) -> ConsentPolicy:
    """CodeGraph's policy with `changes`."""
    return replace(CODEGRAPH.consent, **changes)


def decide(
    environ: dict[str, str] | None = None,
    stored: StoredChoice = NOBODY,
    *,
    may_enable: bool = True,
    **changes: Any,
) -> Consent:
    return resolve(policy(**changes), environ or {}, stored, may_enable=may_enable)


def said(consent: Consent) -> tuple[bool, str, tuple[str, ...]]:
    return consent.is_on, consent.decided_by, consent.says_off


# --- the order of the rules -----------------------------------------------------------------------


def test_the_first_rule_that_speaks_decides_and_every_rule_that_says_off_is_named():
    """All 2·3·2·3·2 combinations against the order written out once more, in words."""
    wrong = []
    for dnt, variable, ci, stored, default in product(
        ("", "1"), ("", "0", "1"), ("", "true"), (NOBODY, ON, OFF), ("on", "off")
    ):
        rules = [
            ("DO_NOT_TRACK", False if dnt else None),
            (SWITCH, {"": None, "0": False, "1": True}[variable]),
            ("CI", False if ci else None),
            ("stored choice", {NOBODY: None, ON: True, OFF: False}[stored]),
            ("default", default == "on"),
        ]
        spoken = [(name, is_on) for name, is_on in rules if is_on is not None]
        wanted = (spoken[0][1], spoken[0][0], tuple(name for name, is_on in spoken if not is_on))
        environ = {"DO_NOT_TRACK": dnt, SWITCH: variable, "CI": ci}
        found = said(decide(environ, stored, ci_disables=True, default=default))
        if found != wanted:
            wrong.append((environ, stored.choice, default, found, wanted))

    assert wrong == []


@pytest.mark.parametrize(
    ("default", "wanted"),
    [
        ("on", (True, "default", ())),
        ("off", (False, "default", ("default",))),
        ("ask", (False, NOT_ASKED, (NOT_ASKED,))),
    ],
)
def test_when_nobody_chose_the_default_decides_and_to_ask_is_off(
    default: str, wanted: tuple[bool, str, tuple[str, ...]]
):
    assert wanted == said(decide(default=default))


def test_a_policy_file_decides_before_everything_and_cannot_switch_on():
    """All that it can do is to be there, with a name."""
    environ = {"DO_NOT_TRACK": "1", SWITCH: "1"}
    found = resolve(policy(), environ, ON, forbidden_by=["machine policy"])

    assert said(found) == (False, "machine policy", ("machine policy", "DO_NOT_TRACK"))
    assert (
        found.is_wish,
        resolve(policy(), {}, ON, damaged_policies=["user policy (damaged)"]).is_wish,
    ) == (True, False)


@pytest.mark.parametrize(
    ("is_terminal", "wanted"),
    [
        (True, (True, "stored choice", ())),
        (False, (False, "no terminal", ("no terminal",))),
        # A daemon never has one: the rule is for hosts.
        (None, (True, "stored choice", ())),
    ],
)
def test_where_a_terminal_is_required_a_host_without_one_is_off(
    is_terminal: bool | None, wanted: tuple[bool, str, tuple[str, ...]]
):
    needed, any_will_do = (
        said(resolve(policy(needs_terminal=needed), {}, ON, is_terminal=is_terminal))
        for needed in (True, False)
    )

    assert (wanted, (True, "stored choice", ())) == (needed, any_will_do)


@pytest.mark.parametrize(
    ("stored", "environ", "mode"),
    [
        (NOBODY, {}, "off"),
        (StoredChoice(Choice.ON, SINCE, mode="identified"), {}, "identified"),
        (StoredChoice(Choice.ON, SINCE, mode="anonymous"), {}, "anonymous"),
        (StoredChoice(Choice.ON, SINCE, mode="identified"), {"DO_NOT_TRACK": "1"}, "off"),
        # Switched on by a variable nobody said in which way: the one that knows no person.
        (NOBODY, {SWITCH: "1"}, "anonymous"),
        (OFF, {SWITCH: "1"}, "anonymous"),
    ],
)
def test_a_product_with_modes_is_on_in_one_of_them(
    stored: StoredChoice, environ: dict[str, str], mode: str
):
    modes = ("off", "anonymous", "identified")

    assert mode == decide(environ, stored, default="ask", modes=modes).mode


def test_of_two_contracts_in_force_the_one_that_says_off_decides():
    on, off = decide(), decide({"DO_NOT_TRACK": "1"})

    assert (off, off, on) == (stricter(on, off), stricter(off, on), stricter(on, on))


# --- DO_NOT_TRACK, the product's variable, CI -----------------------------------------------------


@pytest.mark.parametrize(
    ("value", "when_set", "when_any"),
    [
        (None, True, True),
        ("", True, True),
        ("0", True, False),
        ("false", True, False),
        ("FALSE", True, False),
        (" 0 ", True, False),
        (" ", True, False),
        ("no", False, False),
        ("off", False, False),
        ("1", False, False),
        ("true", False, False),
        ("00", False, False),
    ],
)
def test_do_not_track_lowers_as_the_contract_says(
    value: str | None, when_set: bool, when_any: bool
):
    environ = {} if value is None else {"DO_NOT_TRACK": value}

    assert (when_set, when_any, True) == tuple(
        decide(environ, do_not_track=rule).is_on for rule in ("set", "any", "ignore")
    )


@pytest.mark.parametrize(
    ("value", "is_on", "decided_by"),
    [
        (None, False, "default"),
        ("", False, "default"),
        ("  ", False, "default"),
        ("0", False, SWITCH),
        ("false", False, SWITCH),
        ("No", False, SWITCH),
        (" OFF ", False, SWITCH),
        ("1", True, SWITCH),
        ("TRUE", True, SWITCH),
        (" yes ", True, SWITCH),
        ("on", True, SWITCH),
        ("disabled", False, SWITCH),
        ("n", False, SWITCH),
        ("enable", False, SWITCH),
        ("11", False, SWITCH),
        ("on,", False, SWITCH),
    ],
)
def test_unknown_text_in_the_products_variable_never_enables(
    value: str | None, is_on: bool, decided_by: str
):
    """Whoever writes TELEMETRY=disabled means it."""
    environ = {} if value is None else {SWITCH: value}

    consent = decide(environ, default="off")

    assert (is_on, decided_by) == (consent.is_on, consent.decided_by)


def test_unknown_text_lowers_also_what_is_switched_on_elsewhere():
    assert said(decide({SWITCH: "maybe"}, ON)) == (False, SWITCH, (SWITCH,))


def test_of_several_variables_the_first_in_the_contract_decides():
    both = (
        EnvSwitch("FIRST", off=frozenset({"0"}), on=frozenset({"1"})),
        EnvSwitch("SECOND", off=frozenset({"1"}), on=frozenset()),
    )

    assert [
        said(decide(environ, env=both))
        for environ in (
            {"FIRST": "1", "SECOND": "1"},
            {"SECOND": "1"},
            {"FIRST": "0", "SECOND": "1"},
        )
    ] == [
        (True, "FIRST", ("SECOND",)),
        (False, "SECOND", ("SECOND",)),
        (False, "FIRST", ("FIRST", "SECOND")),
    ]


@pytest.mark.parametrize(
    ("value", "disables"),
    [(None, False), ("", False), ("0", False), ("False", False), ("1", True), ("woodpecker", True)],
)
def test_ci_lowers_where_the_contract_says_so_and_is_only_a_tag_elsewhere(
    value: str | None, disables: bool
):
    environ = {} if value is None else {"CI": value}

    assert (not disables, True) == (
        decide(environ, ci_disables=True).is_on,
        decide(environ, ci_disables=False).is_on,
    )


# --- the stored choice ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stored", "environ", "wanted"),
    [
        (NOBODY, {}, Consent("on", "default", ())),
        (ON, {}, Consent("on", "stored choice", (), SINCE, is_explicit=True)),
        (OFF, {}, Consent("off", "stored choice", ("stored choice",), SINCE)),
        (
            DAMAGED,
            {},
            Consent(
                "off",
                "stored choice (is not JSON)",
                ("stored choice (is not JSON)",),
                is_wish=False,
            ),
        ),
        (ON, {SWITCH: "0"}, Consent("off", SWITCH, (SWITCH,))),
        (ON, {SWITCH: "1"}, Consent("on", SWITCH, ())),
        (OFF, {SWITCH: "1"}, Consent("on", SWITCH, ("stored choice",))),
        (
            DAMAGED,
            {"DO_NOT_TRACK": "1"},
            Consent("off", "DO_NOT_TRACK", ("DO_NOT_TRACK", "stored choice (is not JSON)")),
        ),
    ],
)
def test_a_stored_choice_carries_its_date_and_damage_is_off_but_no_wish(
    stored: StoredChoice, environ: dict[str, str], wanted: Consent
):
    """A wish to be off deletes what waits; damage may be a disk's passing fault."""
    assert wanted == decide(environ, stored)


# --- the daemon's view ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "stored", "wanted"),
    [
        ({SWITCH: "1"}, NOBODY, (True, "default", ())),
        ({SWITCH: "1"}, ON, (True, "stored choice", ())),
        ({SWITCH: "1"}, OFF, (False, "stored choice", ("stored choice",))),
        ({SWITCH: "0"}, ON, (False, SWITCH, (SWITCH,))),
        ({SWITCH: "maybe"}, ON, (False, SWITCH, (SWITCH,))),
        ({"DO_NOT_TRACK": "1"}, ON, (False, "DO_NOT_TRACK", ("DO_NOT_TRACK",))),
        ({SWITCH: "1", "DO_NOT_TRACK": "1"}, ON, (False, "DO_NOT_TRACK", ("DO_NOT_TRACK",))),
    ],
)
def test_in_the_daemon_a_variable_can_only_lower(
    environ: dict[str, str], stored: StoredChoice, wanted: tuple[bool, str, tuple[str, ...]]
):
    """Its environment is not the shell in which somebody switched a variable on."""
    assert wanted == said(decide(environ, stored, may_enable=False))


def test_in_the_daemon_nothing_is_on_that_is_off_in_a_shell_without_the_variable():
    raised = [
        (environ, stored.choice)
        for value, stored, default in product(
            ("1", "0", "x", ""), (NOBODY, ON, OFF, DAMAGED), ("on", "off", "ask")
        )
        for environ in ({SWITCH: value}, {SWITCH: value, "CI": "1"}, {"DO_NOT_TRACK": value})
        if decide(environ, stored, may_enable=False, default=default).is_on
        and not decide({}, stored, default=default).is_on
    ]

    assert raised == []


# --- may it leave ---------------------------------------------------------------------------------

HOUR = 3600.0
DAY = 24 * HOUR
DEFAULT_ON = Consent("on", "default", ())
CHOSEN_ON = Consent("on", "stored choice", (), SINCE, is_explicit=True)
BY_VARIABLE = Consent("on", SWITCH, ())
SWITCHED_OFF = Consent("off", "stored choice", ("stored choice",), SINCE)
CLOSED_BY_GRACE = "the grace since the notice has not passed"
NOT_SHOWN = Gate(False, "the notice for this contract was not shown yet")


@pytest.mark.parametrize(
    ("consent", "notice_shown_at", "wanted"),
    [
        (SWITCHED_OFF, None, Gate(False, "consent is off (stored choice)")),
        (SWITCHED_OFF, NOON - 30 * DAY, Gate(False, "consent is off (stored choice)")),
        (CHOSEN_ON, None, Gate(True)),
        (CHOSEN_ON, NOON, Gate(True)),
        (DEFAULT_ON, None, NOT_SHOWN),
        (BY_VARIABLE, None, NOT_SHOWN),
        (DEFAULT_ON, NOON, Gate(False, CLOSED_BY_GRACE, NOON + DAY)),
        (DEFAULT_ON, NOON - DAY + 1, Gate(False, CLOSED_BY_GRACE, NOON + 1)),
        (DEFAULT_ON, NOON - DAY, Gate(True)),
        (DEFAULT_ON, 0.0, Gate(True)),
        (DEFAULT_ON, NOON + 5 * DAY, Gate(False, CLOSED_BY_GRACE, NOON + 6 * DAY)),
    ],
    ids=[
        *("off, no notice", "off, notice", "chosen, no notice", "chosen, notice just now"),
        *("default, no notice", "variable, no notice", "notice just now", "a second too early"),
        *("grace over", "notice at the epoch", "the clock was set back"),
    ],
)
def test_a_byte_leaves_after_consent_notice_and_grace(
    consent: Consent, notice_shown_at: float | None, wanted: Gate
):
    is_agreed = consent.is_explicit
    assert wanted == may_leave(consent, DAY, notice_shown_at, NOON, is_agreed=is_agreed)


def test_without_a_grace_the_notice_opens_the_gate_at_once():
    assert (Gate(True), Gate(False, CLOSED_BY_GRACE, NOON + 1)) == (
        may_leave(DEFAULT_ON, 0, NOON, NOON, is_agreed=False),
        may_leave(DEFAULT_ON, 0, NOON + 1, NOON, is_agreed=False),
    )


def test_what_was_agreed_to_before_needs_no_second_notice():
    assert Gate(True) == may_leave(DEFAULT_ON, DAY, None, NOON, is_agreed=True)


def test_a_decision_is_told_in_one_word():
    assert (DEFAULT_ON.state, SWITCHED_OFF.state) == ("on", "off")

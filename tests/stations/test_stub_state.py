"""A product's state file as the stub reads it: its own keys, its format, and what is damage."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.hosts import built
from support.processes import CONTRACTS
from support.tool import BY_USER, MODES, MODES_STATE, OWN_STATE, put, tool
from tallyd.choices import read_choice
from tallyd.contract import parse_contract
from tallyd.contract.consent import Choice, resolve
from tallyd.contract.days import unix_of as unix_of_daemon
from tallyd.paths import Paths
from tallyd_client._policy import Consent, Policy
from tallyd_client._state import unix_of

_ID = "c1b0f2d8-6a3e-4f27-8a44-0d9e6b5f1c72"
_DATE = "2026-06-03T08:00:12.114Z"
_SINCE = 1780473612.114
_LATER = "2026-07-01T00:00:00.000Z"
_STRICT = OWN_STATE.replace("[state]", "[state]\nstrict = true")
_OWN: dict[str, Any] = {"on": True, "installId": _ID, "noticeAt": _DATE, "noticeVersion": 1}
_OFF = ("off", None, None)

Decision = tuple[str, str | None, str | None]
Decide = Callable[..., Decision]


@pytest.fixture
def decide(home: Path, monkeypatch: pytest.MonkeyPatch) -> Decide:
    """The decision for a contract: mode, date and id."""
    for name in ("DO_NOT_TRACK", "CI", "TOOL_TELEMETRY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("TALLYD_HOME", str(home))

    def consent(contract: dict[str, Any]) -> Decision:
        found = Policy(None, "1", contract, {}).consent()
        assert found.since == (unix_of(found.said) if found.said is not None else 0.0)
        assert same_to_daemon(contract, found)
        return found.mode, found.said, found.id

    return consent


def same_to_daemon(contract: dict[str, Any], found: Consent) -> bool:
    """Whether the daemon decides as the stub does; where it does not, the stub may only say off."""
    parsed = parse_contract(contract["text"].encode(), "")
    stored = read_choice(parsed, Paths.locate(os.environ), os.environ)
    theirs = resolve(parsed.consent, os.environ, stored.stored)
    if not found.is_on:
        # tallyd's own file: `enabled` is false there, and a mode beside it that says otherwise.
        return not theirs.is_on or stored.values.get("enabled") is False
    since = stored.stored.effective_from if stored.stored.choice is Choice.ON else None
    is_random = parsed.identity.kind == "random"
    return (theirs.mode, since, stored.machine_id if is_random else found.id) == (
        found.mode,
        found.said,
        found.id,
    )


_NOBODY_CHOSE: list[dict[str, Any]] = [
    _OWN,
    {},
    {"on": True},
    {"on": None, "installId": None},
    dict(_OWN, theme="dark", consent_source="cli", updated_at=_DATE),
]


@pytest.mark.parametrize("values", _NOBODY_CHOSE)
@pytest.mark.parametrize("default", ["on", "off", "ask"])
def test_on_in_a_file_without_a_source_is_no_choice(
    home: Path, decide: Decide, values: dict[str, Any], default: str
):
    """The product wrote it at its first run, asking nobody. Keys that are not mapped say nothing."""
    put(home / ".tool/state.json", values)
    mine = values.get("installId")

    expected = ("on", None, mine) if default == "on" else _OFF
    assert expected == decide(tool(OWN_STATE, consent=f'default = "{default}"'))


@pytest.mark.parametrize("default", ["on", "off", "ask"])
@pytest.mark.parametrize(
    ("values", "companion", "expected"),
    [
        (_OWN, {"choice": "on", "updated_at": _DATE}, ("on", _DATE, _ID)),
        (_OWN, {"choice": "on"}, ("on", None, _ID)),
        (_OWN, {"choice": "on", "updated_at": "yesterday"}, ("on", None, _ID)),
        (_OWN, {"choice": "off", "updated_at": _DATE}, None),
        (_OWN, {"choice": "identified", "updated_at": _DATE}, None),
        (_OWN, {"choice": True}, None),
        (_OWN, {}, None),
        (_OWN, b"not JSON", None),
        (_OWN, b"[]", None),
        (dict(_OWN, on=False), {"choice": "on", "updated_at": _DATE}, _OFF),
        (dict(_OWN, on=False), {"choice": "off", "updated_at": _DATE}, _OFF),
    ],
)
def test_the_companion_counts_only_while_it_agrees_with_the_products_file(
    home: Path,
    decide: Decide,
    default: str,
    values: dict[str, Any],
    companion: Any,
    expected: Decision | None,
):
    """None: it is ignored, and the default stands."""
    put(home / ".tool/state.json", values)
    put(home / "state/consent/tool.json", companion)
    expected = expected or (("on", None, _ID) if default == "on" else _OFF)

    assert expected == decide(tool(OWN_STATE, consent=f'default = "{default}"'))


def test_a_companion_alone_is_no_choice(home: Path, decide: Decide):
    put(home / "state/consent/tool.json", {"choice": "on", "updated_at": _DATE})

    assert decide(tool(OWN_STATE, consent='default = "ask"')) == _OFF


def test_a_companion_says_nothing_where_the_products_file_says_it_itself(
    home: Path, decide: Decide
):
    """CodeGraph's file has keys for both."""
    contract = built(CONTRACTS / "codegraph.toml")
    values = {"enabled": True, "machine_id": _ID, "consent_source": "default-notice"}
    put(home / ".codegraph/telemetry.json", values)
    put(home / "state/consent/codegraph.json", {"choice": "on", "updated_at": _DATE})
    default = decide(contract)
    put(home / ".codegraph/telemetry.json", dict(values, consent_source="cli", updated_at=_LATER))

    assert [default, decide(contract)] == [("on", None, _ID), ("on", _LATER, _ID)]


def test_where_only_the_source_is_missing_nobody_can_be_said_to_have_chosen(
    home: Path, decide: Decide
):
    """As the daemon has it: the companion stands in for a date, and goes with it."""
    state = OWN_STATE.replace('created = "createdAt"', 'updated = "changedAt"')
    put(home / ".tool/state.json", {"on": True, "changedAt": _DATE})
    put(home / "state/consent/tool.json", {"choice": "on", "updated_at": _LATER})

    assert decide(tool(state, consent='default = "ask"')) == _OFF


def test_a_product_that_was_off_before_it_had_a_file_of_its_own_stays_off(
    home: Path, decide: Decide
):
    put(home / "state/consent/tool.json", {"enabled": False, "machine_id": None})

    assert decide(tool(OWN_STATE)) == _OFF
    put(home / ".tool/state.json", {"on": True})
    assert decide(tool(OWN_STATE)) == ("on", None, None)


def test_where_only_the_date_is_missing_the_source_says_who_chose(home: Path, decide: Decide):
    state = OWN_STATE.replace('created = "createdAt"', 'source = "by"')
    put(home / ".tool/state.json", {"on": True, "by": "cli"})
    alone = decide(tool(state, consent='default = "ask"'))
    put(home / "state/consent/tool.json", {"choice": "on", "updated_at": _LATER})

    assert [
        alone,
        decide(tool(state, consent='default = "ask"')),
    ] == [("on", None, None), ("on", _LATER, None)]


@pytest.mark.parametrize(
    ("values", "is_on"),
    [
        (_OWN, True),
        (dict(_OWN, createdAt=_DATE), True),
        (dict(_OWN, installId=None), True),
        ({"on": True}, True),
        (dict(_OWN, on=False), False),
        (dict(_OWN, more=1), False),
        (dict(_OWN, on="true"), False),
        (dict(_OWN, on=None), False),
        ({"installId": _ID}, False),
        (dict(_OWN, installId="me"), False),
        (dict(_OWN, installId=7), False),
        (dict(_OWN, noticeAt="yesterday"), False),
        (dict(_OWN, noticeAt=None), True),
        (dict(_OWN, noticeVersion="1"), False),
        (dict(_OWN, noticeVersion=True), False),
        (dict(_OWN, createdAt=7), False),
    ],
)
def test_a_strict_file_with_anything_else_in_it_is_damage(
    home: Path, decide: Decide, values: dict[str, Any], is_on: bool
):
    put(home / ".tool/state.json", values)

    assert (decide(tool(_STRICT))[0] == "on") == is_on


@pytest.mark.parametrize(
    ("values", "is_on"),
    [
        (dict(_OWN, more=1, noticeAt=7, noticeVersion="x", createdAt=None), True),
        (dict(_OWN, on=1), False),
        (dict(_OWN, installId="me"), False),
    ],
)
def test_a_file_that_is_not_strict_is_damaged_by_its_choice_and_id_alone(
    home: Path, decide: Decide, values: dict[str, Any], is_on: bool
):
    put(home / ".tool/state.json", values)

    assert (decide(tool(OWN_STATE))[0] == "on") == is_on


_MODES = [
    ('telemetry_mode = "anonymous"\n', ("anonymous", None, "")),
    ('telemetry_mode = "identified"\nuser_id = "alice-7"\n', ("identified", None, "alice-7")),
    ('telemetry_mode = "identified"\nuser_id = " al "\n', ("identified", None, "al")),
    ('telemetry_mode = "identified"\nuser_id = "%s"\n' % ("x" * 257), _OFF),
    ('telemetry_mode = "identified"\nuser_id = ""\n', ("anonymous", None, "")),
    ('telemetry_mode = "identified"\nuser_id = "  "\n', ("anonymous", None, "")),
    ('telemetry_mode = "identified"\n', ("anonymous", None, "")),
    ('telemetry_mode = "anonymous"\nuser_id = "alice-7"\n', ("anonymous", None, "")),
    ('telemetry_mode = "off"\n', _OFF),
    ('user_id = "alice-7"\n', _OFF),
    ("", _OFF),
    ('# mine\nhost = "x"\nredact = ["prompt", "url"]\ntelemetry_mode = "anonymous" # yes\n', ...),
    ('telemetry_mode = "loud"\n', _OFF),
    ("telemetry_mode = true\n", _OFF),
    ('telemetry_mode = "anonymous"\nuser_id = 7\n', _OFF),
    ('telemetry_mode = "anonymous\n', _OFF),
    ('telemetry_mode = "anonymous"\ntelemetry_mode = "off"\n', _OFF),
    ('{"telemetry_mode": "anonymous"}', _OFF),
]


@pytest.mark.parametrize(("content", "expected"), _MODES)
def test_a_file_of_modes_in_toml_says_off_or_in_which_way_on(
    home: Path, decide: Decide, content: str, expected: Any
):
    put(home / ".tool/state.toml", content)
    expected = ("anonymous", None, "") if expected is ... else expected

    assert expected == decide(tool(MODES_STATE, BY_USER, consent=MODES))


@pytest.mark.parametrize(
    ("companion", "date"),
    [("anonymous", _DATE), ("identified", None), ("off", None), ("on", None)],
)
def test_the_date_of_a_mode_is_the_companions_while_it_names_the_same(
    home: Path, decide: Decide, companion: str, date: str | None
):
    put(home / ".tool/state.toml", 'telemetry_mode = "anonymous"\n')
    put(home / "state/consent/tool.json", {"choice": companion, "updated_at": _DATE})

    assert decide(tool(MODES_STATE, BY_USER, consent=MODES)) == ("anonymous", date, "")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"enabled": True, "mode": "anonymous", "updated_at": _DATE}, ("anonymous", _DATE, "")),
        (
            {"enabled": True, "mode": "identified", "user_id": "al", "updated_at": _DATE},
            ("identified", _DATE, "al"),
        ),
        ({"enabled": True}, _OFF),
        ({"enabled": False, "mode": "anonymous"}, _OFF),
        ({"enabled": True, "mode": "off"}, _OFF),
        ({"enabled": True, "mode": "loud"}, _OFF),
    ],
)
def test_without_a_file_of_its_own_a_product_with_modes_has_tallyds(
    home: Path, decide: Decide, values: dict[str, Any], expected: Decision
):
    put(home / "state/consent/tool.json", values)

    assert expected == decide(tool(BY_USER, consent=MODES))


def test_a_variable_that_says_on_takes_the_mode_that_knows_no_person(
    home: Path, decide: Decide, monkeypatch: pytest.MonkeyPatch
):
    """Unless somebody chose another: then that one, and its date."""
    contract = tool(BY_USER, consent=MODES)
    monkeypatch.setenv("TOOL_TELEMETRY", "1")
    found = [decide(contract)]
    for values in (
        {"mode": "identified", "user_id": "al", "updated_at": _DATE},
        {"mode": "off", "updated_at": _DATE},
    ):
        put(home / "state/consent/tool.json", values)
        found.append(decide(contract))

    assert found == [("anonymous", None, ""), ("identified", _DATE, "al"), ("anonymous", None, "")]


def a_link(file: Path) -> None:
    put(file.with_name("elsewhere"), _OWN)
    file.symlink_to(file.with_name("elsewhere"))


def a_socket(file: Path) -> None:
    # The name of a socket is short, and a test's directory is not.
    os.chdir(file.parent)
    socket.socket(socket.AF_UNIX).bind(file.name)


def unreadable(file: Path) -> None:
    put(file, b"\xff" + b'{"on":true}')


def truncated(file: Path) -> None:
    put(file, b'{"on": tr')


def too_large(file: Path) -> None:
    put(file, b'{"on": true}' + b" " * 65536)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("state", [OWN_STATE, _STRICT], ids=["lenient", "strict"])
@pytest.mark.parametrize(
    "spoil", [a_link, a_socket, os.mkfifo, Path.mkdir, unreadable, truncated, too_large]
)
def test_damage_of_every_kind_means_off_also_with_a_companion_that_says_on(
    home: Path,
    decide: Decide,
    monkeypatch: pytest.MonkeyPatch,
    state: str,
    spoil: Callable[[Path], object],
):
    monkeypatch.chdir(home)
    file = home / ".tool/state.json"
    file.parent.mkdir()
    spoil(file)
    put(home / "state/consent/tool.json", {"choice": "on", "updated_at": _DATE})

    assert decide(tool(state)) == _OFF


@pytest.mark.parametrize("state", [OWN_STATE, _STRICT], ids=["lenient", "strict"])
def test_a_pipe_that_says_on_is_no_file(home: Path, decide: Decide, state: str):
    """What it says can be read once, and by whoever comes first."""
    file = home / ".tool/state.json"
    file.parent.mkdir()
    os.mkfifo(file)
    writing = os.open(file, os.O_RDWR)
    try:
        os.write(writing, b'{"on": true}')
        found = decide(tool(state))
    finally:
        os.close(writing)

    assert found == _OFF


def test_a_byte_order_mark_is_no_damage(home: Path, decide: Decide):
    put(home / ".tool/state.json", b"\xef\xbb\xbf" + b'{"on": true}')

    assert decide(tool(OWN_STATE)) == ("on", None, None)


@pytest.mark.parametrize(
    "text",
    [
        *("2026-11-20T12:00:00.000Z", "2026-11-20T12:00:00Z", "2026-11-20T12:00Z", _DATE),
        *("2026-11-20 12:00:00+00:00", "2026-11-20T12:00:00.123456-05:30", "2024-02-29T00:00Z"),
        *("2026-02-29T00:00:00Z", "2026-04-31T00:00:00Z", "2026-13-01T00:00:00Z", "2026-00-01"),
        *("2026-11-20T25:00:00Z", "2026-11-20T12:60:00Z", "2026-11-20T12:00:60Z", "2026-11-20"),
        *("2026-11-20T12:00:00", "yesterday", "", "Z", "0000-01-01T00:00Z"),
        *("2026-11-20T12:00:00.000000000000000Z", "2026-11-20T12:00:00+25:00", "+026-11-20T12:00Z"),
        *("2026/11/20T12:00:00Z", "2026-11-20T12.00.00Z", "٢٠٢٦-11-20T12:00:00Z"),
    ],
)
def test_daemon_and_stub_take_the_same_text_for_an_instant(text: str):
    assert unix_of_daemon(text) == unix_of(text)


@pytest.mark.parametrize("value", [None, 7, True, [], {}])
def test_what_is_no_text_is_no_instant(value: Any):
    assert unix_of(value) is None


def test_the_date_of_the_vectors_is_read_to_the_millisecond():
    assert unix_of(_DATE) == pytest.approx(_SINCE, abs=1e-6)

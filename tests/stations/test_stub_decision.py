"""The decision travels with the delta, and no order of choices and drops carries old counts on."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.clock import NOON
from support.hosts import Dropped, dropped, files_below, texts
from support.tool import BY_USER, DERIVED, MODES, MODES_STATE, NAME, put, tool
from tallyd.contract.days import instant
from tallyd_client import Client

NewClient = Callable[..., Client]

_ID = "c1b0f2d8-6a3e-4f27-8a44-0d9e6b5f1c72"
_OTHER_ID = "5d0c7a16-2f0e-4c1b-9b58-7e41d2aa9f03"
_LONG_AGO = "2026-01-01T00:00:00.000Z"


class Clock:
    """The stub's time, which stands still until it is moved."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = NOON
        monkeypatch.setattr("tallyd_client.time.time", lambda: self.now)


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def own_file(home: Path, **values: Any) -> Path:
    """The demo's state file: on, chosen long ago, unless `values` say otherwise."""
    whole = {
        "enabled": True,
        "machine_id": _ID,
        "consent_source": "cli",
        "updated_at": _LONG_AGO,
        **values,
    }
    return put(home / "state/consent/tallyd-demo.json", whole)


def stamps(home: Path, product: str = "tallyd-demo") -> list[dict[str, Any]]:
    return [one["consent"] for one in texts(home, product)]


def test_a_delta_says_under_which_choice_and_id_it_was_counted(new_client: NewClient, home: Path):
    own_file(home, updated_at="2026-01-01T01:00:00+01:00")
    client = new_client()
    client.counter("tool_calls", tool="a")()
    client.drain()

    assert stamps(home) == [{"since": "2026-01-01T01:00:00+01:00", "id": _ID}]


@pytest.mark.parametrize(
    ("values", "stamp"),
    [
        (None, {"since": None, "id": None}),
        ({"consent_source": "default-notice"}, {"since": None, "id": _ID}),
        ({"updated_at": "yesterday"}, {"since": None, "id": _ID}),
        ({"machine_id": None}, {"since": _LONG_AGO, "id": None}),
    ],
)
def test_where_nobody_chose_or_no_id_is_there_it_says_so(
    new_client: NewClient, home: Path, values: dict[str, Any] | None, stamp: dict[str, Any]
):
    if values is not None:
        own_file(home, **values)
    client = new_client()
    client.counter("tool_calls", tool="a")()
    client.drain()

    assert stamps(home) == [stamp]


def test_a_variable_that_says_on_leaves_the_stored_choice_its_date(
    new_client: NewClient, home: Path, monkeypatch: pytest.MonkeyPatch
):
    """The daemon does not see the variable; its own decision is the stored one."""
    own_file(home)
    client = new_client()
    monkeypatch.setenv("TALLYD_DEMO_TELEMETRY", "1")
    client.counter("tool_calls", tool="a")()
    client.drain()

    assert stamps(home) == [{"since": _LONG_AGO, "id": _ID}]


@pytest.mark.parametrize(
    ("said", "who"),
    [
        ('telemetry_mode = "anonymous"\nuser_id = "al"\n', ""),
        ('telemetry_mode = "identified"\nuser_id = "al"\n', "al"),
    ],
)
def test_a_product_with_users_says_the_user_or_nobody(
    new_client: NewClient, home: Path, said: str, who: str
):
    put(home / ".tool/state.toml", said)
    client = new_client(tool(MODES_STATE, BY_USER, consent=MODES), NAME)
    client.counter("used", what="a")()
    client.drain()

    assert [(one["consent"]["id"], "id" in one) for one in texts(home, NAME)] == [(who, False)]


def test_a_derived_id_stands_in_the_delta_and_not_in_its_decision(
    new_client: NewClient, home: Path
):
    client = new_client(tool(DERIVED), NAME, identity="x")
    client.counter("used", what="a")()
    client.drain()

    assert [(one["consent"]["id"], one["id"][:8]) for one in texts(home, NAME)] == [
        (None, "cluster_")
    ]


_CHANGES: dict[str, dict[str, Any]] = {
    "another id": {"machine_id": _OTHER_ID},
    "no id any more": {"machine_id": None},
    "another date": {"updated_at": "2026-02-02T00:00:00.000Z"},
    "nobody chose any more": {"consent_source": "default-notice"},
    "off": {"enabled": False},
    "chosen within the window": {"updated_at": instant(NOON + 45)},
    "chosen at its beginning": {"updated_at": instant(NOON + 30)},
    "chosen later than now": {"updated_at": instant(NOON + 3600)},
}


@pytest.mark.parametrize("change", _CHANGES.values(), ids=_CHANGES)
def test_what_was_counted_in_the_window_of_a_decision_goes_nowhere(
    new_client: NewClient, home: Path, time: Clock, change: dict[str, Any]
):
    """Some of it was counted before, and nobody can tell which. It is no loss either."""
    own_file(home)
    client = new_client()
    search = client.counter("tool_calls", tool="search")
    search()
    time.now = NOON + 30
    client.drain()
    search()
    client.event("server_started", transport="stdio")
    client.rollup("tool_calls", "tool")([])
    own_file(home, **change)
    time.now = NOON + 60
    client.drain()
    within = dropped(home)
    time.now = NOON + 90
    client.drain()
    search()
    time.now = NOON + 120
    client.drain()

    is_on_now = change.get("enabled", True) and "later than now" not in str(change)
    is_on_now = is_on_now and change.get("updated_at") != instant(NOON + 3600)
    assert within == Dropped({"search": 1})
    assert dropped(home) == Dropped({"search": 2 if is_on_now else 1})


@pytest.mark.parametrize(("chosen", "is_kept"), [(-0.001, True), (0.0, False), (0.001, False)])
def test_a_choice_must_be_older_than_the_window(
    new_client: NewClient, home: Path, time: Clock, chosen: float, is_kept: bool
):
    """The client began in the millisecond in which somebody chose, and that may have been before."""
    own_file(home, updated_at=instant(NOON + chosen))
    client = new_client()
    client.counter("tool_calls", tool="search")()
    time.now = NOON + 30
    client.drain()

    assert dropped(home) == (Dropped({"search": 1}) if is_kept else Dropped())


def test_a_new_id_where_there_was_none_is_no_decision(
    new_client: NewClient, home: Path, time: Clock
):
    """The daemon makes one at its first send; nobody chose anything."""
    client = new_client()
    search = client.counter("tool_calls", tool="search")
    search()
    own_file(home, consent_source="default-notice")
    time.now = NOON + 30
    client.drain()

    assert (Dropped({"search": 1}), [{"since": None, "id": _ID}]) == (dropped(home), stamps(home))


def test_a_decision_in_an_idle_window_does_not_spoil_the_next_one(
    new_client: NewClient, home: Path, time: Clock
):
    own_file(home)
    client = new_client()
    search = client.counter("tool_calls", tool="search")
    search()
    time.now = NOON + 30
    client.drain()
    own_file(home, machine_id=_OTHER_ID, updated_at=instant(NOON + 40))
    time.now = NOON + 60
    client.drain()
    search()
    time.now = NOON + 90
    client.drain()

    assert [one["id"] for one in stamps(home)] == [_ID, _OTHER_ID]


def test_another_mode_is_another_decision(new_client: NewClient, home: Path, time: Clock):
    contract = tool(MODES_STATE, BY_USER, consent=MODES)
    put(home / ".tool/state.toml", 'telemetry_mode = "anonymous"\n')
    client = new_client(contract, NAME)
    used = client.counter("used", what="a")
    used()
    put(home / ".tool/state.toml", 'telemetry_mode = "identified"\nuser_id = "al"\n')
    time.now = NOON + 30
    client.drain()
    nothing = files_below(home / "state")
    used()
    time.now = NOON + 60
    client.drain()

    assert (nothing, [one["id"] for one in stamps(home, NAME)]) == ([], ["al"])


_DEMO_STATE = "state/consent/tallyd-demo.json"


def decide_after_rename(
    monkeypatch: pytest.MonkeyPatch, decide: Callable[[], object], which: int = 1
) -> list[str]:
    """Let somebody decide between the `which`th rename into `new/` and the look after it."""
    seen: list[str] = []
    rename = os.rename

    def rename_and_decide(source: str, target: str) -> None:
        rename(source, target)
        if f"{os.sep}new{os.sep}" in target:
            seen.append(target)
            if len(seen) == which:
                decide()

    monkeypatch.setattr("tallyd_client._drop.os.rename", rename_and_decide)
    return seen


@pytest.mark.parametrize(
    "change",
    [
        {"enabled": False, "machine_id": None},
        {"machine_id": _OTHER_ID},
        {"updated_at": instant(NOON + 30)},
        {"enabled": "damaged"},
    ],
)
def test_a_decision_between_the_rename_and_the_look_after_it_takes_the_file_away(
    new_client: NewClient,
    home: Path,
    time: Clock,
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, Any],
):
    """Whoever wrote the "off" may have emptied the spool before the file came; no notice either."""
    own_file(home)
    renamed = decide_after_rename(monkeypatch, lambda: own_file(home, **change))
    client = new_client()
    client.counter("tool_calls", tool="search")()
    client.event("server_started", transport="stdio")
    time.now = NOON + 30
    client.drain()

    assert (len(renamed), files_below(home)) == (1, [_DEMO_STATE])
    client.drain()
    assert (client._events, files_below(home)) == ([], [_DEMO_STATE])


def test_an_off_after_the_first_of_several_files_stops_the_rest(
    new_client: NewClient, home: Path, time: Clock, monkeypatch: pytest.MonkeyPatch
):
    own_file(home)
    renamed = decide_after_rename(monkeypatch, lambda: own_file(home, enabled=False), which=2)
    client = new_client()
    count = client.rollup("tool_calls", "tool", "client_name")
    for turn in range(900):
        count(f"{turn:064}", "c" * 64)
    time.now = NOON + 30
    client.drain()
    client.drain()

    waiting = [Path(one).exists() for one in renamed]
    assert (waiting, len(texts(home))) == ([True, False], 1)


def test_a_file_that_the_daemon_took_meanwhile_costs_nothing(
    new_client: NewClient, home: Path, time: Clock, monkeypatch: pytest.MonkeyPatch
):
    own_file(home)

    def off_and_gone() -> None:
        own_file(home, enabled=False)
        for file in (home / "state/spool/tallyd-demo/new").iterdir():
            file.unlink()

    decide_after_rename(monkeypatch, off_and_gone)
    client = new_client()
    client.counter("tool_calls", tool="search")()
    time.now = NOON + 30
    client.drain()

    assert files_below(home) == [_DEMO_STATE]


def test_what_is_told_once_was_not_told_when_its_file_was_taken_away(
    new_client: NewClient, home: Path, time: Clock, monkeypatch: pytest.MonkeyPatch
):
    contract = tool(events='[events.first_run]\nkind = "event"\nonce = "machine"\n')
    state = {"enabled": True, "machine_id": _ID, "consent_source": "cli"}
    file = put(home / "state/consent/tool.json", state)
    decide_after_rename(monkeypatch, lambda: put(file, dict(state, machine_id=_OTHER_ID)))
    client = new_client(contract, NAME)
    client.event("first_run")
    client.drain()
    marked = files_below(home)
    client.event("first_run")
    time.now = NOON + 30
    client.drain()

    assert marked == ["state/consent/tool.json"]
    assert [one["events"][0][0] for one in texts(home, NAME)] == ["first_run"]


def test_a_process_that_began_off_stays_off(new_client: NewClient, home: Path, time: Clock):
    own_file(home, enabled=False)
    client = new_client()
    client.counter("tool_calls", tool="search")()
    own_file(home)
    time.now = NOON + 30
    client.counter("tool_calls", tool="other")()
    client.drain()

    assert files_below(home) == [_DEMO_STATE]


def test_a_writer_of_several_decisions_keeps_to_the_format(new_client: NewClient, home: Path):
    """The daemon reads consent and id where it knows them, and the rest of the file as ever."""
    own_file(home)
    client = new_client()
    client.counter("tool_calls", tool="search")()
    client.drain()

    (delta,) = texts(home)
    assert dropped(home) == Dropped({"search": 1})
    assert list(delta) == [
        *("v", "product", "contract", "writer", "consent", "envelope", "day", "counts", "events"),
    ]
    assert json.dumps(delta["consent"]) == json.dumps({"since": _LONG_AGO, "id": _ID})

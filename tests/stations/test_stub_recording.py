"""What is not to be recorded: past its day, sampled out, told before. None of it is a loss."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from support.clock import NOON, TODAY
from support.hosts import files_below, run_host, spool_of, texts
from support.tool import NAME, tool
from tallyd_client import Client, _screen

NewClient = Callable[..., Client]

_EXPIRING = """
[events.old]
kind = "rollup"
expires = "DAY"
dimensions.what = { type = "token" }
measures = ["count"]
[events.gone]
kind = "event"
expires = "DAY"
[events.kept]
kind = "event"
properties.old = { type = "token", expires = "DAY" }
properties.new = { type = "token", optional = true }
"""
_OLD_ENVELOPE = 'edition = { type = "token", from = "host", expires = "DAY" }'


@pytest.mark.parametrize(
    ("expires", "is_kept"), [("2026-11-19", False), (TODAY, False), ("2026-11-21", True)]
)
def test_what_has_expired_is_not_collected_from_its_day_on_and_is_no_loss(
    new_client: NewClient,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    expires: str,
    is_kept: bool,
):
    monkeypatch.setattr("tallyd_client.time.time", lambda: NOON)
    contract = tool(
        events=_EXPIRING.replace("DAY", expires), envelope=_OLD_ENVELOPE.replace("DAY", expires)
    )
    client = new_client(contract, NAME, envelope={"edition": "pro"})
    client.rollup("old", "what")("x")
    client.event("gone")
    client.event("kept", old="x", new="y")
    client.drain()

    (delta,) = texts(home, NAME)
    assert (len(delta["counts"]), [one[0] for one in delta["events"]]) == (
        is_kept,
        ["gone", "kept"] if is_kept else ["kept"],
    )
    assert delta["events"][-1][2] == {"old": "x", "new": "y"} if is_kept else {"new": "y"}
    assert delta["envelope"] == ({"edition": "pro"} if is_kept else {})
    assert "lost" not in delta


def test_an_event_expires_by_its_own_day_and_counts_by_the_deltas(
    new_client: NewClient, home: Path, monkeypatch: pytest.MonkeyPatch
):
    """Both were made in the last minutes of the last day, and are dropped in the first of the next."""
    midnight = NOON + 43200
    monkeypatch.setattr("tallyd_client.time.time", lambda: midnight - 60)
    client = new_client(tool(events=_EXPIRING.replace("DAY", "2026-11-21")), NAME)
    client.rollup("old", "what")("x")
    client.event("gone")
    monkeypatch.setattr("tallyd_client.time.time", lambda: midnight + 300)
    client.drain()

    (delta,) = texts(home, NAME)
    assert (delta["day"], delta["counts"]) == ("2026-11-21", [])
    assert [one[:2] for one in delta["events"]] == [["gone", "2026-11-20T23:59:00.000Z"]]


_SAMPLED = """
[events.used]
kind = "rollup"
sample = RATE
dimensions.what = { type = "token" }
measures = ["count"]
[events.ran]
kind = "event"
sample = RATE
sample_as = "sampleRate"
[events.all]
kind = "event"
"""


@pytest.fixture
def draw(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets what this process draws."""

    def set_draw(value: float) -> None:
        monkeypatch.setattr(_screen, "_DRAWN", {os.getpid(): value})

    return set_draw


@pytest.mark.parametrize(
    ("drawn", "rate", "is_in"),
    [
        (0.0, "0.1", True),
        (0.099, "0.1", True),
        (0.1, "0.1", False),
        (0.9, "0.1", False),
        (0.0, "0", False),
        (0.0, "1", True),
        ((2**53 - 1) / 2**53, "1.0", True),
    ],
)
def test_a_sampled_event_is_recorded_with_its_rate_or_vanishes(
    new_client: NewClient,
    home: Path,
    draw: Callable[[float], None],
    drawn: float,
    rate: str,
    is_in: bool,
):
    draw(drawn)
    client = new_client(tool(events=_SAMPLED.replace("RATE", rate)), NAME)
    count = client.rollup("used", "what", "sample_rate")
    count("x", 0.5)
    client.rollup("used", "what")("x")
    client.event("ran", sampleRate=0.5)
    client.event("all")
    client.drain()

    (delta,) = texts(home, NAME)
    number = float(rate)
    counted = [["used", {"what": "x", "sample_rate": number}, {"count": 1}]] * 2
    assert delta["counts"] == (counted if is_in else [])
    assert [[one[0], one[2]] for one in delta["events"]] == [
        *([["ran", {"sampleRate": number}]] if is_in else []),
        ["all", {}],
    ]
    assert "lost" not in delta


def test_a_process_that_is_sampled_out_drops_nothing_at_all(
    new_client: NewClient, home: Path, draw: Callable[[float], None]
):
    draw(0.5)
    client = new_client(tool(events=_SAMPLED.replace("RATE", "0.1")), NAME)
    client.event("ran")
    client.drain()
    client.rollup("used", "what")("x")
    client.drain()

    assert (files_below(home), client._events) == ([], [])


def test_of_many_processes_as_many_record_as_the_rate_says(monkeypatch: pytest.MonkeyPatch):
    """10,000 draws at 0.1: a deviation is 30, and the seeded source is within four of them."""
    source = random.Random(20261120)
    monkeypatch.setattr(_screen, "_random", source.randbytes)
    monkeypatch.setattr(_screen, "_DRAWN", {})
    drawn = []
    for pid in range(10000):
        monkeypatch.setattr(_screen.os, "getpid", lambda pid=pid: pid)
        drawn.append(_screen._drawn())
        assert _screen._drawn() == drawn[-1]

    assert abs(sum(one < 0.1 for one in drawn) - 1000) < 120
    assert abs(sum(one < 0.5 for one in drawn) - 5000) < 200
    assert all(0 <= one < 1 for one in drawn)


@pytest.mark.slow
def test_each_process_draws_once_and_a_forked_child_draws_for_itself(home: Path):
    code = """
from tallyd_client import _screen
one = _screen._drawn()
assert _screen._drawn() == one
pid = os.fork()
if pid == 0:
    os._exit(_screen._drawn() == one)
assert os.waitpid(pid, 0)[1] == 0
"""
    assert run_host(home, code).returncode == 0


_ONCE = """
[groups]
project = { type = "hash" }
[events.snapshot]
kind = "event"
once = "process"
groups = ["project"]
properties.size = { type = "int" }
[events.first_run]
kind = "event"
once = "machine"
"""
_A, _B = "a" * 64, "b" * 64
_MARK = f"state/once/{NAME}/first_run"


def told(home: Path) -> list[tuple[str, dict[str, object]]]:
    return [(one[0], one[2]) for text in texts(home, NAME) for one in text["events"]]


def test_once_per_process_means_once_for_each_group(new_client: NewClient, home: Path):
    client = new_client(tool(events=_ONCE), NAME)
    for size, project in ((1, _A), (2, _A), (3, _B), (4, None), (5, None)):
        more = {} if project is None else {"project": project}
        client.event("snapshot", size=size, **more)
    client.drain()
    client.event("snapshot", size=6, project=_A)
    client.event("snapshot", size=7, project=_B)
    client.event("snapshot", size=8)
    client.drain()

    assert told(home) == [
        ("snapshot", {"project": _A, "size": 1}),
        ("snapshot", {"project": _B, "size": 3}),
        ("snapshot", {"size": 4}),
    ]
    assert [text.get("lost") for text in texts(home, NAME)] == [None]


def test_an_event_that_could_not_be_recorded_was_not_told(new_client: NewClient, home: Path):
    client = new_client(tool(events=_ONCE), NAME)
    client.event("snapshot", size="large", project=_A)
    client.event("snapshot", size=1, project=_A)
    client.drain()

    assert told(home) == [("snapshot", {"project": _A, "size": 1})]


def test_an_event_once_per_machine_is_told_by_one_client_only(new_client: NewClient, home: Path):
    for _ in range(3):
        client = new_client(tool(events=_ONCE), NAME)
        client.event("first_run")
        client.event("first_run")
        client.drain()
        client.event("first_run")
        client.drain()

    assert (told(home), os.listdir(home / f"state/once/{NAME}")) == (
        [("first_run", {})],
        ["first_run"],
    )


@pytest.mark.parametrize("event", ["snapshot", "first_run"])
def test_an_event_once_that_could_not_be_dropped_is_told_by_the_next_drop(
    new_client: NewClient, home: Path, event: str
):
    """The mark goes when the drop fails: it would say of an event that nobody has that it was told."""
    spool = home / "state/spool"
    spool.parent.mkdir()
    spool.write_text("in the way")
    client = new_client(tool(events=_ONCE), NAME)
    client.event(event, **({"size": 1} if event == "snapshot" else {}))
    client.drain()
    marked = (home / _MARK).exists()
    spool.unlink()
    client.drain()

    assert (marked, [name for name, _ in told(home)]) == (False, [event])
    assert (home / _MARK).exists() == (event == "first_run")


def test_a_mark_that_cannot_be_made_loses_the_event_and_nothing_else(
    new_client: NewClient, home: Path
):
    (home / "state").mkdir()
    (home / "state/once").write_text("in the way")
    client = new_client(tool(events=_ONCE), NAME)
    client.event("first_run")
    client.event("snapshot", size=1)
    client.drain()

    (delta,) = texts(home, NAME)
    assert ([one[0] for one in delta["events"]], delta["lost"]) == (["snapshot"], {"error": 1})


@pytest.mark.slow
def test_of_many_processes_at_once_one_tells_the_machines_event(home: Path):
    """Each waits at the gate until all are there."""
    from support.hosts import start_host

    code = f"""
client = Client(contract={tool(events=_ONCE)!r})
client.event("first_run")
print("ready", flush=True); sys.stdin.read()
client.drain()
"""
    hosts = [start_host(home, code, stdin=-1) for _ in range(12)]
    for host in hosts:
        assert host.stdout is not None
        assert host.stdout.readline() == "ready\n"
    for host in hosts:
        assert host.stdin is not None
        host.stdin.close()
        host.stdin = None
    ends = [(host.wait(30), host.communicate()[0]) for host in hosts]

    assert (ends, told(home)) == ([(0, "")] * 12, [("first_run", {})])
    assert spool_of(home, NAME).new.is_dir()

"""The stub's cells: every call is counted once, by any number of threads, and nothing raises."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.hosts import Dropped, dropped, texts
from support.processes import CONTRACTS
from tallyd_client import Client

_THREADS = 8
_CALLS = 20000

NewClient = Callable[..., Client]


class Unhashable:
    """A value that cannot be a key."""

    __hash__ = None  # type: ignore[assignment]


class RaisesOnEverything:
    """A value that fails whatever is asked of it."""

    def __hash__(self) -> int:
        raise RuntimeError("no")

    def __bool__(self) -> bool:
        raise RuntimeError("no")

    def __repr__(self) -> str:
        raise RuntimeError("no")


class EqualsAndFails(str):
    """A text whose comparison fails, and only when it is screened."""

    __slots__ = ()
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no")

    def __getitem__(self, _: object) -> str:
        raise RuntimeError("no")


@pytest.fixture
def threads_switch_often() -> Iterator[None]:
    """Let threads of this test interrupt one another every few microseconds."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def in_threads(*works: Callable[[], object]) -> None:
    """Run every work in a thread of its own, begun together, to the end."""
    together = threading.Barrier(len(works))
    threads = [
        threading.Thread(target=lambda work=work: (together.wait(), work())) for work in works
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.mark.slow
@pytest.mark.usefixtures("threads_switch_often")
def test_eight_threads_lose_no_count_while_a_ninth_drains(new_client: NewClient, home: Path):
    """A drain reads the cells that the threads are moving; a call between read and mark must stay."""
    client = new_client()
    bound = client.counter("tool_calls", tool="bound")
    count = client.rollup("tool_calls", "tool")
    is_counted = threading.Event()
    running = threading.Semaphore(0)

    def count_a_lot() -> None:
        for turn in range(_CALLS):
            bound()
            count("search", ok=turn % 4 != 0)
        running.release()

    def drain_again_and_again() -> None:
        while not is_counted.is_set():
            client.drain()

    def tell_when_counted() -> None:
        for _ in range(_THREADS):
            running.acquire()
        is_counted.set()

    in_threads(*[count_a_lot] * _THREADS, drain_again_and_again, tell_when_counted)
    client.drain()

    assert Dropped(
        calls={"bound": _CALLS * _THREADS, "search": _CALLS * _THREADS},
        errors={"search": _CALLS // 4 * _THREADS},
    ) == dropped(home)


@pytest.mark.slow
@pytest.mark.usefixtures("threads_switch_often")
def test_threads_that_count_something_first_together_share_one_cell(
    new_client: NewClient, home: Path
):
    """The first count of a key makes its cell, and the first of a counter starts the client."""
    client = new_client()
    count = client.rollup("tool_calls", "tool")
    counters = [client.counter("tool_calls", tool=f"bound{turn}") for turn in range(200)]

    def count_each_once() -> None:
        for turn, bound in enumerate(counters):
            bound()
            count(f"tool{turn}")

    in_threads(*[count_each_once] * _THREADS)
    client.drain()

    each = [f"{kind}{turn}" for kind in ("bound", "tool") for turn in range(200)]
    assert Dropped(calls=dict.fromkeys(each, _THREADS)) == dropped(home)


def test_a_count_is_dropped_once_however_often_the_client_drains(new_client: NewClient, home: Path):
    client = new_client()
    bound = client.counter("tool_calls", tool="search")
    bound()
    client.drain()
    client.drain()
    bound()
    bound()
    client.drain()
    client.drain()

    assert (Dropped(calls={"search": 3}), 2) == (
        dropped(home),
        len(list((home / "state/spool/tallyd-demo/new").iterdir())),
    )


def test_what_cannot_be_counted_is_lost_by_cause_and_raises_nothing(
    new_client: NewClient, home: Path
):
    client = new_client()
    count = client.rollup("tool_calls", "tool", "client_name")
    count("search", "editor")
    for values in (
        (),
        ("search",),
        ("search", "editor", "more"),
        ("search", []),
        (Unhashable(), "editor"),
        (RaisesOnEverything(), "editor"),
        (None, "editor"),
        ("", "editor"),
        ("#!", "editor"),
        (7, "editor"),
    ):
        count(*values)
    count("search", "editor", ok=RaisesOnEverything())
    client.counter("tool_calls", tool=[])()
    client.counter("tool_calls", tool=Unhashable())()
    client.counter("tool_calls")()
    client.counter("unlisted", tool="search")()
    client.counter("server_started", transport="stdio")()
    client.drain()

    assert Dropped(calls={"search": 1}, lost={"error": 16}) == dropped(home)


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda client: client.counter([], tool="a")(), id="an event that is a list"),
        pytest.param(lambda client: client.counter({}, tool="a")(), id="an event that is a dict"),
        pytest.param(lambda client: client.counter(None, tool="a")(), id="no event"),
        pytest.param(lambda client: client.rollup([], "tool")("a"), id="a rollup that is a list"),
        pytest.param(lambda client: client.rollup("tool_calls", [])("a"), id="a dimension's name"),
        pytest.param(lambda client: client.event([]), id="an event's name"),
        pytest.param(
            lambda client: client.rollup("tool_calls", "tool")(EqualsAndFails("a")),
            id="a text that fails when it is read",
        ),
        pytest.param(
            lambda client: client.event("server_started", transport=EqualsAndFails("stdio")),
            id="a property that fails when it is compared",
        ),
    ],
)
def test_one_bad_use_costs_itself_and_nothing_else(
    new_client: NewClient, home: Path, spoil: Callable[[Client], object]
):
    """What fails only when it is screened must not keep the rest from being dropped for ever."""
    client = new_client()
    spoil(client)
    client.counter("tool_calls", tool="search")()
    client.event("server_started", transport="stdio")
    client.drain()
    client.drain()

    assert Dropped(calls={"search": 1}, events={"server_started": 1}, lost={"error": 1}) == dropped(
        home
    )


def test_dimensions_and_properties_may_have_any_name(new_client: NewClient):
    """The contract chooses names such as `name`, `event` and `self`; they are no parameters of ours."""
    client = new_client()
    for name in ("self", "event", "name", "ok"):
        client.counter("tool_calls", **{name: "x"})()
        client.event("server_started", **{name: "x"})


def test_keys_and_events_past_the_cap_are_counted_as_lost(new_client: NewClient, home: Path):
    client = new_client()
    count = client.rollup("tool_calls", "tool")
    for turn in range(1005):
        count(f"tool{turn}")
        client.event("server_started", transport="stdio")
    count("tool0")
    client.drain()

    assert Dropped(
        calls={"tool0": 2, **{f"tool{turn}": 1 for turn in range(1, 1000)}},
        events={"server_started": 1000},
        lost={"cap": 10},
    ) == dropped(home)


def test_binding_the_same_counter_again_and_again_takes_no_more_memory(
    new_client: NewClient, home: Path
):
    """A host that binds at every call instead of once is slow, but it neither leaks nor miscounts."""
    client = new_client()
    for turn in range(3000):
        client.counter("tool_calls", tool=f"tool{turn % 2}")()
    for turn in range(2000):
        client.counter("tool_calls", tool=f"other{turn}")
    sources = len(client._sources)
    client.drain()

    assert (Dropped(calls={"tool0": 1500, "tool1": 1500}), True) == (
        dropped(home),
        sources <= 1000,
    )


def test_a_closed_client_counts_nowhere(new_client: NewClient, home: Path):
    client = new_client()
    bound, count = client.counter("tool_calls", tool="a"), client.rollup("tool_calls", "tool")
    bound()
    client.close()
    bound()
    count("a")
    client.event("server_started", transport="stdio")
    client.drain()
    client.close()

    assert Dropped(calls={"a": 1}) == dropped(home)


def test_a_list_that_the_host_goes_on_with_is_told_as_it_was(new_client: NewClient, home: Path):
    client = new_client(product="codegraph", contract=CONTRACTS / "codegraph.toml")
    targets = ["claude"]
    client.event("uninstall", targets=targets)
    targets.append("cursor")
    client.drain()

    (text,) = texts(home, "codegraph")
    assert [[name, told] for name, _, told in text["events"]] == [
        ["uninstall", {"targets": ["claude"]}]
    ]

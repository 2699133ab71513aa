"""The stub's drops: whole files in the spool's format, or nothing and every count kept."""

from __future__ import annotations

import os
import re
import signal
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.clock import DAY_S, NOON, TODAY
from support.deltas import delta, drop, tool_calls
from support.hosts import Dropped, built, dropped, run_host, spool_of, start_host, texts
from support.processes import wait_for
from tallyd_client import Client, __version__

NewClient = Callable[..., Client]

_MIDNIGHT = NOON + DAY_S / 2
_YESTERDAY_OF_MIDNIGHT, _DAY_OF_MIDNIGHT = TODAY, "2026-11-21"
_DELTA_MAX_BYTES = 64 * 1024
_CAP_FILES, _CAP_BYTES = 2048, 2 * 1024 * 1024


def set_time(monkeypatch: pytest.MonkeyPatch, now: float) -> None:
    """Stand the stub's clock still at `now`: a fake, allowed for time alone."""
    monkeypatch.setattr("tallyd_client.time.time", lambda: now)


def left_in_tmp(home: Path) -> list[str]:
    return os.listdir(spool_of(home).tmp)


def count_many(client: Client, tools: int = 900) -> Dropped:
    """Count under keys so long that they fill several deltas; gives what must be dropped."""
    count = client.rollup("tool_calls", "tool", "client_name")
    for turn in range(tools):
        count(f"{turn:064}", "c" * 64)
    return Dropped(calls={f"{turn:064}": 1 for turn in range(tools)})


def test_a_delta_has_the_name_and_the_content_of_spool_v1(
    new_client: NewClient, home: Path, monkeypatch: pytest.MonkeyPatch
):
    set_time(monkeypatch, NOON + 0.25)
    monkeypatch.setattr("tallyd_client._screen.sys.platform", "linux")
    client = new_client()
    count = client.rollup("tool_calls", "tool", "client_name")
    count("search", "editor (beta)")
    count("search", "editor (beta)", ok=False)
    count("search", "editor (beta)", ok=False)
    client.event("server_started", transport="stdio")
    client.event("server_started", transport="pigeon")
    client.drain()

    (file,) = spool_of(home).new.iterdir()
    (text,) = texts(home)
    name = re.fullmatch(r"(\d{13})-(\d+)-(\d+)-[0-9a-f]{16}\.json", file.name)
    writer = text.pop("writer")
    assert name is not None
    assert (str(int(NOON * 1000 + 250)), str(os.getpid()), "0") == name.groups()
    assert re.fullmatch("[0-9a-f]{16}", writer.pop("epoch"))
    assert writer == {"seq": 0, "lang": "python", "version": __version__}
    dimensions = {"tool": "search", "client_name": "editor (beta)"}
    assert text == {
        "v": 1,
        "product": "tallyd-demo",
        "contract": built()["digest"][:16],
        "consent": {"since": None, "id": None},
        "envelope": {"host_version": "1.0.0", "os": "linux", "runtime": "python", "ci": False},
        "day": TODAY,
        "counts": [
            ["tool_calls", dimensions, {"count": 1, "error_count": 0}],
            ["tool_calls", dimensions, {"count": 2, "error_count": 2}],
        ],
        "events": [["server_started", f"{TODAY}T12:00:00.250Z", {"transport": "stdio"}]],
        "lost": {"error": 1},
    }
    assert dropped(home) == Dropped(
        {"search": 3}, {"search": 2}, {"server_started": 1}, {"error": 1}
    )


def test_drops_of_one_process_share_an_epoch_and_are_numbered(new_client: NewClient, home: Path):
    client = new_client()
    search = client.counter("tool_calls", tool="search")
    for _ in range(3):
        search()
        client.drain()

    writers = [text["writer"] for text in texts(home)]
    assert sorted(writer["seq"] for writer in writers) == [0, 1, 2]
    assert len({writer["epoch"] for writer in writers}) == 1


def test_a_client_without_news_drops_nothing(new_client: NewClient, home: Path):
    client = new_client()
    client.counter("tool_calls", tool="search")
    client.drain()

    assert list(home.iterdir()) == []


def test_more_than_one_delta_holds_becomes_several_and_loses_nothing(
    new_client: NewClient, home: Path
):
    client = new_client()
    expected = count_many(client)
    for _ in range(999):
        client.event("server_started", transport="stdio")
    client.event("server_started", transport="pigeon")
    client.drain()

    sizes = [file.stat().st_size for file in spool_of(home).new.iterdir()]
    assert len(sizes) > 3
    assert max(sizes) <= _DELTA_MAX_BYTES
    assert list(range(len(sizes))) == sorted(text["writer"]["seq"] for text in texts(home))
    assert Dropped(expected.calls, {}, {"server_started": 999}, {"error": 1}) == dropped(home)


def test_a_wide_envelope_leaves_a_delta_within_its_size(new_client: NewClient, home: Path):
    """The daemon quarantines what is over 64 KiB, whatever part of it is the long one."""
    contract = built()
    fields = [f"field{number}" for number in range(200)]
    contract["envelope"] = {name: {"type": "label", "from": "host"} for name in fields}
    client = new_client(contract, envelope=dict.fromkeys(fields, "x" * 64))
    expected = count_many(client)
    client.drain()

    sizes = [file.stat().st_size for file in spool_of(home).new.iterdir()]
    assert max(sizes) <= _DELTA_MAX_BYTES
    assert expected == dropped(home)


def test_an_entry_larger_than_any_delta_is_lost_and_the_rest_is_dropped(
    new_client: NewClient, home: Path
):
    contract = built()
    contract["events"]["server_started"]["properties"] = {
        "languages": {"type": "list", "of": "token", "max": 64, "max_items": 5000}
    }
    client = new_client(contract)
    client.counter("tool_calls", tool="search")()
    client.event("server_started", languages=["x" * 64] * 2000)
    client.event("server_started", languages=["x"])
    client.drain()

    assert Dropped({"search": 1}, events={"server_started": 1}, lost={"error": 1}) == dropped(home)


@pytest.mark.parametrize("gone", ["new", "tmp", "new and tmp", "everything"])
def test_a_vanished_directory_is_made_again(new_client: NewClient, home: Path, gone: str):
    """The daemon, a user or a cleaner may remove directories below a running host."""
    client = new_client()
    search = client.counter("tool_calls", tool="search")
    search()
    client.drain()
    spool = spool_of(home)
    for file in spool.new.iterdir():
        file.unlink()
    if "new" in gone or gone == "everything":
        spool.new.rmdir()
    if "tmp" in gone or gone == "everything":
        spool.tmp.rmdir()
    if gone == "everything":
        spool.new.parent.rmdir()
        spool.new.parent.parent.rmdir()
    search()
    client.drain()

    assert (Dropped({"search": 1}), []) == (dropped(home), left_in_tmp(home))


@pytest.mark.parametrize("place", ["state/spool", "state/spool/tallyd-demo"])
def test_an_unusable_spool_keeps_the_counts_for_the_next_drop(
    new_client: NewClient, home: Path, place: str
):
    obstacle = home / place
    obstacle.parent.mkdir(parents=True, exist_ok=True)
    obstacle.write_text("in the way")
    client = new_client()
    client.counter("tool_calls", tool="search")()
    client.event("server_started", transport="stdio")
    client.rollup("tool_calls", "tool")([])
    client.drain()
    client.drain()
    assert obstacle.read_text() == "in the way"
    obstacle.unlink()
    client.drain()

    assert Dropped({"search": 1}, {}, {"server_started": 1}, {"error": 1}) == dropped(home)
    assert left_in_tmp(home) == []


@pytest.mark.parametrize("place", ["new", "tmp"])
def test_a_file_in_the_place_of_a_spool_directory_keeps_the_counts(
    new_client: NewClient, home: Path, place: str
):
    obstacle = getattr(spool_of(home), place)
    obstacle.parent.mkdir(parents=True)
    obstacle.write_text("in the way")
    client = new_client()
    expected = count_many(client)
    client.drain()
    left = list(spool_of(home).tmp.iterdir()) if place == "new" else []
    obstacle.unlink()
    client.drain()

    assert (expected, [], []) == (dropped(home), left, left_in_tmp(home))


@pytest.mark.slow
def test_a_disk_that_takes_half_a_file_keeps_the_counts_and_leaves_no_half(home: Path):
    done = run_host(
        home,
        """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
for turn in range(20):
    count("tool%d" % turn)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
client.drain()
spool = os.path.join(os.environ["TALLYD_HOME"], "state", "spool", "tallyd-demo")
print(os.listdir(spool + "/tmp") + os.listdir(spool + "/new"))
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
""",
    )

    assert (done.stdout, done.returncode) == ("[]\n", 0), done.stderr
    assert Dropped(calls={f"tool{turn}": 1 for turn in range(20)}) == dropped(home)


@pytest.mark.slow
def test_a_host_killed_in_the_middle_of_a_file_leaves_the_half_in_tmp(home: Path):
    """The system kills whoever writes past its limit, with the file at exactly the limit."""
    done = run_host(
        home,
        """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
search()
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
client.drain()
""",
    )

    spool = spool_of(home)
    assert done.returncode == -signal.SIGXFSZ
    assert (
        list(spool.new.iterdir()),
        [file.stat().st_size for file in spool.tmp.iterdir()],
    ) == ([], [100])


@pytest.mark.slow
@pytest.mark.parametrize("call", ["open", "os.rename"])
@pytest.mark.parametrize("which", [1, 2, 3])
def test_a_drop_of_several_files_that_fails_between_them_counts_nothing_twice(
    home: Path, call: str, which: int
):
    """A full disk refuses the second file when the first is in `new/` already and perhaps merged."""
    done = run_host(
        home,
        f"""
seen = []
def refuse(event, arguments):
    if event == {call!r} and "tallyd-demo/tmp/" in str(arguments[0]):
        seen.append(arguments)
        if len(seen) == {which}:
            raise OSError(28, "no space left")
count = client.rollup("tool_calls", "tool", "client_name")
for turn in range(900):
    count("%064d" % turn, "c" * 64)
sys.addaudithook(refuse)
client.drain()
client.drain()
print(len(seen))
""",
    )

    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 3
    assert Dropped(calls={f"{turn:064}": 1 for turn in range(900)}) == dropped(home)
    assert (
        left_in_tmp(home),
        sorted(text["writer"]["seq"] for text in texts(home))[:3],
    ) == ([], [0, 1, 2])


def drop_until_looked(client: Client, home: Path, at_most: int) -> int:
    """Drop one call after another until the cap was looked at; how many that took."""
    search = client.counter("tool_calls", tool="mine")
    new = spool_of(home).new
    # One drop in 64 looks at the cap: that 3,000 do not look is one chance in 10^20.
    for turn in range(3000):
        search()
        client.drain()
        if len(os.listdir(new)) <= at_most + 1:
            # What the look removed is told of by the drop that looked, or by the next one.
            search()
            client.drain()
            return turn + 2
    raise AssertionError("no drop looked at the cap")


@pytest.mark.slow
def test_past_the_cap_of_files_the_oldest_go_and_are_counted(new_client: NewClient, home: Path):
    for number in range(_CAP_FILES + 100):
        drop(
            home / "state",
            delta(counts=[tool_calls(count=3, errors=1)], events=[an_event()]),
            at=NOON + number,
        )
    newest = sorted(os.listdir(spool_of(home).new))[-1000:]
    client = new_client()
    mine = drop_until_looked(client, home, _CAP_FILES)

    found, names = dropped(home), os.listdir(spool_of(home).new)
    gone = _CAP_FILES + 100 - found.events["server_started"]
    assert gone > 100
    assert set(newest) <= set(names)
    assert Dropped(
        {"search": 3 * (_CAP_FILES + 100 - gone), "mine": mine},
        {"search": _CAP_FILES + 100 - gone},
        {"server_started": _CAP_FILES + 100 - gone},
        {"cap": 4 * gone},
    ) == (found)


def an_event() -> list[Any]:
    return ["server_started", f"{TODAY}T12:00:00.000Z", {"transport": "stdio"}]


@pytest.mark.slow
def test_the_spool_of_large_deltas_stays_within_twice_its_cap(new_client: NewClient, home: Path):
    """With no daemon at all, a host that fills its deltas reaches the cap in 35 drops."""
    client = new_client()
    count = client.rollup("tool_calls", "tool", "client_name")
    total, largest = 0, 0
    for _ in range(120):
        for turn in range(300):
            count(f"{turn:064}", "c" * 64)
        total += 300
        client.drain()
        held = sum(file.stat().st_size for file in spool_of(home).new.iterdir())
        largest = max(largest, held)

    found = dropped(home)
    assert _CAP_BYTES / 2 < largest <= 2 * _CAP_BYTES
    assert total == sum(found.calls.values()) + found.lost["cap"]


@pytest.mark.slow
def test_hostile_files_at_the_cap_neither_hold_the_host_nor_stay(new_client: NewClient, home: Path):
    """A pipe that nobody writes would hold whoever opens it; the host must never wait."""
    client = new_client()
    client.counter("tool_calls", tool="first")()
    client.drain()
    new = spool_of(home).new
    secret = home / "secret"
    secret.write_text("not a delta")
    for number in range(_CAP_FILES):
        drop(home / "state", at=NOON + number)
    os.mkfifo(new / "0000000000000-1-0-0000000000000000.json")
    (new / "0000000000001-1-0-0000000000000000.json").symlink_to(secret)
    (new / "0000000000002-1-0-0000000000000000.json").write_bytes(b"\xff" * 100)
    (new / "0000000000003-1-0-0000000000000000.json").write_bytes(b"[" * 60000)
    (new / "0000000000004-1-0-0000000000000000.json").mkdir()
    drop_until_looked(client, home, _CAP_FILES + 1)

    assert (
        [name for name in sorted(os.listdir(new)) if name.startswith("00000")],
        secret.read_text(),
    ) == (["0000000000004-1-0-0000000000000000.json"], "not a delta")


def test_directories_and_files_are_for_the_user_alone(new_client: NewClient, home: Path):
    """Also where the user's umask would share them with everybody."""
    before = os.umask(0)
    try:
        client = new_client()
        search = client.counter("tool_calls", tool="search")
        for _ in range(2):
            search()
            client.drain()
    finally:
        os.umask(before)

    modes = {
        str(one.relative_to(home)): oct(stat.S_IMODE(one.stat().st_mode))
        for one in home.rglob("*")
        if one.suffix != ".json"
    }
    deltas = [stat.S_IMODE(file.stat().st_mode) for file in spool_of(home).new.iterdir()]
    assert modes == {
        "config": "0o700",
        "config/contracts": "0o700",
        "config/contracts/tallyd-demo.toml": "0o600",
        "state": "0o700",
        "state/notices": "0o700",
        "state/notices/tallyd-demo": "0o700",
        f"state/notices/tallyd-demo/{built()['digest'][:16]}": "0o600",
        "state/spool": "0o700",
        "state/spool/tallyd-demo": "0o700",
        "state/spool/tallyd-demo/new": "0o700",
        "state/spool/tallyd-demo/tmp": "0o700",
    }
    assert deltas == [0o600, 0o600]


def test_the_first_drop_registers_the_contract_as_its_author_wrote_it(
    new_client: NewClient, home: Path
):
    registered = home / "config/contracts/tallyd-demo.toml"
    registered.parent.mkdir(parents=True)
    registered.write_text("# an older one")
    client = new_client()
    client.counter("tool_calls", tool="search")()
    client.drain()

    assert (built()["text"], ["tallyd-demo.toml"]) == (
        registered.read_text(),
        os.listdir(registered.parent),
    )


@pytest.mark.parametrize(
    ("began", "drained", "day"),
    [
        pytest.param(-10.0, -0.001, _YESTERDAY_OF_MIDNIGHT, id="before midnight"),
        pytest.param(-10.0, 0.0, _YESTERDAY_OF_MIDNIGHT, id="at midnight"),
        pytest.param(-10.0, 0.9, _YESTERDAY_OF_MIDNIGHT, id="in the first second"),
        pytest.param(-10.0, 5.0, _DAY_OF_MIDNIGHT, id="later"),
        pytest.param(0.1, 0.6, _DAY_OF_MIDNIGHT, id="begun in the first second"),
        pytest.param(-2 * 86400.0, 0.5, _YESTERDAY_OF_MIDNIGHT, id="after days of failed drops"),
    ],
)
def test_counts_belong_to_the_day_that_ends_when_they_are_drained_at_midnight(
    new_client: NewClient,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    began: float,
    drained: float,
    day: str,
):
    set_time(monkeypatch, _MIDNIGHT + began)
    client = new_client()
    client.counter("tool_calls", tool="search")()
    set_time(monkeypatch, _MIDNIGHT + drained)
    client.drain()

    assert [day] == [text["day"] for text in texts(home)]


def test_the_thread_drains_by_itself_at_midnight(
    new_client: NewClient, home: Path, monkeypatch: pytest.MonkeyPatch
):
    """The next drain by interval is 30 s away; what was counted before midnight is the old day's."""
    offset = _MIDNIGHT - 0.05 - time.time()
    now = time.time
    monkeypatch.setattr("tallyd_client.time.time", lambda: now() + offset)
    client = new_client()
    client.counter("tool_calls", tool="search")()
    new = spool_of(home).new
    wait_for(lambda: new.is_dir() and os.listdir(new))

    assert [(text["day"], text["counts"][0][2]["count"]) for text in texts(home)] == [
        (_YESTERDAY_OF_MIDNIGHT, 1)
    ]


@pytest.mark.slow
def test_a_host_killed_while_it_drops_leaves_only_whole_deltas(home: Path):
    """Whatever instant a kill -9 hits, a file in `new/` is complete: it came there by rename."""
    code = """
print("dropping", flush=True)
while True:
    for turn in range(200):
        count("%064d" % turn)
    client.drain()
"""
    for _ in range(5):
        with start_host(home, code) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "dropping\n"
            new = spool_of(home).new
            waiting = len(os.listdir(new)) if new.is_dir() else 0
            wait_for(lambda: new.is_dir() and len(os.listdir(new)) > waiting + 3)  # noqa: B023
            process.kill()

    found = dropped(home)
    assert {f"{turn:064}" for turn in range(200)} == set(found.calls)

"""tallyd as people get it: by uv, pipx and pip, upgraded with what it holds, and gone back from.

Every command of tallyd in here is the installed one, and every host imports an installed stub: nothing is
run from the sources. The index is a directory, so that no test waits for a network.
"""

from __future__ import annotations

import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest
from support.answering import Answering, answering
from support.deltas import delta, drop, tool_calls
from support.installs import (
    NEXT,
    TOOLS,
    Machine,
    Wheels,
    base_python,
    is_managed,
    make_previous,
    make_wheels,
    stub_environment,
    tool,
)
from support.pictures import Kept, arrived, kept, machine_ids, of_the_same_keys, told
from support.processes import CONTRACTS, DEMO_CONTRACT, background
from support.tools import need
from tallyd import __version__

pytestmark = [pytest.mark.slow, pytest.mark.system, pytest.mark.timeout(600)]

DEMO, CODEGRAPH = "tallyd-demo", "codegraph"
_DAY_S = 86400
# A tool that counts and says what its user might be told.
_HOST = """\
import sys
from tallyd_client import Client
tool, calls = sys.argv[1], int(sys.argv[2])
client = Client("tallyd-demo", "1.4.2", contract=CONTRACT)
count = client.counter("tool_calls", tool=tool)
for _ in range(calls):
    count()
client.event("server_started", transport="stdio")
client.close()
assert client.problem is None, client.problem
"""


class Released(NamedTuple):
    """Wheels, and a host's environment with each version's stub."""

    wheels: Wheels
    stub: Path


class Previous(NamedTuple):
    """The version before: its wheels, and a host's environment with its stub."""

    wheels: Path
    stub: Path


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Released:
    place = tmp_path_factory.mktemp("released")
    wheels = make_wheels(place)
    return Released(wheels, stub_environment(place / "host", wheels.present))


@pytest.fixture(scope="module")
def previous(tmp_path_factory: pytest.TempPathFactory) -> Previous:
    place = tmp_path_factory.mktemp("previous")
    wheels = make_previous(place)
    return Previous(wheels, stub_environment(place / "host", wheels))


def _count(machine: Machine, stub: Path, tool: str, calls: int, **more: str) -> str:
    """A host of that stub counts so many calls of a tool; what it printed on stderr."""
    code = f"CONTRACT = {str(DEMO_CONTRACT)!r}\n{_HOST}"
    done = subprocess.run(
        [str(stub), "-I", "-c", code, tool, str(calls)],
        env=machine.environ(**more),
        cwd=machine.home,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    return done.stderr


def _day(ahead: int = 0) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(time.time() + ahead * _DAY_S))


def _drop_by_hand(machine: Machine, tool: str, calls: int, ahead: int) -> None:
    """What a host of another language dropped, `ahead` days from today."""
    content = delta(day=_day(ahead), counts=[tool_calls(tool, count=calls)])
    drop(machine.state, content, at=time.time())


# --- a new user -------------------------------------------------------------------------------------


@pytest.mark.parametrize("tool", TOOLS)
def test_a_new_user_installs_looks_counts_and_looks_again(
    tmp_path, released, tool, record_property
):
    machine = Machine.of(tmp_path, tool, released.wheels.pinned, released.wheels.present)
    began = time.monotonic()
    machine.install()
    first = machine.tallyd("status", check=False)
    took_s = time.monotonic() - began
    record_property("figure", f"{tool}: {took_s:.1f} s from the install to a first status")

    assert machine.version == __version__
    assert (first.returncode, first.stderr) == (4, "")
    assert all(word in first.stdout for word in ("not running", str(machine.state), "tallyd demo"))
    # Looking made nothing.
    assert not machine.state.exists()

    notice = _count(machine, released.stub, "search", 3)
    assert "tallyd-demo counts tool calls" in notice
    assert "1 delta" in machine.tallyd("flush").stdout
    second = machine.tallyd("status", check=False)

    assert (second.returncode, second.stderr, DEMO in second.stdout) == (3, "", True)
    assert _shown(machine) == {(_day(), "search"): 3}


@pytest.mark.parametrize("tool", TOOLS)
def test_completions_and_the_manual_page_lie_where_the_tool_puts_them(tmp_path, released, tool):
    """In the home, where they are looked for, by pipx and pip; with uv in the tool's own directory."""
    machine = Machine.of(tmp_path, tool, released.wheels.pinned, released.wheels.present)
    machine.install()
    page = subprocess.run(
        [need("man"), "-w", "tallyd"], env=machine.environ(), capture_output=True, check=False
    )
    share = machine.home / ".local" / "share"
    names = {
        "bash-completion/completions/tallyd": "bash",
        "fish/vendor_completions.d/tallyd.fish": "fish",
        "zsh/site-functions/_tallyd": "zsh",
        "man/man1/tallyd.1": "",
    }
    found = {name for name in names if (share / name).exists()}
    where = {"uv": share / "uv/tools/tallyd/share", "pipx": share / "pipx/venvs/tallyd/share"}

    assert (page.returncode == 0, found) == ((False, set()) if tool == "uv" else (True, set(names)))
    # Help names the page only where man finds it.
    assert ("man tallyd" in machine.tallyd("--help").stdout) == (page.returncode == 0)
    for name, shell in names.items():
        file = where.get(tool, share) / name
        assert not shell or machine.tallyd("completion", shell).stdout == file.read_text()


def test_pip_is_heard_where_the_system_keeps_its_python_to_itself(tmp_path, released):
    """PEP 668: a plain install is refused by pip, names pipx, and leaves nothing behind."""
    python = Path("/usr/bin/python3")
    if not python.exists() or not is_managed(python):
        pytest.skip("there is no Python of the system that keeps itself apart")
    machine = Machine.of(tmp_path, "pip", released.wheels.pinned, released.wheels.present)
    command = [base_python(), "-m", "pip", "--python", python, "install", "--user"]
    refused = subprocess.run(
        [str(one) for one in (*command, "tallyd")],
        env=machine.environ(),
        capture_output=True,
        text=True,
        check=False,
    )

    assert (refused.returncode, "externally-managed" in refused.stderr) == (1, True)
    assert not (machine.home / ".local").exists()

    insisting = [str(one) for one in (*command, "--break-system-packages", "tallyd")]
    subprocess.run(insisting, env=machine.environ(), capture_output=True, check=True)

    assert machine.version == __version__


# --- an upgrade -------------------------------------------------------------------------------------


def _populate(machine: Machine, stub: Path, gateway: Answering) -> Counter[tuple[str, str]]:
    """Fill a machine by its own daemon and hosts; what was counted of calls, by day and tool.

    A delivered batch, one that nobody answered for, sums of two days, single events, a malformed file, a
    no, a yes with its id, notices, a run that stopped and one that was killed.
    """
    endpoint = {"TALLYD_DEMO_ENDPOINT": gateway.url}
    machine.tallyd("contract", "add", str(DEMO_CONTRACT))
    machine.tallyd("contract", "add", str(CONTRACTS / "codegraph.toml"))
    machine.tallyd("contract", "add", str(CONTRACTS / "ktx-v2.toml"))
    machine.tallyd("on", DEMO)
    machine.tallyd("off", CODEGRAPH)
    counted: Counter[tuple[str, str]] = Counter()
    for ahead, answer, calls in ((-3, "stored", 5), (-2, "silent", 7)):
        gateway.say([answer])
        _drop_by_hand(machine, "older", calls, ahead)
        counted[_day(ahead), "older"] += calls
        machine.tallyd("flush", **endpoint)
    gateway.say(["silent"])
    for end in ("terminate", "kill"):
        log = machine.home / f"{end}.log"
        command = (str(machine.home / ".local/bin/tallyd"), "run")
        started = background(
            *command, environ=machine.environ(**endpoint), log=log, until="daemon_started"
        )
        with started as process:
            _count(machine, stub, f"until_{end}", 4)
            machine.tallyd("flush", **endpoint)
            getattr(process, end)()
            process.wait(30)
        counted[_day(), f"until_{end}"] += 4
    _drop_by_hand(machine, "tomorrow", 2, 1)
    counted[_day(1), "tomorrow"] += 2
    drop(machine.state, b"no delta at all", at=time.time())
    machine.tallyd("flush", **endpoint)
    # And what nobody has merged when the upgrade comes.
    _count(machine, stub, "waiting", 6)
    counted[_day(), "waiting"] += 6
    return counted


def _shown(machine: Machine) -> dict[tuple[str, str], int]:
    """The calls in the buckets, by day and tool."""
    report = told(
        machine.tallyd("status", "--json", check=False).stdout,
        {DEMO: machine.tallyd("show", DEMO, "--json").stdout},
    )
    return {
        (row["day"], row["dimensions"]["tool"]): row["measures"]["count"]
        for row in report["show"][DEMO]
    }


def _picture(machine: Machine) -> tuple[Kept, dict[str, object]]:
    """(every row and file, everything that the installed command tells)."""
    shown = {one: machine.tallyd("show", one, "--json").stdout for one in (DEMO, CODEGRAPH)}
    return (
        kept(machine.state, machine.home / ".config" / "tallyd"),
        told(machine.tallyd("status", "--json", check=False).stdout, shown),
    )


@pytest.mark.parametrize("tool", TOOLS)
def test_an_upgrade_keeps_everything_and_counts_nothing_twice(tmp_path, released, previous, tool):
    """Sums, batches with their ids, the ledger, choices, notices, quarantine; then it goes on with them."""
    machine = Machine.of(tmp_path, tool, released.wheels.pinned, previous.wheels)
    machine.install()
    before = machine.version
    with answering() as gateway:
        counted = _populate(machine, previous.stub, gateway)
        kept_before, told_before = _picture(machine)

        machine.release(released.wheels.present)
        machine.upgrade()
        kept_after, told_after = _picture(machine)

        assert (before != __version__, machine.version) == (True, __version__)
        assert kept_after == kept_before
        assert of_the_same_keys(told_after, told_before) == told_before
        _assert_full(kept_before)

        # What a host of before dropped, and one of now, one that was running through the upgrade.
        _count(machine, previous.stub, "old_stub", 1)
        _count(machine, released.stub, "new_stub", 1)
        counted += Counter({(_day(), "old_stub"): 1, (_day(), "new_stub"): 1})
        gateway.say(["stored"])
        # The sender paces itself: not all goes in one round.
        for ahead in (3, 4):
            later = {"TALLYD_CLOCK_AHEAD": str(ahead * _DAY_S), "TALLYD_DEMO_ENDPOINT": gateway.url}
            machine.tallyd("flush", **later)
        report = told(machine.tallyd("status", "--json", check=False, **later).stdout, {})
        mine = report["status"]["products"]
        sealed = {row["batch_id"]: row["body"] for row in kept_before.rows["outbox"]}

        assert arrived(gateway.stored) == counted
        assert {one: gateway.stored[one] for one in sealed} == sealed
        assert machine_ids(gateway.stored) == {mine[DEMO]["machine_id"]}
    assert (mine[CODEGRAPH]["consent"]["state"], mine[DEMO]["lost"]) == ("off", {"malformed": 1})


def _assert_full(found: Kept) -> None:
    """What an upgrade could lose is there to be lost."""
    full = {table for table, rows in found.rows.items() if rows}
    places = {one.split("/")[1] for one in found.files} | {
        one.split("/")[3] for one in found.files if one.startswith("tallyd/spool")
    }

    assert full >= {"envelope", "bucket", "delta", "outbox", "ledger", "loss", "schedule", "run"}
    assert len({row["day"] for row in found.rows["bucket"]}) == 2
    assert places >= {"contracts", "consent", "agreed", "notices", "new", "bad"}


def test_the_previous_daemon_merges_what_the_present_stub_drops(tmp_path, released, previous):
    """A tool may bring a newer stub than the daemon that its user has."""
    machine = Machine.of(tmp_path, "uv", released.wheels.pinned, previous.wheels)
    machine.install()

    _count(machine, released.stub, "search", 3)
    merged = machine.tallyd("flush").stdout

    assert ("1 delta" in merged, _shown(machine)) == (True, {(_day(), "search"): 3})


# --- a way back -------------------------------------------------------------------------------------


@pytest.mark.parametrize("tool", TOOLS)
def test_going_back_is_refused_with_what_to_do_and_harms_nothing(tmp_path, released, tool):
    machine = Machine.of(tmp_path, tool, released.wheels.pinned, released.wheels.present)
    machine.install()
    _count(machine, released.stub, "before", 1)
    machine.tallyd("flush")
    machine.release(released.wheels.next)
    machine.upgrade()
    assert machine.version == NEXT
    _count(machine, released.stub, "between", 2)
    machine.tallyd("flush")

    machine.install(__version__)
    _count(machine, released.stub, "after", 3)
    before = _every_byte(machine)
    said = {}
    for words in (
        ["run"],
        ["flush"],
        ["status"],
        ["show", DEMO],
        ["preview", DEMO],
        ["contract", "list"],
    ):
        done = machine.tallyd(*words, check=False)
        text = done.stdout + done.stderr
        said[words[0]] = (
            done.returncode,
            "was written by a newer tallyd" in text and "uv tool upgrade tallyd" in text,
            "Traceback" in text,
        )
    report = told(machine.tallyd("status", "--json", check=False).stdout, {})
    mine = report["status"]["products"][DEMO]

    assert machine.version == __version__
    assert said == dict.fromkeys(said, (73, True, False)) | {"contract": (0, False, False)}
    assert _every_byte(machine) == before
    assert (mine["spool"]["files"], mine["consent"]["state"]) == (1, "on")

    machine.install(NEXT)
    machine.tallyd("flush")

    assert _shown(machine) == {(_day(), "before"): 1, (_day(), "between"): 2, (_day(), "after"): 3}


def _every_byte(machine: Machine) -> dict[str, bytes]:
    tops = (machine.state, machine.home / ".config")
    return {str(one): one.read_bytes() for top in tops for one in top.rglob("*") if one.is_file()}


# --- not to stay ------------------------------------------------------------------------------------


def test_a_service_is_refused_from_an_environment_in_a_cache_with_what_works(tmp_path, released):
    """`uvx` keeps what it runs in a cache, which is swept one day: the unit would break then."""
    machine = Machine.of(tmp_path, "uv", released.wheels.pinned, released.wheels.present)
    command = ("tool", "run", "tallyd", "service")

    done = [
        subprocess.run(
            [str(tool("uv")), *command, words],
            env=machine.environ(TALLYD_SERVICE_MANAGER="systemd"),
            cwd=machine.home,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        for words in ("print", "install")
    ]

    assert [one.returncode for one in done] == [64, 64], done[1].stderr
    assert all(
        words in done[0].stderr
        for words in ("is in a cache", "uv tool install tallyd", "service install")
    ), done[0].stderr
    assert not list(machine.home.rglob("tallyd.service"))

"""What goes before the stored choice in the stub: policy files, a hard off, CI, a terminal."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.hosts import built, dropped, environ_of_host, files_below, program
from support.processes import ROOT
from support.tool import NAME, put, tool
from tallyd_client import Client, _policy
from tallyd_client._policy import Policy

NewClient = Callable[..., Client]

_MATRIX = json.loads((ROOT / "tests/vectors/consent_env_matrix.json").read_text())


@pytest.fixture
def is_on(home: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., bool]:
    """Whether a product that is on by default may count, by these variables and what is on the disk."""
    for name in ("DO_NOT_TRACK", "CI", "TOOL_TELEMETRY", "TALLYD_POLICY_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("TALLYD_HOME", str(home))
    monkeypatch.setattr(_policy, "_MACHINE_FILE", str(home / "etc/tallyd/policy.toml"))

    def consent(contract: dict[str, Any] | None = None, **environ: str) -> bool:
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        return Policy(None, "1", contract or tool(), {}).consent().is_on

    return consent


_PLACES = {
    "the machine's": "etc/tallyd/policy.toml",
    "the user's": "config/policy.toml",
    "a named one": "named.toml",
}
each_place = pytest.mark.parametrize("place", _PLACES.values(), ids=_PLACES)
# What a policy file says, and whether it leaves `tool` on.
_SAYINGS = [
    ("", True),
    ("off = false\n", True),
    ("off = true\n", False),
    ('off = ["codegraph", "ktx"]\n', True),
    ('off = ["codegraph", "tool"]\n', False),
    ("off = []\n", True),
    ('off = true\nexcept = ["tool"]\n', True),
    ('off = true\nexcept = ["ktx"]\n', False),
    ('off = ["tool"]\nexcept = ["tool"]\n', False),
    ('except = ["tool"]\n', True),
    ("# by the administrator\noff = false # for now\n", True),
    # A word that nobody knows may be a slip of the pen.
    ("of = true\n", False),
    ('off = false\nreason = "x"\n', False),
    ("[policy]\noff = true\n", False),
    ("off = false\n[policy]\n", False),
    ("\ufeffoff = false\n", True),
    ('off = "tool"\n', False),
    ("off = 1\n", False),
    ("off = 0\n", False),
    ("off = [1]\n", False),
    ('off = true\nexcept = "tool"\n', False),
    ('off = ["a"]\nexcept = [true]\n', False),
    ("off = false\noff = true\n", False),
    ("off = false", True),
    ("off =\n", False),
    ("on = true\n[", False),
    ('{"off": false}', False),
    ("off = false\n" + "#" * 65536, False),
    (b"off = false # \xff\n", False),
]


@each_place
@pytest.mark.parametrize(("content", "stays_on"), _SAYINGS)
def test_a_policy_file_says_off_or_nothing(
    home: Path, is_on: Callable[..., bool], place: str, content: str | bytes, stays_on: bool
):
    file = put(home / place, content)
    named = {"TALLYD_POLICY_FILE": str(file)} if place == "named.toml" else {}

    assert stays_on == is_on(**named)
    # And it goes before everything that could say on.
    assert stays_on == is_on(**named, TOOL_TELEMETRY="1")


def a_directory(file: Path) -> None:
    file.mkdir()


def a_broken_link(file: Path) -> None:
    file.symlink_to("nowhere")


def linked_to_off(file: Path) -> None:
    file.symlink_to(put(file.with_name("other"), "off = true\n"))


@each_place
@pytest.mark.parametrize("spoil", [a_directory, a_broken_link, linked_to_off, os.mkfifo])
def test_a_policy_file_that_cannot_be_read_means_off_and_holds_nobody(
    home: Path, is_on: Callable[..., bool], place: str, spoil: Callable[[Path], object]
):
    file = home / place
    file.parent.mkdir(parents=True, exist_ok=True)
    spoil(file)
    named = {"TALLYD_POLICY_FILE": str(file)} if place == "named.toml" else {}

    assert not is_on(**named, TOOL_TELEMETRY="1")


@each_place
def test_a_link_to_a_policy_file_is_followed(home: Path, is_on: Callable[..., bool], place: str):
    """Configuration is often linked into place; nothing that it says can switch anything on."""
    file = home / place
    file.parent.mkdir(parents=True, exist_ok=True)
    file.symlink_to(put(home / "elsewhere/policy", "off = false\n"))
    named = {"TALLYD_POLICY_FILE": str(file)} if place == "named.toml" else {}

    assert is_on(**named)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root reads everything")
@each_place
def test_a_policy_file_without_leave_to_read_it_means_off(
    home: Path, is_on: Callable[..., bool], place: str
):
    file = put(home / place, "off = false\n")
    file.chmod(0)

    assert not is_on(TALLYD_POLICY_FILE=str(file))


def test_a_named_policy_file_only_adds(home: Path, is_on: Callable[..., bool]):
    put(home / "config/policy.toml", "off = true\n")
    named = put(home / "named.toml", 'off = false\nexcept = ["tool"]\n')

    assert not is_on(TALLYD_POLICY_FILE=str(named))


@pytest.mark.parametrize(("named", "stays_on"), [("", True), ("policy.toml", False), (" ", False)])
def test_a_policy_file_named_without_its_place_is_not_understood(
    home: Path,
    is_on: Callable[..., bool],
    monkeypatch: pytest.MonkeyPatch,
    named: str,
    stays_on: bool,
):
    """Which one it is would depend on where the host was started."""
    monkeypatch.chdir(home)

    assert stays_on == is_on(TALLYD_POLICY_FILE=named)


def test_a_named_policy_file_that_is_not_there_says_nothing(home: Path, is_on: Callable[..., bool]):
    (home / "file").write_text("")

    assert is_on(TALLYD_POLICY_FILE=str(home / "nowhere/policy.toml"))
    assert is_on(TALLYD_POLICY_FILE=str(home / "file/policy.toml"))


def test_on_windows_the_machines_file_is_below_program_data(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_policy.os, "name", "nt")

    found = [_policy._machine_file(environ) for environ in ({"ProgramData": "D:\\Data"}, {})]
    assert [one.replace("/", "\\") for one in found] == [
        "D:\\Data\\tallyd\\policy.toml",
        "C:\\ProgramData\\tallyd\\policy.toml",
    ]


@pytest.mark.parametrize("off", [True, 1, "yes"])
def test_a_process_that_was_told_to_be_off_is_off_whatever_anybody_chose(
    new_client: NewClient, home: Path, monkeypatch: pytest.MonkeyPatch, off: Any
):
    monkeypatch.setenv("TALLYD_DEMO_TELEMETRY", "1")
    client = new_client(off=off)
    client.counter("tool_calls", tool="search")()
    client.drain()

    assert (client.problem, client._has_thread, files_below(home)) == (None, False, [])


@pytest.mark.parametrize(("said", "stays_on"), [(True, False), ("on", False), (False, True)])
def test_a_contract_that_was_built_off_stays_off(
    is_on: Callable[..., bool], said: Any, stays_on: bool
):
    assert stays_on == is_on(dict(tool(), off=said), TOOL_TELEMETRY="1")


@pytest.mark.parametrize("column", ["ktx", "codegraph", "pipelex_prompting_era", "pipelex_later"])
def test_do_not_track_is_what_the_vectors_say_for_every_system(
    is_on: Callable[..., bool], monkeypatch: pytest.MonkeyPatch, column: str
):
    """By each system's rule, but where its own behaviour is a defect: see the two exceptions."""
    contract = tool(
        consent=f'default = "on"\ndo_not_track = "{"any" if column == "ktx" else "set"}"'
    )
    found, expected = [], []
    for value, says_off in zip(
        _MATRIX["DO_NOT_TRACK"]["values"], _MATRIX["DO_NOT_TRACK"][column], strict=True
    ):
        monkeypatch.delenv("DO_NOT_TRACK", raising=False)
        found.append(is_on(contract, **({} if value == "unset" else {"DO_NOT_TRACK": value})))
        # An empty variable is unset, and " 0 " is zero to whoever wrote it.
        is_excepted = value == "" or (value == " 0 " and column != "ktx")
        expected.append(is_excepted or not says_off)

    assert expected == found


_VARIABLES = {
    "codegraph CODEGRAPH_TELEMETRY -> telemetry": ('["0","false","no","off"]', '["1","true"]'),
    "ktx KTX_TELEMETRY_DISABLED -> telemetry": ('["1","true"]', "[]"),
    "dot-ai DOT_AI_TELEMETRY -> telemetry": ('["0","false","no","off"]', '["1","true"]'),
}


@pytest.mark.parametrize("name", _MATRIX["product_variable"])
def test_each_products_variable_is_what_the_vectors_say(
    is_on: Callable[..., bool], monkeypatch: pytest.MonkeyPatch, name: str
):
    """ON in capitals is where a system takes text that it does not know for yes; we do not."""
    off, on = _VARIABLES[name]
    contract = tool()
    contract["consent"]["env"] = [
        {"name": "TOOL_TELEMETRY", "off": json.loads(off), "on": json.loads(on)}
    ]
    for value, said in _MATRIX["product_variable"][name].items():
        monkeypatch.delenv("TOOL_TELEMETRY", raising=False)
        found = is_on(contract, **({} if value == "unset" else {"TOOL_TELEMETRY": value}))

        assert found == (said in ("on", "next rule")), value


@pytest.mark.parametrize("name", _MATRIX["CI"])
def test_ci_is_what_the_vectors_say(
    is_on: Callable[..., bool], monkeypatch: pytest.MonkeyPatch, name: str
):
    """As a switch where the contract says off. In ktx 0 and false switch off too; in ours they are no."""
    contract = tool(consent='default = "on"\nci = "off"')
    for value, is_ci in _MATRIX["CI"][name].items():
        monkeypatch.delenv("CI", raising=False)
        said_so = is_ci and value.lower() not in ("0", "false")
        environ = {} if value == "unset" else {"CI": value}

        assert (not said_so, True) == (is_on(contract, **environ), is_on(tool(), **environ)), value


_COUNT = "search(); client.drain(); search(); print(client.problem, file=sys.stderr)"


def run_at_terminal(home: Path, contract: dict[str, Any], *, is_terminal: bool, code: str) -> str:
    """Run a host whose stdout is a terminal, or a pipe; what it says on stderr."""
    terminal, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", program(code, contract)],
        env=environ_of_host(home),
        stdout=theirs if is_terminal else subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        os.close(theirs)
        _, said = process.communicate(timeout=60)
    os.close(terminal)
    return str(said)


@pytest.mark.slow
@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_contract_that_wants_a_terminal_counts_only_where_stdout_is_one(
    home: Path, is_terminal: bool
):
    contract = built()
    contract["consent"]["terminal"] = "required"
    said = run_at_terminal(home, contract, is_terminal=is_terminal, code=_COUNT)

    assert ("tallyd-demo counts" in said, bool(files_below(home))) == (is_terminal, is_terminal)
    if is_terminal:
        assert dropped(home).calls == {"search": 2}


@pytest.mark.slow
def test_a_host_that_replaces_its_stdout_was_started_at_a_terminal_all_the_same(home: Path):
    contract = built()
    contract["consent"]["terminal"] = "required"
    code = "search(); os.dup2(os.open(os.devnull, os.O_WRONLY), 1); client.drain(); search()"
    run_at_terminal(home, contract, is_terminal=True, code=code)

    assert dropped(home).calls == {"search": 2}


def test_the_name_of_a_product_is_not_the_contracts_alone(
    new_client: NewClient, monkeypatch: pytest.MonkeyPatch
):
    client = new_client(tool(), "other")

    assert client.problem == "the contract is that of 'tool', not of 'other'"
    assert new_client(tool(), NAME).problem is None

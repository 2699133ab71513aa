"""The notice in the stub: when a contract wants it, where it may be shown, and how it looks there."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.hosts import environ_of_host, files_below
from support.tool import NAME, NOTICE, OWN_STATE, put, tool
from tallyd_client import Client

NewClient = Callable[..., Client]

_LINE = f"{NOTICE}: tool off turns it off\n"


class Terminal(io.StringIO):
    """A stderr that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


class Pipe(io.StringIO):
    """A stderr that a program reads."""


def contract_for(when: str = "first-use", *more: str) -> dict[str, Any]:
    return tool(*more, consent=f'default = "on"\nnotice_when = "{when}"')


def drop_once(new_client: NewClient, contract: dict[str, Any]) -> None:
    client = new_client(contract, NAME)
    client.counter("used", what="a")()
    client.drain()


def mark(home: Path, contract: dict[str, Any], end: str = "") -> Path:
    return home / "state/notices/tool" / (contract["digest"][:16] + end)


def ask_for_it(home: Path, contract: dict[str, Any]) -> Path:
    """As the daemon does when something could leave but for the notice."""
    return put(mark(home, contract, ".wanted"), "")


@pytest.fixture
def stderr(monkeypatch: pytest.MonkeyPatch) -> Callable[[io.StringIO], io.StringIO]:
    """Puts a stream in the place of stderr, in a plain environment."""
    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)

    def replace(stream: io.StringIO) -> io.StringIO:
        monkeypatch.setattr(sys, "stderr", stream)
        return stream

    return replace


def test_by_default_the_notice_is_shown_at_the_first_drop_and_once(
    new_client: NewClient, home: Path, stderr: Callable[..., io.StringIO]
):
    said, contract = stderr(Pipe()), contract_for()
    drop_once(new_client, contract)
    drop_once(new_client, contract)

    assert (said.getvalue(), mark(home, contract).exists()) == (_LINE, True)


def test_before_a_send_it_waits_until_the_daemon_asks_for_it(
    new_client: NewClient, home: Path, stderr: Callable[..., io.StringIO]
):
    said, contract = stderr(Pipe()), contract_for("before-send")
    client = new_client(contract, NAME)
    used = client.counter("used", what="a")
    used()
    client.drain()
    silent = said.getvalue(), mark(home, contract).exists()
    ask_for_it(home, contract)
    used()
    client.drain()
    used()
    client.drain()

    assert silent == ("", False)
    assert (
        said.getvalue(),
        mark(home, contract).exists(),
        mark(home, contract, ".wanted").exists(),
    ) == (_LINE, True, False)


def test_a_drop_that_is_asked_for_another_contracts_notice_is_silent(
    new_client: NewClient, home: Path, stderr: Callable[..., io.StringIO]
):
    said, contract = stderr(Pipe()), contract_for("before-send")
    other = put(home / "state/notices/tool/0123456789abcdef.wanted", "")
    drop_once(new_client, contract)

    assert (said.getvalue(), other.exists()) == ("", True)


def test_an_interactive_notice_waits_for_a_terminal(
    new_client: NewClient, home: Path, stderr: Callable[..., io.StringIO]
):
    """A program that reads stderr is nobody who could be told; the daemon's asking changes nothing."""
    said, contract = stderr(Pipe()), contract_for("interactive")
    drop_once(new_client, contract)
    wanted = ask_for_it(home, contract)
    drop_once(new_client, contract)
    waits = said.getvalue(), mark(home, contract).exists(), wanted.exists()
    shown = stderr(Terminal())
    drop_once(new_client, contract)
    drop_once(new_client, contract)

    assert waits == ("", False, True)
    assert (f"\x1b[2m{_LINE.rstrip()}\x1b[0m\n", False) == (shown.getvalue(), wanted.exists())


@pytest.mark.parametrize(
    ("stream", "environ", "is_dimmed"),
    [
        (Terminal, {}, True),
        (Terminal, {"TERM": "xterm", "NO_COLOR": ""}, True),
        (Terminal, {"NO_COLOR": "1"}, False),
        (Terminal, {"NO_COLOR": "0"}, False),
        (Terminal, {"TERM": "dumb"}, False),
        (Pipe, {"TERM": "xterm"}, False),
    ],
)
def test_the_notice_is_dimmed_only_where_that_is_understood_and_wanted(
    new_client: NewClient,
    stderr: Callable[..., io.StringIO],
    monkeypatch: pytest.MonkeyPatch,
    stream: type[io.StringIO],
    environ: dict[str, str],
    is_dimmed: bool,
):
    said = stderr(stream())
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    drop_once(new_client, contract_for())

    assert said.getvalue() == (f"\x1b[2m{_LINE.rstrip()}\x1b[0m\n" if is_dimmed else _LINE)


@pytest.mark.slow
@pytest.mark.parametrize("is_terminal", [True, False])
def test_on_a_real_terminal_it_is_dimmed_and_in_a_pipe_plain(home: Path, is_terminal: bool):
    terminal, theirs = pty.openpty()
    reading, writing = os.pipe()
    environ = {**environ_of_host(home), "TERM": "xterm"}
    environ.pop("NO_COLOR", None)
    code = f"""
from tallyd_client import Client
Client(contract={contract_for()!r}).counter("used", what="a")()
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environ,
        stdout=subprocess.PIPE,
        stderr=theirs if is_terminal else writing,
        check=True,
        timeout=60,
    )
    os.close(theirs)
    os.close(writing)
    said = os.read(terminal if is_terminal else reading, 4096).decode().replace("\r\n", "\n")
    os.close(terminal)
    os.close(reading)

    dimmed = f"\x1b[2m{_LINE.rstrip()}\x1b[0m\n"
    assert (done.stdout, said) == (b"", dimmed if is_terminal else _LINE)


@pytest.mark.parametrize("when", ["first-use", "interactive", "before-send"])
def test_an_explicit_choice_needs_no_notice_and_none_is_marked_as_shown(
    new_client: NewClient, home: Path, stderr: Callable[..., io.StringIO], when: str
):
    said, contract = stderr(Terminal()), contract_for(when)
    put(home / "state/consent/tool.json", {"enabled": True, "consent_source": "cli"})
    drop_once(new_client, contract)

    assert (said.getvalue(), [one for one in files_below(home) if "notices" in one]) == ("", [])


def test_whoever_chose_is_told_again_when_the_daemon_asks_for_it(
    new_client: NewClient, home: Path, stderr: Callable[..., io.StringIO]
):
    """A wider contract needs a notice of its own, whatever was chosen under the one before."""
    said, contract = stderr(Pipe()), contract_for()
    put(home / "state/consent/tool.json", {"enabled": True, "consent_source": "cli"})
    client = new_client(contract, NAME)
    used = client.counter("used", what="a")
    used()
    client.drain()
    silent = said.getvalue()
    ask_for_it(home, contract)
    used()
    client.drain()

    assert (silent, said.getvalue()) == ("", _LINE)


def test_a_choice_that_nobody_made_does_not_suppress_it(
    new_client: NewClient, home: Path, stderr: Callable[..., io.StringIO]
):
    said = stderr(Pipe())
    put(home / ".tool/state.json", {"on": True})
    drop_once(new_client, contract_for("first-use", OWN_STATE))

    assert said.getvalue() == _LINE


def test_a_notice_that_could_not_be_shown_is_asked_for_still(
    new_client: NewClient, home: Path, stderr: Callable[..., io.StringIO]
):
    class Broken(io.StringIO):
        def write(self, _: str) -> int:
            raise OSError("no")

    contract = contract_for("before-send")
    wanted = ask_for_it(home, contract)
    stderr(Broken())
    drop_once(new_client, contract)

    assert (mark(home, contract).exists(), wanted.exists()) == (False, True)
    assert [one for one in files_below(home) if one.endswith(".claim")] == []


def test_a_contract_that_cannot_be_registered_keeps_no_descriptor(
    new_client: NewClient, home: Path
):
    """A directory stands in its place; each drop tries again."""
    (home / "config/contracts/tool.toml").mkdir(parents=True)
    client = new_client(contract_for(), NAME)
    used = client.counter("used", what="a")
    used()
    client.drain()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        used()
        client.drain()

    assert len(os.listdir("/proc/self/fd")) <= before

"""The question at a terminal: what is an answer, what it stores, and where nobody is asked."""

from __future__ import annotations

import json
import os
import pty
import stat
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

import pytest
import tallyd_client
from support.hosts import environ_of_host, files_below, texts
from support.tool import (
    BY_USER,
    MODES,
    MODES_STATE,
    NAME,
    OWN_STATE,
    PROJECT,
    put,
    tool,
)
from tallyd.contract.days import is_instant
from tallyd_client import Client
from tallyd_client._state import is_uuid

NewClient = Callable[..., Client]

_ASK = 'default = "ask"'
_OWN = "state/consent/tool.json"


class Person:
    """Somebody at a real terminal, whose keys were pressed before they were asked."""

    def __init__(self, stdin: TextIO, stderr: TextIO, terminal: int) -> None:
        self._streams = {"stdin": stdin, "stderr": stderr}
        self._terminal = terminal

    def answers(self, keys: str, client: Client, **how: Any) -> str | None:
        """What `ask` makes of these keys."""
        os.write(self._terminal, keys.encode())
        return tallyd_client.ask(client, **self._streams, **how)

    def read(self) -> str:
        """What the terminal shows by now."""
        os.set_blocking(self._terminal, False)
        shown = b""
        try:
            while True:
                shown += os.read(self._terminal, 65536)
        except BlockingIOError:
            return shown.decode().replace("\r\n", "\n")


@contextmanager
def at_terminal() -> Iterator[Person]:
    terminal, theirs = pty.openpty()
    attributes = termios.tcgetattr(theirs)
    # What is typed is not echoed: the terminal shows what we print, and nothing else.
    attributes[3] &= ~termios.ECHO
    termios.tcsetattr(theirs, termios.TCSANOW, attributes)
    with os.fdopen(theirs, "r", closefd=False) as stdin, os.fdopen(theirs, "w") as stderr:
        yield Person(stdin, stderr, terminal)
    os.close(terminal)


@pytest.fixture
def person() -> Iterator[Person]:
    with at_terminal() as found:
        yield found


@pytest.fixture
def modes(new_client: NewClient) -> Client:
    """A product with modes and a file of its own, in TOML."""
    return new_client(tool(MODES_STATE, BY_USER, consent=MODES), NAME)


def own(home: Path) -> dict[str, Any]:
    said: dict[str, Any] = json.loads((home / _OWN).read_text())
    return said


def test_the_menu_tells_what_it_is_about_on_stderr_alone(
    person: Person, modes: Client, capfd: pytest.CaptureFixture[str]
):
    person.answers("q\n", modes)

    assert person.read() == (
        "tool: tool counts what you do: tool off turns it off\n"
        "  [1] off: nothing is collected\n"
        "  [2] anonymous: usage data is collected, under no lasting id\n"
        "  [3] identified: usage data is collected, under an id that you give\n"
        "  [q] quit: decide later; until then everything stays as it is\n"
        "What it is about: https://tool.example/telemetry\n"
        "Your choice: "
    )
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("keys", "choice", "text"),
    [
        ("1\n", "off", 'telemetry_mode = "off"\n'),
        ("2\n", "anonymous", 'telemetry_mode = "anonymous"\n'),
        (" Anonymous \n", "anonymous", 'telemetry_mode = "anonymous"\n'),
        ("3\nalice-7\n", "identified", 'telemetry_mode = "identified"\nuser_id = "alice-7"\n'),
        ("4\n2\n", "anonymous", 'telemetry_mode = "anonymous"\n'),
        ("yes\nno\n1\n", "off", 'telemetry_mode = "off"\n'),
    ],
)
def test_an_answer_is_stored_in_the_products_own_file(
    person: Person, modes: Client, home: Path, keys: str, choice: str, text: str
):
    said = person.answers(keys, modes)
    file = home / ".tool/state.toml"
    companion = json.loads((home / _OWN).read_text())

    assert (choice, text) == (said, file.read_text())
    assert (companion.pop("choice"), is_instant(companion.pop("updated_at"))) == (choice, True)
    assert companion == {}
    assert {0o600} == {stat.S_IMODE(one.stat().st_mode) for one in (file, home / _OWN)}
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize(
    "keys",
    [
        *("\n", "q\n", "quit\n", "Q\n", "\x04", "0\n4\nx\n1\n", "1\x04\x04"),
        # No id is no yes to the mode that needs none.
        *("3\n\n", "3\n   \n", "3\n\x04", "3\n" + "x" * 300 + "\n"),
    ],
)
def test_no_answer_stores_nothing_and_switches_nothing_on(
    person: Person, modes: Client, home: Path, keys: str
):
    """A bare Enter, the end of input, a quit, an unfinished line, or three answers that are none."""
    said = person.answers(keys, modes)
    modes.counter("used", what="a")()
    modes.drain()

    assert (said, files_below(home)) == (None, [])
    assert ("Please answer with one of 1, 2, 3, q." in person.read()) == (keys[0] == "0")


def test_a_product_without_modes_asks_for_off_or_on(
    person: Person, new_client: NewClient, home: Path
):
    client = new_client(tool(consent=_ASK), NAME)
    choice = person.answers("2\n", client)
    said = own(home)

    assert (choice, "[1] off" in (shown := person.read()), "[2] on" in shown) == ("on", True, True)
    assert (is_uuid(said.pop("machine_id")), is_instant(said.pop("updated_at"))) == (True, True)
    assert said == {"enabled": True, "consent_source": "cli", "first_run_notice_shown": True}
    assert client._policy.stored().choice == "on"


def test_off_takes_the_id_away_and_on_makes_a_new_one(
    person: Person, new_client: NewClient, home: Path
):
    client = new_client(tool(consent=_ASK), NAME)
    found = []
    for keys in ("2\n", "1\n", "2\n"):
        person.answers(keys, client, again=True)
        found.append(own(home)["machine_id"])

    assert (found[1], is_uuid(found[0]), is_uuid(found[2])) == (None, True, True)
    assert found[0] != found[2]


def test_all_else_in_the_file_stays_as_it_is(person: Person, new_client: NewClient, home: Path):
    state = OWN_STATE.replace('created = "createdAt"', 'created = "createdAt", source = "by"')
    before = {"on": True, "createdAt": "2026-01-01T00:00:00Z", "theme": [1, {"a": None}]}
    before["by"] = "default-notice"
    put(home / ".tool/state.json", before)
    client = new_client(tool(state, PROJECT, consent=_ASK), NAME)
    person.answers("1\n", client)
    said = json.loads((home / ".tool/state.json").read_text())

    assert (is_instant(said.pop("noticeAt")), said.pop("noticeVersion")) == (True, 1)
    assert said == {**before, "on": False, "by": "cli"}


def test_a_strict_file_gets_no_key_that_its_product_would_not_know(
    person: Person, new_client: NewClient, home: Path
):
    state = OWN_STATE.replace("[state]", "[state]\nstrict = true")
    client = new_client(tool(state, consent=_ASK), NAME)
    file = home / ".tool/state.json"
    found = []
    for answer in ("2\n", "1\n"):
        person.answers(answer, client, again=True)
        found.append(json.loads(file.read_text()))
        assert client._policy.stored().choice in ("on", "off")

    assert set(found[0]) == {"on", "installId", "noticeAt", "noticeVersion", "createdAt"}
    assert set(found[1]) == set(found[0])
    # The old id is gone, off or on.
    assert found[1]["installId"] != found[0]["installId"]


def test_a_comment_in_toml_survives_an_answer(person: Person, modes: Client, home: Path):
    before = '# mine\nhost = "x" # eu\nredact = ["prompt"]\n\n[own]\ntelemetry_mode = "x"\n'
    file = put(home / ".tool/state.toml", before)
    person.answers("2\n", modes)

    assert file.read_text() == before.replace(
        '["prompt"]\n', '["prompt"]\ntelemetry_mode = "anonymous"\n'
    )


def test_whoever_chose_is_asked_again_only_when_they_wish(
    person: Person, modes: Client, home: Path
):
    put(home / ".tool/state.toml", 'telemetry_mode = "anonymous"\n')
    first = person.answers("", modes)
    silent = person.read()
    again = person.answers("1\n", modes, again=True)

    assert (first, silent, again) == (None, "", "off")


@pytest.mark.parametrize(
    "environ", [{"DO_NOT_TRACK": "1"}, {"TOOL_TELEMETRY": "0"}, {"TOOL_TELEMETRY": "maybe"}]
)
def test_where_a_variable_says_off_nobody_is_asked(
    person: Person,
    modes: Client,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    environ: dict[str, str],
):
    """An answer would change nothing."""
    for name, value in environ.items():
        monkeypatch.setenv(name, value)

    assert (person.answers("", modes, again=True), person.read(), files_below(home)) == (
        None,
        "",
        [],
    )


@pytest.mark.parametrize("again", [False, True])
def test_a_damaged_file_is_told_of_and_never_overwritten(
    person: Person, modes: Client, home: Path, again: bool
):
    file = put(home / ".tool/state.toml", "telemetry_mode = anonymous\n")

    assert person.answers("", modes, again=again) is None
    assert ("is damaged" in person.read(), file.read_text()) == (
        True,
        "telemetry_mode = anonymous\n",
    )


def test_a_file_that_another_program_changed_meanwhile_is_left_alone(
    person: Person, modes: Client, home: Path, monkeypatch: pytest.MonkeyPatch
):
    """The other program's "off", say, just before our "anonymous" would have taken its place."""
    file = put(home / ".tool/state.toml", "# nobody chose\n")
    from tallyd_client import _storing

    written = _storing._written_beside

    def write_meanwhile(target: str, content: bytes) -> str:
        beside = written(target, content)
        file.write_text('telemetry_mode = "off"\n')
        return beside

    monkeypatch.setattr(_storing, "_written_beside", write_meanwhile)

    assert person.answers("2\n", modes) is None
    assert ("nothing was changed" in person.read(), files_below(home)) == (
        True,
        [".tool/state.toml"],
    )
    assert file.read_text() == 'telemetry_mode = "off"\n'


def test_an_answer_that_cannot_be_written_is_told_of(person: Person, modes: Client, home: Path):
    (home / ".tool").mkdir()
    (home / ".tool").rmdir()
    (home / ".tool").symlink_to("/proc/1/nowhere")

    assert person.answers("2\n", modes) is None
    assert "nothing was changed" in person.read()


def test_what_is_counted_after_a_yes_is_dropped_and_nothing_from_before(
    person: Person, modes: Client, home: Path
):
    used, count = modes.counter("used", what="bound"), modes.rollup("used", "what")
    used()
    count("before")
    modes.event("used")
    person.answers("3\nal\n", modes)
    used()
    used()
    count("after")
    modes.drain()

    (delta,) = texts(home, NAME)
    assert [(one[1]["what"], one[2]["count"]) for one in delta["counts"]] == [
        ("bound", 2),
        ("after", 1),
    ]
    assert (delta["events"], delta.get("lost"), delta["consent"]["id"]) == ([], None, "al")
    assert modes._has_thread


def test_what_is_counted_after_a_no_goes_nowhere(person: Person, new_client: NewClient, home: Path):
    client = new_client(tool(), NAME)
    used = client.counter("used", what="a")
    used()
    person.answers("1\n", client)
    used()
    client.drain()

    assert files_below(home) == [_OWN]


def test_a_question_without_two_terminals_is_not_asked(
    person: Person, modes: Client, home: Path, tmp_path: Path
):
    with (tmp_path / "answers").open("w+") as file:
        file.write("2\n")
        file.seek(0)
        streams = person._streams
        found = [
            tallyd_client.ask(modes, stdin=file, stderr=streams["stderr"]),
            tallyd_client.ask(modes, stdin=streams["stdin"], stderr=file),
            tallyd_client.ask(modes, stdin=file, stderr=file),
            tallyd_client.ask(modes, stdin=None, stderr=object()),  # type: ignore[arg-type]
        ]

    assert (found, files_below(home), person.read()) == ([None] * 4, ["answers"], "")


def test_a_client_with_a_problem_asks_nothing(person: Person, home: Path):
    client = Client("absent", contract=str(home / "absent.toml"))

    assert (person.answers("", client), person.read()) == (None, "")


@pytest.mark.slow
@pytest.mark.parametrize("version_of_interrupt", ["\x03", "\x04"])
def test_an_interrupt_in_a_real_host_is_no_answer_and_the_host_goes_on(
    home: Path, version_of_interrupt: str
):
    """Ctrl-C makes the terminal send a signal to whoever it controls."""
    code = f"""
import fcntl, signal, termios
# Whoever runs tests in the background may have told them to ignore it.
signal.signal(signal.SIGINT, signal.default_int_handler)
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
import tallyd_client
client = tallyd_client.Client(contract={tool(MODES_STATE, BY_USER, consent=MODES)!r})
print(tallyd_client.ask(client), flush=True)
"""
    terminal, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", code],
        env=environ_of_host(home),
        stdin=theirs,
        stderr=theirs,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        os.close(theirs)
        shown = ""
        while "Your choice" not in shown:
            shown += os.read(terminal, 4096).decode()
        # Again, as a person would: a signal in the instant before the read blocks interrupts nothing.
        while process.poll() is None:
            os.write(terminal, version_of_interrupt.encode())
            with suppress(subprocess.TimeoutExpired):
                process.wait(2)
        said, _ = process.communicate()
    os.close(terminal)

    assert (process.returncode, said, files_below(home)) == (0, "None\n", [])

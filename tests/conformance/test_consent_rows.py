"""Rows C1 to C20 of the acceptance table: who decides, what is said first, and what off means."""

from __future__ import annotations

import io
import json
import runpy
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.clock import DAY_S, NOON, FakeClock
from support.gateway import vector
from support.hosts import files_below
from support.machine import (
    SYSTEMS,
    Machine,
    NewMachine,
    contract_named,
    on_a_terminal,
    run_program,
)
from support.pipeline import Tally
from support.processes import CONTRACTS, environ_of, run, status, tallyd
from tallyd import choices, notices
from tallyd.contract.build import built
from tallyd.contract.days import instant
from tallyd.policy import bans_on, forbid_all
from tallyd_client import ask

_ON = {name: "anonymous" if name == "pipelex" else "on" for name in SYSTEMS}
_WITH_A_FILE = ("ktx-v1", "ktx-v2", "pipelex", "codegraph")
_DISABLES_IN_CI = {"ktx-v1", "ktx-v2", "pipelex", "tallyd"}
_UNTIL_TOLD = ("ktx-v2", "dot-ai", "codegraph")


def _variable(machine: Machine) -> str:
    (switch,) = machine.contract.consent.env
    return switch.name


@pytest.mark.slow
def test_c01_do_not_track_outranks_everything(new_machine: NewMachine):
    """A stored yes and a yes of the product's own variable notwithstanding, in host and daemon."""
    values = vector("consent_env_matrix.json")["DO_NOT_TRACK"]["values"]
    for name in SYSTEMS:
        machine = new_machine(name)
        machine.choose(_ON[name])
        if any(one.on for one in machine.contract.consent.env):
            machine.say(**{_variable(machine): "1"})
        for value in [*values, " False ", "yes", "x"]:
            machine.say(DO_NOT_TRACK=None if value == "unset" else value)
            is_off = value != "unset" and value.strip().lower() not in ("", "0", "false")
            wanted = "off" if is_off else _ON[name]
            assert (machine.decided(), name, value) == ((wanted, wanted), name, value)

        machine.say(DO_NOT_TRACK="1")
        assert (machine.in_a_shell().decided_by, machine.acts()) == (
            "DO_NOT_TRACK",
            (False, False),
        )


@pytest.mark.slow
def test_c02_the_products_variable_says_off_or_on_and_an_unknown_word_never_enables(
    new_machine: NewMachine,
):
    """In the daemon a variable can only lower: its environment is nobody's shell."""
    off = ["0", "false", "no", "off", " OFF "]
    on = ["1", "true", "yes", "on", " Yes "]
    unknown = ["disabled", "n", "2", "tru", "on!"]
    for name in ("codegraph", "dot-ai", "tallyd", "ktx-v2"):
        machine = new_machine(name)
        is_disabling = name == "ktx-v2"
        for stored in ("on", "off"):
            machine.choose(stored)
            for word in off + on + unknown:
                machine.say(**{_variable(machine): word})
                says_on = word in on and not is_disabling
                daemon = stored if says_on else "off"
                found = machine.decided()
                assert (found, name, stored, word) == (
                    ("on" if says_on else "off", daemon),
                    name,
                    stored,
                    word,
                )

        machine.choose("on")
        machine.say(**{_variable(machine): "disabled"})
        assert machine.acts() == (False, False)


@pytest.mark.slow
def test_c03_ci_disables_or_tags_as_the_contract_says_and_the_tag_is_always_true(
    new_machine: NewMachine,
):
    for name in SYSTEMS:
        machine = new_machine(name)
        machine.choose(_ON[name])
        for value in (None, "", "0", "false", "FALSE", "1", "true", "woodpecker"):
            machine.say(CI=value)
            is_ci = value in ("1", "true", "woodpecker")
            wanted = "off" if is_ci and name in _DISABLES_IN_CI else _ON[name]
            assert (machine.decided(), name, value) == ((wanted, wanted), name, value)

        machine.say(CI="true")
        assert machine.acts() == ((name not in _DISABLES_IN_CI,) * 2)

    for value, tag in (("1", True), ("false", False), (None, False)):
        for name, field in (("codegraph", "ci"), ("ktx-v2", "isCi")):
            machine = new_machine(name)
            machine.choose("on")
            machine.say(CI=value)
            machine.use(machine.host())
            rows = machine.deliver_after_grace()
            tags = {row.envelope.get(field, row.props.get(field)) for row in rows}
            assert tags == (set() if tag and name == "ktx-v2" else {tag})


@pytest.mark.slow
def test_c04_output_that_is_no_terminal_disables_where_the_contract_says_so(
    home: Path, new_machine: NewMachine
):
    """It gates the client alone: a daemon never has a terminal."""
    code = 'Client(contract=contract).event("wiki_query_completed", queryLength=1, durationMs=1, outcome="ok")'
    found = {}
    for name in ("ktx-v1", "ktx-v2"):
        for is_terminal in (False, True):
            own = home / f"{name}-{is_terminal}"
            own.mkdir()
            constants = built(contract_named(name))
            (on_a_terminal if is_terminal else run_program)(own, code, constants)
            found[name, is_terminal] = bool(files_below(own))
    machine = new_machine("ktx-v1")

    assert found == {
        ("ktx-v1", False): False,
        ("ktx-v1", True): True,
        ("ktx-v2", False): True,
        ("ktx-v2", True): True,
    }
    assert machine.decided(is_terminal=False) == ("off", "on")


def test_c05_the_stored_choice_is_replaced_whole_for_its_user_alone_and_read_by_both(
    new_machine: NewMachine,
):
    before = {
        "codegraph": json.dumps({"enabled": True, "mine": ["x"], "consent_source": "cli"}),
        "ktx-v2": (json.dumps(vector("ktx_identity.json"))),
        "pipelex": 'telemetry_mode = "anonymous"\nmine = ["x"]\n',
    }
    for name, text in before.items():
        machine = new_machine(name)
        machine.state_file.parent.mkdir()
        machine.state_file.write_text(text)
        machine.state_file.chmod(0o644)
        with machine.state_file.open() as held:
            machine.choose("off")
            after = machine.state_file.read_text()
            # Whoever was reading meanwhile read the old file to its end.
            assert held.read() == text
        assert machine.state_file.stat().st_mode & 0o777 == 0o600
        assert machine.decided() == ("off", "off")
        assert ("mine" in after) == ("mine" in text)
        key = "telemetry_mode" if name == "pipelex" else "enabled"
        values = dict(line.split(" = ", 1) for line in after.splitlines()) if key[0] == "t" else {}
        assert (values or json.loads(after))[key] in ('"off"', False)
        assert [one for one in files_below(machine.state_file.parent) if "tmp" in one] == []

        machine.choose(_ON[name])
        assert machine.decided() == (_ON[name], _ON[name])


def test_c06_the_first_rule_that_has_something_to_say_decides_and_the_default_is_last(
    new_machine: NewMachine,
):
    """From the last rule to the first, each one outranks those before it."""
    defaults = {name: new_machine(name).decided() for name in SYSTEMS}
    assert defaults == dict.fromkeys(SYSTEMS, ("on", "on")) | {
        "pipelex": ("off", "off"),
        "tallyd": ("off", "off"),
    }

    machine = new_machine("tallyd")
    around = machine.pipeline.around
    found = []

    def look() -> None:
        said = machine.in_a_shell().decided_by
        bans = bans_on("tallyd", around.paths, around.environ)
        found.append((bans.wishes[0] if bans.wishes else said, *machine.decided()))

    look()
    machine.choose("on")
    look()
    machine.say(CI="1")
    look()
    machine.say(TALLYD_TELEMETRY="1")
    look()
    machine.say(DO_NOT_TRACK="1")
    look()
    machine.say(DO_NOT_TRACK=None)
    forbid_all(around.paths)
    look()

    # A variable that says on speaks for hosts; the daemon goes by what comes after it.
    assert found == [
        ("default", "off", "off"),
        ("stored choice", "on", "on"),
        ("CI", "off", "off"),
        ("TALLYD_TELEMETRY", "on", "off"),
        ("DO_NOT_TRACK", "off", "off"),
        ("user policy", "off", "off"),
    ]


@pytest.mark.slow
def test_c07_identified_needs_a_user_id_and_a_blank_one_is_never_sent(new_machine: NewMachine):
    texts = {
        "off": 'telemetry_mode = "off"\nuser_id = "user-41"\n',
        "anonymous": 'telemetry_mode = "anonymous"\nuser_id = "user-41"\n',
        "blank": 'telemetry_mode = "identified"\nuser_id = "  "\n',
        "missing": 'telemetry_mode = "identified"\n',
        "identified": 'telemetry_mode = "identified"\nuser_id = "user-41"\n',
    }
    found = {}
    for name, text in texts.items():
        machine = new_machine("pipelex")
        machine.state_file.parent.mkdir()
        machine.state_file.write_text(text)
        client = machine.host()
        for _ in range(2):
            machine.use(client)
        rows = machine.deliver()
        found[name] = (
            machine.decided(),
            [(row.id == "user-41", row.props.get("$process_person_profile")) for row in rows],
        )
        assert all(row.id.strip() for row in rows)
        assert len({row.id for row in rows}) == (1 if name == "identified" else len(rows))
    strangers = [(False, False)] * 2

    assert found == {
        "off": (("off", "off"), []),
        "anonymous": (("anonymous", "anonymous"), strangers),
        "blank": (("anonymous", "anonymous"), strangers),
        "missing": (("anonymous", "anonymous"), strangers),
        "identified": (("identified", "identified"), [(True, None)] * 2),
    }
    refused = run(
        *("tallyd", "on", "pipelex", "--mode", "identified"),
        environ=environ_of(machine.home),
        check=False,
    )
    assert (refused.returncode, "--user" in refused.stderr) == (64, True)


@pytest.mark.slow
def test_c08_the_notice_is_shown_once_on_stderr_and_plain_where_colour_is_unwanted(home: Path):
    contract = contract_named("ktx-v2")
    code = 'Client(contract=contract).event("wiki_query_completed", queryLength=1, durationMs=1, outcome="ok")'
    found = {}
    for name, more in {
        "colour": {"TERM": "xterm", "NO_COLOR": ""},
        "no colour": {"TERM": "xterm", "NO_COLOR": "1"},
        "dumb": {"TERM": "dumb", "NO_COLOR": ""},
    }.items():
        own = home / name
        own.mkdir()
        found[name] = [on_a_terminal(own, code, built(contract), **more) for _ in range(2)]
    piped = home / "piped"
    piped.mkdir()
    out, err = run_program(piped, code, built(contract))
    line = f"{contract.notice}\n"

    assert found == {
        "colour": [f"\x1b[2m{contract.notice}\x1b[0m\n", ""],
        "no colour": [line, ""],
        "dumb": [line, ""],
    }
    assert (out, err) == ("", line)
    # Which version of the contract it was: by its digest, with the instant.
    shown = piped / "state" / "notices" / "ktx" / contract.short_digest
    assert shown.read_text().strip() == instant(NOON)


def test_c08_the_version_of_the_notice_is_stored_where_the_product_keeps_it(
    new_machine: NewMachine,
):
    machine = new_machine("ktx-v2")
    machine.use(machine.host())
    machine.deliver_after_grace()
    kept = json.loads(machine.state_file.read_text())

    assert (kept["noticeShownVersion"], "noticeShownAt" in kept) == (1, True)


@pytest.mark.slow
@pytest.mark.parametrize("name", _UNTIL_TOLD)
def test_c09_nothing_leaves_before_the_notice_was_shown_and_without_a_notice_nothing_ever(
    new_machine: NewMachine, monkeypatch: pytest.MonkeyPatch, name: str
):
    machine = new_machine(name)
    monkeypatch.setattr(sys, "stderr", None)
    for _ in range(5):
        machine.use(machine.host())
        assert machine.deliver_after_grace() == []

    shown = io.StringIO()
    monkeypatch.setattr(sys, "stderr", shown)
    machine.use(machine.host())
    assert shown.getvalue().count(machine.contract.notice) == 1
    machine.clock.pass_s(machine.contract.consent.grace_s - 120)
    assert machine.deliver() == []
    machine.clock.pass_s(121)
    assert machine.deliver() != []


@pytest.mark.parametrize("name", ["codegraph", "ktx-v2", "dot-ai", "tallyd"])
@pytest.mark.parametrize("choice", ["on", "off"])
def test_c10_an_explicit_choice_suppresses_the_notice(
    new_machine: NewMachine, monkeypatch: pytest.MonkeyPatch, name: str, choice: str
):
    machine = new_machine(name)
    shown = io.StringIO()
    monkeypatch.setattr(sys, "stderr", shown)
    machine.choose(choice)
    machine.use(machine.host())
    machine.clock.pass_s(DAY_S)
    arrived = machine.deliver()
    machine.use(machine.host())

    # Who said yes was told: it leaves without a notice, and without its grace.
    assert (shown.getvalue(), bool(arrived)) == ("", choice == "on")
    assert notices.shown_at(machine.contract, machine.pipeline.around.paths) is None


@pytest.mark.slow
@pytest.mark.parametrize("what", ["state", "state/notices", "its own", "in the way"])
def test_c11_a_state_that_cannot_be_written_means_off_and_silence(
    new_machine: NewMachine, capfd: pytest.CaptureFixture[str], what: str
):
    for name in ("codegraph", "ktx-v2"):
        machine = new_machine(name)
        own = machine.state_file.parent
        if what == "its own":
            # A link to nowhere: nothing can be made there, by nobody.
            own.symlink_to(machine.home / "nowhere")
        elif what == "state/notices":
            (machine.home / what).write_text("in the way")
        elif what == "in the way":
            own.write_text("a file where the directory should be")
            assert machine.decided() == ("off", "off")
            machine.agree()
            assert machine.acts() == (False, False)
        if what == "state":
            machine.say(TALLYD_HOME=str(machine.home / "other"))
            (machine.home / "other").mkdir()
            (machine.home / "other" / "state").write_text("in the way")
        client = machine.host()
        if what == "its own":
            machine.agree()
        before = [one for one in files_below(machine.home) if "/spool/" not in one]
        assert name == "codegraph" or what != "its own" or client.project("/srv/x") is None
        for _ in range(2):
            machine.use(client)
        client.close()
        if what == "its own":
            machine.pipeline.intake(machine.product)
            machine.pipeline.deliver(machine.product)
        elif what == "state/notices":
            for _ in range(3):
                machine.pipeline.intake(machine.product)
                machine.pipeline.deliver(machine.product)
                machine.clock.pass_s(DAY_S)
        said = capfd.readouterr()

        assert (said.out, said.err, machine.recorder.bodies) == ("", "", [])
        if what == "state":
            assert [one for one in files_below(machine.home) if "spool" in one] == []
            assert before == files_below(machine.home)


_DAMAGE = {
    "codegraph": ['{"enabled": tr', '{"enabled": "false"}', "[]", "", "\xff\xfe", '{"enabled": 1}'],
    "ktx-v1": ['{"enabled": false', "null"],
    "ktx-v2": [
        '{"enabled": false, "installId"',
        '{"enabled": "false", "installId": "c1b0f2d8-6a3e-4f27-8a44-0d9e6b5f1c72"}',
        '{"enabled": true, "installId": "c1b0f2d8-6a3e-4f27-8a44-0d9e6b5f1c72", "telemetry": false}',
        "true",
    ],
    "pipelex": [
        'telemetry_mode = "anonymus"',
        "telemetry_mode = anonymous",
        '{"telemetry_mode": 1}',
    ],
    "dot-ai": ['{"enabled": "no"}', "{", "[false]"],
    "tallyd": ['{"enabled": true, "machine_id": 7}', "on"],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SYSTEMS)
def test_c12_a_damaged_state_is_off_until_there_is_a_valid_choice(
    new_machine: NewMachine, name: str
):
    """It is neither a first run nor a wish: nothing leaves, nothing is deleted, nothing overwritten."""
    machine = new_machine(name)
    machine.choose(_ON[name])
    machine.agree()
    good = machine.state_file.read_bytes()
    for text in _DAMAGE[name]:
        damaged = text.encode("latin-1")
        machine.state_file.write_bytes(damaged)
        assert (machine.decided(), text) == (("off", "off"), text)
        assert machine.acts() == (False, False)
        assert (machine.state_file.read_bytes(), len(machine.dropped()) > 0) == (damaged, True)

    machine.state_file.write_bytes(good)
    assert machine.decided() == (_ON[name], _ON[name])
    assert machine.deliver() != []


@pytest.mark.slow
def test_c13_status_names_every_switch_and_changes_nothing_and_on_and_off_are_one_command(
    home: Path,
):
    tallyd(home, "contract", "add", str(CONTRACTS / "codegraph.toml"))
    tallyd(home, "on", "codegraph")
    on = status(home)["products"]["codegraph"]
    tallyd(home, "off", "codegraph")
    before = _contents(home)
    more = {"DO_NOT_TRACK": "1", "CODEGRAPH_TELEMETRY": "no"}
    report = json.loads(tallyd(home, "status", "--json", check=False, **more))
    text = tallyd(home, "status", "codegraph", check=False, **more)
    off = report["products"]["codegraph"]

    assert (on["consent"]["state"], on["consent"]["says_off"], bool(on["machine_id"])) == (
        "on",
        [],
        True,
    )
    assert off["consent"]["decided_by"] == "DO_NOT_TRACK"
    assert off["consent"]["says_off"] == ["DO_NOT_TRACK", "CODEGRAPH_TELEMETRY", "stored choice"]
    assert (off["machine_id"], off["choice_file"]) == (
        None,
        str(home / ".codegraph" / "telemetry.json"),
    )
    for said in ("off", "DO_NOT_TRACK", "CODEGRAPH_TELEMETRY", "stored choice", off["choice_file"]):
        assert said in text, said
    assert before == _contents(home)


def _contents(home: Path) -> dict[str, tuple[bytes, int]]:
    """Every file and when it was changed, but for the index that SQLite makes for a reader."""
    names = [one for one in files_below(home) if not one.endswith(("-shm", "-wal"))]
    return {one: ((home / one).read_bytes(), (home / one).stat().st_mtime_ns) for one in names}


@pytest.mark.slow
def test_c14_off_deletes_what_was_not_sent(new_machine: NewMachine):
    """A file in the spool, a half in tmp, one set aside, a bucket, an event and a batch."""
    machine = new_machine("codegraph")
    machine.agree()
    install = ("install", {"scope": "local", "kind": "fresh"})
    machine.drop()
    machine.pipeline.intake("codegraph")
    machine.pipeline.seal("codegraph")
    machine.drop(("usage_rollup", {"kind": "cli_command", "name": "a-late-one"}), install)
    machine.pipeline.drop(b"{", product="codegraph")
    machine.pipeline.intake("codegraph")
    machine.drop()
    (machine.home / "state/spool/codegraph/tmp/half").write_text("half")
    before = machine.pipeline.tally("codegraph")
    tallyd(machine.home, "off", "codegraph")
    left = [one for one in machine.dropped() if "/codegraph/" in one]

    assert (before.new, before.bad, before.batches, bool(before.counted)) == (1, 1, 1, True)
    assert (machine.pipeline.tally("codegraph"), left) == (Tally(), [])
    # Nor in the database's own leftovers.
    assert b"a-late-one" not in machine.everything()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["codegraph", "ktx-v2", "dot-ai", "tallyd"])
def test_c15_off_forgets_the_id_and_on_makes_another(new_machine: NewMachine, name: str):
    machine = new_machine(name)
    machine.choose("on")
    seen = []
    for _ in range(2):
        machine.use(machine.host())
        machine.clock.pass_s(DAY_S)
        (row,) = machine.deliver()
        seen.append(row.id)
        machine.choose("off")
        machine.use(machine.host())
        assert machine.deliver() == []
        # ktx must have an id in its file, so it is one that never served.
        while_off = machine.everything() if name != "ktx-v2" else machine.state_file.read_bytes()
        if name != "ktx-v2":
            while_off = b"".join(
                file.read_bytes()
                for file in (*machine.home.glob(".*/*.json"), *machine.home.glob("state/[ci]*/*"))
            )
        assert row.id.encode() not in while_off
        if name == "ktx-v2":
            seen.append(json.loads(while_off)["installId"])
        machine.choose("on")

    assert len(set(seen)) == len(seen) == (4 if name == "ktx-v2" else 2)


class _ClockOfSomebodyWhoSaysNo(FakeClock):
    """At its n-th look at the time, the user says no."""

    looks = 0
    says_no_at = -1
    say_no = staticmethod(lambda: None)

    def now(self) -> float:
        self.looks += 1
        if self.looks == self.says_no_at:
            self.say_no()
        return super().now()


@pytest.mark.slow
def test_c16_an_off_reaches_who_runs_already_before_its_next_step(new_machine: NewMachine):
    """A host before it drops; the daemon before merge, seal, send, each chunk and each repetition."""
    machine = new_machine("codegraph", ("max_events = 100", "max_events = 2"))
    client = machine.host()
    count = client.rollup("usage_rollup", "kind", "name")
    count("mcp_tool", "explore")
    client.drain()
    count("mcp_tool", "explore")
    one = machine.dropped()
    machine.choose("off")
    client.drain()
    count("mcp_tool", "explore")
    client.close()
    assert machine.dropped() == one

    # A yes that follows does not bring back what was counted before it.
    machine = new_machine("codegraph")
    client = machine.host()
    machine.use(client)
    one = machine.dropped()
    client.rollup("usage_rollup", "kind", "name")("mcp_tool", "of-before")
    machine.choose("off")
    machine.choose("on")
    client.drain()
    assert machine.dropped() == one
    machine.use(client, name="of-after")
    assert [row.props["name"] for row in machine.deliver_after_grace()] == ["of-after"]

    places, steps = [], 0
    while True:
        steps += 1
        machine = new_machine("codegraph", ("max_events = 100", "max_events = 2"))
        clock = _ClockOfSomebodyWhoSaysNo(machine.clock.time)
        machine.pipeline.clock = machine.pipeline.passes._clock = clock
        # The third request gets no answer that counts, so it is to be repeated.
        machine.recorder.statuses[:] = [204, 204, 503]
        machine.agree()
        machine.drop(*(("usage_rollup", {"kind": "mcp_tool", "name": f"n{i}"}) for i in range(7)))
        at_no = []

        def say_no(machine: Machine = machine, at_no: list[int] = at_no) -> None:
            around = machine.pipeline.around
            at_no.append(len(machine.recorder.bodies))
            choices.write_choice(
                machine.contract, around.paths, around.environ, mode="off", now=NOON
            )

        clock.say_no, clock.says_no_at = say_no, clock.looks + steps  # type: ignore[method-assign]
        machine.pipeline.intake("codegraph")
        machine.pipeline.deliver("codegraph")
        if not at_no:
            break
        places += at_no
        assert len(machine.recorder.bodies) == at_no[0], steps
        machine.pipeline.intake("codegraph")
        assert machine.pipeline.tally("codegraph") == Tally(), steps

    assert {0, 1, 2} <= set(places)


_WATCHED = """
import sys
def look(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.bind", "socket.sendto", "socket.sendmsg"):
        with open({file!r}, "a") as opened:
            opened.write(event + "\\n")
sys.addaudithook(look)
"""


@pytest.mark.slow
def test_c17_off_opens_no_socket_not_even_to_tell_of_itself(new_machine: NewMachine):
    """The command, a flush after it, and a host; before, a flush that is on is seen to connect."""
    machine = new_machine("codegraph")
    # These are processes of their own, whose time is the real one.
    now = time.time_ns() / 1e9
    yesterday = time.strftime("%Y-%m-%d", time.gmtime(now - DAY_S))
    machine.clock.time = now
    machine.agree()
    watch, events = _WATCHED.format(file=str(machine.home / "events")), machine.home / "events"
    found = []
    for words in (["flush"], ["off", "codegraph"], ["flush"]):
        machine.drop(day=yesterday)
        events.write_text("")
        subprocess.run(
            [sys.executable, "-c", f"{watch}from tallyd.cli import main\nmain({words!r})"],
            env=environ_of(machine.home, CODEGRAPH_TELEMETRY_ENDPOINT=machine.recorder.url),
            check=True,
            capture_output=True,
            timeout=60,
        )
        found.append(sorted(set(events.read_text().split()) - {"socket.bind"}))
    code = f'{watch}client = Client(contract=contract)\nclient.event("install", scope="local", kind="fresh")\nclient.close()'
    run_program(machine.home, code, machine.constants, now=None)

    assert ("socket.connect" in found[0], found[1:]) == (True, [[], []])
    assert (events.read_text(), len(machine.recorder.bodies)) == ("", 1)


@pytest.mark.slow
def test_c18_what_was_built_off_cannot_be_switched_on(
    new_machine: NewMachine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for name in SYSTEMS:
        machine = new_machine(name)
        module = str(tmp_path / f"{name.replace('-', '_')}.py")
        if name == "codegraph":
            file = str(CONTRACTS / "codegraph.toml")
            tallyd(machine.home, "contract", "build", file, "--python", module, "--off")
            machine.constants = runpy.run_path(module)["CONTRACT"]
        else:
            machine.constants = built(machine.contract, is_off=True)
        machine.choose(_ON[name])
        machine.say(DO_NOT_TRACK="0", CI="false")
        if any(one.on for one in machine.contract.consent.env):
            machine.say(**{_variable(machine): "on"})
        before = files_below(machine.home)
        client = machine.host()
        machine.use(client)
        answered = ask(client, stdin=_Terminal("2\n"), stderr=_Terminal(), again=True)
        machine.use(client)
        machine.use(machine.host())

        assert (machine.decided()[0], answered, name) == ("off", None, name)
        assert (client._has_thread, files_below(machine.home)) == (False, before)


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.slow
@pytest.mark.parametrize("name", ["codegraph", "ktx-v2", "pipelex", "dot-ai"])
def test_c19_deleting_the_state_file_resets_choice_and_id(new_machine: NewMachine, name: str):
    default = new_machine(name).decided()
    machine = new_machine(name)
    for mode in ("off", _ON[name]):
        machine.choose(mode)
        machine.state_file.unlink()
        assert (machine.decided(), mode) == (default, mode)

    machine = new_machine(name)
    machine.choose(_ON[name])
    machine.agree()
    machine.use(machine.host())
    machine.clock.pass_s(DAY_S)
    first = machine.deliver()
    machine.use(machine.host())
    machine.state_file.unlink()
    machine.clock.pass_s(DAY_S)
    # What was counted under the choice that is gone is gone as well.
    assert (len(first), machine.deliver()) == (1, [])
    if name == "pipelex":
        machine.choose("anonymous")
    machine.use(machine.host())
    second = machine.deliver_after_grace()
    assert len(second) == 1
    # A derived id is not in that file.
    assert name == "dot-ai" or {row.id for row in first}.isdisjoint(row.id for row in second)


@pytest.mark.slow
def test_c20_one_process_may_be_off_whatever_anybody_chose(new_machine: NewMachine):
    for name in SYSTEMS:
        machine = new_machine(name)
        machine.choose(_ON[name])
        if any(one.on for one in machine.contract.consent.env):
            machine.say(**{_variable(machine): "on"})
        before = files_below(machine.home)
        client = machine.host(off=True)
        machine.use(client)
        assert (files_below(machine.home), client._has_thread) == (before, False)
        machine.use(machine.host())
        assert len(machine.dropped()) == 1

"""Rows E1 to E16 of the acceptance table: what may be told of, and in which words."""

from __future__ import annotations

import runpy
import signal
from pathlib import Path
from typing import Any

import pytest
from support.deltas import delta
from support.gateway import Gateway, batch, rollup, single, vector
from support.machine import SYSTEMS, USES, YESTERDAY, Json, Machine, NewMachine, Row, start_program
from support.pipeline import Pipeline
from support.processes import CONTRACTS, daemon, tallyd
from support.recorder import recording
from tallyd import heartbeat, losses
from tallyd.contract import parse_contract
from tallyd.contract.build import built, render_python
from tallyd.contract.model import Rollup
from tallyd.lock import Holder, hold_lock
from tallyd.runs import StopReason
from tallyd_client._load import constants_of

_SECRET = "postgres://ana:s3cret-pw@db.internal/ledger"
_COMMAND: Json = {
    "commandPath": ["ktx", "sql"],
    "durationMs": 812.4,
    "outcome": "ok",
    "flagsPresent": ["connection"],
    "hasProject": True,
    "projectGroupAttached": False,
}
_CONNECTION: Json = {"outcome": "error", "durationMs": 3}


def _agreed(new_machine: NewMachine, name: str) -> Machine:
    machine = new_machine(name)
    machine.agree()
    machine.choose("anonymous" if machine.contract.consent.modes else "on")
    return machine


def _told(machine: Machine, event: str, *several: Json) -> list[Row]:
    """What arrives of an event that a host told with each of these properties."""
    client = machine.host()
    for props in several:
        machine.tell(client, event, **props)
    machine.clock.pass_s(86400)
    rows = machine.deliver()
    assert _screened(machine) == 0, "the host has screened already what it tells"
    return rows


def _screened(machine: Machine) -> int:
    """How many fields and events the daemon took out of what was dropped."""
    with machine.pipeline.store.reading() as sql:
        totals = losses.totals(sql, machine.product)
        return losses.stripped(sql, machine.product) + totals.get("screened", 0)


@pytest.mark.slow
def test_e01_what_the_contract_does_not_list_never_leaves(new_machine: NewMachine, tmp_path: Path):
    """From a host, from another writer's delta, and into the gateway: events, fields, envelope."""
    for name in SYSTEMS:
        machine = _agreed(new_machine, name)
        client = machine.host(envelope={"unlisted": "MARK"})
        machine.use(client, unlisted="MARK")
        client.event("unlisted_MARK", text="MARK")
        client.rollup("unlisted_MARK", "text")("MARK")
        client.drain()
        assert all(b"MARK" not in (machine.home / one).read_bytes() for one in machine.dropped())
        event, props = USES[machine.product]
        machine.pipeline.drop(
            _delta_of(machine, event, {**props, "unlisted": "MARK"}), product=machine.product
        )
        machine.clock.pass_s(86400)
        rows = machine.deliver()

        assert (len(rows) >= 1, b"MARK" in machine.sent, name) == (True, False, name)
        state = b"".join(one.read_bytes() for one in machine.home.glob("state/tallyd.db*"))
        assert b"MARK" not in state

    with Gateway.open(tmp_path / "gateway.db", "codegraph") as gateway:
        events = [single("MARK", text="x"), rollup(unlisted="MARK")]
        assert gateway.post(batch(*events, unlisted="MARK")).status == 204
        assert "MARK" not in str(gateway.stored())
        assert gateway.counted() == {"explore": 1}


def _delta_of(machine: Machine, event: str, props: Json) -> Json:
    """A delta by hand with one thing listed and one unlisted of each kind."""
    is_rollup = isinstance(machine.contract.events[event], Rollup)
    at = f"{YESTERDAY}T10:00:00.000Z"
    counts = [["unlisted_MARK", {}, {"count": 1}]]
    events = [["unlisted_MARK", at, {"text": "MARK"}]]
    if is_rollup:
        counts.append([event, props, {"count": 1, "MARK": 3}])
    else:
        events.append([event, at, props])
    more = {"id": "local_" + "0" * 16} if machine.contract.identity.kind == "derived" else {}
    return delta(
        machine.product,
        counts=counts,
        events=events,
        day=YESTERDAY,
        envelope={"unlisted": "MARK"},
        **more,
    )


def test_e02_a_command_is_its_words_its_duration_its_outcome_and_the_names_of_its_flags(
    new_machine: NewMachine,
):
    machine = _agreed(new_machine, "ktx-v2")
    flags: list[Any] = [
        ["connection"],
        {"connection": True, "quiet": False},
        {"connection": _SECRET},
    ]
    rows = _told(machine, "command", *({**_COMMAND, "flagsPresent": one} for one in flags))

    assert [row.props["flagsPresent"] for row in rows] == [
        {"connection": True},
        {"connection": True},
        {},
    ]
    assert [rows[0].props[one] for one in ("commandPath", "durationMs", "outcome")] == [
        ["ktx", "sql"],
        812.4,
        "ok",
    ]
    assert b"s3cret" not in machine.sent

    counted = _agreed(new_machine, "codegraph")
    use = {"kind": "cli_command", "name": "affected"}
    (row,) = _told(counted, "usage_rollup", use, use)
    assert (row.props["name"], row.props["count"]) == ("affected", 2)


def test_e03_tool_calls_are_counted_or_told_one_by_one_as_the_contract_says(
    new_machine: NewMachine,
):
    counted = _agreed(new_machine, "codegraph")
    count = counted.host().rollup("usage_rollup", "kind", "name")
    for place in range(41):
        count("mcp_tool", "codegraph_explore", ok=place < 39)
    counted.clients[0].drain()
    counted.clock.pass_s(86400)
    (row,) = counted.deliver()
    assert row.props == {
        "kind": "mcp_tool",
        "name": "codegraph_explore",
        "count": 41,
        "error_count": 2,
    }

    told = _agreed(new_machine, "ktx-v2")
    call = {"outcome": "ok", "durationMs": 5}
    rows = _told(
        told,
        "mcp_request_completed",
        *({**call, "toolName": one} for one in ("sql", "sql", "a_secret_tool")),
    )
    assert [(row.props["toolName"], row.props["sampleRate"]) for row in rows] == [
        ("sql", 1),
        ("sql", 1),
        ("_unknown", 1),
    ]

    each = _agreed(new_machine, "dot-ai")
    client = each.host()
    each.tell(client, "tool_executed", tool="recommend", success=False, duration_ms=402)
    each.tell(client, "tool_error", tool="recommend", error_type="TypeError")
    assert [(row.event, row.props["tool"]) for row in each.deliver()] == [
        ("tool_executed", "recommend"),
        ("tool_error", "recommend"),
    ]


@pytest.mark.slow
def test_e04_an_error_beats_what_was_noted_and_that_the_exit_code_and_an_interrupt_is_aborted(
    new_machine: NewMachine,
):
    """What is no outcome at all is not told: a made-up "ok" would look like a fact."""
    machine = _agreed(new_machine, "ktx-v2")
    words = ["ok", "error", "aborted", "exploded", 1, None]
    rows = _told(machine, "command", *({**_COMMAND, "outcome": one} for one in words))
    assert [row.props["outcome"] for row in rows] == ["ok", "error", "aborted"]

    code = f"""
from tallyd_client.outcome import outcome_of
client = Client(contract=contract)
error = said = None
try:
    print("runs", flush=True)
    {{body}}
except BaseException as raised:
    error = raised
    raise
finally:
    client.event("command", **dict({_COMMAND!r}, outcome=outcome_of(error, said)))
"""
    ends = {
        "pass": "ok",
        "sys.exit()": "ok",
        "sys.exit(3)": "error",
        "sys.exit('why')": "error",
        "sys.exit(143)": "aborted",
        "said = 'aborted'": "aborted",
        "said = 'ok'; sys.exit(3)": "ok",
        "said = 'ok'; raise ValueError": "error",
        "said = 'ok'; sys.stdin.read()": "aborted",
    }
    hosts = [
        start_program(
            machine.home,
            code.replace("{body}", body),
            machine.constants,
            now=machine.clock.time + place,
            stdin=-1,
        )
        for place, body in enumerate(ends)
    ]
    for host in hosts:
        assert host.stdout is not None
        assert host.stdout.readline() == "runs\n"
    # The last one waits for its input, and is interrupted.
    hosts[-1].send_signal(signal.SIGINT)
    for host in hosts:
        host.communicate(timeout=60)
    machine.clock.pass_s(60)
    rows = sorted(machine.deliver(), key=lambda row: row.ts)

    assert [row.props["outcome"] for row in rows] == list(ends.values())


def test_e05_of_an_error_its_class_is_told_and_nothing_else(new_machine: NewMachine):
    machine = _agreed(new_machine, "dot-ai")
    client = machine.host()
    errors: list[Any] = [
        *(ValueError(_SECRET), KeyError, "HttpError_404", "E" * 80),
        *("E" * 81, "lower", "A/b", "A\\b", "A@b", "A://b", "A b", "Ünicode", _SECRET, 7),
    ]
    for error in errors:
        machine.tell(client, "tool_error", tool="recommend", error_type=error)
    rows = machine.deliver()
    by_the_host = _screened(machine)
    machine.drop(("tool_error", {"tool": "recommend", "error_type": _SECRET}))
    assert (by_the_host, machine.deliver(), _screened(machine)) == (0, [], 1)

    assert [row.props["error_type"] for row in rows] == [
        "ValueError",
        "KeyError",
        "HttpError_404",
        "E" * 80,
    ]
    assert b"s3cret" not in machine.sent + machine.everything()

    optional = _agreed(new_machine, "ktx-v2")
    (row,) = _told(optional, "connection_test", {**_CONNECTION, "errorClass": "no class"})
    assert "errorClass" not in row.props


@pytest.mark.slow
def test_e06_the_detail_of_an_error_is_redacted_capped_and_takes_a_yes_of_its_own(
    new_machine: NewMachine,
):
    """A message with a password in it: only with the switch, and then without the password."""
    told = {
        **_CONNECTION,
        "errorDetail": f"cannot reach {_SECRET} from /home/ana/x.yaml " + "z " * 2000,
    }
    found = {}
    for name, switch in (
        ("ktx-v1", "1"),
        ("ktx-v2", None),
        ("ktx-v2", "0"),
        ("ktx-v2", "maybe"),
        ("ktx-v2", "1"),
    ):
        machine = _agreed(new_machine, name)
        machine.say(KTX_TELEMETRY_ERROR_DETAIL=switch)
        client = machine.host()
        machine.tell(client, "connection_test", **told)
        assert b"s3cret" not in machine.everything()
        # Another writer may forget to redact; whoever reads its delta does it again.
        machine.drop(("connection_test", told))
        rows = machine.deliver()
        assert len(rows) == 2
        assert b"s3cret" not in machine.sent
        assert b"/home/ana" not in machine.sent
        found[name, switch] = [
            row.props.get("errorDetail") for row in rows if row.ts[:10] != YESTERDAY
        ]

    (shown,) = found.pop(("ktx-v2", "1"))
    assert (shown[:13], len(shown) <= 1000) == ("cannot reach ", True)
    assert "[redacted]" in shown
    assert "[path]" in shown
    assert found == {case: [None] for case in found}


@pytest.mark.slow
def test_e07_the_first_run_is_told_once_on_a_machine(new_machine: NewMachine):
    for name, event, props in (
        ("ktx-v2", "install_first_run", {}),
        ("pipelex", "telemetry_just_enabled", {"telemetry_mode": "anonymous"}),
    ):
        machine = _agreed(new_machine, name)
        code = f"client = Client(contract=contract)\nfor _ in range(2): client.event({event!r}, **{props!r})"
        hosts = [
            start_program(machine.home, code, machine.constants, now=machine.clock.time)
            for _ in range(2)
        ]
        for host in hosts:
            host.communicate(timeout=60)
        rows = _told(machine, event, props, props)

        assert [row.event for row in rows] == [event]


def test_e08_install_and_uninstall_are_told_with_whom_it_was_for(new_machine: NewMachine):
    machine = _agreed(new_machine, "codegraph")
    client = machine.host()
    machine.tell(
        client, "install", targets=["claude", "c d", "cursor"], scope="global", kind="fresh"
    )
    machine.tell(client, "install", targets=["claude"], scope="everywhere", kind="fresh")
    machine.tell(client, "uninstall", targets=["cursor"])
    machine.tell(client, "uninstall")

    assert [(row.event, row.props) for row in machine.deliver()] == [
        ("install", {"targets": ["claude", "cursor"], "scope": "global", "kind": "fresh"}),
        ("uninstall", {"targets": ["cursor"]}),
        ("uninstall", {}),
    ]


def test_e09_a_start_is_told_with_versions_and_how_long_it_took(new_machine: NewMachine):
    machine = _agreed(new_machine, "ktx-v2")
    started = {
        "daemonVersion": "0.9.4",
        "pythonVersion": "3.13.3",
        "runtimeVersion": "0.9.4",
        "startupDurationMs": 412.5,
    }
    (row,) = _told(machine, "daemon_started", started)
    assert {name: row.props[name] for name in started} == started

    other = _agreed(new_machine, "dot-ai")
    (row,) = _told(other, "server_started", {"k8s_version": "1.33.1", "deployment_method": "helm"})
    assert (row.event, row.props["k8s_version"]) == ("server_started", "1.33.1")

    own = _agreed(new_machine, "tallyd")
    _start(own.pipeline)
    (row,) = own.deliver()
    assert (row.event, sorted(row.props), row.props["startup_ms"]) == (
        "daemon_started",
        ["daemon_version", "python_version", "startup_ms"],
        12,
    )


def _start(pipeline: Pipeline) -> int:
    holder = Holder(pid=1, role="daemon", version="0.1.0", started_at=pipeline.clock.now())
    views = pipeline.passes.views()
    return heartbeat.record_start(pipeline.store, holder, 12, views, pipeline.clock.now())


def test_e10_a_stop_is_told_once_with_its_uptime_and_a_crash_wins(new_machine: NewMachine):
    machine = _agreed(new_machine, "tallyd")
    run, views = _start(machine.pipeline), machine.pipeline.passes.views()
    for reason in (StopReason.CRASH, StopReason.REQUEST, StopReason.SIGNAL):
        heartbeat.record_stop(machine.pipeline.store, run, reason, 61.7, views, machine.clock.now())
    # Who is killed hard says nothing; the next start does.
    _start(machine.pipeline)
    holder = Holder(pid=2, role="daemon", version="0.1.0", started_at=machine.clock.now())
    with hold_lock(machine.pipeline.around.paths, holder) as held:
        held.previous_beat = machine.clock.now() + 180
        heartbeat.recover(machine.pipeline.store, held, views)
    stops = [row.props for row in machine.deliver() if row.event == "daemon_stopped"]
    assert stops == [{"reason": "crash", "uptime_s": 61}, {"reason": "unclean", "uptime_s": 180}]

    ktx = _agreed(new_machine, "ktx-v2")
    told = [{"reason": one, "uptimeMs": 9} for one in ("crash", "request", "signal")]
    rows = _told(ktx, "daemon_stopped", *told)
    assert [row.props["reason"] for row in rows] == ["crash"]

    dot_ai = _agreed(new_machine, "dot-ai")
    (row,) = _told(dot_ai, "server_stopped", {"uptime_seconds": 86412}, {"uptime_seconds": 86413})
    assert row.props["uptime_seconds"] == 86412


@pytest.mark.slow
def test_e10_a_signal_is_told_as_a_signal_by_a_daemon_that_got_one(home: Path):
    with recording() as recorder:
        more = {"TALLYD_TELEMETRY_ENDPOINT": recorder.url}
        tallyd(home, "contract", "add", str(CONTRACTS / "tallyd.toml"))
        tallyd(home, "on", "tallyd")
        with daemon(home, **more) as process:
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
        tallyd(home, "flush", **more)
        stops = [
            one["props"]["reason"]
            for body in recorder.batches
            for one in body["events"]
            if one["event"] == "daemon_stopped"
        ]

    assert stops == ["signal"]


def test_e11_a_client_that_told_its_name_is_told_of_as_connected(new_machine: NewMachine):
    machine = _agreed(new_machine, "dot-ai")
    rows = _told(
        machine,
        "client_connected",
        {"mcp_client": "cursor", "mcp_client_version": "0.50.1"},
        {"mcp_client": "claude-code", "mcp_client_version": "2.1.7", "transport": "stdio"},
        {"mcp_client": "", "mcp_client_version": "1"},
        {"mcp_client_version": "1"},
        {},
    )

    assert [(row.props["mcp_client"], row.props.get("transport")) for row in rows] == [
        ("cursor", None),
        ("claude-code", "stdio"),
    ]


@pytest.mark.slow
def test_e12_the_stack_of_a_project_is_told_once_per_process_and_project(new_machine: NewMachine):
    machine = _agreed(new_machine, "ktx-v2")
    stack = {
        "connectors": [
            {"driver": "postgres", "isDemo": False},
            {"driver": _SECRET, "isDemo": True},
        ],
        "connectionCount": 2,
        "hasSl": True,
        "hasWiki": False,
        "hasMcp": True,
        "hasManagedRuntime": True,
    }
    code = f"""
client = Client(contract=contract)
for path in ("/srv/a", "/srv/b", "/srv/a", "/srv/a/"):
    client.event("project_stack_snapshot", project=client.project(path), **{stack!r})
    client.drain()
"""
    for _ in range(2):
        start_program(machine.home, code, machine.constants, now=machine.clock.time).communicate(
            timeout=60
        )
    rows = machine.deliver()
    projects = [row.groups["project"] for row in rows]

    assert (len(projects), len(set(projects))) == (4, 2)
    assert {projects.count(one) for one in projects} == {2}
    assert rows[0].props["connectors"] == [{"driver": "postgres", "isDemo": False}]


def test_e13_a_number_is_told_as_its_bucket_whose_lower_edge_is_inside(new_machine: NewMachine):
    machine = _agreed(new_machine, "codegraph")
    numbers = {
        (99, 9_999): ("<100", "<10s"),
        (100, 10_000): ("100-1k", "10-60s"),
        (999, 59_999): ("100-1k", "10-60s"),
        (1_000, 60_000): ("1k-10k", "1-5m"),
        (9_999, 299_999): ("1k-10k", "1-5m"),
        (10_000, 300_000): ("10k+", "5m+"),
        (73_912_345, 0): ("10k+", "<10s"),
    }
    rows = _told(
        machine, "index", *({"file_count_bucket": a, "duration_bucket": b} for a, b in numbers)
    )
    assert [(row.props["file_count_bucket"], row.props["duration_bucket"]) for row in rows] == list(
        numbers.values()
    )
    assert b"73912345" not in machine.everything() + machine.sent

    edges = {9_999: "<10k", 10_000: "<100k", 1_000_000: "<10M", 10_000_000: ">=10M"}
    other = _agreed(new_machine, "ktx-v2")
    ingest = {"durationMs": 1, "outcome": "ok"}
    rows = _told(other, "ingest_completed", *({**ingest, "rowsBucket": one} for one in edges))
    assert [row.props["rowsBucket"] for row in rows] == list(edges.values())


def test_e14_whether_it_was_the_demo_connection_is_told(new_machine: NewMachine):
    machine = _agreed(new_machine, "ktx-v2")
    test = {**_CONNECTION, "driver": "postgres"}
    given: list[Any] = [True, False, 1, "yes"]
    rows = _told(machine, "connection_test", *({**test, "isDemoConnection": one} for one in given))

    assert [row.props.get("isDemoConnection") for row in rows] == [True, False, None, None]


def test_e15_how_it_was_used_is_one_of_the_kinds_that_may_tell(new_machine: NewMachine):
    """From where Pipelex bars telemetry nothing passes, in a host nor in the daemon."""
    machine = _agreed(new_machine, "pipelex")
    kinds = ["cli", "docker", "fastapi", "mcp", "n8n"]
    told = [{"integration": one, "nb_pipes": 1} for one in (*kinds, "ci", "pytest", "python", None)]
    rows = _told(machine, "pipes_list", *told)
    for one in ("ci", "mcp"):
        machine.drop(("pipes_list", {"integration": one, "nb_pipes": 1}))
    rows += machine.deliver()

    assert [row.props["integration"] for row in rows] == [*kinds, "mcp"]


def test_e16_every_runtime_has_the_one_catalogue(tmp_path: Path):
    """What the daemon parses, what is built for a host, and what a host reads of the file itself."""
    for name in SYSTEMS:
        content = (CONTRACTS / f"{name}.toml").read_bytes()
        parsed = parse_contract(content, name)
        module = tmp_path / "built.py"
        module.write_text(render_python(parsed, f"{name}.toml"))
        constants = runpy.run_path(str(module))["CONTRACT"]

        assert constants == built(parsed)
        assert constants == constants_of(content), name
        assert parse_contract(constants["text"].encode(), name).digest == constants["digest"]
        assert set(constants["events"]) == set(parsed.events)
        for event, one in parsed.events.items():
            told = constants["events"][event]
            fields = told["dimensions" if isinstance(one, Rollup) else "properties"]
            assert set(fields) == set(one.fields), event
            assert {k for k, v in fields.items() if v.get("optional")} == {
                k for k, v in one.fields.items() if v.is_optional
            }, event
        assert list(constants["envelope"]) == list(parsed.envelope)

    names = vector("ktx_events_all.json")
    listed = set(parse_contract((CONTRACTS / "ktx-v2.toml").read_bytes(), "").events)
    assert ({one["event"] for one in names} <= listed, len(listed)) == (True, 18)

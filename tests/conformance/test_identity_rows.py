"""Rows I1 to I11 of the acceptance table: whose a row is, and what every row carries."""

from __future__ import annotations

import hashlib
import json
import uuid
from pathlib import Path

import pytest
from support.clock import DAY_S
from support.gateway import Gateway, encoded, vector
from support.machine import NewMachine, run_program

_PROJECT = "/srv/demo/analytics-workspace"
_KTX_ENVELOPE = {
    "nodeVersion": "v22.16.0",
    "osRelease": "6.8.0-57-generic",
    "arch": "x64",
    "runtime": "node",
}
_ENVELOPES = {
    "ktx-v2": {"cliVersion", "osPlatform", "isCi", *_KTX_ENVELOPE},
    "dot-ai": {"dot_ai_version", "ai_provider", "is_internal"},
    "pipelex": {"pipelex_version"},
    "codegraph": {"codegraph_version", "os", "arch", "node_major", "ci", "schema_version"},
}
_GIVEN = {
    "ktx-v2": _KTX_ENVELOPE,
    "dot-ai": {"ai_provider": "anthropic", "is_internal": False},
    "codegraph": {"node_major": 22},
}


def test_i01_the_install_id_is_a_random_uuid_and_what_is_none_means_off(new_machine: NewMachine):
    ids = []
    for name in ("codegraph", "ktx-v2", "tallyd"):
        for _ in range(2):
            machine = new_machine(name)
            machine.choose("on")
            machine.use(machine.host())
            machine.clock.pass_s(DAY_S)
            ids += [row.id for row in machine.deliver()]
        kept = machine.state_file.read_text()
        for wrong in ("not-an-id", ids[-1].replace("-", ""), "0", ids[-1] + "0"):
            machine.state_file.write_text(kept.replace(ids[-1], wrong))
            assert (machine.decided(), wrong) == (("off", "off"), wrong)
    minted = new_machine("ktx-v2")
    minted.host().project(_PROJECT)
    ids.append(json.loads(minted.state_file.read_text())["installId"])

    assert (len(ids), len(set(ids))) == (7, 7)
    assert {(uuid.UUID(one).version, str(uuid.UUID(one)) == one) for one in ids} == {(4, True)}


def test_i02_a_cluster_has_a_derived_id_and_without_one_a_random_id_is_kept(
    new_machine: NewMachine,
):
    said = vector("dotai_events.json")["instance_id"]
    machine = new_machine("dot-ai")
    machine.use(machine.host(identity=said["kube_system_uid"]))
    for _ in range(2):
        client = machine.host()
        machine.use(client)
        client.close()
    rows = machine.deliver_after_grace()
    digest = hashlib.sha256(said["kube_system_uid"].encode()).hexdigest()

    ids = sorted({row.id for row in rows})
    assert (len(rows), ids[0]) == (3, said["distinctId"])
    assert said["distinctId"] == f"cluster_{digest[:16]}"
    # Two restarts, one instance.
    assert (len(ids), ids[1][:6], len(ids[1])) == (2, "local_", 22)
    assert int(ids[1][6:], 16) >= 0
    assert said["kube_system_uid"].encode() not in machine.everything() + machine.sent


def test_i03_the_users_own_id_travels_in_the_mode_identified_alone(new_machine: NewMachine):
    found = {}
    for mode in ("anonymous", "identified"):
        machine = new_machine("pipelex")
        machine.choose("identified", "user-41")
        text = machine.state_file.read_text()
        machine.state_file.write_text(text.replace('"identified"', f'"{mode}"'))
        machine.use(machine.host())
        machine.drop()
        rows = machine.deliver()
        found[mode] = len(rows), {row.id == "user-41" for row in rows}, b"user-41" in machine.sent

    assert found == {"anonymous": (2, {False}, False), "identified": (2, {True}, True)}


@pytest.mark.slow
def test_i04_several_runtimes_share_one_file_that_no_reader_creates(new_machine: NewMachine):
    """A process of its own, two hosts here and the daemon; only who needs the id writes it down."""
    machine = new_machine("ktx-v2")
    first, second = machine.host(), machine.host()
    machine.use(first)
    machine.use(second)
    machine.decided()
    machine.deliver()
    read_only = machine.state_file.exists()
    hashed = first.project(_PROJECT)
    minted = json.loads(machine.state_file.read_text())["installId"]
    out, _ = run_program(
        machine.home,
        f'client = Client(contract=contract)\nprint(client.project({_PROJECT!r}), end="")',
        machine.constants,
    )
    machine.clock.pass_s(DAY_S)
    rows = machine.deliver()
    machine.drop()
    rows += machine.deliver()

    assert (read_only, {row.id for row in rows}, len(rows)) == (False, {minted}, 3)
    assert (hashed, second.project(_PROJECT)) == (out, out)
    assert json.loads(machine.state_file.read_text())["installId"] == minted


def test_i05_a_project_is_the_sha256_of_install_id_and_absolute_path(new_machine: NewMachine):
    said = vector("ktx_project_hash.json")
    machine = new_machine("ktx-v2")
    machine.state_file.parent.mkdir()
    identity = vector("ktx_identity.json")
    machine.state_file.write_text(json.dumps(identity))
    text = f"{said['installId']}:{said['projectDir_absolute']}"

    hashed = machine.host().project(said["projectDir_absolute"])
    assert hashed == said["projectId"] == hashlib.sha256(text.encode()).hexdigest()
    other = str(uuid.UUID(int=1, version=4))
    machine.state_file.write_text(json.dumps({**identity, "installId": other}))
    again = machine.host().project(said["projectDir_absolute"] + "/")
    assert again == hashlib.sha256(f"{other}:{_PROJECT}".encode()).hexdigest()


def test_i06_the_daemon_gets_the_hash_alone_and_never_the_path(new_machine: NewMachine):
    """Also where a host gives the path itself in the place of the hash."""
    machine = new_machine("ktx-v2")
    client = machine.host()
    added = {"driver": "postgres", "isDemoConnection": False}
    machine.tell(client, "connection_added", project=client.project(_PROJECT), **added)
    machine.tell(client, "connection_added", project=_PROJECT, **added)
    spool = b"".join((machine.home / one).read_bytes() for one in machine.dropped())
    machine.drop(("connection_added", {"project": _PROJECT, **added}))
    rows = machine.deliver_after_grace()
    kept = b"".join(
        file.read_bytes() for file in (machine.home / "state").rglob("*") if file.is_file()
    )

    assert sorted(len(row.groups) for row in rows) == [0, 0, 1]
    assert b"analytics-workspace" not in spool + machine.sent
    assert b"analytics-workspace" not in kept


def test_i07_a_project_is_a_posthog_group_and_no_property(new_machine: NewMachine):
    machine = new_machine("ktx-v2")
    client = machine.host()
    hashed = client.project(_PROJECT)
    machine.tell(client, "connection_added", project=hashed, driver="x", isDemoConnection=True)
    machine.deliver_after_grace()
    (one,) = machine.recorder.batches[0]["batch"]

    assert one["properties"]["$groups"] == {"project": hashed}
    assert "project" not in one["properties"]


@pytest.mark.slow
def test_i08_the_envelope_is_that_of_the_contract_and_made_once_per_process(
    new_machine: NewMachine,
):
    for name, fields in _ENVELOPES.items():
        machine = new_machine(name)
        machine.choose("anonymous" if name == "pipelex" else "on")
        given = dict(_GIVEN.get(name, {}))
        client = machine.host(version="1.6.2", envelope={**given, "extra": "x"})
        machine.use(client)
        # What changes later is another process's.
        machine.say(CI="0")
        for one in given:
            given[one] = None
        client._policy.version = "9"
        machine.use(client)
        rows = machine.deliver_after_grace()
        event = {*machine.contract.events[rows[0].event].fields} | {"count", "error_count"}
        carried = [
            {
                k: v
                for k, v in {**row.props, **row.envelope}.items()
                if k not in event and k[0] != "$"
            }
            for row in rows
        ]
        assert (name, set(carried[0])) == (name, fields)
        assert {json.dumps(one, sort_keys=True) for one in carried} == {
            json.dumps(carried[0], sort_keys=True)
        }
        assert "1.6.2" in carried[0].values()


def test_i09_a_row_says_truly_whether_it_is_from_a_test_or_from_ci(new_machine: NewMachine):
    found = []
    for name, field, ci, given in (
        ("codegraph", "ci", "true", {}),
        ("codegraph", "ci", "false", {}),
        ("dot-ai", "is_internal", None, {"is_internal": True}),
        ("dot-ai", "is_internal", None, {"is_internal": False}),
        ("dot-ai", "is_internal", None, {"is_internal": "yes"}),
        ("ktx-v2", "isCi", "0", {}),
    ):
        machine = new_machine(name)
        machine.choose("on")
        machine.say(CI=ci)
        machine.use(machine.host(envelope=given))
        (row,) = machine.deliver_after_grace()
        found.append((name, {**row.props, **row.envelope}.get(field)))

    assert found == [
        ("codegraph", True),
        ("codegraph", False),
        ("dot-ai", True),
        ("dot-ai", False),
        ("dot-ai", None),
        ("ktx-v2", False),
    ]


@pytest.mark.slow
def test_i10_the_wire_says_which_schema_and_the_gateway_takes_older_ones(
    new_machine: NewMachine, tmp_path: Path
):
    bodies = []
    for version in (2, 1):
        machine = new_machine("codegraph", ("schema_version = 2", f"schema_version = {version}"))
        machine.choose("on")
        machine.use(machine.host(version="1.0.0", envelope={"node_major": 22}))
        machine.clock.pass_s(DAY_S)
        assert [row.envelope["schema_version"] for row in machine.deliver()] == [version]
        bodies.append(machine.recorder.batches[0])
    bodies.append(vector("codegraph_batch_schema_v1.json"))
    with Gateway.open(tmp_path / "gateway.db", "codegraph") as gateway:
        gateway.clock.pass_s(DAY_S)
        answers = [gateway.post(encoded(body)).status for body in bodies]
        stored = gateway.stored()

    # Of the older version what is still listed is kept: `sqlite_backend` is not.
    assert (answers, len(stored.rows)) == ([204, 204, 204], 2)
    assert [(one["event"], len(one["properties"])) for one in stored.events] == [
        ("install", 3),
        ("index", 3),
    ]


def test_i11_name_and_version_of_the_client_are_what_it_told_and_absent_when_not(
    new_machine: NewMachine,
):
    names = {
        "codegraph": (
            "usage_rollup",
            {"kind": "mcp_tool", "name": "x"},
            "client_name",
            "client_version",
        ),
        "ktx-v2": (
            "mcp_request_completed",
            {"toolName": "sql", "outcome": "ok", "durationMs": 1},
            "mcpClientName",
            "mcpClientVersion",
        ),
        "dot-ai": (
            "tool_executed",
            {"tool": "recommend", "success": True, "duration_ms": 1},
            "mcp_client",
            "mcp_client_version",
        ),
    }
    for system, (event, props, name, version) in names.items():
        machine = new_machine(system)
        machine.choose("on")
        client = machine.host()
        machine.tell(client, event, **props)
        machine.tell(client, event, **props, **{name: "Claude Code", version: "2.1.7"})
        machine.tell(client, event, **props, **{name: "n" * 99, version: "1" * 99})
        machine.clock.pass_s(DAY_S)
        rows = machine.deliver()
        told = {(row.props.get(name), row.props.get(version)) for row in rows}

        assert (system, told) == (
            system,
            {(None, None), ("Claude Code", "2.1.7"), ("n" * 64, "1" * 32)},
        )
        assert sum(name in row.props for row in rows) == 2

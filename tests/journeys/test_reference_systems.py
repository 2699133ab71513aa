"""Each reference system from end to end: a host with the stub, the spool, the daemon, an endpoint.

Real processes, files and requests; only the time is pretended, so that the bodies can be compared with
the samples field by field.
"""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from support.clock import FakeClock
from support.hosts import STUB
from support.pipeline import Pipeline
from support.processes import CONTRACTS, ROOT, daemon, environ_of, tallyd
from support.recorder import Recorder, recording
from tallyd.contract import parse_contract
from tallyd.contract.build import built
from tallyd.contract.days import unix_of

_HOST = Path(__file__).with_name("reference_host.py")
_VECTORS = ROOT / "tests" / "vectors"
_PROJECT = "/srv/demo/analytics-workspace"
_FLAGS = {"$process_person_profile": False, "$geoip_disable": True, "$lib": "tallyd"}
_DAY_S = 86400.0

Json = dict[str, Any]


def vector(name: str) -> Any:
    return json.loads((_VECTORS / name).read_text())


def at(instant: str) -> float:
    """Unix seconds; a tenth of a millisecond later, since a float of it may lie before."""
    found = unix_of(instant)
    assert found is not None
    return found + 0.0001


@dataclass
class System:
    """One reference system on one machine: its contract, its hosts, and the endpoint that it meets."""

    pipeline: Pipeline
    recorder: Recorder
    contract: Path
    product: str
    started: int = 0
    environ: dict[str, str] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        return self.pipeline.home

    def host(self, steps: list[Json], **plan: Any) -> str:
        """Run a host through these steps on a terminal, and give what it printed there."""
        self.started += 1
        file = self.home / f"plan-{self.started}.json"
        parsed = parse_contract(self.contract.read_bytes(), str(self.contract))
        whole = {
            "contract": built(parsed),
            "at": steps[0]["at"],
            "ends": steps[-1]["at"],
            "steps": steps,
            "client": {},
            **plan,
        }
        file.write_text(json.dumps(whole))
        ours, terminal = pty.openpty()
        try:
            subprocess.run(
                [sys.executable, str(_HOST), str(file)],
                env=environ_of(self.home, PYTHONPATH=str(STUB), **self.environ),
                stdin=subprocess.DEVNULL,
                stdout=terminal,
                stderr=terminal,
                check=True,
                timeout=120,
            )
            os.write(terminal, b"\0")
            screen = b""
            while not screen.endswith(b"\0"):
                screen += os.read(ours, 4096)
            return screen[:-1].decode()
        finally:
            os.close(terminal)
            os.close(ours)

    def deliver(self) -> None:
        """One merge and one delivery, as the daemon does them."""
        self.pipeline.intake(self.product)
        delivery = self.pipeline.deliver(self.product)
        assert not delivery.problem, delivery.problem

    def arrive(self) -> list[Json]:
        """Merge, wait out the notice's grace, send; returns the bodies that arrived."""
        self.deliver()
        assert self.recorder.bodies == [], "before the notice and its grace nothing leaves"
        self.pipeline.clock.pass_s(_DAY_S)
        self.deliver()
        return self.recorder.batches


@contextmanager
def system(home: Path, contract: str, now: str, endpoint_env: str) -> Iterator[System]:
    """A machine on which a system's hosts are about to run; `now` is the daemon's time."""
    clock = FakeClock(at(now))
    with Pipeline.open(home, clock) as pipeline, recording() as recorder:
        file = CONTRACTS / f"{contract}.toml"
        parsed = parse_contract(file.read_bytes(), str(file))
        base = recorder.url.removesuffix("/v1/events")
        is_posthog = parsed.endpoint.protocol == "posthog-batch"
        pipeline.environ[endpoint_env] = base if is_posthog else recorder.url
        yield System(pipeline, recorder, file, parsed.product)


def adopt(home: Path, path: str, content: str) -> Path:
    """Put a product's own state file where it has always been."""
    file = home / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content)
    return file


def captured(bodies: list[Json]) -> list[Json]:
    """The events of PostHog bodies in the samples' form; the flags that each must carry are checked."""
    found = []
    for body in bodies:
        for one in body["batch"]:
            properties = dict(one["properties"])
            flags = {name: properties.pop(name, None) for name in _FLAGS}
            assert flags == _FLAGS
            groups = properties.pop("$groups", None)
            event = {
                "distinctId": one["distinct_id"],
                "event": one["event"],
                "properties": properties,
            }
            found.append(event | ({"groups": groups} if groups else {}))
    return found


# --- CodeGraph: events-v1 -------------------------------------------------------------------------


@pytest.mark.slow
def test_codegraph_arrives_as_its_sample(home):
    sample = vector("codegraph_batch.json")
    install, index, explore, affected, uninstall = sample["events"]
    adopt(home, ".codegraph/telemetry.json", (_VECTORS / "codegraph_config.json").read_text())
    with system(
        home, "codegraph", "2026-09-21T10:00:00.000Z", "CODEGRAPH_TELEMETRY_ENDPOINT"
    ) as it:
        counted = at("2026-09-20T15:00:00.000Z")
        steps = [
            {
                "event": "usage_rollup",
                "at": counted,
                "props": {
                    k: v for k, v in one["props"].items() if k not in ("count", "error_count")
                },
                "count": one["props"]["count"],
                "errors": one["props"]["error_count"],
            }
            for one in (explore, affected)
        ]
        it.host(steps, client={"version": "1.6.2", "envelope": {"node_major": 22}}, ends=counted)
        numbers = {"file_count_bucket": 1234, "duration_bucket": 15_000}
        told = [
            {"event": one["event"], "at": at(one["ts"]), "props": one["props"]}
            for one in (install, index, uninstall)
        ]
        told[1]["props"] = {**index["props"], **numbers}
        client = {"version": "1.6.2", "envelope": {"node_major": 22}}
        silent = [it.host([one], client=client) for one in told[:2]]
        it.deliver()
        asked = it.host(told[2:], client=client)
        (body,) = it.arrive()

        # The notice comes right before the first send: when there was one to come, in the next run.
        assert (silent, asked.count("codegraph collects pseudonymous")) == (["", ""], 1)
        ours = {name: body.pop(name) for name in ("batch_id", "product", "contract", "sent_at")}
        assert in_order(body.pop("events")) == in_order(sample.pop("events"))
        assert (body, ours["product"]) == (sample, "codegraph")


@pytest.mark.slow
@pytest.mark.parametrize("source", ["cli", "default-notice"])
def test_a_wider_contract_is_told_of_by_the_host_and_only_then_in_force(home, source):
    """Whoever said yes once, or was told once, hears of more before more of it leaves."""
    config = vector("codegraph_config.json") | {"consent_source": source}
    adopt(home, ".codegraph/telemetry.json", json.dumps(config))
    start = at("2026-09-21T10:00:00.000Z")
    client = {"version": "1.6.2"}
    with system(
        home, "codegraph", "2026-09-21T10:00:00.000Z", "CODEGRAPH_TELEMETRY_ENDPOINT"
    ) as it:

        def use(day: int, *kinds: str) -> str:
            """Count on the day before, then let the daemon do its round today."""
            then = start + (day - 1) * _DAY_S
            steps = [
                {
                    "event": "usage_rollup",
                    "at": then + place,
                    "props": {"kind": kind, "name": "explore"},
                    "count": 1,
                    "errors": 0,
                }
                for place, kind in enumerate(kinds)
            ]
            printed = it.host(steps, client=client)
            it.pipeline.clock.time = start + day * _DAY_S
            it.deliver()
            return printed

        printed = [use(day, "mcp_tool") for day in (0, 1, 2, 3)]
        wider = home / "wider.toml"
        wider.write_text(
            it.contract.read_text().replace('"cli_command"]', '"cli_command", "hook"]')
        )
        it.contract = wider
        printed += [use(day, "mcp_tool", "hook") for day in (4, 5, 6, 7)]
        notices = [text.count("codegraph collects pseudonymous") for text in printed]
        arrived = [
            {event["props"]["kind"] for event in batch["events"]} for batch in it.recorder.batches
        ]

    # Before the first send for those who never chose; once more for the wider contract, for all.
    assert notices == [0, int(source != "cli"), 0, 0, 0, 1, 0, 0]
    with_hook = [place for place, kinds in enumerate(arrived) if "hook" in kinds]
    assert (with_hook, len(arrived) > 2) == ([len(arrived) - 2, len(arrived) - 1], True), arrived


# --- ktx: posthog-batch, a strict file, a project's hash ------------------------------------------

_KTX_ENVELOPE = ("cliVersion", "nodeVersion", "osPlatform", "osRelease", "arch", "runtime", "isCi")
_KTX_AT = "2026-09-21T09:00:00.000Z"
# What a host says where its contract has something else on the wire.
_KTX_NUMBERS = {"rowsBucket": 4711}


def _ktx_steps(samples: list[Json]) -> list[Json]:
    steps = []
    for place, sample in enumerate(samples):
        props = {k: v for k, v in sample["properties"].items() if k not in _KTX_ENVELOPE}
        # The rate is the stub's to say, the numbers of buckets are the host's.
        props.pop("sampleRate", None)
        props |= {name: one for name, one in _KTX_NUMBERS.items() if name in props}
        if "flagsPresent" in props:
            props["flagsPresent"] = list(props["flagsPresent"])
        step = {"event": sample["event"], "at": at(_KTX_AT) + place, "props": props}
        steps.append(step | ({"project": _PROJECT} if "groups" in sample else {}))
    return steps


def _ktx(home: Path, contract: str, samples: list[Json], **environ: str) -> tuple[str, list[Json]]:
    """What a ktx on this machine prints, and what arrives of it: one host for each of its runtimes."""
    adopt(home, ".ktx/telemetry.json", (_VECTORS / "ktx_identity.json").read_text())
    printed = ""
    with system(home, contract, "2026-09-21T10:00:00.000Z", "KTX_TELEMETRY_ENDPOINT") as it:
        it.environ = environ
        for runtime in ("node", "daemon-py"):
            mine = [one for one in samples if one["properties"]["runtime"] == runtime]
            if not mine:
                continue
            envelope = {name: mine[0]["properties"][name] for name in _KTX_ENVELOPE}
            printed += it.host(
                _ktx_steps(mine),
                client={"version": envelope["cliVersion"], "envelope": envelope},
                register={"toolName": ["sl_query", "sql"]},
            )
        return printed, captured(it.arrive())


@pytest.mark.slow
def test_every_event_of_ktx_v2_arrives_as_its_sample(home):
    samples = [*vector("ktx_events_all.json"), vector("ktx_event.json")]
    printed, found = _ktx(home, "ktx-v2", samples, KTX_TELEMETRY_ERROR_DETAIL="1")

    assert in_order(found) == in_order(samples)
    assert printed.count("ktx collects pseudonymous usage data") == 1
    assert len({one["event"] for one in found}) == 18


@pytest.mark.slow
def test_every_event_of_ktx_v1_arrives_as_its_sample_and_sampled_ones_tell_their_rate(home):
    later = ("errorDetail", "mcpClientName", "mcpClientVersion")
    samples = [
        {**one, "properties": {k: v for k, v in one["properties"].items() if k not in later}}
        for one in vector("ktx_events_all.json")
        if one["event"] not in ("mcp_request_completed", "query_history_filter_completed")
    ]
    sampled = vector("ktx_v1_mcp_sampled.json")
    # One process in ten tells of its tool calls: run until one does.
    _, found = _ktx(home, "ktx-v1", samples)

    assert in_order(found) == in_order(samples)
    for attempt in range(200):
        other = home / f"machine-{attempt}"
        other.mkdir()
        _, found = _ktx(other, "ktx-v1", [samples[1], sampled])
        if len(found) == 2:
            break
        assert in_order(found) == [samples[1]]
    assert in_order(found) == in_order([samples[1], sampled])


@pytest.mark.slow
def test_the_adopted_file_of_ktx_stays_its_own(home):
    """Strict: one key more, and ktx would call it invalid and make a new one that is on."""
    before = vector("ktx_identity.json")
    _ktx(home, "ktx-v2", [vector("ktx_event.json")])

    assert before == json.loads((home / ".ktx/telemetry.json").read_text())


# --- dot-ai: a derived id, its own host and key ---------------------------------------------------


@pytest.mark.slow
def test_every_event_of_dot_ai_arrives_as_its_sample(home):
    said = vector("dotai_events.json")
    uid = said["instance_id"]["kube_system_uid"]
    envelope = {"ai_provider": "anthropic", "is_internal": False}
    own = ("dot_ai_version", *envelope)
    steps = [
        {
            "event": one["event"],
            "at": at(_KTX_AT) + place,
            "props": {k: v for k, v in one["properties"].items() if k not in own},
        }
        for place, one in enumerate(said["events"])
    ]
    with system(home, "dot-ai", "2026-09-21T10:00:00.000Z", "DOT_AI_POSTHOG_HOST") as it:
        it.pipeline.environ["DOT_AI_POSTHOG_KEY"] = "phc_of_the_company"
        printed = it.host(
            steps,
            client={"version": "1.14.0", "envelope": envelope, "identity": uid},
            register={"tool": ["recommend", "operate"]},
        )
        bodies = it.arrive()
        everything = b"".join(one.read_bytes() for one in home.rglob("*") if one.is_file())

    assert in_order(captured(bodies)) == in_order(said["events"])
    assert {body["api_key"] for body in bodies} == {"phc_of_the_company"}
    assert printed.count("dot-ai collects pseudonymous") == 1
    # The value that the id is derived from stays in the host.
    assert everything.replace((home / "plan-1.json").read_bytes(), b"").count(uid.encode()) == 0


@pytest.mark.slow
def test_without_a_cluster_dot_ai_is_one_instance_across_restarts(home):
    step = {"event": "server_started", "at": at(_KTX_AT), "props": {}}
    with system(home, "dot-ai", "2026-09-21T10:00:00.000Z", "DOT_AI_POSTHOG_HOST") as it:
        for _ in range(2):
            it.host([step], client={"version": "1.14.0"})
        ids = {one["distinctId"] for one in captured(it.arrive())}

    assert len(ids) == 1
    (only,) = ids
    assert (only[:6], len(only)) == ("local_", len("local_") + 16)


# --- Pipelex: asked first, three modes -------------------------------------------------------------

_TOML = """\
telemetry_mode = "{mode}"
host = "https://posthog.example.invalid"
project_api_key = "phc_EXAMPLE_NOT_A_REAL_KEY"
respect_dnt = true
redact = ["prompt", "system_prompt", "response", "file_path", "url"]
user_id = "{user}"
"""


def _pipelex(home: Path, mode: str, samples: list[Json], user: str = "") -> list[Json]:
    """The events of PostHog bodies, of a user who chose that mode before; None stands for no file."""
    if mode:
        adopt(home, ".pipelex/telemetry.toml", _TOML.format(mode=mode, user=user))
    steps = [
        {
            "event": one["event"],
            "at": at(_KTX_AT) + place,
            "props": {
                name: value
                for name, value in one["properties"].items()
                if name != "pipelex_version" and not name.startswith("$")
            },
        }
        for place, one in enumerate(samples)
    ]
    with system(home, "pipelex", "2026-09-21T10:00:00.000Z", "UNUSED") as it:
        contract = it.contract.read_text().replace(
            'url = "https://eu.i.posthog.com"',
            f'url = "{it.recorder.url.removesuffix("/v1/events")}"',
        )
        it.contract = home / "pipelex-here.toml"
        it.contract.write_text(contract)
        it.host(steps, client={"version": "0.14.3"})
        if mode in ("", "off"):
            assert not (home / "state" / "spool").exists()
            return []
        it.deliver()
        return [one for body in it.recorder.batches for one in body["batch"]]


def _own(one: Json) -> Json:
    """Its properties without what the protocol adds for every product."""
    return {k: v for k, v in one["properties"].items() if k not in ("$geoip_disable", "$lib")}


@pytest.mark.slow
def test_pipelex_anonymous_arrives_as_its_sample_each_event_from_a_stranger(home):
    said = vector("pipelex_events.json")
    samples = [said["just_enabled"], said["anonymous"], said["anonymous"]]
    # The id that once was given stays in the file, and there alone.
    found = _pipelex(home, "anonymous", samples, user="user-41")

    assert "user-41" not in json.dumps(found)
    flag = {"$process_person_profile": False}
    wanted = [{**one["properties"], **flag} for one in samples]
    assert in_order([_own(one) for one in found]) == in_order(wanted)
    assert [one["event"] for one in found] == [one["event"] for one in samples]
    assert len({one["distinct_id"] for one in found}) == 3


@pytest.mark.slow
def test_pipelex_identified_arrives_as_its_sample_under_the_users_own_id(home):
    sample = vector("pipelex_events.json")["identified"]
    (found,) = _pipelex(home, "identified", [sample], user="user-41")

    assert sample == {name: found[name] for name in ("event", "distinct_id")} | {
        "properties": _own(found)
    }


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["", "off"])
def test_pipelex_counts_nothing_before_it_was_asked_and_when_it_was_told_no(home, mode):
    assert _pipelex(home, mode, [vector("pipelex_events.json")["anonymous"]]) == []


# --- tallyd itself ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_tallyds_own_start_and_stop_leave_only_once_somebody_said_so(home):
    told = []
    for choice in ("", "on"):
        machine = home / f"machine{choice}"
        machine.mkdir()
        with recording() as recorder:
            more = {"TALLYD_TELEMETRY_ENDPOINT": recorder.url}
            tallyd(machine, "contract", "add", str(CONTRACTS / "tallyd.toml"))
            if choice:
                tallyd(machine, "on", "tallyd")
            with daemon(machine, **more):
                pass
            tallyd(machine, "flush", **more)
            told.append([one for batch in recorder.batches for one in batch["events"]])

    assert told[0] == []
    started, stopped = told[1]
    assert (started["event"], sorted(started["props"])) == (
        "daemon_started",
        ["daemon_version", "python_version", "startup_ms"],
    )
    assert (stopped["event"], stopped["props"]["reason"]) == ("daemon_stopped", "signal")


def in_order(found: list[Json]) -> list[Json]:
    """The same, in an order that is nobody's."""
    return sorted(found, key=lambda one: json.dumps(one, sort_keys=True))

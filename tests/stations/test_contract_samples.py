"""The contracts of five real systems: each says exactly what its system sends, and better where that is a defect."""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from support.gateway import contract_of, vector
from tallyd.contract import Contract
from tallyd.contract.consent import Choice, StoredChoice, resolve
from tallyd.contract.fields import (
    REFUSED,
    TOKEN_ALPHABET,
    Boolean,
    Bucket,
    Enum,
    ErrorClass,
    FieldType,
    Hash,
    Integer,
    List,
    Names,
    Number,
    Record,
    Redacted,
    Text,
)
from tallyd.contract.model import EnvSwitch, Event, Field, Identity, Rollup, Sampling, StateFile
from tallyd.contract.screen import (
    event_on_wire,
    from_wire,
    screen_counts,
    screen_envelope,
    screen_event,
    split_rollup,
    to_wire,
)

CONTRACTS = {
    name: contract_of(name)
    for name in ("codegraph", "ktx-v1", "ktx-v2", "dot-ai", "pipelex", "tallyd")
}
KTX = ("ktx-v1", "ktx-v2")
REFERENCES = ("codegraph", *KTX, "dot-ai", "pipelex")
# Before any day on which something expires.
DAY = "2026-06-08"

each = pytest.mark.parametrize("name", CONTRACTS)


# --- samples --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sample:
    """One event as a system sends it: envelope and own fields side by side, groups apart."""

    contract: str
    event: str
    properties: Mapping[str, object]
    groups: Mapping[str, object] = field(default_factory=dict)
    day: str = DAY

    @property
    def sent(self) -> dict[str, object]:
        """What a receiver sees of it."""
        return {**self.properties, **({"$groups": self.groups} if self.groups else {})}


def json_of(value: object) -> str:
    """As text, in which `true` is not 1, and 1 is not 1.0."""
    return json.dumps(value, sort_keys=True)


def listed(name: str, event: str) -> Event:
    """An event of a contract, by its name on the wire."""
    found = event_on_wire(CONTRACTS[name], event)
    assert found is not None, f"{name} does not list {event}"
    return found


def screened(sample: Sample) -> dict[str, object]:
    """What is left of a sample after each screen, under the names of the wire."""
    contract, event = CONTRACTS[sample.contract], listed(sample.contract, sample.event)
    outer = to_wire(contract.envelope, {one: one for one in contract.envelope})
    own = {one: value for one, value in sample.properties.items() if one not in outer}
    around = {one: value for one, value in sample.properties.items() if one in outer}
    envelope, _ = screen_envelope(contract, from_wire(contract.envelope, around), sample.day)
    given = {**from_wire(event.fields, own), **sample.groups}
    kept: dict[str, Any]
    if isinstance(event, Rollup):
        dimensions, measures = split_rollup(event, given)
        counts = screen_counts(contract, event.name, dimensions, measures, sample.day)
        assert counts is not None, "the whole row is refused"
        kept = {**counts.dimensions, **counts.measures}
    else:
        told = screen_event(contract, event.name, given, sample.day)
        assert told is not None, "the whole event is refused"
        kept = told.properties
    groups = {one: value for one, value in kept.items() if is_group(event, one)}
    plain = {one: value for one, value in kept.items() if one not in groups}
    return {
        **to_wire(contract.envelope, envelope),
        **to_wire(event.fields, plain),
        **({"$groups": groups} if groups else {}),
    }


def is_group(event: Event, name: str) -> bool:
    return name in event.fields and event.fields[name].is_group


def codegraph_samples() -> Iterator[Sample]:
    body = vector("codegraph_batch.json")
    # The request's own keys, not the envelope's.
    request = ("machine_id", "schema_version", "events")
    around = {name: value for name, value in body.items() if name not in request}
    for one in body["events"]:
        yield Sample("codegraph", one["event"], {**around, **one["props"]}, day=one["ts"][:10])


def ktx_samples() -> Iterator[Sample]:
    for one in [vector("ktx_event.json"), *vector("ktx_events_all.json")]:
        yield Sample("ktx-v2", one["event"], one["properties"], one.get("groups", {}))
    sampled = vector("ktx_v1_mcp_sampled.json")
    for one in [sampled, *vector("ktx_events_all.json")]:
        is_of_v2 = one["event"] == "query_history_filter_completed" or (
            one["event"] == sampled["event"] and one is not sampled
        )
        if not is_of_v2:
            yield Sample("ktx-v1", one["event"], one["properties"], one.get("groups", {}))


def dot_ai_samples() -> Iterator[Sample]:
    for one in vector("dotai_events.json")["events"]:
        yield Sample("dot-ai", one["event"], one["properties"])


def pipelex_samples() -> Iterator[Sample]:
    for mode in ("anonymous", "identified", "just_enabled"):
        one = vector("pipelex_events.json")[mode]
        # What begins with `$` is PostHog's own, and set by the protocol.
        own = {name: value for name, value in one["properties"].items() if name[0] != "$"}
        yield Sample("pipelex", one["event"], own)


SAMPLES = [*codegraph_samples(), *ktx_samples(), *dot_ai_samples(), *pipelex_samples()]


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda one: f"{one.contract}-{one.event}")
def test_a_sample_passes_the_screens_whole_field_by_field(sample: Sample):
    found = screened(sample)

    assert sample.sent == found
    assert json_of(sample.sent) == json_of(found)


def test_every_listed_event_has_a_sample_or_is_known_to_have_none():
    without_a_sample = {
        "pipelex": {
            *("backends_show", "pipeline_execute", "pipes_list", "pipe_show"),
            *("pipe_complete", "bundle_dry_run", "pipe_dry_run"),
        },
        "tallyd": {"daemon_started", "daemon_stopped"},
    }
    sampled = {(one.contract, one.event) for one in SAMPLES}

    for name, contract in CONTRACTS.items():
        events = {one.wire_name or one.name for one in contract.events.values()}
        missing = {one for one in events if (name, one) not in sampled}
        assert without_a_sample.get(name, set()) == missing, name


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda one: f"{one.contract}-{one.event}")
def test_an_event_may_carry_groups_only_where_its_sample_has_them(sample: Sample):
    fields = listed(sample.contract, sample.event).fields

    assert set(sample.groups) == {name for name, one in fields.items() if one.is_group}


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda one: f"{one.contract}-{one.event}")
def test_whatever_is_added_to_a_sample_does_not_pass(sample: Sample):
    """All schemas are closed: an address, a path or a prompt beside the listed fields never leaves."""
    added = {"cwd": "/home/x", "$ip": "192.0.2.1", "query": "select 1", "prompt": "hello"}
    more = Sample(
        sample.contract, sample.event, {**sample.properties, **added}, sample.groups, sample.day
    )

    assert sample.sent == screened(more)


# --- the tables of the documents ------------------------------------------------------------------

# name:type, with ? for optional; a text's maximum, ~ where it is cut, ! where it must be registered.
CODEGRAPH = {
    "install": "targets?:token24[12] scope:local|global kind:fresh|upgrade|reinstall",
    "index": "languages?:token24[32] file_count_bucket?:bucket(<100|100-1k|1k-10k|10k+)"
    " duration_bucket?:bucket(<10s|10-60s|1-5m|5m+)",
    "usage_rollup": "kind:mcp_tool|cli_command name:token64~ client_name?:label64~"
    " client_version?:label32~ count=1000000 error_count=1000000",
    "uninstall": "targets?:token24[12]",
}
FAILED = " outcome:ok|error errorClass?:error_class"
WAREHOUSE = "driver?:token32 isDemoConnection?:boolean "
PROJECT = " project?:hash64"
KTX_V1 = {
    "install_first_run": "",
    "command": "commandPath:token64[16] durationMs:number outcome:ok|error|aborted"
    " errorClass?:error_class flagsPresent:names(token64)[64] hasProject:boolean"
    " projectGroupAttached:boolean" + PROJECT,
    "setup_step": "step:project|runtime|models|embeddings|secrets|databases|sources|context|agents"
    "|demo-tour outcome:completed|skipped|abandoned durationMs:number",
    "connection_added": "driver:token32 isDemoConnection:boolean" + PROJECT,
    "connection_test": WAREHOUSE + "durationMs:number serverVersion?:label64~" + FAILED + PROJECT,
    "project_stack_snapshot": "connectors:{driver:token32,isDemo:boolean}[64] connectionCount:int"
    " hasSl:boolean hasWiki:boolean hasMcp:boolean hasManagedRuntime:boolean" + PROJECT,
    "ingest_completed": WAREHOUSE + "schemaCount?:int tableCount?:int columnCount?:int"
    " rowsBucket?:bucket(<10k|<100k|<1M|<10M|>=10M) durationMs:number" + FAILED + PROJECT,
    "scan_completed": "driver?:token32 tableCount?:int columnCount?:int inferredFkCount?:int"
    " declaredFkCount?:int durationMs:number" + FAILED + PROJECT,
    "sl_validate_completed": "sourceCount?:int modelCount?:int validationErrorCount?:int"
    " durationMs:number" + FAILED + PROJECT,
    "sl_query_completed": "mode:compile|execute referencedSourceCount?:int durationMs:number"
    " referencedDimensionCount?:int referencedMeasureCount?:int" + FAILED + PROJECT,
    "sql_completed": WAREHOUSE + "queryVerb:select|explain|show|with|other durationMs:number"
    " referencedTableCount?:int" + FAILED + PROJECT,
    "wiki_query_completed": "queryLength:int resultCount?:int durationMs:number outcome:ok|error"
    + PROJECT,
    "mcp_request_completed": "toolName:token64! durationMs:number sampleRate:number0..1"
    + FAILED
    + PROJECT,
    "daemon_started": "daemonVersion:token32 pythonVersion:token32 runtimeVersion:token32"
    " startupDurationMs:number",
    "daemon_stopped": "reason:signal|request|crash uptimeMs:number",
    "sl_plan_completed": "stage:parse|resolve|compile|transpile durationMs:number sourceCount?:int"
    " joinCount?:int" + FAILED + PROJECT,
    "sql_gen_completed": "dialect:token32 durationMs:number" + FAILED + PROJECT,
}
WITH_DETAIL = ("command", "setup_step", "connection_test", "ingest_completed", "scan_completed")
KTX_V2 = {
    **{
        name: fields + (" errorDetail?:redacted1000" if name in WITH_DETAIL else "")
        for name, fields in KTX_V1.items()
    },
    "mcp_request_completed": KTX_V1["mcp_request_completed"]
    + " mcpClientName?:label64~ mcpClientVersion?:label32~",
    "query_history_filter_completed": "dialect:token32 consideredRoleCount?:int outcome:ok|error"
    " excludedRoleCount?:int parseFailedCount?:int",
}
CLIENT = " mcp_client?:label64~ mcp_client_version?:label32~"
DOT_AI = {
    "tool_executed": "tool:token64! success:boolean duration_ms:number" + CLIENT,
    "tool_error": "tool:token64! error_type:error_class" + CLIENT,
    "client_connected": "transport?:stdio|http" + CLIENT.replace("?", ""),
    "server_started": "k8s_version?:token32 deployment_method?:token32",
    "server_stopped": "uptime_seconds:int",
}
PLACE = "integration:cli|docker|fastapi|mcp|n8n cli_command?:label64 "
PIPELEX = {
    "telemetry_just_enabled": "telemetry_mode:anonymous|identified setting?:telemetry_mode",
    "backends_show": PLACE + "nb_backends:int",
    "pipeline_execute": PLACE + "pipeline_run_id:token64 pipe_type:token64",
    "pipeline_complete": PLACE + "pipeline_run_id:token64 pipe_type:token64"
    " pipeline_execute_outcome:success|failure",
    "pipes_list": PLACE + "nb_pipes:int",
    "pipe_show": PLACE + "pipe_type?:token64",
    "pipe_run": PLACE + "pipeline_run_id?:token64 pipe_type:token64",
    "pipe_complete": PLACE + "pipeline_run_id?:token64 pipe_type:token64"
    " pipe_run_outcome:success|failure",
    "bundle_dry_run": PLACE + "nb_pipes:int nb_concepts:int",
    "pipe_dry_run": PLACE + "nb_pipes:int",
}
TALLYD = {
    "daemon_started": "daemon_version:token32 python_version:token32 startup_ms:int0..3600000",
    "daemon_stopped": "reason:signal|request|idle|crash|unclean uptime_s:int",
}
EVENTS = {
    "codegraph": CODEGRAPH,
    "ktx-v1": KTX_V1,
    "ktx-v2": KTX_V2,
    "dot-ai": DOT_AI,
    "pipelex": PIPELEX,
    "tallyd": TALLYD,
}
KTX_ENVELOPE = (
    "cliVersion:token32@version nodeVersion:token32@host osPlatform:token16@runtime.os"
    " osRelease:token64~@host arch:token16@host runtime:node|daemon-py@host isCi:boolean@runtime.ci"
)
ENVELOPES = {
    "codegraph": "codegraph_version:token32@version os:token16@runtime.os arch:token16@runtime.arch"
    " node_major:int0..99@host ci:boolean@runtime.ci",
    "ktx-v1": KTX_ENVELOPE,
    "ktx-v2": KTX_ENVELOPE,
    "dot-ai": "dot_ai_version:token32@version ai_provider:token32@host is_internal:boolean@host",
    "pipelex": "pipelex_version:token32@version",
    "tallyd": "",
}


def spelled(one: FieldType) -> str:
    """A type, as the tables above write it."""
    match one:
        case Enum(values):
            return "|".join(values)
        case Text(alphabet, longest, cut, registered):
            kind = "token" if alphabet == TOKEN_ALPHABET else "label"
            return f"{kind}{longest}{'~' * cut}{'!' * registered}"
        case Integer() | Number():
            kind = "int" if isinstance(one, Integer) else "number"
            bounds = f"{one.minimum}..{one.maximum}"
            return kind if one == type(one)() else f"{kind}{bounds}"
        case Boolean():
            return "boolean"
        case Bucket(_, labels):
            return f"bucket({'|'.join(labels)})"
        case Hash(length):
            return f"hash{length}"
        case ErrorClass(longest):
            assert longest == 80
            return "error_class"
        case Redacted(longest):
            return f"redacted{longest}"
        case List(of, longest):
            return f"{spelled(of)}[{longest}]"
        case Names(of, longest):
            return f"names({spelled(of)})[{longest}]"
        case Record(fields):
            return f"{{{','.join(f'{name}:{spelled(inner)}' for name, inner in fields.items())}}}"
    raise AssertionError(one)


def words(event: Event) -> set[str]:
    """The fields and measures of an event, as the tables above write them."""
    fields = {
        f"{name}{'?' * one.is_optional}:{spelled(one.type)}" for name, one in event.fields.items()
    }
    maxima = event.maxima if isinstance(event, Rollup) else {}
    return fields | {f"{name}={most}" for name, most in maxima.items()}


@each
def test_a_contract_lists_the_events_and_fields_of_its_systems_documents_and_no_others(name: str):
    expected = {event: set(fields.split()) for event, fields in EVENTS[name].items()}

    assert expected == {event: words(one) for event, one in CONTRACTS[name].events.items()}


@each
def test_an_envelope_lists_the_fields_of_its_systems_documents_and_no_others(name: str):
    found = {
        f"{one}:{spelled(field.type)}@{field.origin}"
        for one, field in CONTRACTS[name].envelope.items()
    }

    assert set(ENVELOPES[name].split()) == found


def test_the_events_of_ktx_are_the_18_names_of_its_code_and_the_17_of_its_first_page():
    one, two = (list(CONTRACTS[name].events) for name in KTX)
    code = [sample["event"] for sample in vector("ktx_events_all.json")]

    assert (18, set(code)) == (len(two), set(two))
    assert [name for name in two if name != "query_history_filter_completed"] == one
    assert (len(one), one[0], one[-1]) == (17, "install_first_run", "sql_gen_completed")


@each
def test_names_travel_as_the_documents_have_them(name: str):
    contract = CONTRACTS[name]
    fields = [
        *contract.envelope.values(),
        *(one for event in contract.events.values() for one in event.fields.values()),
    ]

    assert {""} == {one.wire_name for one in [*fields, *contract.events.values()]}


def test_only_the_tool_calls_of_ktx_are_sampled_a_tenth_first_and_all_of_them_later():
    sampled = {
        (name, event): one.sampling
        for name, contract in CONTRACTS.items()
        for event, one in contract.events.items()
        if one.sampling is not None
    }

    assert {
        ("ktx-v1", "mcp_request_completed"): Sampling(0.1, "sampleRate"),
        ("ktx-v2", "mcp_request_completed"): Sampling(1, "sampleRate"),
    } == sampled


def test_what_happens_once_is_told_once():
    once = {
        (name, event): one.once
        for name, contract in CONTRACTS.items()
        for event, one in contract.events.items()
        if not isinstance(one, Rollup) and one.once
    }
    of_ktx = {
        "install_first_run": "machine",
        "project_stack_snapshot": "process",
        "daemon_started": "process",
        "daemon_stopped": "process",
    }

    assert {
        **{(name, event): how for name in KTX for event, how in of_ktx.items()},
        ("dot-ai", "server_started"): "process",
        ("dot-ai", "server_stopped"): "process",
        ("pipelex", "telemetry_just_enabled"): "machine",
    } == once


@each
def test_everything_that_is_collected_says_what_it_is_for(name: str):
    contract = CONTRACTS[name]
    silent = [one for one, field in contract.envelope.items() if not field.about]
    for event, one in contract.events.items():
        silent += [f"{event}.{at}" for at, field in one.fields.items() if not field.about]
        silent += [] if one.about else [event]

    assert (silent, bool(contract.about), len(contract.never) > 3) == ([], True, True)


# --- policy ---------------------------------------------------------------------------------------

GATEWAY, POSTHOG = "events-v1", "posthog-batch"
US, EU = "https://us.i.posthog.com", "https://eu.i.posthog.com"
KEY = "phc_EXAMPLE_NOT_A_REAL_KEY"
# address, where to change it, protocol, key, where to change that, seconds between, days kept there
ENDPOINTS = {
    "codegraph": (
        *("https://telemetry.getcodegraph.com/v1/events", "CODEGRAPH_TELEMETRY_ENDPOINT"),
        *(GATEWAY, "", None, 21600, 90),
    ),
    "ktx-v1": (US, "KTX_TELEMETRY_ENDPOINT", POSTHOG, KEY, None, 21600, 90),
    "ktx-v2": (US, "KTX_TELEMETRY_ENDPOINT", POSTHOG, KEY, None, 21600, 90),
    "dot-ai": (EU, "DOT_AI_POSTHOG_HOST", POSTHOG, KEY, "DOT_AI_POSTHOG_KEY", 10, 0),
    "pipelex": (EU, None, POSTHOG, KEY, None, 21600, 0),
    "tallyd": (
        *("https://telemetry.tallyd.example/v1/events", "TALLYD_TELEMETRY_ENDPOINT"),
        *(GATEWAY, "", None, 21600, 90),
    ),
}
# product, schema, default, ways of being on, what CI does, what a terminal does, when the notice is shown
POLICIES = {
    "codegraph": ("codegraph", 2, "on", (), "tag", "any", "before-send"),
    "ktx-v1": ("ktx", 1, "on", (), "off", "required", "interactive"),
    "ktx-v2": ("ktx", 2, "on", (), "off", "any", "first-use"),
    "dot-ai": ("dot-ai", 1, "on", (), "tag", "any", "first-use"),
    "pipelex": (
        *("pipelex", 1, "ask", ("off", "anonymous", "identified")),
        *("off", "any", "interactive"),
    ),
    "tallyd": ("tallyd", 1, "off", (), "off", "any", "first-use"),
}
OFF_WORDS = frozenset({"0", "false", "no", "off"})
ON_WORDS = frozenset({"1", "true", "yes", "on"})
SWITCHES = {
    "codegraph": EnvSwitch("CODEGRAPH_TELEMETRY", OFF_WORDS, ON_WORDS),
    "ktx-v1": EnvSwitch("KTX_TELEMETRY_DISABLED", OFF_WORDS | ON_WORDS, frozenset()),
    "ktx-v2": EnvSwitch("KTX_TELEMETRY_DISABLED", OFF_WORDS | ON_WORDS, frozenset()),
    "dot-ai": EnvSwitch("DOT_AI_TELEMETRY", OFF_WORDS, ON_WORDS),
    "tallyd": EnvSwitch("TALLYD_TELEMETRY", OFF_WORDS, ON_WORDS),
}
KTX_STATE = StateFile(
    "~/.ktx/telemetry.json",
    is_strict=True,
    id="installId",
    source="",
    notice="",
    notice_at="noticeShownAt",
    notice_version="noticeShownVersion",
    created="createdAt",
    updated="",
)
STATES = {
    "codegraph": StateFile("~/.codegraph/telemetry.json"),
    "ktx-v1": KTX_STATE,
    "ktx-v2": KTX_STATE,
    "dot-ai": None,
    "pipelex": StateFile(
        "~/.pipelex/telemetry.toml",
        format="toml",
        enabled="",
        mode="telemetry_mode",
        id="",
        user="user_id",
        source="",
        notice="",
        updated="",
    ),
    "tallyd": None,
}
IDENTITIES = {
    "codegraph": Identity("random"),
    "ktx-v1": Identity("random", has_project=True),
    "ktx-v2": Identity("random", has_project=True),
    "dot-ai": Identity("derived", "cluster_", "local_", 16),
    "pipelex": Identity("user"),
    "tallyd": Identity("random"),
}


@each
def test_a_contract_says_where_its_systems_data_goes(name: str):
    end = CONTRACTS[name].endpoint

    assert ENDPOINTS[name] == (
        *(end.url, end.override_env, end.protocol, end.key, end.key_env),
        *(end.interval_s, end.retention_days),
    )
    assert (1.5, 100, 6, 30, True, name != "codegraph") == (
        *(end.timeout_s, end.max_events, end.max_requests_per_minute, end.max_age_days),
        *(end.keeps_unanswered, end.retries_busy),
    )


@each
def test_a_contract_says_who_decides_and_when_its_notice_is_shown(name: str):
    contract, consent = CONTRACTS[name], CONTRACTS[name].consent

    assert POLICIES[name] == (
        *(contract.product, contract.schema_version, consent.default, consent.modes),
        "off" if consent.ci_disables else "tag",
        *("required" if consent.needs_terminal else "any", consent.notice_when),
    )
    assert tuple(one for one in [SWITCHES.get(name)] if one is not None) == consent.env


@each
def test_a_contract_says_where_choice_and_id_are_and_who_a_row_is_from(name: str):
    assert (STATES[name], IDENTITIES[name]) == (CONTRACTS[name].state, CONTRACTS[name].identity)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("codegraph", "codegraph_config.json"),
        ("codegraph", "codegraph_config_off.json"),
        ("ktx-v1", "ktx_identity.json"),
        ("ktx-v2", "ktx_identity.json"),
        ("pipelex", "pipelex_config.json"),
    ],
)
def test_a_systems_own_state_file_has_every_key_that_its_contract_names(name: str, file: str):
    state, there = CONTRACTS[name].state, set(vector(file))
    assert state is not None

    assert set(state.keys) <= there
    assert not state.is_strict or set(state.keys) == there


@each
def test_a_notice_says_how_to_say_no_and_gives_a_day_to_do_so(name: str):
    """Theirs send in the run that shows it, or have none at all."""
    contract = CONTRACTS[name]
    said = contract.notice

    assert (
        contract.consent.off_command in said,
        contract.details in said,
        contract.consent.grace_s,
    ) == (True, True, 86400)
    assert "{" not in said


@each
def test_a_notice_never_calls_a_lasting_id_anonymous(name: str):
    assert "anonym" not in CONTRACTS[name].notice.lower()


def test_the_instance_of_a_cluster_is_named_as_theirs_names_it():
    told = vector("dotai_events.json")["instance_id"]
    identity = CONTRACTS["dot-ai"].identity
    digits = hashlib.sha256(told["kube_system_uid"].encode()).hexdigest()

    assert told["distinctId"] == identity.prefix + digits[: identity.length]
    assert told["fallback_form"].startswith(f"{identity.fallback_prefix} + {identity.length} hex")


@pytest.mark.parametrize("name", KTX)
def test_a_project_is_the_hash_of_theirs_and_never_its_path(name: str):
    told = vector("ktx_project_hash.json")
    project = CONTRACTS[name].events["command"].fields["project"]
    hashed = hashlib.sha256(told["hashed_text"].encode()).hexdigest()

    assert told["projectId"] == hashed == project.type.screen(hashed)
    for refused in (told["projectDir_absolute"], told["hashed_text"], hashed[:63], hashed.upper()):
        assert REFUSED is project.type.screen(refused)


# --- where theirs is a defect, and ours is not ----------------------------------------------------

NOBODY = StoredChoice(Choice.NONE)
OFF = StoredChoice(Choice.OFF)
DAMAGED = StoredChoice(Choice.DAMAGED, problem="is not JSON")


def chosen(name: str) -> StoredChoice:
    """A stored yes."""
    return StoredChoice(Choice.ON, mode="identified" if name == "pipelex" else "on")


def is_on(
    name: str, stored: StoredChoice | None = None, *, at_terminal: bool = True, **environ: str
) -> bool:
    """Whether the contract's consent is on, after a stored yes unless told otherwise."""
    consent = CONTRACTS[name].consent
    return resolve(consent, environ, stored or chosen(name), is_terminal=at_terminal).is_on


def rows(table: str, column: str) -> dict[str, Any]:
    """One line of the matrix of variables: the reference code's decision by value."""
    return dict(vector("consent_env_matrix.json")[table][column])


def given(variable: str, value: str) -> dict[str, str]:
    return {} if value == "unset" else {variable: value}


@each
def test_do_not_track_is_honoured_by_all_and_0_false_and_nothing_are_no_wish(name: str):
    """In ktx 0 and false are a wish, dot-ai does not look, and nobody trims."""
    matrix = vector("consent_env_matrix.json")["DO_NOT_TRACK"]
    theirs = dict(zip(matrix["values"], matrix["codegraph"], strict=True))
    expected = {**theirs, " 0 ": False}

    assert expected == {
        value: not is_on(name, **given("DO_NOT_TRACK", value)) for value in expected
    }


def test_do_not_track_outranks_the_state_file_of_pipelex_whatever_else_stands_in_it():
    assert (is_on("pipelex"), is_on("pipelex", DO_NOT_TRACK="1")) == (True, False)


@pytest.mark.parametrize(
    ("name", "variable", "column"),
    [
        ("codegraph", "CODEGRAPH_TELEMETRY", "codegraph CODEGRAPH_TELEMETRY -> telemetry"),
        ("ktx-v1", "KTX_TELEMETRY_DISABLED", "ktx KTX_TELEMETRY_DISABLED -> telemetry"),
        ("ktx-v2", "KTX_TELEMETRY_DISABLED", "ktx KTX_TELEMETRY_DISABLED -> telemetry"),
        ("dot-ai", "DOT_AI_TELEMETRY", "dot-ai DOT_AI_TELEMETRY -> telemetry"),
    ],
)
def test_an_unknown_word_in_a_products_variable_never_enables(
    name: str, variable: str, column: str
):
    """Where the reference code takes a no for a yes, the matrix writes ON; ours are off there."""
    theirs = rows("product_variable", column)
    expected = {value: said in ("on", "next rule") for value, said in theirs.items()}

    assert expected == {value: is_on(name, **given(variable, value)) for value in theirs}


@pytest.mark.parametrize("word", ["disabled", "n", "nope", "OFF", "2", "-", "on off"])
@pytest.mark.parametrize("name", SWITCHES)
def test_a_word_that_nobody_foresaw_means_off(name: str, word: str):
    assert not is_on(name, **{SWITCHES[name].name: word})


@pytest.mark.parametrize("name", KTX)
def test_any_text_in_the_disabling_variable_of_ktx_is_off_and_none_is_on(name: str):
    words = ["0", "false", "no", "off", "1", "true", "yes", "on", "maybe"]
    variable = "KTX_TELEMETRY_DISABLED"

    assert [word for word in words if is_on(name, **{variable: word})] == []
    assert is_on(name, **{variable: ""})
    assert not is_on(name, OFF, **{variable: "0"})


@each
def test_ci_switches_off_where_theirs_does_and_ci_false_is_no_ci(name: str):
    """In ktx CI=false is CI; Pipelex bars CI whatever was chosen."""
    disables = name in {*KTX, "pipelex", "tallyd"}
    expected = {"unset": True, "": True, "0": True, "false": True, "1": not disables}

    assert set(expected) == set(rows("CI", "ktx (disables)"))
    assert expected == {value: is_on(name, **given("CI", value)) for value in expected}


def test_only_the_first_page_of_ktx_needs_a_terminal():
    assert {name: name != "ktx-v1" for name in CONTRACTS} == {
        name: is_on(name, at_terminal=False) for name in CONTRACTS
    }


@each
def test_a_damaged_state_file_means_off(name: str):
    """In ktx a slip while opting out by hand makes a new id, with telemetry on."""
    assert not is_on(name, DAMAGED)


@each
def test_when_nobody_chose_only_a_default_of_on_collects(name: str):
    assert (name in {"codegraph", *KTX, "dot-ai"}) == is_on(name, NOBODY)


def test_tallyd_collects_nothing_by_itself_until_its_user_says_on():
    said = {word: is_on("tallyd", NOBODY, TALLYD_TELEMETRY=word) for word in ("", "0", "x", "1")}

    assert said == {"": False, "0": False, "x": False, "1": True}
    assert (is_on("tallyd"), is_on("tallyd", OFF)) == (True, False)


def test_free_text_is_listed_in_ktx_v2_alone_and_needs_a_yes_of_its_own():
    """Theirs sends the raw text of errors whenever telemetry is on."""
    texts = {
        (name, event, at): one
        for name, contract in CONTRACTS.items()
        for event, listed in contract.events.items()
        for at, one in listed.fields.items()
        if isinstance(one.type, Redacted)
    }

    assert {("ktx-v2", event, "errorDetail") for event in WITH_DETAIL} == set(texts)
    assert {(Redacted(1000, "KTX_TELEMETRY_ERROR_DETAIL"), True)} == {
        (one.type, one.is_optional) for one in texts.values()
    }


def test_what_only_the_second_page_of_ktx_has_does_not_pass_the_first():
    command = vector("ktx_event.json")
    calls = [
        one for one in vector("ktx_events_all.json") if one["event"] == "mcp_request_completed"
    ]
    for sample in (command, *calls):
        later = ("errorDetail", "mcpClientName", "mcpClientVersion")
        whole = sample["properties"]
        kept = screened(Sample("ktx-v1", sample["event"], whole))
        assert {name: whole[name] for name in whole if name not in later} == kept
        assert len(whole) > len(kept)


@each
def test_reports_of_errors_are_no_part_of_a_contract(name: str):
    report = vector("ktx_exception.json")

    assert event_on_wire(CONTRACTS[name], report["event"]) is None
    assert screen_event(CONTRACTS[name], report["event"], report["properties"], DAY) is None


@pytest.mark.parametrize("name", KTX)
@pytest.mark.parametrize(
    ("event", "known"),
    [
        ("connection_test", {}),
        ("ingest_completed", {}),
        ("scan_completed", {"tableCount": 57}),
        ("sl_validate_completed", {}),
        ("sl_query_completed", {"mode": "compile"}),
        ("sql_completed", {"queryVerb": "other"}),
        ("wiki_query_completed", {"queryLength": 23}),
        ("sl_plan_completed", {"stage": "parse"}),
    ],
)
def test_a_failure_tells_what_is_known_and_makes_up_nothing(
    name: str, event: str, known: dict[str, object]
):
    """Theirs sends the driver "unknown" and counts of 0, which look like facts."""
    properties = {**known, "outcome": "error", "durationMs": 12.5}

    assert properties == screened(Sample(name, event, properties))


@pytest.mark.parametrize("name", KTX)
@pytest.mark.parametrize(
    "told",
    ["connect ETIMEDOUT", "KtxError: no such host", "ktxError", "a/b", "https://x", "A" * 81, ""],
)
def test_the_class_of_an_error_is_a_name_and_never_its_message(name: str, told: str):
    properties = {"driver": "postgres", "outcome": "error", "durationMs": 1, "errorClass": told}

    assert "errorClass" not in screened(Sample(name, "scan_completed", properties))


CLIENT_VERSION = "2.1.7 (" + "x" * 40 + ")"


@pytest.mark.parametrize(
    ("name", "event", "client", "version"),
    [
        ("codegraph", "usage_rollup", "client_name", "client_version"),
        ("ktx-v2", "mcp_request_completed", "mcpClientName", "mcpClientVersion"),
        ("dot-ai", "tool_executed", "mcp_client", "mcp_client_version"),
        ("dot-ai", "client_connected", "mcp_client", "mcp_client_version"),
    ],
)
def test_what_a_client_calls_itself_is_cut_to_64_and_32(
    name: str, event: str, client: str, version: str
):
    """In ktx and dot-ai both travel as they come."""
    sample = next(one for one in SAMPLES if (one.contract, one.event) == (name, event))
    long = {**sample.properties, client: "Claude Code " * 9, version: CLIENT_VERSION}
    found = screened(Sample(name, event, long, day=sample.day))

    assert (("Claude Code " * 9)[:64], CLIENT_VERSION[:32]) == (found[client], found[version])


@pytest.mark.parametrize(
    ("name", "event", "bucket", "expected"),
    [
        (
            *("codegraph", "index", "file_count_bucket"),
            {0: "<100", 99: "<100", 100: "100-1k", 999: "100-1k", 1000: "1k-10k"}
            | {9999: "1k-10k", 10000: "10k+", 10**9: "10k+"},
        ),
        (
            *("codegraph", "index", "duration_bucket"),
            {0: "<10s", 9999: "<10s", 10000: "10-60s", 59999: "10-60s", 60000: "1-5m"}
            | {299999: "1-5m", 300000: "5m+", 10**9: "5m+"},
        ),
        *(
            (
                *(name, "ingest_completed", "rowsBucket"),
                {0: "<10k", 9999: "<10k", 10**4: "<100k", 10**5 - 1: "<100k", 10**5: "<1M"}
                | {10**6 - 1: "<1M", 10**6: "<10M", 10**7 - 1: "<10M", 10**7: ">=10M"},
            )
            for name in KTX
        ),
    ],
)
def test_the_lower_edge_of_a_bucket_is_inside_it_and_its_number_stays_here(
    name: str, event: str, bucket: str, expected: dict[int, str]
):
    """In ktx the label of rows is always the first one."""
    one = CONTRACTS[name].events[event].fields[bucket].type
    assert isinstance(one, Bucket)

    assert expected == {number: one.labels[bisect_right(one.edges, number)] for number in expected}
    assert {REFUSED} == {one.screen(number) for number in expected}
    assert list(one.labels) == [one.screen(label) for label in one.labels]


def test_one_language_with_an_odd_name_does_not_cost_the_others():
    """In theirs one item outside the alphabet makes the whole list vanish."""
    sample = Sample("codegraph", "index", {"languages": ["python", "c#", "go"]})

    assert screened(sample) == {"languages": ["python", "go"]}


def test_a_request_of_the_first_schema_of_codegraph_loses_its_backend_alone():
    for one in vector("codegraph_batch_schema_v1.json")["events"]:
        kept = screened(Sample("codegraph", one["event"], one["props"], day=one["ts"][:10]))
        assert {"sqlite_backend"} == set(one["props"]) - set(kept)


def test_what_dot_ai_documents_and_never_sends_may_be_sent():
    for event, fields in vector("dotai_events.json")["documented_but_not_sent_today"].items():
        assert {True} == {
            CONTRACTS["dot-ai"].events[event].fields[one].is_optional for one in fields
        }
    told = {"k8s_version": "v1.31.2+k3s1", "deployment_method": "helm"}

    assert told == screened(Sample("dot-ai", "server_started", told))


@pytest.mark.parametrize("barred", ["ci", "pytest", "python", None])
def test_an_event_from_where_pipelex_bars_telemetry_does_not_pass(barred: str | None):
    sent = {"pipe_type": "PipeLLM", **({"integration": barred} if barred else {})}

    assert screen_event(CONTRACTS["pipelex"], "pipe_run", sent, DAY) is None


def test_no_event_of_pipelex_has_room_for_what_it_redacts():
    """Theirs removes fields by name and does not look into values; here values have no room for them."""
    redacted = vector("pipelex_events.json")["redacted_keys"]
    events = CONTRACTS["pipelex"].events
    texts = [
        one.type
        for event in events.values()
        for one in event.fields.values()
        if isinstance(one.type, Text)
    ]

    assert set() == set(redacted) & {name for event in events.values() for name in event.fields}
    assert {REFUSED} == {
        one.screen(value)
        for one in texts
        for value in ("Summarize this:\nDear Anna,", "https://x.example/?q=1&t=2", "~/notes.md")
    }


def facts_of_tallyd() -> dict[str, dict[str, object]]:
    return {
        "daemon_started": {"daemon_version": "0.1.0", "python_version": "3.13.3", "startup_ms": 41},
        "daemon_stopped": {"reason": "signal", "uptime_s": 3600},
    }


@pytest.mark.parametrize("event", facts_of_tallyd())
def test_tallyds_own_life_passes_its_own_contract_and_nobody_elses(event: str):
    """The daemon offers it to every product whose contract lists an event of that name, as ktx's do."""
    facts = facts_of_tallyd()[event]
    passed = [
        name
        for name, contract in CONTRACTS.items()
        if screen_event(contract, event, facts, DAY) is not None
    ]

    assert passed == ["tallyd"]
    assert facts == screened(Sample("tallyd", event, facts))


def test_tallyds_own_events_are_those_that_its_demo_shows():
    def of(contract: Contract) -> dict[str, dict[str, Field | FieldType]]:
        return {
            event: {name: one.type for name, one in contract.events[event].fields.items()}
            for event in facts_of_tallyd()
        }

    assert of(contract_of("tallyd-demo")) == of(CONTRACTS["tallyd"])

"""Reading a contract: what is right is read whole, what is wrong is named with file, line and key."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.gateway import contract_of
from support.processes import CONTRACTS
from tallyd.contract import Contract, ContractError, parse_contract
from tallyd.contract.fields import (
    LABEL_ALPHABET,
    TOKEN_ALPHABET,
    Boolean,
    Bucket,
    Enum,
    Integer,
    List,
    Text,
)
from tallyd.contract.model import EnvSwitch, Field, Rollup, SingleEvent, StateFile
from tallyd.contract.policy_grammar import usable_url

FILE = CONTRACTS / "codegraph.toml"
GOOD = FILE.read_text(encoding="utf-8")


def line_with(text: str, source: str) -> int:
    """The line of `source`, from 1, on which `text` begins."""
    assert source.count(text) == 1, f"{text!r} must stand in the contract exactly once"
    return source[: source.index(text)].count("\n") + 1


def outcome(content: bytes) -> Contract | ContractError:
    """What parsing comes to; anything but a contract or a ContractError escapes."""
    try:
        return parse_contract(content, "x.toml")
    except ContractError as error:
        return error


# --- what is right --------------------------------------------------------------------------------


def test_the_contract_of_codegraph_is_read_field_by_field():
    contract = contract_of("codegraph")
    token24 = Text(TOKEN_ALPHABET, 24)
    targets = Field(List(token24, 12), is_optional=True)
    envelope = {name: (one.type, one.is_optional) for name, one in contract.envelope.items()}
    rollup = contract.events["usage_rollup"]
    assert isinstance(rollup, Rollup)
    singles = {
        name: {field: (one.type, one.is_optional) for field, one in event.properties.items()}
        for name, event in contract.events.items()
        if isinstance(event, SingleEvent)
    }

    assert ("codegraph", "CodeGraph", 2, hashlib.sha256(FILE.read_bytes()).hexdigest()) == (
        contract.product,
        contract.title,
        contract.schema_version,
        contract.digest,
    )
    assert {
        "codegraph_version": (Text(TOKEN_ALPHABET, 32), True),
        "os": (Text(TOKEN_ALPHABET, 16), True),
        "arch": (Text(TOKEN_ALPHABET, 16), True),
        "node_major": (Integer(0, 99), True),
        "ci": (Boolean(), True),
    } == envelope
    assert (
        {
            "kind": (Enum(("mcp_tool", "cli_command")), False),
            "name": (Text(TOKEN_ALPHABET, 64, cut=True), False),
            "client_name": (Text(LABEL_ALPHABET, 64, cut=True), True),
            "client_version": (Text(LABEL_ALPHABET, 32, cut=True), True),
        },
        ("count", "error_count"),
        {"count": 1000000, "error_count": 1000000},
        "count",
        "The agent that called, as it names itself.",
    ) == (
        {name: (one.type, one.is_optional) for name, one in rollup.dimensions.items()},
        rollup.measures,
        rollup.maxima,
        rollup.primary,
        rollup.dimensions["client_name"].about,
    )
    assert {
        "install": {
            "targets": (targets.type, True),
            "scope": (Enum(("local", "global")), False),
            "kind": (Enum(("fresh", "upgrade", "reinstall")), False),
        },
        "index": {
            "languages": (List(token24, 32), True),
            "file_count_bucket": (
                Bucket((100, 1000, 10000), ("<100", "100-1k", "1k-10k", "10k+")),
                True,
            ),
            "duration_bucket": (
                Bucket((10000, 60000, 300000), ("<10s", "10-60s", "1-5m", "5m+")),
                True,
            ),
        },
        "uninstall": {"targets": (targets.type, True)},
    } == singles


def test_the_policy_of_codegraph_is_read_with_its_units():
    contract = contract_of("codegraph")
    endpoint, consent = contract.endpoint, contract.consent

    assert (
        ("https://telemetry.getcodegraph.com/v1/events", "CODEGRAPH_TELEMETRY_ENDPOINT"),
        (21600.0, 1.5, 100, 6, 30),
        (True, False),
        ("on", "set", False, 86400.0, "codegraph telemetry off"),
        (
            EnvSwitch(
                "CODEGRAPH_TELEMETRY",
                off=frozenset({"0", "false", "no", "off"}),
                on=frozenset({"1", "true", "yes", "on"}),
            ),
        ),
        StateFile("~/.codegraph/telemetry.json"),
        'codegraph collects pseudonymous usage counts (no code, no paths): "codegraph telemetry off"'
        " or CODEGRAPH_TELEMETRY=0 turns it off. Details:"
        " https://github.com/colbymchenry/codegraph/blob/main/TELEMETRY.md",
    ) == (
        (endpoint.url, endpoint.override_env),
        (
            endpoint.interval_s,
            endpoint.timeout_s,
            endpoint.max_events,
            endpoint.max_requests_per_minute,
            endpoint.max_age_days,
        ),
        (endpoint.keeps_unanswered, endpoint.retries_busy),
        (
            consent.default,
            consent.do_not_track,
            consent.ci_disables,
            consent.grace_s,
            consent.off_command,
        ),
        consent.env,
        contract.state,
        contract.notice,
    )


@pytest.mark.parametrize("file", sorted(CONTRACTS.glob("*.toml")), ids=lambda file: file.stem)
def test_every_contract_of_ours_parses_to_the_product_it_is_named_after(file: Path):
    contract = parse_contract(file.read_bytes(), str(file))

    # Two versions of one product's contract stand side by side.
    named = re.sub(r"-v\d+$", "", file.stem)
    assert (named, file.read_bytes()) == (contract.product, contract.text)


def test_what_a_contract_leaves_out_has_the_careful_value():
    """Off by default, a day's grace, the weakest pace: forgetting a line never collects more."""
    small = b"""contract = 1
[product]
name = "small"
title = "Small"
details = "none"
[endpoint]
url = "https://small.example/v1/events"
[consent]
notice = "small counts. {off_command}"
[events.run]
kind = "event"
about = "A run."
"""
    contract = parse_contract(small, "small.toml")

    assert (
        contract.consent.default,
        contract.consent.do_not_track,
        contract.consent.env,
        contract.consent.grace_s,
        contract.notice,
        contract.state,
        contract.envelope,
        contract.never,
        contract.endpoint.max_requests_per_minute,
        contract.endpoint.max_age_days,
    ) == ("off", "set", (), 86400.0, "small counts. DO_NOT_TRACK=1", None, {}, (), 6, 30)


# --- what is wrong --------------------------------------------------------------------------------

ENV_ON = 'on = ["1", "true", "yes", "on"]'
TARGETS = 'properties.targets = { type = "list", of = "token", max = 24, max_items = 12 }'
EDGES = "edges = [100, 1000, 10000]"
MEASURES = 'measures = [{ name = "count", max = 1000000 }, { name = "error_count", max = 1000000 }]'
# (old text, new text, key in the message, what would be right). The line named is one of the new
# text, or that of its table where a key is missing.
WRONG = [
    ("contract = 1", "contract = 2", "contract", "write contract = 1"),
    ("contract = 1", "contract = 0", "contract", "a number from 1"),
    ("contract = 1", 'contract = "1"', "contract", "write it without quotes"),
    ("contract = 1", "contract = true", "contract", "write it without quotes"),
    ('name = "codegraph"', 'name = "Code Graph"', "product.name", "it must match [a-z0-9]"),
    ('name = "codegraph"', 'name = "../codegraph"', "product.name", "it must match [a-z0-9]"),
    ('title = "CodeGraph"', 'title = ""', "product.title", "write it in quotes"),
    ('title = "CodeGraph"', "title = 2026-01-01", "product.title", "write it in quotes"),
    ('title = "CodeGraph"', 'titel = "CodeGraph"', "product.title", "is 'titel' meant to be it?"),
    ('file = "~/.codegraph/telemetry.json', 'file = "~/.ssh/config', "state.file", "telemetry.json"),
    ('file = "~/.codegraph', 'file = "~/..', "state.file", "telemetry.json"),
    ('notice = "codegraph collects', 'notice = "{who} collects', "consent.notice", "{off_command}, {details}"),
    ('name = "CODEGRAPH_TELEMETRY"', 'name = "DO_NOT_TRACK"', "consent.env.name", "of its own"),
    ('title = "CodeGraph"', 'title = "C"\nextra = 1', "product.extra", "known keys: about, details"),
    ("schema_version = 2", "schema_version = 2.0", "product.schema_version", "without quotes"),
    ("schema_version = 2", "schema_version = 0x" + "f" * 4000, "product.schema_version", "from 0 to 99"),
    ('details = "https', 'details = "\\nhttps', "product.details", "one line of plain text"),
    ('details = "https', 'details = "\\u202ehttps', "product.details", "one line of plain text"),
    ('url = "https', 'url = "http', "endpoint.url", 'write "https://…" (http only to localhost)'),
    ('url = "https://', 'url = "https://user:pass@', "endpoint.url", "https://…"),
    ('url = "https://telemetry', 'url = "https://tele metry', "endpoint.url", "https://…"),
    ('override_env = "CODE', 'override_env = "7CODE', "endpoint.override_env", "it must match"),
    ('protocol = "events-v1"', 'protocol = "carrier-pigeon"', "endpoint.protocol", '"events-v1"'),
    ('interval = "6h"', "interval = 6", "endpoint.interval", 'like "6h"'),
    ('interval = "6h"', 'interval = "6 weeks"', "endpoint.interval", "ms, s, m, h or d"),
    ('interval = "6h"', 'interval = "1s"', "endpoint.interval", 'write "10s" to "31d"'),
    ('timeout = "1500ms"', 'timeout = "2m"', "endpoint.timeout", 'write "100ms" to "30s"'),
    ("max_events = 100", "max_events = 101", "endpoint.max_events", "from 1 to 100"),
    ("max_age_days = 30", "max_age_days = 31", "endpoint.max_age_days", "from 1 to 30"),
    ('unanswered = "keep"', 'unanswered = "pray"', "endpoint.unanswered", '"keep", "drop"'),
    ('busy = "final"', "busy = []", "endpoint.busy", '"final", "later"'),
    ('default = "on"', 'default = "yes"', "consent.default", '"on", "off", "ask"'),
    ('do_not_track = "set"', 'do_not_track = "no"', "consent.do_not_track", '"set", "any", "ignore"'),
    (ENV_ON, 'on = ["1", "OFF"]', "consent.env.on", "a value can mean one thing only"),
    (ENV_ON, 'onn = ["1"]', "consent.env.onn", "known keys: name, off, on"),
    ('ci = "tag"', 'ci = "on"', "consent.ci", '"off", "tag"'),
    ('terminal = "any"', 'terminal = "some"', "consent.terminal", '"any", "required"'),
    ('terminal = "any"', 'modes = ["anonymous"]', "consent.modes", 'write "off" first'),
    ('terminal = "any"', 'modes = ["off"]', "consent.modes", 'write "off" first'),
    ('terminal = "any"', 'modes = ["off", "loud"]', "consent.modes", "off, anonymous, identified"),
    ('default = "on"', 'default = "on"\nmodes = ["off", "anonymous"]', "consent.default", '"ask" or "off"'),
    ('notice_when = "before-send"', 'notice_when = "never"', "consent.notice_when", '"first-use"'),
    ('notice = "codegraph collects', 'notice = "\\u001b[8mcodegraph', "consent.notice", "plain text"),
    ('grace = "24h"', 'grace = "-1h"', "consent.grace", 'like "6h"'),
    ('file = "~/.codegraph', 'file = "codegraph', "state.file", 'begin it with "~/" or "/"'),
    ('file = "~/.codegraph', 'file = "~/.code\\u0000graph', "state.file", "plain text"),
    ('id = "machine_id"', 'id = "enabled"', "state.keys", "a name of its own"),
    ('id = "machine_id"', 'id = ""', "state.keys.id", "in quotes"),
    ('id = "machine_id"', 'identity = "m"', "state.keys.identity", "known keys: enabled, mode, id"),
    ("[envelope]", "[envelopes]", "envelopes", "known keys: consent, contract"),
    ("node_major = {", "machine_id = {", "envelope.machine_id", "choose another name"),
    ("node_major = {", '"node major" = {', "envelope.node major", "it must match [A-Za-z]"),
    ('from = "runtime.os"', 'from = "runtime.hostname"', "envelope.os.from", '"runtime.os"'),
    ("max = 99", "max = -1", "envelope.node_major.max", "write a number from 0"),
    ('ci = { type = "boolean"', 'ci = { type = "bool"', "envelope.ci.type", "boolean"),
    ('ci = { type = "boolean"', 'ci = { typ = "boolean"', "envelope.ci.type", "write one of enum"),
    ('ci = { type = "boolean"', "ci = { type = true", "envelope.ci.type", '"boolean"'),
    ('values = ["local", "global"]', "values = []", "events.install.scope.values", "list the texts"),
    ('values = ["local", "global"]', 'values = ["a", "a"]', "events.install.scope.values", "once"),
    ('values = ["local", "global"]', 'values = ["a", 1]', "events.install.scope.values", '["one", "two"]'),
    (EDGES, "edges = [100, 100]", "events.index.file_count_bucket.edges", "smallest first"),
    (EDGES, "edges = [100, 1000]", "events.index.file_count_bucket.labels", "3 buckets need a name"),
    (EDGES, "edges = [0.5]", "events.index.file_count_bucket.edges", "[100, 1000]"),
    ("max_items = 32", "max_items = 0", "events.index.languages.max_items", "from 1 to 128"),
    ("max_items = 32", "items = 32", "events.index.languages.max_items", "a whole number"),
    ('[events.usage_rollup]\nkind = "rollup"', '[events.usage_rollup]\nkind = "sum"', "events.usage_rollup.kind", '"rollup", "event"'),
    ('[events.usage_rollup]\nkind = "rollup"', "[events.usage_rollup]", "events.usage_rollup.kind", '"rollup" (counted by day)'),
    (MEASURES, "measures = []", "events.usage_rollup.measures", '["count"]'),
    (MEASURES, 'measures = ["count", "name"]', "events.usage_rollup.measures", "a new name"),
    (MEASURES, 'measures = ["a count"]', "events.usage_rollup.measures", "a new name"),
    (MEASURES, 'measure = ["count"]', "events.usage_rollup.measures", "a list of texts"),
    (MEASURES, 'measures = ["count"]\nsample = 1.5', "events.usage_rollup.sample", "from 0 to 1"),
    (MEASURES, 'measures = ["count"]\nsample = nan', "events.usage_rollup.sample", "from 0 to 1"),
    (MEASURES, 'measures = ["count"]\nsample = 1\nsample_as = "name"', "events.usage_rollup.sample_as", "another name for the rate"),
    (MEASURES, 'measures = ["count"]\nsample_as = "rate"', "events.usage_rollup.sample_as", "write `sample`"),
    (MEASURES, 'measures = ["count"]\nonce = "machine"', "events.usage_rollup.once", "known keys"),
    (MEASURES, 'measures = ["count"]\nuses = ["outcome"]', "events.usage_rollup.uses", "[fields]"),
    (MEASURES, 'measures = ["count"]\ngroups = ["project"]', "events.usage_rollup.groups", "[groups]"),
    (MEASURES, 'measures = ["count"]\nexpires = "soon"', "events.usage_rollup.expires", '"2028-01-01"'),
    (MEASURES, 'measures = ["count"]\nas = "$pageview"', "events.usage_rollup.as", "it must match"),
    (MEASURES, 'measures = ["count"]\nas = "install"', "events.usage_rollup", "choose another"),
    (MEASURES, 'measures = [{ name = "count", max = 0 }]', "events.usage_rollup.measures.max", "from 1 to"),
    (MEASURES, "measures = [{ max = 5 }]", "events.usage_rollup.measures.name", "a text"),
    (MEASURES, 'measures = ["count", "count"]', "events.usage_rollup.measures", "a new name"),
    ('protocol = "events-v1"', 'protocol = "posthog-batch"', "endpoint.key", "a text"),
    ('protocol = "events-v1"', 'key = "phc_x"', "endpoint.key", "known keys"),
    ('default_source = "default-notice"', 'format = "yaml"', "state.format", '"json", "toml"'),
    ("[envelope]", '[identity]\nkind = "derived"\n[envelope]', "identity.kind", '"random"'),
    ("[envelope]", '[identity]\nproject = "md5(path)"\n[envelope]', "identity.project", "sha256(id:path)"),
    ("[envelope]", '[groups]\nproject = { type = "token" }\n[envelope]', "groups.project", 'type = "hash"'),
    ("[envelope]", '[fields]\nwhy = { type = "redacted", switch = "X" }\n[envelope]', "fields.why.optional", "optional = true"),
    ("[envelope]", '[fields]\nwhy = { type = "redacted", optional = true }\n[envelope]', "fields.why.switch", "a text"),
    ("[envelope]", '[fields]\nid = { type = "hash", length = 4 }\n[envelope]', "fields.id.length", "from 8 to 64"),
    ("[envelope]", '[fields]\nall = { type = "list", of = "record", max_items = 2 }\n[envelope]', "fields.all.fields", "write a table"),
    ("[never]\ntext = [", '[never]\ntext = "all" #', "never.text", '["one", "two"]'),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "key", "hint"), WRONG)
def test_what_is_wrong_is_named_by_file_line_and_key_with_what_would_be_right(
    old: str, new: str, key: str, hint: str
):
    assert GOOD.count(old) >= 1, "the contract no longer says this"
    content = GOOD.replace(old, new, 1)

    error = outcome(content.encode())

    assert isinstance(error, ContractError), "it was let through"
    assert ("x.toml", True, f"x.toml:{error.line}: ") == (
        error.file,
        hint in error.hint,
        str(error)[: len(f"x.toml:{error.line}: ")],
    ), str(error)
    shown = error.key.replace("properties.", "").replace("dimensions.", "")
    assert (key, len(str(error)) < 300) == (shown, True)
    at = GOOD[: GOOD.index(old)].count("\n") + 1
    headers = [n for n, line in enumerate(content.split("\n"), 1) if line[:1] == "[" and n <= at]
    assert error.line in {*range(at, at + new.count("\n") + 1), *headers[-1:]}, str(error)


@pytest.mark.parametrize(
    ("old", "new", "key", "line_of"),
    [
        ('title = "CodeGraph"\n', "", "product.title", "[product]"),
        ('url = "https://telemetry.getcodegraph.com/v1/events"\n', "", "endpoint.url", "[endpoint]"),
        ('file = "~/.codegraph/telemetry.json"\n', "", "state.file", "[state]"),
        ("max_events = 100", 'max_events = "100"', "endpoint.max_events", "max_events"),
        (ENV_ON, 'on = "1"', "consent.env.on", "env = ["),
        ('of = "token", max = 24, max_items = 32', "of = 3, max_items = 1", "events.index.properties.languages.of", "properties.languages"),
        ("max = 64, cut = true, about = \"The tool's", "max = 0, about = \"The tool's", "events.usage_rollup.dimensions.name.max", "dimensions.name"),
        ('[state]\nfile = "~/.codegraph/telemetry.json"\nkeys = {', "[state.keys] #{", "state.file", "[state.keys]"),
        ("contract = 1", "contract.of.mine = 1", "contract", "contract.of"),
        ("# What", "# \u2028 \x85 What", "", ""),
    ],
)  # fmt: skip
def test_the_line_is_that_of_the_key_or_else_of_its_table(
    old: str, new: str, key: str, line_of: str
):
    """A line separator of Unicode is no line break of TOML's; editors do not count it either."""
    content = GOOD.replace(old, new, 1)
    if not key:
        content = content.replace("schema_version = 2", "schema_version = '2'")
        key, line_of = "product.schema_version", "schema_version"

    error = outcome(content.encode())

    assert isinstance(error, ContractError)
    assert (key, line_with(line_of, content)) == (error.key, error.line), str(error)


@pytest.mark.parametrize("table", ["product", "endpoint", "consent", "events"])
def test_a_missing_table_is_asked_for(table: str):
    kept = [part for part in GOOD.split("\n[") if not part.startswith(table)]

    assert f"x.toml: {table}: is missing; write a table [{table}]" == str(
        outcome("\n[".join(kept).encode())
    )


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "x.toml: contract: is missing; write a whole number"),
        (b"contract = 1\n\xff", "x.toml:2: is not UTF-8; save it as UTF-8"),
        (b"contract = 1\ncontract = 1", "x.toml:2: is not TOML: Cannot overwrite a value"),
        (b"\n\nhello", "x.toml:3: is not TOML: Expected '=' after a key in a key/value pair"),
        (b"contract = [", "x.toml:1: is not TOML: Invalid value"),
        (b"#" * 65537, "x.toml: is over 64 KiB; a contract is a short file"),
        (b"\ncontract" + b".a" * 30000 + b" = 1", "x.toml:2: is a line of over 8 KiB; break it into several"),
        (b"contract = " + b"9" * 5000, "x.toml: holds a number of thousands of digits; write fewer"),
        (b"contract = " + b"[" * 5000, "x.toml: is nested too deeply; a contract is a short file"),
        (b"contract" + b".a" * 63 + b" = 1", "x.toml:1: contract: a table is not a whole number; write it without quotes"),
        (b"\ncontract" + b".a" * 64 + b" = 1", "x.toml:2: holds a key of over 64 parts; a contract nests four deep"),
        (b"x = '''" + b". A word, and one more" * 200 + b"'''", "x.toml: contract: is missing; write a whole number"),
    ],
    ids=["empty", "not UTF-8", "twice", "no value", "cut", "large", "a long key", "digits", "nested", "dotted", "many parts", "prose"],
)  # fmt: skip
def test_what_is_no_toml_is_said_to_be_none(content: bytes, says: str):
    assert says == str(outcome(content))


@pytest.mark.parametrize(
    ("url", "is_usable"),
    [
        ("https://telemetry.example.com/v1/events", True),
        ("https://telemetry.example.com:8443/v1", True),
        ("http://127.0.0.1:8787/v1/events", True),
        ("http://localhost/", True),
        ("http://[::1]:8787/", True),
        ("http://telemetry.example.com/", False),
        ("http://localhost.example.com/", False),
        ("http://127.0.0.1.example.com/", False),
        ("http://localhost@example.com/", False),
        ("https://user@example.com/", False),
        ("https://example.com\\@other.example/", False),
        ("https://example.com\\.other.example/", False),
        ("https://exa\nmple.com/", False),
        ("https://exa mple.com/", False),
        ("\thttps://example.com/", False),
        ("https://example.com:port/", False),
        ("https://example.com:99999/", False),
        ("https://", False),
        ("https:///v1/events", False),
        ("https://[::1", False),
        ("https://ex\N{CYRILLIC SMALL LETTER A}mple.com/", False),
        ("ftp://example.com/", False),
        ("file:///etc/passwd", False),
        ("example.com", False),
        ("", False),
    ],
)
def test_an_endpoint_is_https_or_this_machine_and_reads_the_same_to_everyone(
    url: str, is_usable: bool
):
    """The host is pinned: two readers that see two hosts in one text would undo that."""
    assert is_usable == usable_url(url)


# --- any bytes whatever ---------------------------------------------------------------------------

VALUES = st.sampled_from(
    [
        *("1", "-1", "0x7f", "1e400", "nan", "true", '""', '"a"', '"\\u0000"', "2026-01-01"),
        *("[]", "[[]]", "[{}]", "{}", "{a = 1}", '["a", "a"]', "12:00:00", "'''\n'''", "9" * 4400),
    ]
)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_any_bytes_whatever_parse_or_are_a_contract_error(content: bytes):
    assert isinstance(outcome(content), Contract | ContractError)


@pytest.mark.slow
@settings(max_examples=250, deadline=None)
@given(st.data())
def test_any_value_in_the_place_of_another_parses_or_is_a_contract_error(data: st.DataObject):
    lines = GOOD.split("\n")
    places = [at for at, line in enumerate(lines) if " = " in line]
    at = data.draw(st.sampled_from(places))
    left, *right = lines[at].split(" = ")
    upto = data.draw(st.integers(min_value=1, max_value=len(right)))
    parts = [left, *right[: upto - 1], data.draw(VALUES), *right[upto:]]
    lines[at] = " = ".join(parts)

    assert isinstance(outcome("\n".join(lines).encode()), Contract | ContractError)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(
    at=st.integers(min_value=0, max_value=len(GOOD.encode())),
    cut=st.integers(min_value=0, max_value=40),
    new=st.binary(max_size=8),
)
def test_a_contract_with_a_piece_changed_parses_or_is_a_contract_error(
    at: int, cut: int, new: bytes
):
    content = GOOD.encode()

    assert isinstance(outcome(content[:at] + new + content[at + cut :]), Contract | ContractError)


def test_a_contract_cut_off_at_any_line_parses_or_is_a_contract_error():
    """Whole only from the first event on: an editor's half-written file collects nothing more."""
    lines = GOOD.splitlines(keepends=True)
    parsed = [
        count
        for count in range(len(lines))
        if isinstance(outcome("".join(lines[:count]).encode()), Contract)
    ]
    first_event = line_with("[events.install]", GOOD) + 2

    assert (min(parsed) == first_event, len(parsed) < len(lines) - first_event + 1) == (True, True)

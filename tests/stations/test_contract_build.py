"""A contract as constants: all that the stub needs, equal to the contract whatever texts it holds."""

from __future__ import annotations

import ast
import tomllib
from contextlib import suppress

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.inline_contracts import (
    EVERY_TYPE,
    HOSTILE_TEXTS,
    INLINE,
    changed,
    hostile,
    parsed,
)
from support.processes import CONTRACTS
from tallyd.contract import Contract, ContractError, parse_contract
from tallyd.contract.build import built, render_python
from tallyd.contract.field_grammar import read_field
from tallyd.contract.model import Field, Rollup
from tallyd.contract.table import Table

CASES = {
    **{file.stem: file.read_text(encoding="utf-8") for file in CONTRACTS.glob("*.toml")},
    **INLINE,
}
each = pytest.mark.parametrize("text", CASES.values(), ids=list(CASES))


def constants_in(module: str) -> object:
    """What a Python of the oldest supported version finds in CONTRACT, without running anything."""
    tree = ast.parse(module, feature_version=(3, 9))
    docstring, assignment = tree.body
    assert isinstance(docstring, ast.Expr)
    assert isinstance(assignment, ast.Assign)
    assert ast.unparse(assignment.targets[0]) == "CONTRACT"
    return ast.literal_eval(assignment.value)


def read(name: str, spec: dict, *, is_envelope: bool = False) -> Field:
    return read_field(name, Table("", "", (), spec), is_envelope=is_envelope)


def specs_of(event: dict) -> dict[str, dict]:
    return event["dimensions"] if event["kind"] == "rollup" else event["properties"]


def test_the_constants_of_a_contract_are_these():
    text = changed(
        INLINE["user"],
        ('notice = "Every type: {off_command}, {details}"', 'notice = "{off_command}"'),
    )
    whole = built(parsed(text))
    events = whole.pop("events")
    assert isinstance(events, dict)
    types = events.pop("types")

    assert whole == {
        "product": {"name": "every-posthog", "details": "docs/every-type.md"},
        "digest": parsed(text).digest,
        "text": text,
        "schema_version": 7,
        "consent": {
            "default": "ask",
            "do_not_track": "any",
            "env": [{"name": "EVERY_TELEMETRY", "off": ["0", "no"], "on": []}],
            "ci": "off",
            "terminal": "required",
            "modes": ["off", "anonymous", "identified"],
            "notice": "{off_command}",
            "notice_when": "interactive",
            "off_command": "every off",
        },
        "state": {
            "file": "~/.every.toml",
            "format": "toml",
            "strict": True,
            "keys": {"mode": "telemetry_mode", "user": "user_id"},
            "default_source": "default-notice",
        },
        "identity": {
            "kind": "user",
            "prefix": "",
            "fallback_prefix": "",
            "length": 0,
            "project": False,
        },
        "envelope": {
            "version": {"type": "version", "from": "version"},
            "os": {"type": "token", "max": 16, "from": "runtime.os"},
            "level": {"type": "int", "max": 9, "expires": "2029-01-01", "from": "host"},
        },
    }
    assert events == {
        "needs": {
            "kind": "event",
            "properties": {
                "must": {"type": "token"},
                "may": {"type": "token", "optional": True},
                "ends": {"type": "token", "expires": "2028-01-01"},
                "rate": {"type": "number", "max": 1},
            },
            "expires": "2030-01-01",
            "sample": 0.1,
            "sample_as": "rate",
        },
        "sums": {
            "kind": "rollup",
            "dimensions": {
                "theme": {"type": "token", "max": 8, "registered": True, "optional": True},
                "tool": {"type": "token", "max": 8},
                "wide": {"type": "boolean", "optional": True},
            },
            "measures": ["count", "bytes", "errors"],
        },
    }
    assert (types.pop("kind"), types.pop("once")) == ("event", "process")
    properties = types.pop("properties")
    assert types == {}
    assert list(properties)[:3] == ["project", "theme", "enum"]
    assert properties["project"] == {"type": "hash", "optional": True}
    assert properties["records"] == {
        "type": "list",
        "of": "record",
        "max_items": 2,
        "optional": True,
        "fields": {
            "driver": {"type": "token", "max": 4},
            "demo": {"type": "boolean", "optional": True},
        },
    }
    assert properties["detail"] == {
        "type": "redacted",
        "max": 20,
        "switch": "EVERY_DETAIL",
        "optional": True,
    }


def test_a_derived_id_comes_with_all_that_derives_it():
    constants = built(parsed(INLINE["derived"]))

    assert (constants["state"], constants["identity"]) == (
        None,
        {
            "kind": "derived",
            "prefix": "cluster_",
            "fallback_prefix": "local_",
            "length": 16,
            "project": False,
        },
    )
    project = built(parsed(INLINE["posthog"]))["identity"]
    assert isinstance(project, dict)
    assert project["project"] is True


@each
def test_every_spec_reads_as_the_field_it_was_made_of(text: str):
    """Nothing that the grammar knows can be forgotten: less its texts, each field is the same."""
    contract = parsed(text)
    constants = built(contract)
    envelope, events = constants["envelope"], constants["events"]
    assert isinstance(envelope, dict)
    assert isinstance(events, dict)

    read_back = {
        name: {one: read(one, spec) for one, spec in specs_of(event).items()}
        for name, event in events.items()
    }

    assert {name: read(name, spec, is_envelope=True) for name, spec in envelope.items()} == {
        name: wordless(one) for name, one in contract.envelope.items()
    }
    assert read_back == {
        name: {one: wordless(field) for one, field in event.fields.items()}
        for name, event in contract.events.items()
    }
    assert {name: tuple(event.get("measures", ())) for name, event in events.items()} == {
        name: event.measures if isinstance(event, Rollup) else ()
        for name, event in contract.events.items()
    }


def wordless(field: Field) -> Field:
    """A field without what only people and the wire read."""
    return Field(
        field.type, is_optional=field.is_optional, expires=field.expires, origin=field.origin
    )


@each
def test_no_spec_says_what_it_means_anyway(text: str):
    events = built(parsed(text))["events"]
    assert isinstance(events, dict)
    for event in events.values():
        for name, spec in specs_of(event).items():
            for key in set(spec) - {"type"}:
                less = {one: value for one, value in spec.items() if one != key}
                with suppress(ContractError):
                    means_the_same = read(name, less) == read(name, spec)
                    assert not means_the_same, (name, key)


@each
@pytest.mark.parametrize("is_off", [False, True])
def test_the_module_holds_the_constants(text: str, is_off: bool):
    contract = parsed(text)
    module = render_python(contract, "telemetry.toml", is_off=is_off)

    assert constants_in(module) == built(contract, is_off=is_off)
    assert module.isascii()
    assert max(len(line) for line in module.splitlines()) <= 100
    assert not any(line.endswith((" ", "\t")) for line in module.splitlines())
    assert module == render_python(contract, "telemetry.toml", is_off=is_off)


def test_the_module_says_what_it_was_built_from_and_how():
    module = render_python(parsed(EVERY_TYPE), "telemetry.toml")
    said = ast.get_docstring(ast.parse(module))

    assert said == (
        "The telemetry contract of every-type, as constants.\n\n"
        'Built from telemetry.toml by "tallyd contract build".\n'
        "Do not edit: change the contract and build again."
    )


def test_a_packagers_off_is_in_the_module_and_nowhere_else():
    contract = parsed(EVERY_TYPE)

    assert built(contract, is_off=True) == {**built(contract), "off": True}
    assert "off" not in built(contract)
    assert '"tallyd contract build --off"' in render_python(contract, "x", is_off=True)


def test_the_module_is_formatted_as_a_person_would():
    """A reviewer reads it: one item a line where it does not fit on one, in double quotes."""
    module = render_python(parsed(EVERY_TYPE), "telemetry.toml")

    assert '    "product": {"name": "every-type", "details": "docs/every-type.md"},\n' in module
    assert '                "may": {"type": "token", "optional": True},\n' in module
    assert "        'name = \"every-type\"\\n'\n" in module


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(texts=HOSTILE_TEXTS, source=st.text(max_size=20))
@example(texts=["a"] * 12, source='"""\nimport os\n"""\\')
@example(texts=["\\" * 200, *(["'" * 99] * 4), "a", *(['"' * 99 + "'"] * 6)], source="é\\")
def test_whatever_the_texts_are_the_module_holds_the_constants(texts: list[str], source: str):
    contract = hostile(texts)
    module = render_python(contract, source)

    assert constants_in(module) == built(contract)
    assert module.isascii()
    assert max(len(line) for line in module[module.index("CONTRACT") :].split("\n")) <= 100


def test_the_text_of_the_constants_is_the_contract_itself():
    """A host registers it at its first drop, and its digest must be the one that it says."""
    for text in (EVERY_TYPE.replace("\n", "\r\n"), "# \u2028 \x85 é\n" + EVERY_TYPE):
        contract = parse_contract(text.encode(), "x.toml")
        held = constants_in(render_python(contract, "x.toml"))
        assert isinstance(held, dict)

        again: Contract = parse_contract(held["text"].encode(), "x.toml")
        assert (again.digest, again.text) == (held["digest"], contract.text)
        assert tomllib.loads(held["text"])["contract"] == 1

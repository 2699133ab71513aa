"""Contracts of every shape, as hypothesis makes them up.

`contracts()` draws the text of a contract and gives it parsed. Names come from short lists, and a
field's name says which type it mostly has, so that two contracts that are drawn apart still have
much in common. `versions()` draws two of one product, which have more in common yet.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st
from tallyd.contract import Contract, parse_contract

from support.processes import ROOT

DAYS = ("2027-01-01", "2027-07-01", "2028-01-01")
WORDS = ("0", "off", "no", "1", "on", "yes")
SWITCHES = ("TOOL_TELEMETRY", "TOOL_STATS", "TOOL_QUIET")
EVENTS = ("calls", "sums", "started", "failed")
# An event's usual kind; the other one turns up now and then.
_ROLLUPS = ("calls", "sums")
_ITEMS = ("enum", "token", "label", "version", "int", "boolean", "bucket")
_KINDS = (
    *_ITEMS,
    *("number", "uuid", "hash", "error_class", "redacted", "list", "records", "names"),
)
_HOSTS = ("https://a.example", "https://a.example:8443", "https://b.example", "http://localhost")


def some(*choices: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from(choices)


def subset(names: Any, least: int = 0, most: int | None = None) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.sampled_from(names), unique=True, min_size=least, max_size=most)


# --- fields, as tables of TOML -------------------------------------------------------------------


@st.composite
def _type(draw: Any, kind: str) -> dict[str, Any]:
    """The keys of one type, each left out now and then."""
    table: dict[str, Any] = {"type": kind}
    if kind == "enum":
        table["values"] = draw(subset(("a", "b", "Bad", "c d", "_unknown"), 1))
    elif kind in ("token", "label", "version"):
        _maybe(draw, table, "max", some(1, 4, 8, 64))
        _maybe(draw, table, "cut", st.booleans())
        _maybe(draw, table, "registered", some(False, False, True))
        if table.get("registered") and "max" in table:
            # What stands for a name that nobody registered has to fit.
            table["max"] = max(table["max"], 8)
    elif kind in ("int", "number"):
        low = some(-5, 0, 2) if kind == "int" else some(-5, -0.5, 0, 2.5)
        _maybe(draw, table, "min", low)
        _maybe(draw, table, "max", some(3, 9, 100) if kind == "int" else some(3, 9.5, 100))
    elif kind == "bucket":
        table["edges"] = sorted(draw(subset((10, 100, 1000), 1)))
        table["labels"] = _labels(table["edges"], draw(some("", "", "~")))
    elif kind == "hash":
        _maybe(draw, table, "length", some(8, 16, 64))
        _maybe(draw, table, "prefix", some("c_"))
    elif kind == "error_class":
        _maybe(draw, table, "max", some(4, 12))
    elif kind == "redacted":
        table |= {"switch": draw(some("TOOL_DETAILS", "TOOL_DETAILS", "TOOL_MORE"))}
        _maybe(draw, table, "max", some(5, 20))
    elif kind == "list":
        of = draw(some(*_ITEMS))
        table |= draw(_type(of)) | {"type": "list", "of": of, "max_items": draw(some(1, 2, 5))}
    elif kind == "records":
        inner = {
            name: draw(_type(_usual(draw, name, _ITEMS))) | draw(_optional())
            for name in draw(subset(("enum", "int", "token"), 1))
        }
        table |= {"type": "list", "of": "record", "fields": inner, "max_items": draw(some(1, 3))}
    elif kind == "names":
        if draw(st.booleans()):
            table["values"] = draw(subset(("a", "b", "c"), 1))
        else:
            _maybe(draw, table, "max", some(4, 8))
        _maybe(draw, table, "max_items", some(1, 2, 5))
    return table


def _labels(edges: list[int], mark: str) -> list[str]:
    return [f"<{edges[0]}", *(f"{one}+{mark}" for one in edges)]


def _maybe(draw: Any, table: dict[str, Any], key: str, value: st.SearchStrategy[Any]) -> None:
    if draw(st.booleans()):
        table[key] = draw(value)


def _optional() -> st.SearchStrategy[dict[str, Any]]:
    return some({}, {"optional": True})


def _usual(draw: Any, name: str, kinds: tuple[str, ...]) -> str:
    """The type that a name says, but for one in eight."""
    kind = name.removeprefix("s_").removeprefix("e_")
    return kind if kind in kinds and draw(st.integers(0, 7)) else draw(some(*kinds))


@st.composite
def _field(draw: Any, name: str, *, is_envelope: bool = False) -> dict[str, Any]:
    table = draw(_type(_usual(draw, name, _KINDS)))
    # Free text has to be optional.
    if table["type"] == "redacted" or (not is_envelope and draw(st.booleans())):
        table["optional"] = True
    if is_envelope:
        table.pop("optional", None)
        _maybe(draw, table, "from", some("host", "version", "runtime.os"))
    _maybe(draw, table, "about", some("What it says.", "What {it} says."))
    if not draw(st.integers(0, 3)):
        table["expires"] = draw(some(*DAYS))
    _maybe(draw, table, "as", some(f"w_{name}"))
    return table


# --- events --------------------------------------------------------------------------------------


@st.composite
def _event(draw: Any, name: str, shared: list[str], groups: list[str]) -> dict[str, Any]:
    is_rollup = (name in _ROLLUPS) == bool(draw(st.integers(0, 7)))
    own = draw(subset((*_KINDS, "rate"), most=5))
    table: dict[str, Any] = {
        "kind": "rollup" if is_rollup else "event",
        "about": draw(some("It happened.", "It was called.")),
        "dimensions" if is_rollup else "properties": {one: draw(_field(one)) for one in own},
    }
    _maybe(draw, table, "uses", subset(shared) if shared else st.just([]))
    _maybe(draw, table, "groups", subset(groups) if groups else st.just([]))
    _maybe(draw, table, "as", some(f"w {name}"))
    if not draw(st.integers(0, 3)):
        table["expires"] = draw(some(*DAYS))
    if not draw(st.integers(0, 2)):
        table["sample"] = draw(some(0, 0.1, 0.5, 1))
        if "rate" not in own:
            _maybe(draw, table, "sample_as", some("rate"))
    if is_rollup:
        table["measures"] = [
            {"name": one, "max": draw(some(5, 1000))} if draw(st.booleans()) else one
            for one in draw(subset(("count", "errors", "bytes"), 1))
        ]
    else:
        _maybe(draw, table, "once", some("process", "machine"))
    return table


# --- policy --------------------------------------------------------------------------------------


@st.composite
def _policy(draw: Any) -> dict[str, dict[str, Any]]:
    is_posthog = draw(st.booleans())
    modes = draw(some([], ["off", "anonymous"], ["off", "anonymous", "identified"]))
    if "identified" in modes:
        is_posthog = True
    endpoint: dict[str, Any] = {"url": draw(some(*_HOSTS)) + draw(some("", "/v1"))}
    if is_posthog:
        endpoint |= {"protocol": "posthog-batch", "key": draw(some("phc_a", "phc_b"))}
        _maybe(draw, endpoint, "key_env", some("TOOL_KEY", "TOOL_OTHER_KEY"))
    for key, value in {
        "override_env": some("TOOL_ENDPOINT", "TOOL_URL"),
        "retention_days": some(30, 90),
        "interval": some("1h", "6h"),
        "timeout": some("500ms", "3s"),
        "max_events": some(10, 50),
        "max_requests_per_minute": some(1, 2),
        "unanswered": some("keep", "drop"),
        "busy": some("final", "later"),
        "max_age_days": some(7, 30),
    }.items():
        _maybe(draw, endpoint, key, value)
    consent: dict[str, Any] = {"notice": draw(some("It counts.", "It counts: {details}"))}
    consent["default"] = draw(some("off", "ask") if modes else some("on", "on", "off", "ask"))
    consent["env"] = [_switch(draw, name) for name in draw(subset(SWITCHES))]
    if modes:
        consent["modes"] = modes
    for key, value in {
        "do_not_track": some("any", "set", "ignore"),
        "ci": some("off", "tag"),
        "terminal": some("any", "required"),
        "grace": some("0s", "1h", "24h"),
        "notice_when": some("before-send", "interactive"),
        "off_command": some("tool off"),
    }.items():
        _maybe(draw, consent, key, value)
    identity: dict[str, Any] = {}
    if "identified" in modes:
        identity["kind"] = "user"
    elif is_posthog and draw(st.booleans()):
        identity = {"kind": "derived", "prefix": "m_", "fallback_prefix": "r_"}
        identity["length"] = draw(some(12, 16))
    _maybe(draw, identity, "project", some("sha256(id:path)"))
    tables = {"endpoint": endpoint, "consent": consent, "identity": identity}
    if draw(st.booleans()):
        keys = [*draw(subset(("id", "source", "created"))), "mode" if modes else "enabled"]
        tables["state"] = {"file": draw(some("~/.tool/t.json", "~/.tool.json"))}
        tables["state"]["keys"] = {one: f"the_{one}" for one in keys}
        _maybe(draw, tables["state"], "format", some("json", "toml"))
        _maybe(draw, tables["state"], "strict", st.booleans())
    return tables


def _switch(draw: Any, name: str) -> dict[str, Any]:
    words = draw(subset(WORDS, 1))
    count = draw(st.integers(1, len(words)))
    return {"name": name, "off": words[:count], "on": words[count:]}


# --- contracts -----------------------------------------------------------------------------------


@st.composite
def contract_tables(draw: Any, product: str = "tool") -> dict[str, Any]:
    """The tables of a contract, as TOML would give them."""
    product_table = {"name": product, "title": draw(some("Tool", "A Tool")), "details": "none"}
    _maybe(draw, product_table, "about", some("It is a tool."))
    _maybe(draw, product_table, "schema_version", some(1, 2))
    shared = {name: draw(_field(name)) for name in draw(subset(("s_enum", "s_token", "s_int")))}
    groups = {
        name: draw(_type("hash")) | {"about": "Which one."} for name in draw(subset(("g1", "g2")))
    }
    envelope = draw(subset(("e_version", "e_token", "e_int", "e_enum", "e_list")))
    return {
        "contract": 1,
        "product": product_table,
        **draw(_policy()),
        "fields": shared,
        "groups": groups,
        "envelope": {name: draw(_field(name, is_envelope=True)) for name in envelope},
        "events": {
            name: draw(_event(name, list(shared), list(groups))) for name in draw(subset(EVENTS, 1))
        },
        "never": {"text": draw(subset(("paths", "code", "addresses")))},
    }


def contracts(product: str = "tool") -> st.SearchStrategy[Contract]:
    """Parsed contracts of one product, of every shape that the grammar has."""
    return contract_tables(product).map(contract_from)


@st.composite
def versions(draw: Any, product: str = "tool") -> tuple[Contract, Contract]:
    """Two versions of one contract: what the second does not draw anew is the first's."""
    old, new = draw(contract_tables(product)), draw(contract_tables(product))
    if draw(st.booleans()):
        return contract_from(old), contract_from(new)
    if draw(st.booleans()):
        new |= {name: old[name] for name in ("endpoint", "consent", "identity")}
        new.pop("state", None)
    for name in ("fields", "groups"):
        new[name] = {**new[name], **old[name]}
    new["envelope"] = _mixed(draw, old["envelope"], new["envelope"])
    for name in draw(subset(sorted(old["events"]), 1)):
        one = old["events"][name]
        inner = "dimensions" if one["kind"] == "rollup" else "properties"
        was = dict(one[inner])
        drawn = new["events"].get(name, one)
        if drawn["kind"] == one["kind"]:
            one = one | {key: value for key, value in drawn.items() if draw(st.booleans())}
            one[inner] = _mixed(draw, was, drawn[inner])
            if one.get("sample_as") in one[inner] or "sample" not in one:
                one.pop("sample_as", None)
        new["events"][name] = one
    return contract_from(old), contract_from(new)


def _mixed(draw: Any, old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Each field from either, where they have one."""
    names = sorted({**old, **new})
    return {
        name: draw(some(*(one[name] for one in (old, new) if name in one)))
        for name in names
        if draw(st.integers(0, 7))
    }


def contract_to_edit() -> Contract:
    """CodeGraph's contract as it once was: it stands still, so that what is edited in it is found."""
    return parse_contract((ROOT / "tests/vectors/contract_to_edit.toml").read_bytes(), "old.toml")


def contract_from(tables: Mapping[str, Any]) -> Contract:
    """The contract that these tables say."""
    return parse_contract(toml_of(tables).encode(), "drawn.toml")


def toml_of(tables: Mapping[str, Any]) -> str:
    """These tables as the text of a TOML file."""
    lines = [f"{key} = {_toml(one)}" for key, one in tables.items() if not isinstance(one, Mapping)]
    for name, table in tables.items():
        if name == "events":
            for event, one in table.items():
                lines += [f"[events.{event}]", *_lines(one)]
        elif isinstance(table, Mapping):
            lines += [f"[{name}]", *_lines(table)]
    return "\n".join((*lines, ""))


def _lines(table: Mapping[str, Any]) -> list[str]:
    return [f"{key} = {_toml(value)}" for key, value in table.items()]


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_toml(one)}" for key, one in value.items()) + " }"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value)

"""The stub's types: what they let through is what the daemon takes, and no more than that."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.hosts import built, texts
from support.tool import NAME, tool
from tallyd.contract.field_grammar import read_field
from tallyd.contract.fields import REFUSED
from tallyd.contract.table import Table
from tallyd_client import Client
from tallyd_client._fields import clean

NewClient = Callable[..., Client]

_HASH = "0123456789abcdef" * 4
_UUID = "5d0c7a16-2f0e-4c1b-9b58-7e41d2aa9f03"


class OwnError(Exception):
    """An error whose name is one."""


class _hidden(Exception):  # noqa: N801 - a name that is none for an error
    """An error whose name begins with no capital."""


_TOKEN: dict[str, Any] = {"type": "token", "max": 10}
_CUT: dict[str, Any] = {"type": "token", "max": 10, "cut": True}
_LABEL: dict[str, Any] = {"type": "label", "max": 24}
_CUT_LABEL: dict[str, Any] = {"type": "label", "max": 24, "cut": True}
_RECORD: dict[str, Any] = {
    "type": "list",
    "of": "record",
    "max_items": 2,
    "fields": {"driver": {"type": "token"}, "isDemo": {"type": "boolean", "optional": True}},
}
_NAMES: dict[str, Any] = {"type": "names", "max": 8, "max_items": 3}

# (field, what the host gives, what is recorded; None: nothing)
_CASES: list[tuple[dict[str, Any], Any, Any]] = [
    ({"type": "enum", "values": ["a", "b"]}, "b", "b"),
    ({"type": "enum", "values": ["a", "b"]}, "c", None),
    ({"type": "enum", "values": ["a"]}, 1, None),
    (_TOKEN, "search", "search"),
    *((_TOKEN, one, None) for one in ("", "a b", "longer than ten", 7, None, b"x", "ä")),
    (_CUT, "a b!", "ab"),
    (_CUT, "longer than ten", "longerthan"),
    *((_CUT, one, None) for one in ("/home/al", "a/b", "C:\\al", "http://x", "a\nb", "a\u2028b")),
    *((_CUT, one, None) for one in ("x\x00y", "\x9b31m", "ä", "")),
    (_LABEL, "@scope/pkg (beta)", "@scope/pkg (beta)"),
    (_LABEL, "A / B", "A / B"),
    *((_LABEL, one, None) for one in ("/home/al", "in /home/al", "(/etc/x)", "C:/Users", "a://b")),
    *((one, "see http://x", None) for one in (_LABEL, _CUT_LABEL)),
    (_CUT_LABEL, "Some Editor® 2", "Some Editor 2"),
    *((_CUT_LABEL, one, None) for one in ("~/notes", "x ~/notes", "a\\b", "D:/x", "a\tb", "/x")),
    ({"type": "version"}, "1.4.2-rc.1+5", "1.4.2-rc.1+5"),
    ({"type": "version"}, "1" * 33, None),
    ({"type": "int", "min": 2, "max": 9}, 2, 2),
    ({"type": "int", "min": 2, "max": 9}, 9, 9),
    *(({"type": "int", "min": 2, "max": 9}, one, None) for one in (1, 10, 2.0, True, "5", None)),
    ({"type": "int"}, 2**53 - 1, 2**53 - 1),
    ({"type": "int"}, 2**53, None),
    ({"type": "int"}, -1, None),
    ({"type": "number", "max": 10}, 2.5, 2.5),
    ({"type": "number", "max": 10}, 10, 10),
    *(({"type": "number", "max": 10}, one, None) for one in (10.1, -0.1, True, "1")),
    *(({"type": "number"}, one, None) for one in (math.nan, math.inf, -math.inf, 10**400)),
    ({"type": "boolean"}, True, True),
    *(({"type": "boolean"}, one, None) for one in (1, "true", None)),
    *(
        ({"type": "bucket", "edges": [100, 1000], "labels": ["<100", "100-1k", "1k+"]}, *case)
        for case in (
            (0, "<100"),
            (-5, "<100"),
            (99.9, "<100"),
            (100, "100-1k"),
            (999, "100-1k"),
            (1000, "1k+"),
            (10**30, "1k+"),
            (math.inf, "1k+"),
            ("1k+", "1k+"),
            ("100", None),
            (math.nan, None),
            (True, None),
        )
    ),
    ({"type": "list", "of": "token", "max_items": 2}, ["a", "b c", "d", "e"], ["a", "d"]),
    ({"type": "list", "of": "token", "max_items": 2}, ("a",), ["a"]),
    ({"type": "list", "of": "token", "max_items": 2}, "ab", None),
    ({"type": "list", "of": "int", "max": 5, "max_items": 9}, [1, 6, True, 5], [1, 5]),
    (_RECORD, [{"driver": "pg", "isDemo": True}], [{"driver": "pg", "isDemo": True}]),
    (_RECORD, [{"driver": "pg", "path": "/x"}], [{"driver": "pg"}]),
    (_RECORD, [{"isDemo": True}, {"driver": "a b"}, "pg", {"driver": "my"}], [{"driver": "my"}]),
    (_RECORD, [{"driver": one} for one in "abc"], [{"driver": "a"}, {"driver": "b"}]),
    (_NAMES, {"quiet": True, "to": False, "n": 1}, {"quiet": True}),
    (_NAMES, ["quiet", "a b", "far too long"], {"quiet": True}),
    (_NAMES, ("a", "b", "c", "d"), {"a": True, "b": True, "c": True}),
    (_NAMES, {"quiet"}, {"quiet": True}),
    (_NAMES, "quiet", None),
    (_NAMES, 7, None),
    ({"type": "names", "values": ["quiet"]}, ["quiet", "loud"], {"quiet": True}),
    ({"type": "uuid"}, _UUID.upper(), _UUID),
    *(({"type": "uuid"}, one, None) for one in (_UUID[1:], _UUID.replace("-", ""), "", 5)),
    ({"type": "hash"}, _HASH, _HASH),
    ({"type": "hash", "length": 16, "prefix": "cluster_"}, "cluster_" + _HASH[:16], ...),
    *(({"type": "hash"}, one, None) for one in (_HASH[1:], _HASH.upper(), "/srv/x", 5)),
    ({"type": "hash", "length": 16, "prefix": "cluster_"}, _HASH[:16], None),
    ({"type": "error_class"}, OwnError("/home/al is gone"), "OwnError"),
    ({"type": "error_class"}, OwnError, "OwnError"),
    ({"type": "error_class"}, KeyError("x"), "KeyError"),
    ({"type": "error_class"}, "TypeError", "TypeError"),
    ({"type": "error_class"}, _hidden("x"), None),
    *(({"type": "error_class"}, one, None) for one in ("a message", "typeError", "A.B", "A/B", "")),
    ({"type": "error_class"}, "E" * 81, None),
    ({"type": "error_class", "max": 5}, "TypeError", None),
]


@pytest.mark.parametrize(("spec", "given", "expected"), _CASES)
def test_a_field_records_what_its_type_lets_through(
    spec: dict[str, Any], given: Any, expected: Any
):
    """And the daemon keeps exactly that: what it would refuse, the stub does not drop."""
    expected = given if expected is ... else expected
    recorded = clean(spec, given)
    field = read_field("field", Table("", "", (), spec))
    kept = field.type.screen(recorded) if recorded is not None else REFUSED

    assert (expected, type(expected)) == (recorded, type(recorded))
    assert (expected if expected is not None else REFUSED) == kept


@pytest.mark.parametrize("answer", ["1", "true", " YES ", "on"])
def test_free_text_is_recorded_only_where_its_own_switch_says_yes(
    monkeypatch: pytest.MonkeyPatch, answer: str
):
    spec = {"type": "redacted", "switch": "TOOL_DETAIL", "optional": True}
    said = "no such  file /home/alice/secret.sql\npassword=hunter2"
    monkeypatch.delenv("TOOL_DETAIL", raising=False)
    unset = clean(spec, said)
    refused = []
    for no in ("", "0", "no", "off", "maybe", "2"):
        monkeypatch.setenv("TOOL_DETAIL", no)
        refused.append(clean(spec, said))
    monkeypatch.setenv("TOOL_DETAIL", answer)
    recorded = clean(spec, said)

    assert [unset, *refused] == [None] * 7
    assert "no such file" in recorded
    assert not any(one in recorded for one in ("alice", "hunter2", "\n", "  "))
    assert clean(dict(spec, max=10), said) == recorded[:10].strip()
    assert clean(spec, 7) is None


_ERRORS = """
[events.failed]
kind = "event"
properties.detail = { type = "redacted", switch = "TOOL_DETAIL", optional = true }
properties.error = { type = "error_class" }
properties.flags = { type = "names", optional = true }
properties.parts = { type = "list", of = "record", max_items = 3, optional = true, fields = { driver = { type = "token" } } }
[events.seen]
kind = "rollup"
dimensions.error = { type = "error_class" }
measures = ["count"]
"""


def test_text_is_redacted_before_it_touches_the_disk(
    new_client: NewClient, home: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("TOOL_DETAIL", "1")
    client = new_client(tool(events=_ERRORS), NAME)
    client.event("failed", error=OwnError("x"), detail="token=abcdef123456 in /home/alice/x.py")
    client.drain()

    written = b"".join(file.read_bytes() for file in home.rglob("*") if file.is_file())
    (told,) = texts(home, NAME)[0]["events"]
    assert (b"abcdef123456" in written, b"alice" in written) == (False, False)
    assert told[2]["error"] == "OwnError"
    assert told[2]["detail"].startswith("token=")


def test_a_host_goes_on_with_what_it_told_and_no_error_is_kept_alive(
    new_client: NewClient, home: Path
):
    """An error holds its frames, and with them whatever the host had in its hands."""
    client = new_client(tool(events=_ERRORS), NAME)
    count = client.rollup("seen", "error")
    flags, parts, names = {"quiet": True}, [{"driver": "pg"}], iter(["a", "b"])
    for _ in range(1005):
        count(KeyError("each is another key"))
    client.counter("seen", error=OwnError("x"))()
    client.event("failed", error=OwnError("x"), flags=flags, parts=parts)
    client.event("failed", error="OwnError", flags=names)
    flags["loud"] = True
    parts[0]["driver"] = "my"
    parts.append({"driver": "x"})
    held = [told[2]["error"] for told in client._events]
    client.drain()

    (delta,) = texts(home, NAME)
    assert held == [OwnError, "OwnError"]
    assert [one[1:] for one in delta["counts"]] == [
        [{"error": "KeyError"}, {"count": 1005}],
        [{"error": "OwnError"}, {"count": 1}],
    ]
    assert [one[2] for one in delta["events"]] == [
        {"error": "OwnError", "flags": {"quiet": True}, "parts": [{"driver": "pg"}]},
        {"error": "OwnError", "flags": {"a": True, "b": True}},
    ]


_REGISTERED = """
[events.used]
kind = "rollup"
dimensions.tool = { type = "token", cut = true, registered = true }
measures = ["count"]
[events.ran]
kind = "event"
properties.tools = { type = "list", of = "token", max_items = 9, registered = true, optional = true }
properties.flags = { type = "names", registered = true, optional = true }
"""


def test_a_name_that_nobody_registered_is_recorded_as_unknown(new_client: NewClient, home: Path):
    client = new_client(tool(events=_REGISTERED), NAME)
    count = client.rollup("used", "tool")
    client.register("tool", ["search", "in dex", 7])
    client.register("tool", "node")
    client.register("tools", {"search"})
    client.register("flags", iter(["quiet"]))
    for bad in (None, 7, [[]], object()):
        client.register("tool", bad)
    for name in ("search", "node", "in dex", "n", "secret-project", "/home/al", "", 7):
        count(name)
    client.event("ran", tools=["search", "mine", "node"], flags={"quiet": True, "mine": True})
    client.drain()

    (delta,) = texts(home, NAME)
    assert [(one[1]["tool"], one[2]["count"]) for one in delta["counts"]] == [
        ("search", 1),
        ("node", 1),
        ("index", 1),
        *([("_unknown", 1)] * 4),
    ]
    assert [one[2] for one in delta["events"]] == [{"tools": ["search"], "flags": {"quiet": True}}]
    assert delta["lost"] == {"error": 1}


def test_without_any_registered_name_every_name_is_unknown(new_client: NewClient, home: Path):
    client = new_client(tool(events=_REGISTERED), NAME)
    client.rollup("used", "tool")("search")
    client.drain()

    assert [one[1] for one in texts(home, NAME)[0]["counts"]] == [{"tool": "_unknown"}]


def test_a_field_of_a_type_that_nobody_knows_is_never_recorded(new_client: NewClient, home: Path):
    contract = built()
    contract["events"]["server_started"]["properties"]["transport"] = {"type": "colour"}
    contract["envelope"]["host_version"] = {"type": "token", "from": "host"}
    client = new_client(contract, envelope={"host_version": "a b"})
    client.event("server_started", transport="stdio")
    client.drain()

    (delta,) = texts(home)
    assert (delta["events"], delta["lost"]) == ([], {"error": 1})
    assert "host_version" not in delta["envelope"]


def test_an_envelope_that_cannot_be_filled_is_a_problem_and_costs_the_host_nothing(
    new_client: NewClient, home: Path
):
    contract = built()
    contract["envelope"]["os"] = {"type": "colour", "from": "runtime.os"}
    client = new_client(contract)
    client.counter("tool_calls", tool="search")()
    client.drain()

    assert (client.problem, list(home.iterdir())) == ("'colour'", [])

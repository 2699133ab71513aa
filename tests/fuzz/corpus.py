"""Good inputs of every target, made here from the tests' own, and the pieces that hostile ones are made of."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from support.clock import TODAY
from support.deltas import delta, tool_calls
from support.flat_files import CHOICE
from support.inline_contracts import INLINE
from support.processes import CONTRACTS

_ID = "c1b0f2d8-6a3e-4f27-8a44-0d9e6b5f1c72"
_DATE = "2026-06-03T08:00:12.114Z"


def seeds(target: str) -> list[bytes]:
    """Inputs that `target` accepts, small ones of every kind."""
    return [one if isinstance(one, bytes) else _json(one) for one in _SEEDS[target]()]


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def whole() -> dict[str, object]:
    """A delta that has everything which docs/spool.md names, in the order in which the stub writes it."""
    named = delta(
        contract="961696fad89fead3",
        consent={"since": _DATE, "id": _ID},
        id="cluster_0123456789abcdef",
        counts=[tool_calls("a", 3, 1), tool_calls("b")],
        events=[["server_started", f"{TODAY}T10:00:00.000Z", {"transport": "stdio"}]],
        lost={"cap": 2, "error": 1},
    )
    order = ("v", "product", "contract", "writer", "consent", "id", "envelope", "day", "counts")
    return {key: named[key] for key in (*order, "events", "lost")}


def every_type() -> dict[str, object]:
    """A delta with one field of each type there is."""
    kinds = {
        "enum": "a", "token": "ab.c", "label": "a b", "int": 7, "number": 0.5, "boolean": True,
        "bucket": "<10", "hash": "0" * 64, "uuid": _ID, "error": "ValueError", "redacted": "a /home/b",
        "list": ["a", "b"], "names": ["k"], "records": [{"a": 1, "b": "c"}],
    }  # fmt: skip
    return delta(events=[["types", f"{TODAY}T23:59:59.999Z", kinds]])


def _deltas() -> list[object]:
    consent = {"since": _DATE, "id": _ID}
    events = [["server_started", f"{TODAY}T10:00:00.000Z", {"transport": "stdio"}]]
    return [
        delta(),
        delta(counts=[tool_calls("a", 3, 1), tool_calls("b")], lost={"cap": 2, "error": 1}),
        delta(consent=consent, contract="961696fad89fead3", events=events, counts=[]),
        delta(
            id="cluster_0123456789abcdef", consent={"since": None, "id": None}, future={"a": [1]}
        ),
        whole(),
        every_type(),
        delta(
            events=[
                [*events[0][:1], f"{day}T10:00:00.000Z", {}] for day in ("2026-01-01", "2027-01-01")
            ]
        ),
        delta(day="2026-01-01"),
        json.dumps(delta(), indent=1).encode(),
    ]


def _states() -> list[object]:
    own = {"on": True, "installId": _ID, "noticeAt": _DATE, "noticeVersion": 1}
    tallyds = {"enabled": True, "machine_id": _ID, "consent_source": "cli", "updated_at": _DATE}
    whole = {
        "on": True, "id": _ID, "source": "cli", "told": True, "toldAt": _DATE, "toldVersion": 1,
        "created": _DATE, "updated": _DATE,
    }  # fmt: skip
    toml = "".join(f"{key} = {json.dumps(value)}\n" for key, value in whole.items())
    beside = b"\n%%\n" + _json({"choice": "on", "updated_at": _DATE})
    modes = {"mode": "identified", "user": "me"}
    return [
        *(letter + _json({**tallyds, "mode": "anonymous", "user_id": "me"}) for letter in (b"a", b"i", b"l")),
        *(b"a" + _json({**tallyds, "enabled": one}) for one in (False, None)),
        *(letter + _json(own) + beside for letter in (b"b", b"c")),
        *(letter + _json(whole) + beside for letter in (b"d", b"e")),
        b"f" + toml.encode(),
        b'gtelemetry_mode = "identified"\nuser_id = "me"\n%%\n'
        + _json({"choice": "identified", "updated_at": _DATE}),
        b"h" + _json({**whole, **modes}),
        *(letter + _json({"mode": "anonymous", "on": True, "id": _ID}) + beside for letter in (b"j", b"k")),
        b"m" + _json({"on": True, "user": "me", "source": "cli"}) + beside,
        b'non = true\nsource = "cli"\n\n[table]\nx = 1\n' + beside,
    ]  # fmt: skip


def _contracts() -> list[object]:
    smallest = sorted(CONTRACTS.glob("*.toml"), key=lambda file: file.stat().st_size)[:4]
    return [*(file.read_bytes() for file in smallest), *(text.encode() for text in INLINE.values())]


def _policies() -> list[object]:
    return [
        b'off = ["codegraph", "tool"]\n',
        b"off = true\n",
        b'# Written by hand\noff = true # all\nexcept = ["tool"]\n',
        b"",
    ]


def _settings() -> list[object]:
    return [
        b"d" + b'[daemon]\nlog_level = "debug"\nrescan_interval_s = 30\nwatch = false\n',
        b"l" + _json({"pid": 17, "role": "daemon", "version": "0.1.0", "started_at": 1795176000.5}),
        b"r" + _json(["codegraph", "tallyd-demo"]),
        b"r" + _json(["codegraph", "../other", "a/b", "..", ""]),
        b"a" + _json({"sent": 1, "problems": []}),
        b"n" + b"2026-11-20T12:00:00.000Z\n",
        b"c" + (CONTRACTS / "tallyd-demo.toml").read_bytes(),
    ]


def _bodies() -> list[object]:
    body: dict[str, Any] = {
        "machine_id": _ID, "os": "linux", "schema_version": 1, "batch_id": _ID, "product": "tallyd-demo",
        "contract": "961696fad89fead3", "sent_at": f"{TODAY}T12:00:00.000Z", "lost": {"cap": 3},
        "events": [
            {"event": "tool_calls", "ts": f"{TODAY}T12:00:00.000Z",
             "props": {"tool": "search", "count": 4, "error_count": 1}},
            {"event": "server_started", "ts": f"{TODAY}T10:00:00.000Z", "props": {"transport": "stdio"}},
        ],
    }  # fmt: skip
    many = {**body, "events": body["events"] * 60}
    return [body, many, {**body, "product": "codegraph"}, {**body, "product": None, "events": []}]


_SEEDS = {
    "delta": _deltas,
    "intake": _deltas,
    "contract": _contracts,
    "state": _states,
    "flat_toml": lambda: [CHOICE.encode(), *_policies(), b'a = "\\u0041"\n[t.u]\nb = -1.5e3\n'],
    "policy": _policies,
    "small_files": _settings,
    "gateway_body": _bodies,
}
TARGETS = tuple(_SEEDS)

_EVERYWHERE = [
    b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\xc3", b"\xff\xfe", b"\xf0\x9f\x98\x80", b"\x00", b"\x7f", b"\x1b[2J",
    "\u2028".encode(), "\x85".encode(), "\u202e".encode(), "\u0660".encode(), b"\r\n", b"\r", b" ", b"\t",
    b"-0", b"1e999", b"-1e-999", b"0x10", b"1_0", b"00", b"1.0", b"9007199254740992", b"18446744073709551616",
    b"9" * 400, b"9" * 4301, b"true", b"null", b"NaN", b"-Infinity", b'""', b"[]", b"{}", b"off",
]  # fmt: skip
_JSON_PIECES = [
    b',"counts":[', b'],"events":[', b'}],["', b'"}]', b'],"events":[]}', b'["', b'"lost":{"cap":1},',
    *(b"[" * levels + b"]" * levels for levels in range(1, 9)), b'"%s"' % (b"x" * 256), b'"%s"' % (b"x" * 257),
    b'"\\ud800"', b'"\\ud83d\\ude00"', b'"\\u0000"', b'"\\/"', b"[" * 8, b"[" * 1200, b'{"a":' * 8, b'{"a":' * 1200,
    b"]" * 8, b"}" * 8, b'"a":1,', b'"v":1,', b'"enabled":false,', b'"on":true,', b"// x\n", b",]", b",}",
    b'"choice":"on",', b'"mode":"identified"', b'"identified"', b'"anonymous"',
]  # fmt: skip
_TOML_PIECES = [
    b"'''", b'"""', b"[a.b.c.d]\n", b"[[a]]\n", b"a.b.c = 1\n", b"a." * 400 + b"b = 1\n", b"[" * 400, b"{a=" * 400,
    b"x = 2026-11-20\n", b"x = 2026-11-20T12:00:00Z\n", b"x = inf\n", b"x = nan\n", b"x = 0xff\n", b'"\\UFFFFFFFF"',
    b'"\\ud800"', b"off = true\n", b"x = 1\n", b"[a.b]\n[a]\nb = 1\n", b"# x\n", b"[t]\n", b"optional = true, ", b'type = "redacted"',
    b'type = "list", of = "record"', b'expires = "2026-11-31"', b"registered = true, ",
]  # fmt: skip


@cache
def pieces(target: str) -> list[bytes]:
    """What is spliced into the inputs of `target`, and given to the fuzzer as words."""
    is_toml = target in ("contract", "flat_toml", "policy", "state", "small_files")
    is_json = target not in ("contract", "flat_toml", "policy")
    return [*_EVERYWHERE, *(_TOML_PIECES if is_toml else []), *(_JSON_PIECES if is_json else [])]

"""Twice the input is twice the work, for the shapes that are made to be more; and memory is bounded.

No time is measured: lines of Python and bytes are counted. What a file may cost in all follows from
its cap, which every reader keeps before it reads.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from support.clock import NOON
from support.deltas import delta
from support.processes import DEMO_CONTRACT
from support.work import grows_in_step, peak_bytes, steps
from tallyd import flat_toml
from tallyd.contract import ContractError, parse_contract
from tallyd.contract.diff import compare
from tallyd.contract.document import render_document
from tallyd.contract.intersect import intersect
from tallyd.contract.lint import findings
from tallyd.delta import parse_delta
from tallyd.errors import Malformed
from tallyd.state_file import keys_of, read_values
from tallyd_ingest.body import BadBody, read_batch

_DEMO = parse_contract(DEMO_CONTRACT.read_bytes(), "demo.toml")
_BASE = DEMO_CONTRACT.read_text(encoding="utf-8")
_EVENT = '[events.e]\nkind = "{}"\nabout = "x"\n'


def _lines(form: str, n: int) -> str:
    return "".join(form.format(i) for i in range(n))


def _below(header: str, n: int) -> bytes:
    """So many keys below one header."""
    return f"[{header}]\n".encode() + _lines("k{} = 1\n", n).encode()


def _json(**keys: Any) -> bytes:
    return json.dumps(keys).encode()


def _contract(content: bytes) -> None:
    """Read it, and if it is one, do all that `contract check`, `docs` and a wider version do."""
    try:
        contract = parse_contract(content, "f.toml")
    except ContractError:
        return
    findings(contract, "f.toml", "2026-11-20")
    render_document(contract, "f.toml")
    intersect(contract, contract)
    compare(contract, contract)


def _delta(content: bytes) -> None:
    try:
        parse_delta(content, "tallyd-demo")
    except Malformed:
        return


def _flat(content: bytes) -> None:
    try:
        flat_toml.replace(content.decode(), {"new": True, "k1": None})
    except ValueError:
        return


def _state(content: bytes) -> None:
    try:
        read_values(content, keys_of(_DEMO))
    except ValueError:
        return


def _body(content: bytes) -> None:
    try:
        read_batch(content, {_DEMO.product: _DEMO}, NOON)
    except BadBody:
        return


_PARTS = ".".join(["a"] * 60)
_ID = "c1b0f2d8-6a3e-4f27-8a44-0d9e6b5f1c72"

# Of every shape what n of its pieces look like; n is up to 4 * the number beside it.
_SHAPES: dict[str, tuple[Callable[[bytes], None], int, Callable[[int], bytes]]] = {
    "keys below a deep header": (_contract, 150, lambda n: _below(_PARTS, n)),
    "deep headers": (_contract, 30, lambda n: _lines("[h{}." + _PARTS + "]\n", n).encode()),
    "a header of ever more parts": (_contract, 400, lambda n: ("[" + ".".join(["a"] * n) + "]\n").encode()),
    "keys below a header of ever more parts": (
        _contract, 200, lambda n: _below(".".join(["a"] * n), n)),
    "a key of ever more parts": (_contract, 400, lambda n: (".".join(["a"] * n) + " = 1\n").encode()),
    "quoted parts": (_contract, 400, lambda n: (".".join(['"\\""'] * n) + " = 1\n").encode()),
    "arrays of tables": (_contract, 400, lambda n: b"[[a]]\n" * n),
    "inline tables": (_contract, 200, lambda n: b"x = [" + _lines("{{a.b{0} = {0}}}, ", n).encode() + b"]"),
    "nested arrays": (_contract, 400, lambda n: b"x = " + b"[" * n),
    "escapes": (_contract, 500, lambda n: b'x = """' + b'\\n\n"' * n + b'"""\n'),
    "events": (_contract, 60, lambda n: (_BASE + _lines('[events.e{}]\nkind = "event"\nabout = "x"\n', n)).encode()),
    "fields": (_contract, 60, lambda n: (
        _BASE + _EVENT.format("event") + _lines('properties.a{} = {{ type = "int" }}\n', n)).encode()),
    "measures": (_contract, 300, lambda n: (
        _BASE + _EVENT.format("rollup") + "measures = [" + _lines('"m{}", ', n) + "]").encode()),
    "records": (_contract, 40, lambda n: (
        _BASE + _EVENT.format("event") + '[events.e.properties.a]\ntype = "list"\nof = "record"\nmax_items = 3\n'
        + _lines('fields.a{} = {{ type = "int" }}\n', n)).encode()),
    "counts": (_delta, 100, lambda n: _json(**delta(counts=[["e", {"a": "b"}, {"c": 1}]] * n))),
    "members": (_delta, 500, lambda n: _json(**delta(x={f"k{i}": i for i in range(n)}))),
    "deep members": (_delta, 2000, lambda n: b'{"a":' * n),
    "deep and wide": (_delta, 200, lambda n: _json(**delta(x=[[[[[[[] for _ in range(2)]]]]]] * n))),
    "a long text": (_delta, 2000, lambda n: _json(**delta(x="\ud800" * n))),
    "a long number": (_delta, 4000, lambda n: b'{"v":' + b"9" * n + b"}"),
    "lines": (_flat, 400, lambda n: _lines("k{} = 1\n", n).encode()),
    "tables": (_flat, 200, lambda n: _lines("[a.b.c.d.e.f.g.h{}]\n", n).encode()),
    "a table of many parts": (_flat, 500, lambda n: ("[" + ".".join(["a"] * n) + "]").encode()),
    "items": (_flat, 1000, lambda n: b"k1 = [" + b"'', " * n + b"]"),
    "empty lines in a list": (_flat, 2000, lambda n: b"k1 = [" + b"#\n" * n),
    "escaped": (_flat, 1000, lambda n: b'k1 = "' + b"\\u0041" * n + b'"'),
    "a wrong end": (_flat, 1000, lambda n: b"\n" * n + b"?"),
    "values": (_state, 500, lambda n: _json(**{f"k{i}": [i] for i in range(n)})),
    "deep values": (_state, 2000, lambda n: b'{"a":' * n),
    "rows": (_body, 100, lambda n: _json(machine_id=_ID, events=[{"event": "tool_calls", "props": {}}] * n)),
    "causes": (_body, 500, lambda n: _json(machine_id=_ID, lost={"c" * (i % 40): 1 for i in range(n)})),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("shape", _SHAPES)
def test_twice_the_input_is_twice_the_work(shape: str):
    read, n, made = _SHAPES[shape]
    read(made(2))
    inputs = [made(n), made(2 * n), made(4 * n)]
    assert len(inputs[2]) <= 64 * 1024, "no longer than a file may be"

    work = [steps(lambda content=content: read(content)) for content in inputs]
    memory = [peak_bytes(lambda content=content: read(content)) for content in inputs]

    assert grows_in_step(*work, slack=300), work
    assert grows_in_step(*memory, slack=64 * 1024), memory


def test_the_count_tells_work_that_grows_with_the_square():
    """The wrong reader that the comparison must always find."""

    def pairs(n: int) -> list[int]:
        found = []
        for i in range(n):
            for j in range(i):
                found.append(j)  # noqa: PERF402 - steps are what is wanted
        return found

    work = [steps(lambda n=n: pairs(n)) for n in (50, 100, 200)]
    memory = [peak_bytes(lambda n=n: pairs(n)) for n in (50, 100, 200)]

    assert (grows_in_step(*work, slack=300), grows_in_step(*memory, slack=10_000)) == (False, False)

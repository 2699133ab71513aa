"""The delta's grammar: every hostile content of docs/spool.md is refused with a reason."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.deltas import delta, tool_calls
from tallyd.delta import Delta, parse_delta
from tallyd.errors import Malformed
from tallyd.limits import DELTA_MAX_BYTES


def _parse(content: object) -> Delta:
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    return parse_delta(raw, "tallyd-demo")


def _nested(levels: int) -> object:
    return [] if levels == 0 else [_nested(levels - 1)]


def test_a_good_delta_is_understood():
    said = _parse(delta(lost={"cap": 3}, future_key={"ignored": True}))

    assert said.counts == [("tool_calls", {"tool": "search"}, {"count": 1, "error_count": 0})]
    assert said.lost == {"cap": 3}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\xfe", "UTF-8"),
        (b"\xef\xbb\xbf{}", "not JSON"),
        (b"[]", "object"),
        (b"17", "object"),
        (b'{"v":1,"v":1}', "twice"),
        (json.dumps(delta()).encode().replace(b'"count": 1', b'"count": NaN'), "no number"),
        (json.dumps(delta()).encode().replace(b'"count": 1', b'"count": Infinity'), "no number"),
        (json.dumps(delta()).encode() + b"{}", "not JSON"),
        (b"[" * 60_000, "deep"),
        (b'{"a":' * 10_000, "deep"),
        (b'{"v":' + b"9" * 5_000 + b"}", "not JSON"),
        (delta(deep=_nested(8)), "deep"),
        (delta(v=2), "v:"),
        (delta(v=True), "v:"),
        (delta(v=None), "v:"),
        (delta(v=1.0), "v:"),
        (delta(product="other"), "product:"),
        (delta(writer=None), "writer:"),
        (delta(writer={"epoch": "xyz", "seq": 0}), "writer.epoch"),
        (delta(writer={"epoch": "0" * 16, "seq": -1}), "writer.seq"),
        (delta(writer={"epoch": "0" * 16, "seq": True}), "writer.seq"),
        (delta(day="2026-13-01"), "day:"),
        (delta(day="2026-11-31"), "day:"),
        (delta(day="20261120"), "day:"),
        (delta(day=20261120), "day:"),
        (delta(envelope=[]), "envelope:"),
        (delta(counts={}), "counts"),
        (delta(counts=[["tool_calls", {}]]), "counts[0]"),
        (delta(counts=[tool_calls(), [1, {}, {}]]), "counts[1]"),
        (delta(counts=[tool_calls(count=-1)]), "whole number"),
        (delta(counts=[tool_calls(count=True)]), "whole number"),
        (delta(counts=[tool_calls(count=1.5)]), "whole number"),
        (delta(counts=[tool_calls(count=2**53)]), "whole number"),
        (delta(counts=[tool_calls(count="1")]), "whole number"),
        (delta(events=[["server_started", "yesterday", {}]]), "time"),
        (delta(events=[["server_started", "2026-11-20T25:00:00.000Z", {}]]), "time"),
        (delta(events=[["server_started", "2026-11-20T10:00:00.000Z", []]]), "events[0]"),
        (delta(lost={"cap": -1}), "lost"),
        (delta(lost=[]), "lost"),
    ],
)
def test_what_is_outside_the_format_is_malformed_with_a_reason(content, reason):
    with pytest.raises(Malformed) as refused:
        _parse(content)

    assert reason in str(refused.value)


@pytest.mark.parametrize("levels", range(5))
def test_eight_levels_are_not_too_deep(levels):
    _parse(delta(deep=_nested(levels + 2)))


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=2_000))
def test_any_bytes_are_a_delta_or_malformed(content):
    """No other exception, ever: one file must not be able to stop the intake."""
    try:
        _parse(content[:DELTA_MAX_BYTES])
    except Malformed:
        return


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(deadline=None, max_examples=300)
@given(st.sampled_from(sorted(delta(lost={}))), _JSON)
def test_any_value_under_any_key_is_a_delta_or_malformed(key, value):
    try:
        _parse({**delta(), key: value})
    except Malformed:
        return

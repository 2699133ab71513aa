"""The delta's grammar: every hostile content of docs/spool.md is refused with a reason."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.deltas import delta, tool_calls
from support.hosts import dropped
from tallyd.delta import Delta, DeltaReader, parse_delta
from tallyd.errors import Malformed
from tallyd.limits import DELTA_MAX_BYTES, DELTA_MEMORY_PIECE_BYTES, DELTA_MEMORY_PIECES


def _parse(content: object) -> Delta:
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    return parse_delta(raw, "tallyd-demo")


def _plain(said: Delta) -> dict[str, object]:
    """All that a delta says, as plain values to compare."""
    return {
        "day": said.about.day,
        "envelope": said.about.envelope,
        "counts": [[one.event, one.dimensions, one.measures] for one in said.counts],
        "events": [[one.event, one.ts, one.properties] for one in said.events],
        "lost": said.lost,
        "consent": said.about.consent,
        "id": said.about.derived_id,
    }


def _nested(levels: int) -> object:
    return [] if levels == 0 else [_nested(levels - 1)]


def test_a_good_delta_is_understood():
    said = _parse(delta(lost={"cap": 3}, future_key={"ignored": True}))

    assert _plain(said)["counts"] == [
        ["tool_calls", {"tool": "search"}, {"count": 1, "error_count": 0}]
    ]
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


# As our stubs write it: every key, in their order, without spaces.
_FULL = json.dumps(
    {
        "v": 1,
        "product": "tallyd-demo",
        "contract": "0" * 16,
        "writer": {"epoch": "0123456789abcdef", "seq": 3, "lang": "hand", "version": "1"},
        "consent": {"since": "2026-11-01T00:00:00Z", "id": "one"},
        "id": "sha256:00",
        "envelope": {"os": "linux", "ci": False},
        "day": "2026-11-20",
        "counts": [tool_calls(), tool_calls("read", 2), tool_calls()],
        "events": [["server_started", "2026-11-20T10:00:00.000Z", {"tool": "x"}]],
        "lost": {"cap": 4},
    },
    separators=(",", ":"),
)


def test_the_quick_way_and_the_strict_way_say_the_same():
    """A space is enough to go the strict way; the second of two is read from memory."""
    reader = DeltaReader("tallyd-demo")
    quick = [_plain(reader.read(_FULL.encode())) for _ in range(2)]
    strict = _plain(reader.read(_FULL.replace(",", ", ").encode()))

    assert quick == [strict, strict]
    assert (strict["lost"], strict["consent"], strict["id"], len(strict["counts"])) == (
        {"cap": 4},
        ("2026-11-01T00:00:00Z", "one"),
        "sha256:00",
        3,
    )


def test_equal_pieces_are_one_object_to_their_reader():
    """That is what lets intake add them up without looking into them."""
    reader = DeltaReader("tallyd-demo")
    one, other = (
        reader.read(_FULL.encode()),
        reader.read(_FULL.replace("abcdef", "abcde0").encode()),
    )

    assert one.counts[0] is one.counts[2] is other.counts[0]
    assert (one.about is other.about, one.counts[0] is one.counts[1]) == (True, False)


@pytest.mark.parametrize(
    ("part", "instead"),
    [
        ('{"v":1,', '{"v":1,"v":1,'),
        ('"day":"2026-11-20",', '"day":"2026-11-20","day":"2026-11-20",'),
        ('"seq":3,', '"seq":3,"seq":3,'),
        ('"since":', '"since":null,"since":'),
        ('"os":', '"os":"mac","os":'),
        ('{"tool":"read"}', '{"tool":"x","tool":"read"}'),
        ('{"count":2,', '{"count":1,"count":2,'),
        ('{"tool":"x"}', '{"tool":"y","tool":"x"}'),
        ('{"cap":4}', '{"cap":1,"cap":4}'),
        ('"count":2', '"count":NaN'),
        ('"count":2', '"count":2.0'),
        ('"count":2', '"count":true'),
        ('"count":2', '"count":-2'),
        ('"count":2', '"count":9007199254740992'),
        ('"seq":3', '"seq":9007199254740992'),
        ('"seq":3', '"seq":true'),
        ('"v":1', '"v":1.0'),
        ("abcdef", "ABCDEF"),
        ("abcdef", "abcdeg"),
        ("0123456789abcdef", "0123456789abcde"),
        ('"tallyd-demo"', '"tallyd"'),
        ("2026-11-20", "2026-11-31"),
        ('{"os":"linux","ci":false}', "[]"),
        ('{"tool":"x"}', "[" * 6 + "]" * 6),
        ('"linux"', "[" * 7 + "]" * 7),
        ('"id":"sha256:00"', '"id":7'),
        ('"consent":{"since":', '"consent":{"since":7,"then":'),
        ('"linux"', '"\\ud800'),
        ('}]],"lost"', '}],"lost"'),
    ],
)
def test_the_quick_way_lets_nothing_through_that_the_strict_one_refuses(part, instead):
    """Also where its other pieces are known already."""
    assert part in _FULL
    reader = DeltaReader("tallyd-demo")
    reader.read(_FULL.encode())

    with pytest.raises(Malformed):
        reader.read(_FULL.replace(part, instead).encode())


def test_what_a_reader_remembers_is_bounded():
    reader = DeltaReader("tallyd-demo")
    for number in range(DELTA_MEMORY_PIECES + 10):
        reader.read(
            _FULL.replace('"read"', f'"read_{number}"').replace("linux", f"{number}").encode()
        )
    reader.read(_FULL.replace('"read"', f'"{"x" * DELTA_MEMORY_PIECE_BYTES}"').encode())

    kept = [*reader._counts, *reader._abouts]
    assert len(kept) <= 2 * DELTA_MEMORY_PIECES
    assert max(map(len, kept)) <= DELTA_MEMORY_PIECE_BYTES


def test_what_our_stub_drops_is_read_the_quick_way(new_client, home, monkeypatch):
    """The strict way is as right and many times slower: nobody would notice but a user's battery."""
    monkeypatch.setattr("tallyd.delta.read_strictly", None)
    client = new_client()
    client.counter("tool_calls", tool="search")()
    client.event("server_started", transport="stdio")
    client.drain()
    client.rollup("tool_calls", "tool")("read", ok=False)
    client.drain()

    assert dropped(home).calls == {"search": 1, "read": 1}

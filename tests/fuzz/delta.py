"""The reader of deltas, beside one that was written from docs/spool.md, and the screening of what it gives."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from typing import Any

from support.inline_contracts import INLINE, parsed
from support.processes import CONTRACTS
from tallyd.body import canonical
from tallyd.contract import Contract, parse_contract
from tallyd.contract.model import Rollup
from tallyd.contract.screen import screen_counts, screen_envelope, screen_event
from tallyd.delta import Delta, parse_delta
from tallyd.errors import Malformed
from tallyd.limits import DELTA_MAX_BYTES

from fuzz import delta_by_spec
from fuzz.views import plain_delta, remembering, typed, weight

PRODUCT = "tallyd-demo"


def one_input(data: bytes) -> None:
    """Both readers say the same of `data`; what it holds is screened to listed names alone."""
    if len(data) > DELTA_MAX_BYTES:
        # The spool reads no further: `intake` looks at that.
        return
    delta = same_to_both(data)
    if delta is None:
        return
    written = json.dumps(_written(delta))
    # 1e999 is a number of JSON's that nothing but 1e999 stands for.
    if "Infinity" not in written:
        again = parse_delta(written.encode(), PRODUCT)
        assert typed(plain_delta(again)) == typed(plain_delta(delta))
    for contract in contracts():
        check_screening(contract, plain_delta(delta))


def same_to_both(data: bytes) -> Delta | None:
    """What `data` says to the daemon, and to the page as well; None where both refuse it."""
    delta = _read(lambda content: parse_delta(content, PRODUCT), data)
    second = remembering(PRODUCT)
    if second is not None:
        known = _read(second, data)
        assert (known is None) == (delta is None), "what was read before decides"
        assert known is None or typed(plain_delta(known)) == typed(plain_delta(delta))
    try:
        wanted = delta_by_spec.read(data, PRODUCT)
    except delta_by_spec.Unsaid:
        return delta
    except delta_by_spec.Refused:
        assert delta is None, "accepted, and docs/spool.md refuses it"
        return None
    assert delta is not None, "refused, and docs/spool.md accepts it"
    assert typed(plain_delta(delta)) == typed(wanted)
    assert weight(delta) == sum(
        max(measures.values(), default=0) for _, _, measures in wanted["counts"]
    ) + len(wanted["events"])
    return delta


def _read(read: Callable[[bytes], Delta], data: bytes) -> Delta | None:
    try:
        return read(data)
    except Malformed as reason:
        assert 0 < len(str(reason)) < 1000, "a reason is for people"
        return None


def check_screening(contract: Contract, said: dict[str, Any]) -> None:
    """What comes through holds listed names alone, is text at once, and comes through again."""
    day = said["day"]
    envelope, stripped = screen_envelope(contract, said["envelope"], day)
    _are_listed(envelope, contract.envelope, said["envelope"], stripped)
    assert screen_envelope(contract, envelope, day) == (envelope, 0)
    for event, dimensions, measures in said["counts"]:
        counts = screen_counts(contract, event, dimensions, measures, day)
        if counts is None:
            continue
        rollup = contract.events[event]
        assert isinstance(rollup, Rollup)
        _are_listed(counts.dimensions, rollup.dimensions, dimensions)
        assert list(counts.measures) == list(rollup.measures)
        assert counts.stripped >= 0
        again = screen_counts(contract, event, counts.dimensions, counts.measures, day)
        assert again is not None
        assert (again.dimensions, again.measures) == (counts.dimensions, counts.measures)
        assert again.stripped == 0
    for event, time, properties in said["events"]:
        kept = screen_event(contract, event, properties, time[:10])
        if kept is None:
            continue
        _are_listed(kept.properties, contract.events[event].fields, properties, kept.stripped)
        again = screen_event(contract, event, kept.properties, time[:10])
        assert again is not None
        assert (again.properties, again.stripped) == (kept.properties, 0)


@cache
def contracts() -> list[Contract]:
    """Contracts of every kind: the demo's, real ones, and some that have every type and rule."""
    ours = [
        parse_contract(file.read_bytes(), file.name) for file in sorted(CONTRACTS.glob("*.toml"))
    ]
    return [*ours, *(parsed(text) for text in INLINE.values())]


def _are_listed(kept: Any, listed: Any, given: Any, stripped: int = 0) -> None:
    assert set(kept) <= set(listed) & set(given)
    assert 0 <= stripped <= len(given)
    # The database and the wire take it: ASCII, and no number that JSON has not.
    assert canonical(kept).isascii()
    json.loads(canonical(kept), parse_constant=_never)


def _never(constant: str) -> None:
    raise AssertionError(f"{constant} came through")


def _written(delta: Delta) -> dict[str, Any]:
    """The delta as JSON once more, by the page."""
    said = plain_delta(delta)
    consent = said.pop("consent")
    derived_id = said.pop("derived_id")
    whole = {
        "v": 1,
        "product": PRODUCT,
        "writer": {"epoch": "0" * 16, "seq": 0, "lang": "fuzz", "version": "1"},
        **said,
    }
    if consent is not None:
        whole["consent"] = {"since": consent[0], "id": consent[1]}
    return whole if derived_id is None else {**whole, "id": derived_id}

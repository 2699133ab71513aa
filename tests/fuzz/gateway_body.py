"""The gateway's reader of bodies: only what a contract lists comes through, whatever was posted."""

from __future__ import annotations

import gzip
import json
import zlib

from support.clock import NOON
from tallyd.contract import Contract
from tallyd.contract.fields import MAX_INTEGER
from tallyd.contract.model import Rollup, SingleEvent
from tallyd_ingest.body import BadBody, TooLarge, decompress, read_batch
from tallyd_ingest.limits import BODY_MAX_BYTES, EVENTS_MAX

from fuzz.delta import contracts


def one_input(data: bytes) -> None:
    """Bytes are a batch of listed names, or BadBody; as gzip they are undone, BadBody or TooLarge."""
    _unzip(data)
    if len(data) > BODY_MAX_BYTES:
        return
    # A contract for each product, and one gateway that has a single product.
    by_product = {one.product: one for one in contracts()}
    for known in (by_product, {contracts()[0].product: contracts()[0]}):
        try:
            batch = read_batch(data, known, NOON)
        except BadBody as reason:
            assert str(reason)
            continue
        if batch is None:
            continue
        contract = known[batch.product]
        assert set(_said(batch.envelope)) <= set(contract.envelope)
        assert len(batch.rollups) + len(batch.events) <= EVENTS_MAX
        for day, name, dimensions, measures in batch.rollups:
            _is_rollup(contract, day, name, dimensions, dict(measures))
        for name, _, properties in batch.events:
            listed = contract.events[name]
            assert isinstance(listed, SingleEvent)
            assert set(_said(properties)) <= set(listed.properties)
        assert all(0 < count <= MAX_INTEGER for count in batch.lost.values())


def _is_rollup(
    contract: Contract, day: str, name: str, dimensions: str, measures: dict[str, int]
) -> None:
    listed = contract.events[name]
    assert isinstance(listed, Rollup)
    assert set(_said(dimensions)) <= set(listed.dimensions)
    assert list(measures) == list(listed.measures)
    assert all(type(one) is int and 0 <= one <= MAX_INTEGER for one in measures.values())
    assert len(day) == len("2026-11-20")


def _unzip(data: bytes) -> None:
    for content in (data, gzip.compress(data)):
        try:
            plain = decompress(content, "gzip")
        except (BadBody, TooLarge):
            assert content is data or len(data) > BODY_MAX_BYTES
            continue
        assert len(plain) <= BODY_MAX_BYTES
        assert plain == (data if content is not data else zlib.decompress(data, wbits=31))


def _said(text: str) -> dict[str, object]:
    assert text.isascii()
    said = json.loads(text, parse_constant=_never)
    assert isinstance(said, dict)
    return said


def _never(constant: str) -> None:
    raise AssertionError(f"{constant} came through")

"""A delta: the bytes of one dropped file, understood.

Pure. It owns the grammar of spool-v1's content. It guarantees that anything outside it (not UTF-8,
duplicate keys, NaN, a boolean for an integer, negative, too deep, another product's) raises
Malformed with a reason for people, and nothing else is ever raised. What the contract lists is not
its business: `tallyd.contract.screen` looks at the names and values.

There are two ways through it. The strict one decodes everything with hooks that refuse what the
format refuses, and finds the words for what is wrong. The quick one lets msgspec take the delta
apart and leaves its pieces (an envelope, one entry of `counts`) as bytes; a piece is decoded
strictly the first time it is met and known by its bytes from then on. msgspec keeps the last of two
equal keys and would not say so, therefore what it made is written again and must be the bytes that
were read: a repeated, an unknown or an oddly written key goes the strict way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from tallyd.contract.days import is_day
from tallyd.contract.fields import MAX_INTEGER
from tallyd.delta.grammar import (
    EPOCH_CHARS,
    HEX,
    Count,
    Delta,
    Envelope,
    Told,
    read_consent,
    read_count,
    read_lost,
    read_object,
    read_piece,
    read_strictly,
    read_text,
    read_told,
)
from tallyd.limits import DELTA_MEMORY_PIECE_BYTES, DELTA_MEMORY_PIECES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import TypeVar

    _Piece = TypeVar("_Piece")

__all__ = ["Count", "Delta", "DeltaReader", "Envelope", "Told", "parse_delta"]


class _Writer(Struct, omit_defaults=True):
    epoch: str
    seq: int
    lang: str = ""
    version: str = ""


class _Layout(Struct, kw_only=True):
    """The keys of spool-v1 in the order in which our stubs write them, the pieces as they stand."""

    v: int
    product: str
    contract: str | UnsetType = UNSET
    writer: _Writer
    consent: Raw | UnsetType = UNSET
    id: Raw | UnsetType = UNSET
    envelope: Raw
    day: str
    counts: list[Raw]
    events: list[Raw]
    lost: Raw | UnsetType = UNSET


class DeltaReader:
    """Reads the deltas of one product, and remembers the pieces that come again and again.

    For one pass: it holds at most DELTA_MEMORY_PIECES pieces of at most DELTA_MEMORY_PIECE_BYTES.
    """

    def __init__(self, product: str) -> None:
        self._product = product
        self._counts: dict[bytes, Count] = {}
        self._envelopes: dict[bytes, Envelope] = {}
        self._consents: dict[bytes, tuple[str | None, str | None] | None] = {}
        self._days: set[str] = set()

    def read(self, content: bytes) -> Delta:
        """The delta in `content`. Raises Malformed."""
        try:
            said = _DECODE(content)
            is_exact = _ENCODE(said) == content
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return read_strictly(content, self._product)
        writer = said.writer
        if not (
            is_exact
            and said.v == 1
            and said.product == self._product
            and len(writer.epoch) == EPOCH_CHARS
            and not writer.epoch.strip(HEX)
            and 0 <= writer.seq <= MAX_INTEGER
            and self._is_day(said.day)
        ):
            return read_strictly(content, self._product)
        known = self._counts
        counts = [known.get(bytes(raw)) for raw in said.counts]
        return Delta(
            said.day,
            self._envelope(bytes(said.envelope)),
            self._learned(said.counts) if None in counts else counts,  # type: ignore[arg-type]
            [
                read_told(read_piece(bytes(raw), 2), f"events[{index}]")
                for index, raw in enumerate(said.events)
            ]
            if said.events
            else _NOTHING_TOLD,
            _NOTHING_LOST if said.lost is UNSET else read_lost(read_piece(bytes(said.lost), 1)),
            None if said.consent is UNSET else self._consent(bytes(said.consent)),
            None if said.id is UNSET else read_text(read_piece(bytes(said.id), 1), "id"),
        )

    def _learned(self, pieces: list[Raw]) -> list[Count]:
        counts = []
        for index, raw in enumerate(pieces):
            text = bytes(raw)
            one = self._counts.get(text)
            if one is None:
                one = read_count(read_piece(text, 2), f"counts[{index}]")
                _remember(self._counts, text, one)
            counts.append(one)
        return counts

    def _envelope(self, text: bytes) -> Envelope:
        one = self._envelopes.get(text)
        if one is None:
            one = Envelope(read_object(read_piece(text, 1), "envelope"))
            _remember(self._envelopes, text, one)
        return one

    def _consent(self, text: bytes) -> tuple[str | None, str | None] | None:
        if text not in self._consents:
            said = read_consent(read_piece(text, 1))
            _remember(self._consents, text, said)
            return said
        return self._consents[text]

    def _is_day(self, day: str) -> bool:
        if day in self._days:
            return True
        if not is_day(day):
            return False
        if len(self._days) < DELTA_MEMORY_PIECES:
            self._days.add(day)
        return True


def parse_delta(content: bytes, product: str) -> Delta:
    """The delta in `content`, dropped for `product`. Raises Malformed."""
    return DeltaReader(product).read(content)


def _remember(memory: dict[bytes, _Piece], text: bytes, piece: _Piece) -> None:
    if len(text) <= DELTA_MEMORY_PIECE_BYTES:
        if len(memory) >= DELTA_MEMORY_PIECES:
            # All at once: what is common is back after a few deltas, and nothing has to be counted.
            memory.clear()
        memory[text] = piece


_NOTHING_LOST: Mapping[str, int] = {}
_NOTHING_TOLD: Sequence[Told] = ()
_DECODE: Callable[[bytes], _Layout] = msgspec.json.Decoder(_Layout).decode
_ENCODE: Callable[[object], bytes] = msgspec.json.Encoder().encode

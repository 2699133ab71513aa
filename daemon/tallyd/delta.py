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

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NoReturn

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from tallyd.contract.days import is_day, is_instant
from tallyd.contract.fields import MAX_INTEGER
from tallyd.errors import Malformed
from tallyd.limits import DELTA_MAX_DEPTH, DELTA_MEMORY_PIECE_BYTES, DELTA_MEMORY_PIECES

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    _Piece = TypeVar("_Piece")

_EPOCH_CHARS, _HEX = 16, "0123456789abcdef"
# A date or an id; the longest id is a user's own.
_TEXT_MAX_CHARS = 256
_LOST_CAUSES = ("cap", "error")


class Envelope(Struct, frozen=True, eq=False):
    """The envelope as its host wrote it. Of one reader, equal bytes are the same object."""

    fields: Mapping[str, object]


class Count(Struct, frozen=True, eq=False):
    """One entry of `counts`. Of one reader, equal bytes are the same object."""

    event: str
    dimensions: Mapping[str, object]
    measures: Mapping[str, int]

    @property
    def weight(self) -> int:
        """What is lost with it where nobody knows its primary measure: the largest."""
        return max(self.measures.values(), default=0)


class Told(Struct, frozen=True):
    """One entry of `events`: a single event and when it happened."""

    event: str
    ts: str
    properties: Mapping[str, object]


class Delta(Struct, frozen=True):
    """What one host process counted since its last drop, unscreened.

    `consent` is the decision that its host saw, (instant of the explicit choice, id), each None where
    there was none; the whole is None when the writer did not say. `derived_id` is the id of a host
    whose product derives it.
    """

    day: str
    envelope: Envelope
    counts: Sequence[Count]
    events: Sequence[Told]
    lost: Mapping[str, int]
    consent: tuple[str | None, str | None] | None = None
    derived_id: str | None = None


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
            return _read_strictly(content, self._product)
        writer = said.writer
        if not (
            is_exact
            and said.v == 1
            and said.product == self._product
            and len(writer.epoch) == _EPOCH_CHARS
            and not writer.epoch.strip(_HEX)
            and 0 <= writer.seq <= MAX_INTEGER
            and self._is_day(said.day)
        ):
            return _read_strictly(content, self._product)
        known = self._counts
        counts = [known.get(bytes(raw)) for raw in said.counts]
        return Delta(
            said.day,
            self._envelope(bytes(said.envelope)),
            self._learned(said.counts) if None in counts else counts,  # type: ignore[arg-type]
            [
                _told(_piece(bytes(raw), 2), f"events[{index}]")
                for index, raw in enumerate(said.events)
            ]
            if said.events
            else _NOTHING_TOLD,
            _NOTHING_LOST if said.lost is UNSET else _lost(_piece(bytes(said.lost), 1)),
            None if said.consent is UNSET else self._consent(bytes(said.consent)),
            None if said.id is UNSET else _text(_piece(bytes(said.id), 1), "id"),
        )

    def _learned(self, pieces: list[Raw]) -> list[Count]:
        counts = []
        for index, raw in enumerate(pieces):
            text = bytes(raw)
            one = self._counts.get(text)
            if one is None:
                one = _count(_piece(text, 2), f"counts[{index}]")
                _remember(self._counts, text, one)
            counts.append(one)
        return counts

    def _envelope(self, text: bytes) -> Envelope:
        one = self._envelopes.get(text)
        if one is None:
            one = Envelope(_object(_piece(text, 1), "envelope"))
            _remember(self._envelopes, text, one)
        return one

    def _consent(self, text: bytes) -> tuple[str | None, str | None] | None:
        if text not in self._consents:
            said = _consent(_piece(text, 1))
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


def _read_strictly(content: bytes, product: str) -> Delta:
    said = _decode_strictly(content)
    if not isinstance(said, dict):
        raise Malformed("is not a JSON object")
    if _depth_exceeds(said, DELTA_MAX_DEPTH):
        raise Malformed(_TOO_DEEP)
    if type(said.get("v")) is not int or said["v"] != 1:
        raise Malformed("v: is not 1")
    if said.get("product") != product:
        raise Malformed("product: is not the folder's")
    _check_writer(said.get("writer"))
    day = said.get("day")
    if not is_day(day):
        raise Malformed("day: is not a day like 2026-11-20")
    counts, events = said.get("counts", []), said.get("events", [])
    if not isinstance(counts, list) or not isinstance(events, list):
        raise Malformed("counts, events: are not lists")
    return Delta(
        day=str(day),
        envelope=Envelope(_object(said.get("envelope", {}), "envelope")),
        counts=[_count(one, f"counts[{index}]") for index, one in enumerate(counts)],
        events=[_told(one, f"events[{index}]") for index, one in enumerate(events)],
        lost=_lost(said.get("lost", {})),
        consent=_consent(said.get("consent")),
        derived_id=_text(said.get("id"), "id"),
    )


def _piece(text: bytes, level: int) -> object:
    """One piece, decoded strictly; `level` is how deep it stands in its delta."""
    said = _decode_strictly(text)
    if _depth_exceeds(said, DELTA_MAX_DEPTH - level):
        raise Malformed(_TOO_DEEP)
    return said


def _decode_strictly(content: bytes) -> object:
    try:
        return _STRICT.decode(content.decode("utf-8"))
    except UnicodeDecodeError:
        raise Malformed("is not UTF-8") from None
    except RecursionError:
        raise Malformed(_TOO_DEEP) from None
    except ValueError as error:
        raise Malformed(f"is not JSON as spool-v1 wants it: {error}") from None


def _check_writer(writer: object) -> None:
    if not isinstance(writer, dict):
        raise Malformed("writer: is missing")
    epoch, seq = writer.get("epoch"), writer.get("seq")
    if not isinstance(epoch, str) or len(epoch) != _EPOCH_CHARS or epoch.strip(_HEX):
        raise Malformed("writer.epoch: is not 16 hex digits")
    if type(seq) is not int or not 0 <= seq <= MAX_INTEGER:
        raise Malformed("writer.seq: is not a whole number from 0")


def _count(one: object, where: str) -> Count:
    if not isinstance(one, list) or len(one) != 3 or not isinstance(one[0], str):
        raise Malformed(f"{where}: is not [event, dimensions, measures]")
    measures = _object(one[2], f"{where} measures")
    return Count(one[0], _object(one[1], f"{where} dimensions"), _whole_numbers(measures, where))


def _told(one: object, where: str) -> Told:
    if not isinstance(one, list) or len(one) != 3 or not isinstance(one[0], str):
        raise Malformed(f"{where}: is not [event, time, properties]")
    if not is_instant(one[1]):
        raise Malformed(f"{where}: its time is not like 2026-11-20T12:00:00.000Z")
    return Told(one[0], str(one[1]), _object(one[2], f"{where} properties"))


def _lost(lost: object) -> Mapping[str, int]:
    numbers = _whole_numbers(_object(lost, "lost"), "lost")
    return {cause: count for cause, count in numbers.items() if cause in _LOST_CAUSES}


def _consent(consent: object) -> tuple[str | None, str | None] | None:
    if consent is None:
        return None
    said = _object(consent, "consent")
    return _text(said.get("since"), "consent.since"), _text(said.get("id"), "consent.id")


def _text(value: object, where: str) -> str | None:
    if value is None or (isinstance(value, str) and len(value) <= _TEXT_MAX_CHARS):
        return value
    raise Malformed(f"{where}: is not a text of at most {_TEXT_MAX_CHARS} characters")


def _object(value: object, where: str) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise Malformed(f"{where}: is not an object")
    return value


def _whole_numbers(values: Mapping[str, object], where: str) -> Mapping[str, int]:
    checked: dict[str, int] = {}
    for name, value in values.items():
        # `type is int`: true is no integer, and neither is 1.0.
        if type(value) is not int or not 0 <= value <= MAX_INTEGER:
            raise Malformed(f"{where}: {name[:64]!r} is not a whole number from 0 to 2^53-1")
        checked[name] = value
    return checked


def _depth_exceeds(value: object, levels: int) -> bool:
    """Whether `value` nests deeper than `levels`; no deeper than that is looked at."""
    if isinstance(value, dict):
        return levels == 0 or any(_depth_exceeds(one, levels - 1) for one in value.values())
    if isinstance(value, list):
        return levels == 0 or any(_depth_exceeds(one, levels - 1) for one in value)
    return False


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    keyed = dict(pairs)
    if len(keyed) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return keyed


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


_TOO_DEEP = f"is over {DELTA_MAX_DEPTH} levels deep"
_NOTHING_LOST: Mapping[str, int] = {}
_NOTHING_TOLD: Sequence[Told] = ()
_STRICT = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant)
_DECODE: Callable[[bytes], _Layout] = msgspec.json.Decoder(_Layout).decode
_ENCODE: Callable[[object], bytes] = msgspec.json.Encoder().encode

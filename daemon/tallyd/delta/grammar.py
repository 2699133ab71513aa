"""The strict way through a delta: everything decoded, everything checked, words for what is wrong.

Pure. It owns the grammar of spool-v1's content and the types that a delta is made of.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from tallyd.contract.days import is_day, is_instant
from tallyd.contract.fields import MAX_INTEGER
from tallyd.errors import Malformed
from tallyd.limits import DELTA_MAX_DEPTH

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_EPOCH_CHARS, _HEX = 16, "0123456789abcdef"
# A date or an id; the longest id is a user's own.
_TEXT_MAX_CHARS = 256
_LOST_CAUSES = ("cap", "error")
_ABOUT = frozenset(("consent", "id", "envelope", "day"))
_REST = frozenset(("counts", "events", "lost"))


class About:
    """What a delta says of itself: whose counts these are and when they were made.

    `consent` is the decision that its host saw, (instant of the explicit choice, id), each None where
    there was none; the whole is None when the writer did not say. `derived_id` is the id of a host
    whose product derives it. Equal to itself alone; of one reader, equal bytes are the same object.
    """

    __slots__ = ("consent", "day", "derived_id", "envelope")

    def __init__(
        self,
        day: str,
        envelope: Mapping[str, object],
        consent: tuple[str | None, str | None] | None,
        derived_id: str | None,
    ) -> None:
        self.day = day
        self.envelope = envelope
        self.consent = consent
        self.derived_id = derived_id


class Count:
    """One entry of `counts`. Equal to itself alone; of one reader, equal bytes are the same object."""

    __slots__ = ("dimensions", "event", "measures")

    def __init__(
        self, event: str, dimensions: Mapping[str, object], measures: Mapping[str, int]
    ) -> None:
        self.event = event
        self.dimensions = dimensions
        self.measures = measures

    @property
    def weight(self) -> int:
        """What is lost with it where nobody knows its primary measure: the largest."""
        return max(self.measures.values(), default=0)


class Told(NamedTuple):
    """One entry of `events`: a single event and when it happened."""

    event: str
    ts: str
    properties: Mapping[str, object]


_NOTHING_LOST: Mapping[str, int] = {}


class Delta(NamedTuple):
    """What one host process counted since its last drop, unscreened."""

    about: About
    counts: Sequence[Count]
    events: Sequence[Told] = ()
    lost: Mapping[str, int] = _NOTHING_LOST


def read_strictly(content: bytes, product: str) -> Delta:
    """The delta in `content`, dropped for `product`. Raises Malformed."""
    said = read_piece(content, 0)
    if not isinstance(said, dict):
        raise Malformed("is not a JSON object")
    if type(said.get("v")) is not int or said["v"] != 1:
        raise Malformed("v: is not 1")
    if said.get("product") != product:
        raise Malformed("product: is not the folder's")
    _check_writer(said.get("writer"))
    about = _about(said)
    counts, events = said.get("counts", []), said.get("events", [])
    if not isinstance(counts, list) or not isinstance(events, list):
        raise Malformed("counts, events: are not lists")
    return Delta(
        about,
        [read_count(one, f"counts[{index}]") for index, one in enumerate(counts)],
        _told_list(events),
        _lost(said.get("lost", {})),
    )


def read_about(text: bytes) -> About:
    """The keys from `consent` to `day`, cut out and put in braces. Raises Malformed."""
    return _about(_only(_ABOUT, read_piece(text, 0)))


def read_rest(text: bytes) -> tuple[Sequence[Told], Mapping[str, int]]:
    """Events and losses, from an object in which no counts are left. Raises Malformed."""
    said = _only(_REST, read_piece(text, 0))
    events = said.get("events")
    if said.get("counts") != [] or not isinstance(events, list):
        raise Malformed(_CUT)
    return _told_list(events), _lost(said.get("lost", {}))


def _only(keys: frozenset[str], said: object) -> Mapping[str, object]:
    """An object with none but these keys: the others stand in the other pieces."""
    if not isinstance(said, dict) or not keys.issuperset(said):
        raise Malformed(_CUT)
    return said


def _about(said: Mapping[str, object]) -> About:
    day = said.get("day")
    if not is_day(day):
        raise Malformed("day: is not a day like 2026-11-20")
    return About(
        str(day),
        _object(said.get("envelope", {}), "envelope"),
        _consent(said.get("consent")),
        _text(said.get("id"), "id"),
    )


def read_piece(text: bytes, level: int) -> object:
    """One piece, decoded strictly; `level` is how deep it stands in its delta. Raises Malformed."""
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


def read_count(one: object, where: str) -> Count:
    """One entry of `counts`. Raises Malformed."""
    if not isinstance(one, list) or len(one) != 3 or not isinstance(one[0], str):
        raise Malformed(f"{where}: is not [event, dimensions, measures]")
    measures = _object(one[2], f"{where} measures")
    return Count(one[0], _object(one[1], f"{where} dimensions"), _whole_numbers(measures, where))


def _told_list(events: list[object]) -> list[Told]:
    return [_told(one, f"events[{index}]") for index, one in enumerate(events)]


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
_STRICT = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant)
_CUT = "is cut in the wrong place"

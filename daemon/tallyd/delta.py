"""A delta: the bytes of one dropped file, understood.

Pure. It owns the grammar of spool-v1's content. It guarantees that anything outside it (not UTF-8,
duplicate keys, NaN, a boolean for an integer, negative, too deep, another product's) raises
Malformed with a reason for people, and nothing else is ever raised. What the contract lists is not
its business: `tallyd.contract.screen` looks at the names and values.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from tallyd.contract.days import is_day, is_instant
from tallyd.contract.fields import MAX_INTEGER
from tallyd.errors import Malformed
from tallyd.limits import DELTA_MAX_DEPTH

if TYPE_CHECKING:
    from collections.abc import Mapping

_EPOCH = re.compile(r"[0-9a-f]{16}", re.ASCII)
# A date or an id; the longest id is a user's own.
_TEXT_MAX_CHARS = 256
_LOST_CAUSES = ("cap", "error")


@dataclass(frozen=True, slots=True)
class Delta:
    """What one host process counted since its last drop, unscreened.

    `consent` is the decision that its host saw, (instant of the explicit choice, id), each None where
    there was none; the whole is None when the writer did not say. `derived_id` is the id of a host
    whose product derives it.
    """

    day: str
    envelope: Mapping[str, object]
    counts: list[tuple[str, Mapping[str, object], Mapping[str, int]]]
    events: list[tuple[str, str, Mapping[str, object]]]
    lost: Mapping[str, int]
    consent: tuple[str | None, str | None] | None = None
    derived_id: str | None = None

    @property
    def weight(self) -> int:
        """What is lost with it: its counts, by the largest measure of each, and its events."""
        counted = sum(max(measures.values(), default=0) for _, _, measures in self.counts)
        return counted + len(self.events)


def parse_delta(content: bytes, product: str) -> Delta:
    """The delta in `content`, dropped for `product`. Raises Malformed."""
    try:
        said = _DECODER.decode(content.decode("utf-8"))
    except UnicodeDecodeError:
        raise Malformed("is not UTF-8") from None
    except RecursionError:
        raise Malformed(f"is over {DELTA_MAX_DEPTH} levels deep") from None
    except ValueError as error:
        raise Malformed(f"is not JSON as spool-v1 wants it: {error}") from None
    if not isinstance(said, dict):
        raise Malformed("is not a JSON object")
    if _depth_exceeds(said, DELTA_MAX_DEPTH):
        raise Malformed(f"is over {DELTA_MAX_DEPTH} levels deep")
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
        envelope=_object(said.get("envelope", {}), "envelope"),
        counts=[_count(one, index) for index, one in enumerate(counts)],
        events=[_event(one, index) for index, one in enumerate(events)],
        lost=_lost(said.get("lost", {})),
        consent=_consent(said.get("consent")),
        derived_id=_text(said.get("id"), "id"),
    )


def _check_writer(writer: object) -> None:
    if not isinstance(writer, dict):
        raise Malformed("writer: is missing")
    epoch, seq = writer.get("epoch"), writer.get("seq")
    if not isinstance(epoch, str) or _EPOCH.fullmatch(epoch) is None:
        raise Malformed("writer.epoch: is not 16 hex digits")
    if type(seq) is not int or not 0 <= seq <= MAX_INTEGER:
        raise Malformed("writer.seq: is not a whole number from 0")


def _count(one: object, index: int) -> tuple[str, Mapping[str, object], Mapping[str, int]]:
    where = f"counts[{index}]"
    if not isinstance(one, list) or len(one) != 3 or not isinstance(one[0], str):
        raise Malformed(f"{where}: is not [event, dimensions, measures]")
    measures = _object(one[2], f"{where} measures")
    return one[0], _object(one[1], f"{where} dimensions"), _whole_numbers(measures, where)


def _event(one: object, index: int) -> tuple[str, str, Mapping[str, object]]:
    where = f"events[{index}]"
    if not isinstance(one, list) or len(one) != 3 or not isinstance(one[0], str):
        raise Malformed(f"{where}: is not [event, time, properties]")
    if not is_instant(one[1]):
        raise Malformed(f"{where}: its time is not like 2026-11-20T12:00:00.000Z")
    return one[0], str(one[1]), _object(one[2], f"{where} properties")


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


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant)

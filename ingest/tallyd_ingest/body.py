"""A request's body: bytes in, what may be stored out.

Pure. It owns the screening of wire-v1: a body that is no JSON object with a UUID is BadBody;
everything else is accepted, and what the contract does not list is dropped and counted by reason.
Headers and addresses never come here.
"""

from __future__ import annotations

import json
import re
import zlib
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn

from tallyd.contract.days import day_of, instant, unix_of
from tallyd.contract.fields import MAX_INTEGER
from tallyd.contract.model import Rollup
from tallyd.contract.screen import (
    event_on_wire,
    from_wire,
    screen_counts,
    screen_envelope,
    screen_event,
    split_rollup,
)

from tallyd_ingest.limits import BODY_MAX_BYTES, EVENTS_MAX, WINDOW_AHEAD_S, WINDOW_BACK_S

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tallyd.contract import Contract

_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", re.ASCII)
_CAUSE = re.compile(r"[a-z_]{1,32}", re.ASCII)
_MAX_CAUSES = 16


class BadBody(Exception):
    """Not a request of wire-v1: 400."""


class TooLarge(Exception):
    """Over the cap once decompressed: 413."""


@dataclass(slots=True)
class Batch:
    """What may be stored of one request.

    `rollups` is (day, event, dimensions, measures), `events` (event, ts or None, properties), both
    screened; `dropped` counts events that were not kept, by reason.
    """

    product: str
    machine_id: str
    batch_id: str | None
    envelope: str
    rollups: list[tuple[str, str, str, Mapping[str, int]]] = field(default_factory=list)
    events: list[tuple[str, str | None, str]] = field(default_factory=list)
    lost: dict[str, int] = field(default_factory=dict)
    dropped: Counter[str] = field(default_factory=Counter)


def decompress(content: bytes, encoding: str) -> bytes:
    """`content` as it was before `encoding`. Raises TooLarge, or BadBody for what it cannot undo."""
    if encoding in ("", "identity"):
        return content
    if encoding != "gzip":
        raise BadBody("unknown content-encoding")
    unzip = zlib.decompressobj(wbits=31)
    try:
        plain = unzip.decompress(content, BODY_MAX_BYTES + 1)
    except zlib.error:
        raise BadBody("not gzip") from None
    if len(plain) > BODY_MAX_BYTES:
        raise TooLarge
    if not unzip.eof or unzip.unused_data:
        raise BadBody("gzip is cut short or followed by something")
    return plain


def read_batch(content: bytes, contracts: Mapping[str, Contract], now: float) -> Batch | None:
    """What may be stored of this body; None when it belongs to no contract here. Raises BadBody."""
    said = _object(content)
    machine_id, batch_id = said.get("machine_id"), said.get("batch_id")
    if not _is_uuid(machine_id):
        raise BadBody("machine_id is not a UUID")
    contract = _contract(said, contracts)
    if contract is None:
        return None
    given = from_wire(contract.envelope, said)
    envelope = {name: given[name] for name in contract.envelope if name in given}
    batch = Batch(
        product=contract.product,
        machine_id=str(machine_id).lower(),
        batch_id=str(batch_id).lower() if _is_uuid(batch_id) else None,
        envelope=_canonical(screen_envelope(contract, envelope, day_of(now))[0]),
        lost=_lost(said.get("lost")),
    )
    events = said.get("events")
    for place, event in enumerate(events if isinstance(events, list) else []):
        if place >= EVENTS_MAX:
            batch.dropped["too_many"] += 1
        else:
            reason = _take(batch, contract, event, now)
            if reason:
                batch.dropped[reason] += 1
    return batch


def _take(batch: Batch, contract: Contract, event: object, now: float) -> str:
    """Keep one event; returns why not, or nothing."""
    if not isinstance(event, dict):
        return "malformed"
    name, props = event.get("event"), event.get("props", {})
    if not isinstance(name, str) or not isinstance(props, dict):
        return "malformed"
    listed = event_on_wire(contract, name)
    if listed is None:
        return "unknown_event"
    at = unix_of(event.get("ts"))
    if at is not None and not now - WINDOW_BACK_S <= at <= now + WINDOW_AHEAD_S:
        at = None
    props = from_wire(listed.fields, props)
    day = day_of(now if at is None else at)
    if isinstance(listed, Rollup):
        # A rollup without its day would be added to another day's sums.
        if at is None:
            return "outside_window"
        counts = screen_counts(contract, listed.name, *split_rollup(listed, props), day)
        if counts is None:
            return "screened"
        batch.rollups.append((day, listed.name, _canonical(counts.dimensions), counts.measures))
        return ""
    kept = screen_event(contract, listed.name, props, day)
    if kept is None:
        return "screened"
    ts = None if at is None else instant(at)
    batch.events.append((listed.name, ts, _canonical(kept.properties)))
    return ""


def _contract(said: Mapping[str, object], contracts: Mapping[str, Contract]) -> Contract | None:
    product = said.get("product")
    if product is None and len(contracts) == 1:
        # Clients of the first wire version name no product; a gateway for one needs none.
        return next(iter(contracts.values()))
    return contracts.get(product) if isinstance(product, str) else None


def _lost(lost: object) -> dict[str, int]:
    if not isinstance(lost, dict):
        return {}
    good = {
        cause: count
        for cause, count in lost.items()
        if _CAUSE.fullmatch(cause) and type(count) is int and 0 < count <= MAX_INTEGER
    }
    return dict(sorted(good.items())[:_MAX_CAUSES])


def _object(content: bytes) -> dict[str, object]:
    try:
        said = json.loads(
            content.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant
        )
    except (ValueError, RecursionError):
        raise BadBody("not JSON") from None
    if not isinstance(said, dict):
        raise BadBody("not a JSON object")
    return said


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    keyed = dict(pairs)
    if len(keyed) != len(pairs):
        raise ValueError("a key stands twice")
    return keyed


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _is_uuid(value: object) -> bool:
    return isinstance(value, str) and _UUID.fullmatch(value) is not None


def _canonical(fields: Mapping[str, object]) -> str:
    return json.dumps(fields, sort_keys=True, separators=(",", ":"))

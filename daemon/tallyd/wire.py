"""The one place where what is sent gets its bytes, in the protocol that the contract names.

Pure. It guarantees that the bytes `preview` shows, the bytes in the outbox and the bytes on the
wire come from `render_body` alone, and that a body rendered under an earlier contract can be made
narrower, never wider.
"""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING, Final
from typing import Protocol as TypingProtocol

from tallyd import events_v1, posthog
from tallyd.body import Body, WireEvent, canonical
from tallyd.contract.days import day_of, rollup_instant, unix_of
from tallyd.contract.frozen import replace
from tallyd.contract.model import Rollup
from tallyd.contract.screen import screen_counts, screen_envelope, screen_event, split_rollup

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tallyd.contract import Contract

# A sum over a row's maximum leaves as several rows: with 1,000,000 a row these are 10^9 a day, more than
# any host counts. What a damaged or hostile delta claims beyond is lost, not sent as a million rows.
_ROWS_MAX: Final = 1000


class _Protocol(TypingProtocol):
    """What every protocol can do; each is a module."""

    EVENT_OVERHEAD_BYTES: int

    def render(self, contract: Contract, body: Body) -> bytes: ...

    def read(self, contract: Contract, content: bytes) -> Body: ...


_PROTOCOLS: Final[dict[str, _Protocol]] = {"events-v1": events_v1, "posthog-batch": posthog}


def rollup_events(
    rollup: Rollup, day: str, dimensions: Mapping[str, object], measures: Mapping[str, int]
) -> Iterator[WireEvent]:
    """A bucket as it travels: at noon of its day, dimensions and measures side by side.

    A sum over the contract's maximum for one row leaves as several rows, which a reader adds up.
    """
    parts = {name: _parts(value, rollup.maxima.get(name)) for name, value in measures.items()}
    for row in zip_longest(*parts.values(), fillvalue=0):
        counts = dict(zip(parts, row, strict=True))
        yield WireEvent(
            rollup.name,
            rollup_instant(day),
            {**dimensions, **counts},
            counts.get(rollup.primary, 0),
        )


def size_of(contract: Contract, envelope: Mapping[str, object], one: WireEvent) -> int:
    """At most how many bytes an event takes in a body."""
    protocol = _PROTOCOLS[contract.endpoint.protocol]
    shared = len(canonical(envelope)) if protocol is posthog else 0
    return len(canonical(one.props)) + len(one.event) + shared + protocol.EVENT_OVERHEAD_BYTES


def render_body(contract: Contract, body: Body) -> bytes:
    """The bytes of a request."""
    return _PROTOCOLS[contract.endpoint.protocol].render(contract, body)


def narrow_body(contract: Contract, content: bytes) -> tuple[bytes, int, int]:
    """`content`, rendered under an earlier contract, with what this one lists and nothing else.

    Returns it with the number of its events and of the counts that fell out. Ids stay: it is the
    same batch, and a gateway that has the wider one already keeps that.
    """
    try:
        body = _PROTOCOLS[contract.endpoint.protocol].read(contract, content)
    except (KeyError, TypeError):
        # The earlier contract spoke another protocol: to another kind of receiver.
        return b"", 0, 0
    kept, dropped = [], 0
    for one in body.events:
        props = _listed_props(contract, one)
        if props is None:
            numbers = [value for value in one.props.values() if type(value) is int]
            dropped += max(numbers, default=1)
        else:
            kept.append(replace(one, props=props))
    envelope, _ = screen_envelope(contract, body.envelope, day_of(unix_of(body.sent_at) or 0))
    narrow = replace(body, envelope=envelope, events=kept)
    return render_body(contract, narrow), len(kept), dropped


def _listed_props(contract: Contract, one: WireEvent) -> Mapping[str, object] | None:
    """What of an event the contract lists."""
    listed, day = contract.events.get(one.event), one.ts[:10]
    if isinstance(listed, Rollup):
        dimensions, measures = split_rollup(listed, one.props)
        counts = screen_counts(contract, one.event, dimensions, measures, day)
        return None if counts is None else {**counts.dimensions, **counts.measures}
    event = screen_event(contract, one.event, one.props, day)
    return None if event is None else event.properties


def _parts(value: int, maximum: int | None) -> list[int]:
    """`value` as numbers of at most `maximum` that add up to it."""
    if maximum is None or value <= maximum:
        return [value]
    full, rest = divmod(min(value, maximum * _ROWS_MAX), maximum)
    return [maximum] * full + ([rest] if rest else [])

"""What the readers give, as plain values to compare. The one place that knows how their results look."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import tallyd.delta


def plain_delta(delta: Any) -> dict[str, Any]:
    """A delta by the names that `delta_by_spec.read` uses, whether it is flat or in parts."""
    about = getattr(delta, "about", delta)
    return {
        "day": about.day,
        "envelope": dict(about.envelope),
        "counts": [_count(one) for one in delta.counts],
        "events": [(event, time, dict(properties)) for event, time, properties in delta.events],
        "lost": dict(delta.lost),
        "consent": None if about.consent is None else tuple(about.consent),
        "derived_id": about.derived_id,
    }


def weight(delta: Any) -> int:
    """What is lost with a delta."""
    if hasattr(delta, "weight"):
        return int(delta.weight)
    return sum(one.weight for one in delta.counts) + len(delta.events)


@cache
def remembering(product: str) -> Callable[[bytes], Any] | None:
    """A reader that has seen every input before, where there is one: what it remembers must not matter."""
    made = getattr(tallyd.delta, "DeltaReader", None)
    return None if made is None else made(product).read


def _count(one: Any) -> tuple[Any, ...]:
    event, dimensions, measures = (
        (one.event, one.dimensions, one.measures) if hasattr(one, "measures") else one
    )
    return event, dict(dimensions), dict(measures)


def typed(value: Any) -> Any:
    """`value`, equal only where its types are: true is not 1, nor is 1.0; -0.0 is not 0.0."""
    if isinstance(value, Mapping):
        return {key: typed(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [typed(one) for one in value]
    return type(value).__name__, repr(value)

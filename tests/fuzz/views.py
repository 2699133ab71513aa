"""What the readers give, as plain values to compare. The one place that knows how their results look."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def plain_delta(delta: Any) -> dict[str, Any]:
    """A `tallyd.delta.Delta` by the names that `delta_by_spec.read` uses, lists and mappings whole."""
    return {
        "day": delta.day,
        "envelope": dict(delta.envelope),
        "counts": [
            (event, dict(dimensions), dict(measures))
            for event, dimensions, measures in delta.counts
        ],
        "events": [(event, time, dict(properties)) for event, time, properties in delta.events],
        "lost": dict(delta.lost),
        "consent": None if delta.consent is None else tuple(delta.consent),
        "derived_id": delta.derived_id,
    }


def typed(value: Any) -> Any:
    """`value`, equal only where its types are: true is not 1, nor is 1.0; -0.0 is not 0.0."""
    if isinstance(value, Mapping):
        return {key: typed(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [typed(one) for one in value]
    return type(value).__name__, repr(value)

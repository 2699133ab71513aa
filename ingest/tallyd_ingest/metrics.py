"""What happened, in Prometheus text. Counts only: no product's data and nobody's id is in here."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

_HELP = {
    "requests_accepted": "Requests answered 204.",
    "events_accepted": "Events stored.",
    "batches_deduplicated": "Batches whose id was seen before.",
    "rate_limited": "Requests answered 429.",
    "store_failures": "Requests answered 503.",
    "forward_failures": "Batches that a forwarding sink refused.",
}


@dataclass(slots=True)
class Metrics:
    """Counters since the start of this process."""

    totals: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    last_success: float | None = None

    def render(self, now: float) -> str:
        """The text of GET /metrics at `now` (Unix s)."""
        lines = []
        for name, said in _HELP.items():
            full = f"tallyd_ingest_{name}_total"
            lines += [
                f"# HELP {full} {said}",
                f"# TYPE {full} counter",
                f"{full} {self.totals[name]}",
            ]
        full = "tallyd_ingest_events_dropped_total"
        lines += [f"# HELP {full} Events not stored, by reason.", f"# TYPE {full} counter"]
        lines += [
            f'{full}{{reason="{reason}"}} {count}' for reason, count in sorted(self.dropped.items())
        ]
        full = "tallyd_ingest_last_success_age_seconds"
        age = "NaN" if self.last_success is None else f"{max(0.0, now - self.last_success):.3f}"
        lines += [
            f"# HELP {full} Since a batch was last stored.",
            f"# TYPE {full} gauge",
            f"{full} {age}",
        ]
        return "\n".join(lines) + "\n"

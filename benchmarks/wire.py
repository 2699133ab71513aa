"""What one machine-day weighs on the wire, and how many rows a storm of short processes makes."""

from __future__ import annotations

import gzip
from pathlib import Path

from support.clock import FakeClock
from support.deltas import delta, drop, tool_calls
from support.pipeline import Pipeline

from benchmarks import fleet
from benchmarks.measure import Figure, made, progress

# What this seed draws: the largest kind of day that `fleet` knows.
_TWO_AGENTS_AND_AN_UPGRADE = 25


def measure(root: Path, *, quick: bool) -> list[Figure]:
    progress("weighing a day")
    return [weight(made(root / "wire")), storm(made(root / "storm"), 500 if quick else 10_000)]


def weight(home: Path) -> Figure:
    """A busy machine's day of codegraph: 400 processes, every tool and command, two agents, an upgrade.

    Stub, pipeline and requests are the real ones; each request is weighed gzipped, headers aside.
    """
    day = fleet.one_machine_day(home, processes=400, seed=_TWO_AGENTS_AND_AN_UPGRADE)
    packed = sum(len(gzip.compress(body, mtime=0)) for body in day.bodies)
    plain = sum(len(body) for body in day.bodies)
    requests = "1 request" if day.posts == 1 else f"{day.posts} requests"
    return Figure(
        "wire",
        packed,
        f"{packed:,} bytes ({plain:,} plain), {day.rows} rows in {requests}",
    )


def storm(home: Path, processes: int) -> Figure:
    """So many processes of one tool, each with one count: what comes to lie in the buckets."""
    with Pipeline.open(home, FakeClock()) as pipeline:
        pipeline.register("tallyd-demo")
        for _ in range(processes):
            drop(pipeline.state, delta(counts=[tool_calls("search")]))
        pipeline.intake()
        rows = pipeline.rows()
        counted = sum(row.measures["count"] for row in rows)
    if counted != processes:
        raise RuntimeError(f"{counted} of {processes} were counted")
    return Figure("rows", len(rows), f"{len(rows)} of {counted:,} counts", f"{processes:,} lines")

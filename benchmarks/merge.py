"""Merging against scandir + open + read + unlink of the same files."""

from __future__ import annotations

from pathlib import Path

from support.clock import FakeClock
from support.pipeline import Pipeline

from benchmarks import spools
from benchmarks.measure import Figure, interleaved, made, median, progress


def measure(root: Path, *, quick: bool) -> list[Figure]:
    """Files a second, of the floor's. Both have 5 counts a file."""
    progress("merging")
    files, rounds = (1000, 3) if quick else (5000, 7)
    home = made(root / "merge")
    with Pipeline.open(home, FakeClock()) as pipeline:
        pipeline.register("tallyd-demo")

        def floor() -> float:
            spools.fill(home / "floor", files)
            return spools.floor_s(home / "floor")

        def ours() -> float:
            spools.fill(pipeline.state, files)
            return spools.merge_s(pipeline, files)

        samples = interleaved(rounds, {"floor": floor, "ours": ours})
    floor_s, ours_s = median(samples["floor"]), median(samples["ours"])
    return [
        Figure(
            "merge",
            floor_s / ours_s,
            f"{files / ours_s:,.0f} files/s",
            f"scan, open, read, unlink {files / floor_s:,.0f} files/s",
            rounds,
        )
    ]

"""Spools that are filled to be merged, and the floor of merging them.

The floor reads and removes the same files and does nothing else: scandir, open, read, unlink.
"""

from __future__ import annotations

import json
import os
import random
import time
from functools import lru_cache
from pathlib import Path

from support.clock import NOON, TODAY
from support.deltas import delta, name_of, tool_calls
from support.pipeline import Pipeline

COUNTS = 5
# Tools of a product whose files are merged; each file counts five of them.
_TOOLS = 50
# Different deltas in one spool.
_DIFFERENT = 200


def fill(
    state: Path, files: int, *, product: str = "tallyd-demo", days: tuple[str, ...] = ()
) -> None:
    """Drop so many files of five counts each, spread over `days` when any are given.

    Written straight into `new/`: how they came there is not what is measured.
    """
    new = state / "spool" / product / "new"
    new.mkdir(parents=True, exist_ok=True, mode=0o700)
    (state / "spool" / product / "tmp").mkdir(exist_ok=True, mode=0o700)
    contents = _contents(product, days)
    for number in range(files):
        with open(new / name_of(NOON), "xb", buffering=0) as file:
            file.write(contents[number % len(contents)])


@lru_cache(maxsize=256)
def _contents(product: str, days: tuple[str, ...]) -> list[bytes]:
    """Some hundred deltas to take in turn; drawn from a fixed seed, so that every run merges the same."""
    drawn = random.Random(1)
    found = []
    for day in (days or (TODAY,)) * max(1, _DIFFERENT // max(1, len(days))):
        tools = drawn.sample(range(_TOOLS), COUNTS)
        counts = [tool_calls(f"tool_{one}", count=drawn.randint(1, 3)) for one in tools]
        content = delta(product, counts=counts, day=day)
        # As our stubs write it: the keys in this order, and no spaces.
        found.append(json.dumps(content, separators=(",", ":")).encode())
    return found


def floor_s(state: Path, products: tuple[str, ...] = ("tallyd-demo",)) -> float:
    """Seconds to scan, open, read and unlink everything that waits."""
    began = time.perf_counter()
    for product in products:
        for entry in os.scandir(state / "spool" / product / "new"):
            descriptor = os.open(entry.path, os.O_RDONLY)
            os.read(descriptor, 65537)
            os.close(descriptor)
            os.unlink(entry.path)
    return time.perf_counter() - began


def merge_s(pipeline: Pipeline, files: int, product: str = "tallyd-demo") -> float:
    """Seconds to merge everything that waits; raises when the product's part was not what was filled."""
    began = time.perf_counter()
    done = pipeline.intake(product)
    taken = time.perf_counter() - began
    if done.merged != files:
        raise RuntimeError(f"{done.merged} of {files} files were merged")
    return taken

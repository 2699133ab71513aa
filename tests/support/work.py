"""How much work a call is, counted: the same on every machine and at every run.

`steps` sees lines of Python, so the loops of tomllib and of our own readers; what one line of C does
over and over (json, re, copying) it does not see. `peak_bytes` sees what Python allocates.
"""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable
from types import FrameType
from typing import Any


def steps(call: Callable[[], object]) -> int:
    """How many lines of Python run in `call`."""
    count = 0

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return count


def peak_bytes(call: Callable[[], object]) -> int:
    """How much more memory than before is held at once in `call`."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        call()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


def grows_in_step(once: int, twice: int, four_times: int, slack: int) -> bool:
    """Whether what n, 2n and 4n cost grows no faster than n; `slack` is what may come on top."""
    return four_times - twice <= 2.2 * max(twice - once, 0) + slack

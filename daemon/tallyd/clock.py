"""The one place that reads the time.

Wall time for days and instants, monotonic time for durations. `TALLYD_CLOCK_AHEAD` (seconds) sets
the wall clock forward, for the demo and for tests with real processes; whoever uses it says so.
Everything else in the daemon takes a Clock or a `now`.
"""

from __future__ import annotations

import os
import time
from typing import Protocol

AHEAD_ENV = "TALLYD_CLOCK_AHEAD"


class Clock(Protocol):
    """Reads the time. Two exist: SystemClock here and the tests' FakeClock."""

    def now(self) -> float:
        """Unix seconds."""

    def monotonic(self) -> float:
        """Seconds that never go back, from an arbitrary origin."""


class SystemClock:
    """The machine's clock, set forward by TALLYD_CLOCK_AHEAD seconds where that is a number."""

    def __init__(self) -> None:
        try:
            self._ahead_s = float(os.environ.get(AHEAD_ENV, "0"))
        except ValueError:
            self._ahead_s = 0.0

    def now(self) -> float:
        """Unix seconds."""
        return time.time() + self._ahead_s

    def monotonic(self) -> float:
        """Seconds that never go back."""
        return time.monotonic()

"""The only fake of the suite besides the far network: a clock that a test moves by hand."""

from __future__ import annotations

# A Friday noon in UTC; every in-process test begins here.
NOON = 1795176000.0  # 2026-11-20T12:00:00Z
TODAY = "2026-11-20"
DAY_S = 86400.0


class FakeClock:
    """A tallyd Clock that stands still until `pass_s`."""

    def __init__(self, now: float = NOON) -> None:
        self.time = now
        self.since_start = 0.0

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.since_start

    def pass_s(self, seconds: float) -> None:
        """Let time pass."""
        self.time += seconds
        self.since_start += max(0.0, seconds)

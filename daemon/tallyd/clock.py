"""The one place that reads the time.

Wall time for days and instants, monotonic time for durations. `TALLYD_CLOCK_AHEAD` (seconds) sets
the wall clock forward, for the demo and for tests with real processes; whoever uses it says so.
Everything else in the daemon takes a Clock or a `now`.
"""

from __future__ import annotations

import os
import time
from typing import Protocol

from tallyd.limits import CLOCK_GAP_S, CLOCK_LEAP_S, CLOCK_SETTLE_S

AHEAD_ENV = "TALLYD_CLOCK_AHEAD"
# Thirty years either way: so that no date falls out of the calendar.
_AHEAD_MAX_S = 30 * 366 * 86400.0


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
            ahead_s = float(os.environ.get(AHEAD_ENV, "0"))
        except ValueError:
            ahead_s = 0.0
        # Nor "nan", nor a date that no calendar has.
        self._ahead_s = ahead_s if abs(ahead_s) <= _AHEAD_MAX_S else 0.0

    def now(self) -> float:
        """Unix seconds."""
        return time.time() + self._ahead_s

    def monotonic(self) -> float:
        """Seconds that never go back."""
        return time.monotonic()


class Steadiness:
    """Whether the wall clock can be believed: whether it goes on as the monotonic one does.

    A clock that is wrong for a minute (a year ahead, or 1970 after an empty battery) must not make
    us throw away what is too old or too new by it. Any thread may ask.
    """

    def __init__(self, clock: Clock, last_seen: float | None = None) -> None:
        """`last_seen` is when somebody of ours read the clock last (Unix s), before this process."""
        from threading import Lock  # noqa: PLC0415 - 1 ms that only a daemon needs, and `status` is quick

        self._clock = clock
        self._lock = Lock()
        self._offset = clock.now() - clock.monotonic()
        self._leaped_at: float | None = None
        gap_s = 0.0 if last_seen is None else clock.now() - last_seen
        self._leap_s = gap_s
        if not -CLOCK_LEAP_S <= gap_s <= CLOCK_GAP_S:
            self._leaped_at = clock.monotonic()

    def is_settled(self) -> bool:
        """Whether it went on steadily for CLOCK_SETTLE_S; ask at least as often as that."""
        with self._lock:
            now = self._clock.monotonic()
            offset = self._clock.now() - now
            if abs(offset - self._offset) > CLOCK_LEAP_S:
                self._leap_s = offset - self._offset
                self._leaped_at = now
            self._offset = offset
            if self._leaped_at is not None and now - self._leaped_at >= CLOCK_SETTLE_S:
                self._leaped_at = None
            return self._leaped_at is None

    @property
    def news(self) -> str:
        """What to tell of the last leap while it is not settled; "" of one that sleep explains."""
        if 0 <= self._leap_s <= CLOCK_GAP_S:
            return ""
        way = "back" if self._leap_s < 0 else "forward"
        return (
            f"the clock went {way} by {abs(self._leap_s) / 86400:.1f} days; nothing is lost for its age"
            f" until it has gone on steadily for {CLOCK_SETTLE_S / 60:g} min"
        )

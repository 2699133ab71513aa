"""Ages: how long what waits has waited, in a few columns, after Postfix' qshape.

A place (spool, outbox, …) tells when each of its things came there; a tally sorts them by age. What
comes from a clock that was ahead is told apart, and what has no instant is unknown, never young.
"""

from __future__ import annotations

from bisect import bisect_right

from tallyd.contract.frozen import Frozen

# Upper ends in seconds: between two rounds, two sends, two days, and what a week did not move.
_BOUNDS_S = (60.0, 3600.0, 86400.0, 604800.0)
# The names of the columns in reports, and their heads for people: at most so old, the last one older.
COLUMNS = ("under_1_min", "under_1_h", "under_1_d", "under_7_d", "from_7_d")
HEADS = ("<1 min", "<1 h", "<1 d", "<7 d", "7 d+")
# What the instants of names and files are cut to, and a clock that is being steered.
_SLACK_S = 1.0


class Ages(Frozen):
    """Counts by age: one for each of COLUMNS, those from the future, those of unknown age.

    `oldest_s` is the age of the oldest in seconds: negative where all are from the future, None where
    none is known.
    """

    counts: tuple[int, ...]
    in_future: int
    unknown: int
    oldest_s: float | None

    def as_json(self) -> dict[str, object]:
        """As `status --json` prints it."""
        return {
            **dict(zip(COLUMNS, self.counts, strict=True)),
            "in_future": self.in_future,
            "unknown": self.unknown,
            "oldest_s": None if self.oldest_s is None else round(self.oldest_s, 3),
        }


class Tally:
    """Sorts instants by their age at `now` (Unix s)."""

    def __init__(self, now: float) -> None:
        self._now = now
        self._counts = [0] * len(COLUMNS)
        self._in_future = self._unknown = 0
        self._oldest_at: float | None = None

    def add(self, at: float | None, times: int = 1) -> None:
        """Something came at `at` (Unix s, None where nobody knows), or so many things."""
        if at is None:
            self._unknown += times
            return
        if self._oldest_at is None or at < self._oldest_at:
            self._oldest_at = at
        age_s = self._now - at
        if age_s < -_SLACK_S:
            self._in_future += times
        else:
            self._counts[bisect_right(_BOUNDS_S, age_s)] += times

    def ages(self) -> Ages:
        """What was added so far."""
        oldest = None if self._oldest_at is None else self._now - self._oldest_at
        return Ages(tuple(self._counts), self._in_future, self._unknown, oldest)

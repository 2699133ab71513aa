"""What is counted and where it may be, as `support.model` keeps it, and the arithmetic of days and decisions.

What is counted is one Counter everywhere: (event, day or instant, version, what, measure).
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

from support.clock import DAY_S

MAX_SUM = 2**53 - 1
NAME_DAYS, WINDOW_DAYS, GRACE_S, A_MINUTE = 32, 30, 3600.0, 6
LISTED = {"narrow": ("tool_calls", "server_started")}
LISTED["wide"] = (*LISTED["narrow"], "prompts")

Key = tuple[str, str, str, str, str]
Content = Counter[Key]
Decision = tuple[str | None, str | None]


class Impossible(Exception):
    """Nothing that tallyd may do leads here."""


@dataclass(frozen=True)
class Facts:
    """What an act finds on the disk, beside what was counted: the user's word and the contracts."""

    now: float
    is_on: bool
    decision: Decision
    registered: str
    shown: dict[str, float | None]
    busy: str = "later"
    unanswered: str = "keep"

    @property
    def today(self) -> str:
        return day_of(self.now)

    def opens(self, contract: str) -> bool:
        """Whether the notice of a contract was shown, and its grace has passed."""
        at = self.shown[contract]
        return at is not None and at + GRACE_S <= self.now

    def misplaced(self, day: str) -> str | None:
        """Why a day is refused."""
        if day > day_of(self.now + DAY_S):
            return "future"
        return "age" if day < oldest_day(self.now) else None


@dataclass
class File:
    """A delta in the spool; of a malformed one only its name is known, and it counts as one."""

    name: str
    at: float
    content: Content = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)
    # The decision that its writer saw; None when it does not say.
    stamp: Decision | None = None
    is_bad: bool = False

    @property
    def weight(self) -> int:
        return 1 if self.is_bad else weight(self.content) + self.lost.total()


@dataclass
class Batch:
    """A frozen batch."""

    id: str
    content: Content
    lost: Counter[str]
    machine_id: str
    expires: float


@dataclass
class Request:
    """One request that arrived: which batch, what it held, and what became of it."""

    batch: Batch
    answer: str
    body: bytes = b""


@dataclass
class Picture:
    """Every place that can be looked at."""

    new: list[str]
    bad: int
    names: int
    kept: Content
    outbox: list[tuple[str, Content, Counter[str]]]
    gateway: dict[str, tuple[Content, Counter[str]]]
    unsent: Counter[str]
    totals: Counter[str]
    agreed: str | None
    held: Decision | None
    requests: int


def weight(content: Content) -> int:
    """How often what it counts had happened: errors are counted among the calls."""
    return sum(value for key, value in content.items() if key[4] != "error_count")


def covers(now: Decision, then: Decision) -> bool:
    """Whether what was counted under the one decision may leave under the other."""
    return now[0] == then[0] and then[1] in (None, now[1])


def day_of(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s, UTC).date().isoformat()


def shift(day: str, days: int) -> str:
    return (date.fromisoformat(day) + timedelta(days)).isoformat()


def unix_of(instant: str) -> float:
    return datetime.fromisoformat(instant).timestamp()


def oldest_day(now: float) -> str:
    """The oldest day whose noon lies within the window."""
    return day_of(math.ceil((now - WINDOW_DAYS * DAY_S) / DAY_S - 0.5) * DAY_S)

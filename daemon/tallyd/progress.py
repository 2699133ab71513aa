"""Progress: what each duty is doing, as far as the watchdog and an orderly leave need to know.

A duty is in a round or between two. Within a round each piece of work done is a step. A duty that
took no step for a long time hangs, whatever the event loop says; a daemon whose duties are all
between two rounds may leave. Used by one thread, the event loop's.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tallyd.clock import Clock

# The duty whose round this task is in.
_DUTY: ContextVar[str] = ContextVar("duty", default="")


class Progress:
    """The rounds that are under way; `between_rounds` is called each time that one has ended."""

    def __init__(self, clock: Clock, between_rounds: Callable[[], None] = lambda: None) -> None:
        self._clock = clock
        self._between_rounds = between_rounds
        self._last_step: dict[str, float] = {}
        self._waiting: set[str] = set()

    @contextmanager
    def round(self, duty: str) -> Iterator[None]:
        """One round of a duty, in the task that is in here."""
        token = _DUTY.set(duty)
        self._last_step[duty] = self._clock.monotonic()
        try:
            yield
        finally:
            self._last_step.pop(duty, None)
            _DUTY.reset(token)
        self._between_rounds()

    def step(self) -> None:
        """The duty of this task got something done, or begins to."""
        duty = _DUTY.get()
        if duty in self._last_step:
            self._last_step[duty] = self._clock.monotonic()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Wait for another duty, which is looked at itself: this one does not hang meanwhile."""
        duty = _DUTY.get()
        self._waiting.add(duty)
        try:
            yield
        finally:
            self._waiting.discard(duty)
            self.step()

    @property
    def is_quiet(self) -> bool:
        """Whether no duty is in a round, at work or waiting for another."""
        return not self._last_step

    def stuck(self, after_s: float) -> list[str]:
        """The duties that are in a round and took no step for longer than `after_s` seconds."""
        now = self._clock.monotonic()
        late = {duty for duty, at in self._last_step.items() if now - at > after_s}
        return sorted(late - self._waiting)

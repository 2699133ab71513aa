"""The life of one run: how it was started, whether it is ready, idle, or on its way out.

The loops say what they did; this decides when the run ends, and tells the service manager. A signal
ends it at once. Everything else (idle, a hand-over, an upgrade, off for good) ends it between two
rounds, so that no request is cut short for it.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from tallyd import lock, logs
from tallyd.contract.frozen import Frozen
from tallyd.limits import HEARTBEAT_INTERVAL_S, START_EXTEND_S, START_LOOK_S, STUCK_AFTER_S
from tallyd.progress import Progress
from tallyd.troubles import Troubles

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import anyio

    from tallyd.clock import Clock
    from tallyd.notify import Notifier
    from tallyd.runs import StopReason
    from tallyd.troubles import Problem

_log = logging.getLogger(__name__)


class Way(Frozen):
    """How a daemon was started.

    `is_on_demand`: it leaves when it is idle. `is_supervised`: whoever started it starts it again
    when it ends with exits.REPLACED, and never when it ends with 0.
    """

    is_on_demand: bool = False
    is_supervised: bool = False

    @property
    def word(self) -> str:
        """The same for the lock, where others read it."""
        if self.is_supervised:
            return lock.SERVICE
        return lock.ON_DEMAND if self.is_on_demand else lock.FOREGROUND


class Ending(Frozen):
    """Why a run ended, in words for the log, and what the process ends with.

    `waiting`, of one that was idle, is what it could not merge (service.waiting). `successor` is the
    command of who takes over.
    """

    reason: StopReason
    why: str = ""
    exit_code: int = 0
    waiting: frozenset[str] = frozenset()
    successor: tuple[str, ...] = ()


class Life:
    """One run from its start to its end; `scope` is the loops', given by whoever starts them.

    What is wrong is handed to `post` at each change.
    """

    def __init__(
        self, clock: Clock, notifier: Notifier, post: Callable[[Sequence[Problem]], None]
    ) -> None:
        self._clock = clock
        self._notifier = notifier
        self._post = post
        self._wrong = 0
        self.troubles = Troubles(clock, self._troubled)
        self._leaving: Ending | None = None
        self._worked_at = clock.monotonic()
        self._merged = 0
        self._products = 0
        self._stuck: list[str] = []
        self.is_ready = False
        self.ending: Ending | None = None
        self.scope: anyio.CancelScope | None = None
        self.progress = Progress(clock, self._leave_if_quiet)

    # --- what the loops say --------------------------------------------------------------------

    def scanned(self, products: int, merged: int) -> None:
        """A scan is over: of so many products so many deltas were merged. The first one is READY."""
        self._products = products
        self._merged += merged
        if merged:
            self.worked()
        if not self.is_ready:
            self.is_ready = True
            self._notifier.ready(self._in_words())

    def _troubled(self, wrong: Sequence[Problem]) -> None:
        """What is wrong changed: whoever asks is to hear it now. Called from any thread."""
        self._post(wrong)
        if len(wrong) != self._wrong:
            self._wrong = len(wrong)
            if self.is_ready:
                self._notifier.status(self._in_words())

    def worked(self) -> None:
        """Something was done that somebody wanted done: whoever is on demand stays for a while."""
        self._worked_at = self._clock.monotonic()

    def idle_s(self) -> float:
        """Seconds since something was done."""
        return self._clock.monotonic() - self._worked_at

    def beat(self) -> None:
        """Tell the service manager how it is. The watchdog is patted only while all duties go on."""
        stuck = self.progress.stuck(STUCK_AFTER_S)
        if stuck != self._stuck:
            self._stuck = stuck
            if stuck:
                _log.error(logs.line("stuck", duties=",".join(stuck), after_s=STUCK_AFTER_S))
        if stuck:
            return
        if not self.is_ready:
            self._notifier.extend_start(START_EXTEND_S)
        self._notifier.alive()
        if self.is_ready:
            self._notifier.status(self._in_words())

    @property
    def beat_interval_s(self) -> float:
        """Seconds to the next beat: twice within the watchdog's patience."""
        interval_s = HEARTBEAT_INTERVAL_S
        if self._notifier.watchdog_s:
            interval_s = min(interval_s, self._notifier.watchdog_s / 2)
        if self._notifier.is_heard and not self.is_ready:
            interval_s = min(interval_s, START_LOOK_S)
        return interval_s

    # --- how it ends ---------------------------------------------------------------------------

    def end(self, ending: Ending) -> None:
        """End now, whatever is under way."""
        if self.ending is None:
            self.ending = ending
        self._cancel()

    def leave(self, ending: Ending) -> None:
        """End between two rounds."""
        if self._leaving is None:
            self._leaving = ending
            _log.info(logs.line("leaving", reason=ending.reason.word, why=ending.why or None))
        self._leave_if_quiet()

    def reload(self) -> None:
        """Let the loops begin anew, with other settings."""
        _log.info(logs.line("reloading"))
        self._notifier.reloading(self._clock.monotonic())
        self._cancel()

    def reloaded(self) -> None:
        """The loops are about to begin anew. Before the first scan that is no READY yet."""
        if self.is_ready:
            self._notifier.ready(self._in_words())

    def stopping(self) -> None:
        """Nothing is done any more but to record the stop."""
        why = self.ending.why if self.ending is not None else "crashed"
        self._notifier.stopping(why or "stopping")

    def _leave_if_quiet(self) -> None:
        if self._leaving is not None and self.progress.is_quiet:
            self.end(self._leaving)

    def _cancel(self) -> None:
        if self.scope is not None:
            self.scope.cancel()

    def _in_words(self) -> str:
        wrong = self._wrong
        return (
            f"{self._products} product{'s' * (self._products != 1)},"
            f" {self._merged} delta{'s' * (self._merged != 1)} merged since the start,"
            f" {f'{wrong} wrong (tallyd status says what)' if wrong else 'nothing wrong'}"
        )

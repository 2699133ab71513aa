"""Troubles: what is wrong now, by duty and product, for whoever asks `tallyd status`.

A problem begins when a duty of a product fails and ends when the same duty of the same product
succeeds; both are logged, the rounds in between are only counted. What is wrong now is posted (the
holder of the lock posts it on `daemon.lock`) when it changed: a daemon without problems posts
nothing. Any thread may report. It knowingly remembers nothing: a restarted daemon finds out anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tallyd.contract.frozen import Frozen, replace

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from tallyd.clock import Clock


def _log(level: str, action: str, **said: object) -> None:
    # Loaded at the first line: `status` knows a Problem and writes no log, and logging takes 3 ms.
    import logging  # noqa: PLC0415

    from tallyd import logs  # noqa: PLC0415

    getattr(logging.getLogger(__name__), level)(logs.line(action, **said))


class Problem(Frozen):
    """What is wrong with one duty: `product` is "" where it is that of all of them.

    `why` is for people and says what to do; `since` is in Unix seconds, `times` how many rounds in
    a row met it.
    """

    duty: str
    product: str
    why: str
    since: float
    times: int


class Troubles:
    """What is wrong now; `post` is handed all of it at each change, oldest first."""

    def __init__(
        self, clock: Clock, post: Callable[[Sequence[Problem]], None] = lambda _: None
    ) -> None:
        from threading import Lock  # noqa: PLC0415 - as in `clock`

        self._clock = clock
        self._post = post
        self._now: dict[tuple[str, str], Problem] = {}
        self._lock = Lock()

    @property
    def now(self) -> list[Problem]:
        """What is wrong now, oldest first."""
        with self._lock:
            return list(self._now.values())

    def met(self, duty: str, product: str, why: str) -> bool:
        """A duty failed; whether it had been well before."""
        with self._lock:
            known = self._now.get((duty, product))
            problem = Problem(duty, product, why, self._clock.now(), 1)
            if known is not None:
                problem = replace(known, why=why, times=known.times + 1)
            self._now[duty, product] = problem
            if known is None:
                _log("error", "failing", duty=duty, product=product or None, why=why)
            self._post(list(self._now.values()))
        return known is None

    def over(self, duty: str, product: str = "") -> None:
        """A duty succeeded."""
        # Asked without the lock: nearly always there is nothing, and one round more does not hurt.
        if (duty, product) not in self._now:
            return
        with self._lock:
            known = self._now.pop((duty, product), None)
            if known is not None:
                _log("info", "recovered", duty=duty, product=product or None, times=known.times)
                self._post(list(self._now.values()))

    def forget_others(self, products: Collection[str]) -> None:
        """Nothing is done any more for products but these, so nothing of theirs is wrong either."""
        if not self._now:
            return
        with self._lock:
            left = {key: one for key, one in self._now.items() if not key[1] or key[1] in products}
            if left != self._now:
                self._now = left
                self._post(list(left.values()))

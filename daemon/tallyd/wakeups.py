"""Wake-ups: hints that something happened on disk. The only module that imports watchfiles.

A hint is never the truth: whoever is woken scans. Losing every hint costs latency, never data. The
watcher runs in a thread of its own, because watchfiles looks at its stop event only once a step:
a stop sets the event and does not wait for the thread. A watched directory that was removed or
replaced makes watchfiles deaf without a word, so `rearm_if_replaced` looks from time to time.
"""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import watchfiles
from anyio import Event, from_thread, lowlevel, move_on_after

from tallyd import logs
from tallyd.limits import WATCH_DEBOUNCE_MS, WATCH_STEP_MS

if TYPE_CHECKING:
    from collections.abc import Sequence

_log = logging.getLogger(__name__)
# Where news arrives: complete deltas and flush requests; what is still being written is no news.
_ARRIVALS = (f"{os.sep}new{os.sep}", f"{os.sep}flush{os.sep}")


class Doorbell:
    """Rung by a hint, waited for by a loop; rings between two waits are not lost."""

    def __init__(self) -> None:
        self._rung = Event()

    def ring(self) -> None:
        """Wake whoever waits, or the next to wait."""
        self._rung.set()

    async def wait(self, timeout_s: float) -> None:
        """Return at a ring, or after `timeout_s`."""
        with move_on_after(timeout_s):
            await self._rung.wait()
        self._rung = Event()


class Watcher:
    """Rings doorbells when files appear below directories. Make it inside the event loop."""

    def __init__(self, bells: dict[Path, Doorbell]) -> None:
        self._bells = bells
        self._token = lowlevel.current_token()
        self._stop = threading.Event()
        self._armed: Sequence[tuple[int, int] | None] = ()
        self._arm()

    def rearm_if_replaced(self) -> None:
        """Watch anew when a directory is not the one being watched, or was missing."""
        if self._identities() != self._armed:
            self.close()
            self._arm()

    def close(self) -> None:
        """Stop watching; returns at once, the thread ends within a step."""
        self._stop.set()

    def _arm(self) -> None:
        self._stop = threading.Event()
        self._armed = self._identities()
        if any(self._armed):
            threading.Thread(target=self._watch, args=(self._stop,), daemon=True).start()

    def _identities(self) -> list[tuple[int, int] | None]:
        found: list[tuple[int, int] | None] = []
        for directory in self._bells:
            try:
                about = directory.stat()
                found.append((about.st_dev, about.st_ino))
            except OSError:
                found.append(None)
        return found

    def _watch(self, stop: threading.Event) -> None:
        roots = [one for one in self._bells if one.is_dir()]
        try:
            for changes in watchfiles.watch(
                *roots,
                watch_filter=_is_arrival,
                step=WATCH_STEP_MS,
                debounce=WATCH_DEBOUNCE_MS,
                stop_event=stop,
                raise_interrupt=False,
            ):
                for root in roots:
                    if any(Path(path).is_relative_to(root) for _, path in changes):
                        from_thread.run_sync(self._bells[root].ring, token=self._token)
        except Exception as error:  # noqa: BLE001 - a deaf watcher costs latency only
            self._armed = ()
            if not stop.is_set():
                _log.warning(logs.line("watching_failed", error=f"{type(error).__name__}: {error}"))


def _is_arrival(change: watchfiles.Change, path: str) -> bool:
    return change is not watchfiles.Change.deleted and any(one in path for one in _ARRIVALS)

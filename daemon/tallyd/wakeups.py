"""Wake-ups: hints that something happened on disk. The only module that imports watchfiles.

A hint is never the truth: whoever is woken scans. Losing every hint costs latency, never data. The
watcher runs in a thread of its own, because watchfiles looks at its stop event only once a step:
a stop sets the event and does not wait for the thread. Each directory is watched by itself: watchfiles
would go into every link that lies somewhere below, and `tmp/` is no news. A watched directory that
was removed or replaced makes it deaf without a word, so `rearm_if_needed` looks from time to time,
and tries again where the system had no watch to give.
"""

from __future__ import annotations

import os
import stat
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import watchfiles
from anyio import Event, from_thread, lowlevel, move_on_after

from tallyd.limits import WATCH_DEBOUNCE_MS, WATCH_MAX_PRODUCTS, WATCH_STEP_MS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

# What watchfiles says of a name that is no text.
_UNREADABLE = "Unable to decode path"
# A directory and which one it is, (device, inode): one of the same name may be another by now.
_Places = dict[Path, tuple[int, int]]


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
    """Rings doorbells when files appear below directories. Make it inside the event loop.

    `sift` leaves of the directories below one of `bells` those that are worth a watch, and is asked
    whenever it is looked which ones are there. `problem` says in words why nothing is watched, "" while
    all is well or not known to be otherwise.
    """

    def __init__(
        self,
        bells: dict[Path, Doorbell],
        sift: Callable[[Path, Sequence[Path]], Sequence[Path]] = lambda _, directories: directories,
    ) -> None:
        self._bells = bells
        self._sift = sift
        self._token = lowlevel.current_token()
        self._arm(self._places())

    def rearm_if_needed(self) -> bool:
        """Watch anew when other directories are there by now, or try again what was refused.

        Returns whether there are others: what came into them just before may have rung no bell.
        """
        places = self._places()
        # A directory that was made again may have the identity of the one that went.
        is_other = places != self._armed or self._has_lost_one
        if is_other or self.problem:
            self.close()
            self._arm(places)
        return is_other

    def close(self) -> None:
        """Stop watching; returns at once, the thread ends within a step."""
        self._stop.set()

    def _arm(self, places: _Places) -> None:
        self._stop = threading.Event()
        self._armed = places
        self._has_lost_one = False
        self.problem = ""
        if places:
            threading.Thread(target=self._watch, args=(places, self._stop), daemon=True).start()

    def _places(self) -> _Places:
        """Every directory to watch, with its identity; never a link."""
        found: _Places = {}
        for directory in (
            one for root in self._bells for one in self._sift(root, _directories(root))
        ):
            with suppress(OSError):
                about = directory.lstat()
                if stat.S_ISDIR(about.st_mode):
                    found[directory] = (about.st_dev, about.st_ino)
        return found

    def _watch(self, places: _Places, stop: threading.Event) -> None:
        watched = {str(one) for one in places}

        def is_news(change: watchfiles.Change, path: str) -> bool:
            return change is not watchfiles.Change.deleted or path in watched

        try:
            while not stop.is_set():
                try:
                    for changes in watchfiles.watch(
                        *places,
                        watch_filter=is_news,
                        step=WATCH_STEP_MS,
                        debounce=WATCH_DEBOUNCE_MS,
                        stop_event=stop,
                        raise_interrupt=False,
                        recursive=False,
                    ):
                        if any(change is watchfiles.Change.deleted for change, _ in changes):
                            self._has_lost_one = True
                        self._ring(path for _, path in changes)
                except RuntimeError as error:
                    # A name that is no text: the watch is gone, and what it saw may have been more.
                    if _UNREADABLE not in str(error):
                        raise
                    self._ring(watched)
        except Exception as error:  # noqa: BLE001 - a deaf watcher costs latency only
            if not stop.is_set():
                self.problem = str(error).partition(" about [")[0].rstrip(".")

    def _ring(self, paths: Iterable[str]) -> None:
        paths = list(paths)
        for root, bell in self._bells.items():
            if any(Path(path).is_relative_to(root) for path in paths):
                from_thread.run_sync(bell.ring, token=self._token)


def _directories(root: Path) -> list[Path]:
    """What to watch for `root`: itself, the directories in it, and a `new/` in each of those."""
    if root.is_symlink():
        return []
    try:
        with os.scandir(root) as entries:
            inner = [Path(one.path) for one in entries if one.is_dir(follow_symlinks=False)]
    except OSError:
        inner = []
    both = ([one, one / "new"] for one in sorted(inner)[:WATCH_MAX_PRODUCTS])
    return [root, *(one for pair in both for one in pair)]

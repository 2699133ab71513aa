"""One delivery at a time: whoever waits for its turn does not hang, and is not taken for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anyio import Lock

if TYPE_CHECKING:
    from tallyd.progress import Progress


class Turn:
    """What two duties take by turns; used with `async with`."""

    def __init__(self, progress: Progress) -> None:
        self._lock = Lock()
        self._progress = progress

    async def __aenter__(self) -> None:
        with self._progress.waiting():
            await self._lock.acquire()

    async def __aexit__(self, *_: object) -> None:
        self._lock.release()

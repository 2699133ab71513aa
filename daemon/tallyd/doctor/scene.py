"""The scene that every check looks at: this shell, who holds the lock, and the daemon's own environment."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tallyd import lock
from tallyd.contract.frozen import Frozen
from tallyd.errors import StateUnusable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tallyd.lock import Holder
    from tallyd.product import Surroundings


class Scene(Frozen):
    """Where things lie, this shell, the time (Unix s), who holds the lock.

    `service` is the environment of the running daemon; None without one, or where it does not show.
    """

    around: Surroundings
    now: float
    holder: Holder | None
    service: Mapping[str, str] | None

    @property
    def has_daemon(self) -> bool:
        """Whether a daemon, and no passing command, holds the lock."""
        return self.holder is not None and self.holder.role == "daemon"

    @property
    def products(self) -> list[str]:
        """The registered products; none where they cannot be listed, which `consent` tells."""
        try:
            return self.around.registry.products()
        except StateUnusable:
            return []


def look_around(around: Surroundings, now: float) -> Scene:
    """The scene as it is; changes nothing, waits for nothing."""
    holder = lock.current_holder(around.paths)
    is_daemon = holder is not None and holder.role == "daemon"
    service = _environ_of(holder.pid, str(around.paths.lock)) if holder and is_daemon else None
    return Scene(around, now, holder, service)


def _environ_of(pid: int, lock_file: str) -> Mapping[str, str] | None:
    """The environment of the process that has the lock's file open; its number alone proves nothing."""
    import psutil  # noqa: PLC0415 - 12 ms that only a running daemon is worth

    try:
        process = psutil.Process(pid)
        if os.path.realpath(lock_file) not in {one.path for one in process.open_files()}:
            return None
        return process.environ()
    except (psutil.Error, OSError, ValueError, OverflowError):
        return None

"""How arrivals are found on each mount of the spool: watched, polled or waited for; each change is told."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from tallyd import logs, mounts
from tallyd.mounts import Way

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tallyd.mounts import Choice, Mount

_log = logging.getLogger(__name__)


class Ways:
    """The choice for each mount that a directory of `spools` lies on; `interval_s` is the slow timer's."""

    def __init__(self, spools: Path, interval_s: float) -> None:
        self._spools = spools
        self._interval_s = interval_s
        self._told: dict[str, Choice] = {}

    def sift(self, root: Path, directories: Sequence[Path]) -> Sequence[Path]:
        """The directories that are worth a watch.

        Of another root all: who asks for a flush there is a command of this machine, of which events
        tell on every file system.
        """
        if root != self._spools:
            return directories
        chosen = mounts.choose_each(directories)
        self._tell(dict(chosen.values()))
        return [one for one in directories if chosen[one][1].way is Way.WATCH]

    def _tell(self, now: dict[Mount, Choice]) -> None:
        """One line for each mount whose choice is another than before; where it is is the user's."""
        for mount, choice in now.items():
            if self._told.get(mount.point) != choice:
                every = None if choice.way is Way.WATCH else f"{self._interval_s:g}"
                way = choice.way.value
                _log.info(logs.line("watching", way=way, why=choice.why, every_s=every))
        self._told = {mount.point: choice for mount, choice in now.items()}

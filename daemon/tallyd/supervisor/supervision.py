"""What a service manager has of us, as values: the file that stands there, and how it goes."""

from __future__ import annotations

import os
from pathlib import Path  # noqa: TC003 - a field of a value
from typing import TYPE_CHECKING

from tallyd.contract.frozen import Frozen

if TYPE_CHECKING:
    from collections.abc import Mapping

# A service sees no shell: where a shell says where things lie, the service is told the same.
TOLD = ("TALLYD_HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "TALLYD_POLICY_FILE")


class Installed(Frozen):
    """A service file as it stands on disk. `is_ours`: "tallyd service install" wrote it.

    `watches` are the directories whose change starts it, where it is on demand; `environ` is what it
    tells the daemon's environment.
    """

    supervisor: str
    file: Path
    command: tuple[str, ...]
    is_ours: bool
    is_on_demand: bool
    has_sandbox: bool
    text: str
    watches: tuple[str, ...] = ()
    environ: tuple[tuple[str, str], ...] = ()

    @property
    def problem(self) -> str:
        """Why it cannot start, in words; "" when it can as far as the disk tells, and for another's file."""
        if not self.is_ours:
            return ""
        if not self.command:
            return f"{self.file} starts nothing that we know"
        program = self.command[0]
        if not os.path.exists(program):
            return f"{self.file} starts {program}, which is gone"
        if not os.access(program, os.X_OK):
            return f"{self.file} starts {program}, which cannot be run"
        return ""

    def told_otherwise(self, environ: Mapping[str, str]) -> dict[str, tuple[str, str]]:
        """What a shell's `environ` says of where things lie, and the service's: by name, where they differ."""
        there = dict(self.environ)
        found = {}
        for name in TOLD:
            here = environ.get(name, "")
            # A relative one means nothing, by the specification.
            here = here if os.path.isabs(here) else ""
            if here != there.get(name, ""):
                found[name] = here, there.get(name, "")
        return found


class Supervision(Frozen):
    """What is installed and how it goes by its manager's word.

    `state` is active, inactive, failed, activating, or unknown; `waits`: on demand, and watching;
    `says` is what the daemon last told its manager; `overridden` are drop-ins of the user's;
    `elsewhere` is the file that the manager goes by, where that is another than the one installed.
    """

    supervisor: str
    installed: Installed | None
    is_enabled: bool
    state: str
    detail: str = ""
    waits: bool = False
    pid: int | None = None
    restarts: int = 0
    result: str = ""
    says: str = ""
    overridden: tuple[str, ...] = ()
    elsewhere: str = ""

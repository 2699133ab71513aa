"""Service managers: systemd's for users, and launchd. The files that we give them, and their commands.

`recipe` is what a service needs; `unit` and `agent` render it; `systemd` and `launchd` plan `steps`,
which the command prints or carries out. What is on disk (`installed`) can be told without asking a
manager, and `tallyd status` asks none.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tallyd.supervisor.recipe import Recipe
    from tallyd.supervisor.steps import Done, ServiceRefused, Step
    from tallyd.supervisor.supervision import Installed, Supervision


class Supervisor(Protocol):
    """A service manager of one user. Each plan may be carried out again and again."""

    name: str

    def suited(self, recipe: Recipe) -> Recipe:
        """The recipe as far as this manager can follow it."""

    def installed(self) -> Installed | None:
        """What stands on disk, without asking the manager."""

    def look(self) -> Supervision:
        """What is installed, and how it goes by the manager's word."""

    def files(self, recipe: Recipe) -> dict[Path, bytes]:
        """Each file that an installation writes, with its content."""

    def install(self, recipe: Recipe, *, start: bool, again: bool) -> list[Step]:
        """Write, enable and start; `again`: what runs is of another version and begins anew."""

    def uninstall(self) -> list[Step]:
        """Stop, disable, and remove what we wrote."""

    def start(self) -> list[Step]:
        """Start what is installed."""

    def stop(self) -> list[Step]:
        """Stop it until the next login or `start`."""

    def restart(self) -> list[Step]:
        """Stop and start it."""

    def logs(self, lines: int, *, follow: bool) -> list[str]:
        """The command that shows the log."""

    def explain(self, command: tuple[str, ...], done: Done) -> ServiceRefused:
        """What a refusal means, and what to do."""


def installed(environ: Mapping[str, str]) -> Installed | None:
    """The service file of this system's kind, asked of nobody; None when there is none.

    Raises StateUnusable when it is there and cannot be read.
    """
    if sys.platform == "darwin":
        from tallyd.supervisor import launchd  # noqa: PLC0415 - the other system's is not loaded

        return launchd.installed_in(launchd.agent_directory(environ))
    from tallyd.supervisor import systemd  # noqa: PLC0415

    return systemd.installed_in(systemd.unit_directory(environ))


def offline(environ: Mapping[str, str]) -> Supervisor:
    """The one of this system's kind, whether or not it can be spoken to: its files can go without it."""
    if sys.platform == "darwin":
        from tallyd.supervisor.launchd import Launchd  # noqa: PLC0415

        return Launchd(environ)
    from tallyd.supervisor.systemd import Systemd  # noqa: PLC0415

    return Systemd(environ)


def here(environ: Mapping[str, str]) -> Supervisor | None:
    """The service manager that can be spoken to here; None when there is none."""
    if sys.platform == "darwin":
        from tallyd.supervisor.launchd import Launchd  # noqa: PLC0415

        return Launchd(environ) if Launchd.is_here() else None
    from tallyd.supervisor.systemd import Systemd  # noqa: PLC0415

    return Systemd(environ) if Systemd.is_here() else None

"""Service managers: systemd's for users, and launchd. The files that we give them, and their commands.

`recipe` is what a service needs; `unit` and `agent` render it; `systemd` and `launchd` plan `steps`,
which the command prints or carries out; `launchctl` understands what that says. What is on disk (`installed`) can be told without asking a
manager, and `tallyd status` asks none.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Protocol

from tallyd.errors import BadRequest

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tallyd.supervisor.recipe import Recipe
    from tallyd.supervisor.steps import Done, ServiceRefused, Step
    from tallyd.supervisor.supervision import Installed, Supervision


_KINDS = ("systemd", "launchd", "none")


class Supervisor(Protocol):
    """A service manager of one user. Each plan may be carried out again and again."""

    name: str

    @staticmethod
    def is_here() -> bool:
        """Whether it can be spoken to."""

    def suited(self, recipe: Recipe) -> Recipe:
        """The recipe as far as this manager can follow it."""

    def notes(self, recipe: Recipe) -> list[str]:
        """What the user should know of an installation."""

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

    Raises StateUnusable when it is there and cannot be read, BadRequest as `here`.
    """
    match kind(environ):
        case "launchd":
            from tallyd.supervisor import agent  # noqa: PLC0415 - the other's is not loaded

            return agent.installed_in(agent.directory(environ))
        case "systemd":
            from tallyd.supervisor import unit_files  # noqa: PLC0415

            return unit_files.installed_in(unit_files.unit_directory(environ))
        case _:
            return None


def offline(environ: Mapping[str, str]) -> Supervisor | None:
    """The one of this system's kind, whether or not it can be spoken to: its files can go without it."""
    match kind(environ):
        case "launchd":
            from tallyd.supervisor.launchd import Launchd  # noqa: PLC0415

            return Launchd(environ)
        case "systemd":
            from tallyd.supervisor.systemd import Systemd  # noqa: PLC0415

            return Systemd(environ)
        case _:
            return None


def here(environ: Mapping[str, str]) -> Supervisor | None:
    """The service manager that can be spoken to here; None when there is none.

    Raises BadRequest where the environment names one that we do not know.
    """
    found = offline(environ)
    return found if found is not None and found.is_here() else None


def kind(environ: Mapping[str, str]) -> str:
    """Which service manager it is, or "none": TALLYD_SERVICE_MANAGER's word, else the system's own.

    Raises BadRequest for a word that we do not know.
    """
    told = environ.get("TALLYD_SERVICE_MANAGER", "")
    if told not in ("", *_KINDS):
        raise BadRequest(
            f"TALLYD_SERVICE_MANAGER is {told!r}",
            f"set it to one of {', '.join(_KINDS)}, or unset it",
        )
    return told or ("launchd" if sys.platform == "darwin" else "systemd")

"""launchd: our agent installed, started, looked at and taken away again."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from tallyd.supervisor.steps import ServiceRefused
from tallyd.supervisor.supervision import Supervision

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tallyd.supervisor.recipe import Recipe
    from tallyd.supervisor.steps import Done, Step
    from tallyd.supervisor.supervision import Installed


class Launchd:
    """One user's launchd; `environ` is the shell's."""

    name = "launchd"

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._directory = agent_directory(environ)

    @staticmethod
    def is_here() -> bool:
        return False

    def suited(self, recipe: Recipe) -> Recipe:
        return recipe

    def installed(self) -> Installed | None:
        return None

    def look(self) -> Supervision:
        return Supervision(self.name, None, is_enabled=False, state="unknown")

    def files(self, recipe: Recipe) -> dict[Path, bytes]:
        raise NotImplementedError(recipe)

    def install(self, recipe: Recipe, *, start: bool, again: bool) -> list[Step]:
        raise NotImplementedError(recipe, start, again)

    def uninstall(self) -> list[Step]:
        return []

    def start(self) -> list[Step]:
        return []

    def stop(self) -> list[Step]:
        return []

    def restart(self) -> list[Step]:
        return []

    def logs(self, lines: int, *, follow: bool) -> list[str]:
        raise NotImplementedError(lines, follow)

    def explain(self, command: tuple[str, ...], done: Done) -> ServiceRefused:
        return ServiceRefused(f"{command}: {done.err}")


def agent_directory(environ: Mapping[str, str]) -> Path:
    """Where the user's own agents lie."""
    return Path(environ.get("HOME") or os.path.expanduser("~"), "Library", "LaunchAgents")


def installed_in(directory: Path) -> Installed | None:
    """The agent in a directory; None when there is none."""
    return None if directory else None

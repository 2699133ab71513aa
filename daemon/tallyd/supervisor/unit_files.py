"""The user's unit directory as it stands on disk: read without asking the manager."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tallyd.paths import xdg_directory
from tallyd.supervisor import unit
from tallyd.supervisor.steps import read_text
from tallyd.supervisor.supervision import Installed

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

NAME = "systemd"


def unit_directory(environ: Mapping[str, str]) -> Path:
    """Where the user's own units lie."""
    return xdg_directory(environ, "XDG_CONFIG_HOME", ".config") / "systemd" / "user"


def installed_in(directory: Path) -> Installed | None:
    """The unit in a directory, as a file; None when there is none. Raises StateUnusable."""
    file = directory / unit.SERVICE
    text = read_text(file)
    if not text:
        return None
    command = unit.command_of(text)
    return Installed(
        supervisor=NAME,
        file=file,
        command=tuple(command),
        is_ours=not file.is_symlink() and text.startswith(unit.MARK),
        is_on_demand=(directory / unit.PATH).exists(),
        has_sandbox=any(line.startswith("PrivateUsers=") for line in text.splitlines()),
        text=text,
        watches=tuple(unit.watched_by(read_text(directory / unit.PATH))),
        environ=tuple(unit.environ_of(text)),
    )

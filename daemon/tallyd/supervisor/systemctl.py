"""What systemctl says when it refuses, in words, with what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tallyd.supervisor.steps import ServiceRefused

if TYPE_CHECKING:
    from pathlib import Path

    from tallyd.supervisor.steps import Done

_NO_MANAGER = ("Failed to connect to", "No medium found", "$DBUS_SESSION_BUS_ADDRESS")


def in_words(command: tuple[str, ...], done: Done, directory: Path) -> ServiceRefused:
    """What a refusal of systemctl means, and what to do."""
    said = done.err or done.out or f"it ended with {done.code}"
    if any(one in said for one in _NO_MANAGER):
        return ServiceRefused(
            "your systemd user manager cannot be reached from this shell",
            "log in as yourself (not with su or sudo), or export XDG_RUNTIME_DIR=/run/user/$(id -u)",
        )
    if "is masked" in said:
        return ServiceRefused(
            "tallyd is masked in your user manager",
            "systemctl --user unmask tallyd, then again",
        )
    if "does not exist" in said and not str(directory).endswith("/.config/systemd/user"):
        return ServiceRefused(
            f"your user manager does not read {directory}",
            "it sees no shell: set XDG_CONFIG_HOME in ~/.config/environment.d/ and log in again, or"
            " run this without it",
        )
    if command[-1].startswith("tallyd.") and {"start", "restart"} & set(command):
        return ServiceRefused(
            f"it is installed, but does not start: {_first(said)}",
            '"tallyd service logs" shows why; "tallyd doctor" looks for the cause',
        )
    return ServiceRefused(f"{' '.join(command)}: {_first(said)}")


def _first(said: str) -> str:
    return said.splitlines()[0].rstrip(".")

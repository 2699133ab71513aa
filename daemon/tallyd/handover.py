"""Hand-over between versions: which program is the newest here, and whether it asks for our place.

It owns `state/program.json`, the newest tallyd that ran here and how it is started, and reads
`state/handover`, by which a host that brings a newer one asks an older daemon to leave. It
guarantees that of two versions the newer one stays: the older leaves, and starts the newer instead
of itself. Versions are compared by their numbers alone.
"""

from __future__ import annotations

import json
import os
import re
import stat
from typing import TYPE_CHECKING

from tallyd.errors import refused
from tallyd.files import read_regular, replace_file
from tallyd.limits import HANDOVER_MAX_BYTES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tallyd.paths import Paths

# In the place of a version: a service manager has one to start.
SERVICE = "service"
_NUMBERS = re.compile(r"\d+(?:\.\d+)*", re.ASCII)


def is_newer(version: str, other: str) -> bool:
    """Whether `version` is a later release than `other`; what is no version is the oldest."""
    return _release(version) > _release(other)


def ask_for_service(paths: Paths) -> None:
    """Ask a daemon on demand to leave, for a service manager starts one that stays. Raises StateUnusable."""
    replace_file(paths.handover, SERVICE.encode("ascii"))


def asked_by(paths: Paths, version: str) -> str:
    """Who asks a daemon of `version` to leave: a newer version, or SERVICE; "" when nobody does."""
    try:
        said = read_regular(paths.handover, HANDOVER_MAX_BYTES)
    except (OSError, ValueError):
        return ""
    asking = (said or b"").decode("ascii", "replace").strip()
    return asking if asking == SERVICE or is_newer(asking, version) else ""


def settle(paths: Paths, version: str, command: Sequence[str] | None) -> None:
    """Write down this program, if there is one to write down and no newer one is known.

    What was asked for is done with: a daemon runs, and none is asked for that is newer. Raises
    StateUnusable.
    """
    asked = asked_by(paths, version)
    for done in (paths.starting, *([paths.handover] if asked in ("", SERVICE) else [])):
        _remove(done)
    known = _known(paths)
    if command is not None and (known is None or not is_newer(known[0], version)):
        said = {"version": version, "command": list(command)}
        if known != (version, list(command)):
            replace_file(paths.program, json.dumps(said).encode("ascii"))


def newer_program(paths: Paths, version: str) -> list[str] | None:
    """The command of a newer program than `version` that ran here and still can; None if none can."""
    known = _known(paths)
    return known[1] if known is not None and is_newer(known[0], version) else None


def _known(paths: Paths) -> tuple[str, list[str]] | None:
    """(version, command) as written down; None when that is not ours or cannot be run any more."""
    try:
        about = os.lstat(paths.program)
        content = read_regular(paths.program, HANDOVER_MAX_BYTES)
        said = json.loads(content or b"null")
        version, command = said["version"], said["command"]
    except (OSError, ValueError, TypeError, LookupError, RecursionError):
        return None
    # Whoever else could write it could have us run anything.
    if hasattr(os, "getuid") and (about.st_uid != os.getuid() or about.st_mode & 0o022):
        return None
    is_command = isinstance(command, list) and all(isinstance(one, str) for one in command)
    if not (isinstance(version, str) and is_command and command and _can_run(command[0])):
        return None
    return version, command


def _can_run(program: str) -> bool:
    try:
        is_file = stat.S_ISREG(os.stat(program).st_mode)
    except (OSError, ValueError):
        return False
    return os.path.isabs(program) and is_file and os.access(program, os.X_OK)


def _remove(file: Path) -> None:
    try:
        file.unlink(missing_ok=True)
    except OSError as error:
        raise refused(f"{file} cannot be removed", error) from error


def _release(version: str) -> tuple[int, ...]:
    found = _NUMBERS.match(version)
    numbers = [int(one) for one in found[0].split(".")] if found else []
    while numbers and not numbers[-1]:
        numbers.pop()
    return tuple(numbers)

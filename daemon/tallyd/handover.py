"""Hand-over between versions: which program is the newest here, and whether it asks for our place.

It owns `state/program.json`, the newest tallyd that ran here and how it is started, and reads
`state/handover`, by which a host that brings a newer one asks an older daemon to leave. It
guarantees that of two versions the newer one stays: the older leaves, and starts the newer instead
of itself. Versions are compared by their numbers alone. What is asked for is tried once: a newer
program that cannot run must not keep the older one from running.
"""

from __future__ import annotations

import json
import os
import re
import stat
from contextlib import suppress
from typing import TYPE_CHECKING

from tallyd.contract.frozen import Frozen
from tallyd.errors import TallydError, refused
from tallyd.files import NO_TRAPS, read_regular, replace_file
from tallyd.limits import HANDOVER_FRESH_S, HANDOVER_MAX_BYTES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import Any

    from tallyd.paths import Paths

# In the place of a version: a service manager has one to start.
SERVICE = "service"
_NUMBERS = re.compile(r"\d+(?:\.\d+)*", re.ASCII)


class Asked(Frozen):
    """Who asks for our place: a version (or SERVICE), how it is started, which file said so, when (Unix s)."""

    version: str
    command: tuple[str, ...]
    mark: tuple[int, int]
    at: float


def is_newer(version: str, other: str) -> bool:
    """Whether `version` is a later release than `other`; what is no version is the oldest."""
    return _release(version) > _release(other)


def ask_for_service(paths: Paths) -> None:
    """Ask a daemon on demand to leave, for a service manager starts one that stays. Raises StateUnusable."""
    replace_file(paths.handover, json.dumps({"version": SERVICE}).encode("ascii"))
    # It reads that whenever something comes to where requests come.
    bell = paths.flush_requests / ".ask"
    replace_file(bell, b"")
    _remove(bell)


def asked(paths: Paths, version: str) -> Asked | None:
    """Who asks a daemon of `version` to leave: a newer one that can run, or SERVICE; None when nobody does."""
    found = _read(paths.handover)
    if found is None:
        return None
    about, said = found
    asking, program = said.get("version"), said.get("program")
    mark = (about.st_ino, about.st_mtime_ns)
    if asking == SERVICE:
        return Asked(SERVICE, (), mark, about.st_mtime)
    if not (isinstance(asking, str) and isinstance(program, str) and _can_run(program)):
        return None
    if not is_newer(asking, version):
        return None
    return Asked(asking, (program,), mark, about.st_mtime)


def settle(paths: Paths, version: str, command: Sequence[str] | None, package: str) -> None:
    """Write down this program, if there is one to write down and no newer one is known.

    `package` is a file without which the command runs no tallyd. What was asked for is done with: a
    daemon runs, and none is asked for that is newer. Raises StateUnusable.
    """
    asking = asked(paths, version)
    for done in (paths.starting, *([] if asking and asking.command else [paths.handover])):
        _remove(done)
    if command is None:
        return
    known = _known(paths)
    # Its own command may have run another version before: an upgrade, or the way back.
    if known is None or known[1] == list(command) or not is_newer(known[0], version):
        said = {"version": version, "command": list(command), "package": package}
        if known != (version, list(command)):
            replace_file(paths.program, json.dumps(said).encode("ascii"))


def announce(paths: Paths) -> None:
    """Claim the next start for whoever takes our place, before the lock is let go. Best effort.

    Without it a host that finds the lock free in between starts one more, which finds it taken.
    """
    with suppress(OSError):
        descriptor = os.open(paths.starting, os.O_WRONLY | os.O_CREAT | NO_TRAPS, 0o600)
        try:
            os.utime(descriptor)
        finally:
            os.close(descriptor)


def note_try(paths: Paths) -> None:
    """Write down that the newest program is about to be run: once it settles, that is forgotten.

    What cannot run must not keep what can from running. Best effort.
    """
    found = _read(paths.program)
    if found is not None:
        with suppress(TallydError):
            replace_file(paths.program, json.dumps({**found[1], "is_tried": True}).encode("ascii"))


def newer_program(paths: Paths, version: str, now: float | None = None) -> list[str] | None:
    """The command of a newer program than `version` that can run, the newest; None if there is none.

    One that ran here, or, with `now` (Unix s), one that was asked for shortly before.
    """
    known = _known(paths)
    asking = None if now is None else asked(paths, version)
    if asking is not None and now is not None and abs(now - asking.at) < HANDOVER_FRESH_S:
        is_newest = known is None or is_newer(asking.version, known[0])
        if asking.command and is_newest:
            return list(asking.command)
    return known[1] if known is not None and is_newer(known[0], version) else None


def _known(paths: Paths) -> tuple[str, list[str]] | None:
    """(version, command) as written down; None when that is not ours or cannot be run any more."""
    found = _read(paths.program)
    if found is None:
        return None
    version, command, package = (found[1].get(one) for one in ("version", "command", "package"))
    if found[1].get("is_tried"):
        # It was run, and has not settled since.
        return None
    is_command = isinstance(command, list) and all(isinstance(one, str) for one in command)
    if not (isinstance(version, str) and is_command and command and _can_run(command[0])):
        return None
    # The interpreter of an environment stays when tallyd is taken out of it.
    if not (isinstance(package, str) and _is_file(package)):
        return None
    return version, command


def _read(file: Path) -> tuple[os.stat_result, dict[str, Any]] | None:
    """The object in a file that the user alone can write; None for anything else."""
    try:
        about = os.lstat(file)
        said = json.loads(read_regular(file, HANDOVER_MAX_BYTES) or b"null")
    except (OSError, ValueError, RecursionError):
        return None
    # Whoever else could write it could have us run anything.
    if hasattr(os, "getuid") and (about.st_uid != os.getuid() or about.st_mode & 0o022):
        return None
    return (about, said) if isinstance(said, dict) else None


def _can_run(program: str) -> bool:
    return os.path.isabs(program) and _is_file(program) and os.access(program, os.X_OK)


def _is_file(path: str) -> bool:
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False


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

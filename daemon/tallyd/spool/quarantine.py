"""Quarantine: malformed files set aside in `bad/`, each with its reason, so that the rest goes on."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tallyd.errors import refused
from tallyd.files import NO_TRAPS, make_directory, size_below
from tallyd.limits import QUARANTINE_MAX_BYTES, QUARANTINE_MAX_FILES
from tallyd.spool.directories import WHY, link_in, remove_path

if TYPE_CHECKING:
    from tallyd.paths import SpoolDirs
    from tallyd.spool.arrivals import NewEntry, NewFiles


def quarantine(files: NewFiles, entry: NewEntry, dirs: SpoolDirs, reason: str) -> bool:
    """Set a malformed file aside in `bad/`, with the reason in `<name>.why`; the oldest there go.

    False when it is gone. Raises StateUnusable when the rename is refused.
    """
    if not files.holds(entry):
        # Listed by two passes at once, and the other one has set it aside already.
        return False
    # A hostile name may be too long for ".why" or not be text at all: it gets one of ours.
    name = entry.name if entry.dropped_at is not None else f"unnamed-{files.id_of(entry)[6:].hex()}"
    make_directory(dirs.bad)
    target = str(dirs.bad / name)
    # The reason first: killed in between, the file is still in new/ and comes here again.
    _write_reason(target + WHY, entry.name, reason)
    try:
        if os.path.lexists(target):
            remove_path(target)
        files.move(entry, target)
    except FileNotFoundError:
        remove_path(target + WHY)
        return False
    except OSError as error:
        raise refused(f"{files.path_of(entry)} cannot be set aside", error) from error
    trim_quarantine(dirs)
    return True


def _write_reason(file: str, name: str, reason: str) -> None:
    """Best effort: the reason is a help for people, setting the file aside is what counts."""
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | NO_TRAPS, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as why:
            why.write(f"{reason}\n")
            if not os.path.basename(file).startswith(name):
                why.write(f"its name was {name!r}\n")
    except OSError:
        return


def trim_quarantine(dirs: SpoolDirs) -> None:
    """Keep the newest of `bad/` within its cap, each file together with its reason."""
    if link_in(dirs.bad) is not None:
        return
    try:
        with os.scandir(dirs.bad) as entries:
            found = {
                entry.name: (
                    entry.stat(follow_symlinks=False).st_mtime,
                    size_below(entry.path, QUARANTINE_MAX_BYTES),
                    entry.path,
                )
                for entry in entries
            }
    except OSError:
        return
    # A reason without its file: a kill came between the two, and its writer took the file back.
    for name, (_, _, path) in found.items():
        if name.endswith(WHY) and name.removesuffix(WHY) not in found:
            remove_path(path)
    kept = total = 0
    for _, size, path in sorted(
        (one for name, one in found.items() if not name.endswith(WHY)), reverse=True
    ):
        # One that is too large for the rest goes alone: it must not take older ones along.
        if kept >= QUARANTINE_MAX_FILES or total + size > QUARANTINE_MAX_BYTES:
            remove_path(path)
            remove_path(path + WHY)
        else:
            kept += 1
            total += size

"""Asking an older daemon to make room for the newer one that this host brings.

It owns the writing of `state/handover`: a version, and how it is started. The daemon leaves by
itself, between two rounds; nobody is ended. Loaded where the version that runs is not the host's.
"""

import os
import time

from tallyd_client._autostart import sites
from tallyd_client._drop import OPEN_FLAGS, remove, to_json, write_all
from tallyd_client._introduce import beside_of

# Where an older daemon stays all the same it is asked again after an hour, in seconds.
_ASK_AGAIN_S = 3600.0
_VERSION_MAX_CHARS = 64


def ask(state: str, program: str, running: str) -> None:
    """Ask a daemon of version `running` to leave, if ours is newer. Raises OSError."""
    version = _brought_version()
    file = os.path.join(state, "handover")
    if version is None or not is_newer(version, running) or _is_asked(file, version):
        return
    beside = beside_of(file)
    said = {"version": version, "program": program}
    try:
        write_all(os.open(beside, OPEN_FLAGS, 0o600), to_json(said).encode("ascii"))
        os.replace(beside, file)
    except OSError:
        remove(beside)


def is_newer(version: str, other: str) -> bool:
    """Whether `version` is a later release than `other`, as the daemon compares them."""
    return _release(version) > _release(other)


def _release(version: str) -> "tuple[int, ...]":
    numbers = []
    for part in version[:_VERSION_MAX_CHARS].split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if digits:
            numbers.append(int(digits))
        if digits != part or not digits:
            break
    while numbers and not numbers[-1]:
        numbers.pop()
    return tuple(numbers)


def _brought_version() -> "str | None":
    """The version of the `tallyd` installed with this host; None when there is none.

    By the name of its directory: importlib.metadata takes 30 ms.
    """
    best = None
    for site in sites():
        try:
            names = os.listdir(site)
        except OSError:
            continue
        for name in names:
            if name.startswith("tallyd-") and name.endswith(".dist-info"):
                found = name[7:-10]
                best = found if best is None or is_newer(found, best) else best
    return best


def _is_asked(file: str, version: str) -> bool:
    """Whether somebody asked for as much within the last hour."""
    from tallyd_client._state import read_object

    try:
        said = read_object(file)
        if said is None or abs(time.time() - os.lstat(file).st_mtime) > _ASK_AGAIN_S:
            return False
        return not is_newer(version, said["version"])
    except Exception:
        return False

"""Symptoms: what anybody can see is wrong, from outside, with or without a daemon.

What the daemon knows by itself stands in the text of its lock (`troubles`). Here is the rest: a disk
that is full or read-only, a spool that somebody made a trap, a daemon that was killed or hangs. Each
says what to do. Changes nothing.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from tallyd import lock, runs, spool
from tallyd.contract.days import calendar_instant
from tallyd.contract.frozen import Frozen
from tallyd.errors import SettingsError
from tallyd.limits import FULL_BELOW_BYTES, SILENT_AFTER_S, WAITED_LONG_S

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection, Mapping

    from tallyd.lock import Holder
    from tallyd.paths import Paths


class Symptom(Frozen):
    """What is wrong: with which place, of which product ("": of all), and what to do about it."""

    place: str
    product: str
    why: str


def of_the_lock(paths: Paths) -> list[Symptom]:
    """A link in the lock's place, which nobody follows."""
    if not os.path.islink(paths.lock):
        return []
    return [Symptom("lock", "", f"{paths.lock} is a link, and none is followed; remove it")]


def of_the_daemon(paths: Paths, now: float) -> list[Symptom]:
    """A daemon that lives and gives no sign of it cannot say either what is wrong."""
    beat_at = lock.last_beat(paths)
    silent_s = now - beat_at
    if not beat_at or silent_s < SILENT_AFTER_S:
        return []
    why = f"has given no sign for {silent_s:.0f} s; look at that disk, then restart tallyd"
    return [Symptom("daemon", "", why)]


def of_its_environment(pid: int, here: Mapping[str, str]) -> list[Symptom]:
    """A running daemon to which its environment says no, where this shell's does not: it sees it alone.

    Told where the system shows it, as Linux does; `tallyd doctor` compares all of it, product by product.
    """
    name = "DO_NOT_TRACK"
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            told = dict(one.partition(b"=")[::2] for one in file.read().split(b"\0"))
    except OSError:
        return []
    value = os.fsdecode(told.get(name.encode("ascii"), b"")).strip()
    if value.lower() in ("", "0", "false") or here.get(name, "").strip():
        return []
    why = (
        f"was started with {name}={value}: what heeds that is off for it, and what tools drop is deleted;"
        f" start it without, or say so for good: tallyd off --all"
    )
    return [Symptom("daemon", "", why)]


def of_waiting(products: Mapping[str, Any]) -> list[Symptom]:
    """Of a report's products, without a daemon: drops for which the service on demand was not started."""
    found = []
    for name, one in products.items():
        is_on = one["consent"] is not None and one["consent"]["state"] == "on"
        oldest_s = (one["ages"] or {}).get("spool", {}).get("oldest_s") if is_on else None
        if oldest_s is not None and oldest_s > WAITED_LONG_S:
            why = (
                "drops wait for over an hour, and nothing was started for them;"
                ' merge them: "tallyd service start"; see why: "tallyd service status"'
            )
            found.append(Symptom("service", name, why))
    return found


def of_the_runs(
    sql: sqlite3.Connection, holder: Holder | None, paths: Paths, *, has_service: bool
) -> list[Symptom]:
    """A run that nobody ended, and nobody holds the lock: it was killed."""
    if holder is not None or not runs.unfinished(sql):
        return []
    seen = calendar_instant(lock.last_beat(paths)) or "a time that no calendar has"
    how = 'start it again: "tallyd run"'
    if has_service:
        how = 'its service starts it again within a minute; if not: "tallyd service start"'
    return [Symptom("daemon", "", f"was killed, last seen at {seen}; {how}")]


def of_the_settings(paths: Paths) -> list[Symptom]:
    """A config.toml that keeps the next start, or the reload, from being what its user wants."""
    if not os.path.lexists(paths.settings_file):
        return []
    from tallyd.settings import read_settings  # noqa: PLC0415 - few users have one

    try:
        read_settings(paths)
    except SettingsError as problem:
        return [Symptom("settings", "", str(problem))]
    except OSError:
        return []
    return []


def of_the_disk(paths: Paths) -> list[Symptom]:
    """What keeps anybody from reading or writing in the state directory."""
    state = paths.state
    if not hasattr(os, "statvfs"):
        return []
    try:
        disk = os.statvfs(state)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        return [
            Symptom("disk", "", f"{state} cannot be looked at: {error.strerror}; make it yours")
        ]
    if not os.path.isdir(state):
        return []
    why = ""
    if is_foreign(paths):
        why = "belongs to another user; be that user, or let TALLYD_HOME name a directory of yours"
    elif disk.f_flag & os.ST_RDONLY:
        why = "is read-only; mount that disk writable again"
    elif not os.access(state, os.W_OK | os.X_OK):
        why = "is not writable; make it yours and writable"
    elif disk.f_bavail * disk.f_frsize < FULL_BELOW_BYTES:
        why = "is on a full disk; free space on it"
    elif disk.f_files and not disk.f_favail:
        why = "is on a disk without inodes; remove files there"
    return [Symptom("disk", "", f"{state} {why}")] if why else []


def is_foreign(paths: Paths) -> bool:
    """Whether the state directory is another user's, and so all that is in it."""
    try:
        owner = os.stat(paths.state).st_uid
    except OSError:
        return False
    return hasattr(os, "geteuid") and owner != os.geteuid()


def of_the_spool(paths: Paths, products: Collection[str]) -> list[Symptom]:
    """Directories that hosts and daemon leave alone, since somebody else made them what they are."""
    if is_foreign(paths):
        # All that is in it is another user's.
        return []
    # Of what lies in a directory that is one nothing is said: it has that one mended first.
    why = spool.trap(paths.spools)
    if why:
        return [Symptom("spool", "", f"{paths.spools} {why}; move it away")]
    found = []
    for product in sorted(products):
        dirs = paths.spool(product)
        above = spool.trap(dirs.new.parent)
        places = [dirs.new.parent] if above else [dirs.new, dirs.tmp, dirs.bad]
        for place in places:
            why = above or spool.trap(place)
            if why:
                found.append(Symptom("spool", product, f"{place} {why}; move it away"))
    return found

"""The daemon by what it leaves: its lock, and its database."""

from __future__ import annotations

import shlex
import stat
from typing import TYPE_CHECKING

from tallyd import __version__, damage, lock, store
from tallyd.contract.days import instant
from tallyd.doctor.finding import Finding, Level
from tallyd.errors import StateUnusable
from tallyd.limits import DOCTOR_DATABASE_S, SILENT_AFTER_S

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tallyd.doctor.scene import Scene


def check_lock(scene: Scene) -> Iterator[Finding]:
    """Who holds the lock, whether it still gives a sign, and whether it is this tallyd."""
    file = scene.around.paths.lock
    try:
        mode = file.lstat().st_mode
    except OSError:
        yield Finding("lock", Level.NOTE, "no daemon has run here yet", "tallyd run")
        return
    if not stat.S_ISREG(mode):
        kind = "a link, and none is followed" if stat.S_ISLNK(mode) else "no regular file"
        yield Finding("lock", Level.PROBLEM, f"{file} is {kind}", f"rm -r {shlex.quote(str(file))}")
        return
    holder, beat_at = scene.holder, lock.last_beat(scene.around.paths)
    if holder is None:
        # The file stays for the next one; what is in it means nothing.
        # What starts one is the service's finding.
        yield Finding("lock", Level.NOTE, "nobody holds the lock: no daemon runs")
        return
    if holder.pid <= 0:
        what = f"somebody holds {file}, and does not say who"
        yield Finding("lock", Level.WARNING, what, f"fuser -v {shlex.quote(str(file))}")
        return
    who = (
        f"{holder.role} {holder.version}, process {holder.pid}, since {instant(holder.started_at)}"
    )
    silent_s = scene.now - beat_at
    if silent_s > SILENT_AFTER_S:
        what = f"{who} has given no sign for {silent_s:.0f} s"
        fix = f"look at that disk, then restart it: kill {holder.pid}"
        yield Finding("lock", Level.PROBLEM, what, fix)
    elif holder.version != __version__:
        what = f"{who}; this command is {__version__}"
        fix = f"restart it, by its service, or: kill {holder.pid}; tallyd run"
        yield Finding("lock", Level.WARNING, what, fix)
    else:
        yield Finding("lock", Level.OK, who)
    for one in holder.problems:
        whose = f" of {one.product}" if one.product else ""
        what = f"since {instant(one.since)} the daemon fails at {one.duty}{whose}: {one.why}"
        yield Finding("lock", Level.PROBLEM, what, "the last words say what to do")


def check_database(scene: Scene) -> Iterator[Finding]:
    """Whether the database can be read, by this version, and is whole as far as a look tells."""
    paths = scene.around.paths
    is_held = scene.holder is not None
    try:
        said = store.examine(paths, DOCTOR_DATABASE_S, is_held=is_held)
    except StateUnusable as problem:
        yield Finding("database", Level.PROBLEM, problem.what, problem.hint)
        return
    if said is None:
        yield Finding("database", Level.NOTE, f"{paths.database} is not there yet")
    elif said:
        yield Finding("database", Level.NOTE, f"{paths.database}: {said}")
    else:
        yield Finding("database", Level.OK, f"{paths.database} is whole")
    if (aside := damage.last(paths)) is not None:
        what = f"a damaged database was set aside at {instant(aside[0])}: {aside[1]}"
        yield Finding("database", Level.NOTE, what, "it goes by itself; what it held is lost")

"""The clock: beside the files' own instants, the last heartbeat, and the age of this version."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tallyd import clock, lock
from tallyd.contract.days import instant
from tallyd.doctor.finding import Finding, Level
from tallyd.limits import CLOCK_GAP_S, CLOCK_LEAP_S, MADE_AFTER

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tallyd.doctor.scene import Scene

_SET_IT = "set the clock; on Linux: timedatectl set-ntp true"


def check(scene: Scene) -> Iterator[Finding]:
    """Whether this machine's time can be believed."""
    ahead = scene.around.environ.get(clock.AHEAD_ENV, "")
    if ahead:
        what = f"{clock.AHEAD_ENV} is {ahead}: this shell's tallyd does not read the real time"
        yield Finding("clock", Level.WARNING, what, f"unset {clock.AHEAD_ENV}")
    if scene.service is not None and (theirs := scene.service.get(clock.AHEAD_ENV, "")) != ahead:
        what = (
            f"the running daemon has {clock.AHEAD_ENV}={theirs or '(not set)'}, this shell"
            f" {ahead or '(not set)'}"
        )
        fix = "restart it without that variable" if theirs else f"unset {clock.AHEAD_ENV}"
        yield Finding("clock", Level.WARNING, what, fix)
    told = list(_wrong(scene))
    yield from told or [Finding("clock", Level.OK, f"it is {instant(scene.now)}")]


def _wrong(scene: Scene) -> Iterator[Finding]:
    now = scene.now
    if now < MADE_AFTER:
        what = f"it is {instant(now)} here, before this version was made"
        yield Finding("clock", Level.PROBLEM, what, _SET_IT)
    beat_at = lock.last_beat(scene.around.paths)
    newest = max((_changed_at(one) for one in _files(scene)), default=0.0)
    for whose, at in (("the last heartbeat", beat_at), ("a file of the state", newest)):
        if at - now > CLOCK_LEAP_S:
            what = f"{whose} is of {_said(at)}, and it is {instant(now)} now: one of them is wrong"
            yield Finding("clock", Level.WARNING, what, _SET_IT)
            return
    if beat_at and now - beat_at > CLOCK_GAP_S and scene.holder is None:
        days = (now - beat_at) / 86400
        what = f"the last heartbeat is {days:.0f} days ago: nobody ran since, or the clock is ahead"
        yield Finding("clock", Level.NOTE, what)


def _files(scene: Scene) -> list[Path]:
    """What tallyd itself wrote last, at the file system's own time."""
    paths = scene.around.paths
    log = paths.database.with_name(f"{paths.database.name}-wal")
    return [paths.database, log, paths.reserve, paths.spools]


def _changed_at(file: Path) -> float:
    # Not the modification time, which anybody may set: the kernel's own.
    try:
        return file.lstat().st_ctime
    except OSError:
        return 0.0


def _said(at: float) -> str:
    try:
        return instant(at)
    except (OverflowError, ValueError, OSError):
        return "a year that no calendar has"

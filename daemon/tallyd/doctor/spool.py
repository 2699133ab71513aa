"""The spool of each product: what it is made of, what waits in it, what was set aside and why."""

from __future__ import annotations

import os
import shlex
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from tallyd import files, spool
from tallyd.doctor.finding import Finding, Level
from tallyd.limits import LEFTOVER_S

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tallyd.doctor.scene import Scene
    from tallyd.paths import SpoolDirs

_WHY = ".why"
_WHY_MAX_BYTES = 4096
# So many of one kind show what there is; the rest is a number.
_TOLD = 3


def check(scene: Scene) -> Iterator[Finding]:
    """The directories above all products, then each product."""
    paths = scene.around.paths
    if not os.path.lexists(paths.state):
        yield Finding("spool", Level.NOTE, f"{paths.state} is not there: nothing was dropped yet")
        return
    for one in (paths.state, paths.spools):
        yield from _directory(one, may_be_link=one == paths.state)
    for one in (paths.database, paths.lock):
        # Not what a link leads to: what mends it would be done to that.
        if os.path.isfile(one) and not one.is_symlink():
            yield from _mode(one, 0o600)
    dropping = spool.products_with_spool(paths)
    waiting, products = 0, sorted({*dropping, *scene.products})
    for product in products:
        dirs = paths.spool(product)
        for one in (dirs.new.parent, dirs.new, dirs.tmp, dirs.bad):
            yield from _directory(one)
        waiting += spool.measure(dirs).files or 0
        yield from _leftovers(product, dirs, scene.now)
        yield from _quarantine(product, dirs)
    if waiting and not scene.has_daemon:
        some = "1 file waits" if waiting == 1 else f"{waiting} files wait"
        what = f"{some} in the spool, and no daemon runs"
        yield Finding("spool", Level.WARNING, what, 'tallyd flush, or let one run: "tallyd run"')
    else:
        yield Finding("spool", Level.OK, f"of {len(dropping)} products, {waiting} files wait")


def _directory(place: Path, *, may_be_link: bool = False) -> Iterator[Finding]:
    problem = spool.trap(place)
    if problem and not (may_be_link and place.is_symlink()):
        fix = f"look who put it there, then: mv {_quoted(place)} {_quoted(f'{place}.aside')}"
        yield Finding("spool", Level.PROBLEM, f"{place} {problem}; nothing is read there", fix)
    else:
        yield from _mode(place, 0o700)


def _mode(place: Path, most: int) -> Iterator[Finding]:
    """Nobody but its owner has any business there."""
    try:
        mode = stat.S_IMODE(os.stat(place).st_mode)
    except OSError:
        return
    if most & ~mode:
        what = f"{place} is closed to yourself (mode {mode:04o})"
        yield Finding("spool", Level.PROBLEM, what, f"chmod {most:o} {_quoted(place)}")
    elif mode & ~most & 0o077:
        what = f"{place} is open to others (mode {mode:04o})"
        yield Finding("spool", Level.WARNING, what, f"chmod {most:o} {_quoted(place)}")


def _leftovers(product: str, dirs: SpoolDirs, now: float) -> Iterator[Finding]:
    if spool.trap(dirs.tmp):
        return
    old = [one for one in _entries(dirs.tmp) if now - _changed_at(one) > LEFTOVER_S]
    if old:
        some = f"1 file in {dirs.tmp} was left by a killed writer"
        if len(old) > 1:
            some = f"{len(old)} files in {dirs.tmp} were left by killed writers"
        what = f"{product}: {some}"
        yield Finding("spool", Level.NOTE, what, "a running daemon sweeps them")


def _quarantine(product: str, dirs: SpoolDirs) -> Iterator[Finding]:
    if spool.trap(dirs.bad):
        return
    bad = sorted(
        (one for one in _entries(dirs.bad) if not one.name.endswith(_WHY)), key=_changed_at
    )
    if not bad:
        return
    told = "; ".join(f"{one.name}: {_reason(f'{one.path}{_WHY}')}" for one in bad[-_TOLD:])
    more = f", the newest {_TOLD}" if len(bad) > _TOLD else ""
    some = "1 file was" if len(bad) == 1 else f"{len(bad)} files were"
    what = f"{product}: {some} set aside, malformed{more}: {told}"
    fix = f"tell {product}'s maintainer; then: rm -r {_quoted(dirs.bad)}/*"
    yield Finding("spool", Level.WARNING, what, fix)


def _reason(file: str) -> str:
    try:
        content = files.read_regular(Path(file), _WHY_MAX_BYTES)
    except (OSError, ValueError):
        content = None
    lines = (content or b"").decode("utf-8", "replace").splitlines()
    return lines[0] if lines else "no reason stands beside it"


def _entries(directory: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(directory) as entries:
            return list(entries)
    except OSError:
        return []


def _changed_at(entry: os.DirEntry[str]) -> float:
    try:
        return entry.stat(follow_symlinks=False).st_mtime
    except OSError:
        return 0.0


def _quoted(place: Path | str) -> str:
    return shlex.quote(str(place))

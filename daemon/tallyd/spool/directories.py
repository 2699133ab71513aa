"""The directories of a spool: made, measured, swept and emptied; links in their place are never followed."""

from __future__ import annotations

import os
import re
import stat
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

from tallyd.ages import Ages, Tally
from tallyd.contract.frozen import Frozen
from tallyd.contract.parse import PRODUCT_NAME
from tallyd.errors import StateUnusable
from tallyd.files import make_directory, remove_older
from tallyd.limits import LEFTOVER_S, MEASURED_FILES, WAITING_MAX_NAMES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from tallyd.paths import Paths, SpoolDirs

_T = TypeVar("_T")
# At most 77 characters, of DELTA_NAME_MAX_CHARS.
_is_delta_name = re.compile(r"\d{13}-\d{1,20}-\d{1,20}-[0-9a-f]{16}\.json", re.ASCII).fullmatch
# What the reason beside a quarantined file is called, after its name.
WHY = ".why"


class SpoolSize(Frozen):
    """How much waits, and for how long: complete deltas and their bytes, and quarantined files.

    `bytes` is None beyond MEASURED_FILES. Of a directory that cannot be listed everything is None, and
    `problem` says which that is; "" where all can.
    """

    files: int | None
    bytes: int | None
    quarantined: int | None
    waiting: Ages | None
    aside: Ages | None
    problem: str = ""


def prepare(dirs: SpoolDirs) -> None:
    """Make the directories of one product's spool. Raises StateUnusable, also where one is a link."""
    for directory in (dirs.tmp, dirs.new, dirs.bad):
        link = link_in(directory)
        if link is not None:
            raise StateUnusable(
                f"{link} is a link, and none is followed", "put a directory in its place"
            )
        make_directory(directory)


def products_with_spool(paths: Paths) -> list[str]:
    """The products that somebody dropped for, by folder name; links are not followed."""
    if os.path.islink(paths.spools):
        return []
    try:
        with os.scandir(paths.spools) as entries:
            return sorted(
                entry.name
                for entry in entries
                if re.fullmatch(PRODUCT_NAME, entry.name, re.ASCII)
                and entry.is_dir(follow_symlinks=False)
            )
    except OSError:
        return []


def waiting_names(paths: Paths) -> frozenset[str]:
    """The names of what waits in every spool, at most WAITING_MAX_NAMES of each. Changes nothing."""
    found: set[str] = set()
    for product in products_with_spool(paths):
        waiting = _files(paths.spool(product).new)
        found.update(os.path.basename(path) for path, _ in islice(waiting, WAITING_MAX_NAMES))
    return frozenset(found)


def sweep_tmp(dirs: SpoolDirs, now: float) -> None:
    """Remove what a killed writer left in `tmp/` over an hour ago."""
    if link_in(dirs.tmp) is None:
        remove_older(dirs.tmp, LEFTOVER_S, now, lambda _: True)


def purge(dirs: SpoolDirs) -> None:
    """Remove everything that waits: consent is off. Quarantine goes too."""
    for directory in (dirs.new, dirs.tmp, dirs.bad):
        for path, _ in _files(directory):
            remove_path(path)


def trap(directory: Path) -> str:
    """What is wrong with a directory of the spool, in words; "" where it is one of ours, or none yet."""
    try:
        about = os.lstat(directory)
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as error:
        return f"cannot be looked at: {error.strerror}"
    if stat.S_ISLNK(about.st_mode):
        return "is a link"
    if not stat.S_ISDIR(about.st_mode):
        return "is no directory"
    if hasattr(os, "geteuid") and about.st_uid != os.geteuid():
        return "belongs to another user"
    return ""


def dropped_at(name: str) -> float | None:
    """The instant in a delta's name, Unix s; None when the name is not in the spool format."""
    return int(name[:13]) / 1000 if _is_delta_name(name) is not None else None


def measure(dirs: SpoolDirs, now: float = 0.0) -> SpoolSize:
    """How much waits in the spool, and for how long at `now` (Unix s). Changes nothing.

    One pass over each directory. A delta's age is told by its name; of MEASURED_FILES the size is asked
    for, and the age where the name does not tell: asking all of a flood takes longer than people wait.
    """
    problems: list[str] = []
    new = _told(problems, _measure_new, dirs.new, now) or (None, None, None)
    bad = _told(problems, _measure_bad, dirs.bad, now) or (None, None)
    return SpoolSize(new[0], new[1], bad[0], new[2], bad[1], "".join(problems[:1]))


def _told(
    problems: list[str], look: Callable[[Path, float], _T], directory: Path, now: float
) -> _T | None:
    """What a look at a directory finds; None, and a word among the problems, where it cannot be listed."""
    try:
        return look(directory, now)
    except OSError as error:
        problems.append(f"{directory} cannot be listed: {error.strerror}; make it yours")
        return None


def _measure_new(directory: Path, now: float) -> tuple[int, int | None, Ages]:
    """(files, their bytes, their ages) of `new/`. Raises OSError."""
    tally, files, size = Tally(now), 0, 0
    for entry in _entries(directory):
        at = dropped_at(entry.name)
        about = _stat(entry) if files < MEASURED_FILES else None
        files += 1
        if about is not None:
            size += about.st_size
            at = about.st_mtime if at is None else at
        tally.add(at)
    return files, size if files <= MEASURED_FILES else None, tally.ages()


def _measure_bad(directory: Path, now: float) -> tuple[int, Ages]:
    """(files, their ages) of `bad/`. Raises OSError."""
    tally, files = Tally(now), 0
    for entry in _entries(directory):
        if not entry.name.endswith(WHY):
            about = _stat(entry) if files < MEASURED_FILES else None
            files += 1
            tally.add(None if about is None else about.st_mtime)
    return files, tally.ages()


def _entries(directory: Path) -> Iterator[os.DirEntry[str]]:
    """What is in a directory; nothing where there is none, or behind a link. Raises OSError."""
    if link_in(directory) is not None:
        return
    try:
        listing = os.scandir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return
    with listing as entries:
        yield from entries


def _stat(entry: os.DirEntry[str]) -> os.stat_result | None:
    """What the system says of a file; None when it is gone."""
    try:
        return entry.stat(follow_symlinks=False)
    except OSError:
        return None


def link_in(directory: Path) -> Path | None:
    """The link among a directory of files, its product's and `spool/`; None: all three are real.

    Above them a user may have links: where the state lies is his own business.
    """
    for one in (directory.parents[1], directory.parent, directory):
        if os.path.islink(one):
            return one
    return None


def _files(directory: Path) -> Iterable[tuple[str, os.stat_result]]:
    def walk() -> Iterator[tuple[str, os.stat_result]]:
        if link_in(directory) is not None:
            return
        with os.scandir(directory) as entries:
            for entry in entries:
                try:
                    yield entry.path, entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue

    try:
        return list(walk())
    except OSError:
        return []


def remove_path(path: str) -> None:
    """Remove a file, a link or a directory with all that is in it; never follows a link."""
    try:
        if os.path.isdir(path) and not os.path.islink(path):
            for below, directories, files in os.walk(path, topdown=False):
                for name in files:
                    os.unlink(os.path.join(below, name))
                for name in directories:
                    inner = os.path.join(below, name)
                    (os.unlink if os.path.islink(inner) else os.rmdir)(inner)
            os.rmdir(path)
        else:
            os.unlink(path)
    except OSError:
        return

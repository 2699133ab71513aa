"""The directories of a spool: made, measured, swept and emptied; links in their place are never followed."""

from __future__ import annotations

import os
import re
import stat
from itertools import islice
from typing import TYPE_CHECKING

from tallyd.contract.frozen import Frozen
from tallyd.contract.parse import PRODUCT_NAME
from tallyd.errors import StateUnusable
from tallyd.files import make_directory, remove_older
from tallyd.limits import LEFTOVER_S, WAITING_MAX_NAMES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from tallyd.paths import Paths, SpoolDirs

# What the reason beside a quarantined file is called, after its name.
WHY = ".why"


class SpoolSize(Frozen):
    """How much waits: complete deltas and their bytes, and quarantined files."""

    files: int
    bytes: int
    quarantined: int


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


def measure(dirs: SpoolDirs) -> SpoolSize:
    """How much waits in the spool. Changes nothing."""
    waiting = list(_files(dirs.new))
    bad = sum(1 for path, _ in _files(dirs.bad) if not path.endswith(WHY))
    return SpoolSize(len(waiting), sum(about.st_size for _, about in waiting), bad)


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

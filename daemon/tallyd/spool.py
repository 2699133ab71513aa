"""The spool: files in and out of `new/`, `tmp/` and `bad/`, never their meaning.

It owns the three directories of each product (docs/spool.md lists every state and transition). It
guarantees that opening a delta never follows a link, never blocks and never reads past the cap,
that no directory which turned into a link is followed, from `spool/` down, and that a bad file is
set aside by one rename so that the rest goes on. It knowingly does not hold
a file while it is merged: a writer at its cap may take it away in between, and the delta's
remembered name keeps the sums right.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
from dataclasses import dataclass
from heapq import nsmallest
from typing import TYPE_CHECKING

from tallyd.contract.parse import PRODUCT_NAME
from tallyd.errors import Malformed, StateUnusable, refused
from tallyd.files import NO_TRAPS, make_directory, remove_older
from tallyd.limits import (
    DELTA_MAX_BYTES,
    DELTA_NAME_MAX_CHARS,
    LEFTOVER_S,
    QUARANTINE_MAX_BYTES,
    QUARANTINE_MAX_FILES,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from tallyd.paths import Paths, SpoolDirs

_DELTA_NAME = re.compile(r"(\d{13})-\d{1,20}-\d{1,20}-[0-9a-f]{16}\.json", re.ASCII)
_WHY = ".why"
# Not the file's fault: this process is out of descriptors, the disk or the memory fails.
_OUR_FAULT = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO, errno.ENODEV})
_OPEN_FLAGS = os.O_RDONLY | NO_TRAPS


@dataclass(frozen=True, slots=True)
class NewEntry:
    """A file seen in `new/`. Its name is the delta's identity; nothing else of it is trusted yet."""

    product: str
    name: str
    path: str

    @property
    def dropped_at(self) -> float | None:
        """Unix seconds from the name; None when the name is not in the spool format."""
        match = _DELTA_NAME.fullmatch(self.name)
        return int(match[1]) / 1000 if match and len(self.name) <= DELTA_NAME_MAX_CHARS else None

    @property
    def id(self) -> int:
        """64 bits that stand for product and name, as the database keeps them."""
        text = f"{self.product}/{self.name}".encode("utf-8", "surrogateescape")
        return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), signed=True)


@dataclass(frozen=True, slots=True)
class SpoolSize:
    """How much waits: complete deltas and their bytes, and quarantined files."""

    files: int
    bytes: int
    quarantined: int


def prepare(dirs: SpoolDirs) -> None:
    """Make the directories of one product's spool. Raises StateUnusable, also where one is a link."""
    for directory in (dirs.tmp, dirs.new, dirs.bad):
        link = _link_in(directory)
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


def list_new(
    product: str, dirs: SpoolDirs, *, after: str = "", at_most: int | None = None
) -> list[NewEntry]:
    """What is in `new/`, oldest name first; nothing when the directory is gone or behind a link.

    Of the names after `after` only the first `at_most`, in memory that does not grow with the rest.
    Raises StateUnusable.
    """
    if _link_in(dirs.new) is not None:
        return []
    try:
        with os.scandir(dirs.new) as entries:
            names = (one.name for one in entries if one.name > after)
            found = sorted(names) if at_most is None else nsmallest(at_most, names)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise refused(f"{dirs.new} cannot be listed", error) from error
    root = str(dirs.new)
    return [NewEntry(product, name, f"{root}{os.sep}{name}") for name in found]


def read_delta(entry: NewEntry) -> bytes | None:
    """The bytes of a delta; None when it is gone.

    Raises Malformed when the name is not in the format, or the file is no regular file of ours
    within the cap. Raises StateUnusable when this process can open no more files.
    """
    if entry.dropped_at is None:
        raise Malformed("the name is not in the spool format")
    try:
        descriptor = os.open(entry.path, _OPEN_FLAGS)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno in _OUR_FAULT:
            raise refused(f"{entry.path} cannot be opened", error) from error
        raise Malformed(f"cannot be opened: {error.strerror}") from error
    try:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode):
            raise Malformed("is not a regular file")
        if hasattr(os, "geteuid") and about.st_uid != os.geteuid():
            raise Malformed("belongs to another user")
        content = os.read(descriptor, DELTA_MAX_BYTES + 1)
        if len(content) > DELTA_MAX_BYTES:
            raise Malformed(f"is over {DELTA_MAX_BYTES // 1024} KiB")
        return content
    except OSError as error:
        raise Malformed(f"cannot be read: {error.strerror}") from error
    finally:
        os.close(descriptor)


def discard(entry: NewEntry) -> None:
    """Remove a delta whose counts are safe elsewhere; gone already is fine.

    Raises StateUnusable when it cannot be removed.
    """
    try:
        os.unlink(entry.path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise refused(f"{entry.path} cannot be removed", error) from error


def quarantine(entry: NewEntry, dirs: SpoolDirs, reason: str) -> None:
    """Set a malformed file aside in `bad/`, with the reason in `<name>.why`; the oldest there go.

    Raises StateUnusable when the rename is refused.
    """
    # A hostile name may be too long for ".why" or not be text at all: it gets one of ours.
    name = entry.name if entry.dropped_at is not None else f"unnamed-{entry.id & (2**64 - 1):016x}"
    make_directory(dirs.bad)
    target = str(dirs.bad / name)
    # The reason first: killed in between, the file is still in new/ and comes here again.
    _write_reason(target + _WHY, entry.name, reason)
    try:
        if os.path.lexists(target):
            _remove(target)
        os.rename(entry.path, target)
    except FileNotFoundError:
        _remove(target + _WHY)
    except OSError as error:
        raise refused(f"{entry.path} cannot be set aside", error) from error
    trim_quarantine(dirs)


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
    if _link_in(dirs.bad) is not None:
        return
    try:
        with os.scandir(dirs.bad) as entries:
            found = [
                (about.st_mtime, about.st_size, entry.path)
                for entry in entries
                if not entry.name.endswith(_WHY)
                for about in (entry.stat(follow_symlinks=False),)
            ]
    except OSError:
        return
    found.sort(reverse=True)
    kept = total = 0
    for _, size, path in found:
        # One that is too large for the rest goes alone: it must not take older ones along.
        if kept >= QUARANTINE_MAX_FILES or total + size > QUARANTINE_MAX_BYTES:
            _remove(path)
            _remove(path + _WHY)
        else:
            kept += 1
            total += size


def sweep_tmp(dirs: SpoolDirs, now: float) -> None:
    """Remove what a killed writer left in `tmp/` over an hour ago."""
    if _link_in(dirs.tmp) is None:
        remove_older(dirs.tmp, LEFTOVER_S, now, lambda _: True)


def purge(dirs: SpoolDirs) -> None:
    """Remove everything that waits: consent is off. Quarantine goes too."""
    for directory in (dirs.new, dirs.tmp, dirs.bad):
        for path, _ in _files(directory):
            _remove(path)


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
    bad = sum(1 for path, _ in _files(dirs.bad) if not path.endswith(_WHY))
    return SpoolSize(len(waiting), sum(about.st_size for _, about in waiting), bad)


def _link_in(directory: Path) -> Path | None:
    """The link among a directory of files, its product's and `spool/`; None: all three are real.

    Above them a user may have links: where the state lies is his own business.
    """
    for one in (directory.parents[1], directory.parent, directory):
        if os.path.islink(one):
            return one
    return None


def _files(directory: Path) -> Iterable[tuple[str, os.stat_result]]:
    def walk() -> Iterator[tuple[str, os.stat_result]]:
        if _link_in(directory) is not None:
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


def _remove(path: str) -> None:
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

"""Arrivals: the files in `new/` that wait to be merged, read and removed by name.

It guarantees that opening a delta never follows a link, never blocks and never reads past the cap. It
knowingly does not hold a file while it is merged: a writer at its cap may take it away in between, and
the delta's remembered name keeps the sums right.
"""

from __future__ import annotations

import errno
import os
import stat
from heapq import nsmallest
from typing import TYPE_CHECKING, NamedTuple, Self

from tallyd.contract.digest import blake2b
from tallyd.errors import Malformed, refused
from tallyd.files import NO_TRAPS
from tallyd.limits import DELTA_MAX_BYTES, MERGE_TURN_FILES
from tallyd.spool.directories import dropped_at, link_in

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tallyd.errors import StateUnusable
    from tallyd.paths import SpoolDirs

# Not the file's fault: this process is out of descriptors, the disk or the memory fails.
_OUR_FAULT = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO, errno.ENODEV})
# Gone, or something else by now: whoever writes next makes it anew.
_NOT_THERE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
_OPEN_FLAGS = os.O_RDONLY | NO_TRAPS
_DIRECTORY_FLAGS = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_DIRECTORY", 0)
# Where files have no owner, each has 0.
_who_am_i = getattr(os, "geteuid", lambda: 0)


class NewEntry(NamedTuple):
    """A file seen in `new/`. Its name is the delta's identity; nothing else of it is trusted yet.

    `dropped_at`: Unix seconds from the name; None when the name is not in the spool format.
    """

    name: str
    dropped_at: float | None


class NewFiles:
    """What stood in `new/` at one moment, oldest name first, with the directory held open.

    So that whatever takes the directory's place meanwhile, a link above all, is not touched. A pass
    takes entries from the front. Close it, or use it in a `with`.
    """

    def __init__(
        self,
        product: str,
        directory: str,
        names: list[str],
        descriptor: int | None,
        at_most: int = MERGE_TURN_FILES,
    ) -> None:
        # The last name, where there may be more after it.
        self.last = names[-1] if len(names) == at_most else ""
        self.directory = directory
        self._names = names
        self._taken = 0
        # Where a system cannot open below a descriptor, the whole path stands before each name.
        self._at = descriptor
        self._before = "" if descriptor is not None else directory + os.sep
        self._to_hash = f"{product}/".encode()
        self._owner = _who_am_i()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._at is not None:
            os.close(self._at)
            self._at = None

    def __len__(self) -> int:
        return len(self._names) - self._taken

    def take(self) -> Iterator[NewEntry]:
        """The entries from the front; each is taken when it is given."""
        for place in range(self._taken, len(self._names)):
            self._taken = place + 1
            name = self._names[place]
            yield NewEntry(name, dropped_at(name))

    def id_of(self, entry: NewEntry) -> bytes:
        """What stands for product and name in the database: when it was dropped, then 64 bits of hash.

        In this order the names of one pass lie side by side there.
        """
        name = entry.name.encode("utf-8", "surrogateescape")
        digest = blake2b(self._to_hash + name, digest_size=8).digest()
        return round((entry.dropped_at or 0.0) * 1000).to_bytes(6, "big") + digest

    def read(self, entry: NewEntry) -> bytes | None:
        """The bytes of a delta; None when it is gone.

        Raises Malformed when the name is not in the format, or the file is no regular file of ours
        within the cap. Raises StateUnusable when the disk fails, or this process can open no more files.
        """
        if entry.dropped_at is None:
            raise Malformed("the name is not in the spool format")
        try:
            descriptor = os.open(self._before + entry.name, _OPEN_FLAGS, dir_fd=self._at)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._fault(entry, "cannot be opened", error) from error
        try:
            about = os.fstat(descriptor)
            if not stat.S_ISREG(about.st_mode):
                raise Malformed("is not a regular file")
            if about.st_uid != self._owner:
                raise Malformed("belongs to another user")
            if about.st_size > DELTA_MAX_BYTES:
                raise Malformed(f"is over {DELTA_MAX_BYTES // 1024} KiB")
            # Asked for one byte more than it has.
            content = os.read(descriptor, about.st_size + 1)
            if len(content) != about.st_size:
                raise Malformed("changed while it was read")
            return content
        except OSError as error:
            raise self._fault(entry, "cannot be read", error) from error
        finally:
            os.close(descriptor)

    def _fault(self, entry: NewEntry, what: str, error: OSError) -> Malformed | StateUnusable:
        if error.errno in _OUR_FAULT:
            return refused(f"{self.path_of(entry)} {what}", error)
        return Malformed(f"{what}: {error.strerror}")

    def discard(self, entry: NewEntry) -> None:
        """Remove a delta whose counts are safe elsewhere; gone already is fine.

        Raises StateUnusable when it cannot be removed.
        """
        try:
            os.unlink(self._before + entry.name, dir_fd=self._at)
        except FileNotFoundError:
            return
        except OSError as error:
            raise refused(f"{self.path_of(entry)} cannot be removed", error) from error

    def holds(self, entry: NewEntry) -> bool:
        """Whether it still stands there."""
        try:
            os.stat(self._before + entry.name, dir_fd=self._at, follow_symlinks=False)
        except OSError:
            return False
        return True

    def move(self, entry: NewEntry, target: str) -> None:
        """Rename it. Raises OSError."""
        os.rename(self._before + entry.name, target, src_dir_fd=self._at)

    def path_of(self, entry: NewEntry) -> str:
        """Where it stood, for people."""
        return self.directory + os.sep + entry.name


def list_new(
    product: str, dirs: SpoolDirs, *, after: str = "", at_most: int = MERGE_TURN_FILES
) -> NewFiles:
    """What is in `new/`, oldest name first; nothing when the directory is gone or behind a link.

    Of the names after `after` only the first `at_most`, in memory that does not grow with the rest.
    Raises StateUnusable.
    """
    directory = str(dirs.new)
    descriptor: int | None = None
    if link_in(dirs.new) is not None:
        return NewFiles(product, directory, [], None)
    try:
        if os.open in os.supports_dir_fd:
            descriptor = os.open(directory, _DIRECTORY_FLAGS)
        with os.scandir(directory if descriptor is None else descriptor) as entries:
            names = nsmallest(at_most, (one.name for one in entries if one.name > after))
    except OSError as error:
        if descriptor is not None:
            os.close(descriptor)
        if error.errno in _NOT_THERE:
            return NewFiles(product, directory, [], None)
        raise refused(f"{directory} cannot be listed", error) from error
    return NewFiles(product, directory, names, descriptor, at_most)

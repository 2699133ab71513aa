"""The spool: files in and out of `new/`, `tmp/` and `bad/`, never their meaning.

It owns the three directories of each product (docs/spool.md lists every state and transition). It
guarantees that opening a delta never follows a link, never blocks and never reads past the cap,
and that a bad file is set aside by one rename so that the rest goes on. It knowingly does not hold
a file while it is merged: a writer at its cap may take it away in between, and the delta's
remembered name keeps the sums right.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from typing import TYPE_CHECKING, NamedTuple, Self

from tallyd.contract.digest import blake2b
from tallyd.contract.frozen import Frozen
from tallyd.contract.parse import PRODUCT_NAME
from tallyd.errors import Malformed, refused
from tallyd.files import make_directory, remove_older, size_below
from tallyd.limits import (
    DELTA_MAX_BYTES,
    LEFTOVER_S,
    QUARANTINE_MAX_BYTES,
    QUARANTINE_MAX_FILES,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from tallyd.paths import Paths, SpoolDirs

# At most 77 characters, of DELTA_NAME_MAX_CHARS.
_is_delta_name = re.compile(r"\d{13}-\d{1,20}-\d{1,20}-[0-9a-f]{16}\.json", re.ASCII).fullmatch
_WHY = ".why"
# Not the file's fault: this process is out of descriptors, the disk or the memory fails.
_OUR_FAULT = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO, errno.ENODEV})
# Follow no link, wait for no pipe.
_NO_TRAPS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_OPEN_FLAGS = os.O_RDONLY | _NO_TRAPS
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
        self, product: str, directory: str, names: list[str], descriptor: int | None
    ) -> None:
        self.product = product
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
            is_good = _is_delta_name(name) is not None
            yield NewEntry(name, int(name[:13]) / 1000 if is_good else None)

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
        within the cap. Raises StateUnusable when this process can open no more files.
        """
        if entry.dropped_at is None:
            raise Malformed("the name is not in the spool format")
        try:
            descriptor = os.open(self._before + entry.name, _OPEN_FLAGS, dir_fd=self._at)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno in _OUR_FAULT:
                raise refused(f"{self.path_of(entry)} cannot be opened", error) from error
            raise Malformed(f"cannot be opened: {error.strerror}") from error
        try:
            about = os.fstat(descriptor)
            if not stat.S_ISREG(about.st_mode):
                raise Malformed("is not a regular file")
            if about.st_uid != self._owner:
                raise Malformed("belongs to another user")
            # One byte more than it has: a file that grew meanwhile was not complete.
            content = os.read(descriptor, min(about.st_size, DELTA_MAX_BYTES) + 1)
            if len(content) > DELTA_MAX_BYTES:
                raise Malformed(f"is over {DELTA_MAX_BYTES // 1024} KiB")
            return content
        except OSError as error:
            raise Malformed(f"cannot be read: {error.strerror}") from error
        finally:
            os.close(descriptor)

    def discard(self, entries: Iterable[NewEntry]) -> None:
        """Remove deltas whose counts are safe elsewhere; gone already is fine. Raises StateUnusable."""
        before, at = self._before, self._at
        for entry in entries:
            try:
                os.unlink(before + entry.name, dir_fd=at)
            except FileNotFoundError:
                continue
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


class SpoolSize(Frozen):
    """How much waits: complete deltas and their bytes, and quarantined files."""

    files: int
    bytes: int
    quarantined: int


def prepare(dirs: SpoolDirs) -> None:
    """Make the directories of one product's spool. Raises StateUnusable."""
    for directory in (dirs.tmp, dirs.new, dirs.bad):
        make_directory(directory)


def products_with_spool(paths: Paths) -> list[str]:
    """The products that somebody dropped for, by folder name; links are not followed."""
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


def list_new(product: str, dirs: SpoolDirs) -> NewFiles:
    """Everything in `new/`; nothing when the directory is gone or a link. Raises StateUnusable."""
    directory = str(dirs.new)
    descriptor: int | None = None
    try:
        if os.open in os.supports_dir_fd:
            descriptor = os.open(directory, _DIRECTORY_FLAGS)
            names = os.listdir(descriptor)
        else:
            names = [] if os.path.islink(directory) else os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        names = []
    except OSError as error:
        if descriptor is not None:
            os.close(descriptor)
        if error.errno == errno.ELOOP:
            return NewFiles(product, directory, [], None)
        raise refused(f"{directory} cannot be listed", error) from error
    names.sort()
    return NewFiles(product, directory, names, descriptor)


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
    _write_reason(target + _WHY, entry.name, reason)
    try:
        if os.path.lexists(target):
            _remove(target)
        files.move(entry, target)
    except FileNotFoundError:
        _remove(target + _WHY)
        return False
    except OSError as error:
        raise refused(f"{files.path_of(entry)} cannot be set aside", error) from error
    trim_quarantine(dirs)
    return True


def _write_reason(file: str, name: str, reason: str) -> None:
    """Best effort: the reason is a help for people, setting the file aside is what counts."""
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | _NO_TRAPS, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as why:
            why.write(f"{reason}\n")
            if not os.path.basename(file).startswith(name):
                why.write(f"its name was {name!r}\n")
    except OSError:
        return


def trim_quarantine(dirs: SpoolDirs) -> None:
    """Keep the newest of `bad/` within its cap, each file together with its reason."""
    try:
        with os.scandir(dirs.bad) as entries:
            found = {
                entry.name: (
                    about.st_mtime,
                    size_below(entry.path, QUARANTINE_MAX_BYTES),
                    entry.path,
                )
                for entry in entries
                for about in (entry.stat(follow_symlinks=False),)
            }
    except OSError:
        return
    # A reason without its file: a kill came between the two, and its writer took the file back.
    for name, (_, _, path) in found.items():
        if name.endswith(_WHY) and name.removesuffix(_WHY) not in found:
            _remove(path)
    kept = sorted(
        (one for name, one in found.items() if not name.endswith(_WHY)),
        reverse=True,
    )
    total = 0
    for place, (_, size, path) in enumerate(kept):
        total += size
        if place >= QUARANTINE_MAX_FILES or total > QUARANTINE_MAX_BYTES:
            _remove(path)
            _remove(path + _WHY)


def sweep_tmp(dirs: SpoolDirs, now: float) -> None:
    """Remove what a killed writer left in `tmp/` over an hour ago."""
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


def _files(directory: os.PathLike[str]) -> Iterable[tuple[str, os.stat_result]]:
    def walk() -> Iterator[tuple[str, os.stat_result]]:
        if os.path.islink(directory):
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

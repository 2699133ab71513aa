"""Directories for the user alone, and small files written whole or not at all.

It owns three acts: making a directory with all that is above it, 0700 each; write beside, sync,
rename over; and reading a small file that may be anything by now. Whoever reads sees the old text or the new one, after a crash and a power cut too. What
a kill leaves beside is swept by `remove_older`.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from contextlib import suppress
from typing import TYPE_CHECKING

from tallyd.errors import StateUnusable, refused

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# Follow no link, wait for no pipe: flags for opening what anybody may have put there.
NO_TRAPS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
# A file system without second names.
_NO_LINKS = frozenset({errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EMLINK})
# Nobody mends a tenth damaged file who left nine.
_KEPT_MAX = 9
# What `replace_file`, here and in the stub, writes beside before it renames.
_BESIDE = re.compile(r"\..+\.\d+-[0-9a-f]{8}\.tmp", re.ASCII)


def make_directory(directory: Path) -> None:
    """Make `directory` and what is missing above it, 0700 each. Raises StateUnusable."""
    try:
        # Path.mkdir gives its mode to the last directory only.
        for one in (*reversed(directory.parents), directory):
            if not one.is_dir():
                one.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise refused(f"{directory} cannot be made", error) from error


def replace_file(
    file: Path, content: bytes, *, only_if: Callable[[], bool] = lambda: True, is_new: bool = False
) -> None:
    """Put `content` in place of `file` (0600, its directory 0700), so that a power cut keeps it.

    `only_if` is asked at the last moment, right before the rename. A file that `is_new` must not be
    there, and no other program can make it in between. Raises StateUnusable, also when one did.
    """
    beside = file.with_name(f".{file.name}.{os.getpid()}-{os.urandom(4).hex()}.tmp")
    make_directory(file.parent)
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as opened:
                opened.write(content)
                opened.flush()
                os.fsync(opened.fileno())
            if not only_if():
                raise StateUnusable(f"{file} was changed by another program", "try again")
            _put(beside, file, is_new=is_new)
        except FileExistsError:
            os.unlink(beside)
            raise StateUnusable(f"{file} was made by another program", "try again") from None
        except BaseException:
            os.unlink(beside)
            raise
    except OSError as error:
        raise refused(f"{file} cannot be written", error) from error
    _sync_directory(file.parent)


def _put(beside: Path, file: Path, *, is_new: bool) -> None:
    """Give `beside` its name. Raises OSError, FileExistsError where it is new and was made meanwhile."""
    if is_new:
        try:
            # A rename replaces whatever is there by now: a "no", perhaps.
            os.link(beside, file)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
        else:
            os.unlink(beside)
            return
    os.replace(beside, file)


def _sync_directory(directory: Path) -> None:
    """Let a rename outlast a power cut: a "no" must not become a yes again.

    Best effort: everybody sees the new text by now, and where this is refused no second try helps.
    """
    if os.name == "nt":
        return
    with suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def read_regular(file: Path, max_bytes: int, *, may_be_link: bool = False) -> bytes | None:
    """The bytes of a regular file; None when there is none. Waits for nobody.

    Raises OSError, also for a link, and ValueError in words for what is no such file or over
    `max_bytes`.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)
    if not may_be_link:
        flags |= getattr(os, "O_NOFOLLOW", 0)
    try:
        descriptor = os.open(file, flags)
    except FileNotFoundError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("is not a regular file")
        content = os.read(descriptor, max_bytes + 1)
    finally:
        os.close(descriptor)
    if len(content) > max_bytes:
        raise ValueError(f"is over {max_bytes // 1024} KiB")
    return content


def keep_beside(file: Path, ending: str) -> Path | None:
    """Keep what stands in `file` under another name too, before it is replaced; None if that fails.

    For the user alone from now on, and never in the place of what was kept before.
    """
    for place in range(1, _KEPT_MAX + 1):
        beside = file.with_name(f"{file.name}{ending}" + (f"-{place}" if place > 1 else ""))
        try:
            os.link(file, beside, follow_symlinks=False)
            if not beside.is_symlink():
                beside.chmod(0o600)
        except FileExistsError:
            continue
        except OSError:
            return None
        return beside
    return None


def size_below(place: str, most: int) -> int:
    """The bytes of a file, or of a directory with all that is in it; stops looking beyond `most`.

    Raises OSError.
    """
    held = os.lstat(place).st_size
    # A link is what it is itself: what it leads to is not ours to walk.
    for below, directories, files in () if os.path.islink(place) else os.walk(place):
        for name in (*directories, *files):
            # Something empty takes a place too.
            held += max(os.lstat(os.path.join(below, name)).st_size, 1024)
            if held > most:
                return held
    return held


def remove_tree(place: Path) -> None:
    """Remove a file, or a directory of files and itself. Best effort; safe to repeat."""
    try:
        if place.is_dir() and not place.is_symlink():
            for file in place.iterdir():
                file.unlink(missing_ok=True)
            place.rmdir()
        else:
            place.unlink(missing_ok=True)
    except OSError:
        return


def is_leftover(name: str) -> bool:
    """Whether a file of this name was written beside another and never renamed over it."""
    return _BESIDE.fullmatch(name) is not None


def remove_oldest(directory: Path, kept: int) -> None:
    """Keep the `kept` youngest files of `directory`. Best effort."""
    try:
        with os.scandir(directory) as entries:
            found = sorted(
                ((one.stat(follow_symlinks=False).st_mtime, one.path) for one in entries),
                reverse=True,
            )
        for _, path in found[kept:]:
            os.unlink(path)
    except OSError:
        return


def remove_older(directory: Path, age_s: float, now: float, is_ours: Callable[[str], bool]) -> None:
    """Remove the files of `directory` that are ours by name and older than `age_s` at `now`.

    Best effort: what cannot be removed now is there for the next sweep.
    """
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                # `abs`: a file from the future (the clock was set back) must not stay for ever.
                age = abs(now - entry.stat(follow_symlinks=False).st_mtime)
                if is_ours(entry.name) and age > age_s:
                    os.unlink(entry.path)
    except OSError:
        return

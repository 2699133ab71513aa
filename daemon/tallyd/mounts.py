"""Mounts: which file system a path lies on, what room it has, and how arrivals there are found.

It reads the kernel's table of mounts and decides between three ways: `watch` where the system tells
of every arrival, `poll` where somebody may write whom no event tells of (another machine, the host
of a virtual one), `wait` where nothing can be taken out at all (read-only, full). Whichever it is, the
slow timer looks too. It guarantees that a table it cannot read, or a line that makes no sense, costs
only the knowledge of the type. It knowingly never asks a file system that it only finds in the table.
What delivers events, and how that is known: docs/decisions.md.
"""

from __future__ import annotations

import os
import re
from enum import Enum
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from tallyd.contract.frozen import Frozen
from tallyd.limits import FULL_BELOW_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

_TABLE = "/proc/self/mountinfo"
# A table of a machine with thousands of containers has a few MiB.
_TABLE_MAX_BYTES: Final = 16 * 1024 * 1024
_ESCAPED = re.compile(r"\\([0-7]{3})")

_NETWORK: Final = frozenset(
    (
        *("nfs", "nfs3", "nfs4", "cifs", "smb3", "smbfs", "smb2", "ncpfs", "novfs", "afs"),
        *("kafs", "auristorfs", "coda", "ceph", "lustre", "glusterfs", "beegfs", "orangefs"),
        *("pvfs2", "gpfs", "mmfs", "panfs", "gfs", "gfs2", "ocfs2", "afpfs", "webdav", "ftp"),
        *("davfs",),
    )
)
# Shared by the machine that this one runs in: 9p and drvfs are WSL's, the rest a virtual machine's.
_OF_THE_HOST: Final = frozenset(
    (
        *("9p", "drvfs", "vboxsf", "virtiofs", "prl_fs", "prl_vboxsf", "vmhgfs", "acfs"),
        *("fakeowner", "grpcfuse"),
    )
)
_OVERLAY: Final = frozenset({"overlay", "overlayfs", "aufs", "fuse-overlayfs"})
_MEMORY: Final = frozenset({"tmpfs", "ramfs", "devtmpfs"})
# FUSE file systems that nobody writes into but through this mount. Any other may be at the other end
# of a network: sshfs, s3fs, rclone, gcsfuse.
_LOCAL_FUSE: Final = frozenset(
    (
        *("fuseblk", "encfs", "gocryptfs", "cryfs", "ntfs-3g", "ntfs", "exfat", "bindfs"),
        *("ext2", "fuse2fs", "squashfuse", "lxcfs", "zfs-fuse", "apfs", "apfs-fuse"),
    )
)


class SourceKind(Enum):
    """Who may write there."""

    LOCAL = "local"  # a disk of this machine
    MEMORY = "memory"  # this machine, until it is switched off
    OVERLAY = "overlay"  # a container, most often until it is removed
    NETWORK = "network"  # other machines too
    HOST = "host"  # the machine that this one runs in, too
    FUSE = "fuse"  # a program, which may be at the end of a network
    UNKNOWN = "unknown"


class Way(Enum):
    """How arrivals are found."""

    WATCH = "watch"
    POLL = "poll"
    WAIT = "wait"


class Mount(Frozen):
    """One line of the table: where it is mounted, its type, what is mounted there."""

    point: str
    kind: str
    source: str
    is_read_only: bool = False
    # Its number and that of the mount that it is on; -1 where the table has none.
    number: int = -1
    above: int = -1

    @property
    def source_kind(self) -> SourceKind:
        """Who may write there, by its type."""
        return _source_kind(self.kind)


class Place(Frozen):
    """A path's file system now; bytes and inodes that are free for us, None where it does not say."""

    path: str
    mount: Mount
    is_read_only: bool
    free_bytes: int | None
    free_inodes: int | None

    @property
    def is_full(self) -> bool:
        """Whether whoever drops or merges is refused."""
        lacks_bytes = self.free_bytes is not None and self.free_bytes < FULL_BELOW_BYTES
        return lacks_bytes or self.free_inodes == 0


class Choice(Frozen):
    """How arrivals at a path are found, and why, in words."""

    way: Way
    why: str


def look_at_place(path: Path) -> Place:
    """The file system that `path` lies on, or the nearest directory above it that is there. Never raises."""
    real = _nearest(os.path.realpath(path))
    return _place(real, read_table().covering(real))


def choose_each(paths: Iterable[Path]) -> dict[Path, tuple[Mount, Choice]]:
    """The mount and the choice for each of many paths; the table is read once, each mount asked once."""
    table = read_table()
    choices: dict[Mount, Choice] = {}
    found = {}
    for path in paths:
        real = _nearest(os.path.realpath(path))
        mount = table.covering(real)
        if mount not in choices:
            choices[mount] = choose(_place(real, mount))
        found[path] = mount, choices[mount]
    return found


def _place(real: str, mount: Mount) -> Place:
    is_read_only, free_bytes, free_inodes = _room(real)
    return Place(real, mount, mount.is_read_only or is_read_only, free_bytes, free_inodes)


def choose(place: Place) -> Choice:
    """How arrivals at a place are found."""
    kind = place.mount.kind or "a file system of unknown type"
    if place.is_read_only:
        return Choice(Way.WAIT, f"{kind} is read-only here: nothing can be taken out")
    if place.is_full:
        lacks = "has no inode left" if place.free_inodes == 0 else "is full"
        return Choice(Way.WAIT, f"{kind} {lacks}: nothing can be taken out")
    match place.mount.source_kind:
        case SourceKind.NETWORK:
            return Choice(Way.POLL, f"{kind}: no event tells of what another machine writes")
        case SourceKind.HOST:
            return Choice(Way.POLL, f"{kind}: no event tells of what the machine around it writes")
        case SourceKind.FUSE:
            return Choice(Way.POLL, f"{kind}: who serves it may write what no event tells of")
        case SourceKind.UNKNOWN:
            return Choice(Way.WATCH, f"{kind}: if no event comes, the timer finds what is there")
        case _:
            return Choice(Way.WATCH, f"{kind} tells of every arrival")


class Table:
    """Every mount that a process sees, in the order of the kernel's table."""

    def __init__(self, mounts: Sequence[Mount]) -> None:
        self.mounts = mounts
        numbers = {one.number for one in mounts}
        # Two on one point: the later is mounted on the earlier, whose number it names.
        self._on = {(one.above, one.point): one for one in mounts}
        self._root: Mount | None = None
        for one in mounts:
            if one.point == "/" and one.number >= 0 and one.above not in numbers - {one.number}:
                self._root = one

    def covering(self, path: str) -> Mount:
        """The mount on which an absolute `path` without links lies.

        From the root down, as the kernel walks: a mount hides what was mounted below its point
        before. Without the lines that lead there, the one with the longest point, the later of two.
        """
        if self._root is None:
            found = [one for one in self.mounts if _is_below(path, one.point)]
            # Of equal keys `max` takes the first.
            return max(reversed(found), key=lambda one: len(one.point), default=Mount("", "", ""))
        at, crossed = self._root, set()
        for point in _points(path):
            while (there := self._on.get((at.number, point))) and there.number not in crossed:
                crossed.add(there.number)
                at = there
        return at


def read_table() -> Table:
    """The mounts that this process sees; none where nobody tells of them."""
    try:
        with open(_TABLE, "rb") as file:
            return parse_table(file.read(_TABLE_MAX_BYTES))
    except OSError:
        return Table(_elsewhere())


# Read anew at every round, and the same nearly always: 5,000 mounts take 50 ms to parse.
@lru_cache(maxsize=1)
def parse_table(content: bytes) -> Table:
    """The mounts of a mountinfo text; a line that is none is left out."""
    lines = os.fsdecode(content).split("\n")
    return Table([mount for line in lines if (mount := _parse(line)) is not None])


def _points(path: str) -> Iterable[str]:
    """`/`, `/a`, `/a/b` of `/a/b`."""
    yield "/"
    for end in (found.start() for found in re.finditer(r"/|\Z", path)):
        if end > 0 and path[:end] != "/":
            yield path[:end]


def _is_below(path: str, point: str) -> bool:
    return path == point or path.startswith(point if point.endswith("/") else f"{point}/")


def _parse(line: str) -> Mount | None:
    """`36 35 98:0 /root /point rw,noatime master:1 - ext3 /dev/sda1 rw`; the middle has any number of words."""
    first, dash, last = line.partition(" - ")
    head, tail = first.split(" "), last.split(" ")
    if not dash or len(head) < 6 or len(tail) < 2 or not (head[0] + head[1]).isdecimal():
        return None
    options = {*head[5].split(","), *(tail[2].split(",") if len(tail) > 2 else ())}
    return Mount(
        point=_plain(head[4]),
        kind=_plain(tail[0]),
        source=_plain(tail[1]),
        is_read_only="ro" in options,
        number=int(head[0]),
        above=int(head[1]),
    )


def _plain(text: str) -> str:
    r"""A word of the table: the kernel writes a space as \040, and so for tab, line break and backslash."""
    if "\\" not in text:
        return text
    return os.fsdecode(_ESCAPED.sub(_one, text).encode("utf-8", "surrogateescape"))


def _one(found: re.Match[str]) -> str:
    return os.fsdecode(bytes([int(found[1], 8) & 0xFF]))


def _source_kind(kind: str) -> SourceKind:
    # `fuse.sshfs`, `fuse3.sshfs`, `macfuse`.
    family, _, served = kind.partition(".")
    name = served or family
    for names, source in (
        (_NETWORK, SourceKind.NETWORK),
        (_OF_THE_HOST, SourceKind.HOST),
        (_OVERLAY, SourceKind.OVERLAY),
        (_MEMORY, SourceKind.MEMORY),
    ):
        if name in names:
            return source
    if family.startswith(("fuse", "macfuse", "osxfuse")):
        return SourceKind.LOCAL if name in _LOCAL_FUSE else SourceKind.FUSE
    return SourceKind.LOCAL if kind else SourceKind.UNKNOWN


def _elsewhere() -> list[Mount]:
    """The mounts of a system without such a table, as far as psutil knows them."""
    try:
        import psutil  # noqa: PLC0415 - 12 ms that Linux never needs

        return [
            Mount(one.mountpoint, one.fstype, one.device, "ro" in one.opts.split(","))
            for one in psutil.disk_partitions(all=True)
        ]
    except Exception:  # noqa: BLE001 - psutil raises its own, and what the system raises there
        return []


def _nearest(path: str) -> str:
    """`path`, or the first above it that is there."""
    while not os.path.exists(path):
        above = os.path.dirname(path)
        if above == path:
            break
        path = above
    return path


def _room(path: str) -> tuple[bool, int | None, int | None]:
    """(read-only, free bytes, free inodes) by the file system's own word."""
    try:
        disk = os.statvfs(path)
    except (OSError, AttributeError):
        return False, None, None
    # Many a network file system says 0 of 0: it has no such numbers.
    free_bytes = disk.f_bavail * disk.f_frsize if disk.f_blocks else None
    free_inodes = disk.f_favail if disk.f_files else None
    return bool(disk.f_flag & getattr(os, "ST_RDONLY", 1)), free_bytes, free_inodes

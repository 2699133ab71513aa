"""Mounts: the file system of a path by the kernel's own table, and how arrivals there are found.

Network and host file systems cannot be mounted on a test's machine: for them the table is a text, as
the kernel writes it. Overlay, tmpfs, bind mounts and read-only ones are real.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.disks import bound, fill, overlay, small_disk
from tallyd import mounts
from tallyd.mounts import Choice, Mount, Place, Table, Way, choose, look_at_place, parse_table

# From real machines: a laptop with NFS and a phone's sshfs, WSL 2, a container, a virtual machine.
_TABLE = rb"""
22 28 0:21 / /proc rw,nosuid,nodev,noexec,relatime shared:5 - proc proc rw
28 1 259:2 / / rw,relatime shared:1 - ext4 /dev/nvme0n1p2 rw,errors=remount-ro
29 28 0:26 / /home rw,relatime shared:2 - nfs4 files:/export/home rw,vers=4.2,proto=tcp
30 29 0:27 /sub /home/ann/local\040disk rw,relatime shared:3 master:1 - btrfs /dev/sdb1 rw,subvol=/sub
31 28 0:28 / /mnt/c rw,noatime - 9p C:\134 rw,dirsync,aname=drvfs;path=C:\134
32 28 0:29 / /mnt/phone rw,nosuid,nodev,relatime - fuse.sshfs phone:/ rw,user_id=1000
33 28 0:30 / /mnt/secret rw,nosuid,nodev - fuse.gocryptfs /home/ann/.secret rw,user_id=1000
34 28 0:31 / /mnt/usb rw,nosuid,nodev - fuseblk /dev/sdc1 rw,user_id=0
35 28 0:32 / /mnt/bucket rw - fuse.rclone remote: rw,user_id=1000
36 28 0:33 / /srv/vm rw - virtiofs share rw
37 28 0:34 / /srv/share rw - cifs //nas/share rw,vers=3.1.1
38 28 0:35 / /media/sf_x rw - vboxsf x rw
39 28 0:36 / /run/user/1000 rw,nosuid,nodev - tmpfs tmpfs rw,size=1g
40 28 0:37 / /containers rw - overlay overlay rw,lowerdir=/l,upperdir=/u,workdir=/w
41 28 7:0 / /snap/x ro,nodev - squashfs /dev/loop0 ro
"""
_ROOMY = 1 << 40


def _chosen(path: str, **changes: object) -> Choice:
    mount = parse_table(_TABLE).covering(path)
    place = Place(path, mount, mount.is_read_only, _ROOMY, 1 << 20)
    return choose(Place(**{**place.as_dict(), **changes}))


@pytest.mark.parametrize(
    ("path", "way", "says"),
    [
        ("/var/x", Way.WATCH, "ext4 tells of every arrival"),
        ("/home/ann/.local/state", Way.POLL, "nfs4: no event tells of what another machine writes"),
        ("/home/ann/local disk/state", Way.WATCH, "btrfs tells of every arrival"),
        ("/mnt/c/Users", Way.POLL, "9p: no event tells of what the machine around it writes"),
        ("/mnt/phone", Way.POLL, "fuse.sshfs: who serves it may write what no event tells of"),
        ("/mnt/secret/a", Way.WATCH, "fuse.gocryptfs tells of every arrival"),
        ("/mnt/usb/a", Way.WATCH, "fuseblk tells of every arrival"),
        ("/mnt/bucket/a", Way.POLL, "fuse.rclone: who serves it may write what no event tells of"),
        ("/srv/vm/a", Way.POLL, "virtiofs: no event tells of what the machine around it writes"),
        ("/srv/share", Way.POLL, "cifs: no event tells of what another machine writes"),
        ("/media/sf_x", Way.POLL, "vboxsf: no event tells of what the machine around it writes"),
        ("/run/user/1000/x", Way.WATCH, "tmpfs tells of every arrival"),
        ("/containers/a/b", Way.WATCH, "overlay tells of every arrival"),
        ("/snap/x/y", Way.WAIT, "squashfs is read-only here: nothing can be taken out"),
    ],
)
def test_who_may_write_there_decides_how_arrivals_are_found(path, way, says):
    assert _chosen(path) == Choice(way, says)


@pytest.mark.parametrize(
    "kind",
    [
        *("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "ceph", "afs", "lustre"),
        *("glusterfs", "fuse.glusterfs", "drvfs", "vboxsf", "virtiofs", "prl_fs", "macfuse.x"),
    ],
)
def test_what_another_machine_or_the_host_may_write_into_is_polled(kind):
    place = Place("/x", Mount("/x", kind, "there"), False, _ROOMY, None)

    assert choose(place).way is Way.POLL


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"is_read_only": True}, "nfs4 is read-only here: nothing can be taken out"),
        ({"free_bytes": 0}, "nfs4 is full: nothing can be taken out"),
        ({"free_inodes": 0}, "nfs4 has no inode left: nothing can be taken out"),
    ],
)
def test_where_nothing_can_be_taken_out_the_daemon_waits_whatever_the_type(changes, says):
    assert _chosen("/home/ann", **changes) == Choice(Way.WAIT, says)


def test_a_file_system_that_has_no_such_numbers_is_not_full():
    assert _chosen("/home/ann", free_bytes=None, free_inodes=None).way is Way.POLL


def test_an_unknown_type_is_watched_and_the_timer_finds_the_rest():
    place = Place("/x", Mount("", "", ""), False, None, None)

    assert choose(place) == Choice(
        Way.WATCH,
        "a file system of unknown type: if no event comes, the timer finds what is there",
    )


@pytest.mark.parametrize(
    ("line", "point"),
    [
        (rb"30 28 0:1 / /a\040b\011c\012d\134e rw - ext4 x rw", "/a b\tc\nd\\e"),
        (rb"30 28 0:1 / /a\134040b rw - ext4 x rw", "/a\\040b"),
        (b"30 28 0:1 / /\xff\xfe rw - ext4 x rw", os.fsdecode(b"/\xff\xfe")),
        (rb"30 28 0:1 / /\303\274 rw - ext4 x rw", "/\u00fc"),
        # Optional words in the middle, none or many; a source that is empty.
        (b"30 28 0:1 / /p rw shared:1 master:2 propagate_from:3 unbindable - ext4 x rw", "/p"),
        (b"30 28 0:1 / /p rw - tmpfs  rw", "/p"),
    ],
)
def test_a_mount_points_name_is_read_as_the_kernel_writes_it(line, point):
    assert [one.point for one in parse_table(line).mounts] == [point]


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"garbage",
        b"30 28 0:1 / /p rw ext4 x rw",
        b"30 28 / - ext4 x",
        b"x y 0:1 / /p rw - a b",
    ],
)
def test_a_line_that_is_none_is_left_out(line):
    assert parse_table(line).mounts == []


def _at(path: str, *lines: str) -> str:
    text = "\n".join(
        f"{number} {above} 0:{number} / {point} rw - {kind} s rw"
        for number, above, point, kind in map(str.split, lines)
    )
    return parse_table(text.encode()).covering(path).kind


def test_the_longest_point_wins_and_a_name_that_only_begins_alike_is_another():
    lines = ("1 0 / root", "2 1 /a one", "3 2 /a/b two")

    assert [_at(path, *lines) for path in ("/", "/a", "/ab", "/a/b", "/a/bc", "/a/b/c")] == [
        *("root", "one", "root", "two", "one", "two")
    ]


def test_of_two_on_one_point_the_later_wins():
    assert _at("/a/x", "1 0 / root", "2 1 /a earlier", "3 2 /a later") == "later"


def test_a_mount_hides_what_was_mounted_below_its_point_before():
    """The longest point alone would name a mount that nobody can reach any more."""
    assert _at("/a/b/x", "1 0 / root", "2 1 /a/b hidden", "3 1 /a over") == "over"


def test_without_the_lines_that_lead_there_the_longest_point_wins_the_later_of_two():
    lines = ("7 5 /a one", "8 5 /a/b two", "9 5 /a/b three")

    assert (_at("/a/b/c", *lines), _at("/z", *lines)) == ("three", "")


def test_a_table_without_numbers_is_read_by_its_points():
    """What psutil tells of a system that has no such table."""
    table = Table([Mount("/", "root", ""), Mount("/a", "one", ""), Mount("/a", "two", "")])

    assert [table.covering(path).kind for path in ("/", "/z", "/a/b", "/ab")] == [
        *("root", "root", "two", "root")
    ]


def test_a_table_that_leads_in_a_circle_is_walked_to_an_end():
    assert _at("/a", "1 1 / root", "2 3 /a one", "3 2 /a two", "1 1 /a three") in ("root", "three")


@given(st.binary(max_size=400), st.text(max_size=30))
def test_no_table_and_no_path_breaks_it(content, path):
    parse_table(content).covering(f"/{path}")
    parse_table(content.replace(b"x", b" - ")).covering("/a/b")


@pytest.mark.slow
def test_the_walk_finds_the_mount_that_the_kernel_says_a_path_is_on(tmp_path):
    """Real mounts: stacked, hidden, bound, an overlay, with names that need escapes."""
    with ExitStack() as stack:
        first = stack.enter_context(small_disk(tmp_path / "a b\tc\\d"))
        inner = stack.enter_context(small_disk(first / "inner"))
        (first / "plain").mkdir()
        stack.enter_context(bound(first, tmp_path / "bound"))
        lower = stack.enter_context(overlay(tmp_path / "over"))
        (lower / "deep").mkdir()
        stack.enter_context(bound(first / "plain", inner))
        places = [tmp_path, first, inner, first / "plain", tmp_path / "bound/inner", lower / "deep"]
        table = mounts.read_table()
        found = [table.covering(os.path.realpath(one)).number for one in places]

        assert found == [_number_of(one) for one in places]
        assert len(set(found)) == 5


def _number_of(place: Path) -> int:
    descriptor = os.open(place, os.O_RDONLY)
    try:
        lines = Path(f"/proc/self/fdinfo/{descriptor}").read_text().splitlines()
    finally:
        os.close(descriptor)
    return next(int(one.split()[1]) for one in lines if one.startswith("mnt_id:"))


@pytest.mark.slow
def test_a_real_place_is_told_with_its_type_and_its_room(tmp_path):
    with small_disk(tmp_path / "disk", "4m") as disk, overlay(tmp_path / "over") as over:
        below = look_at_place(disk / "not/yet/there")
        with bound(disk, tmp_path / "bound", read_only=True) as read_only:
            looked = [choose(look_at_place(one)) for one in (disk, over, read_only)]
        fill(disk)
        full = choose(look_at_place(disk))

    assert (below.path, below.mount.kind, below.free_bytes) == (str(disk), "tmpfs", 4 * 2**20)
    assert [*looked, full] == [
        Choice(Way.WATCH, "tmpfs tells of every arrival"),
        Choice(Way.WATCH, "overlay tells of every arrival"),
        Choice(Way.WAIT, "tmpfs is read-only here: nothing can be taken out"),
        Choice(Way.WAIT, "tmpfs is full: nothing can be taken out"),
    ]


def test_without_the_kernels_table_the_portable_one_is_asked(tmp_path, monkeypatch):
    with_table = look_at_place(tmp_path).mount
    monkeypatch.setattr(mounts, "_TABLE", str(tmp_path / "none"))

    without = look_at_place(tmp_path).mount

    assert (without.point, without.kind) == (with_table.point, with_table.kind)

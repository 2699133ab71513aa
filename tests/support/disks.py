"""Small disks of a test's own, and what goes wrong with a disk: full to the last byte, forced read-only."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from support.deltas import delta, drop, tool_calls
from support.processes import DEMO_CONTRACT, background, environ_of, tallyd
from support.tools import need

DEMO = "tallyd-demo"


def _cannot(why: str) -> None:
    """Without the right to mount the test is skipped, saying so; in CI it fails."""
    if os.environ.get("TALLYD_CI"):
        pytest.fail(f"{why}, and CI lets us")
    pytest.skip(why)


@contextmanager
def small_disk(place: Path, size: str = "24m") -> Iterator[Path]:
    """A disk in memory at `place`, with room for `size`; it is gone on leaving, whatever happened."""
    place.mkdir()
    with _mounted(place, "-t", "tmpfs", "-o", f"size={size}", "tmpfs"):
        yield place


@contextmanager
def overlay(place: Path) -> Iterator[Path]:
    """An overlay at `place`, as a container has one; its lower layer is `<place>-lower`, if that is there."""
    layers = [place.with_name(f"{place.name}-{one}") for one in ("lower", "upper", "work")]
    for one in (place, *layers):
        one.mkdir(exist_ok=True)
    options = ",".join(
        f"{name}={one}"
        for name, one in zip(("lowerdir", "upperdir", "workdir"), layers, strict=True)
    )
    with _mounted(place, "-t", "overlay", "-o", options, "overlay"):
        yield place


@contextmanager
def bound(source: Path, place: Path, *, read_only: bool = False) -> Iterator[Path]:
    """`source` once more at `place`."""
    place.mkdir(exist_ok=True)
    with _mounted(place, "--bind", str(source)):
        if read_only:
            subprocess.run(["mount", "-o", "remount,ro,bind", str(place)], check=True)
        yield place


@contextmanager
def _mounted(place: Path, *how: str) -> Iterator[None]:
    mount = [need("mount"), *how, str(place)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        _cannot("this machine lets nobody mount")
    try:
        yield
    finally:
        subprocess.run(["umount", str(place)], check=True)


@contextmanager
def real_disk(place: Path, room: int = 24 * 1024 * 1024) -> Iterator[Path]:
    """A disk with ext4 at `place`, in a file beside it; it is gone on leaving, whatever happened."""
    place.mkdir()
    image = place.with_suffix(".img")
    with image.open("wb") as file:
        file.truncate(room)
    subprocess.run([need("mkfs.ext4"), "-q", str(image)], check=True)
    mount = [need("mount"), "-o", "loop", str(image), str(place)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        _cannot("this machine lets nobody mount a file")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)
        image.unlink()


def mend(place: Path) -> None:
    """Take a real disk off, check and mend it, and mount it again."""
    image = place.with_suffix(".img")
    subprocess.run(["umount", str(place)], check=True)
    # 1: something was mended.
    assert subprocess.run(["e2fsck", "-fy", str(image)], check=False).returncode in (0, 1)
    subprocess.run(["mount", "-o", "loop", str(image), str(place)], check=True)


def room(place: Path) -> int:
    """Bytes that are free on the disk of `place`."""
    disk = os.statvfs(place)
    return disk.f_bavail * disk.f_frsize


def fill(place: Path) -> Path:
    """Fill the disk of `place` to the last byte, by one file; returns it."""
    filler = place / "filler"
    with filler.open("ab", buffering=0) as file:
        for size in (1 << 20, 4096, 512, 1):
            with suppress(OSError):
                while file.write(b"x" * size):
                    pass
        with suppress(OSError):
            os.fsync(file.fileno())
    return filler


@contextmanager
def daemon_with_log(
    home: Path, log: Path, *before: str, **more: str
) -> Iterator[subprocess.Popen[bytes]]:
    """A running daemon whose log is on another disk; `before` is a command that starts it, if any."""
    with background(
        *before,
        *(sys.executable, "-m", "tallyd", "run"),
        environ=environ_of(home, **more),
        log=log,
        until="action=daemon_started",
    ) as process:
        yield process


def registered(home: Path, settings: str = "rescan_interval_s = 1") -> Path:
    """A home in which the demo's contract is registered, with these settings of the daemon."""
    tallyd(home, "contract", "add", str(DEMO_CONTRACT))
    (home / "config" / "config.toml").write_text(f"[daemon]\n{settings}\n")
    return home


def drop_now(home: Path, count: int = 1, **changes: Any) -> Path:
    """Drop a delta of today's by hand, in a home."""
    now = time.time()
    whole = {
        "day": time.strftime("%Y-%m-%d", time.gmtime(now)),
        "counts": [tool_calls(count=count)],
        **changes,
    }
    return drop(home / "state", delta(**whole), at=now)

"""The disks of state and configuration: their type, their room, and how arrivals are found there."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING

from tallyd import mounts, reserve, spool
from tallyd.doctor.finding import Finding, Level
from tallyd.errors import SettingsError
from tallyd.limits import RESERVE_BYTES, RESERVE_ROOM
from tallyd.mounts import SourceKind, Way
from tallyd.settings import Settings, read_settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tallyd.doctor.scene import Scene
    from tallyd.mounts import Place
    from tallyd.paths import Paths

_MOVE = (
    "keep the state on a disk of this machine: set XDG_STATE_HOME or TALLYD_HOME to a place there"
)


def check_mounts(scene: Scene) -> Iterator[Finding]:
    """What kind of file system each lies on, and the choice that the daemon makes there."""
    paths = scene.around.paths
    yield _configuration(mounts.look_at_place(paths.config), paths.config)
    state = mounts.look_at_place(paths.state)
    yield _state(state, paths.state)
    refusing = [one for one in (paths.config, paths.state) if not _may_write(one)]
    for one in refusing:
        above = mounts.look_at_place(one).path
        what = f"{one} cannot be {'written' if above == str(one) else 'made'}: {above} is not writable to you"
        yield Finding(
            "mount", Level.PROBLEM, what, f"make it yours: chown -R $(id -un) {shlex.quote(above)}"
        )
    if paths.state not in refusing:
        yield _arrivals(state, paths.spools, scene)
    # A product's spool may be a mount of its own: a directory shared with a container.
    for product in spool.products_with_spool(paths):
        new = paths.spool(product).new
        place = mounts.look_at_place(new)
        if place.mount != state.mount:
            yield _arrivals(place, new, scene)


def check_room(scene: Scene) -> Iterator[Finding]:
    """What is free where the state lies, and whether the reserve is there."""
    paths = scene.around.paths
    place = mounts.look_at_place(paths.state)
    where = f"the disk of {paths.state}"
    if place.is_read_only:
        fix = f"mount -o remount,rw {place.mount.point or place.path}"
        yield Finding("room", Level.PROBLEM, f"{where} is read-only", fix)
    elif place.free_inodes == 0:
        what = f"{where} has no inode left: no file can be made"
        yield Finding("room", Level.PROBLEM, what, "remove files there, however small")
    elif place.is_full:
        fix = "free space on it; what tallyd keeps goes with: tallyd off PRODUCT"
        yield Finding("room", Level.PROBLEM, f"{where} is full: {_free(place)}", fix)
    elif place.free_bytes is not None and place.free_bytes < RESERVE_ROOM * RESERVE_BYTES:
        yield Finding(
            "room", Level.WARNING, f"{where} is nearly full: {_free(place)}", "free space"
        )
    else:
        yield Finding("room", Level.OK, f"{where}: {_free(place)}")
    if os.path.exists(paths.database) and not reserve.is_whole(paths):
        what = "the reserve is missing: on a full disk a no could not be written down"
        yield Finding("room", Level.NOTE, what, "a running daemon makes it, once there is room")


def _may_write(directory: Path) -> bool:
    """Whether something can be made in it, or in the first one above that is there.

    Of a disk that is read-only the finding is another one.
    """
    place = mounts.look_at_place(directory)
    return place.is_read_only or os.access(place.path, os.W_OK | os.X_OK)


def _configuration(place: Place, path: Path) -> Finding:
    kind = place.mount.kind or "a file system of unknown type"
    if place.is_read_only:
        # Right where an administrator, or a declarative system, writes it.
        what = f"{path} is on {kind}, read-only: no choice and no contract can be written there"
        return Finding("mount", Level.NOTE, what)
    return Finding("mount", Level.OK, f"{path} is on {kind}")


def _state(place: Place, path: Path) -> Finding:
    kind = place.mount.kind or "a file system of unknown type"
    what = f"{path} is on {kind}"
    match place.mount.source_kind:
        case SourceKind.NETWORK | SourceKind.HOST | SourceKind.FUSE:
            what += (
                ", which another machine may share: SQLite keeps its log's index in memory of one"
                " machine, and two that write would damage the database"
            )
            return Finding("mount", Level.WARNING, what, _MOVE)
        case SourceKind.MEMORY:
            what += ": what was not sent is gone when the machine is switched off"
            return Finding("mount", Level.NOTE, what, _MOVE)
        case SourceKind.OVERLAY:
            what += ": a container's, most often; what was not sent is gone with it"
            return Finding("mount", Level.NOTE, what, "mount a volume there to keep it")
        case _:
            return Finding("mount", Level.OK, what)


def _arrivals(place: Place, path: Path, scene: Scene) -> Finding:
    settings = _settings(scene.around.paths)
    every = f"every {settings.rescan_interval_s:g} s"
    choice = mounts.choose(place)
    match choice.way:
        case Way.WATCH if settings.watch:
            return Finding("mount", Level.OK, f"{path} is watched: {choice.why}")
        case Way.WATCH:
            what = f"{path} is looked at {every}: config.toml says watch = false"
            return Finding("mount", Level.NOTE, what)
        case Way.POLL:
            return Finding("mount", Level.NOTE, f"{path} is looked at {every}: {choice.why}")
        case _:
            # What to do about it is the finding of the disk's room.
            what = f"{path} waits, and is looked at again {every}: {choice.why}"
            return Finding("mount", Level.NOTE, what)


def _settings(paths: Paths) -> Settings:
    try:
        return read_settings(paths)
    except SettingsError:
        return Settings()


def _free(place: Place) -> str:
    if place.free_bytes is None:
        return "it does not say how much is free"
    inodes = "" if place.free_inodes is None else f", {place.free_inodes} inodes"
    return f"{place.free_bytes / 2**20:,.0f} MiB free{inodes}"

"""This tallyd: where it is installed, whether it stays there, and whether another stands before it on PATH."""

from __future__ import annotations

import os
import re
import shlex
import sys
from typing import TYPE_CHECKING

from tallyd import __version__, handover, installation
from tallyd.doctor.finding import Finding, Level

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tallyd.doctor.scene import Scene

_DIST = re.compile(r"tallyd-([0-9][0-9A-Za-z.+!]*)\.dist-info")
_FIRST_LINE_MAX_BYTES = 512
# Directories of a PATH; more is somebody's mistake, and each may be on a slow disk.
_PATH_MAX = 200


def check(scene: Scene) -> Iterator[Finding]:
    """Its environment, then every other `tallyd` that this shell would find."""
    where = f"tallyd {__version__} in {sys.prefix}, by Python {sys.version.split()[0]}"
    if why := installation.why_ephemeral():
        what = f"{where}: {why}, and may be swept any day"
        fix = 'install it to stay: "uv tool install tallyd" or "pipx install tallyd"'
        yield Finding("program", Level.WARNING, what, fix)
    else:
        yield Finding("program", Level.OK, where)
    if (newer := handover.newer_program(scene.around.paths, __version__)) is not None:
        what = f"a newer tallyd has run here: {newer[0]}"
        yield Finding("program", Level.WARNING, what, "upgrade this one, or call that one")
    for file, version in _others(scene.around.environ):
        if version == __version__:
            continue
        what = f"another tallyd is on PATH: {file}, {version or 'of unknown version'}"
        fix = f"keep one; this one is upgraded, or the other removed: {shlex.quote(file)}"
        yield Finding("program", Level.WARNING if version else Level.NOTE, what, fix)


def _others(environ: Mapping[str, str]) -> list[tuple[str, str]]:
    """(file, version) of each `tallyd` on PATH that belongs to another environment. None is run."""
    found: dict[str, tuple[str, str]] = {}
    for directory in environ.get("PATH", "").split(os.pathsep)[:_PATH_MAX]:
        file = os.path.join(directory, "tallyd")
        # An empty entry is the working directory.
        if not directory or not os.path.isfile(file) or not os.access(file, os.X_OK):
            continue
        prefix = _prefix_of(os.path.realpath(file))
        if prefix and os.path.realpath(prefix) == os.path.realpath(sys.prefix):
            continue
        found.setdefault(os.path.realpath(file), (file, _version_in(prefix)))
    return list(found.values())


def _prefix_of(script: str) -> str:
    """The environment of a script, by the interpreter in its first line; "" where that does not say."""
    try:
        with open(script, "rb") as file:
            first = os.fsdecode(file.readline(_FIRST_LINE_MAX_BYTES))
    except OSError:
        return ""
    interpreter = first.removeprefix("#!").strip().split(" ")[0]
    is_named = first.startswith("#!") and interpreter.startswith("/")
    # `/bin/sh`, as for long paths, and `/usr/bin/env` name no environment.
    is_python = os.path.basename(interpreter).startswith("python")
    return os.path.dirname(os.path.dirname(interpreter)) if is_named and is_python else ""


def _version_in(prefix: str) -> str:
    """The version of tallyd that is installed in an environment; "" where none is seen."""
    if not prefix:
        return ""
    library = os.path.join(prefix, "lib")
    for python in _names(library):
        if python.startswith("python"):
            for name in _names(os.path.join(library, python, "site-packages")):
                if match := _DIST.fullmatch(name):
                    return match[1]
    return ""


def _names(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except OSError:
        return []

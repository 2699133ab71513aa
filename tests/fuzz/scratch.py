"""A home on disk that every input of a target is written into, and the environment of one who lives there."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

# What a machine may have set, and what would then decide instead of the input.
_CLEARED = ("DO_NOT_TRACK", "CI", "TALLYD_POLICY_FILE", "TOOL_TELEMETRY", "CODEGRAPH_TELEMETRY")


@cache
def home(name: str) -> Path:
    """A directory of this process's own, in memory where the system has such a place."""
    memory = Path("/dev/shm")
    base = None if "TMPDIR" in os.environ or not memory.is_dir() else memory
    made = Path(tempfile.mkdtemp(prefix=f"tallyd-fuzz-{name}-", dir=base))
    # libFuzzer ends without this: there the runner removes TMPDIR.
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made


@contextmanager
def living_in(place: Path) -> Iterator[dict[str, str]]:
    """The environment of a user whose home is `place`, for this process too."""
    environ = {"HOME": str(place), "TALLYD_HOME": str(place)}
    before = {name: os.environ.get(name) for name in (*environ, *_CLEARED)}
    for name in _CLEARED:
        os.environ.pop(name, None)
    os.environ.update(environ)
    try:
        yield environ
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def put(file: Path, content: bytes | None) -> Path:
    """`file` with this content, or gone."""
    if content is None:
        file.unlink(missing_ok=True)
    else:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return file


def parts(data: bytes, separator: bytes = b"\n%%\n") -> tuple[bytes, bytes | None]:
    """Two files in one input: what stands before the separator, and behind it, if it is there."""
    first, found, second = data.partition(separator)
    return first, second if found else None

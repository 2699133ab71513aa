"""Asking a running daemon to flush: hint files, the only way to speak to it.

It owns `state/flush/`: a command makes a `<uuid>` that may name products to forget, the daemon is woken by it, flushes, and
puts `<uuid>.answer` beside it by one rename; the command reads and removes both. Either side may die
at any point: what is left is swept after an hour.
"""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING

from tallyd.chance import random_uuid
from tallyd.contract.parse import PRODUCT_NAME
from tallyd.errors import StateUnusable
from tallyd.files import read_regular, replace_file
from tallyd.limits import FLUSH_MAX_REQUESTS, FLUSH_REQUEST_MAX_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from tallyd.paths import Paths

_ANSWER = ".answer"
# How often a waiting command looks: it is a person's command, not a background process.
_LOOK_S = 0.05


def ask(paths: Paths, forget: Iterable[str] = ()) -> Path:
    """Ask for a flush; the returned request is then waited for. Raises StateUnusable.

    `forget` names the products of which everything unsent is to be deleted first.
    """
    request = paths.flush_requests / random_uuid()
    replace_file(request, json.dumps(list(forget)).encode("ascii"))
    return request


def to_forget(request: Path) -> list[str]:
    """The products of which a request wants everything deleted that was not sent."""
    said = _read(request)
    # A name that is a path would lead out of the spool.
    names = said if isinstance(said, list) else []
    return [one for one in names if isinstance(one, str) and re.fullmatch(PRODUCT_NAME, one)]


def wait(
    request: Path, patience_s: float, is_alive: Callable[[], bool]
) -> dict[str, object] | None:
    """The daemon's answer; None when it died or took longer than `patience_s`."""
    answer = request.with_name(request.name + _ANSWER)
    deadline = time.monotonic() + patience_s
    try:
        while True:
            # Asked before the look, so that an answer given just before the end is still seen.
            alive = is_alive()
            if answer.exists():
                said = _read(answer)
                return said if isinstance(said, dict) else None
            if not alive or time.monotonic() >= deadline:
                return None
            time.sleep(_LOOK_S)
    finally:
        for file in (request, answer):
            file.unlink(missing_ok=True)


def pending(paths: Paths) -> list[Path]:
    """The requests that wait for an answer, as many as one round answers.

    Raises StateUnusable for a link: nothing there is ours.
    """
    if paths.flush_requests.is_symlink():
        raise StateUnusable(
            f"{paths.flush_requests} is a link, and none is followed",
            "put a directory in its place",
        )
    try:
        found = sorted(
            file
            for file in paths.flush_requests.iterdir()
            if not file.name.startswith(".")
            and not file.name.endswith(_ANSWER)
            and not file.with_name(file.name + _ANSWER).exists()
        )
    except OSError:
        return []
    return found[:FLUSH_MAX_REQUESTS]


def answer(request: Path, result: Mapping[str, object]) -> None:
    """Answer a request. Raises StateUnusable."""
    replace_file(request.with_name(request.name + _ANSWER), json.dumps(result).encode("ascii"))


def _read(file: Path) -> object:
    """What a request or an answer says; None for what nobody of ours wrote."""
    try:
        # A pipe would hold the daemon, and no answer of ours is longer.
        return json.loads(read_regular(file, FLUSH_REQUEST_MAX_BYTES) or b"null")
    except (OSError, ValueError, RecursionError):
        return None

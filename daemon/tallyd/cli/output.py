"""All that tallyd prints: data to stdout, everything else to stderr."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn


def print_json(result: object) -> None:
    """Data for programs."""
    print(json.dumps(result, indent=2))


def print_lines(lines: Sequence[str]) -> None:
    """Data for people."""
    print("\n".join(lines), flush=True)


def print_bytes(content: bytes) -> None:
    """Data as it stands."""
    sys.stdout.buffer.write(content)
    sys.stdout.flush()


def say(text: str, *, end: str = "\n") -> None:
    """What is not data."""
    print(text, file=sys.stderr, end=end, flush=True)


def leave(code: int) -> NoReturn:
    """End the process at once; everything is recorded.

    Not sys.exit: that would wait for the watcher's thread, which looks up once a step (1.5 s), and for
    a name look-up that nobody answers (10 s), and a stop takes at most 100 ms.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)

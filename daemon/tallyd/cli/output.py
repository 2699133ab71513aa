"""All that tallyd prints: data to stdout, everything else to stderr.

Text for people may hold what others wrote (names, reasons, paths): whatever in it could steer a terminal is
spelled out, and so is what the stream's encoding has no place for.
"""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

from tallyd import journal
from tallyd.terminal import encodable, printable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn, TextIO


def print_json(result: object) -> None:
    """Data for programs."""
    print(json.dumps(result, indent=2))


def print_json_line(result: object) -> None:
    """Data for programs that read one report after another: a line each, there at once."""
    print(json.dumps(result, separators=(",", ":")), flush=True)


def print_lines(lines: Sequence[str]) -> None:
    """Data for people."""
    print(_safe("\n".join(lines), sys.stdout), flush=True)


def print_typeset(text: str, *, end: str = "\n") -> None:
    """Data for people, as `terminal.typeset` made it for this very stream."""
    print(text, end=end, flush=True)


def print_bytes(content: bytes) -> None:
    """Data as it stands."""
    sys.stdout.buffer.write(content)
    sys.stdout.flush()


def say(text: str, *, end: str = "\n") -> None:
    """What is not data."""
    print(_safe(text, sys.stderr), file=sys.stderr, end=end, flush=True)


def say_error(error: object) -> None:
    """Why a command ends without having done what it is for."""
    text = f"tallyd: {error}"
    say(journal.marked(text, journal.ERROR) if journal.is_told() else text)


def _safe(text: str, stream: TextIO) -> str:
    lines = (printable(line) for line in text.split("\n"))
    return encodable("\n".join(lines), stream.encoding or "ascii")


def leave(code: int) -> NoReturn:
    """End the process at once; everything is recorded.

    Not sys.exit: that would wait for the watcher's thread, which looks up once a step (1.5 s), and for
    a name look-up that nobody answers (10 s), and a stop takes at most 100 ms.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)

"""Find the line of a TOML file on which a key stands, for error messages.

tomllib gives values without positions. This reads lines, not TOML: it follows table headers and
`key =` at the start of a line. It knowingly does not look inside inline tables or multi-line
strings; a key in there is reported at the line where its outermost value begins.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_HEADER = re.compile(r"\s*\[\[?([^\[\]]+)\]\]?\s*(?:#.*)?$")
_KEY = re.compile(r"""\s*((?:[\w-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[\w-]+|"[^"]*"|'[^']*'))*)\s*=""")
_PART = re.compile(r"""[\w-]+|"[^"]*"|'[^']*'""")


def line_of(text: str, path: tuple[str, ...]) -> int:
    """The first line (from 1) that sets `path`, or else the longest part of it; 0 when none does."""
    return line_in(lines_of(text), path)


def lines_of(text: str) -> dict[tuple[str, ...], int]:
    """The first line of every path in the file, and of each part that a path begins with."""
    lines: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    # TOML knows one line break; str.splitlines knows nine more, and texts may hold them.
    for number, line in enumerate(text.split("\n"), 1):
        header = _HEADER.match(line)
        if header is not None:
            table = _parts(header[1])
            here = table
        else:
            key = _KEY.match(line)
            if key is None:
                continue
            here = table + _parts(key[1])
        for depth in range(1, len(here) + 1):
            lines.setdefault(here[:depth], number)
    return lines


def line_in(lines: Mapping[tuple[str, ...], int], path: tuple[str, ...]) -> int:
    """`line_of`, for many paths of one file."""
    depths = range(len(path), 0, -1)
    return next((lines[path[:depth]] for depth in depths if path[:depth] in lines), 0)


def _parts(dotted: str) -> tuple[str, ...]:
    return tuple(part.strip("\"'") for part in _PART.findall(dotted))

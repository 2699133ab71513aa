"""Find the line of a TOML file on which a key stands, for error messages.

tomllib gives values without positions. This reads lines, not TOML: it follows table headers and
`key =` at the start of a line. It knowingly does not look inside inline tables or multi-line
strings; a key in there is reported at the line where its outermost value begins.
"""

from __future__ import annotations

import re

_HEADER = re.compile(r"\s*\[\[?([^\[\]]+)\]\]?\s*(?:#.*)?$")
_KEY = re.compile(r"""\s*((?:[\w-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[\w-]+|"[^"]*"|'[^']*'))*)\s*=""")
_PART = re.compile(r"""[\w-]+|"[^"]*"|'[^']*'""")


def line_of(text: str, path: tuple[str, ...]) -> int:
    """The first line (from 1) that sets `path`, or else the longest part of it; 0 when none does."""
    best_line, best_depth = 0, 0
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
        depth = _common(here, path)
        if depth > best_depth:
            best_line, best_depth = number, depth
    return best_line


def _common(here: tuple[str, ...], path: tuple[str, ...]) -> int:
    """How many leading parts both share."""
    pairs = zip(here, path, strict=False)
    return next(
        (at for at, (one, other) in enumerate(pairs) if one != other), min(len(here), len(path))
    )


def _parts(dotted: str) -> tuple[str, ...]:
    return tuple(part.strip("\"'") for part in _PART.findall(dotted))

"""Terminal: text for whoever reads it there: safe, within its width, in colour where it has any.

Lines are pieces with a style; `typeset` makes them the text of one terminal. It guarantees that
nothing but our own colours steers the terminal: what came from files that others write (names, reasons,
paths) has its control characters spelled out. Prints nothing.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TextIO

from tallyd.contract.frozen import Frozen

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# Styles say in colour what the words say already.
_STYLES = {"good": "32", "warn": "33", "bad": "1;31", "strong": "1", "dim": "2"}
_END = "\x1b[0m"
# What our own words use beyond ASCII, for a terminal that has no place for it.
_IN_ASCII = str.maketrans({"…": "..."})
# Narrower than any terminal that somebody reads: no room to break a line in.
_MIN_WIDTH = 20
_NO_WORDS = ("", "0", "false")


class Piece(Frozen):
    """Some text of one style; "" is plain."""

    text: str
    style: str = ""


class Line(Frozen):
    """One line. What does not fit goes on below, indented by `hang`; a row of a table is cut instead."""

    pieces: tuple[Piece, ...] = ()
    hang: int = 0
    is_row: bool = False


class Screen(Frozen):
    """What text is written to: `width` and `height` are None where it has no edge.

    `can_redraw`: text can be written over what is there already.
    """

    width: int | None = None
    height: int | None = None
    has_colour: bool = False
    can_redraw: bool = False
    encoding: str = "utf-8"


def screen_of(stream: TextIO, environ: Mapping[str, str]) -> Screen:
    """The screen behind `stream`, as it is now. COLUMNS and LINES are believed before the terminal."""
    is_terminal = stream.isatty()
    width, height = _size(environ, "COLUMNS"), _size(environ, "LINES") if is_terminal else None
    if is_terminal and not (width and height):
        try:
            found = os.get_terminal_size(stream.fileno())
        except (OSError, ValueError):
            found = os.terminal_size((0, 0))
        width, height = width or found.columns or 80, height or found.lines or 24
    return Screen(
        width=width and max(width, _MIN_WIDTH),
        height=height,
        has_colour=_has_colour(environ, is_terminal=is_terminal),
        can_redraw=is_terminal and _is_clever(environ),
        encoding=stream.encoding or "ascii",
    )


def _size(environ: Mapping[str, str], name: str) -> int | None:
    text = environ.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and 0 < int(text[:9]) < 10**6 else None


def _has_colour(environ: Mapping[str, str], *, is_terminal: bool) -> bool:
    """NO_COLOR says no before anything says yes, as in Python itself."""
    if environ.get("NO_COLOR"):
        return False
    forced = environ.get("FORCE_COLOR")
    if forced:
        return forced.lower() not in _NO_WORDS
    return is_terminal and _is_clever(environ)


def _is_clever(environ: Mapping[str, str]) -> bool:
    return environ.get("TERM", "") not in ("", "dumb")


def printable(text: str) -> str:
    """`text` with all that could steer a terminal or turn its lines around spelled out."""
    if text.isprintable():
        return text
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode() for one in text
    )


def encodable(text: str, encoding: str) -> str:
    """`text` as `encoding` can take it: in plain ASCII, or spelled out, where it cannot."""
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        plain = text.translate(_IN_ASCII)
        return plain.encode(encoding, "backslashreplace").decode(encoding)
    return text


def typeset(lines: Iterable[Line], screen: Screen) -> list[str]:
    """The lines as they are written to that screen."""
    return [text for line in lines for text in _typeset(line, screen)]


def _typeset(line: Line, screen: Screen) -> list[str]:
    safe = [
        Piece(encodable(printable(one.text), screen.encoding), one.style) for one in line.pieces
    ]
    if screen.width is None or sum(_columns(one.text) for one in safe) <= screen.width:
        return [_painted(safe, screen)]
    # One style for each character, so that a line may break anywhere.
    text = "".join(one.text for one in safe)
    styles = [one.style for one in safe for _ in one.text]
    if line.is_row:
        end = _fit(text, screen.width - 1)
        mark = encodable("…", screen.encoding)[:1]
        return [_painted([*_runs(text, styles, 0, end), Piece(mark)], screen)]
    made, start, indent = [], 0, 0
    while start < len(text):
        end = start + _fit(text[start:], screen.width - indent)
        if end < len(text) and (space := text.rfind(" ", start + 1, end + 1)) > start:
            end = space
        made.append(_painted([Piece(" " * indent), *_runs(text, styles, start, end)], screen))
        start = end
        while start < len(text) and text[start] == " ":
            start += 1
        indent = min(line.hang, screen.width // 2)
    return made


def _runs(text: str, styles: list[str], start: int, end: int) -> list[Piece]:
    """The pieces between two places of a text."""
    found: list[Piece] = []
    for place in range(start, end):
        if found and found[-1].style == styles[place]:
            found[-1] = Piece(found[-1].text + text[place], styles[place])
        else:
            found.append(Piece(text[place], styles[place]))
    return found


def _painted(pieces: Iterable[Piece], screen: Screen) -> str:
    if not screen.has_colour:
        return "".join(one.text for one in pieces).rstrip()
    return "".join(
        f"\x1b[{_STYLES[one.style]}m{one.text}{_END}" if one.style and one.text else one.text
        for one in pieces
    ).rstrip()


def _columns(text: str) -> int:
    """How many columns a terminal gives to a text."""
    return len(text) if text.isascii() else sum(_columns_of(one) for one in text)


def _columns_of(one: str) -> int:
    import unicodedata  # noqa: PLC0415 - a megabyte that plain ASCII has no use for

    if unicodedata.combining(one) or unicodedata.category(one) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(one) in "WF" else 1


def _fit(text: str, width: int) -> int:
    """How many characters fit into so many columns; at least one, so that there is progress."""
    if text.isascii():
        return max(1, min(len(text), width))
    used = 0
    for place, one in enumerate(text):
        used += _columns_of(one)
        if used > width:
            return max(1, place)
    return len(text)

"""The manual page `tallyd.1`: the command line's table, the table of exit codes, and manual.txt.

manual.txt holds what a table cannot say, in a markup of four things: `# SECTION`, a paragraph a line,
`TERM:: what it is`, and lines indented by four that are typed as they stand; what stands in backticks is bold.
The page's date is the version's in CHANGELOG.md, so the same sources make the same bytes on any day.
"""

from __future__ import annotations

import re
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any, Final

from tallyd import __version__
from tallyd.exits import TABLE
from tallyd.usage.commands import COMMANDS

if TYPE_CHECKING:
    from collections.abc import Iterator

_HERE: Final = Path(__file__).parent
_CHANGELOG: Final = _HERE.parent / "CHANGELOG.md"


def render_manual() -> str:
    """The page, in the macros of man(7)."""
    lines = [
        '.\\" Made from the command line\'s table and shell/manual.txt by "make shell".',
        f'.TH TALLYD 1 {_released()} "tallyd {__version__}" "User Commands"',
        # No word is cut: a command that is would not be typed as it should.
        ".nh",
        ".SH NAME",
        "tallyd \\- merge counter deltas exactly once and send one finished day at a time",
        ".SH SYNOPSIS",
        ".B tallyd",
        "\\fICOMMAND\\fR [\\fIARGUMENT\\fR ...]",
        ".br",
        ".B tallyd \\-\\-help",
        ".br",
        ".B tallyd \\-\\-version",
        *_rendered((_HERE / "manual.txt").read_text(encoding="utf-8")),
    ]
    return "\n".join(lines) + "\n"


def _released() -> str:
    """The day in the heading of this version in CHANGELOG.md, `YYYY-MM-DD`."""
    heading = rf"^## {re.escape(__version__)} - (\d{{4}}-\d\d-\d\d)$"
    found = re.search(heading, _CHANGELOG.read_text(encoding="utf-8"), re.MULTILINE)
    if found is None:
        raise SystemExit(f"{_CHANGELOG}: no heading '## {__version__} - YYYY-MM-DD'; write one")
    return found[1]


def _rendered(text: str) -> Iterator[str]:
    is_first = True
    for line in text.splitlines():
        if not line:
            continue
        term, is_term, about = line.partition(":: ")
        if line.startswith("# "):
            yield f'.SH "{line[2:]}"'
            is_first = True
            continue
        if line == "@commands":
            yield from _commands()
        elif line == "@exits":
            yield from _exits()
        elif line.startswith("    "):
            yield from (".PP", ".RS 4", ".nf", _bold(line[4:]), ".fi", ".RE")
        elif is_term:
            yield from (".TP", _bold(term), _prose(about))
        else:
            # A section's heading begins a paragraph by itself.
            yield from ([] if is_first else [".PP"])
            yield _prose(line)
        is_first = False


def _commands() -> Iterator[str]:
    """Each command with its arguments, what it does, and each argument's meaning."""
    for one in COMMANDS:
        positional = [(n, how) for n, how in one.arguments.items() if not n.startswith("-")]
        options = [(n, how) for n, how in one.arguments.items() if n.startswith("-")]
        synopsis = [_bold(f"tallyd {one.words}"), *(_option(n, how) for n, how in options)]
        synopsis += [_positional(n, how) for n, how in positional]
        yield from (".TP", " ".join(synopsis), _sentence(one.summary))
        names = [(_value(n, how), how) for n, how in positional]
        names += [(_option(n, how, is_bare=True), how) for n, how in options]
        told = [(name, how["help"]) for name, how in names if how.get("help")]
        if told:
            yield ".RS"
            for name, meaning in told:
                yield from (".TP", name, _sentence(meaning))
            yield ".RE"


def _value(name: str, how: dict[str, Any]) -> str:
    shown = how.get("metavar") or how.get("dest") or name.lstrip("-")
    return f"\\fI{_escape(str(shown).upper())}\\fR"


def _positional(name: str, how: dict[str, Any]) -> str:
    value = _value(name, how)
    return f"[{value}]" if how.get("nargs") in ("?", "*") else value


def _option(name: str, how: dict[str, Any], *, is_bare: bool = False) -> str:
    takes_value = "action" not in how
    value = f" {_value(name, how)}" if takes_value else ""
    if how.get("nargs") == "?":
        value = f" [{value.strip()}]"
    if not is_bare:
        return f"[{_bold(name)}{value}]"
    return ", ".join(_bold(one) for one in (name, *how.get("flags", ()))) + value


def _exits() -> Iterator[str]:
    for one in TABLE:
        of = ", ".join(f"`{words}`" for words in one.of)
        yield from (".TP", _bold(str(one.code)), _sentence(one.means + (f" ({of})" if of else "")))


def _sentence(text: str) -> str:
    return _prose(f"{text[0].upper()}{text[1:]}.")


def _prose(text: str) -> str:
    """A paragraph, a source line for each sentence, as roff wants it."""
    pieces = (
        _bold(piece) if place % 2 else _escape(piece, is_typed=False)
        for place, piece in enumerate(text.split("`"))
    )
    sentences = re.split(r"(?<=[.:]) (?=[A-Z\\])", "".join(pieces))
    lines = [line for one in sentences for line in wrap(one, 78, break_on_hyphens=False)]
    # A line that begins with a dot or a quote would be a request.
    return "\n".join(f"\\&{one}" if one[0] in ".'" else one for one in lines)


def _bold(text: str) -> str:
    return f"\\fB{_escape(text)}\\fR"


def _escape(text: str, *, is_typed: bool = True) -> str:
    """`text` as roff shows it; typed text keeps its hyphens and quotes for whoever copies it."""
    text = text.replace("\\", "\\e")
    return (
        text.replace("-", "\\-").replace("'", "\\(aq").replace("~", "\\(ti") if is_typed else text
    )

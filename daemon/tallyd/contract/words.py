"""What a contract says, in words that anybody reads, safe to stand in Markdown.

It owns the words for types and lengths of time, and the escaping: `plain` and `code` return one line
in which nothing opens a tag, a link, a table cell or a block, whatever the text was. HTML's entities
do it where a backslash would not: in a table's cell, and before a backslash of the text itself.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from tallyd.contract.fields import (
    LABEL_ALPHABET,
    MAX_INTEGER,
    UNKNOWN_NAME,
    Boolean,
    Bucket,
    Enum,
    ErrorClass,
    Hash,
    Integer,
    List,
    Names,
    Number,
    Record,
    Redacted,
    Text,
    Uuid,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tallyd.contract.fields import FieldType

_ENTITIES: Final = {
    "&": "&amp;",
    "<": "&lt;",
    ">": "&gt;",
    "|": "&#124;",
    "\\": "&#92;",
    "`": "&#96;",
}
_ENTITY: Final = re.compile(r"[&<>|\\`]")
# `_` within a word is no emphasis, and escaped it would spoil an address or a variable's name.
_MARK: Final = re.compile(r"[*\[\]~$]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
# What makes a block of a line that begins with it.
_BLOCK: Final = re.compile(r"^(\d*)([#+=.)-])")
_CODE_SAFE: Final = re.compile(r"[^\s`|\\](?:[^`|\\]*[^\s`|\\])?")
_ADDRESS: Final = re.compile(r"https?://[!-;=?-_a-~]+", re.ASCII)
_SPANS: Final = ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))


def plain(text: str) -> str:
    """`text` on one line, every character standing for itself."""
    line = _ENTITY.sub(lambda found: _ENTITIES[found[0]], " ".join(text.split()))
    return _BLOCK.sub(r"\1\\\2", _MARK.sub(r"\\\g<0>", line))


def code(text: str) -> str:
    """`text` as code, or in quotes where code could not hold it."""
    line = " ".join(text.split())
    return f"`{line}`" if _CODE_SAFE.fullmatch(line) else f"“{plain(text)}”"


def link(text: str) -> str:
    """An address to click on, any other text as it is."""
    return f"<{text}>" if _ADDRESS.fullmatch(text) else plain(text)


def listed(texts: Iterable[str]) -> str:
    """Texts as code, with commas between."""
    return ", ".join(code(one) for one in texts)


def span(seconds: float) -> str:
    """A length of time in its largest whole unit."""
    for size, unit in _SPANS:
        if seconds >= size and seconds % size == 0:
            number = int(seconds // size)
            return f"{number} {unit}" if number == 1 else f"{number} {unit}s"
    return f"{seconds:g} seconds"


def what_it_holds(kind: FieldType) -> str:
    """All that a value of this type can be."""
    match kind:
        case Enum():
            return f"one of: {listed(kind.values)}" if len(kind.values) > 1 else listed(kind.values)
        case Text():
            return _text(kind)
        case Integer():
            return f"whole number {_range(kind.minimum, kind.maximum)}"
        case Number():
            return f"number {_range(kind.minimum, kind.maximum)}"
        case Boolean():
            return "yes or no"
        case Bucket():
            return (
                f"only the range it falls in: {listed(kind.labels)}; "
                "the number stays on your machine"
            )
        case Uuid():
            return "an id of 32 digits and letters (a UUID)"
        case Hash():
            after = f"{code(kind.prefix)} and " if kind.prefix else ""
            return (
                f"a hash: {after}{kind.length} digits (0-9, a-f) computed from a value that itself "
                "stays on your machine"
            )
        case ErrorClass():
            return (
                "the name of a kind of error, up to "
                f"{kind.max_length} letters, digits and `_`; never the error's message"
            )
        case Redacted():
            return (
                f"free text of up to {kind.max_length} characters with what looks like a secret, an absolute path or an e-mail address "
                f"taken out; none unless the variable {code(kind.switch)} allows it"
            )
        case List():
            return f"up to {kind.max_items} of these: {what_it_holds(kind.of)}"
        case Record():
            inner = (
                f"{code(name)}{' (when known)' if name in kind.optional else ''}: {what_it_holds(one)}"
                for name, one in kind.fields.items()
            )
            return f"an entry with {'; '.join(inner)}"
        case Names():
            return (
                f"which of up to {kind.max_items} were there, never their values; {_name(kind.of)}"
            )
    raise TypeError(f"{kind!r} has no words")


def _name(kind: FieldType) -> str:
    return f"each name is {what_it_holds(kind)}"


def _text(kind: Text) -> str:
    is_label = kind.alphabet == LABEL_ALPHABET
    signs = "spaces and `_ . : + - / @ ( )`" if is_label else "and `_ . : + -`"
    comma = "," if is_label else ""
    said = [f"a name of up to {kind.max_length} letters, digits{comma} {signs}"]
    if kind.cut:
        said.append("a longer one is cut")
    if kind.registered:
        said.append(f"one that the program itself does not know is told as `{UNKNOWN_NAME}`")
    return "; ".join(said)


def _range(low: float, high: float) -> str:
    if high < MAX_INTEGER:
        return (
            f"{_digits(low)} to {_digits(high)}" if low > -MAX_INTEGER else f"up to {_digits(high)}"
        )
    return f"from {_digits(low)} up" if low > -MAX_INTEGER else "of any size"


def _digits(number: float) -> str:
    # 3600000 and not 3.6e+06.
    return str(int(number)) if number == int(number) else repr(number)

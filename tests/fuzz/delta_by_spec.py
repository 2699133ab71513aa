"""A second reader of deltas, written from docs/spool.md and RFC 8259 alone: slow, strict and short.

It shares nothing with the daemon's reader, not even `json`, so what a fast decoder lets through that
the page refuses shows as a difference.
"""

from __future__ import annotations

from calendar import monthrange
from typing import Any, NoReturn

_LARGEST = 2**53 - 1
_MAX_BYTES = 64 * 1024
_MAX_LEVELS = 8
_DIGITS = frozenset("0123456789")
_HEX = frozenset("0123456789abcdef")
_ESCAPES = {
    '"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t",
}  # fmt: skip


class Refused(Exception):
    """The page says that this is no delta."""


class Unsaid(Exception):
    """The page leaves it open: a number of thousands of digits."""


def read(content: bytes, product: str) -> dict[str, Any]:
    """What a delta says, by the names of `tallyd.delta.Delta`. Raises Refused or Unsaid."""
    if len(content) > _MAX_BYTES:
        _refuse("size")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        _refuse("UTF-8")
    said = _Json(text).whole()
    _want(isinstance(said, dict) and said.get("product") == product)
    _want(_is_whole(said.get("v")) and said["v"] == 1)
    writer = said.get("writer")
    _want(isinstance(writer, dict) and _is_whole(writer.get("seq")))
    epoch = writer.get("epoch")
    _want(isinstance(epoch, str) and len(epoch) == 16 and _HEX.issuperset(epoch))
    _want(_is_day(said.get("day")))
    consent = said.get("consent")
    _want(consent is None or isinstance(consent, dict))
    return {
        "day": said["day"],
        "envelope": _object(said.get("envelope", {})),
        "counts": [_row(one) for one in _list(said.get("counts", []))],
        "events": [_event(one) for one in _list(said.get("events", []))],
        "lost": {
            cause: count
            for cause, count in _measures(said.get("lost", {})).items()
            if cause in ("cap", "error")
        },
        "consent": None
        if consent is None
        else (_text(consent.get("since")), _text(consent.get("id"))),
        "derived_id": _text(said.get("id")),
    }


def _row(one: Any) -> tuple[Any, ...]:
    _want(isinstance(one, list) and len(one) == 3 and isinstance(one[0], str))
    return one[0], _object(one[1]), _measures(one[2])


def _event(one: Any) -> tuple[Any, ...]:
    _want(isinstance(one, list) and len(one) == 3 and isinstance(one[0], str))
    time = one[1]
    _want(isinstance(time, str) and len(time) == len("2026-11-20T12:00:00.000Z"))
    digits = "".join("0" if character in _DIGITS else character for character in time)
    _want(digits == "0000-00-00T00:00:00.000Z" and _is_day(time[:10]))
    _want(int(time[11:13]) < 24 and int(time[14:16]) < 60 and int(time[17:19]) < 60)
    return one[0], time, _object(one[2])


def _is_day(text: Any) -> bool:
    if not isinstance(text, str) or len(text) != 10 or text[4] != "-" or text[7] != "-":
        return False
    if not _DIGITS.issuperset(text[:4] + text[5:7] + text[8:]):
        return False
    year, month, day = int(text[:4]), int(text[5:7]), int(text[8:])
    return year >= 1 and 1 <= month <= 12 and 1 <= day <= monthrange(year, month)[1]


def _measures(values: Any) -> dict[str, int]:
    for value in _object(values).values():
        _want(_is_whole(value))
    return values


def _object(value: Any) -> dict[str, Any]:
    _want(isinstance(value, dict))
    return value


def _list(value: Any) -> list[Any]:
    _want(isinstance(value, list))
    return value


def _text(value: Any) -> str | None:
    _want(value is None or (isinstance(value, str) and len(value) <= 256))
    return value


def _is_whole(value: Any) -> bool:
    return type(value) is int and 0 <= value <= _LARGEST


def _want(is_so: bool) -> None:
    if not is_so:
        _refuse("form")


def _refuse(why: str) -> NoReturn:
    raise Refused(why)


class _Json:
    """RFC 8259, character by character; no key twice, no deeper than the page allows."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def whole(self) -> Any:
        value = self.value(_MAX_LEVELS)
        _want(self.next() == "")
        return value

    def next(self) -> str:
        """The next character that is no white space, "" at the end; it stays there."""
        while self.at < len(self.text) and self.text[self.at] in " \t\n\r":
            self.at += 1
        return self.text[self.at : self.at + 1]

    def take(self, wanted: str) -> None:
        _want(self.next() == wanted)
        self.at += 1

    def value(self, levels: int) -> Any:
        one = self.next()
        if one in "{[" and one:
            _want(levels > 0)
            return self.members(levels - 1) if one == "{" else self.items(levels - 1)
        if one == '"':
            return self.string()
        for word, value in (("true", True), ("false", False), ("null", None)):
            if self.text.startswith(word, self.at):
                self.at += len(word)
                return value
        return self.number()

    def members(self, levels: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        self.take("{")
        while self.next() != "}":
            if found:
                self.take(",")
            _want(self.next() == '"')
            key = self.string()
            _want(key not in found)
            self.take(":")
            found[key] = self.value(levels)
        self.at += 1
        return found

    def items(self, levels: int) -> list[Any]:
        found: list[Any] = []
        self.take("[")
        while self.next() != "]":
            if found:
                self.take(",")
            found.append(self.value(levels))
        self.at += 1
        return found

    def string(self) -> str:
        self.at += 1
        found: list[str] = []
        while (one := self.one()) != '"':
            _want(one >= " ")
            found.append(self.escape() if one == "\\" else one)
        # Two halves of a character that were escaped apart are one character.
        return (
            "".join(found).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
        )

    def escape(self) -> str:
        one = self.one()
        if one != "u":
            _want(one in _ESCAPES)
            return _ESCAPES[one]
        digits = self.text[self.at : self.at + 4].lower()
        _want(len(digits) == 4 and _HEX.issuperset(digits))
        self.at += 4
        return chr(int(digits, 16))

    def one(self) -> str:
        _want(self.at < len(self.text))
        self.at += 1
        return self.text[self.at - 1]

    def number(self) -> int | float:
        start = self.at
        if self.text[self.at : self.at + 1] == "-":
            self.at += 1
        first = self.at
        whole = self.digits()
        _want(whole == "0" or self.text[first] != "0")
        is_whole = True
        if self.text[self.at : self.at + 1] == ".":
            self.at, is_whole = self.at + 1, False
            self.digits()
        if self.text[self.at : self.at + 1] in ("e", "E"):
            self.at, is_whole = self.at + 1, False
            if self.text[self.at : self.at + 1] in ("+", "-"):
                self.at += 1
            self.digits()
        number = self.text[start : self.at]
        if is_whole and len(whole) > 4300:
            raise Unsaid
        return int(number) if is_whole else float(number)

    def digits(self) -> str:
        start = self.at
        while self.text[self.at : self.at + 1] in _DIGITS:
            self.at += 1
        _want(self.at > start)
        return self.text[start : self.at]

"""What hosts may give by mistake: for each type of field values that are right, and such as must never leave.

`Planted` makes texts and numbers that occur nowhere else and remembers them, so that a test can look
for each of them afterwards. `right(of, …)` draws what a stub records. `texts_not_for(of, …)` lists
what it must refuse, redact or replace: each holds a planted text. A token, a label or a version that
is not `registered` may carry a host's own text, so there only places, addresses, several lines and
what is outside of its alphabet are planted.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from typing import Any

from hypothesis import strategies as st
from tallyd.contract.fields import (
    LABEL_ALPHABET,
    Boolean,
    Bucket,
    Enum,
    ErrorClass,
    FieldType,
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
from tallyd.contract.model import Field

# Names that hosts register; short, since a contract may have room for one character only.
KNOWN = ("k", "kb", "k-c")


class Planted:
    """Texts and digits that stand nowhere else; all that were given out, to be looked for."""

    def __init__(self, mark: str = "zqw") -> None:
        # No hex digits, no capital at its beginning: neither a hash nor the name of a class.
        self._mark = mark
        self._texts = 0
        self._digits: set[bytes] = set()

    def text(self) -> str:
        """Another text, of letters and digits alone: the least suspicious there is."""
        self._texts += 1
        return f"{self._mark}{self._texts:04d}xv"

    def whole(self) -> int:
        """Another whole number, of ten digits."""
        number = 7_130_000_009 + len(self._digits) * 10
        self._digits.add(str(number).encode())
        return number

    def number(self, whole: float = 0) -> float:
        """Another number that is anything between `whole` and the next one; ten digits say which."""
        return float(f"{int(whole)}.{self.whole()}")

    def found_in(self, content: bytes) -> list[str]:
        """What of it stands in `content`, with what is around it."""
        places = [found.start() for found in re.finditer(self._mark.encode(), content)]
        # Five of the digits may be those of some hash; all ten of them are not.
        places += [
            found.start()
            for found in re.finditer(b"71300", content)
            if content[found.start() : found.start() + 10] in self._digits
        ]
        return [content[max(0, at - 60) : at + 40].decode("utf-8", "replace") for at in places]


# --- what is right ---------------------------------------------------------------------------------


def right(of: FieldType, planted: Planted) -> st.SearchStrategy[Any]:
    """What a field of this type is for, as a host gives it: numbers to buckets, errors to classes."""
    match of:
        case Enum():
            return st.sampled_from(of.values)
        case Bucket():
            edges = (0, -3, *of.edges, *(edge - 1 for edge in of.edges), of.edges[-1] * 3)
            numbers = st.sampled_from(edges)
            return numbers.map(planted.number) | st.builds(planted.whole) | numbers
        case Text(registered=True):
            return st.sampled_from([one for one in KNOWN if len(one) <= of.max_length])
        case Text():
            # A space or a slash alone may be refused; names are what they are for.
            letters = sorted(of.alphabet - frozenset("/ "))
            return st.text(letters, min_size=1, max_size=min(of.max_length, 12))
        case Integer():
            return st.integers(of.minimum, min(of.maximum, of.minimum + 110))
        case Number():
            top = min(of.maximum, of.minimum + 110)
            return st.integers(math.ceil(of.minimum), int(top)) | st.floats(of.minimum, top)
        case Boolean():
            return st.booleans()
        case Uuid():
            return st.uuids().map(str)
        case Hash():
            return st.integers(0, 16**8 - 1).map(
                lambda number: of.prefix + (f"{number:08x}" * 8)[: of.length]
            )
        case ErrorClass():
            fitting = [one for one in _ERRORS if len(one.__name__) <= of.max_length]
            named = st.sampled_from(fitting).map(lambda one: one.__name__)
            return named | st.sampled_from(fitting).map(lambda one: _caught(one, planted))
        case Redacted():
            return st.text("abc ", min_size=1, max_size=of.max_length)
        case List():
            return st.lists(right(of.of, planted), max_size=of.max_items + 1)
        case Names(of=Enum(values=listed)):
            return _flags(st.sampled_from(listed), of, planted)
        case Names():
            return _flags(right(of.of, planted), of, planted)
        case Record():
            needed = {
                name: right(one, planted)
                for name, one in of.fields.items()
                if name not in of.optional
            }
            rest = {
                name: right(one, planted) for name, one in of.fields.items() if name not in needed
            }
            return st.fixed_dictionaries(needed, optional=rest)
    raise AssertionError(of)


def _flags(name: st.SearchStrategy[str], of: Names, planted: Planted) -> st.SearchStrategy[Any]:
    """The flags of a command line: a map or a collection; what one was given stays behind."""
    names = st.lists(name, max_size=of.max_items + 1)
    valued = st.dictionaries(name, st.just(True) | st.builds(planted.text), max_size=of.max_items)
    return names | names.map(tuple) | names.map(frozenset) | valued


class E(Exception):
    """The shortest name that there is."""


_ERRORS = (ValueError, OSError, KeyError, E)


def _caught(kind: type[Exception], planted: Planted) -> Exception:
    """An error as it was caught: what it says, where, and what caused it, is the user's."""
    error = kind(2, f"could not open {planted.text()}", f"/home/{planted.text()}/x")
    error.__cause__ = ValueError(planted.text())
    error.add_note(planted.text())
    return error


# --- what must not leave --------------------------------------------------------------------------


def texts_not_for(of: FieldType, new: Callable[[], str], *, is_allowed: bool) -> list[Any]:
    """What a host may give to a field of this type and must not get through; every one is planted.

    `new` makes the text that each of them holds; `is_allowed`: the switch of a free text says yes.
    """
    match of:
        case Text(registered=True):
            return [*_places(new), *_anything(new), *_no_texts(new), f"{KNOWN[0]}{new()}"]
        case Text():
            # One character more than it holds; where it is cut, that is what is cut off.
            longest = "x" * of.max_length + new()
            given = [*_places(new), *_no_texts(new), longest]
            if of.cut:
                return given
            spoken = [] if of.alphabet == LABEL_ALPHABET else [f"could not open {new()}"]
            return [*given, *spoken, f"\N{LATIN SMALL LETTER A WITH DIAERESIS}{new()}", f"{new()}!"]
        case Redacted():
            return [*(_secrets(new) if is_allowed else _anything(new)), *_no_texts(new)]
        case List():
            inner = texts_not_for(of.of, new, is_allowed=is_allowed)
            return [[one] for one in inner] + [tuple(inner), *_anything(new)]
        case Record():
            return [*_records(of, new, is_allowed=is_allowed), *_anything(new)]
        case Names(of=Enum()):
            names = [one for one in _anything(new) if isinstance(one, str)]
            return [names, set(names), dict.fromkeys(names, True), {new(): new()}, new()]
        case Names():
            inner = [
                one
                for one in texts_not_for(of.of, new, is_allowed=is_allowed)
                if isinstance(one, str)
            ]
            return [inner, dict.fromkeys(inner, True), {new(): new(), new(): False, new(): 1}]
        case ErrorClass():
            named = type(new(), (Exception,), {})
            spoken = [f"ValueError: {new()}", f"Error({new()!r})", f"Value Error {new()}"]
            return [*_places(new), *_anything(new), named, named(new()), *spoken]
        case _:
            return [*_places(new), *_anything(new), *_no_texts(new)]


def numbers_not_for(of: FieldType, planted: Planted) -> list[Any]:
    """Numbers that a host may give to a field of this type and must not get through."""
    if isinstance(of, Integer | Number):
        return []
    return [planted.whole(), planted.number(), -planted.whole()]


def _places(new: Callable[[], str]) -> list[str]:
    """Where something is: paths and addresses of every make."""
    return [
        f"/home/{new()}/x",
        f"~/{new()}",
        f"C:\\Users\\{new()}\\x",
        f"C:/Users/{new()}",
        f"\\\\server\\{new()}",
        f"see /home/{new()}",
        f"open(/home/{new()})",
        f"https://user:{new()}@db.example/x",
        f"file:///srv/{new()}",
        f"one\n{new()}",
        f"{new()}\x00",
        f"{new()}\u2028",
    ]


def _anything(new: Callable[[], str]) -> list[Any]:
    """Texts without anything that would give them away."""
    return [new(), f"could not open {new()}", f"password={new()}", new().encode()]


def _no_texts(new: Callable[[], str]) -> list[Any]:
    """What is no text, and would be one if somebody asked it for its own."""
    text = new()

    class Said:
        def __str__(self) -> str:
            return text

        __repr__ = __format__ = __str__  # type: ignore[assignment]

    # Not for a list, which may take it for one.
    return [
        Said(),
        Said,
        PurePosixPath("/home", new()),
        ValueError(new()),
        bytearray(new().encode()),
        {new(): new()},
    ]


def _secrets(new: Callable[[], str]) -> list[str]:
    """Free text whose secrets, paths and addresses have to be taken out of it."""
    return [
        f"could not open /home/{new()}/x",
        f"no such file: 'C:\\Users\\{new()}\\x'",
        f"password={new()}",
        f'{{"api_key": "{new()}"}}',
        f"GET https://user:{new()}@db.example/x",
        f"https://db.example/?token={new()}",
        f"Authorization: Bearer {new()}",
        f"mail {new()}@mail.example",
        f"--password {new()}",
        f"DB_PASSWORD: {new()}\nand more",
    ]


def _records(of: Record, new: Callable[[], str], *, is_allowed: bool) -> list[dict[str, Any]]:
    """Objects with one bad field each, and a field that nobody listed."""
    found: list[dict[str, Any]] = [{new(): new()}]
    for name, one in of.fields.items():
        found += [
            {name: bad, new(): new(), "unlisted": new()}
            for bad in texts_not_for(one, new, is_allowed=is_allowed)
        ]
    return found


def registered_in(*listed: Mapping[str, Field]) -> set[str]:
    """The names of fields for which a host registers what it knows, those of records among them."""
    found: set[str] = set()
    for fields in listed:
        for name, one in fields.items():
            found |= _registered(name, one.type)
    return found


def _registered(name: str, of: FieldType) -> set[str]:
    match of:
        case Text(registered=True):
            return {name}
        case List(of=Record(fields=inner)):
            return {found for key, one in inner.items() for found in _registered(key, one)}
        case List() | Names():
            return _registered(name, of.of)
        case _:
            return set()

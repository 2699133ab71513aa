"""The types of a field, and what each lets through.

A field type is a small frozen object with one method, `screen(value)`: it returns the value as it
may be kept, or REFUSED. It owns the alphabets of wire-v1. It guarantees that a number given to a
bucket, a text outside its alphabet, or a boolean given for an integer is refused. Cutting text is
done only where the contract says `cut = true`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, Protocol

from tallyd.contract.frozen import Frozen

if TYPE_CHECKING:
    from collections.abc import Mapping


class _Refused:
    """The type of REFUSED alone."""


REFUSED: Final = _Refused()

# The alphabets of wire-v1; ASCII on purpose, so that no look-alike or bidirectional text passes.
TOKEN_ALPHABET: Final = frozenset(
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.:+-"
)
LABEL_ALPHABET: Final = TOKEN_ALPHABET | frozenset("/@() ")
_HEX: Final = frozenset("0123456789abcdef")
_CAPITALS: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_IDENTIFIER: Final = TOKEN_ALPHABET - frozenset(".:+-")

# Integers on the wire stay exact in every JSON reader (IEEE 754 doubles hold 53 bits).
MAX_INTEGER: Final = 2**53 - 1
# Stands for a name that its host never registered.
UNKNOWN_NAME: Final = "_unknown"

FieldValue = str | int | float | bool | list["FieldValue"] | dict[str, "FieldValue"]


class FieldType(Protocol):
    """What every type of field can do."""

    def screen(self, value: object) -> FieldValue | _Refused:
        """`value` as it may be kept, or REFUSED."""


def _is_place(text: str) -> bool:
    """Whether a label is more than a name: an address, or a word that is a path of its own."""
    words = text.replace("(", " ").replace(")", " ").split(" ") if "/" in text else ()
    return "://" in text or any(
        (one[:1] == "/" and len(one) > 1) or (one[1:3] == ":/" and len(one) > 3) for one in words
    )


class Enum(Frozen):
    """One of a closed list of texts."""

    values: tuple[str, ...]

    def screen(self, value: object) -> FieldValue | _Refused:
        """The value when it is listed."""
        return value if isinstance(value, str) and value in self.values else REFUSED


class Text(Frozen):
    """Text over one alphabet, 1 to `max_length` characters, and no place; longer is cut only when `cut`.

    `registered`: the host lets through only names that it registered (it alone knows them).
    """

    alphabet: frozenset[str]
    max_length: int
    cut: bool = False
    registered: bool = False

    def screen(self, value: object) -> FieldValue | _Refused:
        """The text, cut where that is allowed."""
        if not isinstance(value, str) or not value:
            return REFUSED
        if len(value) > self.max_length:
            if not self.cut:
                return REFUSED
            value = value[: self.max_length]
        return value if self.alphabet.issuperset(value) and not _is_place(value) else REFUSED


class Integer(Frozen):
    """A whole number between two bounds, both included; `true` is no integer."""

    minimum: int = 0
    maximum: int = MAX_INTEGER

    def screen(self, value: object) -> FieldValue | _Refused:
        """The number when it lies within its bounds."""
        if isinstance(value, bool) or not isinstance(value, int):
            return REFUSED
        return value if self.minimum <= value <= self.maximum else REFUSED


class Number(Frozen):
    """A finite number, whole or not, between two bounds, both included."""

    minimum: float = 0
    maximum: float = MAX_INTEGER

    def screen(self, value: object) -> FieldValue | _Refused:
        """The number when it lies within its bounds."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            return REFUSED
        # Compared before `isfinite`: a whole number of a thousand digits is no float.
        is_within = self.minimum <= value <= self.maximum
        return value if is_within and math.isfinite(value) else REFUSED


class Boolean(Frozen):
    """True or false, strictly."""

    def screen(self, value: object) -> FieldValue | _Refused:
        """The boolean."""
        return value if isinstance(value, bool) else REFUSED


class Bucket(Frozen):
    """A number that leaves the host only as the label of the bucket it falls in.

    `edges` ascend; bucket i holds edges[i-1] <= number < edges[i], so there is one label more
    than there are edges.
    """

    edges: tuple[int, ...]
    labels: tuple[str, ...]

    def screen(self, value: object) -> FieldValue | _Refused:
        """The label when it is listed; a raw number is refused, for it should not have come."""
        return value if isinstance(value, str) and value in self.labels else REFUSED


class Uuid(Frozen):
    """A UUID of any version, in lower case."""

    def screen(self, value: object) -> FieldValue | _Refused:
        """The UUID, in lower case."""
        if not isinstance(value, str):
            return REFUSED
        value = value.lower()
        is_good = [len(part) for part in value.split("-")] == [8, 4, 4, 4, 12]
        return value if is_good and _HEX.issuperset(value.replace("-", "")) else REFUSED


class Hash(Frozen):
    """A finished hash: `prefix` and then lower-case hex digits, `length` of them."""

    length: int = 64
    prefix: str = ""

    def screen(self, value: object) -> FieldValue | _Refused:
        """The hash; whatever is not one was never hashed, and is refused."""
        if not isinstance(value, str) or not value.startswith(self.prefix):
            return REFUSED
        digits = value[len(self.prefix) :]
        return value if len(digits) == self.length and _HEX.issuperset(digits) else REFUSED


class ErrorClass(Frozen):
    """The name of an error's class: a capital, then letters, digits and underscores."""

    max_length: int = 80

    def screen(self, value: object) -> FieldValue | _Refused:
        """The name; a message is none."""
        if not isinstance(value, str) or not 0 < len(value) <= self.max_length:
            return REFUSED
        return value if value[0] in _CAPITALS and _IDENTIFIER.issuperset(value) else REFUSED


class Redacted(Frozen):
    """Free text on one line; what looks like a secret, an absolute path or an e-mail address is out.

    `switch` is the host's environment variable without which none is recorded.
    """

    max_length: int = 1000
    switch: str = ""

    def screen(self, value: object) -> FieldValue | _Refused:
        """The text, redacted once more: the host that did it first may have been an older one."""
        if not isinstance(value, str):
            return REFUSED
        from tallyd.contract.redact import one_line  # noqa: PLC0415 - 2 ms of patterns that few need

        return one_line(value, self.max_length) or REFUSED


class Record(Frozen):
    """A flat object of listed fields, as an item of a list."""

    fields: Mapping[str, FieldType]
    optional: frozenset[str] = frozenset()

    def screen(self, value: object) -> FieldValue | _Refused:
        """The listed fields; REFUSED when a required one is missing or bad."""
        if not isinstance(value, dict):
            return REFUSED
        kept: dict[str, FieldValue] = {}
        for name, listed in self.fields.items():
            one = listed.screen(value.get(name))
            if not isinstance(one, _Refused):
                kept[name] = one
            elif name not in self.optional:
                return REFUSED
        return kept


class List(Frozen):
    """A list of items of one type: good items stay, bad ones and those past the maximum go."""

    of: FieldType
    max_items: int

    def screen(self, value: object) -> FieldValue | _Refused:
        """The good items, in order."""
        if not isinstance(value, list):
            return REFUSED
        kept: list[FieldValue] = []
        for item in value:
            if len(kept) >= self.max_items:
                break
            one = self.of.screen(item)
            if not isinstance(one, _Refused):
                kept.append(one)
        return kept


class Names(Frozen):
    """A map of names to true, such as the flags that were given: never a value."""

    of: FieldType
    max_items: int

    def screen(self, value: object) -> FieldValue | _Refused:
        """The good names that are true, in order."""
        if not isinstance(value, dict):
            return REFUSED
        kept: dict[str, FieldValue] = {}
        for name, is_there in value.items():
            if len(kept) >= self.max_items:
                break
            if is_there is True and self.of.screen(name) == name:
                kept[name] = True
        return kept

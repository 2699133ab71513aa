"""The types of a field, and what each lets through.

A field type is a small frozen object with one method, `screen(value)`: it returns the value as it
may be kept, or REFUSED. It owns the alphabets of wire-v1. It guarantees that a number given to a
bucket, a text outside its alphabet, or a boolean given for an integer is refused. Cutting text is
done only where the contract says `cut = true`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol


class _Refused:
    """The type of REFUSED alone."""


REFUSED: Final = _Refused()

# The alphabets of wire-v1; ASCII on purpose, so that no look-alike or bidirectional text passes.
TOKEN_ALPHABET: Final = frozenset(
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.:+-"
)
LABEL_ALPHABET: Final = TOKEN_ALPHABET | frozenset("/@() ")

# Integers on the wire stay exact in every JSON reader (IEEE 754 doubles hold 53 bits).
MAX_INTEGER: Final = 2**53 - 1

FieldValue = str | int | bool | list[str]


class FieldType(Protocol):
    """What every type of field can do."""

    def screen(self, value: object) -> FieldValue | _Refused:
        """`value` as it may be kept, or REFUSED."""


@dataclass(frozen=True, slots=True)
class Enum:
    """One of a closed list of texts."""

    values: tuple[str, ...]

    def screen(self, value: object) -> FieldValue | _Refused:
        """The value when it is listed."""
        return value if isinstance(value, str) and value in self.values else REFUSED


@dataclass(frozen=True, slots=True)
class Text:
    """Text over one alphabet, 1 to `max_length` characters; longer is cut only when `cut`."""

    alphabet: frozenset[str]
    max_length: int
    cut: bool = False

    def screen(self, value: object) -> FieldValue | _Refused:
        """The text, cut where that is allowed."""
        if not isinstance(value, str) or not value:
            return REFUSED
        if len(value) > self.max_length:
            if not self.cut:
                return REFUSED
            value = value[: self.max_length]
        return value if self.alphabet.issuperset(value) else REFUSED


@dataclass(frozen=True, slots=True)
class Integer:
    """A whole number between two bounds, both included; `true` is no integer."""

    minimum: int = 0
    maximum: int = MAX_INTEGER

    def screen(self, value: object) -> FieldValue | _Refused:
        """The number when it lies within its bounds."""
        if isinstance(value, bool) or not isinstance(value, int):
            return REFUSED
        return value if self.minimum <= value <= self.maximum else REFUSED


@dataclass(frozen=True, slots=True)
class Boolean:
    """True or false, strictly."""

    def screen(self, value: object) -> FieldValue | _Refused:
        """The boolean."""
        return value if isinstance(value, bool) else REFUSED


@dataclass(frozen=True, slots=True)
class Bucket:
    """A number that leaves the host only as the label of the bucket it falls in.

    `edges` ascend; bucket i holds edges[i-1] <= number < edges[i], so there is one label more
    than there are edges.
    """

    edges: tuple[int, ...]
    labels: tuple[str, ...]

    def screen(self, value: object) -> FieldValue | _Refused:
        """The label when it is listed; a raw number is refused, for it should not have come."""
        return value if isinstance(value, str) and value in self.labels else REFUSED


@dataclass(frozen=True, slots=True)
class List:
    """A list of texts of one type: good items stay, bad ones and those past the maximum go."""

    of: FieldType
    max_items: int

    def screen(self, value: object) -> FieldValue | _Refused:
        """The good items, in order."""
        if not isinstance(value, list):
            return REFUSED
        kept = [item for item in map(self.of.screen, value) if isinstance(item, str)]
        return kept[: self.max_items]

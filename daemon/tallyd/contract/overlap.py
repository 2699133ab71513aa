"""What two types of a field have in common.

It owns the order of the types: `overlap(old, new)` lets through only values that both let through
as they are, and equals `new` exactly when `new` is provably the narrower one. The comparison of two
contracts and their intersection rest on this one function, so they cannot disagree.

It knowingly finds nothing in common between a text and an identifier (a UUID, a hash): their values
may fit, but who agreed to a name did not agree to an id. Nor does a closed list stand in for a
registered name, which its host alone can check.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from tallyd.contract.fields import (
    TOKEN_ALPHABET,
    Bucket,
    Enum,
    ErrorClass,
    FieldType,
    Integer,
    List,
    Names,
    Number,
    Record,
    Redacted,
    Text,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


def overlap(old: FieldType, new: FieldType) -> FieldType | None:
    """The type of what both let through as it is; None when nothing is sure to be."""
    match old, new:
        case ((Enum() | Bucket()), (Enum() | Bucket())):
            return _closed(old, new)
        case ((Enum() | Bucket()), (Text() | ErrorClass())):
            return _fitting(old, new)
        case ((Text() | ErrorClass()), (Enum() | Bucket())):
            return _fitting(new, old)
        case Text(), Text():
            alphabet = old.alphabet & new.alphabet
            shortest = min(old.max_length, new.max_length)
            return (
                Text(alphabet, shortest, old.cut and new.cut, old.registered or new.registered)
                if alphabet
                else None
            )
        case ErrorClass(), ErrorClass():
            return ErrorClass(min(old.max_length, new.max_length))
        case Text(), ErrorClass():
            return _class_name(old, new)
        case ErrorClass(), Text():
            return _class_name(new, old)
        case ((Integer() | Number()), (Integer() | Number())):
            return _range(old, new)
        case Redacted(), Redacted():
            if old.switch != new.switch:
                return None
            return Redacted(min(old.max_length, new.max_length), new.switch)
        case List(), List():
            of = overlap(old.of, new.of)
            return List(of, min(old.max_items, new.max_items)) if of is not None else None
        case Names(), Names():
            of = overlap(old.of, new.of)
            return Names(of, min(old.max_items, new.max_items)) if of is not None else None
        case Record(), Record():
            return _record(old, new)
        case _:
            return new if old == new else None


def _closed(old: Enum | Bucket, new: Enum | Bucket) -> FieldType | None:
    """The texts in both lists; a label of two buckets only where it names the same range."""
    if isinstance(old, Bucket) and isinstance(new, Bucket):
        known = set(_ranges(old))
        common = tuple(one[0] for one in _ranges(new) if one in known)
    else:
        texts = frozenset(_texts(old))
        common = tuple(one for one in _texts(new) if one in texts)
    if len(common) == len(_texts(new)):
        return new
    if len(common) == len(_texts(old)):
        return old
    return Enum(common) if common else None


def _texts(closed: Enum | Bucket) -> tuple[str, ...]:
    return closed.values if isinstance(closed, Enum) else closed.labels


def _ranges(bucket: Bucket) -> Iterator[tuple[str, float, float]]:
    bounds = (-math.inf, *bucket.edges, math.inf)
    return zip(bucket.labels, bounds, bounds[1:], strict=False)


def _fitting(closed: Enum | Bucket, free: Text | ErrorClass) -> FieldType | None:
    if isinstance(free, Text) and free.registered:
        return None
    fitting = tuple(one for one in _texts(closed) if free.screen(one) == one)
    if len(fitting) == len(_texts(closed)):
        return closed
    return Enum(fitting) if fitting else None


def _class_name(text: Text, name: ErrorClass) -> FieldType | None:
    if text.registered or not text.alphabet >= TOKEN_ALPHABET:
        return None
    return ErrorClass(min(text.max_length, name.max_length))


def _range(old: Integer | Number, new: Integer | Number) -> FieldType | None:
    low, high = max(old.minimum, new.minimum), min(old.maximum, new.maximum)
    if isinstance(old, Number) and isinstance(new, Number):
        return Number(low, high) if low <= high else None
    low, high = math.ceil(low), math.floor(high)
    return Integer(low, high) if low <= high else None


def _record(old: Record, new: Record) -> FieldType | None:
    """The fields of both; None when one that an agreed item cannot lack is not among them.

    One that either requires is required: an item without it would fall out of the other's list. What
    is new in `new` is not there, as with the fields of an event.
    """
    fields = {
        name: common
        for name, one in old.fields.items()
        if name in new.fields and (common := overlap(one, new.fields[name])) is not None
    }
    if not fields or not old.fields.keys() - old.optional <= fields.keys():
        return None
    return Record(fields, frozenset(old.optional & new.optional & fields.keys()))

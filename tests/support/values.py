"""What a host may give for the fields of a contract, as hypothesis makes it up.

`values(of)` draws for one type: mostly good values, some nearly so, some anything. `given_fields`
draws for all that a contract lists in one place. `keeps` says what a type lets through as it is.
"""

from __future__ import annotations

import string
from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st
from tallyd.contract.fields import (
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

from support.contracts import some

JUNK = st.none() | st.booleans() | st.integers(-6, 101) | st.floats() | st.text(max_size=9)
_CLASSES = st.from_regex(r"[A-Z][A-Za-z0-9_]{0,13}", fullmatch=True)
_HEX = st.text("0123456789abcdef", min_size=8, max_size=8)


def values(of: FieldType) -> st.SearchStrategy[Any]:
    """What a field of this type may be given: mostly good, some nearly so, some anything."""
    good = _good(of)
    return st.one_of(good, good, good, JUNK)


def _good(of: FieldType) -> st.SearchStrategy[Any]:
    match of:
        case Enum():
            return st.sampled_from(of.values)
        case Bucket():
            return st.sampled_from(of.labels)
        case Text():
            return st.text(sorted(of.alphabet), min_size=1, max_size=min(of.max_length, 12) + 1)
        case Integer():
            return st.integers(of.minimum, min(of.maximum, of.minimum + 110))
        case Number():
            top = min(of.maximum, of.minimum + 110)
            return st.floats(of.minimum, top) | st.just(of.minimum) | st.just(of.maximum)
        case Boolean():
            return st.booleans()
        case Uuid():
            return st.uuids().map(str) | st.uuids().map(lambda one: str(one).upper())
        case Hash():
            return _HEX.map(lambda digits: of.prefix + digits * (of.length // 8))
        case ErrorClass():
            return _CLASSES
        case Redacted():
            return st.text(string.ascii_letters + " /.", max_size=of.max_length + 3)
        case List():
            return st.lists(values(of.of), max_size=of.max_items + 2)
        case Names():
            inner = values(of.of).filter(lambda one: isinstance(one, str))
            return st.dictionaries(inner, some(True, True, False), max_size=of.max_items + 2)
        case Record():
            return st.fixed_dictionaries(
                {}, optional={name: values(one) for name, one in of.fields.items()}
            )
    raise AssertionError(of)


def given_fields(*listed: Mapping[str, Field]) -> st.SearchStrategy[dict[str, Any]]:
    """What a host may give for the fields that any of these lists, and one that none does."""
    names = sorted({name for one in listed for name in one})
    kinds = {name: [one[name].type for one in listed if name in one] for name in names}
    given: dict[str, Any] = {
        name: st.one_of([values(one) for one in kinds[name]]) for name in names
    }
    return st.fixed_dictionaries({}, optional={**given, "unlisted": JUNK})


def keeps(of: FieldType, value: Any) -> bool:
    """Whether a type lets this value through as it is, but for what its records require besides.

    Free text need only be short enough: to redact it twice may take out more.
    """
    match of:
        case Redacted():
            return isinstance(value, str) and len(value) <= of.max_length
        case List():
            is_list = isinstance(value, list) and len(value) <= of.max_items
            return is_list and all(keeps(of.of, one) for one in value)
        case Record():
            return isinstance(value, dict) and all(
                name in of.fields and keeps(of.fields[name], one) for name, one in value.items()
            )
        case _:
            kept = of.screen(value)
            return type(kept) is type(value) and kept == value

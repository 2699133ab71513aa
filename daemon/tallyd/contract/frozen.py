"""Frozen: small immutable values with named fields, cheap to define.

    class Point(Frozen):
        x: int
        y: int = 0

What a frozen dataclass is to its user and to a type checker, without its price at start: the standard
library's takes 0.4 ms to define each, and msgspec's Struct 20 ms of imports; `tallyd status` defines
sixty (docs/decisions.md). Equal when of one type with equal fields; hashable when the fields are.
"""

from __future__ import annotations

from typing import Any, ClassVar, NoReturn, TypeVar, dataclass_transform


@dataclass_transform(frozen_default=True)
class Frozen:
    """The base of every such value: annotated names are its fields, in order, with their defaults."""

    _fields: ClassVar[tuple[str, ...]] = ()
    _defaults: ClassVar[dict[str, Any]] = {}

    def __init_subclass__(cls) -> None:
        own = cls.__annotations__
        cls._fields = (*cls._fields, *own)
        cls.__match_args__ = cls._fields  # type: ignore[misc, attr-defined]  # mypy has made its own by now
        cls._defaults = cls._defaults | {
            name: cls.__dict__[name] for name in own if name in cls.__dict__
        }

    def __init__(self, *values: Any, **named: Any) -> None:
        fields = self._fields
        if values:
            given = dict(zip(fields, values, strict=False))
            if len(values) > len(fields) or given.keys() & named.keys():
                raise TypeError(f"{type(self).__name__}: too many values, or one given twice")
            named |= given
        if len(named) != len(fields) or named.keys() - fields:
            named = self._defaults | named
            if named.keys() != set(fields):
                wrong = ", ".join(sorted(named.keys() ^ set(fields)))
                raise TypeError(f"{type(self).__name__}: missing or unknown: {wrong}")
        self.__dict__.update(named)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} is immutable: {name} cannot be set")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} is immutable: {name} cannot be removed")

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self.__dict__ == other.__dict__

    def __hash__(self) -> int:
        return hash((type(self), *(self.__dict__[name] for name in self._fields)))

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={self.__dict__[name]!r}" for name in self._fields)
        return f"{type(self).__name__}({fields})"

    def as_dict(self) -> dict[str, Any]:
        """Its fields by name, in order; what they hold stays as it is."""
        return {name: self.__dict__[name] for name in self._fields}


_AnyFrozen = TypeVar("_AnyFrozen", bound=Frozen)


def replace(value: _AnyFrozen, **changes: Any) -> _AnyFrozen:
    """The same with these fields changed. Raises TypeError for a field that it does not have."""
    return type(value)(**{**value.as_dict(), **changes})

"""A cursor over one table of a TOML file that knows where it stands.

It owns the checks that every table shares: a key is there, has the right type, and no key is left
that the grammar does not know. Each failure is a ContractError with file, line, key and a hint.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, time
from typing import NoReturn

from tallyd.contract.errors import ContractError
from tallyd.contract.locate import line_of

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)", re.ASCII)
# A value longer than this is not shown whole in a message.
_SHOWN_MAX_CHARS = 80
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
# Control, format (bidirectional marks among them), private and unassigned characters, line breaks.
_UNPRINTED = ("Cc", "Cf", "Co", "Cn", "Zl", "Zp")


class Table:
    """One TOML table: `values` as tomllib gave them, `path` from the root of `file`."""

    def __init__(
        self, file: str, source: str, path: tuple[str, ...], values: Mapping[str, object]
    ) -> None:
        self.file = file
        self.source = source
        self.path = path
        self.values = values
        self._read: set[str] = set()

    def fail(self, key: str, problem: str, hint: str = "") -> NoReturn:
        """Raise the ContractError for `key` of this table ("" for the table itself)."""
        path = (*self.path, key) if key else self.path
        raise ContractError(
            self.file, line_of(self.source, path), ".".join(path), problem, hint
        ) from None

    def _get(self, key: str) -> object:
        self._read.add(key)
        return self.values.get(key)

    def _plain(self, key: str, text: str) -> None:
        """Refuse what a terminal would not show as it stands: these texts are printed to people."""
        if text.isascii() and text.isprintable():
            return
        import unicodedata  # noqa: PLC0415 - a megabyte of tables that few texts need

        for character in text:
            if unicodedata.category(character) in _UNPRINTED:
                self.fail(key, "holds a control character", "write one line of plain text")

    def _required(self, key: str, what: str) -> object:
        value = self._get(key)
        if value is None:
            from difflib import get_close_matches  # noqa: PLC0415 - 1 ms that only a mistake needs

            # Misspelt, most often.
            meant = get_close_matches(key, [one for one in self.values if one not in self._read], 1)
            meanwhile = f", or is {meant[0]!r} meant to be it?" if meant else ""
            self.fail(key, "is missing", f"write {what}{meanwhile}")
        return value

    def text(self, key: str, default: str | None = None) -> str:
        """A non-empty text; `default` when absent, and an error when there is none."""
        value = self._get(key) if default is not None else self._required(key, 'a text, like "…"')
        if value is None:
            return default if default is not None else ""
        if not isinstance(value, str) or (not value and default is None):
            self.fail(key, f"{_shown(value)} is not a text", 'write it in quotes, like "…"')
        self._plain(key, value)
        return value

    def matching(self, key: str, pattern: str, what: str) -> str:
        """A text that matches `pattern` whole; `what` says so in words."""
        value = self.text(key)
        if re.fullmatch(pattern, value, re.ASCII) is None:
            self.fail(key, f"{_shown(value)} is not {what}", f"it must match {pattern}")
        return value

    def integer(self, key: str, default: int | None = None, *, low: int, high: int) -> int:
        """A whole number between `low` and `high`, both included."""
        value = self._get(key) if default is not None else self._required(key, "a whole number")
        if value is None and default is not None:
            return default
        if isinstance(value, bool) or not isinstance(value, int):
            self.fail(key, f"{_shown(value)} is not a whole number", "write it without quotes")
        if not low <= value <= high:
            self.fail(
                key, f"{_shown(value)} is out of range", f"write a number from {low} to {high}"
            )
        return value

    def number(self, key: str, default: float, *, low: float, high: float) -> float:
        """A number, whole or not, between `low` and `high`, both included."""
        value = self._get(key)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.fail(key, f"{_shown(value)} is not a number", "write it without quotes")
        if not low <= value <= high:
            self.fail(
                key, f"{_shown(value)} is out of range", f"write a number from {low} to {high}"
            )
        return value

    def boolean(self, key: str, *, default: bool) -> bool:
        """True or false."""
        value = self._get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            self.fail(
                key, f"{_shown(value)} is neither true nor false", "write true or false, unquoted"
            )
        return value

    def choice(self, key: str, default: str, choices: tuple[str, ...]) -> str:
        """One of `choices`."""
        value = self._get(key)
        if value is None:
            return default
        if value not in choices:
            listed = ", ".join(f'"{one}"' for one in choices)
            self.fail(key, f"{_shown(value)} is not known", f"write one of {listed}")
        return str(value)

    def duration_s(self, key: str, default: str, *, low_s: float, high_s: float) -> float:
        """A length of time such as "6h" or "1500ms", in seconds."""
        value = self._get(key)
        value = default if value is None else value
        match = _DURATION.fullmatch(value) if isinstance(value, str) else None
        if match is None:
            self.fail(
                key,
                f"{_shown(value)} is not a length of time",
                'write a number and a unit, like "6h" (ms, s, m, h or d)',
            )
        seconds = float(match[1]) * _SECONDS[match[2]]
        if not low_s <= seconds <= high_s:
            self.fail(
                key,
                f"{_shown(value)} is out of range",
                f'write "{_duration(low_s)}" to "{_duration(high_s)}"',
            )
        return seconds

    def texts(self, key: str, default: tuple[str, ...] | None = None) -> tuple[str, ...]:
        """A list of distinct, non-empty texts."""
        value = self._get(key) if default is not None else self._required(key, "a list of texts")
        if value is None and default is not None:
            return default
        if not isinstance(value, list) or not all(isinstance(one, str) and one for one in value):
            self.fail(key, "is not a list of texts", 'write it like ["one", "two"]')
        if len(set(value)) != len(value):
            self.fail(key, "names something twice", "write each text once")
        for one in value:
            self._plain(key, one)
        return tuple(value)

    def integers(self, key: str) -> tuple[int, ...]:
        """A list of whole numbers."""
        value = self._required(key, "a list of numbers")
        if not isinstance(value, list) or not all(type(one) is int for one in value):
            self.fail(key, "is not a list of whole numbers", "write it like [100, 1000]")
        return tuple(value)

    def table(self, key: str, *, required: bool = False) -> Table:
        """The table under `key`, empty when absent and not required."""
        value = self._get(key)
        if value is None:
            if required:
                dotted = ".".join((*self.path, key))
                self.fail(key, "is missing", f"write a table [{dotted}]")
            value = {}
        if not isinstance(value, Mapping):
            self.fail(key, f"{_shown(value)} is not a table", "write it as a table")
        return Table(self.file, self.source, (*self.path, key), value)

    def tables(self, key: str) -> list[Table]:
        """Each table of a list of tables under `key`; none when absent."""
        value = self._get(key)
        if value is None:
            return []
        if not isinstance(value, list) or not all(isinstance(one, Mapping) for one in value):
            self.fail(key, "is not a list of tables", "write it like [{ … }]")
        return [Table(self.file, self.source, (*self.path, key), one) for one in value]

    def names_or_tables(self, key: str) -> list[str | Table]:
        """Each item of a list of texts and tables."""
        value = self._required(key, "a list of texts")
        is_good = isinstance(value, list) and all(
            isinstance(one, Mapping) or (isinstance(one, str) and one) for one in value
        )
        if not isinstance(value, list) or not is_good:
            self.fail(key, "is not a list of texts", 'write it like ["one", "two"]')
        path = (*self.path, key)
        return [
            one if isinstance(one, str) else Table(self.file, self.source, path, one)
            for one in value
        ]

    def named_tables(self, *, name_pattern: str, what: str) -> list[tuple[str, Table]]:
        """Every entry as (name, table), in the order of the file; each name must match."""
        for name in self.values:
            if re.fullmatch(name_pattern, name, re.ASCII) is None:
                self.fail(
                    name, f"{_shown(name)} is no name for {what}", f"it must match {name_pattern}"
                )
        return [(name, self.table(name)) for name in self.values]

    def finish(self) -> None:
        """Refuse any key that nobody asked for."""
        for key in self.values:
            if key not in self._read:
                known = ", ".join(sorted(self._read))
                self.fail(key, "is not known here", f"known keys: {known}")


def _duration(seconds: float) -> str:
    """Seconds as a contract would write them, in the largest unit that makes a whole number."""
    whole = ((unit, seconds / one) for unit, one in reversed(_SECONDS.items()))
    return next((f"{n:g}{unit}" for unit, n in whole if n >= 1 and n == int(n)), f"{seconds:g}s")


def _shown(value: object) -> str:
    """`value` as a message may show it: short, whatever it is."""
    if isinstance(value, Mapping):
        # Never its content: a key of a thousand parts nests as many tables.
        return "a table"
    if isinstance(value, list):
        # A table written as one of several, most often.
        return "a list"
    if isinstance(value, date | time):
        return value.isoformat()
    try:
        text = repr(value)
    except (ValueError, RecursionError):
        # A number of thousands of digits, or lists nested as deep.
        return "the value"
    return text if len(text) <= _SHOWN_MAX_CHARS else f"{text[:_SHOWN_MAX_CHARS]}…"

"""What commands are made of: a command as a value, and the arguments that several share."""

from __future__ import annotations

from argparse import ArgumentTypeError
from typing import Any

from tallyd.contract.frozen import Frozen

# What a value completes to is told by its metavar: PRODUCT, FILE, CONTRACT (either), and its choices.
SHELLS = ("bash", "zsh", "fish")
PRODUCT: dict[str, Any] = {"metavar": "PRODUCT", "help": "a registered product"}
MAYBE_PRODUCT: dict[str, Any] = {**PRODUCT, "nargs": "?"}
ALL: dict[str, Any] = {"action": "store_true"}
CONTRACT: dict[str, Any] = {
    "metavar": "CONTRACT",
    "help": "a contract's file, or a registered product",
}
OUTPUT: dict[str, Any] = {"dest": "output", "metavar": "FILE", "help": "write it there"}
CHECK: dict[str, Any] = {
    "action": "store_true",
    "help": "write nothing; exit 1 when the file is not as it would be written",
}
DRY_RUN: dict[str, Any] = {
    "action": "store_true",
    "help": "change nothing, and say what would be done",
}
JSON: dict[str, Any] = {"action": "store_true", "help": "print JSON"}


# Faster than anybody reads, slower than it changes.
_INTERVAL_S = (0.1, 86400.0)


class Command(Frozen):
    """A command: its words, what it does, an example, and argparse's words for each argument.

    The `flags` of an argument are other names of it.
    """

    words: str
    summary: str
    example: str
    arguments: dict[str, dict[str, Any]]


def count(text: str) -> int:
    """A whole number from 1 on. Raises ValueError."""
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def interval_s(text: str) -> float:
    """The seconds of `--watch`. Raises what argparse turns into wrong usage."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not _INTERVAL_S[0] <= seconds <= _INTERVAL_S[1]:
        raise ArgumentTypeError(
            f"{text!r} is no number of seconds from {_INTERVAL_S[0]:g} to {_INTERVAL_S[1]:g};"
            " a product's name comes before --watch"
        )
    return seconds

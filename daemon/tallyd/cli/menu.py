"""The question which of a product's modes it is to be, asked on a terminal.

A bare Enter, and the end of the input, are no answer, and nothing is chosen for anybody.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from tallyd.cli.output import say
from tallyd.state_file import USER_MAX_CHARS

if TYPE_CHECKING:
    from tallyd.contract import Contract

_MENU_TRIES = 3
MODE_TEXTS = {
    "off": "nothing is collected",
    "on": "usage data is collected, as the contract lists it",
    "anonymous": "usage data is collected, under no lasting id",
    "identified": "usage data is collected, under an id that you give",
}


def ask(contract: Contract) -> tuple[str | None, str]:
    """The mode and the user's id; (None, "") when there was no answer."""
    modes = contract.consent.modes or ("off", "on")
    say(f"{contract.title}: {contract.about or 'usage data'}\nDetails: {contract.details}\n")
    for place, mode in enumerate(modes, 1):
        say(f"  [{place}] {mode}: {MODE_TEXTS[mode]}")
    say("  [q] quit: decide later; until then everything stays as it is")
    for _ in range(_MENU_TRIES):
        answer = _line("Your choice: ")
        # Enter alone, or the end of the input, is no answer.
        if answer in (None, "", "q", "quit"):
            return None, ""
        named: dict[str, str] = {one: one for one in modes}
        named |= {str(place): one for place, one in enumerate(modes, 1)}
        chosen = named.get(str(answer).lower())
        if chosen is not None:
            return _with_user(chosen)
        say(f"{answer!r} is none of them")
    return None, ""


def _with_user(mode: str) -> tuple[str | None, str]:
    if mode != "identified":
        return mode, ""
    user = _line("Your user id: ")
    if user and user.isprintable() and len(user) <= USER_MAX_CHARS:
        return mode, user
    # Not the next best mode: nobody said yes to that one.
    say("That is no user id.")
    return None, ""


def _line(question: str) -> str | None:
    say(question, end="")
    line = sys.stdin.readline()
    return line.strip() if line else None

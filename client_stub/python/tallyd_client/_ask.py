"""The question at a terminal: off, on, or in which way; asked once, answered by a person.

It owns the menu and what counts as an answer. It guarantees that nothing is stored and nothing goes
on by a bare Enter, an end of input or an interrupt, that nobody is asked who has chosen, and that
all it prints goes to stderr. Loaded when a host asks.
"""

import time

from tallyd_client import _storing
from tallyd_client._cells import calls_of, new_cell

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TextIO

    from tallyd_client import Client
    from tallyd_client._policy import Policy

_TIMES = 3
_SAYINGS = {
    "off": "nothing is collected",
    "on": "usage data is collected, as the contract lists it",
    "anonymous": "usage data is collected, under no lasting id",
    "identified": "usage data is collected, under an id that you give",
}
# A name or a number in some register; more is no id of anybody's.
_USER_MAX_CHARS = 256


def ask(client: "Client", stdin: "TextIO", stderr: "TextIO", again: bool) -> "str | None":
    """Ask and store; what was chosen, or None when nothing was."""
    policy = client._policy
    if policy is None or not (stdin.isatty() and stderr.isatty()):
        return None
    stored = policy.stored()
    # Where a variable or a policy file says off, an answer would change nothing.
    if policy.verdict() is False or (stored.choice in ("on", "off") and not again):
        return None
    if stored.choice == "damaged":
        _say(
            stderr, "%s is damaged, so nothing is collected; mend or remove it." % policy.state_file
        )
        return None
    choice, user = _answer(policy, stdin, stderr)
    if choice is None:
        return None
    if not _storing.store(policy, choice, user):
        _say(stderr, "That could not be written to %s; nothing was changed." % policy.state_file)
        return None
    if choice != "off":
        # The choice is older than what counts from now on, by a millisecond at least.
        time.sleep(0.002)
    _begin_anew(client)
    return choice


def _begin_anew(client: "Client") -> None:
    """Somebody chose just now: what was counted before goes nowhere, and a new window begins."""
    with client._draining:
        client._settle(
            [one for source in list(client._sources) for one in source.fresh()],
            {one: calls_of(cell) - client._lost_marks[one] for one, cell in client._lost.items()},
        )
        client._events.clear()
        client._is_off, client._seen, client._window_began = False, None, time.time()
        # A bound counter that counted before told of its first count then.
        has_begun = calls_of(client._first) > 0
        client._first = new_cell()
    if has_begun and not client._has_thread:
        client._begin()


def _answer(policy: "Policy", stdin: "TextIO", stderr: "TextIO") -> "tuple[str | None, str]":
    choices = _choices(policy)
    _say(stderr, "%s: %s" % (policy.title, policy.notice))
    for number, choice in enumerate(choices, 1):
        _say(stderr, "  [%d] %s: %s" % (number, choice, _SAYINGS[choice]))
    _say(stderr, "  [q] quit: decide later; until then everything stays as it is")
    if policy.details and policy.details not in policy.notice:
        _say(stderr, "What it is about: %s" % policy.details)
    for _ in range(_TIMES):
        said = _line("Your choice: ", stdin, stderr).lower()
        if said in ("", "q", "quit"):
            return None, ""
        for number, choice in enumerate(choices, 1):
            if said in (str(number), choice):
                return _with_user(choice, stdin, stderr)
        _say(stderr, "Please answer with one of %s, q." % ", ".join(map(str, range(1, number + 1))))
    return None, ""


def _choices(policy: "Policy") -> "list[str]":
    if not policy.modes:
        return ["off", "on"]
    # Without a place for the user's id nobody can be identified.
    return [one for one in policy.modes if one != "identified" or "user" in policy.keys]


def _with_user(choice: str, stdin: "TextIO", stderr: "TextIO") -> "tuple[str | None, str]":
    if choice != "identified":
        return choice, ""
    user = _line("Your user id: ", stdin, stderr)
    if not user or not user.isprintable() or len(user) > _USER_MAX_CHARS:
        # Not the next best mode: nobody said yes to that one.
        _say(stderr, "That is no user id; nothing was chosen.")
        return None, ""
    return choice, user


def _line(prompt: str, stdin: "TextIO", stderr: "TextIO") -> str:
    """What the user typed; "" when that was nothing, or the end."""
    stderr.write(prompt)
    stderr.flush()
    said: "Any" = stdin.readline()
    if not said.endswith("\n"):
        # The end of input leaves the cursor behind the prompt.
        stderr.write("\n")
        return ""
    return str(said).strip()


def _say(stderr: "TextIO", line: str) -> None:
    stderr.write("%s\n" % line)
    stderr.flush()

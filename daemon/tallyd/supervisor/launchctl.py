"""What launchctl says, understood: the block that `print` shows, the disabled ones, each known refusal.

None of it is an interface: "do NOT rely on the structure", says its manual. So it is read leniently, a
line that is not known is passed over, and what cannot be told is told as unknown. The texts and codes
are from reports of others, listed in docs/decisions.md; they were not seen by us on a Mac.
"""

from __future__ import annotations

import re
import shlex
from enum import Enum, auto
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tallyd.supervisor.steps import Done

LOGIN_ITEMS = "System Settings > General > Login Items"

_EX_CONFIG = 78
_CODE = re.compile(r"failed: (\d+): ")


class Refusal(Enum):
    """Why launchctl did not do what it was asked to, as far as it says."""

    NOT_LOADED = auto()
    NO_DOMAIN = auto()
    DISABLED = auto()
    BAD_PERMISSIONS = auto()
    BUSY = auto()
    WRONG_SESSION = auto()
    BAD_FILE = auto()
    QUARANTINED = auto()
    NOT_PERMITTED = auto()
    # "5: Input/output error" is said for most of the above.
    UNSPECIFIC = auto()
    UNKNOWN = auto()


# Words first: the codes of older systems are other ones, the words are the same.
_WORDS = {
    "Could not find domain": Refusal.NO_DOMAIN,
    "Could not find specified domain": Refusal.NO_DOMAIN,
    "Domain does not support specified action": Refusal.NO_DOMAIN,
    "Domain is tearing down": Refusal.NO_DOMAIN,
    "Could not find service": Refusal.NOT_LOADED,
    "Could not find specified service": Refusal.NOT_LOADED,
    "No such process": Refusal.NOT_LOADED,
    "ervice is disabled": Refusal.DISABLED,
    "bad ownership/permissions": Refusal.BAD_PERMISSIONS,
    "Operation already in progress": Refusal.BUSY,
    "Operation now in progress": Refusal.BUSY,
    "already bootstrapped": Refusal.BUSY,
    "cannot load in requested session": Refusal.WRONG_SESSION,
    "Invalid property list": Refusal.BAD_FILE,
    "Program/ProgramArguments": Refusal.BAD_FILE,
    "quarantined": Refusal.QUARANTINED,
    "Operation not permitted": Refusal.NOT_PERMITTED,
    "Not privileged": Refusal.NOT_PERMITTED,
    "Input/output error": Refusal.UNSPECIFIC,
}
_CODES = {
    1: Refusal.NOT_PERMITTED,
    3: Refusal.NOT_LOADED,
    5: Refusal.UNSPECIFIC,
    17: Refusal.BUSY,
    36: Refusal.BUSY,
    37: Refusal.BUSY,
    109: Refusal.BAD_FILE,
    111: Refusal.BAD_FILE,
    112: Refusal.NO_DOMAIN,
    113: Refusal.NOT_LOADED,
    119: Refusal.DISABLED,
    122: Refusal.BAD_PERMISSIONS,
    124: Refusal.NO_DOMAIN,
    125: Refusal.NO_DOMAIN,
    134: Refusal.WRONG_SESSION,
    150: Refusal.NOT_PERMITTED,
    155: Refusal.QUARANTINED,
}


def refusal(done: Done) -> Refusal:
    """Why a command was refused, by its words, else by the code in them, else by how it ended."""
    said = f"{done.err}\n{done.out}"
    for words, why in _WORDS.items():
        if words in said:
            return why
    named = _CODE.search(said)
    return _CODES.get(int(named[1]) if named else done.code, Refusal.UNKNOWN)


def fields(printed: str) -> dict[str, str]:
    """The `name = value` lines of what `print` shows of a service, not those of the blocks in it."""
    found: dict[str, str] = {}
    depth = 0
    for line in printed.splitlines():
        text = line.strip()
        if text.endswith("{"):
            depth += 1
        elif text == "}":
            depth -= 1
        elif depth == 1:
            name, is_one, value = text.partition(" = ")
            if is_one:
                found.setdefault(name, value)
    return found


def number(text: str | None) -> int | None:
    """The number that a value begins with ("78: EX_CONFIG"); None where it begins with none."""
    found = re.match(r"-?\d{1,9}", text or "", re.ASCII)
    return int(found[0]) if found else None


def how_it_ended(seen: Mapping[str, str]) -> str:
    """The last end of a service, of which `seen` are the fields: "success", words, or "" for none."""
    said = seen.get("last exit code", "")
    code = number(said)
    if code == 0:
        return "success"
    if code == _EX_CONFIG:
        # Ours never ends so under launchd.
        return f"{said}: launchd could not start it; is its program there, and ~/Library/Logs writable?"
    by = seen.get("last terminating signal", "")
    return f"ended by {by}" if by else f"ended with {said}" if code is not None else ""


def is_disabled(printed: str, label: str) -> bool:
    """Whether `print-disabled` names it as disabled; `true` is how macOS said so before version 13."""
    line = rf'^\s*"{re.escape(label)}" => (disabled|true)\s*$'
    return re.search(line, printed, re.MULTILINE) is not None


def first_line(done: Done) -> str:
    """What a command said first; the second line advises root, which has another session."""
    return (done.err or done.out or f"it ended with {done.code}").splitlines()[0].rstrip(".")


def in_words(why: Refusal, target: str, file: Path) -> tuple[str, str]:
    """What a refusal to `target` (`domain/label`) means, and what to do; "" where nobody knows."""
    domain = target.rpartition("/")[0]
    quoted = shlex.quote(str(file))
    anew = '"tallyd service install" writes it anew'
    return {
        Refusal.NO_DOMAIN: (
            f"launchd has no session {domain} that takes agents",
            "log in at this Mac's screen as yourself, without sudo or su, and try again. Over ssh alone"
            ' "tallyd service install" makes an agent for any login. If you are at the screen, see whether'
            f' it is switched off in {LOGIN_ITEMS}. "tallyd run" works everywhere',
        ),
        Refusal.DISABLED: (
            f"launchd has {target} switched off",
            f"switch it on in {LOGIN_ITEMS}, or: launchctl enable {target}; then try again",
        ),
        Refusal.BAD_PERMISSIONS: (
            f"launchd does not trust {file}",
            f"it must be yours, and nobody else's to write: chown $(id -u) {quoted}; chmod 644 {quoted}."
            " On a disk other than the system's, ownership must not be ignored",
        ),
        Refusal.BUSY: ("launchd is not done with the tallyd before", "try again in ten seconds"),
        Refusal.NOT_LOADED: (f"launchd has not loaded {target}", '"tallyd service start"'),
        Refusal.WRONG_SESSION: (f"the agent is not for {domain}", anew),
        Refusal.BAD_FILE: (f"launchd cannot use {file}", anew),
        Refusal.QUARANTINED: (
            "macOS keeps that Python in quarantine",
            'install tallyd again with "uv tool install tallyd"',
        ),
        Refusal.NOT_PERMITTED: (
            "launchd does not let you do this",
            "do it as yourself, without sudo, and not for another user",
        ),
        Refusal.UNSPECIFIC: (
            "launchd did not take the agent, and does not say why",
            f"try again in ten seconds; if that does not help: plutil -lint {quoted}; and look into"
            " its log: log show --last 5m --predicate 'process == \"launchd\"'",
        ),
    }.get(why, ("", ""))

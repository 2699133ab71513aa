"""Every exit code there is, once: its number, the commands that end with it, and what it means.

The numbers are sysexits.h's, and for `status` those of LSB and systemctl. README's table and the man
page are compared with this one; the gateway, which imports nothing of the daemon but the contract,
repeats its own five, and a test compares them too. Knows nothing of who raises what.
"""

from __future__ import annotations

from typing import Final

from tallyd.contract.frozen import Frozen

DONE: Final = 0
# `doctor`, `contract check`, `diff` and each `--check`.
FOUND: Final = 1
# `status`: 1 and 2 are LSB's for a dead process with a file left behind, which a lock never is.
NOT_RUNNING: Final = 3
NEVER_SET_UP: Final = 4
USAGE: Final = 64
UNAVAILABLE: Final = 69
BUG: Final = 70
STATE: Final = 73
OUTPUT: Final = 74
TRY_AGAIN: Final = 75
# A daemon under a supervisor, whose own files were replaced: start me again.
REPLACED: Final = 76
REFUSED: Final = 77
CONFIG: Final = 78
INTERRUPTED: Final = 130

# After these another start would mend nothing: wrong usage, a wrong setting.
NO_RESTART: Final = (USAGE, CONFIG)


class Exit(Frozen):
    """One code; `of` are the words of commands, empty for every command."""

    code: int
    of: tuple[str, ...]
    means: str


TABLE: Final = (
    Exit(
        DONE,
        (),
        "done; of `tallyd status`: the daemon runs, or waits for a drop; of `--watch`: Ctrl-C ended it",
    ),
    Exit(
        FOUND,
        (
            *("doctor", "contract check", "contract diff"),
            *("contract docs", "contract schema", "contract build"),
        ),
        "something to mend, wider under the same schema_version, or not as `--check` would write it",
    ),
    Exit(NOT_RUNNING, ("status", "service status"), "the daemon does not run"),
    Exit(
        NEVER_SET_UP,
        ("status", "service status", "service logs"),
        "nothing was ever set up, no service is installed, or nothing was logged",
    ),
    Exit(USAGE, (), "wrong usage"),
    Exit(
        UNAVAILABLE,
        ("demo", "service"),
        "something is not installed; there is neither systemd nor launchd",
    ),
    Exit(BUG, (), "a bug of tallyd: please tell of it"),
    Exit(STATE, (), "the state directory or a database cannot be used"),
    Exit(OUTPUT, (), "the output cannot be written"),
    Exit(TRY_AGAIN, (), "try again: another tallyd runs"),
    Exit(
        REPLACED,
        ("run",),
        "its installation was replaced: whoever supervises it starts the new one",
    ),
    Exit(REFUSED, ("service",), "the system refuses permission"),
    Exit(CONFIG, (), "a contract or a setting is wrong, or no contract is registered"),
    Exit(INTERRUPTED, (), "interrupted"),
)

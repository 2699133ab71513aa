"""The launchd agent, as a property list.

It owns every key of it, and how an agent of ours is known again: plistlib writes no comments, so the
label, the file's name and the command line (`… -m tallyd run … --agent`) are the sign. launchd expands
neither `~` nor variables: all paths are absolute. What it has no key for stays with the daemon: it ends
with 0 where another start would mend nothing, and keeps the log small. QueueDirectories is not used: a
file that cannot be removed would start the daemon again and again.
"""

from __future__ import annotations

import os
import re
import stat
import zlib
from typing import TYPE_CHECKING

from tallyd.errors import refused
from tallyd.files import NO_TRAPS
from tallyd.limits import AGENT_MAX_BYTES
from tallyd.paths import home_of
from tallyd.supervisor.supervision import Installed

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tallyd.supervisor.recipe import Recipe

SUPERVISOR = "launchd"
LABEL = "dev.tallyd.daemon"
FILE = f"{LABEL}.plist"
# The session an agent is for: somebody at the screen, or any login of the user's, ssh too.
DESKTOP, ANY_LOGIN = "Aqua", "Background"

_LOG = ("Library", "Logs", "tallyd.log")
_OURS = ("-m", "tallyd", "run")


def log_file(home: Path) -> Path:
    """Where the agent logs to, as every other of this user's."""
    return home.joinpath(*_LOG)


def render(recipe: Recipe) -> bytes:
    """The property list, in XML."""
    import plistlib  # noqa: PLC0415 - 10 ms and more, which `status` is to pay only where it needs it

    rendered = plistlib.dumps(_keys(recipe), sort_keys=False)
    # Indented by spaces: what is printed for a person shows a tab as a sign. No value has a line of its own.
    return re.sub(rb"(?m)^\t+", lambda tabs: b"  " * len(tabs[0]), rendered)


def _keys(recipe: Recipe) -> dict[str, object]:
    log = str(log_file(recipe.home))
    how = ["--on-demand"] if recipe.is_on_demand else []
    keys: dict[str, object] = {
        "Label": LABEL,
        "ProgramArguments": [*recipe.command, "run", *how, "--agent", "--log-file", log],
    }
    if recipe.environ:
        keys["EnvironmentVariables"] = dict(recipe.environ)
    keys |= {
        "WorkingDirectory": "/",
        # One session, so that no login starts two: both would find the same lock.
        "LimitLoadToSessionType": DESKTOP if recipe.has_desktop else ANY_LOGIN,
        "RunAtLoad": True,
        # A crash and an upgrade (EXIT_RESTART) are started again; whoever ends with 0 meant it.
        "KeepAlive": {"SuccessfulExit": False},
        "ThrottleInterval": 15,
        # An orderly stop takes a tenth of a second.
        "ExitTimeOut": 5,
        # A guest on this machine: last in line for the processor and the disk.
        "ProcessType": "Background",
        "LowPriorityIO": True,
        "LowPriorityBackgroundIO": True,
        "Nice": 10,
        # A number in decimal: 0077. The daemon's memory is nobody's to find in a core file.
        "Umask": 0o077,
        "SoftResourceLimits": {"Core": 0},
        "HardResourceLimits": {"Core": 0},
        # The file that the daemon opens, too: a traceback before it does so is not lost.
        "StandardErrorPath": log,
    }
    if recipe.is_on_demand:
        keys |= _triggers(recipe)
    return keys


def _triggers(recipe: Recipe) -> dict[str, object]:
    """What starts it on demand: a change in the spool, and the clock for what the watch misses."""
    spool = recipe.state / "spool"
    watched = [spool, *(spool / product / "new" for product in recipe.products)]
    # launchd spreads no starts; the minute of each machine is its own, and the same in each rendering.
    minute = zlib.crc32(os.fsencode(recipe.state)) % 60
    return {
        "WatchPaths": [str(one) for one in watched],
        # By the calendar, not by an interval: what a sleeping machine missed is started when it wakes.
        "StartCalendarInterval": [{"Hour": hour, "Minute": minute} for hour in (0, 6, 12, 18)],
    }


# --- an agent read back ---------------------------------------------------------------------------


def keys_of(content: bytes) -> dict[str, object]:
    """The keys of a property list; none of anything else."""
    import plistlib  # noqa: PLC0415 - as above
    from xml.parsers.expat import ExpatError  # noqa: PLC0415

    try:
        found = plistlib.loads(content)
    except (ExpatError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        return {}
    except (RecursionError, MemoryError, plistlib.InvalidFileException):
        return {}
    return found if isinstance(found, dict) else {}


def command_of(keys: dict[str, object]) -> tuple[str, ...]:
    """The command line that an agent starts; () where it is none."""
    return _strings(keys.get("ProgramArguments"))


def environ_of(keys: dict[str, object]) -> tuple[tuple[str, str], ...]:
    """What an agent tells the daemon's environment, as far as it is text."""
    told = keys.get("EnvironmentVariables")
    if not isinstance(told, dict):
        return ()
    return tuple((str(name), value) for name, value in told.items() if isinstance(value, str))


def _strings(found: object) -> tuple[str, ...]:
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        return ()
    return tuple(found)


def is_ours(keys: dict[str, object]) -> bool:
    """Whether an agent is what `render` makes, of whatever version and with whatever else in it."""
    command = command_of(keys)
    at = next((at for at in range(len(command)) if command[at : at + 3] == _OURS), None)
    return keys.get("Label") == LABEL and at is not None and "--agent" in command[at:]


def is_on_demand(keys: dict[str, object]) -> bool:
    """Whether it is started for what was dropped, and leaves."""
    return "--on-demand" in command_of(keys)


def is_for_desktop(keys: dict[str, object]) -> bool:
    """Whether it is loaded for somebody at the screen, as every agent that does not say otherwise."""
    return keys.get("LimitLoadToSessionType", DESKTOP) != ANY_LOGIN


def directory(environ: Mapping[str, str]) -> Path:
    """Where the user's own agents lie. Raises StateUnusable without a home."""
    return home_of(environ) / "Library" / "LaunchAgents"


def installed_in(where: Path) -> Installed | None:
    """The agent in a directory, as a file; None when there is none. Raises StateUnusable."""
    file = where / FILE
    content = read(file)
    if content is None:
        return None
    keys = keys_of(content)
    return Installed(
        supervisor=SUPERVISOR,
        file=file,
        command=command_of(keys),
        is_ours=is_ours(keys) and not file.is_symlink(),
        is_on_demand=is_on_demand(keys),
        has_sandbox=False,
        text=content.decode("utf-8", "replace"),
        watches=_strings(keys.get("WatchPaths")),
        environ=environ_of(keys),
    )


def read(file: Path) -> bytes | None:
    """What stands in an agent's file, b"" where that is no small file; None where nothing is."""
    try:
        # A link is followed, as launchd does; a pipe is not waited for.
        descriptor = os.open(file, os.O_RDONLY | NO_TRAPS & ~getattr(os, "O_NOFOLLOW", 0))
    except (FileNotFoundError, NotADirectoryError):
        return b"" if file.is_symlink() else None
    except OSError as error:
        raise refused(f"{file} cannot be read", error) from error
    with os.fdopen(descriptor, "rb") as opened:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode) or about.st_size > AGENT_MAX_BYTES:
            return b""
        return opened.read(AGENT_MAX_BYTES)

"""What a service command sees to before and after: whose command it is, who holds the lock, what this shell says."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from tallyd.cli.output import say
from tallyd.errors import AlreadyRunning, NotAllowed
from tallyd.limits import TAKE_OVER_S

if TYPE_CHECKING:
    from tallyd.paths import Paths
    from tallyd.product import Surroundings
    from tallyd.supervisor import Supervisor

# How often a command looks whether the lock is free, in seconds.
_LOOK_S = 0.05


def not_as_root_for_another() -> None:
    """Keep `sudo tallyd service install` from installing for root what a user wanted for himself."""
    behind = os.environ.get("SUDO_UID", "")
    if hasattr(os, "getuid") and os.getuid() == 0 and behind not in ("", "0"):
        raise NotAllowed(
            "tallyd runs as yourself, and this is root by sudo", "run it again without sudo"
        )


def make_room(around: Surroundings, supervisor: Supervisor) -> None:
    """See that the lock is free for the service: a daemon on demand leaves, any other is its user's.

    Raises AlreadyRunning.
    """
    from tallyd import lock

    deadline = time.monotonic() + TAKE_OVER_S
    is_told = False
    while (holder := lock.current_holder(around.paths)) is not None:
        if holder.pid == supervisor.look().pid or holder.way == lock.SERVICE:
            return
        if holder.role == "daemon" and holder.way != lock.ON_DEMAND:
            raise AlreadyRunning(
                f"tallyd runs in the foreground already (process {holder.pid})",
                "end it there, then try again",
            )
        if time.monotonic() >= deadline:
            raise AlreadyRunning(
                f"{holder.role}, process {holder.pid}, does not leave", "try again"
            )
        if holder.role == "daemon" and not is_told:
            is_told = True
            say(f"the daemon that a host started (process {holder.pid}) makes room …")
            with suppress(OSError):
                os.kill(holder.pid, signal.SIGTERM)
        time.sleep(_LOOK_S)


def allow_start(paths: Paths) -> None:
    """Take back what `stop` said to hosts."""
    with suppress(OSError):
        paths.stopped.unlink(missing_ok=True)


def tell_of_this_shell(around: Surroundings) -> None:
    """Say what this shell's environment says that no service will hear."""
    from tallyd import policy

    if os.environ.get("DO_NOT_TRACK", "").strip().lower() not in ("", "0", "false"):
        say(
            "note: DO_NOT_TRACK is set in this shell. Tools that you start here count nothing; a service"
            ' sees no shell. To switch everything off for good: "tallyd off --all"'
        )
    rule = policy.all_forbidden_by(around.paths, os.environ)
    if rule:
        say(f"note: every product is off ({rule}): the service ends at once, with nothing to do")

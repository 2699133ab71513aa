"""What a service command sees to before and after: whose command it is, who holds the lock, what this shell says."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from tallyd.cli.output import say
from tallyd.errors import AlreadyRunning, NotAllowed, TallydError
from tallyd.limits import TAKE_OVER_S

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tallyd.paths import Paths
    from tallyd.product import Surroundings
    from tallyd.supervisor import Supervisor
    from tallyd.supervisor.recipe import Recipe

_NO_MANAGER = "there is no service manager here (neither systemd for users nor launchd)."
_NO_ANSWER = (
    "your systemd user manager does not answer this shell. Log in as yourself (not with su or sudo), or"
    " export XDG_RUNTIME_DIR=/run/user/$(id -u); in a container there may be none."
)
_ELSEWHERE = (
    "What works without one:\n"
    "  a tool that uses tallyd starts it on demand: Client(autostart=True)\n"
    "  by hand, until it is idle:                   tallyd run --on-demand &\n"
    "  once, now:                                   tallyd flush"
)
# How often a command looks whether the lock is free, in seconds.
_LOOK_S = 0.05


def not_as_root_for_another() -> None:
    """Keep `sudo tallyd service install` from installing for root what a user wanted for himself."""
    behind = os.environ.get("SUDO_UID", "")
    if hasattr(os, "getuid") and os.getuid() == 0 and behind not in ("", "0"):
        raise NotAllowed(
            "tallyd runs as yourself, and this is root by sudo", "run it again without sudo"
        )


def recipe_here(around: Surroundings, *, is_on_demand: bool) -> Recipe:
    """The recipe of this tallyd, with every product that is known here. Raises BadRequest."""
    from tallyd import spool
    from tallyd.supervisor.recipe import recipe_for

    products = {*around.registry.products(), *spool.products_with_spool(around.paths)}
    return recipe_for(
        around.paths, os.environ, is_on_demand=is_on_demand, products=tuple(sorted(products))
    )


def make_room(around: Surroundings, supervisor: Supervisor) -> None:
    """See that the lock is free for the service: a daemon on demand leaves, any other is its user's.

    Raises AlreadyRunning.
    """
    from tallyd import handover, lock

    holder = lock.current_holder(around.paths)
    if holder is None or holder.way == lock.ON_DEMAND:
        # No host starts another one from now on; one may have, just before.
        handover.announce(around.paths)
        holder = lock.current_holder(around.paths)
    if holder is None or holder.pid == supervisor.look().pid or holder.way == lock.SERVICE:
        return
    if holder.way == lock.ON_DEMAND:
        say(f"{holder.in_words} makes room …")
        end_on_demand(around.paths)
    elif holder.role == "daemon":
        raise AlreadyRunning(
            f"tallyd runs in the foreground already (process {holder.pid})",
            "end it there, then try again",
        )
    # The service waits for a flush by itself.


def end_on_demand(paths: Paths) -> bool:
    """End the daemon that a host started, if one runs; whether one did. Raises AlreadyRunning."""
    from tallyd import cost, handover, lock

    deadline = time.monotonic() + TAKE_OVER_S
    has_told = False
    while (holder := lock.current_holder(paths)) is not None and holder.way == lock.ON_DEMAND:
        if time.monotonic() >= deadline:
            raise AlreadyRunning(f"{holder.in_words} does not end", "try again")
        if not has_told:
            has_told = True
            if cost.of_holder(holder.pid, str(paths.lock))[0] is None:
                # Its number may be another program's here: another system may share this home.
                handover.ask_for_service(paths)
            else:
                with suppress(OSError):
                    os.kill(holder.pid, signal.SIGTERM)
        time.sleep(_LOOK_S)
    return has_told


def forbid_start(paths: Paths) -> None:
    """Let no host start a daemon until `allow_start`. Raises StateUnusable."""
    from tallyd import reserve
    from tallyd.files import replace_file

    reserve.insist(paths, lambda: replace_file(paths.stopped, b""))


def another_home(supervisor: Supervisor, environ: Mapping[str, str]) -> str:
    """Of which home the installed service is, by its variables, where that is not this shell's; else ""."""
    found = supervisor.installed()
    differing = found.told_otherwise(environ) if found is not None else {}
    return ", ".join(
        f"{name}={there}" if there else f"{name} not set" for name, (_, there) in differing.items()
    )


def need_this_home(supervisor: Supervisor, environ: Mapping[str, str]) -> None:
    """Keep a command of one home from starting or stopping the service of another. Raises ServiceRefused."""
    from tallyd.supervisor.steps import ServiceRefused

    other = another_home(supervisor, environ)
    if other:
        raise ServiceRefused(
            f"the installed service is another home's: {other}",
            'say it there; or "tallyd service install" here, for this one',
        )


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
        say(f"note: every product is off ({rule}): the service has nothing to do, and ends at once")


def supervisor_here(*, for_removal: bool = False, is_quiet: bool = False) -> Supervisor | None:
    """The service manager here; None, with a word of what works instead, where there is none."""
    from tallyd import supervisor

    found = supervisor.here(os.environ)
    if found is None and for_removal:
        # Its files can go without it.
        return supervisor.offline(os.environ)
    if found is None and not is_quiet:
        from tallyd.supervisor.steps import has_program

        is_deaf = supervisor.kind(os.environ) == "systemd" and has_program("systemctl")
        say(f"tallyd: {_NO_ANSWER if is_deaf else _NO_MANAGER}\n{_ELSEWHERE}")
    return found


def start_what_ended(around: Surroundings) -> None:
    """Start an installed service that ended because everything was off, and say so."""
    from tallyd import lock, policy, supervisor
    from tallyd.supervisor.steps import carry_out

    found = supervisor.installed(around.environ)
    if found is None or found.is_on_demand or found.told_otherwise(around.environ):
        return
    is_off = policy.all_forbidden_by(around.paths, around.environ)
    if is_off or around.paths.stopped.exists() or lock.current_holder(around.paths) is not None:
        return
    try:
        manager = supervisor.here(os.environ)
        if manager is None:
            raise NotAllowed("no manager answers here")
        carry_out(manager.start(), manager.explain, lambda _: None)
    except TallydError as problem:
        say(f'note: the service does not run ({problem}); "tallyd service start" starts it')
    else:
        say("started the service, which had ended while everything was off")

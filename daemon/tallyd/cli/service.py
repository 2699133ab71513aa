"""The commands about the service: install, uninstall, start, stop, restart, status, logs, print.

Each plans steps, prints them with `--dry-run`, or carries them out and says what changed and how to
undo it. Where there is no service manager they say so, and what works instead.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from tallyd.cli.exits import EXIT_UNAVAILABLE
from tallyd.cli.here import locate
from tallyd.cli.output import print_json, print_lines, say
from tallyd.errors import AlreadyRunning, NotAllowed
from tallyd.limits import TAKE_OVER_S

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

    from tallyd.paths import Paths
    from tallyd.product import Surroundings
    from tallyd.supervisor import Supervisor
    from tallyd.supervisor.recipe import Recipe
    from tallyd.supervisor.steps import Step
    from tallyd.supervisor.supervision import Supervision

_LOOK_S = 0.05
_NOT_INSTALLED, _NOT_RUNNING = 4, 3
_ELSEWHERE = (
    "there is no service manager to speak to here (neither systemd for users nor launchd).\n"
    "What works without one:\n"
    "  a tool that uses tallyd starts it on demand: Client(autostart=True)\n"
    "  by hand, until it is idle:                   tallyd run --on-demand &\n"
    "  once, now:                                   tallyd flush"
)


def install(arguments: argparse.Namespace) -> int:
    """Install the service, or bring an installed one up to date."""
    from tallyd import __version__, lock, spool
    from tallyd.supervisor.recipe import recipe_for

    _not_as_root_for_another()
    around = locate()
    supervisor = _supervisor()
    if supervisor is None:
        return EXIT_UNAVAILABLE
    products = {*around.registry.products(), *spool.products_with_spool(around.paths)}
    recipe = recipe_for(
        around.paths,
        os.environ,
        is_on_demand=arguments.on_demand,
        products=tuple(sorted(products)),
    )
    recipe = supervisor.suited(recipe)
    holder = lock.current_holder(around.paths)
    is_outdated = holder is not None and holder.version != __version__
    start = not arguments.no_start
    plan = supervisor.install(recipe, start=start, again=is_outdated)
    if not arguments.dry_run:
        _allow_start(around.paths)
        if start:
            _make_room(around, supervisor)
    done = _carry_out(supervisor, plan, arguments)
    if recipe.left_out:
        say(
            f"note: your user manager cannot give {', '.join(recipe.left_out)};"
            " the unit goes without, and the rest of its hardening applies"
        )
    if not arguments.dry_run:
        _tell_of_this_shell(around)
    return _report(
        supervisor,
        done,
        arguments,
        undo="tallyd service uninstall",
        after=_after_install(supervisor, recipe, start=start) if not arguments.dry_run else [],
    )


def uninstall(arguments: argparse.Namespace) -> int:
    """Take the service away; with `--purge` what tallyd keeps, too."""
    around = locate()
    supervisor = _supervisor(for_removal=True)
    plan = supervisor.uninstall() if supervisor is not None else []
    done = _carry_out(supervisor, plan, arguments) if supervisor is not None else []
    if not arguments.dry_run:
        with suppress(OSError):
            around.paths.stopped.unlink(missing_ok=True)
    lines = []
    if arguments.purge:
        lines = _purge(around, dry_run=arguments.dry_run)
    left = [str(around.paths.state), str(around.paths.config)]
    if not arguments.purge:
        lines = [
            f"left as they are: {' and '.join(left)} (--purge removes what tallyd keeps there)"
        ]
    return _report(supervisor, done, arguments, undo="tallyd service install", after=lines)


def start(arguments: argparse.Namespace) -> int:
    """Start what is installed."""
    return _act(arguments, lambda one: one.start(), undo="tallyd service stop", starts=True)


def stop(arguments: argparse.Namespace) -> int:
    """Stop it until the next login, or until it is started again."""
    around = locate()
    code = _act(arguments, lambda one: one.stop(), undo="tallyd service start")
    if not code and not arguments.dry_run:
        # Hosts that start daemons by themselves are to hear it too.
        from tallyd.files import replace_file

        replace_file(around.paths.stopped, b"")
    return code


def restart(arguments: argparse.Namespace) -> int:
    """Stop it and start it."""
    return _act(arguments, lambda one: one.restart(), undo="", starts=True)


def status(arguments: argparse.Namespace) -> int:
    """What is installed, and how it goes by its manager's word."""
    supervisor = _supervisor()
    if supervisor is None:
        return EXIT_UNAVAILABLE
    seen = supervisor.look()
    if arguments.json:
        print_json(_supervision_json(seen))
    else:
        print_lines(_supervision_text(seen))
    if seen.installed is None:
        return _NOT_INSTALLED
    return 0 if seen.state == "active" or seen.waits else _NOT_RUNNING


def logs(arguments: argparse.Namespace) -> int:
    """Show the log, wherever it is."""
    from tallyd.supervisor.steps import ServiceRefused

    around = locate()
    supervisor = _supervisor(is_quiet=True)
    has_file = around.paths.log.exists()
    if supervisor is not None and (supervisor.installed() is not None or not has_file):
        command = supervisor.logs(arguments.lines, follow=arguments.follow)
    elif has_file:
        follow = ["-F"] if arguments.follow else []
        command = ["tail", "-n", str(arguments.lines), *follow, str(around.paths.log)]
    else:
        say("tallyd: nothing has been logged: no service is installed, and no host started one")
        return _NOT_INSTALLED
    sys.stdout.flush()
    try:
        os.execvp(command[0], command)  # noqa: S606 - words of ours, no shell
    except OSError as error:
        raise ServiceRefused(f"{command[0]} cannot be run: {error.strerror}") from error


def print_files(arguments: argparse.Namespace) -> int:
    """Print the service files as they would be written."""
    from tallyd import spool
    from tallyd.supervisor.launchd import Launchd
    from tallyd.supervisor.recipe import recipe_for
    from tallyd.supervisor.systemd import Systemd

    around = locate()
    products = {*around.registry.products(), *spool.products_with_spool(around.paths)}
    recipe = recipe_for(
        around.paths, os.environ, is_on_demand=arguments.on_demand, products=tuple(sorted(products))
    )
    chosen: Supervisor | None
    if arguments.systemd or arguments.launchd:
        chosen = Launchd(os.environ) if arguments.launchd else Systemd(os.environ)
    else:
        chosen = _supervisor()
        if chosen is None:
            return EXIT_UNAVAILABLE
        recipe = chosen.suited(recipe)
    files = {str(path): content.decode() for path, content in chosen.files(recipe).items()}
    if arguments.json:
        print_json({"schema_version": 1, "supervisor": chosen.name, "files": files})
        return 0
    several = len(files) > 1
    for path, text in files.items():
        if several:
            print_lines([f"# {path}"])
        print_lines([text.rstrip("\n"), *([""] if several else [])])
    return 0


def _act(
    arguments: argparse.Namespace,
    plan: Callable[[Supervisor], list[Step]],
    *,
    undo: str,
    starts: bool = False,
) -> int:
    supervisor = _supervisor()
    if supervisor is None:
        return EXIT_UNAVAILABLE
    steps = plan(supervisor)
    if starts and not arguments.dry_run:
        around = locate()
        _allow_start(around.paths)
        _make_room(around, supervisor)
    done = _carry_out(supervisor, steps, arguments)
    return _report(supervisor, done, arguments, undo=undo, after=[])


def _supervisor(*, for_removal: bool = False, is_quiet: bool = False) -> Supervisor | None:
    """The service manager here; None, with a word of what works instead, where there is none."""
    from tallyd import supervisor

    found = supervisor.here(os.environ)
    if found is None and for_removal:
        # Its files can go without it.
        return supervisor.offline(os.environ)
    if found is None and not is_quiet:
        say(f"tallyd: {_ELSEWHERE}")
    return found


def _not_as_root_for_another() -> None:
    """Keep `sudo tallyd service install` from installing for root what a user wanted for himself."""
    behind = os.environ.get("SUDO_UID", "")
    if hasattr(os, "getuid") and os.getuid() == 0 and behind not in ("", "0"):
        raise NotAllowed(
            "tallyd runs as yourself, and this is root by sudo", "run it again without sudo"
        )


def _carry_out(
    supervisor: Supervisor, plan: Sequence[Step], arguments: argparse.Namespace
) -> list[Step]:
    """Do the plan, or nothing with `--dry-run`; the steps that were, or would be, taken."""
    from tallyd.supervisor.steps import carry_out

    if arguments.dry_run:
        return [one for one in plan if not one.is_done]
    done: list[Step] = []
    carry_out(plan, supervisor.explain, done.append)
    return done


def _report(
    supervisor: Supervisor | None,
    done: Sequence[Step],
    arguments: argparse.Namespace,
    *,
    undo: str,
    after: Sequence[str],
) -> int:
    words = [_step_words(one, will=arguments.dry_run) for one in done]
    if arguments.json:
        print_json(
            {
                "schema_version": 1,
                "supervisor": supervisor.name if supervisor is not None else None,
                "dry_run": arguments.dry_run,
                "steps": [_step_json(one) for one in done],
                "undo": undo or None,
                "after": list(after),
            }
        )
        return 0
    lines = words or ["nothing to do: it is as it should be"]
    if undo and done:
        lines = [*lines, f"undo: {undo}"]
    print_lines([*lines, *after])
    return 0


def _step_words(step: Step, *, will: bool) -> str:
    from tallyd.supervisor.steps import Run, Write

    match step:
        case Write():
            return f"{'would write' if will else 'wrote'} {step.path}"
        case Run():
            return f"{'would run' if will else 'ran'} {' '.join(step.command)}"
        case _:
            return f"{'would remove' if will else 'removed'} {step.path}"


def _step_json(step: Step) -> dict[str, object]:
    from tallyd.supervisor.steps import Run, Write

    match step:
        case Write():
            return {"do": "write", "path": str(step.path)}
        case Run():
            return {"do": "run", "command": list(step.command)}
        case _:
            return {"do": "remove", "path": str(step.path)}


def _after_install(supervisor: Supervisor, recipe: Recipe, *, start: bool) -> list[str]:
    seen = supervisor.look()
    if not start:
        return ['installed, not started: "tallyd service start", or your next login']
    if recipe.is_on_demand:
        return ["it is started when a tool drops counts, and leaves when it is idle"]
    if seen.state != "active":
        return [f'it is {seen.state}; "tallyd service logs" shows why']
    return [
        f'it runs (process {seen.pid}), and will at each login; "tallyd status" shows how it is'
    ]


def _make_room(around: Surroundings, supervisor: Supervisor) -> None:
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


def _allow_start(paths: Paths) -> None:
    """Take back what `stop` said to hosts."""
    with suppress(OSError):
        paths.stopped.unlink(missing_ok=True)


def _tell_of_this_shell(around: Surroundings) -> None:
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


def _purge(around: Surroundings, *, dry_run: bool) -> list[str]:
    from tallyd import purge

    removed, kept = purge.plan(around)
    if dry_run:
        return [*(f"would remove {one}" for one in removed), *(f"would keep {one}" for one in kept)]
    purge.carry_out(around)
    return [*(f"removed {one}" for one in removed), *(f"kept {one}" for one in kept)]


def _supervision_json(seen: Supervision) -> dict[str, object]:
    found = seen.installed
    return {
        "schema_version": 1,
        "supervisor": seen.supervisor,
        "installed": found is not None,
        "file": str(found.file) if found else None,
        "command": list(found.command) if found else None,
        "mode": None if found is None else "on-demand" if found.is_on_demand else "resident",
        "sandbox": found.has_sandbox if found else None,
        "problem": (found.problem or None) if found else None,
        "enabled": seen.is_enabled,
        "state": seen.state,
        "detail": seen.detail,
        "waits": seen.waits,
        "pid": seen.pid,
        "restarts": seen.restarts,
        "result": seen.result or None,
        "says": seen.says or None,
        "drop_ins": list(seen.overridden),
    }


def _supervision_text(seen: Supervision) -> list[str]:
    found = seen.installed
    if found is None:
        return [
            f'tallyd is not installed as a service ({seen.supervisor} is here): "tallyd service install"'
        ]
    state = f"runs, process {seen.pid}" if seen.state == "active" else seen.state
    if seen.waits and seen.state != "active":
        state = "waits for the next drop"
    failed = f" ({seen.result})" if seen.result not in ("", "success") else ""
    often = f", restarted {seen.restarts} times" if seen.restarts else ""
    when = "when a tool drops counts" if found.is_on_demand else "at login"
    lines = [
        f"tallyd, by {seen.supervisor}: {state}{failed}{often}",
        f"  starts      {when if seen.is_enabled else 'never by itself (not enabled)'}",
        f"  file        {found.file}{'' if found.is_ours else ' (not written by tallyd)'}",
        f"  runs        {' '.join(found.command)}",
    ]
    if seen.says:
        lines.append(f"  says        {seen.says}")
    lines += [f"  drop-in     {one}" for one in seen.overridden]
    if found.problem:
        lines += [
            "",
            f"WRONG: {found.problem}",
            "  install tallyd again, then: tallyd service install",
        ]
    return lines

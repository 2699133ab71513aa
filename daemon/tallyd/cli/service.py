"""The commands about the service: install, uninstall, start, stop, restart, status, logs, print.

Each plans steps, prints them with `--dry-run`, or carries them out and says what changed and how to
undo it. Where there is no service manager they say so, and what works instead.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from tallyd import exits
from tallyd.cli.here import locate
from tallyd.cli.output import print_json, print_lines, say
from tallyd.cli.service_room import (
    allow_start,
    make_room,
    not_as_root_for_another,
    tell_of_this_shell,
)
from tallyd.cli.service_words import (
    step_json,
    step_words,
    supervision_json,
    supervision_text,
)

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

    from tallyd.product import Surroundings
    from tallyd.supervisor import Supervisor
    from tallyd.supervisor.recipe import Recipe
    from tallyd.supervisor.steps import Step

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


def install(arguments: argparse.Namespace) -> int:
    """Install the service, or bring an installed one up to date."""
    from tallyd import __version__, lock, spool
    from tallyd.supervisor.recipe import recipe_for

    not_as_root_for_another()
    around = locate()
    supervisor = _supervisor()
    if supervisor is None:
        return exits.UNAVAILABLE
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
        allow_start(around.paths)
        if start:
            make_room(around, supervisor)
    done = _carry_out(supervisor, plan, arguments)
    for note in supervisor.notes(recipe):
        say(f"note: {note}")
    if not arguments.dry_run:
        tell_of_this_shell(around)
    return _report(
        supervisor,
        done,
        arguments,
        undo="tallyd service uninstall",
        after=_after_install(supervisor, recipe, start=start) if not arguments.dry_run else [],
    )


def uninstall(arguments: argparse.Namespace) -> int:
    """Take the service away; with `--purge` what tallyd keeps, too."""
    from tallyd import lock

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
    holder = lock.current_holder(around.paths)
    if done and holder is not None and not arguments.dry_run:
        say(
            f"note: process {holder.pid} still runs: its manager does not answer this shell, and was"
            " not told. It ends when you log out"
        )
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
        return exits.UNAVAILABLE
    seen = supervisor.look()
    if arguments.json:
        print_json(supervision_json(seen))
    else:
        print_lines(supervision_text(seen))
    if seen.installed is None:
        return exits.NEVER_SET_UP
    return 0 if seen.state == "active" or seen.waits else exits.NOT_RUNNING


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
        return exits.NEVER_SET_UP
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
            return exits.UNAVAILABLE
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
        return exits.UNAVAILABLE
    steps = plan(supervisor)
    if starts and not arguments.dry_run:
        around = locate()
        allow_start(around.paths)
        make_room(around, supervisor)
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
        from tallyd.supervisor.steps import has_program

        is_deaf = supervisor.kind(os.environ) == "systemd" and has_program("systemctl")
        say(f"tallyd: {_NO_ANSWER if is_deaf else _NO_MANAGER}\n{_ELSEWHERE}")
    return found


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
    words = [step_words(one, will=arguments.dry_run) for one in done]
    if arguments.json:
        print_json(
            {
                "schema_version": 1,
                "supervisor": supervisor.name if supervisor is not None else None,
                "dry_run": arguments.dry_run,
                "steps": [step_json(one) for one in done],
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


def _after_install(supervisor: Supervisor, recipe: Recipe, *, start: bool) -> list[str]:
    seen = supervisor.look()
    if not start:
        return ['installed, not started: "tallyd service start", or your next login']
    if recipe.is_on_demand:
        return ["it is started when a tool drops counts, and leaves when it is idle"]
    if seen.state == "activating":
        return ['it is being started; "tallyd service status" tells how it goes']
    if seen.state != "active":
        return [f'it is {seen.state}; "tallyd service logs" shows why']
    return [
        f'it runs (process {seen.pid}), and will at each login; "tallyd status" shows how it is'
    ]


def _purge(around: Surroundings, *, dry_run: bool) -> list[str]:
    from tallyd import purge

    removed, kept = purge.plan(around)
    if dry_run:
        return [*(f"would remove {one}" for one in removed), *(f"would keep {one}" for one in kept)]
    purge.carry_out(around)
    return [*(f"removed {one}" for one in removed), *(f"kept {one}" for one in kept)]

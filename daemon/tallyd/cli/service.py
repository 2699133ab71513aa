"""The commands about the service: install, uninstall, start, stop, restart, status, logs, print.

Each plans steps, prints them with `--dry-run`, or carries them out and says what changed and how to
undo it. Where there is no service manager they say so, and what works instead.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from functools import wraps
from typing import TYPE_CHECKING

from tallyd import exits
from tallyd.cli.here import locate, time_now
from tallyd.cli.output import print_json, print_lines, say
from tallyd.cli.service_room import (
    allow_start,
    another_home,
    end_on_demand,
    forbid_start,
    make_room,
    need_this_home,
    not_as_root_for_another,
    recipe_here,
    supervisor_here,
    tell_of_this_shell,
)
from tallyd.cli.service_words import (
    step_json,
    step_words,
)
from tallyd.errors import TallydError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Sequence

    from tallyd.product import Surroundings
    from tallyd.supervisor import Supervisor
    from tallyd.supervisor.recipe import Recipe
    from tallyd.supervisor.steps import Step
    from tallyd.supervisor.supervision import Supervision


def _in_turn(command: Callable[[argparse.Namespace], int]) -> Callable[[argparse.Namespace], int]:
    """A command that changes something waits for another one that does."""

    @wraps(command)
    def alone(arguments: argparse.Namespace) -> int:
        from tallyd.supervisor.turn import turn

        if arguments.dry_run:
            return command(arguments)
        with turn(say):
            return command(arguments)

    return alone


@_in_turn
def install(arguments: argparse.Namespace) -> int:
    """Install the service, or bring an installed one up to date."""
    from tallyd import __version__, lock
    from tallyd.files import make_directory
    from tallyd.settings import read_settings
    from tallyd.store import refuse_newer

    not_as_root_for_another()
    around = locate()
    # With wrong settings it would not start, and whoever asked would look for the reason in a log.
    read_settings(around.paths)
    recipe = recipe_here(around, is_on_demand=arguments.on_demand)
    supervisor = supervisor_here()
    if supervisor is None:
        return exits.UNAVAILABLE
    recipe = supervisor.suited(recipe)
    # A service of this version could not start.
    refuse_newer(around.paths)
    other = another_home(supervisor, around.environ)
    if other:
        say(f"note: until now the service was another home's ({other}), which has none from now on")
    holder = lock.current_holder(around.paths)
    is_outdated = holder is not None and holder.version != __version__
    start = not arguments.no_start
    plan = supervisor.install(recipe, start=start, again=is_outdated)
    if not arguments.dry_run:
        # What is not there cannot be made writable by a mount.
        make_directory(around.paths.config)
        make_directory(around.paths.state)
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
        after=_after_install(supervisor, around, recipe, start=start)
        if not arguments.dry_run
        else [],
    )


@_in_turn
def uninstall(arguments: argparse.Namespace) -> int:
    """Take the service away; with `--purge` what tallyd keeps, too."""
    from tallyd import lock

    around = locate()
    supervisor = supervisor_here(for_removal=True)
    plan = supervisor.uninstall() if supervisor is not None else []
    done = _carry_out(supervisor, plan, arguments) if supervisor is not None else []
    lines = []
    with _telling(done):
        if not arguments.dry_run:
            allow_start(around.paths)
            if end_on_demand(around.paths):
                say("ended the daemon that a tool had started")
        if arguments.purge:
            lines = _purge(around, dry_run=arguments.dry_run)
    holder = lock.current_holder(around.paths)
    if holder is not None and not arguments.dry_run and not arguments.purge:
        why = (
            "its manager does not answer this shell"
            if holder.way == lock.SERVICE
            else "it is yours"
        )
        say(f"note: {holder.in_words} still runs: {why}")
    left = [str(around.paths.state), str(around.paths.config)]
    if not arguments.purge:
        lines = [
            f"left as they are: {' and '.join(left)} (--purge removes what tallyd keeps there)"
        ]
    return _report(
        supervisor,
        done,
        arguments,
        undo="" if arguments.purge else "tallyd service install",
        after=lines,
        is_quiet=arguments.purge,
    )


@_in_turn
def start(arguments: argparse.Namespace) -> int:
    """Start what is installed; or, where nothing is, let hosts start daemons again."""
    around = locate()
    supervisor = supervisor_here(is_quiet=True)
    if (supervisor is None or supervisor.installed() is None) and around.paths.stopped.exists():
        if not arguments.dry_run:
            allow_start(around.paths)
        after = [] if arguments.dry_run else ["a tool may start a daemon again"]
        return _report(None, [], arguments, undo="", after=after, is_quiet=True)
    return _act(arguments, lambda one: one.start(), undo="tallyd service stop")


@_in_turn
def stop(arguments: argparse.Namespace) -> int:
    """Stop it, and what a host started, until the next login or until it is started again."""
    around = locate()
    supervisor = supervisor_here(is_quiet=True)
    plan: list[Step] = []
    if supervisor is not None and supervisor.installed() is not None:
        need_this_home(supervisor, around.environ)
        plan = supervisor.stop()
    after = []
    if not arguments.dry_run:
        after = ['no tool starts a daemon meanwhile; to take it back: "tallyd service start"']
        # First, so that a daemon that a host starts just now hears it. A disk that refuses it says so below.
        with suppress(TallydError):
            forbid_start(around.paths)
    done = _carry_out(supervisor, plan, arguments) if supervisor is not None else []
    if not arguments.dry_run:
        with _telling(done):
            # And now, for a service that was being started has taken it back.
            forbid_start(around.paths)
            if end_on_demand(around.paths):
                after.insert(0, "ended the daemon that a tool had started")
    return _report(
        supervisor, done, arguments, undo="tallyd service start", after=after, is_quiet=True
    )


@_in_turn
def restart(arguments: argparse.Namespace) -> int:
    """Stop it and start it."""
    return _act(arguments, lambda one: one.restart(), undo="")


def _act(
    arguments: argparse.Namespace,
    plan: Callable[[Supervisor], list[Step]],
    *,
    undo: str,
) -> int:
    from tallyd.settings import read_settings

    supervisor = supervisor_here()
    if supervisor is None:
        return exits.UNAVAILABLE
    around = locate()
    need_this_home(supervisor, around.environ)
    steps = plan(supervisor)
    # Wrong ones would keep it from starting.
    read_settings(around.paths)
    if not arguments.dry_run:
        allow_start(around.paths)
        make_room(around, supervisor)
        tell_of_this_shell(around)
    done = _carry_out(supervisor, steps, arguments)
    after = _how_it_goes(supervisor.look()) if not arguments.dry_run else []
    return _report(supervisor, done, arguments, undo=undo, after=after)


def _carry_out(
    supervisor: Supervisor, plan: Sequence[Step], arguments: argparse.Namespace
) -> list[Step]:
    """Do the plan, or nothing with `--dry-run`; the steps that were, or would be, taken."""
    from tallyd.supervisor.steps import carry_out

    if arguments.dry_run:
        return [one for one in plan if not one.is_done]
    done: list[Step] = []
    with _telling(done, 'undo: "tallyd service uninstall"'):
        carry_out(plan, supervisor.explain, done.append)
    return done


@contextmanager
def _telling(done: Sequence[Step], undo: str = "") -> Iterator[None]:
    """Before an error: what was done all the same."""
    try:
        yield
    except TallydError:
        for step in done:
            say(step_words(step, will=False))
        if done and undo:
            say(undo)
        raise


def _report(
    supervisor: Supervisor | None,
    done: Sequence[Step],
    arguments: argparse.Namespace,
    *,
    undo: str,
    after: Sequence[str],
    is_quiet: bool = False,
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
    lines = words or ([] if is_quiet else ["nothing to do: it is as it should be"])
    if undo and done:
        lines = [*lines, f"undo: {undo}"]
    print_lines([*lines, *after])
    return 0


def _after_install(
    supervisor: Supervisor, around: Surroundings, recipe: Recipe, *, start: bool
) -> list[str]:
    from tallyd import policy

    seen = supervisor.look()
    rule = policy.all_forbidden_by(around.paths, around.environ)
    if rule and not seen.elsewhere:
        return [
            f"every product is off ({rule}), so nothing runs; to change that: tallyd on PRODUCT"
        ]
    if seen.elsewhere:
        return [
            f"WRONG: your manager goes by {seen.elsewhere}. It sees no shell: say this without XDG_CONFIG_HOME,"
            " or set that in ~/.config/environment.d/ and log in again"
        ]
    if not start:
        return ['installed, not started: "tallyd service start", or your next login']
    if recipe.is_on_demand:
        return ["it is started when a tool drops counts, and leaves when it is idle"]
    return _how_it_goes(seen)


def _how_it_goes(seen: Supervision) -> list[str]:
    """Whether it runs now, after it was started."""
    if seen.waits and seen.state != "active":
        return ["it waits for a tool to drop counts"]
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
    if not removed:
        return ["nothing of tallyd's is left to remove", *(f"left {one}" for one in kept)]
    if dry_run:
        return [*(f"would remove {one}" for one in removed), *(f"would keep {one}" for one in kept)]
    purge.carry_out(around, time_now())
    return [*(f"removed {one}" for one in removed), *(f"kept {one}" for one in kept)]

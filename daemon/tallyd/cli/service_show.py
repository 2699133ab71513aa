"""The service commands that show and change nothing: status, logs, print."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from tallyd import exits
from tallyd.cli.here import locate
from tallyd.cli.output import print_json, print_lines, say
from tallyd.cli.service_room import recipe_here, supervisor_here
from tallyd.cli.service_words import supervision_json, supervision_text

if TYPE_CHECKING:
    import argparse

    from tallyd.product import Surroundings
    from tallyd.supervisor import Supervisor


def status(arguments: argparse.Namespace) -> int:
    """What is installed, and how it goes by its manager's word."""
    supervisor = supervisor_here()
    if supervisor is None:
        return exits.UNAVAILABLE
    seen = supervisor.look()
    if arguments.json:
        print_json(supervision_json(seen))
    else:
        why = [] if seen.state == "active" or seen.installed is None else _why_not(locate())
        print_lines([*supervision_text(seen), *why])
    if seen.installed is None:
        return exits.NEVER_SET_UP
    return 0 if seen.state == "active" or seen.waits else exits.NOT_RUNNING


def _why_not(around: Surroundings) -> list[str]:
    """What keeps it from running, where that stands on disk."""
    from tallyd import policy, symptoms

    rule = policy.all_forbidden_by(around.paths, around.environ)
    told = [f"  off         every product is ({rule}); to change that: tallyd on PRODUCT"]
    wrong = [f"WRONG: {one.why}" for one in symptoms.of_the_settings(around.paths)]
    return [*(told if rule else []), *(["", *wrong] if wrong else [])]


def logs(arguments: argparse.Namespace) -> int:
    """Show the log, wherever it is."""
    from tallyd.supervisor.steps import ServiceRefused

    around = locate()
    supervisor = supervisor_here(is_quiet=True)
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
    if command[0] == "journalctl" and not arguments.follow:
        return _journal(command)
    try:
        os.execvp(command[0], command)  # noqa: S606 - words of ours, no shell
    except OSError as error:
        raise ServiceRefused(f"{command[0]} cannot be run: {error.strerror}") from error


def _journal(command: list[str]) -> int:
    """Show what the journal has; where that is nothing it does not say so itself."""
    from tallyd.supervisor.steps import run_command

    done = run_command(command)
    if done.out:
        print_lines(done.out.splitlines())
        return 0
    say(
        "tallyd: the journal shows nothing of it to you; where it is kept for root alone, ask it as root:"
        f" journalctl _UID={os.getuid()} {command[2]}"
    )
    return exits.NEVER_SET_UP


def print_files(arguments: argparse.Namespace) -> int:
    """Print the service files as they would be written."""
    from tallyd import supervisor
    from tallyd.supervisor.launchd import Launchd
    from tallyd.supervisor.systemd import Systemd

    around = locate()
    recipe = recipe_here(around, is_on_demand=arguments.on_demand)
    chosen: Supervisor | None
    if arguments.systemd and arguments.launchd:
        say("tallyd: say --systemd or --launchd, not both")
        return exits.USAGE
    if arguments.systemd or arguments.launchd:
        chosen = Launchd(os.environ) if arguments.launchd else Systemd(os.environ)
    else:
        # Without a manager to try them on it is the whole of them.
        found = supervisor_here(is_quiet=True)
        recipe = found.suited(recipe) if found is not None else recipe
        chosen = found if found is not None else supervisor.offline(os.environ)
    if chosen is None:
        say("tallyd: say --systemd or --launchd")
        return exits.USAGE
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

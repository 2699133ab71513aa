"""The command line as a table: each command with its words, its example and its arguments.

Prints nothing but argparse's own help and usage. A parsed line carries `command`, the words of the
command; `cli` knows what each one does.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING, Any, NoReturn

from tallyd import __version__
from tallyd.contract.frozen import Frozen

if TYPE_CHECKING:
    from collections.abc import Sequence

EXIT_USAGE = 64

_PRODUCT: dict[str, Any] = {"metavar": "PRODUCT"}
_MAYBE_PRODUCT: dict[str, Any] = {"metavar": "PRODUCT", "nargs": "?"}
_ALL: dict[str, Any] = {"action": "store_true"}
_CONTRACT: dict[str, Any] = {"metavar": "FILE", "help": "a contract, or a registered product"}
_OUTPUT: dict[str, Any] = {"dest": "output", "metavar": "FILE", "help": "write it there"}
_CHECK: dict[str, Any] = {
    "action": "store_true",
    "help": "write nothing; exit 1 when the file is not as it would be written",
}
_DRY_RUN: dict[str, Any] = {
    "action": "store_true",
    "help": "change nothing, and say what would be done",
}
_JSON: dict[str, Any] = {"action": "store_true", "help": "print JSON"}


def _count(text: str) -> int:
    """A whole number from 1 on."""
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


class _Command(Frozen):
    words: str
    summary: str
    example: str
    arguments: dict[str, dict[str, Any]]


_COMMANDS = (
    _Command(
        "run",
        "run the daemon in the foreground until a signal",
        "tallyd run",
        {
            "--on-demand": {
                "action": "store_true",
                "help": "let go of this shell, and leave when there was nothing to do for a while",
            },
            "--agent": {
                "action": "store_true",
                "help": "under launchd: end with 0 where starting again would not help",
            },
            "--log-file": {
                "metavar": "FILE",
                "help": "log there instead of to stderr, and keep it under 256 KiB",
            },
        },
    ),
    _Command(
        "status",
        "say what runs, who decided, what waits and what left",
        "tallyd status --json",
        {"--json": _JSON},
    ),
    _Command(
        "flush",
        "merge what was dropped and send what is due, now",
        "tallyd flush",
        {"--json": _JSON},
    ),
    _Command(
        "show",
        "print the buckets that are not sealed yet",
        "tallyd show codegraph",
        {"product": _PRODUCT, "--json": _JSON},
    ),
    _Command(
        "preview",
        "print the exact body that would be sent next",
        "tallyd preview codegraph",
        {"product": _PRODUCT, "--json": _JSON},
    ),
    _Command(
        "off",
        "stop counting and sending, and delete what was not sent and the id",
        "tallyd off codegraph",
        {"product": _MAYBE_PRODUCT, "--all": {**_ALL, "help": "every product, those to come too"}},
    ),
    _Command(
        "on",
        "let a product count and send, under a new id",
        "tallyd on codegraph",
        {
            "product": _MAYBE_PRODUCT,
            "--all": {**_ALL, "help": "every registered product"},
            "--mode": {"help": "which way of being on, where a product knows several"},
            "--user": {"metavar": "ID", "help": "your id, for the mode that is identified"},
        },
    ),
    _Command(
        "reset",
        "begin anew under another id, and delete what was not sent; the choice stays",
        "tallyd reset codegraph",
        {"product": _PRODUCT},
    ),
    _Command(
        "choose",
        "ask on the terminal what a product may do",
        "tallyd choose pipelex",
        {"product": _PRODUCT},
    ),
    _Command(
        "contract check",
        "find what a careful maintainer would mend in a contract",
        "tallyd contract check telemetry.toml",
        {"file": _CONTRACT, "--json": _JSON},
    ),
    _Command(
        "contract docs",
        "render the page about a contract that a user reads",
        "tallyd contract docs telemetry.toml -o TELEMETRY.md",
        {"file": _CONTRACT, "-o": _OUTPUT, "--check": _CHECK},
    ),
    _Command(
        "contract diff",
        "say what a new version collects more or less",
        "tallyd contract diff old.toml new.toml",
        {
            "old": {**_CONTRACT, "metavar": "OLD"},
            "new": {**_CONTRACT, "metavar": "NEW"},
            "--json": _JSON,
        },
    ),
    _Command(
        "contract schema",
        "export the JSON Schema of what is sent",
        "tallyd contract schema telemetry.toml",
        {"file": _CONTRACT, "-o": _OUTPUT, "--check": _CHECK},
    ),
    _Command(
        "contract build",
        "write the constants that a host hands to the stub",
        "tallyd contract build telemetry.toml --python _telemetry.py",
        {
            "file": _CONTRACT,
            "--python": {"metavar": "FILE", "help": "the Python module to write"},
            "--check": _CHECK,
            "--off": {
                "action": "store_true",
                "help": "for packagers: counts nothing, and no setting overrides it",
            },
        },
    ),
    _Command(
        "contract add",
        "register a product's contract",
        "tallyd contract add telemetry.toml",
        {"file": {"metavar": "FILE", "help": "the contract, a TOML file"}},
    ),
    _Command(
        "contract list", "name the registered contracts", "tallyd contract list", {"--json": _JSON}
    ),
    _Command(
        "service install",
        "run the daemon from now on, at each login, under systemd or launchd",
        "tallyd service install",
        {
            "--on-demand": {
                "action": "store_true",
                "help": "start it when a tool drops counts, and let it leave when it is idle",
            },
            "--no-start": {"action": "store_true", "help": "install it, and start nothing now"},
            "--dry-run": _DRY_RUN,
            "--json": _JSON,
        },
    ),
    _Command(
        "service uninstall",
        "stop it and remove what install wrote; counts and choices stay",
        "tallyd service uninstall",
        {
            "--purge": {
                "action": "store_true",
                "help": 'remove what tallyd keeps too: counts, ids, contracts; a "no" is kept',
            },
            "--dry-run": _DRY_RUN,
            "--json": _JSON,
        },
    ),
    _Command(
        "service start",
        "start the installed service",
        "tallyd service start",
        {"--dry-run": _DRY_RUN, "--json": _JSON},
    ),
    _Command(
        "service stop",
        "stop it until the next login, and let no host start another meanwhile",
        "tallyd service stop",
        {"--dry-run": _DRY_RUN, "--json": _JSON},
    ),
    _Command(
        "service restart",
        "stop it and start it",
        "tallyd service restart",
        {"--dry-run": _DRY_RUN, "--json": _JSON},
    ),
    _Command(
        "service status",
        "say what is installed, and how it goes by its manager's word",
        "tallyd service status",
        {"--json": _JSON},
    ),
    _Command(
        "service logs",
        "show the daemon's log",
        "tallyd service logs --follow",
        {
            "-f": {
                "flags": ("--follow",),
                "action": "store_true",
                "dest": "follow",
                "help": "go on as lines come",
            },
            "-n": {
                "flags": ("--lines",),
                "dest": "lines",
                "metavar": "N",
                "type": _count,
                "default": 100,
                "help": "the last N lines (100)",
            },
        },
    ),
    _Command(
        "service print",
        "print the service files as install would write them",
        "tallyd service print",
        {
            "--on-demand": {"action": "store_true", "help": "those of the service on demand"},
            "--systemd": {"action": "store_true", "help": "systemd's, wherever this is"},
            "--launchd": {"action": "store_true", "help": "launchd's, wherever this is"},
            "--json": _JSON,
        },
    ),
    _Command(
        "demo",
        "walk one counter from a real MCP server to a gateway's store",
        "tallyd demo",
        {"--keep": {"action": "store_true", "help": "keep the temporary home, and say where"}},
    ),
)


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """argparse's own, told how wide the terminal is: to find out it would load 4 ms of archives."""

    def __init__(self, prog: str) -> None:
        try:
            columns = int(os.environ.get("COLUMNS", "")) or os.get_terminal_size().columns
        except (ValueError, OSError):
            columns = 80
        super().__init__(prog, width=columns - 2)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(EXIT_USAGE, f"{self.prog}: {message}\n")


def parser(argv: Sequence[str] = ()) -> argparse.ArgumentParser:
    """The parser of the command line; wrong usage exits with EXIT_USAGE.

    Of the whole of it, or of the one command that `argv` begins with: each costs 0.3 ms to define.
    """
    wanted = tuple(one for one in _COMMANDS if argv[:1] == [one.words])
    whole = _Parser(
        prog="tallyd",
        description="Merges the counter deltas of short-lived processes exactly once and sends one"
        " finished day at a time.",
        epilog="examples:\n"
        "  tallyd demo                     see the whole flow on this machine, in a minute\n"
        "  tallyd status                   what runs, who decided, what waits, what left\n"
        "  tallyd preview codegraph        the exact body that would be sent next\n"
        "  tallyd off codegraph            no more of it, and what was not sent is deleted\n"
        "  DO_NOT_TRACK=1 your-tool        counts nothing, whatever else is set\n",
        formatter_class=_Formatter,
    )
    whole.add_argument("--version", action="version", version=f"tallyd {__version__}")
    groups = {"": _commands_of(whole)}
    for one in wanted or _COMMANDS:
        group, _, name = one.words.rpartition(" ")
        if group not in groups:
            above = groups[""].add_parser(group, help=f"work with {group}s")
            groups[group] = _commands_of(above)
        made = groups[group].add_parser(
            name,
            help=one.summary,
            description=f"{one.summary[0].upper()}{one.summary[1:]}.",
            epilog=f"example:\n  {one.example}",
            formatter_class=_Formatter,
        )
        for argument, how in one.arguments.items():
            made.add_argument(argument, *how.get("flags", ()), **_without_flags(how))
        made.set_defaults(command=one.words)
    return whole


def _without_flags(how: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in how.items() if key != "flags"}


def _commands_of(
    above: argparse.ArgumentParser,
) -> argparse._SubParsersAction[argparse.ArgumentParser]:
    # With its `prog` said, argparse need not find it out by formatting help, which takes 4 ms.
    return above.add_subparsers(title="commands", metavar="COMMAND", required=True, prog=above.prog)

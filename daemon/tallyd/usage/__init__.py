"""The command line: the table of `commands` as a parser.

Prints nothing but argparse's own help and usage. A parsed line carries `command`, the words of the
command; `cli` knows what each one does.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING, Any, NoReturn

from tallyd import __version__, exits
from tallyd.terminal import screen_of
from tallyd.usage.commands import COMMANDS

if TYPE_CHECKING:
    from collections.abc import Sequence


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """argparse's own, told how wide the terminal is: to find out it would load 4 ms of archives."""

    def __init__(self, prog: str) -> None:
        columns = screen_of(sys.stdout, os.environ).width or 80
        super().__init__(prog, width=columns - 2)


class _Parser(argparse.ArgumentParser):
    def __init__(self, **how: Any) -> None:
        # A word cut short may mean another option one day.
        super().__init__(**how, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(exits.USAGE, f"{self.prog}: {message}\n")


def parser(argv: Sequence[str] = ()) -> argparse.ArgumentParser:
    """The parser of the command line; wrong usage exits with exits.USAGE.

    Of the whole of it, or of the one command that `argv` begins with: each costs 0.3 ms to define.
    """
    wanted = tuple(one for one in COMMANDS if argv[:1] == [one.words])
    whole = _Parser(
        prog="tallyd",
        description="Merges the counter deltas of short-lived processes exactly once and sends one"
        " finished day at a time.",
        epilog="examples:\n"
        "  tallyd demo                     see the whole flow on this machine, in a minute\n"
        "  tallyd status                   is it well, what does it know, where did it go\n"
        "  tallyd preview codegraph        the exact body that would be sent next\n"
        "  tallyd off codegraph            no more of it, and what was not sent is deleted\n"
        "  DO_NOT_TRACK=1 your-tool        counts nothing, whatever else is set\n"
        + ("\nThe manual page: man tallyd\n" if _man_finds_the_page() else ""),
        formatter_class=_Formatter,
    )
    whole.add_argument("--version", action="version", version=f"tallyd {__version__}")
    groups = {"": _commands_of(whole)}
    for one in wanted or COMMANDS:
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
            made.add_argument(
                argument,
                *how.get("flags", ()),
                **{key: value for key, value in how.items() if key != "flags"},
            )
        made.set_defaults(command=one.words)
    return whole


def _man_finds_the_page() -> bool:
    """Whether `man tallyd` would show this installation's page.

    man looks beside each directory of the PATH. uv installs the page into the tool's own environment,
    where man never looks; pipx and `pip install --user` put it beside the command.
    """
    directories = os.environ.get("PATH", "").split(os.pathsep)
    mine = os.path.dirname(os.path.abspath(sys.argv[0]))
    page = os.path.join(mine, "..", "share", "man", "man1", "tallyd.1")
    return (
        mine in directories
        and "MANPATH" not in os.environ
        and os.path.exists(page)
        and any(os.access(os.path.join(one, "man"), os.X_OK) for one in directories)
    )


def _commands_of(
    above: argparse.ArgumentParser,
) -> argparse._SubParsersAction[argparse.ArgumentParser]:
    # With its `prog` said, argparse need not find it out by formatting help, which takes 4 ms.
    return above.add_subparsers(title="commands", metavar="COMMAND", required=True, prog=above.prog)

"""The command line as a table: each command with its words, its example and its arguments.

Prints nothing but argparse's own help and usage. A parsed line carries `command`, the words of the
command; `cli` knows what each one does.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from typing import Any, NoReturn

from tallyd import __version__

EXIT_USAGE = 64

_PRODUCT: dict[str, Any] = {"metavar": "PRODUCT"}
_JSON: dict[str, Any] = {"action": "store_true", "help": "print JSON"}


@dataclass(frozen=True, slots=True)
class _Command:
    words: str
    summary: str
    example: str
    arguments: dict[str, dict[str, Any]]


_COMMANDS = (
    _Command("run", "run the daemon in the foreground until a signal", "tallyd run", {}),
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
        "stop counting and sending for a product, and delete what was not sent and its id",
        "tallyd off codegraph",
        {"product": _PRODUCT},
    ),
    _Command(
        "on",
        "let a product count and send, under a new id",
        "tallyd on codegraph",
        {"product": _PRODUCT},
    ),
    _Command(
        "contract add",
        "register a product's contract",
        "tallyd contract add telemetry.toml",
        {"file": {"metavar": "FILE", "help": "the contract, a TOML file"}},
    ),
    _Command(
        "demo",
        "walk one counter from a real MCP server to a gateway's store",
        "tallyd demo",
        {"--keep": {"action": "store_true", "help": "keep the temporary home, and say where"}},
    ),
)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(EXIT_USAGE, f"{self.prog}: {message}\n")


def parser() -> argparse.ArgumentParser:
    """The parser of the whole command line; wrong usage exits with EXIT_USAGE."""
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
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    whole.add_argument("--version", action="version", version=f"tallyd {__version__}")
    groups = {"": whole.add_subparsers(title="commands", metavar="COMMAND", required=True)}
    for one in _COMMANDS:
        group, _, name = one.words.rpartition(" ")
        if group not in groups:
            above = groups[""].add_parser(group, help=f"work with {group}s")
            groups[group] = above.add_subparsers(title="commands", metavar="COMMAND", required=True)
        made = groups[group].add_parser(
            name,
            help=one.summary,
            description=f"{one.summary[0].upper()}{one.summary[1:]}.",
            epilog=f"example:\n  {one.example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        for argument, how in one.arguments.items():
            made.add_argument(argument, **how)
        made.set_defaults(command=one.words)
    return whole

"""The command that looks at everything around the daemon: `doctor`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tallyd import exits
from tallyd.cli.here import locate, time_now
from tallyd.cli.output import leave, print_json, print_lines, say

if TYPE_CHECKING:
    import argparse


def doctor(arguments: argparse.Namespace) -> int:
    """What is wrong around the daemon, and what mends it; exits with 1 when something is to be mended."""
    from tallyd.doctor import report, text, walk

    findings = walk(locate(), time_now(), say, online=arguments.online)
    told = report(findings)
    print_json(told) if arguments.json else print_lines(text(findings))
    # A thread may still wait for a disk or a name server that never answers.
    leave(exits.FOUND if told["problems"] else 0)

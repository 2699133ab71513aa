"""The commands that do the work: `run`, `flush`, `demo`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tallyd.cli.exits import EXIT_BUG, EXIT_STATE
from tallyd.cli.here import ask_daemon, locate
from tallyd.cli.output import leave, print_json, print_lines
from tallyd.errors import StateDamaged, StateMoved, TallydError, find
from tallyd.limits import DAMAGE_PAUSE_S

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping
    from typing import Any


def run(arguments: argparse.Namespace) -> int:
    """Be the daemon, until a signal; `arguments.began` is when the process began, monotonic seconds."""
    import logging

    import anyio

    from tallyd import logs, service, settings
    from tallyd.clock import SystemClock

    around = locate()
    chosen = settings.read_settings(around.paths)
    logs.set_up(chosen.log_level)
    os.umask(0o077)

    async def serve_and_leave() -> None:
        await service.serve(around, chosen, clock, arguments.began)
        leave(0)

    clock = SystemClock()
    damaged_at = -DAMAGE_PAUSE_S
    while True:
        try:
            anyio.run(serve_and_leave)
        except BaseException as crash:
            now = clock.monotonic()
            if find(crash, StateDamaged) and now - damaged_at >= DAMAGE_PAUSE_S:
                # It was set aside: begin anew, with an empty one. Twice in a row is the disk's doing.
                damaged_at = now
                continue
            if isinstance(crash, TallydError | KeyboardInterrupt):
                # Before anything was started.
                raise
            ended = find(crash, StateMoved) or find(crash, StateDamaged)
            if ended is None:
                logging.getLogger("tallyd").critical("action=crashed", exc_info=True)
                leave(EXIT_BUG)
            logging.getLogger("tallyd").critical(logs.line("ended", why=ended))
            leave(ended.exit_code)


def flush(arguments: argparse.Namespace) -> int:
    """Do one round, here or by asking the daemon that runs."""
    from tallyd import lock, render

    def tell(result: Mapping[str, Any]) -> int:
        print_json(result) if arguments.json else print_lines(render.flush_text(result))
        return EXIT_STATE if any(one.get("problem") for one in result.values()) else 0

    around = locate()
    if lock.is_daemon_running(around.paths):
        return tell(ask_daemon(around))
    import anyio

    from tallyd import logs, service
    from tallyd.clock import SystemClock

    async def flush_and_leave() -> None:
        leave(tell(await service.flush(around, SystemClock())))

    logs.set_up("warning")
    os.umask(0o077)
    anyio.run(flush_and_leave)
    return 0


def demo(arguments: argparse.Namespace) -> int:
    """Walk one counter through everything, for a person to watch."""
    from tallyd.demo import run_demo

    return run_demo(lambda text: print_lines([text]), keep=arguments.keep)

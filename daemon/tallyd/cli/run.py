"""The commands that do the work: `run`, `flush`, `demo`."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from tallyd import exits
from tallyd.cli.here import ask_daemon, locate
from tallyd.cli.output import leave, print_json, print_lines, say_error
from tallyd.errors import AlreadyRunning, StateDamaged, StateMoved, TallydError, find
from tallyd.limits import DAMAGE_PAUSE_S, START_EXTEND_S
from tallyd.notify import Notifier
from tallyd.runs import StopReason

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from typing import Any, NoReturn

    from tallyd.clock import SystemClock
    from tallyd.paths import Paths
    from tallyd.product import Surroundings
    from tallyd.service.life import Way
    from tallyd.settings import Settings

# How often a start looks whether the lock is free by now, in seconds.
_LOOK_S = 1.0
# Set for the newer program that an older one became, so that no two take turns for ever.
_DEFERRED = "TALLYD_DEFERRED"


def run(arguments: argparse.Namespace) -> int:
    """Be the daemon, until it is to end; `arguments.began` is when the process began, monotonic seconds."""
    from tallyd import logs, settings
    from tallyd.clock import SystemClock
    from tallyd.service.life import Way

    is_supervised = arguments.agent or bool(os.environ.get("NOTIFY_SOCKET"))
    if arguments.log_file:
        # Before the directory is left.
        arguments.log_file = os.path.abspath(arguments.log_file)
    if arguments.on_demand:
        _detach()
    around = locate()
    if arguments.on_demand and not is_supervised:
        _defer_to_newer(around.paths, _words(arguments))
    try:
        log_file = _log_file(arguments, around.paths, is_supervised=is_supervised)
        chosen = settings.read_settings(around.paths)
    except TallydError as problem:
        return _refuse(problem, is_agent=arguments.agent)
    logs.set_up(chosen.log_level, log_file)
    os.umask(0o077)
    way = Way(is_on_demand=arguments.on_demand, is_supervised=is_supervised)
    began = arguments.began
    while True:
        try:
            if is_supervised:
                began = _take_over(around.paths) or began
            _serve(around, chosen, SystemClock(), began, way, _words(arguments))
        except AlreadyRunning:
            if is_supervised:
                # Somebody took the lock between the look and the taking.
                continue
            if way.is_on_demand:
                # Somebody else was started first, as somebody always is.
                leave(0)
            raise


def _serve(
    around: Surroundings,
    chosen: Settings,
    clock: SystemClock,
    began: float,
    way: Way,
    words: Sequence[str],
) -> NoReturn:
    import logging

    import anyio

    from tallyd import logs
    from tallyd.service import daemon
    from tallyd.service.waiting import waiting

    async def serve_and_leave(began: float) -> None:
        ending = await daemon.serve(around, chosen, clock, began, way)
        # A host that dropped a moment ago saw our lock, and starts nobody: what it dropped is for us.
        if ending.reason is StopReason.IDLE and waiting(around) - ending.waiting:
            return
        if ending.successor:
            # It scans at its start, so nothing that a host dropped meanwhile waits for the next one.
            os.environ.pop(_DEFERRED, None)
            _become(ending.successor, words)
        leave(ending.exit_code)

    damaged_at = -DAMAGE_PAUSE_S
    while True:
        try:
            anyio.run(serve_and_leave, began)
        except BaseException as crash:
            now = clock.monotonic()
            if find(crash, StateDamaged) and now - damaged_at >= DAMAGE_PAUSE_S:
                # It was set aside: begin anew, with an empty one. Twice in a row is the disk's doing.
                damaged_at = began = now
                continue
            if isinstance(crash, TallydError | KeyboardInterrupt):
                # Before anything was started.
                raise
            ended = find(crash, StateMoved) or find(crash, StateDamaged)
            if ended is None:
                logging.getLogger("tallyd").critical("action=crashed", exc_info=True)
                leave(exits.BUG)
            logging.getLogger("tallyd").critical(logs.line("ended", why=ended))
            leave(ended.exit_code)
        # A second run of the same process begins now.
        began = clock.monotonic()


def _detach() -> None:
    """Hold nothing of whoever started us: no directory, no descriptor, no console."""
    os.chdir(os.sep)
    # Those that are open, and not up to the limit: that may be a thousand million.
    for listing in ("/proc/self/fd", "/dev/fd"):
        with suppress(OSError):
            for one in os.listdir(listing):
                if int(one) > 2:
                    # The listing's own is gone by now.
                    with suppress(OSError):
                        os.close(int(one))
            break
    # Its own session where it has none yet: a terminal's interrupt is not for us.
    with suppress(OSError, AttributeError):
        os.setsid()
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    if nothing > 2:
        os.close(nothing)


def _defer_to_newer(paths: Paths, words: Sequence[str]) -> None:
    """Be the newest program that ran here instead, if that is another: of two versions it stays."""
    from tallyd import __version__, handover
    from tallyd.clock import SystemClock

    newer = handover.newer_program(paths, __version__, SystemClock().now())
    if newer is None or os.environ.get(_DEFERRED):
        return
    os.environ[_DEFERRED] = __version__
    handover.note_try(paths)
    _become(newer, words)


def _become(command: Sequence[str], words: Sequence[str]) -> None:
    """Run `tallyd` of another command in the place of this process; returns where that is refused."""
    with suppress(OSError):
        os.execv(command[0], [*command, *words])  # noqa: S606 - no shell wanted


def _words(arguments: argparse.Namespace) -> list[str]:
    """The words after `tallyd` with which a daemon on demand is started as this one was."""
    log = ["--log-file", arguments.log_file] if arguments.log_file else []
    return ["run", "--on-demand", *log]


def _take_over(paths: Paths) -> float | None:
    """Wait until nobody holds the lock: the daemon that a service manager starts is the one that stays.

    One that a host started is asked to make room, and the next start is claimed, so that no host starts
    another; a flush, and what runs in a terminal, end by themselves. To give up would leave this user
    without a service until the next login. When the wait was over, in monotonic seconds: a run begins
    then; None where there was none.
    """
    from tallyd import handover, lock, reserve

    notifier = Notifier(os.environ)
    has_waited, asked = False, 0
    while (holder := lock.current_holder(paths)) is not None:
        has_waited = True
        notifier.extend_start(START_EXTEND_S)
        notifier.status(f"waits for {holder.in_words}")
        if holder.way == lock.ON_DEMAND:
            if holder.pid != asked:
                # A disk that refuses it is asked again; until then there is nothing but to wait.
                with suppress(TallydError):
                    reserve.insist(paths, lambda: handover.ask_for_service(paths))
                    asked = holder.pid
            handover.announce(paths)
        time.sleep(_LOOK_S)
    return time.monotonic() if has_waited else None


def _log_file(arguments: argparse.Namespace, paths: Paths, *, is_supervised: bool) -> Path | None:
    """The file that the log goes to, None for stderr as it is."""
    from pathlib import Path

    from tallyd import logs
    from tallyd.files import make_directory

    file = Path(arguments.log_file) if arguments.log_file else None
    if file is None and arguments.on_demand and not is_supervised:
        make_directory(paths.state)
        file = paths.log
    if file is not None:
        logs.to_file(file)
    return file


def _refuse(problem: TallydError, *, is_agent: bool) -> int:
    """What to do about a start that another one would not mend."""
    if not is_agent:
        raise problem
    # launchd starts again whatever did not end with 0, and knows no codes to except.
    say_error(problem)
    return 0


def flush(arguments: argparse.Namespace) -> int:
    """Do one round, here or by asking the daemon that runs."""
    from tallyd import lock, render

    def tell(result: Mapping[str, Any]) -> int:
        print_json(result) if arguments.json else print_lines(render.flush_text(result))
        return exits.STATE if any(one.get("problem") for one in result.values()) else 0

    around = locate()
    if lock.is_daemon_running(around.paths):
        try:
            return tell(ask_daemon(around))
        except AlreadyRunning:
            # It left instead of answering, as one does to which everything is forbidden.
            if lock.current_holder(around.paths) is not None:
                raise
    import anyio

    from tallyd import logs
    from tallyd.clock import SystemClock
    from tallyd.service import once

    async def flush_and_leave() -> None:
        leave(tell(await once.flush(around, SystemClock())))

    logs.set_up("warning")
    os.umask(0o077)
    anyio.run(flush_and_leave)
    return 0


def demo(arguments: argparse.Namespace) -> int:
    """Walk one counter through everything, for a person to watch."""
    from tallyd.demo import run_demo

    return run_demo(lambda text: print_lines([text]), keep=arguments.keep)

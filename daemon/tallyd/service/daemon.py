"""The daemon: start, serve until it is time to go, stop in order.

`serve` is the whole life of `tallyd run`: take the lock, open the store, record what a killed run
left unsaid, start one loop per duty in one task group, announce the start, wait for a signal or for
a loop that finds it is time, cancel, record the stop. If a loop fails, the group falls and the
process exits non-zero: a supervisor restarts it.
"""

from __future__ import annotations

import logging
import os
import signal
from contextlib import suppress
from typing import TYPE_CHECKING

import anyio

from tallyd import __version__, handover, heartbeat, installation, logs, reserve
from tallyd.clock import Steadiness
from tallyd.errors import SettingsError, StateUnusable, TallydError
from tallyd.files import make_directory
from tallyd.notify import Notifier
from tallyd.passes import Passes
from tallyd.runs import StopReason
from tallyd.service import loops
from tallyd.service.instance import single_instance
from tallyd.service.life import Ending, Life, Way
from tallyd.service.ways import Ways
from tallyd.settings import read_settings
from tallyd.wakeups import Doorbell, Watcher

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tallyd.clock import Clock
    from tallyd.product import Surroundings
    from tallyd.settings import Settings

_log = logging.getLogger(__name__)


def _signals() -> list[signal.Signals]:
    """Those that mean something; what nohup ignores for this process stays ignored."""
    names = [one for one in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, one)]
    found = [signal.Signals(getattr(signal, one)) for one in names]
    hup = getattr(signal, "SIGHUP", None)
    return [one for one in found if one != hup or signal.getsignal(one) != signal.SIG_IGN]


async def serve(
    around: Surroundings, settings: Settings, clock: Clock, began: float, way: Way | None = None
) -> Ending:
    """Run the daemon until it is to end; `began` is when the process began, monotonic seconds.

    Returns why it ended. Raises AlreadyRunning or StateUnusable before anything was started.
    """
    way = way or Way()
    # Asked now: once it is closed there is none.
    has_terminal = _has_terminal()
    # What was loaded is what is there now; and before the lock nobody asks a daemon to leave that he has
    # not seen.
    fingerprint = installation.Fingerprint()
    asked = handover.asked(around.paths, __version__)
    with single_instance(around, clock, "daemon", way.word) as (store, held):
        life = Life(clock, Notifier(os.environ), held.post)
        troubles = life.troubles
        steadiness = Steadiness(clock, held.previous_beat)
        passes = Passes(store, around, clock, troubles, steadiness, life.progress)
        if way.is_on_demand and not way.is_supervised and around.paths.stopped.exists():
            # Whoever says "stop" writes that down and then looks at the lock; we took it, and look now.
            return _not_wanted(around)
        # Before the start is recorded, so that no signal can fall between the two.
        with anyio.open_signal_receiver(*_signals()) as signals:
            startup_ms = int((clock.monotonic() - began) * 1000)
            views, now = passes.views(), clock.now()
            run_id = reserve.insist(
                around.paths,
                lambda: heartbeat.record_start(store, held.holder, startup_ms, views, now),
            )
            try:
                _settle(around, way)
                while life.ending is None:
                    run = loops.Run(
                        passes,
                        store,
                        held,
                        around,
                        settings,
                        clock,
                        began,
                        life,
                        way,
                        asked,
                        fingerprint,
                    )
                    await _run_loops(run, signals, has_terminal=has_terminal)
                    if life.ending is None:
                        settings = _reread(around, settings)
                        life.reloaded()
            finally:
                life.stopping()
                ending = life.ending or Ending(StopReason.CRASH)
                uptime_s = clock.monotonic() - began
                try:
                    views, now = passes.views(), clock.now()
                    reserve.insist(
                        around.paths,
                        lambda: heartbeat.record_stop(
                            store, run_id, ending.reason, uptime_s, views, now
                        ),
                    )
                except TallydError as problem:
                    # The next start finds this run without a stop, and says so.
                    _log.error(logs.line("stop_not_recorded", why=problem))
                if ending.successor:
                    handover.announce(around.paths)
        return ending


async def _run_loops(
    run: loops.Run, signals: AsyncIterator[signal.Signals], *, has_terminal: bool
) -> None:
    """One loop per duty, until the run ends or the settings are to be read anew."""
    paths, life = run.around.paths, run.life
    spool_bell, flush_bell = Doorbell(), Doorbell()
    for watched in (paths.spools, paths.flush_requests):
        # Where that is refused, each product's round says why, and goes on once it is mended.
        with suppress(StateUnusable):
            make_directory(watched)
    bells = {paths.spools: spool_bell, paths.flush_requests: flush_bell}
    ways = Ways(paths.spools, run.settings.rescan_interval_s)
    watcher = Watcher(bells if run.settings.watch else {}, ways.sift)
    try:
        async with anyio.create_task_group() as group:
            life.scope = group.cancel_scope
            group.start_soon(loops.run_intake, run, spool_bell, watcher)
            group.start_soon(loops.run_flushes, run, flush_bell)
            for loop in (
                loops.run_delivery,
                loops.run_retention,
                loops.run_heartbeat,
                loops.run_leaving,
            ):
                group.start_soon(loop, run)
            async for number in signals:
                if number == getattr(signal, "SIGHUP", None) and not has_terminal:
                    life.reload()
                else:
                    life.end(Ending(StopReason.SIGNAL, signal.Signals(number).name))
                break
    finally:
        watcher.close()


def _not_wanted(around: Surroundings) -> Ending:
    """The end of a daemon that a host started while its user stopped them all."""
    with suppress(OSError):
        around.paths.starting.unlink(missing_ok=True)
    why = 'stopped by "tallyd service stop"; "tallyd service start" takes it back'
    _log.info(logs.line("leaving", reason=StopReason.REQUEST.word, why=why))
    return Ending(StopReason.REQUEST, why)


def _settle(around: Surroundings, way: Way) -> None:
    """Take down what was asked for before this start; on demand, be the program of the next one."""
    command = installation.command() if way.is_on_demand and not way.is_supervised else None
    if way.is_supervised:
        # "Stopped" was until the next login, and that has come.
        with suppress(OSError):
            around.paths.stopped.unlink(missing_ok=True)
    try:
        reserve.insist(
            around.paths,
            lambda: handover.settle(
                around.paths, __version__, command, installation.package_file()
            ),
        )
    except StateUnusable as problem:
        _log.warning(logs.line("program_not_noted", why=problem))


def _reread(around: Surroundings, settings: Settings) -> Settings:
    """The settings as they stand now; those of before where they are wrong."""
    try:
        fresh = read_settings(around.paths)
    except SettingsError as problem:
        _log.error(logs.line("settings_kept", why=problem))
        return settings
    logs.set_level(fresh.log_level)
    _log.info(logs.line("reloaded", **fresh.as_dict()))
    return fresh


def _has_terminal() -> bool:
    """Whether a terminal controls this process: then SIGHUP means that it was closed."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | getattr(os, "O_NOCTTY", 0)))
    except OSError:
        return False
    return True

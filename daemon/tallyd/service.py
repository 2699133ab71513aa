"""The front door of the daemon: start, serve until told to stop, stop in order.

`serve` is the whole life of `tallyd run`: take the lock, open the store, record what a killed run
left unsaid, start one loop per duty in one task group, announce the start, wait for a signal,
cancel, record the stop. `flush` is the same pipeline once, in the foreground, under the same lock.
A loop never returns and may be cancelled at any await, because the process may be killed anywhere.
If one fails, the group falls and the process exits non-zero: a supervisor restarts it.
"""

from __future__ import annotations

import logging
import os
import signal
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING

import anyio

from tallyd import __version__, buckets, damage, heartbeat, lock, logs, requests, reserve, retention
from tallyd.clock import Steadiness
from tallyd.errors import (
    NotRegistered,
    StateDamaged,
    StateMoved,
    StateUnusable,
    TallydError,
    find,
    in_words,
)
from tallyd.files import make_directory
from tallyd.limits import (
    DELIVERY_LOOK_S,
    FLUSH_LOOK_S,
    HEARTBEAT_INTERVAL_S,
    RETENTION_INTERVAL_S,
    TROUBLED_INTERVAL_S,
    WATCH_SETTLE_S,
)
from tallyd.passes import Passes
from tallyd.product import look_at
from tallyd.runs import StopReason
from tallyd.store import open_store
from tallyd.troubles import Troubles

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from tallyd.clock import Clock
    from tallyd.paths import Paths
    from tallyd.product import Surroundings
    from tallyd.settings import Settings
    from tallyd.store import Store
    from tallyd.wakeups import Doorbell, Watcher

_log = logging.getLogger(__name__)

FlushResult = dict[str, dict[str, object]]


async def serve(around: Surroundings, settings: Settings, clock: Clock, began: float) -> None:
    """Run the daemon until a signal; `began` is when the process began, monotonic seconds.

    Raises AlreadyRunning or StateUnusable before anything was started.
    """
    from tallyd.wakeups import Doorbell, Watcher  # noqa: PLC0415 - a flush needs no watchfiles

    with _single_instance(around, clock, "daemon") as (store, held):
        troubles = Troubles(clock, held.post)
        passes = Passes(store, around, clock, troubles, Steadiness(clock, held.previous_beat))
        reason = StopReason.CRASH
        # Before the start is recorded, so that no signal can fall between the two.
        with anyio.open_signal_receiver(*_STOP_SIGNALS) as signals:
            startup_ms = int((clock.monotonic() - began) * 1000)
            views, now = passes.views(), clock.now()
            run_id = reserve.insist(
                around.paths,
                lambda: heartbeat.record_start(store, held.holder, startup_ms, views, now),
            )
            spool_bell, flush_bell = Doorbell(), Doorbell()
            for watched in (around.paths.spools, around.paths.flush_requests):
                # Where that is refused, each product's round says why, and goes on once it is mended.
                with suppress(StateUnusable):
                    make_directory(watched)
            watcher = Watcher(
                {around.paths.spools: spool_bell, around.paths.flush_requests: flush_bell}
                if settings.watch
                else {}
            )
            try:
                async with anyio.create_task_group() as loops:
                    loops.start_soon(_run_intake, passes, spool_bell, watcher, settings)
                    loops.start_soon(_run_flushes, passes, flush_bell, around, settings)
                    loops.start_soon(_run_delivery, passes)
                    loops.start_soon(_run_retention, passes, around)
                    loops.start_soon(_run_heartbeat, store, held, clock, began)
                    async for _ in signals:
                        reason = StopReason.SIGNAL
                        loops.cancel_scope.cancel()
                        break
            finally:
                watcher.close()
                uptime_s = clock.monotonic() - began
                try:
                    views, now = passes.views(), clock.now()
                    reserve.insist(
                        around.paths,
                        lambda: heartbeat.record_stop(store, run_id, reason, uptime_s, views, now),
                    )
                except TallydError as problem:
                    # The next start finds this run without a stop, and says so.
                    _log.error(logs.line("stop_not_recorded", why=problem))


async def flush(around: Surroundings, clock: Clock) -> FlushResult:
    """One intake, one delivery and one tidying of every product, here and now.

    Raises AlreadyRunning when a daemon holds the lock, StateUnusable when the state refuses.
    """
    try:
        return await _flush_once(around, clock)
    except StateDamaged:
        # Set aside by now.
        return await _flush_once(around, clock)


async def _flush_once(around: Surroundings, clock: Clock) -> FlushResult:
    with _single_instance(around, clock, "flush") as (store, held):
        steadiness = Steadiness(clock, held.previous_beat)
        return await _flush(Passes(store, around, clock, steadiness=steadiness))


def forget(around: Surroundings, clock: Clock, products: Sequence[str]) -> None:
    """Remove every unsent trace of products whose users have just said no.

    Raises AlreadyRunning when a daemon holds the lock, StateUnusable when the state refuses.
    """
    try:
        _forget(around, clock, products)
    except StateDamaged:
        # Set aside by now, and what was set aside goes too.
        _forget(around, clock, products)


def _forget(around: Surroundings, clock: Clock, products: Sequence[str]) -> None:
    with _single_instance(around, clock, "flush") as (store, _):
        for product in products:
            retention.purge(store, product, around.paths)
            try:
                is_on = look_at(product, around, clock.now()).consent.is_on
            except NotRegistered:
                is_on = False
            if not is_on:
                around.registry.forget_agreement(product)


_STOP_SIGNALS = [
    getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name)
]


@contextmanager
def _single_instance(
    around: Surroundings, clock: Clock, role: str
) -> Iterator[tuple[Store, lock.HeldLock]]:
    """Hold the lock and the store; whoever does so first records what a killed run left unsaid.

    A database that turns out to be damaged, now or later, is set aside before the lock is let go.
    """
    paths = around.paths
    holder = lock.Holder(os.getpid(), role, __version__, clock.now())
    with ExitStack() as stack:
        held = reserve.insist(paths, lambda: stack.enter_context(lock.hold_lock(paths, holder)))
        try:
            store = reserve.insist(paths, lambda: open_store(paths))
        except StateDamaged as problem:
            _set_aside(paths, problem, clock)
            store = reserve.insist(paths, lambda: open_store(paths))
        store.guard(held.check)
        try:
            with store.reading() as sql:
                # A broken text is found now, and not on the day on which it is to be sent.
                buckets.read_through(sql)
            views = Passes(store, around, clock).views()
            reserve.insist(paths, lambda: heartbeat.recover(store, held, views))
            yield store, held
        except BaseException as crash:
            damaged = find(crash, StateDamaged)
            if damaged is not None:
                store.close()
                _set_aside(paths, damaged, clock)
            raise
        finally:
            store.close()


def _set_aside(paths: Paths, problem: StateDamaged, clock: Clock) -> None:
    kept = damage.set_aside(paths, clock.now())
    _log.error(logs.line("database_set_aside", why=problem, kept=kept))


async def _flush(passes: Passes) -> FlushResult:
    result: FlushResult = {}
    for product, merged in (await passes.merge_all()).items():
        delivery = await passes.deliver(product)
        result[product] = {
            "merged": merged.count.merged,
            "quarantined": merged.count.quarantined,
            "sealed": delivery.sealed,
            **asdict(delivery.sent),
            "blocked": delivery.blocked,
            "problem": merged.problem or delivery.problem,
        }
    result |= {product: {"problem": problem} for product, problem in passes.unusable.items()}
    await passes.keep_bounds()
    return result


async def _run_intake(passes: Passes, bell: Doorbell, watcher: Watcher, settings: Settings) -> None:
    """Scan at start, at every wake-up and on a slow timer: the scan is the truth."""
    while True:
        await _survive(passes.merge_all, "intake", passes.troubles)
        if watcher.problem:
            hint = (
                f"until then counts are found by the timer, every {settings.rescan_interval_s:g} s"
            )
            passes.troubles.met("watching", "", f"{watcher.problem}; {hint}")
        else:
            passes.troubles.over("watching")
        # After the merge, which may have made directories itself.
        wait_s = settings.rescan_interval_s
        if watcher.rearm_if_needed():
            wait_s = min(wait_s, WATCH_SETTLE_S)
        await bell.wait(wait_s)


async def _run_flushes(
    passes: Passes, bell: Doorbell, around: Surroundings, settings: Settings
) -> None:
    """Answer whoever asks for a flush."""

    async def answer_all() -> None:
        waiting = requests.pending(around.paths)
        if waiting:
            unwanted = {one for request in waiting for one in requests.to_forget(request)}
            kept = {product: await passes.forget(product) for product in unwanted}
            result = await _flush(passes)
            for product, problem in kept.items():
                if problem:
                    result.setdefault(product, {})["not_deleted"] = problem
            for request in waiting:
                # A person waits for it, and may have asked for room.
                reserve.insist(around.paths, partial(requests.answer, request, result))

    while True:
        await _survive(answer_all, "flush", passes.troubles)
        # A person waits at the other end, so also without any wake-up it does not take long.
        await bell.wait(min(settings.rescan_interval_s, FLUSH_LOOK_S))


async def _run_delivery(passes: Passes) -> None:
    """Seal and send each product when its time has come."""
    at_start = True
    wait_s = 0.0

    async def deliver_due() -> None:
        nonlocal at_start, wait_s
        due, wait_s = await passes.due(at_start=at_start)
        at_start = False
        for product in due:
            delivery = await passes.deliver(product)
            # Where even the plan could not be written it is due again at once, and must not be tried so.
            wait_s = DELIVERY_LOOK_S if delivery.problem else 0.0

    while True:
        await _survive(deliver_due, "delivery", passes.troubles)
        await anyio.sleep(max(wait_s, 1.0))


async def _run_retention(passes: Passes, around: Surroundings) -> None:
    """Keep everything bounded, at start and from time to time."""
    while True:
        await _survive(passes.keep_bounds, "retention", passes.troubles)
        is_well = not passes.troubles.now and reserve.is_whole(around.paths)
        await anyio.sleep(RETENTION_INTERVAL_S if is_well else TROUBLED_INTERVAL_S)


async def _run_heartbeat(store: Store, held: lock.HeldLock, clock: Clock, began: float) -> None:
    """Note that the daemon lives."""
    while True:
        await anyio.sleep(HEARTBEAT_INTERVAL_S)
        store.check_place()
        held.beat(clock.now(), clock.monotonic() - began)


async def _survive(work: Callable[[], Awaitable[object]], duty: str, troubles: Troubles) -> None:
    """One round of a duty. A refusing disk or database costs this round; the next one tries again.

    A database that was moved away ends the daemon: what it writes is seen by nobody. One that is
    damaged ends this run of it.
    """
    try:
        await work()
    except (StateMoved, StateDamaged):
        raise
    except (TallydError, OSError) as problem:
        troubles.met(duty, "", in_words(problem))
    else:
        troubles.over(duty)

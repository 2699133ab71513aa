"""The loops of the daemon, one per duty. None returns; each may be cancelled at any await."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import anyio

from tallyd import __version__, exits, handover, installation, policy, requests, reserve
from tallyd.contract.frozen import Frozen
from tallyd.errors import StateDamaged, StateMoved, TallydError, in_words
from tallyd.limits import (
    DELIVERY_LOOK_S,
    FLUSH_LOOK_S,
    RETENTION_INTERVAL_S,
    TROUBLED_INTERVAL_S,
    WATCH_SETTLE_S,
)
from tallyd.runs import StopReason
from tallyd.service.life import Ending
from tallyd.service.once import flush_with
from tallyd.service.waiting import waiting

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from tallyd.clock import Clock
    from tallyd.handover import Asked
    from tallyd.lock import HeldLock
    from tallyd.passes import Passes
    from tallyd.product import Surroundings
    from tallyd.service.life import Life, Way
    from tallyd.settings import Settings
    from tallyd.store import Store
    from tallyd.troubles import Troubles
    from tallyd.wakeups import Doorbell, Watcher


class Run(Frozen):
    """What the loops of one run share; `began` is when the process began, monotonic seconds.

    `asked` is the request for a hand-over that was there before this run: it came of it, or in spite.
    `fingerprint` is of the files it was started from.
    """

    passes: Passes
    store: Store
    held: HeldLock
    around: Surroundings
    settings: Settings
    clock: Clock
    began: float
    life: Life
    way: Way
    asked: Asked | None
    fingerprint: installation.Fingerprint


async def run_intake(run: Run, bell: Doorbell, watcher: Watcher) -> None:
    """Scan at start, at every wake-up and on a slow timer: the scan is the truth."""
    passes, around, life = run.passes, run.around, run.life

    async def scan() -> None:
        merged = await passes.merge_all()
        life.scanned(len(merged), sum(one.count.moved for one in merged.values()))
        if not _leave_if_all_is_off(run) and run.way.is_on_demand:
            if await passes.in_thread(passes.is_wanted):
                return
            # Asked again after a look at what waits: whatever comes after it keeps the process (cli.run).
            left = await passes.in_thread(waiting, around)
            if not await passes.in_thread(passes.is_wanted):
                life.leave(Ending(StopReason.IDLE, "no product is on", waiting=left))

    while True:
        await _survive(scan, "intake", run)
        if watcher.problem:
            every = f"every {run.settings.rescan_interval_s:g} s"
            hint = f"until then counts are found by the timer, {every}"
            passes.troubles.met("watching", "", f"{watcher.problem}; {hint}")
        else:
            passes.troubles.over("watching")
        # After the merge, which may have made directories itself.
        wait_s = run.settings.rescan_interval_s
        if watcher.rearm_if_needed():
            wait_s = min(wait_s, WATCH_SETTLE_S)
        await bell.wait(wait_s)


async def run_flushes(run: Run, bell: Doorbell) -> None:
    """Answer whoever asks for a flush."""
    passes, around = run.passes, run.around

    async def answer_all() -> None:
        _see_who_asks(run)
        waiting = requests.pending(around.paths)
        if waiting:
            run.life.worked()
            unwanted = {one for request in waiting for one in requests.to_forget(request)}
            kept = {product: await passes.forget(product) for product in unwanted}
            result = await flush_with(passes)
            for product, problem in kept.items():
                if problem:
                    result.setdefault(product, {})["not_deleted"] = problem
            for request in waiting:
                # A person waits for it, and may have asked for room.
                reserve.insist(around.paths, partial(requests.answer, request, result))
            # As after "off --all", which asked for this.
            _leave_if_all_is_off(run)

    while True:
        await _survive(answer_all, "flush", run)
        # A person waits at the other end, so also without any wake-up it does not take long.
        await bell.wait(min(run.settings.rescan_interval_s, FLUSH_LOOK_S))


def _leave_if_all_is_off(run: Run) -> bool:
    """Leave where every product is off for good, those to come too: nothing is to be done, ever."""
    rule = policy.all_forbidden_by(run.around.paths, run.around.environ)
    if rule:
        run.life.leave(Ending(StopReason.REQUEST, f"every product is off ({rule})"))
    return bool(rule)


def _see_who_asks(run: Run) -> None:
    """Make room for a newer version, or for a service: whoever asks may be waiting at its start."""
    if not run.way.is_on_demand or run.way.is_supervised:
        return
    newer = handover.asked(run.around.paths, __version__)
    if newer is not None and newer != run.asked:
        # A service manager starts its own.
        why = f"makes room for {newer.version}"
        run.life.leave(Ending(StopReason.REQUEST, why, successor=newer.command))


async def run_delivery(run: Run) -> None:
    """Seal and send each product when its time has come."""
    at_start = True
    wait_s = 0.0

    async def deliver_due() -> None:
        nonlocal at_start, wait_s
        due, wait_s = await run.passes.due(at_start=at_start)
        at_start = False
        for product in due:
            delivery = await run.passes.deliver(product)
            # Where even the plan could not be written it is due again at once, and must not be tried so.
            wait_s = DELIVERY_LOOK_S if delivery.problem else 0.0

    while True:
        await _survive(deliver_due, "delivery", run)
        await anyio.sleep(max(wait_s, 1.0))


async def run_retention(run: Run) -> None:
    """Keep everything bounded, at start and from time to time."""
    while True:
        await _survive(run.passes.keep_bounds, "retention", run)
        is_well = not run.passes.troubles.now and reserve.is_whole(run.around.paths)
        await anyio.sleep(RETENTION_INTERVAL_S if is_well else TROUBLED_INTERVAL_S)


async def run_heartbeat(run: Run) -> None:
    """Note that the daemon lives; at once, too, so that no flood of reloads holds it up."""
    while True:
        run.store.check_place()
        run.held.beat(run.clock.now(), run.clock.monotonic() - run.began)
        run.life.beat()
        await anyio.sleep(run.life.beat_interval_s)


async def run_leaving(run: Run) -> None:
    """See when it is time to leave: idle, or after an upgrade."""
    life, way, idle_exit_s = run.life, run.way, run.settings.idle_exit_s
    while True:
        wait_s = life.beat_interval_s
        if way.is_on_demand:
            idle_left_s = idle_exit_s - life.idle_s()
            if idle_left_s <= 0:
                await _survive(partial(_leave_if_nothing_came, run), "leaving", run)
            wait_s = min(wait_s, max(idle_left_s, 1.0))
        await anyio.sleep(wait_s)
        change = run.fingerprint.change()
        if change == "removed":
            life.leave(Ending(StopReason.REQUEST, "tallyd was removed from this machine"))
        elif change:
            why = "tallyd was upgraded"
            if way.is_on_demand and not way.is_supervised:
                life.leave(Ending(StopReason.REQUEST, why, successor=installation.command()))
            else:
                life.leave(Ending(StopReason.REQUEST, why, exits.REPLACED))


async def _leave_if_nothing_came(run: Run) -> None:
    """Look once more, and leave if there was nothing to merge."""
    left = await run.passes.in_thread(waiting, run.around)
    merged = await run.passes.merge_all()
    if any(one.count.moved for one in merged.values()):
        run.life.worked()
    else:
        why = f"idle for {run.settings.idle_exit_s:g} s"
        run.life.leave(Ending(StopReason.IDLE, why, waiting=left))


async def _survive(work: Callable[[], Awaitable[object]], duty: str, run: Run) -> None:
    """One round of a duty. A refusing disk or database costs this round; the next one tries again.

    A database that was moved away ends the daemon: what it writes is seen by nobody. One that is
    damaged ends this run of it.
    """
    with run.life.progress.round(duty), _told(duty, run.passes.troubles):
        await work()


@contextmanager
def _told(duty: str, troubles: Troubles) -> Iterator[None]:
    try:
        yield
    except (StateMoved, StateDamaged):
        raise
    except (TallydError, OSError) as problem:
        troubles.met(duty, "", in_words(problem))
    else:
        troubles.over(duty)

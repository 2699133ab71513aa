"""One instance: the lock and the store, held for as long as somebody of ours works on the state."""

from __future__ import annotations

import logging
import os
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from tallyd import __version__, buckets, damage, heartbeat, lock, logs, reserve
from tallyd.errors import StateDamaged, find
from tallyd.passes import Passes
from tallyd.store import open_store, refuse_newer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tallyd.clock import Clock
    from tallyd.paths import Paths
    from tallyd.product import Surroundings
    from tallyd.store import Store

_log = logging.getLogger(__name__)


@contextmanager
def single_instance(
    around: Surroundings, clock: Clock, role: str, way: str = ""
) -> Iterator[tuple[Store, lock.HeldLock]]:
    """Hold the lock and the store; whoever does so first records what a killed run left unsaid.

    A database that turns out to be damaged, now or later, is set aside before the lock is let go.
    """
    paths = around.paths
    refuse_newer(paths)
    holder = lock.Holder(os.getpid(), role, __version__, clock.now(), way=way)
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

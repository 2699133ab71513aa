"""The passes of the pipeline, each over all products: what the daemon's loops and a flush share.

A pass looks at each product anew, then hands its view to the stations in order; stations never call
one another. One product that cannot be used stops no other. Blocking work runs in one worker thread
at a time, so the database has one writer.
"""

from __future__ import annotations

import logging
import random
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from anyio import CapacityLimiter, Lock, to_thread

from tallyd import choices, intake, ledger, logs, retention, seal, sender, spool
from tallyd.errors import NotRegistered
from tallyd.limits import DELIVERY_LOOK_S, FIRST_SEND_JITTER_S, INTERVAL_JITTER, MERGE_BATCH_FILES
from tallyd.product import look_at

if TYPE_CHECKING:
    from collections.abc import Callable

    from tallyd.clock import Clock
    from tallyd.product import ProductView, Surroundings
    from tallyd.sender import SendCount
    from tallyd.store import Store

_log = logging.getLogger(__name__)
_P = ParamSpec("_P")
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Delivery:
    """What one delivery did: batches frozen, what became of the sent ones, why nothing may leave."""

    sealed: int
    sent: SendCount
    blocked: str

    def as_json(self) -> dict[str, object]:
        """The delivery as `flush --json` tells it."""
        return {"sealed": self.sealed, **asdict(self.sent), "blocked": self.blocked}


class Passes:
    """The passes over one open store."""

    def __init__(self, store: Store, around: Surroundings, clock: Clock) -> None:
        self._store = store
        self._around = around
        self._clock = clock
        self._writer = CapacityLimiter(1)
        self._delivering = Lock()
        self._reported: dict[str, str] = {}

    async def in_thread(self, work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Run blocking work off the event loop, one piece at a time."""
        return await to_thread.run_sync(lambda: work(*args, **kwargs), limiter=self._writer)

    def views(self) -> list[ProductView]:
        """Every product with a usable contract, as it stands now; the others are logged once."""
        found = []
        for product in self._around.registry.products():
            try:
                found.append(self._look(product))
                self._reported.pop(product, None)
            except NotRegistered as problem:
                if self._reported.get(product) != problem.what:
                    self._reported[product] = problem.what
                    _log.warning(logs.line("contract_unusable", product=product, why=problem))
        return found

    async def merge_all(self) -> dict[str, intake.IntakeCount]:
        """Merge everything in every spool; products that are off are emptied instead."""
        return {
            view.name: await self._intake_product(view) for view in await self.in_thread(self.views)
        }

    async def deliver(self, product: str) -> Delivery:
        """Seal what is finished and send what may leave; then plan the next time."""
        async with self._delivering:
            view = await self.in_thread(self._look, product)
            sealed, sent = 0, sender.SendCount()
            if view.gate.is_open:
                sealed = await self.in_thread(self._seal, view)
                sent = await sender.send_all(
                    self._store, lambda: self._look(product), self._clock, self.in_thread
                )
            await self.in_thread(self._plan_next, view, sent)
        if sealed or sent != sender.SendCount():
            _log.info(logs.line("delivered", product=product, sealed=sealed, **asdict(sent)))
        return Delivery(sealed, sent, view.gate.reason)

    async def due(self, *, at_start: bool) -> tuple[list[str], float]:
        """The products whose time has come, and the seconds until the next one's."""
        return await self.in_thread(self._due, at_start=at_start)

    async def keep_bounds(self) -> None:
        """Age, caps and leftovers, of every product and of what all share."""
        for view in await self.in_thread(self.views):
            await self.in_thread(retention.keep_bounds, self._store, view, self._clock.now())
        await self.in_thread(retention.sweep, self._store, self._around.paths, self._clock.now())

    def _look(self, product: str) -> ProductView:
        return look_at(product, self._around, self._clock.now())

    async def _intake_product(self, view: ProductView) -> intake.IntakeCount:
        done = intake.IntakeCount()
        if not view.consent.is_on:
            if view.consent.is_wish:
                await self.in_thread(retention.purge, self._store, view)
            return done
        await self.in_thread(spool.prepare, view.spool)
        entries = await self.in_thread(spool.list_new, view.name, view.spool)
        for start in range(0, len(entries), MERGE_BATCH_FILES):
            batch = entries[start : start + MERGE_BATCH_FILES]
            # Consent is looked at anew for each batch: a user may have said no meanwhile.
            view = await self.in_thread(self._look, view.name)
            if not view.consent.is_on:
                break
            done.add(
                await self.in_thread(
                    intake.merge_batch, self._store, view, batch, self._clock.now()
                )
            )
        if done != intake.IntakeCount():
            _log.info(logs.line("intake", product=view.name, **asdict(done)))
        return done

    def _seal(self, view: ProductView) -> int:
        now = self._clock.now()
        if not seal.is_due(self._store, view, now):
            return 0
        machine_id = choices.ensure_id(view.contract, self._around.paths, self._around.environ, now)
        return seal.freeze(self._store, view, machine_id, now)

    def _plan_next(self, view: ProductView, sent: SendCount) -> None:
        if not view.consent.is_on:
            return
        now = self._clock.now()
        wait_s = _jittered(view.contract.endpoint.interval_s)
        if sent.again_in_s is not None:
            # The rate limit shortens the wait, a busy gateway's Retry-After can only lengthen it.
            wait_s = max(wait_s, sent.again_in_s) if sent.later else sent.again_in_s
        if view.gate.opens_at is not None:
            wait_s = min(wait_s, view.gate.opens_at - now + _first_wait_s())
        with self._store.transaction() as sql:
            ledger.set_next_send(sql, view.name, now + wait_s)

    def _due(self, *, at_start: bool) -> tuple[list[str], float]:
        now = self._clock.now()
        due: list[str] = []
        next_in_s = DELIVERY_LOOK_S
        for view in self.views():
            if not view.consent.is_on:
                continue
            with self._store.reading() as sql:
                planned = ledger.next_send(sql, view.name)
            longest = (
                view.contract.endpoint.interval_s * (1 + INTERVAL_JITTER) + FIRST_SEND_JITTER_S
            )
            overdue_at_start = at_start and planned is not None and planned <= now
            # Never planned, missed while no daemon ran, or planned by a clock that was ahead.
            if planned is None or overdue_at_start or planned > now + longest:
                planned = now + _first_wait_s()
                with self._store.transaction() as sql:
                    ledger.set_next_send(sql, view.name, planned)
            if planned <= now:
                due.append(view.name)
            else:
                next_in_s = min(next_in_s, planned - now)
        return due, next_in_s


def _jittered(interval_s: float) -> float:
    return interval_s * random.uniform(1 - INTERVAL_JITTER, 1 + INTERVAL_JITTER)  # noqa: S311 - no secret


def _first_wait_s() -> float:
    return random.uniform(0, FIRST_SEND_JITTER_S)  # noqa: S311 - no secret

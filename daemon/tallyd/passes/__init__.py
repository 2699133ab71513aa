"""The passes of the pipeline, each over all products: what the daemon's loops and a flush share.

A pass looks at each product anew, then hands its view to the stations in order; stations never call
one another. One product that cannot be used stops no other. Blocking work runs in one worker thread
at a time, so the database has one writer.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from anyio import CapacityLimiter, to_thread

from tallyd import intake, logs, plan, reserve, retention, sender, spool
from tallyd.clock import Steadiness
from tallyd.contract.frozen import Frozen
from tallyd.delta import DeltaReader
from tallyd.errors import (
    NotRegistered,
    StateDamaged,
    StateMoved,
    StateUnusable,
    TallydError,
    in_words,
)
from tallyd.limits import CAPS_SLACK_ROWS, DELTA_NAMES_SLACK, MERGE_TURN_FILES
from tallyd.passes import steps
from tallyd.passes.turn import Turn
from tallyd.product import keep_agreement, look_at, still_stands
from tallyd.progress import Progress
from tallyd.troubles import Troubles

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tallyd.clock import Clock
    from tallyd.product import ProductView, Surroundings
    from tallyd.sender import SendCount
    from tallyd.store import Store

_log = logging.getLogger(__name__)
_P = ParamSpec("_P")
_T = TypeVar("_T")


class Merged(Frozen):
    """What one intake of a product did, and what went wrong with it, in words."""

    count: intake.IntakeCount
    problem: str


@dataclass(slots=True)
class _Turn:
    """How far one product is: what was done, what is wrong, the last file seen where there are more."""

    count: intake.IntakeCount = field(default_factory=intake.IntakeCount)
    problem: str = ""
    after: str = ""


@dataclass(slots=True)
class Delivery:
    """What one delivery did: batches frozen, what became of the sent ones, why nothing may leave."""

    sealed: int = 0
    sent: SendCount = field(default_factory=sender.SendCount)
    blocked: str = ""
    problem: str = ""


class Passes:
    """The passes over one open store; what goes wrong in them is reported to `troubles`."""

    def __init__(
        self,
        store: Store,
        around: Surroundings,
        clock: Clock,
        troubles: Troubles | None = None,
        steadiness: Steadiness | None = None,
        progress: Progress | None = None,
    ) -> None:
        self._store = store
        self._around = around
        self._clock = clock
        self.troubles = troubles or Troubles(clock)
        self._steadiness = steadiness or Steadiness(clock)
        self._progress = progress or Progress(clock)
        self._writer = CapacityLimiter(1)
        self._turn = Turn(self._progress)
        self._unusable: dict[str, str] = {}
        self._names_since_sweep = 0
        self._added: Counter[str] = Counter()

    async def in_thread(self, work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Run blocking work off the event loop, one piece at a time."""
        self._progress.step()
        try:
            return await to_thread.run_sync(lambda: work(*args, **kwargs), limiter=self._writer)
        finally:
            self._progress.step()

    @property
    def unusable(self) -> dict[str, str]:
        """The products whose contract cannot be used, each with the reason, as last looked at."""
        return dict(self._unusable)

    def views(self) -> list[ProductView]:
        """Every product with a usable contract, as it stands now. Raises StateUnusable."""
        found = []
        self._unusable = {}
        products = self._around.registry.products()
        for product in products:
            try:
                found.append(self._look(product))
                self.troubles.over("contract", product)
            except NotRegistered as problem:
                self._unusable[product] = str(problem)
                self.troubles.met("contract", product, str(problem))
        self.troubles.forget_others(products)
        return found

    def is_wanted(self) -> bool:
        """Whether any product may count, or may again once a damaged file is mended."""
        return any(one.consent.is_on or not one.consent.is_wish for one in self.views())

    async def merge_all(self) -> dict[str, Merged]:
        """Merge everything in every spool; products that are off are emptied instead.

        In rounds, in which each product has a turn: a flood of one keeps no other waiting for longer.
        """
        self._may_age()
        turns: dict[str, _Turn] = {}
        has_more = True
        while has_more:
            has_more = False
            for view in await self.in_thread(self.views):
                turn = turns.setdefault(view.name, _Turn())
                turn.problem = await self._isolated(
                    view.name, "intake", self._merge_product, view, turn
                )
                has_more = has_more or bool(turn.after)
        return {name: Merged(turn.count, turn.problem) for name, turn in turns.items()}

    async def deliver(self, product: str) -> Delivery:
        """Seal what is finished and send what may leave; then plan the next time."""
        async with self._turn:
            delivery = Delivery()
            delivery.problem = await self._isolated(
                product, "delivery", self._deliver_product, product, delivery
            )
        if delivery.sealed or delivery.sent != sender.SendCount():
            said = {"sealed": delivery.sealed, **asdict(delivery.sent)}
            _log.info(logs.line("delivered", product=product, **said))
        return delivery

    async def due(self, *, at_start: bool) -> tuple[list[str], float]:
        """The products whose time has come, and the seconds until the next one's."""
        now = self._clock.now()
        views = await self.in_thread(self.views)
        return await self.in_thread(plan.due, self._store, views, now, at_start=at_start)

    async def forget(self, product: str) -> str:
        """Delete everything of a product that was not sent, whatever its consent is.

        Returns the problem in words, "" when there was none.
        """
        async with self._turn:
            return await self._isolated(product, "reset", self._forget_product, product)

    async def keep_bounds(self) -> None:
        """Age, caps and leftovers, of every product and of what all share."""
        for view in await self.in_thread(self.views):
            await self._isolated(view.name, "retention", self._keep_bounds_of, view)
        now, may_age = self._clock.now(), self._may_age()
        await self.in_thread(retention.sweep, self._store, self._around.paths, now, may_age=may_age)
        await self.in_thread(reserve.keep, self._around.paths)

    async def _isolated(
        self,
        product: str,
        duty: str,
        work: Callable[_P, Awaitable[None]],
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> str:
        """Do `work` for one product; what goes wrong with it is told and costs the others nothing.

        Returns the problem in words, "" when there was none. This is the one place where an error
        of ours in one product's data is survived: ending the process would repeat it at each start,
        for all products. Only a database that moved away or is damaged is everybody's.
        """
        try:
            await work(*args, **kwargs)
        except (StateMoved, StateDamaged):
            raise
        except (TallydError, OSError) as problem:
            why = in_words(problem)
            self.troubles.met(duty, product, why)
            return why
        except Exception as bug:  # noqa: BLE001 - see above
            why = f"a bug in tallyd ({type(bug).__name__}); its log has the details"
            if self.troubles.met(duty, product, why):
                _log.exception(logs.line("bug", product=product, duty=duty))
            return why
        self.troubles.over(duty, product)
        return ""

    def _may_age(self) -> bool:
        """Whether anything may be lost for its day now; a clock that was set is told of."""
        is_settled = self._steadiness.is_settled()
        if is_settled:
            self.troubles.over("clock")
        elif self._steadiness.news:
            self.troubles.met("clock", "", self._steadiness.news)
        return is_settled

    def _here(self, view: ProductView) -> tuple[Store, Surroundings, ProductView, float]:
        return self._store, self._around, view, self._clock.now()

    def _look(self, product: str) -> ProductView:
        return look_at(product, self._around, self._clock.now())

    async def _merge_product(self, view: ProductView, turn: _Turn) -> None:
        """One product's turn: the oldest MERGE_TURN_FILES files that it had no turn for yet."""
        after, turn.after = turn.after, ""
        if not (view.consent.is_on or view.consent.is_wish):
            why = f"nothing is merged or sent: {view.consent.decided_by}; mend that file"
            self.troubles.met("consent", view.name, why)
            return
        self.troubles.over("consent", view.name)
        if not view.consent.is_on:
            await self.in_thread(steps.forget, self._store, self._around, view)
            return
        done = intake.IntakeCount()
        with await self.in_thread(self._begin_turn, view, after) as files:
            reader = DeltaReader(view.name)
            while files:
                found = await self.in_thread(self._merge_batch, view.name, files, reader)
                if found is None:
                    return
                view, count = found
                done.add(count)
                turn.count.add(count)
        turn.after = files.last
        if done.moved:
            _log.info(logs.line("intake", product=view.name, **asdict(done)))
        if turn.count.stuck:
            # They stay, and are looked at again each time; their counts are safe, the rest went on.
            raise StateUnusable(f"{turn.count.stuck} files stay in the spool: {turn.count.why}")
        if view.earlier is not None and not turn.after and not turn.count.held:
            await self.in_thread(keep_agreement, view, self._around, is_spool_empty=True)

    def _begin_turn(self, view: ProductView, after: str) -> spool.NewFiles:
        """All that comes before the first file, in one piece: an idle daemon does it once a minute."""
        keep_agreement(view, self._around)
        steps.ask_for_notice(*self._here(view))
        retention.keep_to_decision(self._store, view)
        spool.prepare(view.spool)
        return spool.list_new(view.name, view.spool, after=after, at_most=MERGE_TURN_FILES)

    def _merge_batch(
        self, product: str, files: spool.NewFiles, reader: DeltaReader
    ) -> tuple[ProductView, intake.IntakeCount] | None:
        """One transaction; None when consent, looked at anew for each, is off by now."""
        view = self._look(product)
        if not view.consent.is_on:
            return None
        now, may_age = self._clock.now(), self._may_age()
        count = intake.merge_batch(self._store, view, files, reader, now, may_age=may_age)
        self._keep_caps(view, count)
        return view, count

    async def _forget_product(self, product: str) -> None:
        await self.in_thread(retention.purge, self._store, product, self._around.paths)

    async def _deliver_product(self, product: str, delivery: Delivery) -> None:
        view = await self.in_thread(self._look, product)
        delivery.blocked = view.gate.reason
        try:
            await self.in_thread(steps.ask_for_notice, *self._here(view))
            if view.gate.is_open:
                await self.in_thread(retention.keep_to_decision, self._store, view)
                delivery.sealed = await self.in_thread(
                    steps.seal_finished, *self._here(view), may_age=self._may_age()
                )
                delivery.sent = await sender.send_all(
                    self._store,
                    lambda: self._look(product),
                    lambda seen: still_stands(seen, self._around),
                    self._clock,
                    self.in_thread,
                    self._may_age,
                )
        except Exception:
            # What went wrong is tried again at the interval, not at once. A stop in the middle plans
            # nothing: the next start takes it up.
            await self.in_thread(self._plan, view, delivery.sent)
            raise
        await self.in_thread(self._plan, view, delivery.sent)

    def _keep_caps(self, view: ProductView, merged: intake.IntakeCount) -> None:
        """Caps hold where something is added: a flood does not wait for the hourly tidying.

        To count what is there takes longer than most merges; so each look leaves room for some.
        """
        self._added[view.name] += merged.rows
        if self._added[view.name] > CAPS_SLACK_ROWS:
            retention.keep_caps(self._store, view)
            del self._added[view.name]
        self._names_since_sweep += merged.merged
        if self._names_since_sweep > DELTA_NAMES_SLACK:
            retention.keep_names(self._store)
            self._names_since_sweep = 0

    async def _keep_bounds_of(self, view: ProductView) -> None:
        paths, now, may_age = self._around.paths, self._clock.now(), self._may_age()
        await self.in_thread(retention.keep_bounds, self._store, view, paths, now, may_age=may_age)

    def _plan(self, view: ProductView, sent: SendCount) -> None:
        plan.next_send(
            self._store, view, sent.again_in_s, self._clock.now(), is_asked=sent.later > 0
        )

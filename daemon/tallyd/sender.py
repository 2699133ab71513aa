"""Sender: one pass over a product's outbox, oldest batch first.

Each batch is one request, and consent, notice and grace are checked right before its socket. The
pass ends at the first batch that must be tried later, and at the contract's rate limit, so that a
backlog never earns a 429. It guarantees that a request is never repeated within a pass and that
verdict and outbox change in one transaction; a kill between answer and transaction resends the same
bytes under the same `batch_id`, which the gateway drops.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tallyd import ledger, losses, outbox, transport
from tallyd.contract.frozen import Frozen, replace
from tallyd.ledger import Verdict
from tallyd.limits import PACE_WINDOW_S, RETRY_AFTER_MAX_S
from tallyd.losses import Cause
from tallyd.wire import narrow_body

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Awaitable, Callable

    from tallyd.batch import Batch
    from tallyd.clock import Clock
    from tallyd.contract import Contract
    from tallyd.contract.model import Endpoint
    from tallyd.product import ProductView
    from tallyd.store import Store
    from tallyd.transport import Answer


@dataclass(slots=True)
class SendCount:
    """What one pass did, in batches; `again_in_s` when it should go on before the interval."""

    delivered: int = 0
    refused: int = 0
    later: int = 0
    dropped: int = 0
    detail: str = ""
    again_in_s: float | None = None


class Ready(Frozen):
    """A batch that may leave now, and where to."""

    batch: Batch
    endpoint: str
    policy: Endpoint


def next_ready(
    store: Store, view: ProductView, now: float, *, may_age: bool = True
) -> Ready | float | None:
    """The batch that may leave now; None when none may; the seconds to wait, when it is too early.

    Called right before the socket, with a view made for this very batch. A batch of another id never
    leaves; one of an earlier contract leaves with what the present one lists; one that a gateway
    would refuse for its age is lost here, where it is counted, if `now` can be believed (`may_age`).
    """
    if not view.gate.is_open:
        return None
    policy = view.contract.endpoint
    with store.transaction() as sql:
        for old in outbox.expired(sql, view.name, now) if may_age else ():
            outbox.lose(sql, old, Cause.AGE)
        while (batch := outbox.oldest(sql, view.name)) is not None:
            if not _is_of_this_id(batch, view):
                # The user reset the id, or said no and yes: what was frozen under another one goes.
                outbox.remove(sql, batch.batch_id)
            elif batch.contract != view.contract.short_digest:
                _narrow(sql, view.contract, batch)
            else:
                break
        if batch is None:
            return None
        wait_s = ledger.not_before(sql, view.name) - now
        sent = ledger.requests_since(sql, view.name, now - PACE_WINDOW_S, now)
    # A wait longer than any we accept was set by a clock that was ahead.
    if 0 < wait_s <= RETRY_AFTER_MAX_S:
        return wait_s
    if sent >= policy.max_requests_per_minute:
        return PACE_WINDOW_S
    return Ready(batch, view.endpoint, policy)


def _is_of_this_id(batch: Batch, view: ProductView) -> bool:
    """Whether a batch was frozen under the id that is in force; hosts of a derived one bring theirs."""
    return view.contract.identity.kind == "derived" or batch.machine_id == view.machine_id


def _narrow(sql: sqlite3.Connection, contract: Contract, batch: Batch) -> None:
    body, events, dropped = narrow_body(contract, batch.body)
    if not events:
        outbox.lose(sql, batch, Cause.SCREENED)
        return
    losses.add(sql, batch.product, {Cause.SCREENED: dropped})
    counted = max(batch.counted - dropped, 0)
    outbox.replace(
        sql,
        replace(batch, contract=contract.short_digest, body=body, events=events, counted=counted),
    )


def judge(answer: Answer, policy: Endpoint) -> Verdict:
    """What an answer means under the contract."""
    if answer.status is None:
        return Verdict.TRY_LATER if policy.keeps_unanswered else Verdict.DROPPED
    if 200 <= answer.status < 300:
        return Verdict.DELIVERED
    if answer.status in (429, 503) and policy.retries_busy:
        return Verdict.TRY_LATER
    return Verdict.REFUSED


def settle(store: Store, ready: Ready, answer: Answer, now: float) -> Verdict:
    """Write the verdict down and let it take effect, in one transaction."""
    verdict = judge(answer, ready.policy)
    batch = ready.batch
    with store.transaction() as sql:
        ledger.record(
            sql,
            batch,
            at=now,
            endpoint=ready.endpoint,
            verdict=verdict,
            detail=answer.detail,
            keep_body=outbox.holds(sql, batch.batch_id),
        )
        # Not only by the hour: each row may hold a whole body.
        ledger.trim(sql, batch.product)
        match verdict:
            case Verdict.DELIVERED:
                outbox.remove(sql, batch.batch_id)
            case Verdict.REFUSED:
                outbox.lose(sql, batch, Cause.REFUSED)
            case Verdict.DROPPED:
                outbox.lose(sql, batch, Cause.UNANSWERED)
            case Verdict.TRY_LATER:
                if answer.retry_after_s:
                    ledger.set_not_before(sql, batch.product, now + answer.retry_after_s)
    return verdict


async def send_all(
    store: Store,
    view_now: Callable[[], ProductView],
    still_stands: Callable[[ProductView], bool],
    clock: Clock,
    in_thread: Callable[..., Awaitable[object]],
    may_age: Callable[[], bool] = lambda: True,
) -> SendCount:
    """Send what may leave, batch by batch. Safe to cancel at any moment: the batch stays."""
    done = SendCount()

    def look() -> Ready | float | None:
        view = view_now()
        ready = next_ready(store, view, clock.now(), may_age=may_age())
        # The last thing before the socket is the user's own file: whoever said no a moment ago, while
        # the database was asked, is heard.
        return ready if not isinstance(ready, Ready) or still_stands(view) else None

    while True:
        ready = await in_thread(look)
        if isinstance(ready, Ready):
            # Loading takes a while, in which a user may have said no: look again, right before the
            # socket.
            await transport.prepare()
            ready = await in_thread(look)
        if isinstance(ready, float):
            done.again_in_s = ready
            done.detail = "too early for the gateway"
        if not isinstance(ready, Ready):
            return done
        answer = await transport.post(ready.endpoint, ready.batch.body, ready.policy.timeout_s)
        verdict = await in_thread(settle, store, ready, answer, clock.now())
        done.detail = answer.detail
        match verdict:
            case Verdict.DELIVERED:
                done.delivered += 1
            case Verdict.REFUSED:
                done.refused += 1
            case Verdict.DROPPED:
                done.dropped += 1
            case _:
                done.later += 1
                done.again_in_s = answer.retry_after_s or None
                return done

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

from tallyd import ledger, outbox, transport
from tallyd.ledger import Verdict
from tallyd.limits import PACE_WINDOW_S
from tallyd.losses import Cause

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tallyd.batch import Batch
    from tallyd.clock import Clock
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


@dataclass(frozen=True, slots=True)
class Ready:
    """A batch that may leave now, and where to."""

    batch: Batch
    endpoint: str
    policy: Endpoint


def next_ready(store: Store, view: ProductView, now: float) -> Ready | float | None:
    """The batch that may leave now; None when none may; the seconds to wait for the rate limit.

    Called right before the socket, with a view made for this very batch.
    """
    if not view.gate.is_open:
        return None
    policy = view.contract.endpoint
    with store.reading() as sql:
        batch = outbox.oldest(sql, view.name)
        if batch is None:
            return None
        sent = ledger.requests_since(sql, view.name, now - PACE_WINDOW_S, now)
    if sent >= policy.max_requests_per_minute:
        return PACE_WINDOW_S
    return Ready(batch, view.endpoint, policy)


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
        match verdict:
            case Verdict.DELIVERED:
                outbox.remove(sql, batch.batch_id)
            case Verdict.REFUSED:
                outbox.lose(sql, batch, Cause.REFUSED)
            case Verdict.DROPPED:
                outbox.lose(sql, batch, Cause.UNANSWERED)
            case Verdict.TRY_LATER:
                pass
    return verdict


async def send_all(
    store: Store,
    view_now: Callable[[], ProductView],
    clock: Clock,
    in_thread: Callable[..., Awaitable[object]],
) -> SendCount:
    """Send what may leave, batch by batch. Safe to cancel at any moment: the batch stays."""
    done = SendCount()

    def look() -> Ready | float | None:
        return next_ready(store, view_now(), clock.now())

    while True:
        ready = await in_thread(look)
        if isinstance(ready, float):
            done.again_in_s = ready
            done.detail = "paced by the contract's rate limit"
            return done
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

"""Plan: when each product sends next.

It survives a restart, for it stands in the database; what was missed while no daemon ran, and what a
clock that was ahead had planned, is planned anew and spread over a minute.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tallyd import ledger
from tallyd.chance import between
from tallyd.limits import (
    DELIVERY_LOOK_S,
    FIRST_SEND_JITTER_S,
    INTERVAL_JITTER,
    RETRY_AFTER_MAX_S,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tallyd.product import ProductView
    from tallyd.store import Store


def next_send(
    store: Store, view: ProductView, again_in_s: float | None, now: float, *, is_asked: bool
) -> None:
    """Plan a product's next time after a delivery.

    `again_in_s` is how long its gateway is to be left alone, None where it did not say; `is_asked`: by
    a busy gateway, which can only lengthen the wait, as the contract's rate only shortens it.
    """
    if not view.consent.is_on:
        return
    wait_s = _jittered(view.contract.endpoint.interval_s)
    if again_in_s is not None:
        wait_s = max(wait_s, again_in_s) if is_asked else again_in_s
    for gate in (view.gate, view.pending):
        if gate is not None and gate.opens_at is not None:
            wait_s = min(wait_s, gate.opens_at - now + _first_wait_s())
    with store.transaction() as sql:
        ledger.set_next_send(sql, view.name, now + wait_s)


def due(
    store: Store, views: Iterable[ProductView], now: float, *, at_start: bool
) -> tuple[list[str], float]:
    """The products whose time has come, and the seconds until the next one's."""
    found: list[str] = []
    next_in_s = DELIVERY_LOOK_S
    for view in views:
        if not view.consent.is_on:
            continue
        with store.reading() as sql:
            planned = ledger.next_send(sql, view.name)
        longest = FIRST_SEND_JITTER_S + max(
            view.contract.endpoint.interval_s * (1 + INTERVAL_JITTER), RETRY_AFTER_MAX_S
        )
        overdue_at_start = at_start and planned is not None and planned <= now
        # Never planned, missed while no daemon ran, or planned by a clock that was ahead.
        if planned is None or overdue_at_start or planned > now + longest:
            planned = now + _first_wait_s()
            with store.transaction() as sql:
                ledger.set_next_send(sql, view.name, planned)
        if planned <= now:
            found.append(view.name)
        else:
            next_in_s = min(next_in_s, planned - now)
    return found, next_in_s


def _jittered(interval_s: float) -> float:
    return interval_s * between(1 - INTERVAL_JITTER, 1 + INTERVAL_JITTER)


def _first_wait_s() -> float:
    return between(0, FIRST_SEND_JITTER_S)

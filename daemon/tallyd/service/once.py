"""Once, in the foreground: a flush, and the forgetting of what a user said no to."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from tallyd import retention
from tallyd.clock import Steadiness
from tallyd.errors import NotRegistered, StateDamaged
from tallyd.passes import Passes
from tallyd.product import look_at
from tallyd.service.instance import single_instance

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tallyd.clock import Clock
    from tallyd.product import Surroundings

FlushResult = dict[str, dict[str, object]]


async def flush(around: Surroundings, clock: Clock) -> FlushResult:
    """One intake, one delivery and one tidying of every product, here and now.

    Raises AlreadyRunning when a daemon holds the lock, StateUnusable when the state refuses.
    """
    try:
        return await _flush(around, clock)
    except StateDamaged:
        # Set aside by now.
        return await _flush(around, clock)


async def _flush(around: Surroundings, clock: Clock) -> FlushResult:
    with single_instance(around, clock, "flush") as (store, held):
        steadiness = Steadiness(clock, held.previous_beat)
        return await flush_with(Passes(store, around, clock, steadiness=steadiness))


async def flush_with(passes: Passes) -> FlushResult:
    """The same by passes that are there already."""
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
    with single_instance(around, clock, "flush") as (store, _):
        for product in products:
            retention.purge(store, product, around.paths)
            try:
                is_on = look_at(product, around, clock.now()).consent.is_on
            except NotRegistered:
                is_on = False
            if not is_on:
                around.registry.forget_agreement(product)

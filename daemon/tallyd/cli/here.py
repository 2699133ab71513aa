"""Where a command runs: the surroundings of this shell, the time, a product, the daemon if there is one."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tallyd.cli.output import say
from tallyd.errors import AlreadyRunning

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from tallyd.product import ProductView, Surroundings
    from tallyd.store import Store


def locate() -> Surroundings:
    """Where everything lies, and the environment of this shell. Raises StateUnusable without a home."""
    from tallyd.paths import Paths
    from tallyd.product import Surroundings
    from tallyd.registry import Registry

    paths = Paths.locate(os.environ)
    return Surroundings(paths, Registry(paths), os.environ)


def time_now() -> float:
    """Unix seconds."""
    from tallyd.clock import SystemClock

    return SystemClock().now()


def open_product(product: str) -> tuple[ProductView, Store | None]:
    """A product and the store, None when there is none yet. Raises NotRegistered, StateUnusable."""
    from tallyd.product import look_at
    from tallyd.store import open_store_for_reading

    around = locate()
    return look_at(product, around, time_now()), open_store_for_reading(around.paths)


def ask_daemon(around: Surroundings, forget: Iterable[str] = ()) -> Mapping[str, Any]:
    """Let the running daemon do a round, and wait for its result. Raises AlreadyRunning if none comes.

    First it forgets what was not sent of the products named.
    """
    from tallyd import lock, requests, reserve
    from tallyd.limits import FLUSH_PATIENCE_S

    say("asking the running daemon …")
    request = reserve.insist(around.paths, lambda: requests.ask(around.paths, forget))
    result = requests.wait(request, FLUSH_PATIENCE_S, lambda: lock.is_daemon_running(around.paths))
    if result is None:
        raise AlreadyRunning("the daemon did not answer", 'try again, or see "tallyd status"')
    return result

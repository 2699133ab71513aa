"""The daemon's pipeline in the test's own process: real files, real SQLite, a clock by hand."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import anyio
from tallyd import buckets, choices, losses, notices, outbox, seal, spool
from tallyd.contract import Contract, parse_contract
from tallyd.intake import IntakeCount
from tallyd.passes import Delivery, Passes
from tallyd.paths import Paths
from tallyd.product import ProductView, Surroundings, look_at
from tallyd.registry import Registry
from tallyd.store import Store, open_store

from support import deltas
from support.clock import FakeClock
from support.processes import CONTRACTS

_T = TypeVar("_T")


@dataclass(frozen=True)
class Tally:
    """Everything a delta can have become, as one value to compare."""

    new: int = 0
    bad: int = 0
    counted: dict[str, int] | None = None
    batches: int = 0
    lost: dict[str, int] | None = None


@dataclass
class Pipeline:
    """The pipeline of one home. `environ` is what the daemon would see."""

    home: Path
    clock: FakeClock
    environ: dict[str, str]
    store: Store
    passes: Passes
    around: Surroundings

    @classmethod
    @contextmanager
    def open(cls, home: Path, clock: FakeClock) -> Iterator[Pipeline]:
        environ = {"TALLYD_HOME": str(home), "HOME": str(home)}
        paths = Paths.locate(environ)
        around = Surroundings(paths, Registry(paths), environ)
        store = open_store(paths)
        try:
            yield cls(home, clock, environ, store, Passes(store, around, clock), around)
        finally:
            store.close()

    @property
    def state(self) -> Path:
        return self.home / "state"

    def register(self, product: str, *, text: bytes | None = None, notice: bool = True) -> Contract:
        """Register a contract, by default with its notice shown now."""
        file = CONTRACTS / f"{product}.toml"
        contract = parse_contract(text or file.read_bytes(), str(file))
        self.around.registry.add(contract)
        if notice:
            notices.mark_shown(contract, self.around.paths, self.clock.now())
        return contract

    def view(self, product: str = "tallyd-demo") -> ProductView:
        return look_at(product, self.around, self.clock.now())

    def drop(self, content: dict[str, Any] | bytes | None = None, **where: Any) -> Path:
        """Drop a delta by hand, now."""
        return deltas.drop(self.state, content, **{"at": self.clock.now(), **where})

    def intake(self, product: str = "tallyd-demo") -> IntakeCount:
        merged = self._run(self.passes.merge_all)[product]
        assert not merged.problem, merged.problem
        return merged.count

    def deliver(self, product: str = "tallyd-demo") -> Delivery:
        return self._run(lambda: self.passes.deliver(product))

    def keep_bounds(self) -> None:
        self._run(self.passes.keep_bounds)

    def seal(self, product: str = "tallyd-demo") -> int:
        """Freeze what is finished, without sending."""
        view = self.view(product)
        now = self.clock.now()
        machine_id = choices.ensure_id(view.contract, self.around.paths, self.environ, now)
        return seal.freeze(self.store, view, machine_id, now)

    def read(self, query: Callable[[sqlite3.Connection], _T]) -> _T:
        with self.store.reading() as sql:
            return query(sql)

    def rows(self, product: str = "tallyd-demo") -> list[buckets.Row]:
        return self.read(lambda sql: list(buckets.rows(sql, product)))

    def tally(self, product: str = "tallyd-demo") -> Tally:
        """Where everything is now; `counted` sums the buckets' counts by tool."""
        size = spool.measure(self.around.paths.spool(product))
        counted: dict[str, int] = {}
        for row in self.rows(product):
            tool = str(row.dimensions.get("tool", row.event))
            counted[tool] = counted.get(tool, 0) + row.measures["count"]
        return Tally(
            new=size.files,
            bad=size.quarantined,
            counted=counted or None,
            batches=self.read(lambda sql: outbox.size(sql, product))[0],
            lost=self.read(lambda sql: losses.totals(sql, product)) or None,
        )

    def _run(self, work: Callable[[], Awaitable[_T]]) -> _T:
        return anyio.run(work)

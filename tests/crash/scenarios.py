"""What a home holds before it is killed, drawn from a seed, and where each count must be afterwards.

Days are counted from now: yesterday and before are sealed and sent, tomorrow stays in buckets. Nothing
lies on today, so no midnight changes what is wanted.
"""

from __future__ import annotations

import os
import random
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crash.hosts import TEXT
from crash.pictures import LEDGER_MAX_ROWS, Picture
from support.deltas import delta, drop, name_of
from support.processes import environ_of
from tallyd import choices, notices
from tallyd.contract import Contract, parse_contract
from tallyd.limits import OUTBOX_MAX_BYTES
from tallyd.paths import Paths
from tallyd.registry import Registry

DEMO, TWO = "tallyd-demo", "tallyd-two"
_FLUSH = Callable[[Path, tuple[str, ...]], None]


@dataclass
class Scenario:
    """One drawn home: `wanted` is its picture after any number of kills and one recovery."""

    seed: int
    home: Path
    answers: tuple[str, ...] = ("204",)
    wanted: Picture = field(default_factory=Picture)
    # In words, for whoever reads what was found.
    features: list[str] = field(default_factory=list)
    is_for_run: bool = True


def draw(seed: int, home: Path, flush: _FLUSH, features: tuple[str, ...] | None = None) -> Scenario:
    """Draw a scenario into `home`; `flush` runs a real flush there against a gateway of these answers.

    `features` takes the place of what is drawn for whether something is there.
    """
    chance = random.Random(seed)
    scenario = Scenario(seed, home)
    _Drawing(scenario, chance, features).draw(flush)
    return scenario


def register(paths: Paths, product: str, shown_at: float) -> Contract:
    """Register the hosts' contract for `product`, with its notice shown (Unix s)."""
    text = TEXT.replace(b'name = "tallyd-demo"', f'name = "{product}"'.encode())
    contract = parse_contract(text, f"{product}.toml")
    Registry(paths).add(contract)
    notices.mark_shown(contract, paths, shown_at)
    return contract


class _Drawing:
    def __init__(
        self, scenario: Scenario, chance: random.Random, features: tuple[str, ...] | None
    ) -> None:
        self.scenario, self.chance, self._features = scenario, chance, features
        self.state = scenario.home / "state"
        self.wanted = scenario.wanted
        self.now = time.time()
        self.environ = environ_of(scenario.home)
        self.paths = Paths.locate(self.environ)
        self.tomorrow = self.day(1)

    def has(self, feature: str, of_ten: int) -> bool:
        """Whether the home has this feature; always drawn, so that what follows is the same."""
        drawn = self.chance.randrange(10) < of_ten
        if self._features is not None:
            drawn = feature in self._features
        if drawn:
            self.scenario.features.append(feature)
        return drawn

    def day(self, ahead: int) -> str:
        return time.strftime("%Y-%m-%d", time.gmtime(self.now + ahead * 86400))

    def draw(self, flush: _FLUSH) -> None:
        products = [DEMO, TWO] if self.has("two products", 5) else [DEMO]
        contracts = [self.register(one) for one in products]
        off = TWO if self.has("one is off", 5) and len(products) > 1 else ""
        on = [one for one in products if one != off]
        # Those whose contract lists the daemon's own starts.
        self.wanted.starts = len(on)
        self.choose_answers()
        if self.has("an outbox", 7):
            known = [file for one in products for file in self.drop_before(one, is_on=one != off)]
            kept = [(file, file.read_bytes()) for file in known]
            flush(self.scenario.home, ("none",))
            if self.has("known files", 7):
                for file, content in kept:
                    file.write_bytes(content)
            self.change_rows(on)
        for one in products:
            self.drop_fresh(one, is_on=one != off)
        if off:
            choices.write_choice(
                contracts[1], self.paths, self.environ, mode="off", now=self.now - 60
            )
        self.leave_things(products)
        if self.scenario.answers == ("400",):
            self.refuse_all(on)

    def register(self, product: str) -> Contract:
        return register(self.paths, product, self.now - 3600)

    def choose_answers(self) -> None:
        answers = self.chance.choice(
            (("204",), ("204",), ("503", "204"), ("400",), ("lost", "204"), ("none",))
        )
        if self._features is not None:
            answers = ("204",)
        if self.has("over the cap", 2):
            answers = ("503",)
        self.scenario.answers = answers
        self.scenario.is_for_run = answers != ("400",)
        self.wanted.batches_waiting = 0 if answers in (("204",), ("400",)) else 99

    def drop_before(self, product: str, *, is_on: bool) -> list[Path]:
        """What a flush of long ago has merged: tomorrow's stay, earlier days lie in the outbox."""
        known = []
        for version, day in (
            ("1.0.0", self.tomorrow),
            ("1.0.1", self.day(-3)),
            ("1.0.2", self.day(-2)),
        ):
            file = self.drop(product, day, f"before-{day}", version, is_on=is_on)
            if day == self.tomorrow:
                known.append(file)
        return known

    def drop(
        self, product: str, day: str, tool: str, version: str, *, is_on: bool = True, **more: Any
    ) -> Path:
        calls, errors = self.chance.randint(1, 40), self.chance.randint(0, 5)
        if is_on:
            self.wanted.calls[product, day, tool] += calls
            self.wanted.calls[product, day, "!" + tool] += errors
            if day == self.tomorrow:
                self.wanted.waiting_days.add(day)
        counts = [["tool_calls", {"tool": tool}, {"count": calls, "error_count": errors}]]
        envelope = {"host_version": version, "os": "linux", "runtime": "python", "ci": False}
        whole = delta(product, day=day, envelope=envelope, **{"counts": counts, **more})
        at = self.now - self.chance.randint(1, 3000)
        return drop(self.state, whole, product=product, at=at)

    def drop_fresh(self, product: str, *, is_on: bool) -> None:
        """What waits in `new/`."""
        for number in range(self.chance.randint(2, 5)):
            day = self.chance.choice((self.day(-1), self.day(-2), self.day(-3), self.tomorrow))
            more: dict[str, Any] = {}
            if self.chance.random() < 0.4:
                ts = f"{self.day(-1)}T{self.chance.randrange(24):02}:00:{number:02}.000Z"
                more["events"] = [["server_started", ts, {"transport": "stdio"}]]
                self.wanted.events[product, ts] += is_on
            if self.chance.random() < 0.4:
                more["lost"] = {
                    "cap": self.chance.randint(1, 9),
                    "error": self.chance.randint(1, 9),
                }
                for cause, count in more["lost"].items():
                    self.lose(product, cause, count * is_on)
            tool = self.chance.choice(("search", "fetch"))
            self.drop(
                product, day, tool, self.chance.choice(("1.0.3", "1.0.4")), is_on=is_on, **more
            )
        for day, event, cause in (
            (self.day(5), "tool_calls", "future"),
            (self.day(-40), "tool_calls", "age"),
            (self.day(-1), "unheard_of", "screened"),
        ):
            if self.chance.random() < 0.3:
                counts = [[event, {"tool": "x"}, {"count": 7}]]
                drop(
                    self.state, delta(product, day=day, counts=counts), product=product, at=self.now
                )
                self.lose(product, cause, 7 * is_on)
        for content in (b"{malformed", b"x" * 70_000, b"[]"):
            if self.chance.random() < 0.3:
                drop(self.state, content, product=product, at=self.now)
                self.lose(product, "malformed", is_on)
                self.wanted.quarantined += is_on
        if self.chance.random() < 0.3:
            drop(self.state, product=product, name="not-a-name", at=self.now)
            self.lose(product, "malformed", is_on)
            self.wanted.quarantined += is_on

    def lose(self, product: str, cause: str, count: int) -> None:
        self.wanted.lost[product, cause] += count

    def change_rows(self, products: list[str]) -> None:
        """Rows that retention has to take away, made of rows that are there."""
        sql = sqlite3.connect(self.paths.database, isolation_level=None)
        if self.has("aged rows", 4):
            sql.execute("UPDATE bucket SET day = ?", (self.day(-40),))
            for product in products:
                calls = self.wanted.calls.pop((product, self.tomorrow, f"before-{self.tomorrow}"))
                self.wanted.calls.pop((product, self.tomorrow, f"!before-{self.tomorrow}"))
                self.lose(product, "age", calls)
            self.wanted.waiting_days.discard(self.tomorrow)
        if self.has("a long ledger", 3):
            # Long ago, or the rate limit would hold what is to be sent.
            sql.execute("UPDATE ledger SET at = at - 7200")
            sql.execute(
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i <= ?)"
                " INSERT INTO ledger (product, batch_id, at, endpoint, verdict, detail, events, sha256,"
                " size, body) SELECT product, batch_id, at, endpoint, verdict, detail, events, sha256,"
                " size, body FROM ledger, n",
                (LEDGER_MAX_ROWS,),
            )
        if "over the cap" in self.scenario.features:
            for product in products:
                (oldest,) = sql.execute(
                    "SELECT min(id) FROM outbox WHERE product = ?", (product,)
                ).fetchone()
                sql.execute(
                    "UPDATE outbox SET body = CAST(body || ? AS BLOB) WHERE id = ?",
                    (" " * OUTBOX_MAX_BYTES, oldest),
                )
                (body,) = sql.execute("SELECT body FROM outbox WHERE id = ?", (oldest,)).fetchone()
                self.take_out(product, body)
        sql.close()

    def take_out(self, product: str, body: bytes) -> None:
        """A batch that is lost by the cap."""
        for day in (self.day(-3), self.day(-2)):
            tool = f"before-{day}"
            if f'"{tool}"'.encode() in body:
                self.lose(product, "cap", self.wanted.calls.pop((product, day, tool)))
                self.wanted.calls.pop((product, day, "!" + tool))

    def refuse_all(self, products: list[str]) -> None:
        """The gateway says no to everything: what is finished is lost, and only that."""
        calls = self.wanted.calls
        for product, day, tool in [key for key in calls if key[1] != self.tomorrow]:
            count = calls.pop((product, day, tool))
            self.lose(product, "refused", 0 if tool.startswith("!") else count)
        for product, _ in list(self.wanted.events.elements()):
            self.lose(product, "refused", 1)
        self.wanted.events.clear()

    def leave_things(self, products: list[str]) -> None:
        """What killed processes left long ago."""
        if not self.has("leftovers", 5):
            return
        for product in products:
            for file in (
                self.state / "spool" / product / "tmp" / name_of(self.now),
                self.state / "consent" / f".{product}.json.7-0123abcd.tmp",
                self.state / "notices" / product / "0123456789abcdef.claim",
            ):
                file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                file.write_bytes(b"half")
                os.utime(file, (self.now - 7200,) * 2)

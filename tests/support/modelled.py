"""What `promises/test_model.py` acts with: one machine in the world and in the model, kept side by side.

An act runs on the real pipeline; the model then runs the same act, told only what arrived at the gateway
and which batches are new. After a kill the world must be in one of the states that the model
passes through.
"""

from __future__ import annotations

import copy
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant
from tallyd.contract.days import instant
from tallyd.limits import CLOCK_SETTLE_S
from tallyd_client import Client

from support.answering import Answering
from support.clock import DAY_S
from support.counted import (
    Batch,
    Content,
    Decision,
    Facts,
    File,
    Impossible,
    Request,
    covers,
    unix_of,
)
from support.dying import Death, dying
from support.model import Model
from support.world import World, understood

Draw = Callable[[Any], Any]
# How often each thing happened that a run is for.
happened: Counter[str] = Counter()


@dataclass
class Host:
    """A host, and what the model says it has in memory."""

    client: Client
    contract: str
    began: float
    seen: tuple[bool, Decision] | None = None
    is_off: bool = False
    counts: Counter[tuple[str, str, bool]] = field(default_factory=Counter)
    events: list[tuple[str, str]] = field(default_factory=list)
    errors: int = 0

    @property
    def weight(self) -> int:
        return self.counts.total() + len(self.events) + self.errors


class ModelledMachine(RuleBasedStateMachine):
    """One machine twice; what is done to it stands in the test."""

    gateway: Answering

    @initialize(
        busy=st.sampled_from(["later", "final"]), unanswered=st.sampled_from(["keep", "drop"])
    )
    def begin(self, busy: str, unanswered: str) -> None:
        self.world = World(self.gateway, busy, unanswered)
        self.model = Model()
        self.hosts: list[Host] = []
        self.old: list[tuple[File, bytes]] = []
        # How often somebody decided: what was counted says under which decision.
        self.era = 0
        self.sent: dict[tuple[str, str], bytes] = {}
        self.world.register("narrow", is_shown=True)

    def teardown(self) -> None:
        if hasattr(self, "world"):
            for cause, count in self.model.totals.items():
                happened[f"lost by {cause}"] += count > 0
            self.world.close()

    @invariant()
    def nothing_is_lost_or_counted_twice(self) -> None:
        if not hasattr(self, "world"):
            return
        assert self.model.picture() == self.world.picture()
        in_memory = sum(host.weight for host in self.hosts)
        assert self.model.counted == self.model.accounted() + in_memory
        self._check_losses()

    def _check_losses(self) -> None:
        """What was lost is told of: it waits for a batch, is in one, or is at the gateway."""
        told = Counter(self.model.unsent)
        for _, _, lost in self.world.picture().outbox:
            told.update(lost)
        for _, lost in self.model.gateway.values():
            told.update(lost)
        assert all(count <= told[cause] for cause, count in self.model.totals.items())

    def _act(self, acts: list[str], answers: list[str], death: Death | None) -> None:
        facts = self.world.facts()
        pipeline = self.world.pipeline
        do = {
            "merge": pipeline.intake,
            "deliver": lambda: self._delivered(pipeline.deliver()),
            "tidy": pipeline.keep_bounds,
        }
        self.gateway.say(answers)
        is_dead = self.world.run([do[one] for one in acts], death)
        log, born = self.world.news()
        self._check_sent(log, facts)
        before = self.model
        if is_dead:
            self._settle_for(self._left_by(acts, facts, log, born))
            happened["killed"] += 1
            happened["killed after a hand-over"] += self.model.picture() != before.picture()
        else:
            gone = before.gone
            for _ in self._walk(self.model, acts, facts, log, born):
                pass
            happened["emptied"] += before.gone > gone
        for one in log:
            happened[one.answer] += 1

    def _delivered(self, delivery: Any) -> None:
        assert delivery.problem == ""

    def _walk(
        self, model: Model, acts: list[str], facts: Facts, log: list[Request], born: list[Batch]
    ) -> Iterator[None]:
        seen = self.world.picture()
        for act in acts:
            if act == "merge":
                yield from model.merge(facts, seen)
            elif act == "deliver":
                yield from model.deliver(facts, log, born)
            else:
                yield from model.tidy(facts)

    def _left_by(
        self, acts: list[str], facts: Facts, log: list[Request], born: list[Batch]
    ) -> Iterator[Model]:
        """Every state in which a kill may leave the machine."""
        model = copy.deepcopy(self.model)
        yield model
        try:
            for _ in self._walk(model, acts, facts, log, copy.deepcopy(born)):
                yield model
        except Impossible:
            return
        yield model

    def _settle_for(self, allowed: Iterator[Model]) -> None:
        seen = self.world.picture()
        tried = []
        for one in allowed:
            if one.picture() == seen:
                self.model = copy.deepcopy(one)
                return
            tried.append(copy.deepcopy(one.picture()))
        raise AssertionError(f"a kill left {seen}, which is none of {tried}")

    def _check_sent(self, log: list[Request], facts: Facts) -> None:
        """Nothing leaves under a no, nor what was counted under another decision; bytes stay as they are."""
        assert facts.is_on or log == []
        for one in log:
            said = json.loads(one.body)
            bytes_before = self.sent.setdefault((said["batch_id"], said["contract"]), one.body)
            assert bytes_before == one.body
            eras = {key[3].partition(".")[2] for key in one.batch.content if key[4]} - {""}
            assert eras <= {str(self.era)}

    def _settle_clock(self) -> None:
        """A clock that was set back is believed again: what it does until then, test_faults_clock tells."""
        passes = self.world.pipeline.passes
        passes._may_age()
        # And a little more: a sum of floats may fall short of it by its last digit.
        self.world.clock.pass_s(CLOCK_SETTLE_S + 0.001)
        assert passes._may_age()

    def _pass(self, seconds: float) -> None:
        self.world.clock.pass_s(seconds)
        if seconds < 0:
            self._settle_clock()
        happened["jump"] += abs(seconds) >= DAY_S

    def _next(self) -> None:
        """A moment later."""
        self._pass(7.003)

    def _host(self, draw: Draw) -> Host:
        which = draw(st.integers(0, 2))
        while len(self.hosts) <= which:
            contract = "wide" if len(self.hosts) == 1 else "narrow"
            self.hosts.append(Host(self.world.host(contract), contract, self.world.clock.now()))
            self._next()
        return self.hosts[which]

    def _begins(self, host: Host) -> None:
        """The first count of a process looks at consent: a no is one for its whole life."""
        if host.seen is None and not host.is_off:
            facts = self.world.facts()
            host.is_off = not facts.is_on
            host.seen = (facts.is_on, facts.decision)

    def _count(self, host: Host, event: str, tool: str, ok: bool, times: int) -> None:
        count = host.client.rollup(event, "tool")
        with self.world.host_time():
            for _ in range(times):
                count(tool, ok=ok)
        self._begins(host)
        if host.is_off:
            return
        self.model.counted += times
        if event == "prompts" and host.contract == "narrow":
            host.errors += times
        else:
            host.counts[event, tool, ok] += times

    def _tell(self, host: Host, transport: str) -> None:
        with self.world.host_time():
            host.client.event("server_started", transport=transport)
        self._begins(host)
        if not host.is_off:
            self.model.counted += 1
            host.events.append((instant(self.world.clock.now()), transport))

    def _drain(self, host: Host, death: Death | None) -> None:
        facts = self.world.facts()
        before = self.world.new_names()
        with self.world.host_time(), dying(self.world.home, death):
            host.client.drain()
        names = sorted(set(self.world.new_names()) - set(before))
        file = self._makes(host, facts)
        assert len(names) == (file is not None) or (death is not None and not names)
        if file is None:
            self.model.gone += host.weight
        elif names:
            file.name = names[0]
            text = self.world.dropped(file.name)
            assert (file.content, file.lost, file.stamp) == understood(text)
            self.model.counted -= file.weight
            self._arrives(file, text)
            happened["dropped"] += 1
        if file is None or names:
            host.counts, host.events, host.errors = Counter(), [], 0

    def _makes(self, host: Host, facts: Facts) -> File | None:
        """What a drain makes of what a host holds; None when nobody may have it."""
        seen, began = host.seen, host.began
        now = (facts.is_on, facts.decision if facts.is_on else (None, None))
        if not host.is_off:
            host.began = facts.now
            host.seen = now if seen is not None else None
        since = unix_of(facts.decision[0]) if facts.decision[0] else 0.0
        is_same = seen is not None and seen[0] and covers(now[1], seen[1])
        if not (host.weight and facts.is_on and since < began and is_same):
            return None
        content: Content = Counter()
        for (event, tool, ok), times in host.counts.items():
            content[event, facts.today, "1.0.0", tool, "count"] += times
            content[event, facts.today, "1.0.0", tool, "error_count"] += 0 if ok else times
        for ts, transport in host.events:
            content["server_started", ts, "1.0.0", transport, ""] += 1
        lost = Counter({"error": host.errors} if host.errors else {})
        return File("", facts.now, content, lost, now[1])

    def _arrives(self, file: File, text: bytes) -> None:
        self.model.spool[file.name] = file
        self.model.counted += file.weight
        if not file.is_bad:
            self.old.append((file, text))

"""The whole pipeline against a model: whatever happens in whatever order, each count is in one place.

Hypothesis acts on real hosts, files, SQLite and HTTP, and on `support.model`. After each act every
place must hold exactly what the model holds, and all places together what was counted.
"""

from __future__ import annotations

import copy
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from support import deltas
from support.answering import ANSWERS, Answering, answering
from support.clock import DAY_S, NOON
from support.drawn import IS_THOROUGH
from support.model import (
    MAX_SUM,
    Batch,
    Content,
    Decision,
    Facts,
    File,
    Impossible,
    Model,
    Request,
    covers,
    shift,
    unix_of,
)
from support.world import Death, World, dying, understood
from tallyd.contract.days import instant
from tallyd.losses import Cause
from tallyd_client import Client

# What happens, as often as it stands here.
_DEEDS = (
    *["use"] * 4,
    *["drop_by_hand"] * 3,
    *["work"] * 5,
    *["crash"] * 4,
    *["offer_again", "drop_malformed", "die", "register", "pass_time"],
    *["decide"] * 2,
    *["widen", "narrow_again", "decide_while_it_waits", "sleep", "send_many"],
)
_EVENTS = ("tool_calls", "tool_calls", "prompts", "server_started")
_COUNTS = st.tuples(
    st.sampled_from(_EVENTS), st.sampled_from(["search", "read"]), st.booleans(), st.integers(1, 3)
)
_HAND = st.tuples(
    st.sampled_from(["tool_calls", "tool_calls", "prompts", "nonsense"]),
    st.sampled_from([1, 2, 7, MAX_SUM]),
    st.integers(0, 1),
)
_SOME_MERGE = st.sampled_from([[], ["merge"]])
_MOSTLY = st.sampled_from([True, True, False])
_ACTS = st.sampled_from(
    [["merge"], ["merge", "deliver"], ["deliver"], ["merge", "deliver", "tidy"], ["tidy"]]
)
_MALFORMED = (b"{", b'{"v":1}', b"[]", b"\xff", b'{"v":1,"v":1}')
Draw = Callable[[Any], Any]
_EXAMPLES = 600 if IS_THOROUGH else 24
# How often each thing happened that a run is for, and how often it must at least.
_happened: Counter[str] = Counter()
_LEAST = {"dropped": 40, "killed": 10, "killed after a hand-over": 5, "stored": 2, "emptied": 3}
_LEAST |= dict.fromkeys(("on", "off", "wide", "jump", "offered again"), 2)


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


class Machine(RuleBasedStateMachine):
    """What may happen to one machine."""

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
                _happened[f"lost by {cause}"] += count > 0
            self.world.close()

    @rule(what=st.sampled_from(_DEEDS), data=st.data())
    def step(self, what: str, data: st.DataObject) -> None:
        """One rule, not ten: hypothesis would leave some of ten out of most runs."""
        self._next()
        getattr(self, f"_{what}")(data.draw)

    # --- hosts ------------------------------------------------------------------------------------

    def _use(self, draw: Draw, *, is_dropped: bool | None = None) -> None:
        """A host counts, tells of an event, and drops sooner or later."""
        host = self._host(draw)
        for event, tool, ok, times in draw(st.lists(_COUNTS, min_size=1, max_size=3)):
            if event == "server_started":
                self._tell(host, "stdio" if ok else "http")
            else:
                self._count(host, event, f"{tool}.{self.era}", ok, times)
        if draw(_MOSTLY) if is_dropped is None else is_dropped:
            self._next()
            self._drain(host, None)

    def _die(self, draw: Draw) -> None:
        """A host that is killed, while it drops or not, loses what it had not dropped."""
        host = self._host(draw)
        at = draw(st.none() | st.integers(1, 12))
        if at is not None:
            self._drain(host, Death(at))
        host.client._is_closed = True
        self.hosts.remove(host)
        self.model.gone += host.weight

    def _drop_by_hand(
        self, draw: Draw, event: str | None = None, day: int | None = None, version: int = 0
    ) -> None:
        """A writer in any language, whose clock and numbers may be odd."""
        facts = self.world.facts()
        stamp = facts.decision if draw(_MOSTLY) and facts.is_on else None
        # Without a decision only its date tells it from others.
        tool = f"hand.{self.era}" if stamp is not None else "loose"
        drawn, count, errors = draw(_HAND)
        event = event or drawn
        days = st.sampled_from([0, 0, -1, -1, -1, 1, 2, -29, -30, -31, -40])
        on = shift(facts.today, draw(days) if day is None else day)
        of = f"2.0.{version}"
        lost = draw(st.sampled_from([{}, {}, {"cap": 3}, {"cap": 1, "error": 2}]))
        tells = [f"{on}T10:00:00.000Z"] if draw(st.booleans()) else []
        content = Counter({(event, on, of, tool, "count"): count})
        content[event, on, of, tool, "error_count"] = errors
        content.update(("server_started", at, of, "http", "") for at in tells)
        said = deltas.delta(
            day=on,
            envelope={"host_version": of, "os": "linux", "runtime": "python", "ci": False},
            counts=[[event, {"tool": tool}, {"count": count, "error_count": errors}]],
            events=[["server_started", at, {"transport": "http"}] for at in tells],
            lost=lost or None,
            consent=None if stamp is None else {"since": stamp[0], "id": stamp[1]},
        )
        path = self.world.pipeline.drop(said)
        self._arrives(File(path.name, facts.now, content, Counter(lost), stamp), path.read_bytes())

    def _drop_malformed(self, draw: Draw) -> None:
        path = self.world.pipeline.drop(draw(st.sampled_from(_MALFORMED)))
        self._arrives(File(path.name, 0.0, is_bad=True), b"")

    def _offer_again(self, draw: Draw) -> None:
        """A delta that was merged comes back: its unlink was not on the disk when the power went."""
        merged = [one for one in self.old if one[0].name in self.model.names]
        if merged:
            file, text = merged[-1 - draw(st.integers(0, 9)) % len(merged)]
            deltas.drop(self.world.home / "state", text, name=file.name)
            self.model.spool[file.name] = file
            _happened["offered again"] += 1

    # --- the user, the clock ----------------------------------------------------------------------

    def _decide(self, draw: Draw) -> None:
        mode = draw(st.sampled_from(["on", "off"]))
        is_set_back = draw(st.booleans())
        if is_set_back:
            # By their dates alone, what was counted before would be of this decision.
            self._use(draw, is_dropped=False)
            self._pass(-DAY_S)
        facts = self.world.facts()
        self.world.tell(mode)
        self.era += 1
        if mode == "on":
            self.model.agreed = facts.registered
        _happened[mode] += 1
        for host in self.hosts if is_set_back else ():
            self._next()
            self._drain(host, None)

    def _register(self, draw: Draw) -> None:
        name = draw(st.sampled_from(["narrow", "wide", "wide"]))
        self.world.register(name, is_shown=draw(_MOSTLY))
        _happened[name] += 1

    def _widen(self, draw: Draw) -> None:
        """Counts of a wider contract, before and after its grace."""
        self.world.register("wide", is_shown=True)
        for hours in draw(st.lists(st.sampled_from([0, 2]), max_size=2)):
            self._drop_by_hand(draw)
            self._pass(hours * 3600.0 + 1)
        self._act(["merge"], ["stored"], None)

    def _narrow_again(self, draw: Draw) -> None:
        """What a contract lists no more, wherever it is by then."""
        self.world.register("wide", is_shown=True)
        self._pass(7200)
        self._act(["merge"], ["stored"], None)
        self._drop_by_hand(draw, "prompts")
        self._act(["merge", *draw(st.sampled_from([[], ["deliver"]]))], ["busy"], None)
        self._next()
        self.world.register("narrow", is_shown=True)
        if draw(st.booleans()):
            self._pass(31 * DAY_S)
        self._act([draw(st.sampled_from(["deliver", "tidy"]))], ["stored"], None)

    def _sleep(self, draw: Draw) -> None:
        """A machine that sleeps for a month, and sends before it tidies."""
        self._drop_by_hand(draw, day=0)
        self._act(["merge"], ["stored"], None)
        self._pass(draw(st.sampled_from([29, 30, 30, 31])) * DAY_S)
        self._drop_by_hand(draw, day=-1)
        self._act(
            [*draw(_SOME_MERGE), draw(st.sampled_from(["deliver", "tidy"]))], ["stored"], None
        )

    def _send_many(self, draw: Draw) -> None:
        """More batches than one minute takes: each envelope is one."""
        for version in range(1, 9):
            self._drop_by_hand(draw, day=-1, version=version)
            self._next()
        self._pass(60)
        self._act(["merge", "deliver"], ["stored"], None)
        self._pass(draw(st.integers(1, 70)))
        self._act(["deliver"], ["stored"], None)

    def _decide_while_it_waits(self, draw: Draw) -> None:
        """A batch that nobody answered for is there when the user decides."""
        self._drop_by_hand(draw)
        self._act(["merge", "deliver"], [draw(st.sampled_from(ANSWERS))], None)
        self._next()
        self._decide(draw)

    def _pass_time(self, draw: Draw) -> None:
        """Hours pass, and now and then the clock is set, or the machine slept."""
        self._pass(draw(st.integers(1, 7)) * 3600.0)
        days = draw(st.sampled_from([0, 0, 0, 0, -1, 29, 40, -40, 31]))
        if days and abs(self.world.clock.now() + days * DAY_S - NOON) < 100 * DAY_S:
            self._pass(days * DAY_S)

    # --- the daemon -------------------------------------------------------------------------------

    def _work(self, draw: Draw, death: Death | None = None) -> None:
        """The daemon does its duties, perhaps on the next day."""
        if draw(st.booleans()):
            self._pass(DAY_S - self.world.clock.now() % DAY_S + 3600.0)
        acts = draw(_ACTS)
        # A pass goes on after some answers, and ends at others.
        answers = draw(st.lists(st.sampled_from(("stored", *ANSWERS)), min_size=1, max_size=3))
        self._act(acts, answers, death)

    def _crash(self, draw: Draw) -> None:
        """The daemon is killed before one of its steps, and started again."""
        is_sql = draw(st.booleans())
        self._work(draw, Death(draw(st.integers(1, 25 if is_sql else 90)), is_sql=is_sql))

    # --- how ---------------------------------------------------------------------------------------

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
            _happened["killed"] += 1
            _happened["killed after a hand-over"] += self.model.picture() != before.picture()
        else:
            gone = before.gone
            for _ in self._walk(self.model, acts, facts, log, born):
                pass
            _happened["emptied"] += before.gone > gone
        for one in log:
            _happened[one.answer] += 1

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

    def _pass(self, seconds: float) -> None:
        self.world.clock.pass_s(seconds)
        _happened["jump"] += abs(seconds) >= DAY_S

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
            _happened["dropped"] += 1
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


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_every_count_is_in_one_place_whatever_happens():
    """Exactly once, nothing after a no, and every loss told of: for any order of what may happen."""
    _happened.clear()
    with answering() as gateway:
        Machine.gateway = gateway
        run_state_machine_as_test(
            Machine,
            settings=settings(
                max_examples=_EXAMPLES,
                stateful_step_count=40,
                deadline=None,
                suppress_health_check=list(HealthCheck),
                # To make a failure shorter takes minutes; in the suite it is told as it came.
                phases=[one for one in Phase if IS_THOROUGH or one is not Phase.shrink],
                database=None,
                print_blob=True,
            ),
        )

    # A run in which something never happened shows nothing of it.
    too_rare = {one: _happened[one] for one, least in _LEAST.items() if _happened[one] < least}
    assert too_rare == {}
    assert sum(_happened[one] for one in ANSWERS if one != "stored") > 3
    assert sum(_happened[f"lost by {one}"] > 0 for one in Cause) > 3

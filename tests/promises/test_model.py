"""The whole pipeline against a model: whatever happens in whatever order, each count is in one place.

Hypothesis acts on real hosts, files, SQLite and HTTP, and on `support.model`. After each act every
place must hold exactly what the model holds, and all places together what was counted.
"""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import rule, run_state_machine_as_test
from support import deltas
from support.answering import ANSWERS, answering
from support.clock import DAY_S, NOON
from support.counted import MAX_SUM, File, shift
from support.drawn import IS_THOROUGH
from support.dying import Death
from support.modelled import Draw, ModelledMachine, happened
from tallyd.losses import Cause

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
_EXAMPLES = 600 if IS_THOROUGH else 24
# How often each thing happened that a run is for, and how often it must at least.
_LEAST = {"dropped": 40, "killed": 10, "killed after a hand-over": 5, "stored": 2, "emptied": 3}
_LEAST |= dict.fromkeys(("on", "off", "wide", "jump", "offered again"), 2)


class Machine(ModelledMachine):
    """What may happen to one machine."""

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
            happened["offered again"] += 1

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
        happened[mode] += 1
        for host in self.hosts if is_set_back else ():
            self._next()
            self._drain(host, None)

    def _register(self, draw: Draw) -> None:
        name = draw(st.sampled_from(["narrow", "wide", "wide"]))
        self.world.register(name, is_shown=draw(_MOSTLY))
        happened[name] += 1

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


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_every_count_is_in_one_place_whatever_happens():
    """Exactly once, nothing after a no, and every loss told of: for any order of what may happen."""
    happened.clear()
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
    too_rare = {one: happened[one] for one, least in _LEAST.items() if happened[one] < least}
    assert too_rare == {}
    assert sum(happened[one] for one in ANSWERS if one != "stored") > 3
    assert sum(happened[f"lost by {one}"] > 0 for one in Cause) > 2

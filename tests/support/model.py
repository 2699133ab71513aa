"""The pipeline as plain dictionaries: what each act of tallyd must make of what was counted.

Written from docs/spool.md, docs/architecture.md and the contract, and from nothing of the daemon's code.
An act is a generator that stops after each hand-over, because a kill may come right there: whoever
runs it to its end has the state after the act, whoever stops it anywhere has a state that a kill may
leave.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from support.clock import DAY_S
from support.counted import (
    A_MINUTE,
    GRACE_S,
    LISTED,
    MAX_SUM,
    NAME_DAYS,
    WINDOW_DAYS,
    Batch,
    Content,
    Decision,
    Facts,
    File,
    Impossible,
    Key,
    Picture,
    Request,
    covers,
    shift,
    unix_of,
    weight,
)


@dataclass
class Model:
    """Where everything is. `gone` is what consent deleted."""

    counted: int = 0
    spool: dict[str, File] = field(default_factory=dict)
    bad: int = 0
    names: dict[str, str] = field(default_factory=dict)
    kept: Content = field(default_factory=Counter)
    outbox: list[Batch] = field(default_factory=list)
    gateway: dict[str, tuple[Content, Counter[str]]] = field(default_factory=dict)
    unsent: Counter[str] = field(default_factory=Counter)
    totals: Counter[str] = field(default_factory=Counter)
    agreed: str | None = None
    held: Decision | None = None
    requests: list[float] = field(default_factory=list)
    gone: int = 0
    # Lost for us, and yet at the gateway, whose answer never came; and what no number can hold.
    both: int = 0
    overflow: int = 0

    def picture(self) -> Picture:
        return Picture(
            new=sorted(self.spool),
            bad=self.bad,
            names=len(self.names),
            kept=self.kept,
            outbox=[(one.id, one.content, one.lost) for one in self.outbox],
            gateway=self.gateway,
            unsent=self.unsent,
            totals=self.totals,
            agreed=self.agreed,
            held=self.held,
            requests=len(self.requests),
        )

    def accounted(self) -> int:
        """All places together; equals `counted`, or the model itself loses something."""
        waiting = [one for name, one in self.spool.items() if name not in self.names]
        return (
            sum(one.weight for one in waiting)
            + weight(self.kept)
            + sum(weight(one.content) for one in self.outbox if one.id not in self.gateway)
            + sum(weight(content) for content, _ in self.gateway.values())
            + (self.totals.total() - self.both)
            + (self.gone + self.overflow)
        )

    # --- the acts ---------------------------------------------------------------------------------

    def merge(self, facts: Facts, seen: Picture) -> Iterator[None]:
        """One intake."""
        if not facts.is_on:
            yield from self._purge(seen)
            return
        yield from self._agree(facts, is_spool_empty=False)
        yield from self._keep_to(facts.decision)
        waiting = [self.spool[name] for name in sorted(self.spool)]
        malformed = [one for one in waiting if one.is_bad]
        predating = [one for one in waiting if not one.is_bad and self._predates(one, facts)]
        good = [one for one in waiting if one not in malformed and one not in predating]
        if waiting:
            for one in (*good, *malformed):
                if one.name in self.names:
                    continue
                if one.is_bad:
                    self.lose("malformed", 1)
                else:
                    self._fold(one, facts)
            # What is met again lies there still: its name is kept a day longer than all others (decision 37).
            again = {one.name for one in (*good, *malformed) if one.name in self.names}
            self.names |= {
                one.name: shift(facts.today, int(one.name in again)) for one in (*good, *malformed)
            }
            yield
        for one in (*good, *predating):
            del self.spool[one.name]
            if one in predating:
                self.gone += one.weight if one.name not in self.names else 0
            yield
        for one in malformed:
            del self.spool[one.name]
            self.bad += 1
            yield
        yield from self._agree(facts, is_spool_empty=True)

    def deliver(self, facts: Facts, log: list[Request], born: list[Batch]) -> Iterator[None]:
        """One delivery. `log` is what arrived meanwhile, `born` every batch not seen before, in order.

        How rows are put together to batches is the seal's own business; that nothing is added or
        left out is not.
        """
        if not self._is_open(facts):
            return
        yield from self._keep_to(facts.decision)
        self._lose_old(facts)
        yield
        ready = Counter({key: n for key, n in self.kept.items() if _is_finished(key, facts.today)})
        if ready:
            yield from self._agree(facts, is_spool_empty=False)
            self._freeze(ready, facts, born)
            yield
        machine_id = born[0].machine_id if born else facts.decision[1]
        for request in (*log, None):
            self._expire(facts)
            self._make_sendable(facts, machine_id)
            yield
            recent = sum(facts.now - 60 < at <= facts.now for at in self.requests)
            if not self.outbox or recent >= A_MINUTE:
                if request is not None:
                    raise Impossible("a request too many")
                return
            if request is None:
                raise Impossible("a request too few")
            if (yield from self._send(request, facts)):
                return

    def tidy(self, facts: Facts) -> Iterator[None]:
        """Retention: what is too old goes, counted; names go when their day would be refused anyway."""
        self._lose_old(facts)
        self._expire(facts)
        yield
        first = shift(facts.today, -NAME_DAYS)
        # One that comes back after its name is forgotten is a new one: its day is refused by then, unless
        # the clock is set back meanwhile.
        for name, day in self.names.items():
            self.counted += self.spool[name].weight if day < first and name in self.spool else 0
        self.names = {name: day for name, day in self.names.items() if day >= first}
        yield

    def lose(self, cause: str, count: int) -> None:
        for where in (self.unsent, self.totals):
            told = min(where[cause] + min(count, MAX_SUM), MAX_SUM)
            if where is self.totals:
                self.overflow += count - (told - where[cause])
            where[cause] = told

    # --- what they are made of --------------------------------------------------------------------

    def in_force(self, facts: Facts, dropped_at: float | None = None) -> str:
        """The contract by which something is screened, dropped then or read now."""
        is_wider = (self.agreed, facts.registered) == ("narrow", "wide")
        if not is_wider:
            return facts.registered
        if not facts.opens("wide"):
            return "narrow"
        from_then = (facts.shown["wide"] or 0.0) + GRACE_S
        return "narrow" if dropped_at is not None and dropped_at < from_then else "wide"

    def _is_open(self, facts: Facts) -> bool:
        is_explicit = facts.decision[0] is not None
        return facts.is_on and (
            self.agreed is not None or is_explicit or facts.opens(facts.registered)
        )

    def _agree(self, facts: Facts, *, is_spool_empty: bool) -> Iterator[None]:
        """From its notice and grace on the registered contract is the agreed one, once nothing older waits."""
        is_wider = (self.agreed, facts.registered) == ("narrow", "wide")
        if is_wider and not (facts.opens("wide") and is_spool_empty):
            return
        if self._is_open(facts) and self.agreed != facts.registered:
            self.agreed = facts.registered
            yield

    def _keep_to(self, decision: Decision) -> Iterator[None]:
        if self.held == decision:
            return
        if self.held is not None and not covers(decision, self.held):
            self._empty()
        self.held = decision
        yield

    def _empty(self) -> None:
        self.gone += weight(self.kept) + self.totals.total() - self.both
        self.gone += sum(weight(one.content) for one in self.outbox if one.id not in self.gateway)
        self.both = 0
        self.kept, self.outbox = Counter(), []
        self.unsent, self.totals = Counter(), Counter()

    def _purge(self, seen: Picture) -> Iterator[None]:
        """Consent is off: files go one by one, in no order that anybody promises; then the rest."""
        for left in (seen.new, []):
            for name in [one for one in self.spool if one not in left]:
                file = self.spool.pop(name)
                self.gone += file.weight if name not in self.names else 0
            self.bad = min(self.bad, seen.bad) if left else 0
            yield
        self._empty()
        self.held = None
        yield
        self.agreed = None
        yield

    def _predates(self, one: File, facts: Facts) -> bool:
        since = unix_of(facts.decision[0]) if facts.decision[0] else 0.0
        is_covered = one.stamp is None or covers(facts.decision, one.stamp)
        return one.at < since or not is_covered

    def _fold(self, one: File, facts: Facts) -> None:
        listed = LISTED[self.in_force(facts, one.at)]
        lost = Counter(one.lost)
        for key, value in one.content.items():
            why = facts.misplaced(key[1][:10]) or (None if key[0] in listed else "screened")
            if why is not None:
                lost[why] += value if key[4] != "error_count" else 0
                continue
            kept = min(self.kept[key] + value, MAX_SUM)
            self.overflow += self.kept[key] + value - kept if key[4] != "error_count" else 0
            self.kept[key] = kept
        for cause, count in lost.items():
            self.lose(cause, count)

    def _lose_old(self, facts: Facts) -> None:
        """Of what waits for its seal."""
        old = Counter(
            {key: n for key, n in self.kept.items() if facts.misplaced(key[1][:10]) == "age"}
        )
        self.kept -= old
        self.lose("age", weight(old))

    def _freeze(self, ready: Content, facts: Facts, born: list[Batch]) -> None:
        self.kept = Counter({key: n for key, n in self.kept.items() if key not in ready})
        listed = LISTED[self.in_force(facts)]
        unlisted = Counter({key: n for key, n in ready.items() if key[0] not in listed})
        self.lose("screened", weight(unlisted))
        frozen = sum((one.content for one in born), Counter[Key]())
        # Nobody sees a batch that is as old as the window when it is frozen: it expires in the same pass,
        # with all of its envelope, and takes back what it was to report.
        unseen = ready - unlisted - frozen
        if frozen + unseen != ready - unlisted or not self._expires_at_once(unseen, facts):
            raise Impossible(f"frozen {frozen}, and not {ready - unlisted}")
        if not born and not unseen:
            return
        reported = sum((one.lost for one in born), Counter[str]())
        if reported != self.unsent and not (unseen and reported <= self.unsent):
            raise Impossible(f"reported {born}, and not {self.unsent}")
        self.unsent -= reported
        self.lose("age", weight(unseen))
        for one in born:
            oldest = min(unix_of(f"{key[1]}T12:00:00.000Z"[:24]) for key in one.content)
            one.expires = min(facts.now, oldest) + WINDOW_DAYS * DAY_S
            self.outbox.append(one)

    def _expires_at_once(self, content: Content, facts: Facts) -> bool:
        """Whether of each envelope in it something is older than the window, to the second."""
        oldest: dict[str, float] = {}
        for key in content:
            at = unix_of(f"{key[1]}T12:00:00.000Z"[:24])
            oldest[key[2]] = min(at, oldest.get(key[2], at))
        return all(at + WINDOW_DAYS * DAY_S < facts.now for at in oldest.values())

    def _expire(self, facts: Facts) -> None:
        for one in [one for one in self.outbox if one.expires < facts.now]:
            self._lose_batch(one, "age")

    def _make_sendable(self, facts: Facts, machine_id: str | None) -> None:
        """The next batch is of this id, and holds what the contract lists now."""
        listed = LISTED[self.in_force(facts)]
        while self.outbox:
            one = self.outbox[0]
            fallen = Counter({key: n for key, n in one.content.items() if key[0] not in listed})
            if one.machine_id != machine_id:
                self.outbox.remove(one)
                self.gone += weight(one.content) if one.id not in self.gateway else 0
            elif fallen == one.content:
                self._lose_batch(one, "screened")
            else:
                self.both += weight(fallen) if one.id in self.gateway else 0
                self.lose("screened", weight(fallen))
                one.content = one.content - fallen
                return

    def _send(self, request: Request, facts: Facts) -> Iterator[None]:
        """One request and its verdict; True ends the pass."""
        one, told = self.outbox[0], request.batch
        if (one.id, one.content, one.lost) != (told.id, told.content, told.lost):
            raise Impossible(f"{told} was sent, and not {one}")
        if request.answer in ("stored", "lost reply") and one.id not in self.gateway:
            self.gateway[one.id] = (Counter(told.content), told.lost)
        yield
        self.requests.append(facts.now)
        match request.answer:
            case "stored":
                self.outbox.remove(one)
            case "refused":
                self._lose_batch(one, "refused")
            case "busy" if facts.busy == "final":
                self._lose_batch(one, "refused")
            case "silent" | "lost reply" if facts.unanswered == "drop":
                self._lose_batch(one, "unanswered")
            case _:
                yield
                return True
        yield
        return False

    def _lose_batch(self, one: Batch, cause: str) -> None:
        """What it held is lost, what it reported is reported by the next one."""
        self.outbox.remove(one)
        self.both += weight(one.content) if one.id in self.gateway else 0
        self.lose(cause, weight(one.content))
        for why, count in one.lost.items():
            self.unsent[why] = min(self.unsent[why] + count, MAX_SUM)


def _is_finished(key: Key, today: str) -> bool:
    return key[4] == "" or key[1] < today

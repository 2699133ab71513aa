"""The whole of intake on one hostile file between two good ones: real files, a real database.

What it comes to is worked out once more from what docs/spool.md says of the file, and compared whole.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from support.clock import NOON, TODAY, FakeClock
from support.deltas import delta, tool_calls
from support.pipeline import Pipeline
from tallyd.body import canonical
from tallyd.contract import Contract
from tallyd.contract.days import oldest_day, shift_day
from tallyd.contract.screen import screen_counts, screen_envelope, screen_event

from fuzz import delta_by_spec
from fuzz.scratch import home

PRODUCT = "tallyd-demo"
_LARGEST = 2**53 - 1
_TABLES = ("bucket", "event", "loss", "envelope", "delta")


@dataclass
class Outcome:
    """What became of the files: sums, single events, losses by cause, and what stands in `bad/`."""

    sums: Counter[tuple[str, ...]] = field(default_factory=Counter)
    events: list[tuple[str, ...]] = field(default_factory=list)
    lost: Counter[str] = field(default_factory=Counter)
    waiting: int = 0
    bad: int = 0

    def settled(self) -> tuple[Any, ...]:
        """Comparable: a number stays within 2^53-1, and what is zero is not there."""
        sums, lost = (
            {key: min(value, _LARGEST) for key, value in one.items()}
            for one in (self.sums, self.lost)
        )
        lost = {cause: value for cause, value in lost.items() if value}
        return sums, sorted(self.events), lost, self.waiting, self.bad


class _Machine:
    """One home and one database; emptied after each input."""

    def __init__(self) -> None:
        self._open = ExitStack()
        self._pipeline: Pipeline | None = None

    def pipeline(self) -> Pipeline:
        if self._pipeline is None:
            self._pipeline = self._open.enter_context(Pipeline.open(home("intake"), FakeClock()))
            self._pipeline.register(PRODUCT)
        return self._pipeline

    def end(self) -> None:
        """Close the database: a test does, a fuzzer just ends."""
        self._open.close()
        self._pipeline = None


machine = _Machine()


def one_input(data: bytes) -> None:
    """The file counts for what it says or is set aside with a reason; its neighbours count in any case."""
    pipeline = machine.pipeline()
    contract = pipeline.view(PRODUCT).contract
    good = [_neighbour("before"), _neighbour("after")]
    pipeline.drop(good[0])
    pipeline.drop(data)
    pipeline.drop(good[1])

    done = pipeline.intake()

    outcomes = [_outcome([good[0], said, good[1]], contract) for said in _readings(data)]
    found = _found(pipeline)
    assert done.seen == 3
    assert done.merged + done.predating + done.quarantined == 3
    assert found.settled() in [one.settled() for one in outcomes]
    _empty(pipeline)


def _neighbour(tool: str) -> dict[str, Any]:
    return delta(counts=[tool_calls(tool)])


def _readings(data: bytes) -> list[Any]:
    """What the file says, None where it is no delta; both where the page leaves that open."""
    try:
        return [delta_by_spec.read(data, PRODUCT)]
    except delta_by_spec.Refused:
        return [None]
    except delta_by_spec.Unsaid:
        # Screened or not, it holds one number too long to be read, and nothing else is said of it.
        return [None]


def _outcome(deltas: list[Any], contract: Contract) -> Outcome:
    come = Outcome()
    for said in deltas:
        if said is None:
            come.bad += 1
            come.lost["malformed"] += 1
        elif said.get("consent") in (None, (None, None)):
            _add(come, said, contract)
    return come


def _add(come: Outcome, said: dict[str, Any], contract: Contract) -> None:
    come.lost.update(said.get("lost", {}))
    day = said["day"]
    envelope = canonical(screen_envelope(contract, said["envelope"], day)[0])
    for event, dimensions, measures in said["counts"]:
        counts = screen_counts(contract, event, dimensions, measures, day)
        cause = _misplaced(day, contract)
        if counts is None or cause:
            come.lost[cause or "screened"] += max(measures.values(), default=0)
            continue
        for measure, value in counts.measures.items():
            come.sums[day, envelope, event, canonical(counts.dimensions), measure] += value
    for event, time, properties in said["events"]:
        kept = screen_event(contract, event, properties, time[:10])
        cause = _misplaced(time[:10], contract)
        if kept is None or cause:
            come.lost[cause or "screened"] += 1
            continue
        come.events.append((envelope, event, time, canonical(kept.properties)))


def _misplaced(day: str, contract: Contract) -> str:
    if day > shift_day(TODAY, 1):
        return "future"
    return "age" if day < oldest_day(NOON, contract.endpoint.max_age_days) else ""


def _found(pipeline: Pipeline) -> Outcome:
    def look(sql: sqlite3.Connection) -> Outcome:
        joined = "JOIN envelope ON envelope.id = envelope_id"
        sums = sql.execute(
            f"SELECT day, fields, event, dimensions, measure, value FROM bucket {joined}"
        )
        events = sql.execute(f"SELECT fields, event, ts, properties FROM event {joined}")
        lost = sql.execute("SELECT cause, total FROM loss WHERE cause <> 'stripped_fields'")
        return Outcome(
            sums=Counter({tuple(row[:-1]): row[-1] for row in sums}),
            events=[tuple(row) for row in events],
            lost=Counter(dict(lost.fetchall())),
        )

    tally = pipeline.tally()
    found = pipeline.read(look)
    found.waiting, found.bad = tally.new, tally.bad
    return found


def _empty(pipeline: Pipeline) -> None:
    with pipeline.store.transaction() as sql:
        for table in _TABLES:
            sql.execute(f"DELETE FROM {table}")
    for file in pipeline.around.paths.spool(PRODUCT).bad.glob("*"):
        if not file.name.endswith(".why"):
            assert file.with_name(f"{file.name}.why").read_text(encoding="utf-8").strip()
    for file in pipeline.around.paths.spool(PRODUCT).bad.glob("*"):
        file.unlink()

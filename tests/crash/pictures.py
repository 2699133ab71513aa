"""Where every count of a home is: at the gateway, in the outbox, in buckets, or lost by cause.

A batch is looked at once by its id, wherever it lies. `compare` tells what is wrong with a picture; an
empty list means: each drop counted once, each batch under one id, nothing left that nobody sweeps.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from crash.gateway import Heard

# (product, day, tool) → calls, and the same with "!" for those that failed.
Counts = Counter[tuple[str, str, str]]
LEDGER_MAX_ROWS = 1000


@dataclass
class Picture:
    """One home, after its recovery. `carried` is what batches and `unsent` tell of losses."""

    calls: Counts = field(default_factory=Counter)
    # (product, instant) of every single event of a host.
    events: Counter[tuple[str, str]] = field(default_factory=Counter)
    lost: Counter[tuple[str, str]] = field(default_factory=Counter)
    carried: Counter[tuple[str, str]] = field(default_factory=Counter)
    # Days that still lie in buckets.
    waiting_days: set[str] = field(default_factory=set)
    batches_waiting: int = 0
    ledger: int = 0
    quarantined: int = 0
    leftovers: list[str] = field(default_factory=list)
    # Ids that were sent with more than one text, and texts that were sent under more than one id.
    changed: list[str] = field(default_factory=list)
    # Events `daemon_started`, and runs; wanted are so many events for each run.
    starts: int = 0
    runs: int = 0


def take(home: Path, heard: Heard) -> Picture:
    """The picture of a home in which nobody runs."""
    seen = Picture()
    texts: dict[str, bytes] = {}
    sent: defaultdict[str, set[bytes]] = defaultdict(set)
    for body in (*heard.bodies, *heard.kept):
        batch_id = json.loads(body)["batch_id"]
        sent[batch_id].add(body)
    for body in heard.kept:
        texts[json.loads(body)["batch_id"]] = body
    database = home / "state" / "tallyd.db"
    if database.exists():
        sql = sqlite3.connect(database)
        for batch_id, body in sql.execute("SELECT batch_id, body FROM outbox").fetchall():
            texts[batch_id] = body
            seen.batches_waiting += 1
            if batch_id in sent:
                sent[batch_id].add(body)
        _add_buckets(seen, sql)
        for product, cause, unsent, total in sql.execute(
            "SELECT product, cause, unsent, total FROM loss WHERE cause <> 'stripped_fields'"
        ):
            seen.lost[product, cause] += total
            seen.carried[product, cause] += unsent
        seen.ledger = max(
            (row[0] for row in sql.execute("SELECT count(*) FROM ledger GROUP BY product")),
            default=0,
        )
        # The newest rows stay, numbered one after another.
        seen.runs = sql.execute("SELECT coalesce(max(id), 0) FROM run").fetchone()[0]
        sql.close()
    seen.changed = [one for one, bodies in sent.items() if len(bodies) > 1]
    for body in texts.values():
        _add_batch(seen, body)
    for file in sorted(home.rglob("*")):
        if not file.is_file():
            continue
        if file.parent.name == "bad":
            seen.quarantined += file.suffix != ".why"
        elif "spool" in file.parts or "flush" in file.parts or _is_beside(file.name):
            seen.leftovers.append(str(file.relative_to(home)))
    return seen


def _is_beside(name: str) -> bool:
    return name.endswith((".tmp", ".claim"))


def _add_batch(seen: Picture, body: bytes) -> None:
    said = json.loads(body)
    product = said["product"]
    for one in said["events"]:
        props = one["props"]
        if one["event"] == "tool_calls":
            seen.calls[product, one["ts"][:10], props["tool"]] += props["count"]
            seen.calls[product, one["ts"][:10], "!" + props["tool"]] += props["error_count"]
        elif one["event"] == "daemon_started":
            seen.starts += 1
        elif one["event"] == "server_started":
            seen.events[product, one["ts"]] += 1
    for cause, count in said.get("lost", {}).items():
        seen.carried[product, cause] += count


def _add_buckets(seen: Picture, sql: sqlite3.Connection) -> None:
    for product, day, dimensions, measure, value in sql.execute(
        "SELECT product, day, dimensions, measure, value FROM bucket WHERE event = 'tool_calls'"
    ):
        tool = json.loads(dimensions)["tool"]
        seen.calls[product, day, tool if measure == "count" else "!" + tool] += value
        seen.waiting_days.add(day)
    for product, event, ts in sql.execute("SELECT product, event, ts FROM event"):
        if event == "daemon_started":
            seen.starts += 1
        elif event == "server_started":
            seen.events[product, ts] += 1


def compare(seen: Picture, wanted: Picture) -> list[str]:
    """What is wrong, in words that begin with the kind: sum, twice, batch, leftover, bound."""
    faults = []
    for kind in ("calls", "events", "lost"):
        have, want = getattr(seen, kind), getattr(wanted, kind)
        for key in sorted(set(have) | set(want)):
            if have[key] > want[key]:
                faults.append(f"twice: {kind} {key}: {have[key]} instead of {want[key]}")
            elif have[key] < want[key]:
                faults.append(f"sum: {kind} {key}: {have[key]} instead of {want[key]}")
    if +seen.carried != +seen.lost:
        faults.append(f"sum: losses told {dict(+seen.carried)}, counted {dict(+seen.lost)}")
    faults += [f"batch: {one} was sent with two texts" for one in seen.changed]
    faults += [f"leftover: {one}" for one in seen.leftovers]
    if seen.waiting_days - wanted.waiting_days:
        faults.append(f"leftover: {seen.waiting_days - wanted.waiting_days} not sealed")
    if seen.batches_waiting > wanted.batches_waiting:
        faults.append(f"leftover: {seen.batches_waiting} batches not sent")
    if seen.starts != seen.runs * wanted.starts:
        faults.append(f"sum: {seen.starts} starts told of {seen.runs} runs")
    if seen.ledger > LEDGER_MAX_ROWS:
        faults.append(f"bound: {seen.ledger} rows in the ledger")
    if seen.quarantined != wanted.quarantined:
        faults.append(f"sum: {seen.quarantined} set aside instead of {wanted.quarantined}")
    return faults

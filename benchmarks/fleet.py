"""Machine-days of codegraph through the real stub and the real pipeline, on a pretended day.

Real are the clients, their files, the database, the seal and the HTTP requests; all hosts of a machine
live in this process and the time is pretended (`support.machine`).
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.clock import DAY_S
from support.machine import Machine, machines

# What one process of codegraph counts: (kind, name) with its share. A few names are most of the use.
_USES = (
    ("mcp_tool", "explore", 30),
    ("mcp_tool", "search", 22),
    ("mcp_tool", "callers", 10),
    ("mcp_tool", "node", 8),
    ("mcp_tool", "callees", 5),
    ("mcp_tool", "impact", 3),
    ("mcp_tool", "files", 3),
    ("mcp_tool", "status", 2),
    ("cli_command", "sync", 9),
    ("cli_command", "index", 3),
    ("cli_command", "status", 3),
    ("cli_command", "query", 2),
)
_AGENTS = (("Claude Code", "2.1.7"), ("Cursor", "1.9.3"))
# One machine in so many is upgraded in the course of the day, and has two envelopes then.
_UPGRADED_ONE_IN = 20
_FAILED_ONE_IN = 25


@dataclass(frozen=True)
class Day:
    """What one machine sent of one day."""

    processes: int
    keys: int
    rows: int
    posts: int
    bodies: tuple[bytes, ...]


def one_machine_day(home: Path, *, processes: int, seed: int) -> Day:
    """So many processes with one count each, one day; then the day is over and is sent."""
    drawn = random.Random(seed)
    agents = _AGENTS[: drawn.choice((1, 1, 1, 2))]
    is_upgraded = drawn.randrange(_UPGRADED_ONE_IN) == 0
    with pytest.MonkeyPatch.context() as patch, machines(home, patch) as new_machine:
        machine = new_machine("codegraph")
        machine.agree()
        keys = set()
        for number in range(processes):
            version = "1.1.0" if is_upgraded and number > processes // 2 else "1.0.0"
            keys.add((version, *_process(machine, version, agents, drawn)))
            if number % 1000 == 999:
                # The daemon runs beside them; without it writers would keep to their cap.
                machine.pipeline.intake("codegraph")
        machine.deliver()
        machine.clock.pass_s(DAY_S)
        machine.deliver()
        bodies = tuple(machine.recorder.bodies)
        batches = machine.recorder.batches
    rows = [row for one in batches for row in one["events"]]
    counted = sum(row["props"]["count"] for row in rows)
    if counted != processes:
        raise RuntimeError(f"{counted} of {processes} counts arrived")
    return Day(processes, len(keys), len(rows), len(bodies), bodies)


def _process(
    machine: Machine, version: str, agents: tuple[tuple[str, str], ...], drawn: random.Random
) -> tuple[str, ...]:
    """One short process: a client, a count, a drop. Gives the key it counted under."""
    client = machine.host(version=version, envelope={"node_major": 22})
    kind, name, _ = drawn.choices(_USES, [share for _, _, share in _USES])[0]
    key = (kind, name, *(drawn.choice(agents) if kind == "mcp_tool" else ()))
    names = ("kind", "name", "client_name", "client_version")[: len(key)]
    client.rollup("usage_rollup", *names)(*key, ok=drawn.randrange(_FAILED_ONE_IN) != 0)
    client.close()
    machine.clients.remove(client)
    machine.clock.pass_s(0.01)
    return key

"""Rows A1 to A6 of the acceptance table: what is summed, when it leaves, and what a count costs."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from support.clock import DAY_S, NOON
from support.hosts import environ_of_host
from support.machine import Machine, NewMachine, contract_named, on_a_terminal, start_program
from support.tools import need
from tallyd.contract.build import built

_MIDNIGHT = NOON + DAY_S / 2


def _agreed(new_machine: NewMachine, name: str = "codegraph", **how: float) -> Machine:
    machine = new_machine(name, **how)
    machine.agree()
    return machine


def test_a01_a_rollup_is_keyed_by_day_kind_name_client_and_its_version(new_machine: NewMachine):
    machine = _agreed(new_machine)
    count = machine.host().rollup("usage_rollup", "kind", "name", "client_name", "client_version")
    keys = [
        ("mcp_tool", "explore", "Claude Code", "2.1.7"),
        ("mcp_tool", "explore", "Claude Code", "2.1.8"),
        ("mcp_tool", "explore", "Cursor", "2.1.7"),
        ("mcp_tool", "affected", "Claude Code", "2.1.7"),
        ("cli_command", "explore", "Claude Code", "2.1.7"),
    ]
    wanted = Counter()
    for day in (1, 2):
        for times, key in enumerate(keys, 1):
            for place in range(times * day):
                count(*key, ok=place > 0)
            wanted[f"2026-11-{19 + day}T12:00:00.000Z", *key, times * day, 1] += 1
        machine.clients[0].drain()
        machine.clock.pass_s(DAY_S)
    rows = machine.deliver()

    names = ("kind", "name", "client_name", "client_version", "count", "error_count")
    assert Counter((row.ts, *(row.props[one] for one in names)) for row in rows) == wanted
    assert sum(wanted.values()) == len(keys) * 2


def test_a02_only_a_finished_day_leaves_and_today_stays(new_machine: NewMachine):
    machine = _agreed(new_machine)
    client = machine.host()
    machine.use(client)
    machine.pipeline.intake("codegraph")
    machine.clock.pass_s(_MIDNIGHT - machine.clock.time - 62)
    before = machine.deliver()
    # A drain in the first second of a day still belongs to the one before.
    machine.clock.pass_s(_MIDNIGHT - machine.clock.time + 2)
    machine.use(client, name="of-today")
    after = machine.deliver()
    machine.clock.pass_s(DAY_S / 2)

    assert (before, [(row.props["name"], row.ts) for row in after]) == (
        [],
        [("explore", "2026-11-20T12:00:00.000Z")],
    )
    assert machine.deliver() == []
    machine.clock.pass_s(DAY_S / 2)
    assert [row.props["name"] for row in machine.deliver()] == ["of-today"]


@pytest.mark.slow
def test_a03_there_is_one_row_per_key_however_many_processes_counted(new_machine: NewMachine):
    """Three processes at once, and two deltas of each, with a merge in between."""
    machine = _agreed(new_machine)
    code = """
client = Client("codegraph", "1.6.2", contract=contract)
count = client.rollup("usage_rollup", "kind", "name")
for _ in range(7): count("mcp_tool", "explore")
client.drain()
print("dropped", flush=True); sys.stdin.read()
for _ in range(4): count("mcp_tool", "explore", ok=False)
"""
    hosts = [start_program(machine.home, code, machine.constants, stdin=-1) for _ in range(3)]
    for host in hosts:
        assert host.stdout is not None
        assert host.stdout.readline() == "dropped\n"
    machine.pipeline.intake("codegraph")
    for host in hosts:
        host.communicate(timeout=60)
    machine.pipeline.intake("codegraph")
    machine.clock.pass_s(DAY_S)
    (row,) = machine.deliver()

    assert (row.props["count"], row.props["error_count"]) == (33, 12)


def test_a04_what_happens_once_leaves_at_the_next_flush_and_waits_for_no_midnight(
    new_machine: NewMachine,
):
    machine = _agreed(new_machine)
    client = machine.host()
    machine.use(client)
    machine.tell(client, "install", scope="global", kind="fresh", targets=["claude"])
    now = machine.deliver()
    machine.clock.pass_s(DAY_S)

    assert [(row.event, row.ts[:19]) for row in now] == [("install", "2026-11-20T12:00:00")]
    assert [row.event for row in machine.deliver()] == ["usage_rollup"]


@pytest.mark.slow
def test_a05_a_process_draws_once_and_the_rate_is_on_the_event(new_machine: NewMachine):
    """200 children of one host: each tells of all its calls or of none, about a tenth of them of all."""
    code = """
def child():
    client = Client(contract=contract)
    client.register("toolName", ["sql"])
    for _ in range(2):
        for _ in range(3):
            client.event("mcp_request_completed", toolName="sql", outcome="ok", durationMs=os.getpid())
        client.drain()
import tallyd_client._drain
for _ in range(CHILDREN):
    pid = os.fork()
    if pid == 0:
        try: child()
        finally: os._exit(0)
    os.waitpid(pid, 0)
"""
    found = {}
    for name, rate, children in (("ktx-v1", 0.1, 200), ("ktx-v2", 1, 5)):
        machine = _agreed(new_machine, name)
        on_a_terminal(machine.home, code.replace("CHILDREN", str(children)), machine.constants)
        rows = machine.deliver()
        calls = Counter(row.props["durationMs"] for row in rows)
        assert (set(calls.values()), {row.props["sampleRate"] for row in rows}) == ({6}, {rate})
        found[name] = len(calls)

    # Less than one in 10^7 that a good draw is outside.
    assert (0 < found["ktx-v1"] < 60, found["ktx-v2"]) == (True, 5)


_COUNTING = """
import os, sys
from tallyd_client import Client
client = Client(contract={contract!r})
bound = client.counter("usage_rollup", kind="mcp_tool", name="explore")
count = client.rollup("usage_rollup", "kind", "name")
bound(); count("mcp_tool", "explore"); client.event("install", scope="local", kind="fresh")
client.drain()
os.access("/mark/begin", os.F_OK)
for _ in range(100000):
    bound()
for _ in range(100000):
    count("cli_command", "affected", ok=False)
for _ in range(500):
    client.event("install", scope="local", kind="fresh")
os.access("/mark/end", os.F_OK)
"""


@pytest.mark.slow
def test_a06_a_count_touches_neither_disk_nor_network(home: Path):
    """Between two marks, 200,500 counts and events, and not one call about files or sockets."""
    strace = need("strace")
    trace = home / "trace"
    code = _COUNTING.format(contract=built(contract_named("codegraph")))
    subprocess.run(
        [
            *(strace, "-f", "-o", str(trace), "-e", "trace=%file,%desc,%network,%process"),
            *(sys.executable, "-c", code),
        ],
        env=environ_of_host(home),
        check=True,
        capture_output=True,
        timeout=120,
    )
    lines = trace.read_text().splitlines()
    begin, end = (
        next(place for place, line in enumerate(lines) if f"/mark/{one}" in line)
        for one in ("begin", "end")
    )
    between = [re.sub(r"^\d+ +", "", line) for line in lines[begin + 1 : end]]

    assert (between, any("/spool/" in line for line in lines[end:])) == ([], True)

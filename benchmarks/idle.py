"""What a daemon with nothing to do costs, read from the kernel's own counters.

Two daemons are idle at the same time, one that never sent and one that sent a moment ago. Wake-ups are
voluntary context switches of all threads; CPU time is what the scheduler gave them, in nanoseconds.
"""

from __future__ import annotations

import time
from pathlib import Path

from support.deltas import delta, drop
from support.processes import CONTRACTS, DEMO_CONTRACT, daemon, tallyd
from support.recorder import recording

from benchmarks.measure import Figure, made, progress

# What happens at the start (the first scan, the first look at what is due) is no idling.
_SETTLE_S = 3.0


def measure(root: Path, *, quick: bool) -> list[Figure]:
    """Wake-ups and CPU a second, and memory, before the first send and after it."""
    seconds = 5.0 if quick else 60.0
    progress(f"idling for {seconds:.0f} s")
    before, after = made(root / "idle-before"), made(root / "idle-after")
    # Its grace of a day keeps the first send away, which would come within a minute otherwise.
    tallyd(before, "contract", "add", str(CONTRACTS / "codegraph.toml"))
    tallyd(after, "contract", "add", str(DEMO_CONTRACT))
    yesterday = time.strftime("%Y-%m-%d", time.gmtime(time.time() - 86400))
    with (
        recording() as recorder,
        daemon(before) as quiet,
        daemon(after, TALLYD_DEMO_ENDPOINT=recorder.url) as sent,
    ):
        drop(after / "state", delta(day=yesterday), at=time.time())
        tallyd(after, "flush", TALLYD_DEMO_ENDPOINT=recorder.url)
        if not recorder.bodies:
            raise RuntimeError("nothing was sent")
        time.sleep(_SETTLE_S)
        at_first = {one: _counters(one) for one in (quiet.pid, sent.pid)}
        began = time.monotonic()
        time.sleep(seconds)
        taken = time.monotonic() - began
        at_last = {one: _counters(one) for one in (quiet.pid, sent.pid)}
        memory = {one: _memory_mib(one) for one in (quiet.pid, sent.pid)}
    found = []
    for pid, where in ((quiet.pid, "before the first send"), (sent.pid, "after a send")):
        woken = (at_last[pid][0] - at_first[pid][0]) / taken
        cpu_us = (at_last[pid][1] - at_first[pid][1]) / taken / 1000
        spent = f"in {taken:.0f} s"
        found.append(Figure("wakeups", woken, f"{woken:.2f} {spent}", where=where))
        found.append(Figure("idle_cpu", cpu_us, f"{cpu_us:.0f} µs {spent}", where=where))
    for pid, budget in ((quiet.pid, "memory_before"), (sent.pid, "memory_after")):
        found.append(Figure(budget, memory[pid], f"{memory[pid]:.1f} MiB"))
    return found


def _counters(pid: int) -> tuple[int, int]:
    """(voluntary context switches, nanoseconds of CPU time) of all threads of a process."""
    switches = cpu_ns = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        status = (task / "status").read_text()
        switches += int(status.split("\nvoluntary_ctxt_switches:")[1].split()[0])
        cpu_ns += int((task / "schedstat").read_text().split()[0])
    return switches, cpu_ns


def _memory_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("\nVmRSS:")[1].split()[0]) / 1024

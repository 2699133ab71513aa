"""The incident of the README, replayed: what a day of a field looks like with tallyd and without.

    python -m benchmarks.incident [--processes N] [--sample MACHINES] [--json FILE] [--docs]

First one machine: N real processes with one count each, with the stub and the real daemon, and the day's
one delivery. Then 100,000 machines by sampling: what happens "without" is added up over all of them, what
happens "with" goes through the real stub and pipeline on a sample and is scaled up, with its 95 % interval.

What "without" means is the field's own behaviour as it was reported: every process queued a line
`count: 1` of its own, and each line became a row. How many lines went in one post is the field's own
ratio. What is assumed beyond that stands in ASSUMED, and is printed with the table.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import statistics
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from support.hosts import built, environ_of_host
from support.processes import DEMO_CONTRACT, daemon, environ_of, tallyd
from support.recorder import recording

from benchmarks import documents
from benchmarks.fleet import Day, one_machine_day
from benchmarks.measure import machine, made, progress, scratch

# The field, a day: 97,000 posts with 3.8 million rows.
FIELD_POSTS = 97_000
FIELD_ROWS = 3_800_000
MACHINES = 100_000
_LINES_A_POST = FIELD_ROWS / FIELD_POSTS
# Processes of a machine and day: log-normal, so half of the machines have few and some thousands. The
# mean is the field's rows over the machines; the spread makes a day of 10,000 the one in 100,000.
_SPREAD = 2.0
_STRATA = 10
ASSUMED = (
    f"the field's {FIELD_ROWS / 1e6:.1f} million rows came from {MACHINES:,} machines "
    f"({FIELD_ROWS / MACHINES:.0f} processes each on average, heavy tail: log-normal, σ = {_SPREAD:g}); "
    "a process counts one use under one of 12 names of a skewed list, a quarter of the machines has two agents, "
    "one in 20 is upgraded that day; a machine that was used is on the next day, when its day is sent"
)
_README = documents.ROOT / "README.md"
_RESULT = documents.RESULTS / "incident.json"
# As short as a host can be: no site, nothing but the stub. It counts, and it ends.
_HOST = """\
import sys
sys.path.insert(0, {stub!r})
from tallyd_client import Client
Client(version="1.0.0", contract={contract!r}).counter("tool_calls", tool="search")()
"""


@dataclass(frozen=True)
class Range:
    """An estimate with its 95 % interval; without one where nothing was drawn."""

    value: float
    low: float
    high: float

    def in_words(self) -> str:
        if self.low == self.high:
            return f"{self.value:,.0f}"
        half = (self.high - self.low) / 2
        return f"{self.value:,.0f} ± {half:,.0f}"


@dataclass(frozen=True)
class OneMachine:
    """One machine's day of real processes, and what arrived of it."""

    processes: int
    counted: int
    rows: int
    posts: int
    bytes: int
    left_over: int
    seconds: float


@dataclass(frozen=True)
class Field:
    """The day of all machines: without tallyd added up, with it scaled up from a sample."""

    machines: int
    used: int
    sample: int
    sample_processes: int
    processes: int
    rows: Range
    posts: Range
    keys: Range
    seconds: float


def one_machine(root: Path, processes: int) -> OneMachine:
    """So many real processes of one tool on one day, with the real daemon beside them."""
    home = made(root / "one-machine")
    program = home / "host.py"
    stub = environ_of_host(home)["PYTHONPATH"]
    program.write_text(_HOST.format(stub=stub, contract=built()))
    _wait_for_enough_of_the_day(processes)
    began = time.monotonic()
    with recording() as recorder:
        address = {"TALLYD_DEMO_ENDPOINT": recorder.url}
        tallyd(home, "contract", "add", str(DEMO_CONTRACT))
        environ = environ_of(home)
        with daemon(home, **address), ThreadPoolExecutor(os.cpu_count()) as starters:

            def start(_: int) -> None:
                command = [sys.executable, "-I", "-S", str(program)]
                subprocess.run(command, env=environ, stderr=subprocess.DEVNULL, check=True)

            for number, _ in enumerate(starters.map(start, range(processes)), 1):
                if number % 1000 == 0:
                    progress(f"{number:,} of {processes:,} processes ended")
        # A day goes by; `tallyd flush` is what the daemon's own interval does.
        tallyd(home, "flush", TALLYD_CLOCK_AHEAD="86400", **address)
        batches, bodies = recorder.batches, list(recorder.bodies)
    rows = [row for one in batches for row in one["events"] if row["event"] == "tool_calls"]
    return OneMachine(
        processes=processes,
        counted=sum(row["props"]["count"] for row in rows),
        rows=len(rows),
        # The daemon tells of its own start and stop in posts of another envelope.
        posts=sum(any(row["event"] == "tool_calls" for row in one["events"]) for one in batches),
        bytes=sum(map(len, bodies)),
        left_over=len(list((home / "state" / "spool" / "tallyd-demo" / "new").iterdir())),
        seconds=time.monotonic() - began,
    )


def field(root: Path, sample: int, seed: int = 1) -> Field:
    """All machines. The sample is drawn by strata of equal numbers of machines, ordered by their use."""
    began = time.monotonic()
    drawn = random.Random(seed)
    mu = math.log(FIELD_ROWS / MACHINES) - _SPREAD**2 / 2
    population = sorted(round(drawn.lognormvariate(mu, _SPREAD)) for _ in range(MACHINES))
    used = [one for one in population if one]
    strata = [
        used[len(used) * n // _STRATA : len(used) * (n + 1) // _STRATA] for n in range(_STRATA)
    ]
    days: list[list[Day]] = []
    for number, stratum in enumerate(strata):
        progress(
            f"sampling {sample // _STRATA} machines of {stratum[0]:,} to {stratum[-1]:,} processes"
        )
        days.append(
            [
                one_machine_day(
                    made(root / f"machine-{number}-{one}"),
                    processes=processes,
                    seed=seed + 1000 * number + one,
                )
                for one, processes in enumerate(drawn.sample(stratum, max(2, sample // _STRATA)))
            ]
        )
    sizes = [len(stratum) for stratum in strata]
    return Field(
        machines=MACHINES,
        used=len(used),
        sample=sum(map(len, days)),
        sample_processes=sum(day.processes for stratum in days for day in stratum),
        processes=sum(population),
        rows=_scaled(sizes, [[day.rows for day in stratum] for stratum in days]),
        posts=_scaled(sizes, [[day.posts for day in stratum] for stratum in days]),
        keys=_scaled(sizes, [[day.keys for day in stratum] for stratum in days]),
        seconds=time.monotonic() - began,
    )


def _scaled(sizes: list[int], samples: list[list[int]]) -> Range:
    """The total of a stratified sample, with its 95 % interval."""
    total = sum(size * statistics.mean(one) for size, one in zip(sizes, samples, strict=True))
    variance = sum(
        size**2 * (1 - len(one) / size) * statistics.variance(one) / len(one)
        for size, one in zip(sizes, samples, strict=True)
    )
    half = 1.96 * math.sqrt(variance)
    return Range(total, total - half, total + half)


def table(one: OneMachine, all_of_them: Field) -> str:
    """The README's table."""
    rows = [
        (
            f"one machine, {one.processes:,} processes of one count",
            f"{one.processes:,}",
            f"**{one.rows:,}**",
            f"{math.ceil(one.processes / _LINES_A_POST):,}",
            f"**{one.posts:,}**",
        ),
        (
            f"{all_of_them.machines:,} machines, {all_of_them.processes:,} processes",
            f"{all_of_them.processes:,}",
            f"**{all_of_them.rows.in_words()}**",
            f"{all_of_them.processes / _LINES_A_POST:,.0f}",
            f"**{all_of_them.posts.in_words()}**",
        ),
    ]
    header = ("a day", "rows without", "rows with tallyd", "posts without", "posts with tallyd")
    return documents.table(header, rows)


def words(one: OneMachine, all_of_them: Field) -> str:
    """What the README shows: the table, and what it rests on."""
    rest = (
        f"Each of the {one.processes:,} was a real process beside a real daemon; {one.counted:,} counts arrived. "
        f"The {all_of_them.machines:,} are scaled up (95 % interval) from {all_of_them.sample:,} machines "
        f"whose {all_of_them.sample_processes:,} processes went through the real stub, daemon code and requests. "
        f"Rows a day are machines × distinct keys ({all_of_them.keys.in_words()}), whatever runs how often; "
        "posts are those of the day's rollup, one per machine that was used and version that ran on it. "
        f"Assumed: {ASSUMED}."
    )
    return f"{table(one, all_of_them)}\n\n{textwrap.fill(rest, 112)}"


def _wait_for_enough_of_the_day(processes: int) -> None:
    """A day that ends in the middle would be two: begin after midnight rather than shortly before."""
    needed_s = 60 + processes * 0.1
    left_s = 86400 - time.time() % 86400
    if left_s < needed_s:
        progress(f"waiting {left_s:.0f} s for the next UTC day")
        time.sleep(left_s + 1)


def kept() -> tuple[OneMachine, Field]:
    """The result that the README shows."""
    return _of(json.loads(_RESULT.read_text()))


def _of(found: dict[str, dict[str, object]]) -> tuple[OneMachine, Field]:
    ranges = {name: Range(**found["field"].pop(name)) for name in ("rows", "posts", "keys")}  # type: ignore[arg-type]
    return OneMachine(**found["one_machine"]), Field(**found["field"], **ranges)  # type: ignore[arg-type]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.incident")
    parser.add_argument("--processes", type=int, default=10_000)
    parser.add_argument(
        "--sample", type=int, default=200, help="machines that go through the real pipeline"
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="keep the result")
    parser.add_argument(
        "--docs", action="store_true", help="write the README's table from the result kept"
    )
    arguments = parser.parse_args()
    if arguments.docs:
        _README.write_text(documents.put(_README.read_text(), "incident", words(*kept())))
        return 0
    with scratch() as root:
        os.environ["TALLYD_HOME"] = str(root)
        one = one_machine(root, arguments.processes)
        all_of_them = field(made(root / "field"), arguments.sample)
    print(words(one, all_of_them))
    if arguments.json:
        found = {"one_machine": asdict(one), "field": asdict(all_of_them), "machine": machine()}
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")
    return 0 if one.counted == one.processes else 1


if __name__ == "__main__":
    sys.exit(main())

"""What every theme shares: a figure, medians of interleaved rounds, programs in processes of their own.

Nothing here knows what is measured.
"""

from __future__ import annotations

import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

_BEGAN = time.monotonic()
INSIDE = Path(__file__).parent / "inside"


@dataclass
class Figure:
    """One measured figure. `budget` names its line in budgets.toml.

    `value` is what the limit is about, in the budget's unit; None when it was not run, and then
    `ours` says why. `floor`, `ours` and `peer` are words for the table, each with its unit.
    """

    budget: str
    value: float | None
    ours: str
    floor: str = ""
    rounds: int = 1
    where: str = ""
    peer: str = ""


@dataclass
class Curve:
    """How the cost of a file grows: for each x, microseconds a file, ours and the floor's."""

    name: str
    x_label: str
    x: list[int] = field(default_factory=list)
    ours_us: list[float] = field(default_factory=list)
    floor_us: list[float] = field(default_factory=list)


@dataclass
class Peer:
    """What another library costs. `count_f` is in dict increments of its own process; None: not run.

    `exits` are seconds from its last statement to the end of the process, by what the network does;
    more than the patience is written as the patience, with `at_least` set.
    """

    name: str
    version: str
    count_f: float | None = None
    count_f_4: float | None = None
    import_ms: float | None = None
    exits: dict[str, float] = field(default_factory=dict)
    at_least: list[str] = field(default_factory=list)
    note: str = ""


@dataclass
class Run:
    """Everything that one run measured."""

    machine: dict[str, str]
    figures: list[Figure] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)
    peers: list[Peer] = field(default_factory=list)

    def as_json(self) -> str:
        return json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def of(cls, text: str) -> Run:
        found = json.loads(text)
        return cls(
            machine=found["machine"],
            figures=[Figure(**one) for one in found["figures"]],
            curves=[Curve(**one) for one in found["curves"]],
            peers=[Peer(**one) for one in found["peers"]],
        )


def progress(text: str) -> None:
    """Say on stderr what is measured now, and after how many seconds."""
    print(f"{time.monotonic() - _BEGAN:4.0f} s  {text} …", file=sys.stderr, flush=True)


def interleaved(
    rounds: int, work: dict[str, Callable[[], float]], warm_up: int = 1
) -> dict[str, list[float]]:
    """What each of `work` gave in each round; a round does all of them, so noise meets all alike."""
    samples: dict[str, list[float]] = {name: [] for name in work}
    for number in range(rounds + warm_up):
        for name, one in work.items():
            sample = one()
            if number >= warm_up:
                samples[name].append(sample)
    return samples


def median(samples: Iterable[float]) -> float:
    return statistics.median(samples)


def said_by(
    python: str, program: str, *arguments: str, environ: dict[str, str], timeout_s: float = 300
) -> Any:
    """The JSON that a program of `inside/` prints at the end."""
    done = subprocess.run(
        [python, str(INSIDE / program), *arguments],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout_s,
    )
    if done.returncode:
        raise RuntimeError(f"{program} {' '.join(arguments)}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def exit_s(
    command: list[str], environ: dict[str, str], patience_s: float = 60.0
) -> tuple[float, bool]:
    """Seconds from the instant that a program prints last to its end; whether it ended by itself.

    One that has not ended `patience_s` after it began is killed.
    """
    with subprocess.Popen(
        command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        # Not wait(patience_s): that looks again only from time to time, up to 50 ms apart.
        killer = threading.Timer(patience_s, process.kill)
        killer.start()
        process.wait()
        ended = time.monotonic_ns()
        is_ended = process.returncode != -signal.SIGKILL
        killer.cancel()
        killer.join()
        assert process.stdout is not None
        said = process.stdout.read().split()
    if not said or (is_ended and process.returncode):
        raise RuntimeError(f"{command} ended with {process.returncode} and said {said}")
    return (ended - int(said[-1])) / 1e9, is_ended


@contextmanager
def scratch() -> Iterator[Path]:
    """A directory for everything that is measured; it is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="tallyd-bench-") as name:
        yield Path(name)


def made(directory: Path) -> Path:
    directory.mkdir(parents=True)
    return directory


def machine() -> dict[str, str]:
    """The machine in words: nothing that names it or its user."""
    return {
        "cpu": _cpu(),
        "cores": str(os.cpu_count()),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "kernel": f"{platform.system()} {'.'.join(platform.release().split('.')[:2])}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "file system": _file_system(tempfile.gettempdir()),
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _file_system(directory: str) -> str:
    """The kind of file system of the deepest mount that holds it."""
    try:
        mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    except OSError:
        return "unknown"
    whole = os.path.realpath(directory)
    holding = [
        (place, kind) for place, kind in mounts if os.path.commonpath([place, whole]) == place
    ]
    return max(holding, key=lambda one: len(one[0]))[1] if holding else "unknown"

"""First figures: what a count, a start, a merge, an idle minute and a stop cost, beside their floors.

Run with `make bench`. Each figure is a ratio to a floor measured in the same run (medians of
interleaved rounds), because machines are shared and noisy; nothing is asserted. Milliseconds are
shown where the promise is one. Everything happens below a temporary home.
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import timeit
import tomllib
from collections.abc import Callable
from pathlib import Path

from support.clock import FakeClock
from support.deltas import delta, drop, tool_calls
from support.hosts import PYTHONS, find_python
from support.pipeline import Pipeline
from support.processes import (
    CONTRACTS,
    DEMO_CONTRACT,
    STUB,
    daemon,
    environ_of,
    status,
    tallyd,
)
from support.recorder import recording

_ROUNDS = 9


def _median(samples: list[float]) -> float:
    return statistics.median(samples)


def _ns_of_a_count() -> list[tuple[str, str, str]]:
    from tallyd_client import Client

    counts = {"key": 0}

    def floor() -> None:
        counts["key"] += 1

    client = Client("tallyd-demo", "1", contract=str(DEMO_CONTRACT))
    rollup = client.rollup("tool_calls", "tool", "client_name")
    measured: dict[str, Callable[[], object]] = {
        "floor": floor,
        "bound counter": client.counter("tool_calls", tool="search"),
        "rollup(tool, client)": lambda: None,
    }
    samples: dict[str, list[float]] = {name: [] for name in measured}
    for _ in range(_ROUNDS):
        for name, call in measured.items():
            work = {"call": rollup if name.startswith("rollup") else call}
            statement = "call('search', 'agent')" if name.startswith("rollup") else "call()"
            samples[name].append(
                min(timeit.repeat(statement, globals=work, number=100_000, repeat=3))
            )
    unit = _median(samples["floor"])
    ns = unit / 100_000 * 1e9
    return [
        (f"{name}, in floors of {ns:.0f} ns (dict increment)", f"{_median(one) / unit:.2f}", limit)
        for (name, one), limit in zip(samples.items(), ("1", "≤ 0.6", "≤ 2.5"), strict=True)
    ]


def _run_ms(*command: str, environ: dict[str, str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, env=environ, capture_output=True, check=False)
    return (time.perf_counter() - began) * 1000


def _processes(home: Path) -> list[tuple[str, str, str]]:
    """Import and exit of the stub, and `tallyd status`, as whole processes beside a bare one."""
    environ = environ_of(home)
    environ.pop("PYTHONDONTWRITEBYTECODE", None)
    text = DEMO_CONTRACT.read_text()
    built = {**tomllib.loads(text), "digest": "0" * 64, "text": text}
    use = f"from tallyd_client import Client\nClient(contract={built!r}).counter('tool_calls', tool='x')()"
    commands = {
        "bare": (sys.executable, "-c", "pass"),
        "import tallyd_client": (sys.executable, "-c", "import tallyd_client"),
        "import, count, drop at exit": (sys.executable, "-c", use),
        "tallyd status": (str(Path(sys.executable).with_name("tallyd")), "status"),
    }
    samples: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(_ROUNDS * 2):
        for name, command in commands.items():
            samples[name].append(_run_ms(*command, environ=environ))
    bare = _median(samples.pop("bare"))
    limits = {"import tallyd_client": "≤ 1.0 ms over bare", "tallyd status": "≤ 5 times bare"}
    return [
        (
            f"{name}, over a bare interpreter of {bare:.1f} ms",
            f"{_median(one) - bare:+.1f} ms, {_median(one) / bare:.1f} times",
            limits.get(name, ""),
        )
        for name, one in samples.items()
    ]


def _imports(home: Path) -> list[tuple[str, str, str]]:
    """The stub with a real product's built constants, on every Python that is installed here.

    By `-X importtime`: own modules and what they pull in, and the generated module, once compiled.
    """
    contract = str(CONTRACTS / "codegraph.toml")
    tallyd(home, "contract", "build", contract, "--python", str(home / "_telemetry.py"))
    code = (
        "import tallyd_client, _telemetry\n"
        "tallyd_client.Client(contract=_telemetry.CONTRACT, version='1.0')"
    )
    environ = environ_of(home, PYTHONPATH=os.pathsep.join([str(STUB), str(home)]))
    environ.pop("PYTHONDONTWRITEBYTECODE", None)
    rows = []
    for version in PYTHONS:
        python = find_python(version)
        if python is None:
            continue
        taken = []
        for _ in range(_ROUNDS * 4):
            done = subprocess.run(
                [python, "-X", "importtime", "-c", code],
                env=environ,
                capture_output=True,
                text=True,
                check=True,
            )
            lines = [line.split("|") for line in done.stderr.splitlines() if line.count("|") == 2]
            own = [one for one in lines if one[2].strip() in ("tallyd_client", "_telemetry")]
            taken.append(sum(int(one[1]) for one in own) / 1000)
        rows.append(
            (
                f"stub and built constants, imported by Python {version}",
                f"{_median(taken):.2f} ms (best {min(taken):.2f})",
                "≤ 1.0 ms",
            )
        )
    return rows


def _merge(home: Path, files: int) -> tuple[str, str, str]:
    """Merging against scandir + open + read + unlink of the same files."""
    with Pipeline.open(home, FakeClock()) as pipeline:
        pipeline.register("tallyd-demo")
        content = delta(counts=[tool_calls(f"tool_{number}") for number in range(5)])
        for place in ("floor", "ours"):
            for _ in range(files):
                drop(home / place if place == "floor" else pipeline.state, content)
        began = time.perf_counter()
        for entry in os.scandir(home / "floor" / "spool" / "tallyd-demo" / "new"):
            descriptor = os.open(entry.path, os.O_RDONLY)
            os.read(descriptor, 65537)
            os.close(descriptor)
            os.unlink(entry.path)
        floor_s = time.perf_counter() - began
        began = time.perf_counter()
        pipeline.intake()
        ours_s = time.perf_counter() - began
    return (
        f"merge of {files} files, 5 counts each",
        f"{floor_s / ours_s:.2f} of the floor, {files / ours_s:,.0f} files/s",
        "≥ 0.45 (a later change)",
    )


def _idle(home: Path, seconds: float) -> list[tuple[str, str, str]]:
    """What a daemon with nothing to do costs: its product's grace keeps the first send away."""
    tallyd(home, "contract", "add", str(CONTRACTS / "codegraph.toml"))
    with daemon(home) as process:

        def switches() -> int:
            tasks = Path(f"/proc/{process.pid}/task")
            texts = [(one / "status").read_text() for one in tasks.iterdir()]
            return sum(
                int(text.split("\nvoluntary_ctxt_switches:")[1].split()[0]) for text in texts
            )

        time.sleep(3)
        woken, before = switches(), status(home)["daemon"]
        time.sleep(seconds)
        after = status(home)["daemon"]
        wake_ups = (switches() - woken) / seconds
    cpu_us = (after["cpu_seconds"] - before["cpu_seconds"]) / seconds * 1e6
    return [
        ("idle: wake-ups a second", f"{wake_ups:.2f}", "≤ 1"),
        ("idle: CPU a second", f"{cpu_us:.0f} µs", "≤ 100 µs"),
        (
            "idle: memory before the first send",
            f"{after['rss_bytes'] / 2**20:.1f} MiB",
            "≤ 27 (a later change)",
        ),
    ]


def _stop_ms(home: Path, *, during_a_request: bool) -> float:
    text = DEMO_CONTRACT.read_text().replace('"1500ms"', '"30s"')
    (home / "demo.toml").write_text(text)
    tallyd(home, "contract", "add", str(home / "demo.toml"))
    earlier = time.strftime("%Y-%m-%d", time.gmtime(time.time() - 86400))
    drop(home / "state", delta(day=earlier), at=time.time())
    with recording(0) as recorder, daemon(home, TALLYD_DEMO_ENDPOINT=recorder.url) as process:
        if during_a_request:
            (home / "state" / "flush" / "request").touch()
            recorder.arrived.wait(20)
        else:
            time.sleep(2)
        began = time.perf_counter()
        process.send_signal(signal.SIGTERM)
        process.wait(20)
        return (time.perf_counter() - began) * 1000


def _stops(root: Path) -> list[tuple[str, str, str]]:
    found = []
    for name, during in (("at rest", False), ("during a request that is never answered", True)):
        samples = []
        for number in range(5):
            home = root / f"stop-{during}-{number}"
            home.mkdir()
            samples.append(_stop_ms(home, during_a_request=during))
        found.append(
            (f"stop {name}", f"{_median(samples):.0f} ms (worst {max(samples):.0f})", "≤ 100 ms")
        )
    return found


def main() -> None:
    rows = [("what", "measured", "promise")]
    with tempfile.TemporaryDirectory(prefix="tallyd-bench-") as name:
        root = Path(name)
        os.environ["TALLYD_HOME"] = str(root / "stub")
        for step, work in (
            ("counting", _ns_of_a_count),
            ("starting processes", lambda: _processes(_made(root / "processes"))),
            ("importing", lambda: _imports(_made(root / "imports"))),
            ("merging", lambda: [_merge(_made(root / "merge"), 5000)]),
            ("idling for 30 s", lambda: _idle(_made(root / "idle"), 30)),
            ("stopping", lambda: _stops(root)),
        ):
            print(f"{step} …", file=sys.stderr, flush=True)
            rows += work()
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in rows:
        print(
            "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        )
    print(f"CPython {sys.version.split()[0]}, {os.cpu_count()} cores")


def _made(directory: Path) -> Path:
    directory.mkdir()
    return directory


if __name__ == "__main__":
    main()

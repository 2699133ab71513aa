"""What the stub adds to a process's start and end, and what `tallyd status` takes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from support.hosts import PYTHONS, built, environ_of_host, find_python
from support.processes import CONTRACTS, DEMO_CONTRACT, STUB, daemon, environ_of, tallyd

from benchmarks.measure import INSIDE, Figure, exit_s, interleaved, made, median, progress


def measure(root: Path, *, quick: bool) -> list[Figure]:
    progress("starting and ending processes")
    return [
        *imports(made(root / "imports"), quick=quick),
        *exits(made(root / "exits"), quick=quick),
        status(made(root / "status"), quick=quick),
    ]


def imports(home: Path, *, quick: bool) -> list[Figure]:
    """Stub and a real product's built constants, by `-X importtime`, on every Python installed."""
    rounds = 7 if quick else 36
    contract = str(CONTRACTS / "codegraph.toml")
    tallyd(home, "contract", "build", contract, "--python", str(home / "_telemetry.py"))
    environ = _with_bytecode(environ_of(home, PYTHONPATH=os.pathsep.join([str(STUB), str(home)])))
    pythons = {one: python for one in PYTHONS if (python := find_python(one)) is not None}
    work = {one: partial(_import_ms, python, environ) for one, python in pythons.items()}
    return [
        Figure(
            "import", median(taken), f"{median(taken):.2f} ms", rounds=rounds, where=f"Python {one}"
        )
        for one, taken in interleaved(rounds, work).items()
    ]


def _import_ms(python: str, environ: dict[str, str]) -> float:
    code = "import tallyd_client, _telemetry\ntallyd_client.Client(contract=_telemetry.CONTRACT)"
    done = subprocess.run(
        [python, "-X", "importtime", "-c", code],
        env=environ,
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [line.split("|") for line in done.stderr.splitlines() if line.count("|") == 2]
    own = [one for one in lines if one[2].strip() in ("tallyd_client", "_telemetry")]
    return sum(int(one[1]) for one in own) / 1000


def exits(home: Path, *, quick: bool) -> list[Figure]:
    """From a process's last statement until `wait` returns, over the same without a client."""
    rounds = 7 if quick else 31
    (home / "contract.json").write_text(json.dumps(built()))
    environ = _with_bytecode(environ_of_host(home))

    def ms(kind: str, idle_s: str) -> Callable[[], float]:
        command = [
            sys.executable,
            str(INSIDE / "leave.py"),
            kind,
            idle_s,
            str(home / "contract.json"),
        ]
        return lambda: exit_s(command, environ)[0] * 1000

    samples = interleaved(
        rounds,
        {
            "plain": ms("plain", "0"),
            "exit_now": ms("count", "0"),
            "plain, later": ms("plain", "0.1"),
            "exit_later": ms("count", "0.1"),
        },
        warm_up=2,
    )
    found = []
    for budget, plain in (("exit_now", "plain"), ("exit_later", "plain, later")):
        floor, ours = median(samples[plain]), median(samples[budget])
        over = ours - floor
        found.append(Figure(budget, over, f"{ours:.2f} ms", f"plain exit {floor:.2f} ms", rounds))
    return found


def status(home: Path, *, quick: bool) -> Figure:
    """`tallyd status` beside a running daemon with one product, in bare interpreter starts."""
    rounds = 7 if quick else 25
    tallyd(home, "contract", "add", str(DEMO_CONTRACT))
    environ = _with_bytecode(environ_of(home))
    command = Path(sys.executable).with_name("tallyd")
    asked = [str(command)] if command.exists() else [sys.executable, "-m", "tallyd"]
    with daemon(home):
        samples = interleaved(
            rounds,
            {
                "bare": lambda: _run_ms(sys.executable, "-c", "pass", environ=environ),
                "status": lambda: _run_ms(*asked, "status", environ=environ),
            },
            warm_up=2,
        )
    bare, ours = median(samples["bare"]), median(samples["status"])
    return Figure(
        "status", ours / bare, f"{ours:.0f} ms", f"bare interpreter {bare:.1f} ms", rounds
    )


def _run_ms(*command: str, environ: dict[str, str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, env=environ, capture_output=True, check=False)
    return (time.perf_counter() - began) * 1000


def _with_bytecode(environ: dict[str, str]) -> dict[str, str]:
    """As on a user's machine, where modules are compiled once."""
    return {name: text for name, text in environ.items() if name != "PYTHONDONTWRITEBYTECODE"}

"""Real processes under a temporary home: our commands, hosts, and waiting for what they do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
CONTRACTS = ROOT / "contracts"
DEMO_CONTRACT = CONTRACTS / "tallyd-demo.toml"
STUB = ROOT / "client_stub" / "python"
_PATIENCE_S = 90.0
# What the shell that runs the tests says about consent, or its terminal, must not decide a test.
_CLEARED = (
    "DO_NOT_TRACK",
    "TALLYD_DEMO_TELEMETRY",
    "CODEGRAPH_TELEMETRY",
    "CI",
    "TALLYD_CLOCK_AHEAD",
    "COLUMNS",
    "LINES",
    "NO_COLOR",
    "FORCE_COLOR",
)


def environ_of(home: Path, **more: str) -> dict[str, str]:
    """The environment of a process whose tallyd lives in `home`."""
    environ = {key: value for key, value in os.environ.items() if key not in _CLEARED}
    return {**environ, "TALLYD_HOME": str(home), "HOME": str(home), **more}


def run(
    module: str, *arguments: str, environ: dict[str, str], check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run `python -m module` to its end."""
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    if check:
        assert done.returncode == 0, done.stderr
    return done


def tallyd(home: Path, *arguments: str, check: bool = True, **more: str) -> str:
    """What a tallyd command prints on stdout."""
    return run("tallyd", *arguments, environ=environ_of(home, **more), check=check).stdout


def show(home: Path, product: str = "tallyd-demo") -> list[dict[str, Any]]:
    """The rows of `tallyd show --json`."""
    rows: list[dict[str, Any]] = json.loads(tallyd(home, "show", product, "--json"))
    return rows


def status(home: Path) -> dict[str, Any]:
    """`tallyd status --json`."""
    report: dict[str, Any] = json.loads(tallyd(home, "status", "--json", check=False))
    return report


@contextmanager
def background(
    *command: str, environ: dict[str, str], log: Path, until: str
) -> Iterator[subprocess.Popen[bytes]]:
    """A process in the background; entered when its log says `until`, ended on leaving."""
    with log.open("ab") as opened:
        process = subprocess.Popen(
            command, env=environ, stdin=subprocess.DEVNULL, stdout=opened, stderr=opened
        )
    try:
        began = log.read_text().count(until)
        wait_for(
            lambda: log.read_text().count(until) > began or process.poll() is not None or began
        )
        assert process.poll() is None, log.read_text()
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def daemon(home: Path, **more: str) -> Iterator[subprocess.Popen[bytes]]:
    """A running daemon; its log is `<home>/daemon.log`."""
    log = home / f"daemon-{time.monotonic_ns()}.log"
    with background(
        *(sys.executable, "-m", "tallyd", "run"),
        environ=environ_of(home, **more),
        log=log,
        until="action=daemon_started",
    ) as process:
        yield process


@contextmanager
def gateway(home: Path, *contracts: Path, **more: str) -> Iterator[str]:
    """A running gateway; gives its URL. Its store is `<home>/gateway.db`."""
    log = home / f"gateway-{time.monotonic_ns()}.log"
    files = [str(one) for one in contracts or (DEMO_CONTRACT,)]
    with background(
        *(sys.executable, "-m", "tallyd_ingest", "serve", "--port", "0"),
        *("--db", str(home / "gateway.db"), "--contract", *files),
        environ=environ_of(home, **more),
        log=log,
        until="listens on",
    ):
        yield log.read_text().split("listens on ")[1].split()[0]


def export(home: Path, *more: str) -> list[dict[str, Any]]:
    """The rows of `tallyd-ingest export --json`."""
    arguments = ("export", "--db", str(home / "gateway.db"), "--json", *more)
    rows: list[dict[str, Any]] = json.loads(
        run("tallyd_ingest", *arguments, environ=environ_of(home)).stdout
    )
    return rows


def wait_for(is_there: Callable[[], object]) -> None:
    """Wait until something another process does is there; fail after 90 s."""
    deadline = time.monotonic() + _PATIENCE_S
    while not is_there():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.02)

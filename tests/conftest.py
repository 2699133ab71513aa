"""Fixtures of every test: a home of its own, a clock that stands still, a pipeline in process."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.clock import FakeClock
from support.hosts import clients
from support.managed import Manager, user_manager
from support.pipeline import Pipeline
from support.processes import DEMO_CONTRACT
from tallyd_client import Client


def pytest_configure() -> None:
    """Let the processes of the tests hear what whoever started the tests (nohup, a script's "&") ignores."""
    for name in ("SIGHUP", "SIGINT"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A directory for TALLYD_HOME."""
    return tmp_path


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def pipeline(home: Path, clock: FakeClock) -> Iterator[Pipeline]:
    """The daemon's pipeline in this process, for the demo's contract, with its notice shown."""
    with Pipeline.open(home, clock) as made:
        made.register("tallyd-demo")
        yield made


@pytest.fixture
def manager() -> Iterator[Manager]:
    """A live user manager, with the demo's contract registered."""
    with user_manager() as made:
        made.run(sys.executable, "-m", "tallyd", "contract", "add", str(DEMO_CONTRACT))
        yield made


@pytest.fixture
def new_client(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Client]]:
    """Makes clients in this process, of the demo's built contract unless told otherwise."""
    with clients(home, monkeypatch) as make:
        yield make


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what tests measured and none of them asserts."""
    for report in terminalreporter.getreports("passed"):
        for name, text in report.user_properties if report.when == "call" else ():
            if name == "figure":
                terminalreporter.write_line(f"measured: {text}")

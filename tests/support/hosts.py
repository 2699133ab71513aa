"""Hosts: small programs that use the stub, in this process or as real ones, and what they dropped."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from tallyd.delta import parse_delta
from tallyd.paths import Paths
from tallyd.spool import list_new
from tallyd_client import Client
from tallyd_client._load import constants_of

from support.processes import _CLEARED, DEMO_CONTRACT, STUB, environ_of

PYTHONS = ("3.9", "3.10", "3.11", "3.12", "3.13")
# What no import of the stub may bring: each costs more than all of the stub.
COSTLY = (
    *("json", "uuid", "pathlib", "tempfile", "re", "enum", "typing", "dataclasses", "logging"),
    *("threading", "datetime", "select", "subprocess", "socket", "hashlib", "tomllib", "platform"),
)
NOTICE_BEGINS = "tallyd-demo counts tool calls"
# What every host program begins with; its counters are bound before anything is counted.
_BEGINNING = """\
import os, sys
from tallyd_client import Client
contract = {contract!r}
client = Client("tallyd-demo", "1.0.0", contract=contract)
search = client.counter("tool_calls", tool="search")
count = client.rollup("tool_calls", "tool")
"""


@dataclass(frozen=True)
class Dropped:
    """All that waits in one `new/`, summed: calls and errors by tool, events by name, losses."""

    calls: dict[str, int] = field(default_factory=dict)
    errors: dict[str, int] = field(default_factory=dict)
    events: dict[str, int] = field(default_factory=dict)
    lost: dict[str, int] = field(default_factory=dict)


def dropped(home: Path, product: str = "tallyd-demo") -> Dropped:
    """What the daemon's own reader finds. Raises Malformed when it would quarantine one of them."""
    calls: Counter[str] = Counter()
    errors: Counter[str] = Counter()
    events: Counter[str] = Counter()
    lost: Counter[str] = Counter()
    with list_new(product, spool_of(home, product)) as files:
        for entry in files.take():
            content = files.read(entry)
            assert content is not None
            delta = parse_delta(content, product)
            for one in delta.counts:
                key = str(one.dimensions.get("tool", one.event))
                calls[key] += one.measures["count"]
                errors[key] += one.measures["error_count"]
            events.update(one.event for one in delta.events)
            lost.update(delta.lost)
    return Dropped(dict(calls), dict(+errors), dict(events), dict(lost))


def spool_of(home: Path, product: str = "tallyd-demo") -> Any:
    """The three directories of a product's spool."""
    return Paths.locate({"TALLYD_HOME": str(home)}).spool(product)


def texts(home: Path, product: str = "tallyd-demo") -> list[dict[str, Any]]:
    """The deltas in `new/` as they stand there, oldest first."""
    return [json.loads(file.read_bytes()) for file in sorted(spool_of(home, product).new.iterdir())]


def files_below(home: Path) -> list[str]:
    """Every file below a home, relative to it."""
    return sorted(str(one.relative_to(home)) for one in home.rglob("*") if not one.is_dir())


def built(file: Path = DEMO_CONTRACT, text: bytes | None = None) -> dict[str, Any]:
    """A built contract: the constants that a host takes."""
    return constants_of(file.read_bytes() if text is None else text)


def program(code: str, contract: Any = None) -> str:
    """A host program: `client`, its counter `search`, its rollup `count`, and then `code`."""
    return _BEGINNING.format(contract=built() if contract is None else contract) + code


def environ_of_host(home: Path, **more: str) -> dict[str, str]:
    """The environment of a host: the stub is all of ours that it can import."""
    return environ_of(home, PYTHONPATH=str(STUB), **more)


def start_host(
    home: Path,
    code: str,
    *flags: str,
    python: str = sys.executable,
    contract: Any = None,
    before: str = "",
    environ: dict[str, str] | None = None,
    **popen: Any,
) -> subprocess.Popen[str]:
    """Start a host program; its stdout and stderr are pipes unless `popen` says otherwise.

    `before` is code that runs before the stub is imported.
    """
    return subprocess.Popen(
        [python, *flags, "-c", before + program(code, contract)],
        env=environ_of_host(home) if environ is None else environ,
        text=True,
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **popen},
    )


def run_host(home: Path, code: str, *flags: str, **how: Any) -> subprocess.CompletedProcess[str]:
    """Run a host program to its end, as `start_host` starts it."""
    with start_host(home, code, *flags, **how) as process:
        try:
            out, err = process.communicate(timeout=120)
        finally:
            # Whatever ended the waiting: a host that hangs must not outlive its test.
            process.kill()
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


@cache
def find_python(version: str) -> str | None:
    """The path of that version of Python, None when it is not installed."""
    candidates = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
    found = shutil.which(f"python{version}")
    for candidate in [*map(str, candidates), *([found] if found else [])]:
        said = subprocess.run(
            [candidate, "--version"], capture_output=True, text=True, check=False
        ).stdout
        if said.startswith(f"Python {version}."):
            return candidate
    return None


def python_of(version: str) -> str:
    """The path of that version of Python. Without it the test is skipped, saying so."""
    return find_python(version) or pytest.skip(f"Python {version} is not installed")


@contextmanager
def clients(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Client]]:
    """Makes clients of this process that drop below `home`; each is closed on leaving."""
    for name in _CLEARED:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TALLYD_HOME", str(home))
    monkeypatch.setenv("HOME", str(home))
    made: list[Client] = []

    def make(contract: Any = None, product: str = "tallyd-demo", **more: Any) -> Client:
        client = Client(product, "1.0.0", contract=contract or built(), **more)
        made.append(client)
        return client

    yield make
    for client in made:
        client.close()

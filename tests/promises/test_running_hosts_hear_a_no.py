"""A host that runs, and a daemon that runs, hear a no at once; after a yes nothing of before arrives.

A real host counts when it is told to, through a pipe; a real daemon lives a few days ahead, so that what
is counted today is finished. Every count has a key of its own, by which it is known wherever it arrives.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from support.hosts import STUB, spool_of
from support.inline_contracts import parsed
from support.processes import CONTRACTS, background, environ_of, status, tallyd, wait_for
from support.recorder import Recorder, recording
from support.tool import put
from tallyd.contract.build import built

# One line in, one line out. A count is one of a rollup, or one event, with a key of its own.
_HOST = """\
import json, sys
from tallyd_client import Client
with open(sys.argv[1]) as opened:
    contract = json.load(opened)
client = Client(contract["product"]["name"], "1.0.0", contract)
search = client.rollup("tool_calls", "tool")
for line in sys.stdin:
    command, _, key = line.strip().partition(" ")
    if command == "drain":
        client.drain()
    elif contract["product"]["name"] == "ktx":
        client.event("wiki_query_completed", durationMs=1, outcome="ok", queryLength=int(key))
    else:
        search(key)
        client.event("server_started", transport="stdio")
    print("done", flush=True)
client.close()
"""
# Ahead of every grace, and behind every window.
_AHEAD_S = "172800"
_ID = "5d0c7a16-2f0e-4c1b-9b58-7e41d2aa9f03"
_OTHER_ID = "c1b0f2d8-6a3e-4f27-8a44-0d9e6b5f1c72"

Say = Callable[["Machine"], object]


@dataclass
class Machine:
    """A home with a host that counts, a daemon that runs, and an endpoint."""

    home: Path
    product: str
    recorder: Recorder
    host: subprocess.Popen[str]
    # What the daemon was told; after an "off" to everything it has ended, and a flush is told the same.
    environ: dict[str, str]
    # The keys by which counts are told apart, as numbers: some contracts have room for no others.
    counted: dict[str, int] = field(default_factory=dict)

    def count(self, when: str) -> None:
        """Let the host count once, under a key that stands for `when`."""
        self._tell(f"count {self.counted.setdefault(when, 7001 + len(self.counted))}")

    def drain(self) -> None:
        self._tell("drain")

    def flush(self) -> dict[str, Any]:
        """Let the running daemon do everything that it ever does, or do it where none runs."""
        said = tallyd(self.home, "flush", "--json", **self.environ)
        result: dict[str, Any] = json.loads(said)[self.product]
        return result

    @property
    def waiting(self) -> list[str]:
        """What lies in the product's spool."""
        return [str(one) for one in spool_of(self.home, self.product).new.glob("*")]

    @property
    def arrived(self) -> dict[str, set[str]]:
        """By what was counted, the ids under which it arrived."""
        found: dict[str, set[str]] = {}
        for body in self.recorder.batches:
            for one in body.get("events", body.get("batch", ())):
                props = one.get("props") or one.get("properties")
                key = str(props.get("tool", props.get("queryLength")))
                when = {str(key): when for when, key in self.counted.items()}.get(key)
                if when is not None:
                    found.setdefault(when, set()).add(body.get("machine_id") or one["distinct_id"])
        return found

    def held(self, when: str) -> list[str]:
        """The files below the state directory in which a count's key stands, by name."""
        key = f"{self.counted[when]}".encode()
        files = [one for one in (self.home / "state").rglob("*") if one.is_file()]
        # Between quotes or behind a colon: it is no part of any other number.
        marks = (b'"tool":"%s"' % key, b'"queryLength":%s' % key, b'"tool\\":\\"%s' % key)
        return [str(one) for one in files if any(mark in one.read_bytes() for mark in marks)]

    def _tell(self, line: str) -> None:
        assert self.host.stdin is not None
        assert self.host.stdout is not None
        self.host.stdin.write(f"{line}\n")
        self.host.stdin.flush()
        assert self.host.stdout.readline() == "done\n"


@contextmanager
def machine(home: Path, name: str) -> Iterator[Machine]:
    file = CONTRACTS / f"{name}.toml"
    contract = parsed(file.read_text(encoding="utf-8"))
    constants = put(home / "contract.json", dict(built(contract)))
    put(home / "config" / "config.toml", "[daemon]\nrescan_interval_s = 1\n")
    tallyd(home, "contract", "add", str(file))
    with recording() as recorder:
        is_posthog = contract.endpoint.protocol == "posthog-batch"
        url = recorder.url.removesuffix("/v1/events") if is_posthog else recorder.url
        told = {"TALLYD_CLOCK_AHEAD": _AHEAD_S, contract.endpoint.override_env or "": url}
        daemon = background(
            *(sys.executable, "-m", "tallyd", "run"),
            environ=environ_of(home, **told),
            log=home / "daemon.log",
            until="action=daemon_started",
        )
        host = subprocess.Popen(
            [sys.executable, "-c", _HOST, str(constants)],
            env=environ_of(home, PYTHONPATH=str(STUB)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        with daemon, host:
            try:
                yield Machine(home, contract.product, recorder, host, told)
            finally:
                host.kill()


def _say(*arguments: str) -> Say:
    return lambda it: tallyd(it.home, *arguments)


def _edit(**changes: Any) -> Say:
    """Change a product's own file as an editor does."""

    def edit(it: Machine) -> None:
        file = it.home / ".ktx" / "telemetry.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **changes}, indent=2))

    return edit


def _delete(it: Machine) -> None:
    (it.home / "state" / "consent" / f"{it.product}.json").unlink()


_KTX_FILE = {"enabled": True, "installId": _ID, "createdAt": "2026-01-01T00:00:00.000Z"}
NOES: dict[str, tuple[str, Say, Say]] = {
    "one product": ("tallyd-demo", _say("off", "tallyd-demo"), _say("on", "tallyd-demo")),
    "all of them": ("tallyd-demo", _say("off", "--all"), _say("on", "--all")),
    "a strict file": ("ktx-v2", _say("off", "ktx"), _say("on", "ktx")),
    "a strict file, by hand": (
        "ktx-v2",
        _edit(enabled=False),
        _edit(enabled=True, installId=_OTHER_ID),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("how", NOES)
def test_from_a_no_on_nothing_is_dropped_or_sent_and_a_yes_brings_nothing_back(
    home: Path, how: str
):
    name, say_no, say_yes = NOES[how]
    if name == "ktx-v2":
        put(home / ".ktx" / "telemetry.json", _KTX_FILE)
    with machine(home, name) as it:
        it.count("sent before")
        it.drain()
        it.flush()
        it.count("dropped before")
        it.drain()
        it.count("counted before")
        say_no(it)
        said_at = time.monotonic()
        # Whoever edits a file tells nobody: what lies there stays until the daemon's next look.
        there = set(it.waiting) if "by hand" in how else set()
        during = []
        for when in ("while off", "while off still", "while off for long"):
            it.count(when)
            it.drain()
            during.append(set(it.waiting) - there)
        merged = it.flush()["merged"]
        during.append(set(it.waiting))
        traces = [one for when in it.counted for one in it.held(when)]
        say_yes(it)
        # The window in which somebody decided goes nowhere: some of it was counted before.
        it.count("in the window of the yes")
        it.drain()
        it.count("after")
        it.drain()
        it.flush()

        arrived, times = it.arrived, it.recorder.times
        assert (during, merged, traces) == ([set()] * 4, 0, [])
        assert set(arrived) == {"sent before", "after"}
        assert (len(arrived["sent before"]), len(arrived["after"])) == (1, 1)
        assert arrived["sent before"].isdisjoint(arrived["after"])
        # One request before the no, none until the yes.
        between = [at for at in times if at > said_at and at < times[-1]]
        assert (times[0] < said_at, between) == (True, [])
        assert status(home)["products"][it.product]["machine_id"] in arrived["after"]


@pytest.mark.slow
@pytest.mark.parametrize("how", ["deleting the file", "asking for a reset"])
def test_after_a_reset_nothing_of_before_arrives_under_the_new_id(home: Path, how: str):
    tallyd(home, "contract", "add", str(CONTRACTS / "tallyd-demo.toml"))
    tallyd(home, "on", "tallyd-demo")
    with machine(home, "tallyd-demo") as it:
        it.count("sent before")
        it.drain()
        it.flush()
        it.count("merged before")
        it.drain()
        wait_for(lambda: not it.waiting)
        it.count("dropped before")
        it.drain()
        it.count("counted before")
        if how == "deleting the file":
            _delete(it)
        else:
            tallyd(home, "reset", "tallyd-demo")

        it.drain()
        it.count("after")
        it.drain()
        it.flush()

        arrived = it.arrived
        assert set(arrived) == {"sent before", "after"}
        assert arrived["sent before"].isdisjoint(arrived["after"])


@pytest.mark.slow
def test_a_host_that_began_while_it_was_off_stays_off_and_another_one_counts(home: Path):
    tallyd(home, "contract", "add", str(CONTRACTS / "tallyd-demo.toml"))
    tallyd(home, "off", "tallyd-demo")
    with machine(home, "tallyd-demo") as it:
        it.count("while off")
        it.drain()
        tallyd(home, "on", "tallyd-demo")
        it.count("after, in the same process")
        it.drain()

        assert (it.waiting, it.flush()["merged"], it.recorder.bodies) == ([], 0, [])

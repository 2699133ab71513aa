"""A machine on which one product is used: its hosts, its daemon, and the endpoint that they reach.

Hosts and daemon run in this process, with real files, a real database and real requests; the time is
pretended, and is one for all of them.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from tallyd import choices, notices
from tallyd.contract import Contract, parse_contract
from tallyd.contract.build import built
from tallyd.contract.consent import Consent, resolve
from tallyd.product import decide
from tallyd_client import Client
from tallyd_client._policy import Policy

from support import deltas
from support.clock import DAY_S, NOON, FakeClock
from support.hosts import files_below
from support.pipeline import Pipeline
from support.processes import CONTRACTS, STUB, environ_of
from support.recorder import Recorder, recording

Json = dict[str, Any]
YESTERDAY = "2026-11-19"
# The contracts of the reference systems, and tallyd's own.
SYSTEMS = ("ktx-v1", "ktx-v2", "dot-ai", "pipelex", "codegraph", "tallyd")
# One use of each product, as a host tells it.
USES: dict[str, tuple[str, Json]] = {
    "codegraph": ("usage_rollup", {"kind": "mcp_tool", "name": "explore"}),
    "ktx": ("wiki_query_completed", {"queryLength": 12, "durationMs": 3.5, "outcome": "ok"}),
    "dot-ai": ("tool_executed", {"tool": "recommend", "success": True, "duration_ms": 7}),
    "pipelex": ("pipes_list", {"integration": "cli", "nb_pipes": 4}),
    "tallyd": ("daemon_stopped", {"reason": "signal", "uptime_s": 9}),
}
_TOOLS = {"dot-ai": ("tool", ["recommend"]), "ktx": ("toolName", ["sql"])}
_A_DERIVED_ID = "local_" + "0" * 16
_PLAIN = ("DO_NOT_TRACK", "CI", "NO_COLOR", "KTX_TELEMETRY_ERROR_DETAIL")


@dataclass(frozen=True)
class Row:
    """One event as it arrived: its name, whose it is, what it carries, and the request's envelope."""

    event: str
    id: str
    props: Json
    envelope: Json = field(default_factory=dict)
    groups: Json = field(default_factory=dict)
    ts: str = ""


@cache
def contract_named(name: str) -> Contract:
    """One of our contracts."""
    file = CONTRACTS / f"{name}.toml"
    return parse_contract(file.read_bytes(), str(file))


def with_changes(text: str, *changes: tuple[str, str]) -> str:
    """The text with each change made; each old text must stand in it."""
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    return text


@dataclass
class Machine:
    """One machine, one product."""

    pipeline: Pipeline
    recorder: Recorder
    contract: Contract
    constants: Json
    monkeypatch: pytest.MonkeyPatch
    clients: list[Client] = field(default_factory=list)
    seen: int = 0

    @property
    def home(self) -> Path:
        return self.pipeline.home

    @property
    def clock(self) -> FakeClock:
        return self.pipeline.clock

    @property
    def product(self) -> str:
        return self.contract.product

    @property
    def state_file(self) -> Path:
        """Where the product's choice and id are."""
        return self._choice().file

    # --- what its user does ---

    def say(self, **variables: str | None) -> None:
        """Set variables for hosts and daemon; None removes one."""
        for name, value in variables.items():
            if value is None:
                self.monkeypatch.delenv(name, raising=False)
                self.pipeline.environ.pop(name, None)
            else:
                self.monkeypatch.setenv(name, value)
                self.pipeline.environ[name] = value

    def choose(self, mode: str, user: str = "") -> None:
        """Say yes or no, as `tallyd on` and `tallyd off` write it down; a second goes by."""
        around = self.pipeline.around
        choices.write_choice(
            self.contract, around.paths, around.environ, mode=mode, user=user, now=self.clock.now()
        )
        if mode != "off":
            around.registry.agree(self.contract)
        self.clock.pass_s(1)

    # --- what hosts do ---

    def host(self, **how: Any) -> Client:
        """A host of the product, in this process."""
        client = Client(contract=self.constants, **{"version": "1.0.0", **how})
        if client._policy is not None:
            # As if this test had been started at a terminal: the first page of ktx wants one.
            client._policy._has_terminal = True
        if self.product in _TOOLS:
            client.register(*_TOOLS[self.product])
        self.clients.append(client)
        return client

    def use(self, client: Client, **more: Any) -> None:
        """One use of the product, told and dropped; `more` replaces what is told."""
        event, props = USES[self.product]
        self.tell(client, event, **{**props, **more})

    def tell(self, client: Client, event: str, **props: Any) -> None:
        """One event or one count, told and dropped; a moment goes by."""
        if self.constants["events"][event]["kind"] == "rollup":
            client.rollup(event, *props)(*props.values())
        else:
            client.event(event, **props)
        client.drain()
        # Files are merged in the order of their names, which begin with the millisecond.
        self.clock.pass_s(0.01)

    def dropped(self) -> list[str]:
        """The deltas that wait in the spool."""
        return [one for one in files_below(self.home) if "/spool/" in one]

    # --- what the daemon does ---

    def drop(self, *events: tuple[str, Json], day: str = YESTERDAY, **more: Any) -> None:
        """A delta that another writer drops, by docs/spool.md alone."""
        counts, singles = [], []
        for name, props in events or (USES[self.product],):
            if self.constants["events"][name]["kind"] == "rollup":
                counts.append([name, props, {"count": 1}])
            else:
                singles.append([name, f"{day}T10:00:00.000Z", props])
        if self.contract.identity.kind == "derived":
            more = {"id": _A_DERIVED_ID, **more}
        whole = {"counts": counts, "events": singles, "day": day, "envelope": {}, **more}
        self.pipeline.drop(deltas.delta(self.product, **whole), product=self.product)

    def deliver(self) -> list[Row]:
        """One merge and one delivery; gives what arrived. A minute goes by."""
        if self.product in self.pipeline.around.registry.products():
            self.pipeline.intake(self.product)
            delivery = self.pipeline.deliver(self.product)
            assert not delivery.problem, delivery.problem
        self.clock.pass_s(61)
        return self.arrived()

    def deliver_after_grace(self) -> list[Row]:
        """Merge now, wait a day and deliver; gives what arrived."""
        early = self.deliver()
        self.clock.pass_s(DAY_S)
        return early + self.deliver()

    def agree(self) -> None:
        """Register the contract, with its notice shown long ago."""
        self.pipeline.register(self.product, text=self.contract.text, notice=False)
        shown = self.clock.now() - 2 * DAY_S
        notices.mark_shown(self.contract, self.pipeline.around.paths, shown)

    # --- what arrives ---

    def arrived(self) -> list[Row]:
        """The events of the requests that came since the last look."""
        fresh = self.recorder.batches[self.seen :]
        self.seen += len(fresh)
        return [row for body in fresh for row in rows_of(body)]

    @property
    def sent(self) -> bytes:
        """Every byte that arrived."""
        return b"\n".join(self.recorder.bodies)

    def everything(self) -> bytes:
        """Every byte on the disk of this machine."""
        files = [one for one in self.home.rglob("*") if one.is_file()]
        return b"\n".join(one.read_bytes() for one in files)

    # --- who decides ---

    def decided(self, *, is_terminal: bool = True) -> tuple[str, str]:
        """(what a host decides, what the daemon decides): "off", or the way of being on."""
        policy = Policy(None, "1.0.0", self.constants, {})
        policy._has_terminal = is_terminal
        around = self.pipeline.around
        return policy.consent().mode, decide(self.contract, self._choice(), around).mode

    def in_a_shell(self) -> Consent:
        """The decision for hosts that are started in this environment, with the rule that made it."""
        return resolve(
            self.contract.consent,
            self.pipeline.environ,
            self._choice().stored,
            may_enable=True,
        )

    def acts(self) -> tuple[bool, bool]:
        """(whether a host leaves a delta, whether a delta that lies there leaves the machine)."""
        before = self.dropped()
        client = self.host()
        self.use(client)
        client.close()
        is_counted = self.dropped() != before
        for one in self.dropped():
            (self.home / one).unlink()
        self.agree()
        self.drop()
        return is_counted, bool(self.deliver())

    def _choice(self) -> choices.ChoiceFile:
        around = self.pipeline.around
        return choices.read_choice(self.contract, around.paths, around.environ)


NewMachine = Callable[..., Machine]


@contextmanager
def machines(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[NewMachine]:
    """Makes machines, each in a home of its own below `home`; all are closed on leaving."""
    made: list[Machine] = []
    opened: list[Any] = []

    def make(name: str, *changes: tuple[str, str], now: float = NOON) -> Machine:
        """A machine with one of our contracts; `changes` are made in its text first."""
        own = home / f"machine-{len(made)}"
        own.mkdir()
        clock = FakeClock(now)
        opening = Pipeline.open(own, clock)
        pipeline = opening.__enter__()
        opened.append(opening)
        listening = recording()
        recorder = listening.__enter__()
        opened.append(listening)
        base = recorder.url.removesuffix("/v1/events")
        text = (CONTRACTS / f"{name}.toml").read_text()
        if name == "pipelex":
            changes = (("https://eu.i.posthog.com", base), *changes)
        contract = parse_contract(with_changes(text, *changes).encode(), f"{name}.toml")
        machine = Machine(pipeline, recorder, contract, built(contract), monkeypatch)
        for variable in (*_PLAIN, *(one.name for one in contract.consent.env)):
            monkeypatch.delenv(variable, raising=False)
        machine.say(TALLYD_HOME=str(own), HOME=str(own), TERM="dumb")
        if contract.endpoint.override_env:
            is_posthog = contract.endpoint.protocol == "posthog-batch"
            machine.say(**{contract.endpoint.override_env: base if is_posthog else recorder.url})
        monkeypatch.setattr("tallyd_client.time.time", clock.now)
        made.append(machine)
        return machine

    try:
        yield make
    finally:
        for machine in made:
            for client in machine.clients:
                client.close()
        for one in reversed(opened):
            one.__exit__(None, None, None)


def rows_of(body: Json) -> list[Row]:
    """The events of one request's body, in either protocol."""
    if "batch" in body:
        rows = []
        for one in body["batch"]:
            props = dict(one["properties"])
            groups = props.pop("$groups", {})
            rows.append(
                Row(one["event"], one["distinct_id"], props, {}, groups, one.get("timestamp", ""))
            )
        return rows
    about = ("events", "batch_id", "product", "contract", "sent_at", "machine_id", "lost")
    envelope = {name: value for name, value in body.items() if name not in about}
    return [
        Row(one["event"], body["machine_id"], one["props"], envelope, {}, one.get("ts", ""))
        for one in body["events"]
    ]


def start_program(
    home: Path,
    code: str,
    contract: Mapping[str, Any],
    now: float | None = NOON,
    **how: Any,
) -> subprocess.Popen[str]:
    """Start a host as a process of its own: `client` is there, and `now` is its time unless None.

    `how` goes to Popen; what is in capitals are variables.
    """
    variables = {name: str(how.pop(name)) for name in tuple(how) if name.isupper()}
    time_is = "" if now is None else f"import time; time.time = lambda: {now!r}\n"
    begin = f"import os, sys\nfrom tallyd_client import Client\ncontract = {dict(contract)!r}\n"
    return subprocess.Popen(
        [sys.executable, "-c", time_is + begin + code],
        env=environ_of(home, PYTHONPATH=str(STUB), **variables),
        text=True,
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **how},
    )


def run_program(home: Path, code: str, contract: Mapping[str, Any], **how: Any) -> tuple[str, str]:
    """Run such a host to its end; gives what it said on stdout and on stderr."""
    with start_program(home, code, contract, **how) as process:
        out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out or "", err or ""


def on_a_terminal(home: Path, code: str, contract: Mapping[str, Any], **how: Any) -> str:
    """Run such a host with a terminal for stdout and stderr; gives what stands on the screen."""
    import pty

    ours, theirs = pty.openpty()
    try:
        run_program(home, code, contract, stdout=theirs, stderr=theirs, **how)
        os.write(theirs, b"\0")
        screen = b""
        while not screen.endswith(b"\0"):
            screen += os.read(ours, 4096)
        return screen[:-1].decode().replace("\r\n", "\n")
    finally:
        os.close(theirs)
        os.close(ours)

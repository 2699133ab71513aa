"""The demo's steps, in the order data meets them.

It owns the processes it starts and ends them all, whatever happens. Each step is one line with the
numbers it read from the durable state; a step that does not come about in time ends the demo.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import anyio

from tallyd import buckets, ledger, render, status
from tallyd.clock import SystemClock
from tallyd.contract import parse_contract
from tallyd.contract.consent import Choice, StoredChoice, resolve
from tallyd.demo.drive import CLIENT_NAME, SESSIONS, call_tools
from tallyd.paths import Paths
from tallyd.product import Surroundings
from tallyd.registry import Registry
from tallyd.store import open_store_for_reading

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Mapping

    from tallyd.ledger import Attempt

_T = TypeVar("_T")
_PRODUCT = "tallyd-demo"
_HERE = Path(__file__).parent
_CONTRACT = _HERE / f"{_PRODUCT}.toml"
_DAY_S = 86400
_PATIENCE_S = 60.0


class DemoFailed(Exception):
    """A step did not come about; the text says which."""


@dataclass(slots=True)
class _Stage:
    """Where the demo plays: its home, its environment, and the processes to end."""

    home: Path
    environ: dict[str, str]
    say: Callable[[str], None]
    ending: ExitStack

    @property
    def around(self) -> Surroundings:
        paths = Paths.locate(self.environ)
        return Surroundings(paths, Registry(paths), self.environ)

    def start(self, name: str, *arguments: str, ahead_s: int = 0) -> subprocess.Popen[bytes]:
        """Start one of our commands in the background; its log is `<name>.log` in the home."""
        log = (self.home / f"{name}.log").open("ab")
        process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            env={**self.environ, "TALLYD_CLOCK_AHEAD": str(ahead_s)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        log.close()
        self.ending.callback(_end, process)
        return process

    def log(self, name: str) -> str:
        return (self.home / f"{name}.log").read_text(encoding="utf-8")

    def wait_for(self, what: str, is_there: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        while not is_there():
            if time.monotonic() > deadline:
                raise DemoFailed(f"{what} did not come about within {_PATIENCE_S:g} s")
            time.sleep(0.05)


def walk(say: Callable[[str], None], *, keep: bool) -> int:
    """Walk the flow; 0 only when the gateway's rows equal the calls made."""
    began = time.monotonic()
    home = Path(tempfile.mkdtemp(prefix="tallyd-demo-"))
    environ = _environ(home, say)
    try:
        with ExitStack() as ending:
            is_equal = _steps(_Stage(home, environ, say, ending))
    except DemoFailed as problem:
        say(f"The demo failed: {problem}.")
        for log in sorted(home.glob("*.log")):
            say(f"--- {log.name}\n{log.read_text(encoding='utf-8')[-2000:]}")
        is_equal = False
    finally:
        if keep:
            say(f"Kept: {home}")
        else:
            shutil.rmtree(home, ignore_errors=True)
    say(f"{'Done' if is_equal else 'NOT done'} in {time.monotonic() - began:.0f} s.")
    return 0 if is_equal else 1


def _environ(home: Path, say: Callable[[str], None]) -> dict[str, str]:
    """The environment of every process of the demo: this one, at another home."""
    environ = {**os.environ, "TALLYD_HOME": str(home)}
    contract = parse_contract(_CONTRACT.read_bytes(), str(_CONTRACT))
    consent = resolve(contract.consent, environ, StoredChoice(Choice.NONE))
    if not consent.is_on:
        rules = ", ".join(consent.says_off)
        say(f"Your shell says no telemetry ({rules}). The demo ignores that for its own processes")
        say("alone: what it counts never leaves this machine and is gone when it ends.")
        for name in ("DO_NOT_TRACK", *(switch.name for switch in contract.consent.env)):
            environ.pop(name, None)
    return environ


def _steps(stage: _Stage) -> bool:
    say = stage.say
    say(
        "1. gateway: starting, on loopback, with an embedded SQLite store and its clock a day ahead …"
    )
    url = _start_gateway(stage)
    say(f"   listens on {url}")

    say("2. daemon: registering the contract, starting under a temporary home …")
    _command(stage, "tallyd", "contract", "add", str(_CONTRACT))
    daemon = _start_daemon(stage)
    say(f"   {_log_line(stage, 'daemon_started')}")

    made = _make_calls(stage)
    failed = sum(count for (_, outcome), count in made.items() if outcome == "error")

    dropped = _wait_until_merged(stage)
    rows = _rows(stage)
    say(
        f"4. spool: {dropped} files dropped by {len(SESSIONS)} processes;"
        f" daemon: {dropped} deltas merged into {len(rows)} buckets:"
    )
    for line in render.buckets_table(rows):
        say(f"     {line}")

    say(
        "5. the day: still today, so nothing of it may leave. Daemon stopped, and started again with its"
    )
    say(f"   clock set forward by {_DAY_S // 3600} h, so that today is over:")
    daemon.send_signal(signal.SIGTERM)
    daemon.wait(_PATIENCE_S)
    say(f"   {_log_line(stage, 'daemon_stopped')}")
    daemon = _start_daemon(stage, ahead_s=_DAY_S)
    say(f"   {_log_line(stage, 'daemon_started')}")

    say("6. seal and send: asking the running daemon to flush …")
    flushed = _flush(stage)
    attempts = _attempts(stage)
    for attempt in attempts:
        say(f"   {len(attempt.body or b'')} bytes sent, exactly these:")
        say(f"     {(attempt.body or b'').decode('ascii')}")
        say(f"   the gateway's answer: {attempt.detail}")
    say(f"   {flushed['sealed']} batches sealed, {flushed['delivered']} delivered")

    say("7. gateway: the rows it stored:")
    stored = _export(stage)
    for row in stored:
        say(
            f"     {row['day']} {row['event']} {_words(row['dimensions'])} {_words(row['measures'])}"
        )
    say("   and the single events:")
    for event in _export(stage, "--events"):
        say(f"     {event['ts']} {event['event']} {_words(event['properties'])}")

    daemon.send_signal(signal.SIGTERM)
    daemon.wait(_PATIENCE_S)
    say(f"8. stop: {_log_line(stage, 'daemon_stopped')}")

    arrived = _as_calls(stored)
    is_equal = arrived == made
    say(
        f"{'Equal' if is_equal else 'NOT EQUAL'}: {sum(made.values())} calls made, {failed} of them"
        f" failed; the gateway's rows say {sum(arrived.values())} and"
        f" {sum(count for (_, outcome), count in arrived.items() if outcome == 'error')}."
    )
    return is_equal


def _start_gateway(stage: _Stage) -> str:
    database = str(stage.home / "gateway.db")
    stage.start(
        "gateway",
        *("tallyd_ingest", "serve", "--contract", str(_CONTRACT), "--db", database, "--port", "0"),
        ahead_s=_DAY_S,
    )
    stage.wait_for("the gateway", lambda: "http://" in stage.log("gateway"))
    url = stage.log("gateway").split("listens on ")[1].split()[0]
    stage.environ["TALLYD_DEMO_ENDPOINT"] = f"{url}/v1/events"
    return url


def _start_daemon(stage: _Stage, *, ahead_s: int = 0) -> subprocess.Popen[bytes]:
    began = stage.log("daemon").count("action=daemon_started") if ahead_s else 0
    process = stage.start("daemon", "tallyd", "run", ahead_s=ahead_s)
    stage.wait_for("the daemon", lambda: stage.log("daemon").count("action=daemon_started") > began)
    return process


def _make_calls(stage: _Stage) -> Counter[tuple[str, str]]:
    """Run one server process per session; returns what was called and how it went."""
    made: Counter[tuple[str, str]] = Counter()
    command = [sys.executable, str(_HERE / "host.py"), str(_CONTRACT)]
    for number, calls in enumerate(SESSIONS, 1):
        stage.say(
            f"3. host {number} of {len(SESSIONS)}: mcp-server-time, unedited; {len(calls)} tool calls"
            f" by the MCP SDK's client as {CLIENT_NAME} …"
        )
        with (stage.home / f"host-{number}.log").open("w", encoding="utf-8") as errors:
            made += anyio.run(call_tools, command, stage.environ, calls, errors)
    return made


def _wait_until_merged(stage: _Stage) -> int:
    """Wait until every dropped file is merged; returns how many there were."""

    def merged() -> int:
        return _read(stage, buckets.count_deltas)

    def is_merged() -> bool:
        waiting: Any = status.gather(stage.around, SystemClock().now())[0]["products"]
        return merged() >= len(SESSIONS) and waiting[_PRODUCT]["spool"]["files"] == 0

    stage.wait_for("the merge", is_merged)
    return merged()


def _rows(stage: _Stage) -> list[buckets.Row]:
    return _read(stage, lambda sql: list(buckets.rows(sql, _PRODUCT)))


def _attempts(stage: _Stage) -> list[Attempt]:
    return _read(stage, lambda sql: ledger.attempts(sql, _PRODUCT))


def _read(stage: _Stage, query: Callable[[sqlite3.Connection], _T]) -> _T:
    store = open_store_for_reading(stage.around.paths)
    if store is None:
        raise DemoFailed("the daemon's database is not there")
    try:
        with store.reading() as sql:
            return query(sql)
    finally:
        store.close()


def _flush(stage: _Stage) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(_command(stage, "tallyd", "flush", "--json"))
    return dict(result[_PRODUCT])


def _export(stage: _Stage, *more: str) -> list[dict[str, Any]]:
    database = str(stage.home / "gateway.db")
    rows: list[dict[str, Any]] = json.loads(
        _command(stage, "tallyd_ingest", "export", "--db", database, "--json", *more)
    )
    return rows


def _command(stage: _Stage, *arguments: str) -> bytes:
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        env=stage.environ,
        capture_output=True,
        check=False,
        timeout=_PATIENCE_S * 3,
    )
    if done.returncode:
        raise DemoFailed(f"{' '.join(arguments)}: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout


def _as_calls(rows: list[dict[str, Any]]) -> Counter[tuple[str, str]]:
    calls: Counter[tuple[str, str]] = Counter()
    for row in rows:
        if row["event"] == "tool_calls":
            count, errors = row["measures"]["count"], row["measures"]["error_count"]
            calls[row["dimensions"]["tool"], "ok"] += count - errors
            calls[row["dimensions"]["tool"], "error"] += errors
    return +calls


def _log_line(stage: _Stage, action: str) -> str:
    lines = [line for line in stage.log("daemon").splitlines() if f"action={action}" in line]
    if not lines:
        raise DemoFailed(f"the daemon did not log {action}")
    return lines[-1].split("level=info ")[-1]


def _words(fields: Mapping[str, object]) -> str:
    return " ".join(f"{name}={value}" for name, value in fields.items())


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

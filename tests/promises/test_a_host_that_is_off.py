"""A host that is off does nothing: no socket, no thread, no file, no word; and neither does the daemon.

Every way of being off that there is, each with a real process whose system calls are written down.
What the search finds is shown by the same host while it is on.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from support.clock import DAY_S, FakeClock
from support.deltas import delta
from support.hosts import STUB
from support.inline_contracts import parsed
from support.pipeline import Pipeline
from support.processes import CONTRACTS, environ_of, tallyd, wait_for
from support.recorder import recording
from support.tool import put
from support.tools import need
from tallyd import choices
from tallyd.contract import Contract
from tallyd.contract.build import built

# Everything that a host has: counts, events, a project, the question, drains and an end.
_HOST = """\
import json, os, sys
from tallyd_client import Client, ask
with open(sys.argv[1]) as opened:
    contract = json.load(opened)
with open(sys.argv[2]) as opened:
    how = json.load(opened)
client = Client(contract["product"]["name"], "1.0.0", contract, **how)
assert client.problem is None, client.problem
client.project(os.getcwd())
for name, event in contract["events"].items():
    if event["kind"] == "rollup":
        client.counter(name, tool="a")()
        client.rollup(name, "tool")("b", ok=False)
    else:
        client.event(name, transport="stdio")
client.register("tool", ["a"])
client.project(os.getcwd())
client.drain()
ask(client)
client.counter("tool_calls", tool="c")()
client.drain()
client.close()
"""
# Whatever makes a thread, a socket, a file or a directory, or changes one.
_CALLS = (
    "%network,clone,clone3,open,openat,openat2,creat,mkdir,mkdirat,mknod,mknodat,rename,renameat,"
    "renameat2,link,linkat,symlink,symlinkat,unlink,unlinkat,truncate,chmod,fchmodat,utimensat"
)
_READ = re.compile(r"\bopen(at|at2)?\((?!.*(O_WRONLY|O_RDWR|O_CREAT|O_TRUNC))")
_ID = "5d0c7a16-2f0e-4c1b-9b58-7e41d2aa9f03"
_KTX_ON = {"enabled": True, "installId": _ID, "createdAt": "2026-01-01T00:00:00.000Z"}
# Whole, and nothing but blanks behind it.
_TOO_LARGE = json.dumps({"enabled": True}) + " " * 70_000
_OWN = "state/consent/tallyd-demo.json"


def a_file(place: str, content: str | bytes | dict[str, Any]) -> Callable[[Path], object]:
    return lambda home: put(home / place, content)


def a_link(home: Path) -> None:
    put(home / "elsewhere.json", {"enabled": True})
    (home / _OWN).parent.mkdir(parents=True)
    (home / _OWN).symlink_to(home / "elsewhere.json")


def a_pipe(home: Path) -> None:
    (home / _OWN).parent.mkdir(parents=True)
    os.mkfifo(home / _OWN)


@dataclass(frozen=True)
class Way:
    """One way of being off."""

    prepare: Callable[[Path], object] = lambda _: None
    environ: dict[str, str] = field(default_factory=dict)
    contract: str = "tallyd-demo"
    client: dict[str, Any] = field(default_factory=dict)
    is_built_off: bool = False


WAYS = {
    "a policy file that is named": Way(
        a_file("elsewhere/policy.toml", "off = true\n"),
        {"TALLYD_POLICY_FILE": "HOME/elsewhere/policy.toml"},
    ),
    "a policy file that is damaged": Way(
        a_file("elsewhere/policy.toml", "off = maybe\n"),
        {"TALLYD_POLICY_FILE": "HOME/elsewhere/policy.toml"},
    ),
    "a policy file without a whole path": Way(environ={"TALLYD_POLICY_FILE": "policy.toml"}),
    "the user's own policy": Way(a_file("config/policy.toml", "off = true\n")),
    "the user's own policy, by name": Way(
        a_file("config/policy.toml", 'off = ["other", "tallyd-demo"]\n')
    ),
    "the user's own policy, which is a directory": Way(a_file("config/policy.toml/x", "")),
    "DO_NOT_TRACK": Way(environ={"DO_NOT_TRACK": "1"}),
    "DO_NOT_TRACK, above the variable": Way(
        environ={"DO_NOT_TRACK": "yes", "TALLYD_DEMO_TELEMETRY": "on"}
    ),
    "the product's variable": Way(environ={"TALLYD_DEMO_TELEMETRY": "off"}),
    "a word that nobody knows": Way(environ={"TALLYD_DEMO_TELEMETRY": "disabled"}),
    "the variable, above the choice": Way(
        a_file(_OWN, {"enabled": True}), {"TALLYD_DEMO_TELEMETRY": "0"}
    ),
    "continuous integration": Way(
        a_file(".ktx/telemetry.json", _KTX_ON), {"CI": "true"}, contract="ktx-v2"
    ),
    "continuous integration, before there is a file": Way(environ={"CI": "1"}, contract="ktx-v2"),
    "no terminal": Way(a_file(".ktx/telemetry.json", _KTX_ON), contract="ktx-v1"),
    "the choice": Way(a_file(_OWN, {"enabled": False, "machine_id": _ID})),
    "the choice in a strict file": Way(
        a_file(".ktx/telemetry.json", {**_KTX_ON, "enabled": False}), contract="ktx-v2"
    ),
    "the choice among modes": Way(
        a_file(".pipelex/telemetry.toml", 'telemetry_mode = "off"\n'), contract="pipelex"
    ),
    "a damaged file": Way(a_file(_OWN, '{"enabled": tr')),
    "a file with another type": Way(a_file(_OWN, {"enabled": "yes"})),
    "a strict file with a key that it does not know": Way(
        a_file(".ktx/telemetry.json", {**_KTX_ON, "enabeld": False}), contract="ktx-v2"
    ),
    "a link": Way(a_link),
    "a directory": Way(a_file(f"{_OWN}/x", "")),
    "a pipe that nobody writes": Way(a_pipe),
    "a file that is too large": Way(a_file(_OWN, _TOO_LARGE)),
    "nobody was asked": Way(contract="pipelex"),
    "nobody switched it on": Way(contract="tallyd"),
    "the host's own word": Way(client={"off": True}),
    "the packager's word": Way(is_built_off=True),
}


def _parsed(name: str) -> Contract:
    return parsed((CONTRACTS / f"{name}.toml").read_text(encoding="utf-8"))


def _snapshot(home: Path) -> dict[str, tuple[int, int, bytes]]:
    """Everything below the home with its kind, its time of change and its content."""
    found = {}
    for one in [home, *home.rglob("*")]:
        about = one.lstat()
        content = b"" if one.is_symlink() or not one.is_file() else one.read_bytes()
        found[str(one)] = (about.st_mode, about.st_mtime_ns, content)
    return found


@dataclass(frozen=True)
class Seen:
    """What a host did: calls that make or change something, its output, and the home after it."""

    sockets: list[str]
    threads: list[str]
    files: list[str]
    printed: str
    code: int
    is_home_as_it_was: bool


def _run_host(tmp_path: Path, way: Way) -> Seen:
    strace = need("strace")
    home = tmp_path / "home"
    home.mkdir()
    way.prepare(home)
    contract = put(
        tmp_path / "contract.json", dict(built(_parsed(way.contract), is_off=way.is_built_off))
    )
    how, trace = put(tmp_path / "how.json", way.client), tmp_path / "trace"
    before = _snapshot(home)
    environ = {key: value.replace("HOME", str(home)) for key, value in way.environ.items()}
    done = subprocess.run(
        [
            *(strace, "-f", "-e", f"trace={_CALLS}", "-o", str(trace)),
            *(sys.executable, "-B", "-c", _HOST, str(contract), str(how)),
        ],
        env=environ_of(home, PYTHONPATH=str(STUB), **environ),
        cwd=home,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    calls = [line for line in trace.read_text().splitlines() if "(" in line]
    threads = [line for line in calls if re.search(r"\bclone3?\(", line)]
    files = [
        line
        for line in calls
        if re.search(r"\b(open|creat|mk|rename|link|symlink|unlink|trunc|chmod|fchmod|utime)", line)
        and not _READ.search(line)
    ]
    known = {*threads, *files}
    sockets = [
        line
        for line in calls
        if line not in known and not re.search(r"\bopen(at|at2)?\(|resumed>", line)
    ]
    return Seen(
        *(sockets, threads, files),
        printed=done.stdout + done.stderr,
        code=done.returncode,
        is_home_as_it_was=_snapshot(home) == before,
    )


@pytest.mark.parametrize("how", WAYS)
def test_a_host_that_is_off_leaves_no_trace(tmp_path: Path, how: str):
    seen = _run_host(tmp_path, WAYS[how])

    assert seen == Seen([], [], [], printed="", code=0, is_home_as_it_was=True)


def test_a_host_that_is_on_makes_its_thread_and_files_and_no_socket(tmp_path: Path):
    seen = _run_host(tmp_path, Way())

    assert (seen.sockets, seen.code, seen.is_home_as_it_was) == ([], 0, False)
    assert [line for line in seen.threads if "CLONE_THREAD" in line] != []
    assert [line for line in seen.files if "/spool/tallyd-demo/new/" in line] != []
    assert seen.printed.startswith("tallyd-demo counts tool calls")


# --- the daemon ------------------------------------------------------------------------------------

# asyncio wakes itself through a pair of connected descriptors, which reach nobody else.
_SELF_WAKE_UP = re.compile(r'sendto\(\d+, "\\0", 1, 0, NULL, 0\)')
_REACHES_OUT = re.compile(r"\b(socket|connect|sendto|sendmsg|sendmmsg|bind|listen)\(")
# What a product may have that was not sent: in the spool, as sums, and frozen.
_HELD = ("bucket", "event", "outbox", "decision")


@dataclass(frozen=True)
class Off:
    """How one product of a machine is off: `say` is done to what was on; a wish, or damage."""

    is_wish: bool
    say: Callable[[Path, Path], object] = lambda _home, _file: None
    environ: dict[str, str] = field(default_factory=dict)
    contract: str = "tallyd-demo"


def _writes(content: str | bytes | dict[str, Any]) -> Callable[[Path, Path], object]:
    return lambda _, file: put(file, content)


def _links(home: Path, file: Path) -> None:
    file.rename(home / "elsewhere.json")
    file.symlink_to(home / "elsewhere.json")


def _becomes_a_directory(_: Path, file: Path) -> None:
    file.unlink()
    file.mkdir()


def _deletes(_: Path, file: Path) -> None:
    file.unlink()


def _policy(place: str, content: str) -> Callable[[Path, Path], object]:
    return lambda home, _: put(home / place, content)


_NAMED = {"TALLYD_POLICY_FILE": "HOME/elsewhere/policy.toml"}
# Machines: those of one are off all at once, each in its own way.
MACHINES: dict[str, dict[str, Off]] = {
    "each product in its own way": {
        "by-variable": Off(True, environ={"BY_VARIABLE_TELEMETRY": "off"}),
        "by-unknown-word": Off(True, environ={"BY_UNKNOWN_WORD_TELEMETRY": "disabled"}),
        "by-user-policy": Off(True, _policy("config/policy.toml", 'off = ["by-user-policy"]\n')),
        "by-choice": Off(True, _writes({"enabled": False, "machine_id": _ID})),
        "cut-short": Off(False, _writes('{"enabled": tr')),
        "other-type": Off(False, _writes({"enabled": "no"})),
        "too-large": Off(False, _writes(_TOO_LARGE)),
        "linked": Off(False, _links),
        "directory": Off(False, _becomes_a_directory),
        # In continuous integration, whatever its file says.
        "ktx": Off(True, environ={"CI": "true"}, contract="ktx-v2"),
        "pipelex": Off(True, _deletes, contract="pipelex"),
        "tallyd": Off(True, _deletes, contract="tallyd"),
    },
    "a strict file with a key that it does not know": {
        "ktx": Off(False, _writes({**_KTX_ON, "enabeld": False}), contract="ktx-v2"),
    },
    "do not track": {"by-wish": Off(True, environ={"DO_NOT_TRACK": "1"})},
    "a policy file that is named": {
        "by-machine": Off(True, _policy("elsewhere/policy.toml", "off = true\n"), _NAMED)
    },
    "a policy file that is damaged": {
        "by-damage": Off(False, _policy("elsewhere/policy.toml", "off = maybe\n"), _NAMED)
    },
}


def _contract_of(product: str, off: Off) -> Contract:
    """The demo's contract as that of another product, or the named one."""
    text = (CONTRACTS / f"{off.contract}.toml").read_text(encoding="utf-8")
    if off.contract == "tallyd-demo":
        prefix = product.upper().replace("-", "_")
        text = text.replace('name = "tallyd-demo"', f'name = "{product}"')
        text = text.replace("TALLYD_DEMO_", f"{prefix}_")
    return parsed(text)


def _some_of_it(contract: Contract, day: str) -> dict[str, Any]:
    """A delta in which there is something that leaves."""
    told: dict[str, dict[str, Any]] = {
        "ktx": {"install_first_run": {}},
        "pipelex": {"backends_show": {"integration": "cli", "nb_backends": 3}},
        "tallyd": {"daemon_stopped": {"reason": "signal", "uptime_s": 9}},
    }
    events = [
        [name, f"{day}T12:00:00.000Z", one] for name, one in told.get(contract.product, {}).items()
    ]
    return delta(
        contract.product, day=day, envelope={}, events=events, **({"counts": []} if events else {})
    )


def _held(home: Path, product: str) -> dict[str, int]:
    with sqlite3.connect(f"file:{home}/state/tallyd.db?mode=ro", uri=True) as opened:
        held = {
            table: opened.execute(
                f"SELECT count(*) FROM {table} WHERE product = ?", (product,)
            ).fetchone()[0]
            for table in _HELD
        }
    opened.close()
    new = home / "state" / "spool" / product / "new"
    return {**held, "spool": len(list(new.iterdir())) if new.exists() else 0}


@pytest.mark.slow
@pytest.mark.parametrize("machine", MACHINES)
def test_a_daemon_reaches_out_for_no_product_that_is_off(home: Path, machine: str):
    """What a wish forbids is deleted; what damage stops waits until it is mended."""
    strace = need("strace")
    products = MACHINES[machine]
    put(home / "config" / "config.toml", "[daemon]\nrescan_interval_s = 1\n")
    clock, environ, files = FakeClock(time.time()), {}, {}
    with recording() as recorder, Pipeline.open(home, clock) as pipeline:
        for product, off in products.items():
            environ |= off.environ
            contract = _contract_of(product, off)
            pipeline.register(product, text=contract.text)
            environ[contract.endpoint.override_env or "NOWHERE"] = recorder.url
            files[product] = choices.write_choice(
                *(contract, pipeline.around.paths, pipeline.environ),
                mode="anonymous" if contract.consent.modes else "on",
                now=clock.now() - 60,
            ).file
        # Two days, one of which is not over, and files that nobody merged yet.
        for days_ago in (2, 0, 1):
            day = time.strftime("%Y-%m-%d", time.gmtime(clock.now() - days_ago * DAY_S))
            for product, off in products.items():
                pipeline.drop(_some_of_it(_contract_of(product, off), day), product=product)
            for product in products if days_ago != 1 else ():
                pipeline.intake(product)
                pipeline.seal(product) if days_ago else None
        for product, off in products.items():
            off.say(home, files[product])
        before = {product: _held(home, product) for product in products}
    assert all(one["outbox"] and one["spool"] for one in before.values()), before

    environ = {key: value.replace("HOME", str(home)) for key, value in environ.items()}
    trace, log = home / "trace", home / "daemon.log"
    with log.open("wb") as opened:
        traced = subprocess.Popen(
            [
                *(strace, "-f", "-e", "trace=%network", "-o", str(trace)),
                *(sys.executable, "-m", "tallyd", "run"),
            ],
            env=environ_of(home, **environ),
            stdout=opened,
            stderr=opened,
        )
    try:
        wait_for(lambda: "action=daemon_started" in log.read_text())
        # A flush makes the daemon do everything it ever does.
        # One to which everything is forbidden has ended by now; then the command does it all itself.
        results = json.loads(tallyd(home, "flush", "--json", **environ))
    finally:
        children = Path(f"/proc/{traced.pid}/task/{traced.pid}/children").read_text().split()
        for child in children:
            os.kill(int(child), signal.SIGTERM)
        traced.wait(90)

    calls = [line for line in trace.read_text().splitlines() if _REACHES_OUT.search(line)]
    assert [line for line in calls if not _SELF_WAKE_UP.search(line)] == []
    assert recorder.bodies == []
    for product, off in products.items():
        said = results[product]
        assert (said["merged"], said["sealed"], said["blocked"][:14], said["problem"]) == (
            *(0, 0, "consent is off"),
            "",
        ), product
        kept = dict.fromkeys(before[product], 0) if off.is_wish else before[product]
        assert _held(home, product) == kept, product

"""Says "no" before the n-th step of a flush or of a host's drop, for n = 1, 2, 3 … until it gets through.

Run as a program of its own: `race.py WHO TEMPLATE WORK EVERY COMMAND…`. WHO is `flush` (a whole
`tallyd flush`: intake, seal, send) or `drop` (a host that counts and drains). For each n it copies the
prepared home TEMPLATE, forks, and lets the child run the COMMANDs (each `tallyd …` in a process of
its own, like "off tallyd-demo") before its n-th step. A step is a file operation below the home (seen by
an audit hook) or an SQL statement. Only every EVERY-th n is tried. One JSON line per n tells when the
no was stored (monotonic seconds), and what is left. No hook stands in production code.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

_FILE_EVENTS = {"open", "os.rename", "os.remove", "os.mkdir", "os.listdir", "os.scandir", "os.link"}
PRODUCT = "tallyd-demo"


class _Race:
    """Counts steps, and says no before one of them."""

    def __init__(self, home: str, at: int, commands: list[str]) -> None:
        self.steps = 0
        self.said_at: float | None = None
        self._home, self._at, self._commands = home, at, commands
        self._later: subprocess.Popen[bytes] | None = None
        self._is_saying = False

    def step(self) -> None:
        if self._is_saying:
            return
        self.steps += 1
        if self.steps == self._at:
            self._is_saying = True
            self._say()
            self._is_saying = False

    def _say(self) -> None:
        """Run the commands one after another; go on when the last choice is stored.

        Not when they end: what they delete may wait for the lock that we hold.
        """
        marker = Path(self._home, "said")
        script = " && ".join(f"{sys.executable} -m tallyd {one}" for one in self._commands)
        self._later = subprocess.Popen(
            ["sh", "-c", f"({script}); echo $? > {marker}"], stdout=subprocess.DEVNULL
        )
        stored = Path(self._home, "state", "consent", f"{PRODUCT}.json")
        wanted = self._commands[-1].startswith("on")
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if marker.exists() or (not wanted and _says(stored) is False):
                break
            if wanted and len(self._commands) == 1 and _says(stored):
                break
            time.sleep(0.005)
        self.said_at = time.monotonic()

    def finish(self) -> int | None:
        """Wait for the commands; their exit code, None when they never ran."""
        if self._later is None:
            return None
        self._later.wait(120)
        return int(Path(self._home, "said").read_text() or -1)


def _says(file: Path) -> object:
    try:
        return json.loads(file.read_bytes()).get("enabled")
    except (OSError, ValueError):
        return None


def _arm(race: _Race, home: str) -> None:
    def on_event(event: str, arguments: tuple[object, ...]) -> None:
        path = str(arguments[0]) if arguments else ""
        # A delta's name stands alone: the daemon holds `new/` open and works below it.
        if event in _FILE_EVENTS and (home in path or path.endswith(".json")):
            race.step()

    connect = sqlite3.connect

    def traced(*args: object, **kwargs: object) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*args, **kwargs)  # type: ignore[arg-type, call-overload]
        connection.set_trace_callback(lambda _: race.step())
        return connection

    sqlite3.connect = traced  # type: ignore[assignment, misc]
    sys.addaudithook(on_event)


def _flush() -> None:
    import anyio
    from tallyd.cli.here import locate
    from tallyd.clock import SystemClock
    from tallyd.service import once

    anyio.run(once.flush, locate(), SystemClock())


def _drop() -> None:
    from tallyd_client import Client

    client = Client(PRODUCT, "1.0.0")
    count = client.rollup("tool_calls", "tool")
    for _ in range(3):
        count("find_me")
    client.event("server_started", transport="stdio")
    client.drain()


def _in_child(who: str, home: str, at: int, commands: list[str]) -> dict[str, object]:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.environ.update(TALLYD_HOME=home, HOME=home)
        race = _Race(home, at, commands)
        problem = ""
        try:
            _arm(race, home)
            {"flush": _flush, "drop": _drop}[who]()
        except BaseException as error:  # noqa: BLE001 - told, whatever it was
            problem = repr(error)
        said = {"steps": race.steps, "said_at": race.said_at, "problem": problem}
        race._is_saying = True
        os.write(writer, json.dumps({**said, "code": race.finish()}).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as opened:
        told: dict[str, object] = json.loads(opened.read())
    os.waitpid(child, 0)
    return told


def _left(home: str) -> dict[str, object]:
    """What a "no" must have taken away: files of the spool, and any trace in the database."""
    spool = sorted(file.name for file in Path(home, "state", "spool").rglob("*") if file.is_file())
    database = Path(home, "state", "tallyd.db")
    rows: dict[str, int] = {}
    if database.exists():
        opened = sqlite3.connect(database)
        for table in ("bucket", "event", "outbox", "envelope", "ledger", "loss"):
            # That something left, when and where to stays in the ledger; what it said does not.
            only = " AND body IS NOT NULL" if table == "ledger" else ""
            found = opened.execute(
                f"SELECT count(*) FROM {table} WHERE product = ?{only}", (PRODUCT,)
            ).fetchone()[0]
            if found:
                rows[table] = found
        opened.close()
    once = [str(one) for one in Path(home, "state", "once").rglob("*") if one.is_file()]
    return {"spool": spool, "rows": rows, "once": once}


def main() -> None:
    who, template, work, every, *rest = sys.argv[1:]
    commands = [one for one in rest if one != "--keep"]
    at = 1
    while True:
        home = os.path.join(work, str(at))
        shutil.copytree(template, home)
        os.environ["TALLYD_DEMO_ENDPOINT"] = f"{os.environ['RECORDER']}/{at}"
        told = _in_child(who, home, at, commands)
        print(json.dumps({"at": at, **told, **_left(home)}), flush=True)
        if told["said_at"] is None:
            return
        if "--keep" not in rest:
            shutil.rmtree(home)
        at += int(every)


main()

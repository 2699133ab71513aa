"""Kills `tallyd flush` at its n-th step, for n = 1, 2, 3 … until it gets through.

Run as a program of its own: `harness.py TEMPLATE WORK [--wrong]`. For each n it copies the prepared
home TEMPLATE, forks, and lets the child kill itself (SIGKILL) before its n-th step: a step is a file
operation below the home (seen by an audit hook) or an SQL statement (seen by SQLite's own trace). A
second child then runs without the hook: recovery is nothing but the next start. One JSON line per n
tells how the first child ended and where every count is. No hook stands in production code.
With --wrong, files are removed when read, before the sums are committed: the sweep must catch it.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import sys
from pathlib import Path

from tallyd import cli, intake, spool
from tallyd.paths import Paths
from tallyd.product import Surroundings
from tallyd.registry import Registry
from tallyd.status import gather

_FILE_EVENTS = {
    "open",
    "os.rename",
    "os.remove",
    "os.mkdir",
    "os.rmdir",
    "os.utime",
    "os.listdir",
    "os.scandir",
    "os.truncate",
    "fcntl.flock",
}


def _arm(home: str, last_step: int) -> None:
    """Count steps from here on, and die before step `last_step`."""
    steps = 0

    def step() -> None:
        nonlocal steps
        steps += 1
        if steps == last_step:
            os.kill(os.getpid(), signal.SIGKILL)

    def on_event(event: str, arguments: tuple[object, ...]) -> None:
        if event in _FILE_EVENTS and (
            event == "fcntl.flock" or (arguments and home in str(arguments[0]))
        ):
            step()

    connect = sqlite3.connect

    def traced(*args: object, **kwargs: object) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*args, **kwargs)  # type: ignore[arg-type, call-overload]
        connection.set_trace_callback(lambda _: step())
        return connection

    sqlite3.connect = traced  # type: ignore[assignment, misc]
    sys.addaudithook(on_event)


def _flush(home: str, last_step: int | None, *, wrong: bool) -> int:
    """Run `tallyd flush` in a child; returns how it ended, as waitpid tells."""
    child = os.fork()
    if child == 0:
        # Recovery runs two hours later, so that what is swept after one hour must be gone.
        ahead = "0" if last_step else "7200"
        os.environ.update(TALLYD_HOME=home, HOME=home, TALLYD_CLOCK_AHEAD=ahead)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        if wrong:
            _read_and_remove()
        if last_step is not None:
            _arm(home, last_step)
        try:
            cli.main(["flush"])
        except SystemExit as ended:
            os._exit(int(ended.code or 0))
        finally:
            os._exit(99)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _read_and_remove() -> None:
    right = spool.read_delta

    def wrong(entry: spool.NewEntry) -> bytes | None:
        content = right(entry)
        spool.discard(entry)
        return content

    intake.spool.read_delta = wrong  # type: ignore[attr-defined]


def _picture(home: str) -> dict[str, object]:
    environ = {"TALLYD_HOME": home, "HOME": home}
    paths = Paths.locate(environ)
    product = gather(Surroundings(paths, Registry(paths), environ), 0)[0]["products"]["tallyd-demo"]  # type: ignore[index]
    database = sqlite3.connect(paths.database)
    counted = database.execute("SELECT sum(value) FROM bucket WHERE measure = 'count'").fetchone()[
        0
    ]
    database.close()
    leftovers = sorted(
        str(file.relative_to(home))
        for file in Path(home).rglob("*")
        if file.is_file() and ("spool" in file.parts or file.suffix in {".tmp", ".claim"})
    )
    return {"counted": counted, "outbox": product["outbox"]["batches"], "leftovers": leftovers}


def main() -> None:
    template, work, *flags = sys.argv[1:]
    step = 0
    ended = -signal.SIGKILL
    while ended == -signal.SIGKILL:
        step += 1
        home = os.path.join(work, str(step))
        shutil.copytree(template, home)
        ended = _flush(home, step, wrong="--wrong" in flags)
        again = _flush(home, None, wrong=False)
        print(
            json.dumps({"step": step, "ended": ended, "again": again, **_picture(home)}), flush=True
        )
        shutil.rmtree(home)


main()

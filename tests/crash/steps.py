"""The injector inside: counts a process's own steps and kills it before the n-th.

A step is a file operation below the home or a connection (seen by an audit hook), or an SQL statement
(seen by SQLite's own trace). No hook stands in production code.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
from collections.abc import Callable

_FILE_EVENTS = {
    *("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.utime", "os.link", "os.chmod"),
    *("os.listdir", "os.scandir", "os.truncate"),
}
# Their first argument is no path.
_OTHER_EVENTS = {"fcntl.flock", "socket.connect"}


def arm(home: str, last_step: int | None, note: Callable[[int, int, int, int], None]) -> None:
    """Count steps from here on, and die before step `last_step`.

    `note` is told (files, statements, first step that removed a delta, first that made a connection).
    """
    files = statements = removed_at = connected_at = 0

    def step() -> None:
        note(files, statements, removed_at, connected_at)
        if files + statements == last_step:
            os.kill(os.getpid(), signal.SIGKILL)

    def on_event(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal files, removed_at, connected_at
        path = os.fsdecode(_path(arguments[0])) if arguments else ""
        if event in _OTHER_EVENTS or (event in _FILE_EVENTS and (home in path or _is_delta(path))):
            files += 1
            if event == "socket.connect":
                connected_at = connected_at or files + statements
            elif event == "os.remove" and ("/new/" in path or _is_delta(path)):
                removed_at = removed_at or files + statements
            step()

    def on_statement(_: str) -> None:
        nonlocal statements
        statements += 1
        step()

    connect = sqlite3.connect

    def traced(*args: object, **kwargs: object) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*args, **kwargs)  # type: ignore[arg-type, call-overload]
        connection.set_trace_callback(on_statement)
        return connection

    sqlite3.connect = traced  # type: ignore[assignment, misc]
    sys.addaudithook(on_event)


def _is_delta(path: str) -> bool:
    """A name alone: the daemon holds `new/` open and works below it."""
    return path.endswith(".json") and "/" not in path


def _path(argument: object) -> str | bytes:
    return argument if isinstance(argument, str | bytes) else str(argument)

"""Everything that a tallyd holds at one moment, as one value: to compare it across an upgrade."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

# What a program says of itself and of this moment, not of what is kept.
_OF_THE_MOMENT = frozenset({"at", "daemon", "service", "health", "problems", "ages"})


class Kept(NamedTuple):
    """Rows by table, and files by their place."""

    rows: dict[str, list[dict[str, Any]]]
    files: dict[str, bytes]


def kept(state: Path, config: Path) -> Kept:
    """Every row of the database, and every other file with its bytes.

    Without the lock and the reserve, which say nothing of what was counted, and SQLite's own files
    beside the database, whose rows are among the rows.
    """
    rows: dict[str, list[dict[str, Any]]] = {}
    with sqlite3.connect(f"{(state / 'tallyd.db').as_uri()}?mode=ro", uri=True) as sql:
        for (table,) in sql.execute("SELECT name FROM sqlite_schema WHERE type = 'table'"):
            found = sql.execute(f"SELECT * FROM {table}")
            names = [column[0] for column in found.description]
            rows[table] = sorted((dict(zip(names, row, strict=True)) for row in found), key=repr)
    sql.close()
    own = ("daemon.lock", "reserve", "tallyd.db", "tallyd.db-wal", "tallyd.db-shm")
    files = {
        f"{top.name}/{one.relative_to(top)}": one.read_bytes()
        for top in (state, config)
        for one in sorted(top.rglob("*"))
        if one.is_file() and one.name not in own
    }
    return Kept(rows, files)


def told(status: str, shown: dict[str, str]) -> dict[str, Any]:
    """What `status --json` says of the past and the products, and `show --json` of each product."""
    report = json.loads(status)
    products = report["products"]
    return {
        "status": _lasting(report) | {"products": {k: _lasting(v) for k, v in products.items()}},
        "show": {product: json.loads(rows) for product, rows in shown.items()},
    }


def _lasting(told: dict[str, Any]) -> dict[str, Any]:
    return {key: one for key, one in told.items() if key not in _OF_THE_MOMENT}


def of_the_same_keys(newer: Any, older: Any) -> Any:
    """`newer` without the keys that a later version added."""
    if isinstance(newer, dict) and isinstance(older, dict):
        return {key: of_the_same_keys(newer[key], older[key]) for key in older if key in newer}
    return newer


def arrived(bodies: dict[str, bytes]) -> Counter[tuple[str, str]]:
    """The calls that a gateway stored, by day and tool."""
    calls: Counter[tuple[str, str]] = Counter()
    for body in bodies.values():
        for event in json.loads(body)["events"]:
            if event["event"] == "tool_calls":
                calls[event["ts"][:10], event["props"]["tool"]] += event["props"]["count"]
    return calls


def machine_ids(bodies: dict[str, bytes]) -> set[str]:
    """The ids under which a gateway stored."""
    return {json.loads(body)["machine_id"] for body in bodies.values()}

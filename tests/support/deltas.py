"""Deltas written by hand from docs/spool.md, so that no test of the reader trusts the stub."""

from __future__ import annotations

import json
import os
from itertools import count, cycle
from pathlib import Path
from typing import Any

from support.clock import NOON, TODAY

_numbers = count(1)
# As our stubs write, with spaces, and in another order: a reader takes them different ways.
_styles = cycle(
    (
        lambda whole: json.dumps(whole, separators=(",", ":")).encode(),
        lambda whole: json.dumps(whole).encode(),
        lambda whole: json.dumps(dict(reversed(whole.items())), separators=(",", ":")).encode(),
    )
)


def delta(product: str = "tallyd-demo", **changes: Any) -> dict[str, Any]:
    """A good delta of one call of tool `search`; `changes` replace top-level keys, None removes one."""
    whole = {
        "v": 1,
        "product": product,
        "writer": {"epoch": "0123456789abcdef", "seq": 0, "lang": "hand", "version": "1"},
        "envelope": {"host_version": "1.0.0", "os": "linux", "runtime": "python", "ci": False},
        "day": TODAY,
        "counts": [tool_calls()],
        "events": [],
        **changes,
    }
    return {key: value for key, value in whole.items() if value is not None}


def tool_calls(tool: str = "search", count: int = 1, errors: int = 0) -> list[Any]:
    """One entry of `counts` in the demo's contract."""
    return ["tool_calls", {"tool": tool}, {"count": count, "error_count": errors}]


def name_of(at: float = NOON, seq: int | None = None) -> str:
    """A new name in the spool format, dropped at `at` (Unix s)."""
    number = next(_numbers) if seq is None else seq
    return f"{int(at * 1000):013d}-{os.getpid()}-{number}-{number:016x}.json"


def drop(
    state: Path,
    content: dict[str, Any] | bytes | None = None,
    *,
    product: str = "tallyd-demo",
    name: str | None = None,
    at: float = NOON,
) -> Path:
    """Drop a delta as docs/spool.md says: write in tmp/, rename into new/. Returns where it lies."""
    spool = state / "spool" / product
    for part in ("tmp", "new"):
        (spool / part).mkdir(parents=True, exist_ok=True, mode=0o700)
    name = name or name_of(at)
    whole = delta(product) if content is None else content
    text = whole if isinstance(whole, bytes) else next(_styles)(whole)
    (spool / "tmp" / name).write_bytes(text)
    return (spool / "tmp" / name).rename(spool / "new" / name)

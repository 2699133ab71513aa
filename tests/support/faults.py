"""A real daemon in trouble: how it is set up, and what it says of itself."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from support.deltas import delta, drop, tool_calls
from support.processes import DEMO_CONTRACT, show, status, tallyd

# A second product, with the demo's contract but for its name.
OTHER = "other"


def set_up(home: Path, *, rescan_s: int = 1, watch: bool = True, other: bool = False) -> None:
    """Settings and the demo's contract; with `other` a second product beside it."""
    (home / "config").mkdir()
    (home / "config" / "config.toml").write_text(
        f"[daemon]\nrescan_interval_s = {rescan_s}\nwatch = {str(watch).lower()}\n"
    )
    tallyd(home, "contract", "add", str(DEMO_CONTRACT))
    if other:
        text = DEMO_CONTRACT.read_text().replace('name = "tallyd-demo"', f'name = "{OTHER}"')
        (home / "other.toml").write_text(text)
        tallyd(home, "contract", "add", str(home / "other.toml"))


def today() -> str:
    """The present UTC day."""
    return time.strftime("%Y-%m-%d", time.gmtime())


def delta_of(product: str = "tallyd-demo", count: int = 1, tool: str = "search") -> dict[str, Any]:
    """A good delta of today."""
    return delta(product, day=today(), counts=[tool_calls(tool, count=count)])


def drop_now(home: Path, product: str = "tallyd-demo", *, count: int = 1) -> Path:
    """Drop a good delta, now."""
    return drop(home / "state", delta_of(product, count), product=product, at=time.time())


def problems(home: Path) -> dict[tuple[str, str], str]:
    """What `tallyd status` says is wrong now: (duty, product) to the reason."""
    found = status(home)["daemon"]["problems"]
    return {(one["duty"], one["product"]): one["why"] for one in found}


def counted(home: Path, *products: str) -> dict[str, int]:
    """The calls counted so far, by product."""
    return {
        one: sum(row["measures"]["count"] for row in show(home, one))
        for one in products or ("tallyd-demo",)
    }


def inotify_watches(pid: int) -> int:
    """How many directories a process watches, by the kernel's word; the largest of its watchers."""
    found = [0]
    for name in os.listdir(f"/proc/{pid}/fdinfo"):
        try:
            found.append(Path(f"/proc/{pid}/fdinfo/{name}").read_text().count("inotify wd:"))
        except OSError:
            continue
    return max(found)

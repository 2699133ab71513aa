"""What the doctor says: in this process of a scene that a test has set, or by the real command."""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tallyd.doctor import Finding, walk
from tallyd.paths import Paths
from tallyd.product import Surroundings
from tallyd.registry import Registry

from support.processes import DEMO_CONTRACT, environ_of, run

Said = list[tuple[str, str, str]]


def looked(home: Path, *, at: float | None = None, **environ: str) -> list[Finding]:
    """Every finding of a walk in this process, without the way to a gateway."""
    named = {"TALLYD_HOME": str(home), "HOME": str(home), **environ}
    paths = Paths.locate(named)
    around = Surroundings(paths, Registry(paths), named)
    return walk(around, time.time() if at is None else at, lambda _: None)


def of(findings: Iterable[Finding], check: str) -> Said:
    """(level, what, fix) of each finding of one check."""
    return [(one.level.value, one.what, one.fix) for one in findings if one.check == check]


def wrong(findings: Iterable[Finding]) -> Said:
    """(check, what, fix) of everything that is to be mended."""
    return [(one.check, one.what, one.fix) for one in findings if one.level.is_to_mend]


def doctor(home: Path, *arguments: str, **more: str) -> tuple[int, list[Finding]]:
    """The exit code and the findings of `tallyd doctor --json`."""
    done = run(
        *("tallyd", "doctor", "--json", *arguments), environ=environ_of(home, **more), check=False
    )
    assert "Traceback" not in done.stderr, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    from tallyd.doctor import Level

    found = [Finding(**{**one, "level": Level(one["level"])}) for one in told["findings"]]
    assert (told["schema_version"], told["problems"]) == (1, len(wrong(found)))
    return done.returncode, found


def register(home: Path, name: str = "tallyd-demo", url: str = "") -> Path:
    """A contract as a file that is registered, by no command: the demo's under this name, to this place."""
    text = DEMO_CONTRACT.read_text().replace('name = "tallyd-demo"', f'name = "{name}"')
    if url:
        text = text.replace("http://127.0.0.1:8787/v1/events", url)
    file = home / "config" / "contracts" / f"{name}.toml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def tree(place: Path) -> dict[str, tuple[object, ...]]:
    """Everything below a place: mode, size, instants and content; what a change of any kind shows in."""
    found: dict[str, tuple[object, ...]] = {}
    for below, directories, files in os.walk(place):
        for name in (*directories, *files):
            path = os.path.join(below, name)
            about = os.lstat(path)
            is_file = stat.S_ISREG(about.st_mode)
            content = Path(path).read_bytes() if is_file else b""
            found[path] = (about.st_mode, about.st_size, about.st_mtime_ns, about.st_ino, content)
    return found

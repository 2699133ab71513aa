"""Hosts that start the daemon, the daemons that they started, and whatever is left of either."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tallyd import lock
from tallyd.paths import Paths

from support.hosts import run_host, start_host
from support.processes import ROOT, show, wait_for

PROGRAM = Path(sys.executable).with_name("tallyd")
# In place of the host's first client, which counts nothing.
_WITH = """\
client = Client("tallyd-demo", "1.0.0", contract=contract, autostart={autostart!r})
search = client.counter("tool_calls", tool="search")
"""


def starting(code: str = "search()", autostart: Any = True) -> str:
    """The code of a host that may start the daemon."""
    if isinstance(autostart, Path):
        autostart = str(autostart)
    return _WITH.format(autostart=autostart) + code


def run_starting(
    home: Path, code: str = "search()", *flags: str, autostart: Any = True, **how: Any
) -> subprocess.CompletedProcess[str]:
    """Run a host that may start the daemon, to its end; it says nothing but the notice."""
    done = run_host(home, starting(code, autostart), *flags, **how)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return done


def start_starting(
    home: Path, code: str, autostart: Any = True, **how: Any
) -> subprocess.Popen[str]:
    """Start a host that may start the daemon."""
    return start_host(home, starting(code, autostart), **how)


@contextmanager
def on_demand(home: Path, idle_s: int = 2) -> Iterator[Path]:
    """A home whose daemons leave after `idle_s`; on leaving nothing of it runs any more."""
    (home / "config").mkdir()
    set_idle(home, idle_s)
    try:
        yield home
    finally:
        for pid in processes_of(home):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def set_idle(home: Path, idle_s: int) -> None:
    """From the next start, or SIGHUP, on."""
    text = f"[daemon]\nidle_exit_s = {idle_s}\nrescan_interval_s = 1\n"
    (home / "config" / "config.toml").write_text(text)


def processes_of(home: Path) -> dict[int, str]:
    """The command line of each daemon whose TALLYD_HOME this is, and of each shell that starts one."""
    wanted = b"TALLYD_HOME=" + os.fsencode(home)
    found = {}
    for one in Path("/proc").iterdir():
        if one.name.isdigit():
            with suppress(OSError):
                if wanted in (one / "environ").read_bytes().split(b"\0"):
                    command = (one / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                    if "--on-demand" in command:
                        found[int(one.name)] = command.strip()
    return found


def daemons_of(home: Path) -> set[int]:
    """Those of them that are daemons by now, and not the shells that start one."""
    return {pid for pid, command in processes_of(home).items() if "umask" not in command}


def holder(home: Path) -> lock.Holder | None:
    """Who holds the daemon's lock."""
    return lock.current_holder(Paths.locate({"TALLYD_HOME": str(home)}))


def wait_for_daemon(home: Path) -> int:
    """Wait until a daemon holds the lock and has settled, so that the claim is gone; its process id."""
    state = home / "state"
    wait_for(
        lambda: (
            holder(home) is not None
            and not (state / "starting").exists()
            and (state / "program.json").exists()
        )
    )
    found = holder(home)
    assert found is not None
    return found.pid


def wait_until_gone(home: Path) -> None:
    """Wait until nothing of this home runs. One that was killed lets go of its lock last of all."""
    wait_for(lambda: not processes_of(home) and holder(home) is None)


def counted(home: Path, product: str = "tallyd-demo") -> int:
    """What was merged, in all."""
    return sum(row["measures"]["count"] for row in show(home, product))


def runs(home: Path) -> list[tuple[str, str]]:
    """(version, reason) of each run of a daemon, oldest first; the reason's number, 0 without one."""
    with sqlite3.connect(f"file:{home}/state/tallyd.db?mode=ro", uri=True) as sql:
        found = sql.execute("SELECT version, reason FROM run ORDER BY id").fetchall()
    sql.close()
    return [(version, reason or 0) for version, reason in found]


def waiting(home: Path, product: str = "tallyd-demo") -> int:
    """How many files wait in the spool."""
    try:
        return len(os.listdir(home / "state" / "spool" / product / "new"))
    except FileNotFoundError:
        return 0


def log_of(home: Path) -> str:
    """What the daemons logged."""
    return (home / "state" / "daemon.log").read_text()


def script(file: Path, text: str) -> Path:
    """A program of one's own in the place of `tallyd`."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    file.chmod(0o755)
    return file


def installed(place: Path, version: str) -> Path:
    """An environment of its own in which this tallyd is installed as `version`; its Python."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(place)], check=True)
    python = place / "bin" / "python"
    site = place / "lib" / f"python3.{sys.version_info[1]}" / "site-packages"
    shutil.copytree(
        ROOT / "daemon" / "tallyd", site / "tallyd", ignore=shutil.ignore_patterns("__pycache__")
    )
    package = site / "tallyd" / "__init__.py"
    text = package.read_text()
    from tallyd import __version__

    assert text.count(f'"{__version__}"') == 1
    package.write_text(text.replace(f'"{__version__}"', f'"{version}"'))
    # What it needs is where this test has it.
    libraries = [one for one in sys.path if one.endswith("site-packages")]
    (site / "libraries.pth").write_text("\n".join(libraries) + "\n")
    about = site / f"tallyd-{version}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: tallyd\nVersion: {version}\n")
    script(place / "bin" / "tallyd", f"#!{python}\nfrom tallyd.cli import main\nmain()\n")
    return python


def asked(home: Path) -> dict[str, Any]:
    """What `state/handover` says."""
    said: dict[str, Any] = json.loads((home / "state" / "handover").read_text())
    return said

"""A live systemd user manager for a test: real units, real restarts, in namespaces of its own.

The manager runs as an ordinary user where this machine lets it: then the mount sandbox of a unit is
what a user would get. Everything in it ends with the test.
"""

from __future__ import annotations

import json
import os
import pwd
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from support.processes import ROOT, wait_for
from support.tools import need

_SCRIPT = ROOT / "tests" / "support" / "with-user-manager"
_INSIDE = ROOT / "tests" / "support" / "inside_manager.py"
# A number that no account of this machine has, and one of people's: from 60,000 on the journal keeps no file for it.
_UID = 59_500
# A drop-in of the user's own, which keeps a test from waiting for what is slow on purpose.
QUICK = "[Service]\nRestartSec=200ms\nStandardError=append:%h/log\n"


class Manager:
    """What can be asked of it: commands in its namespaces, the user's home, the unit's properties."""

    def __init__(self, process: subprocess.Popen[str], home: Path, uid: int) -> None:
        self._process = process
        self.home = home
        self.uid = uid
        self.environ: dict[str, str] = {}

    @property
    def units(self) -> Path:
        return self.home / ".config" / "systemd" / "user"

    @property
    def state(self) -> Path:
        return self.home / ".local" / "state" / "tallyd"

    @property
    def log(self) -> str:
        file = self.home / "log"
        return file.read_text() if file.exists() else ""

    def ask(self, *command: str, background: bool = False, **environ: str) -> tuple[int, str, str]:
        """Run a command there; (exit code, stdout, stderr)."""
        asked = {
            "command": [str(one) for one in command],
            "environ": {**self.environ, **environ},
            "background": background,
        }
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        said = json.loads(self._process.stdout.readline())
        return said["code"], said["out"], said["err"]

    def run(self, *command: str, **environ: str) -> str:
        """What a command that goes well prints."""
        code, out, err = self.ask(*command, **environ)
        assert code == 0, out + err
        return out

    def tallyd(self, *arguments: str, **environ: str) -> str:
        return self.run(sys.executable, "-m", "tallyd", *arguments, **environ)

    def ask_tallyd(self, *arguments: str, **environ: str) -> tuple[int, str, str]:
        return self.ask(sys.executable, "-m", "tallyd", *arguments, **environ)

    def status(self) -> dict[str, Any]:
        said: dict[str, Any] = json.loads(self.ask_tallyd("status", "--json")[1])
        return said

    def journal(self, *arguments: str) -> list[tuple[str, str]]:
        """(priority, line) of each line of the service that the journal keeps for this user."""
        out = self.run(
            "journalctl", "--user-unit=tallyd.service", "--output=json", "--quiet", *arguments
        )
        lines = [json.loads(line) for line in out.splitlines()]
        return [(one["PRIORITY"], one["MESSAGE"]) for one in lines]

    def count_once(self, times: int = 1) -> None:
        """A short host process that counts."""
        self.run(sys.executable, "-c", host_code(times))

    def counted(self, *, flush: bool = True) -> int:
        """The sum that the daemon, or a flush, has in its buckets."""
        if flush:
            self.ask_tallyd("flush")
        rows = json.loads(self.tallyd("show", "tallyd-demo", "--json"))
        return sum(row["measures"].get("count", 0) for row in rows if row["event"] == "tool_calls")

    def shown(self, *properties: str, unit: str = "tallyd.service") -> dict[str, str]:
        wanted = f"--property={','.join(properties)}"
        out = self.run("systemctl", "--user", "show", wanted, unit)
        return dict(line.split("=", 1) for line in out.splitlines())

    def pid(self) -> str:
        return self.shown("MainPID")["MainPID"]

    def wait_until(self, unit: str = "tallyd.service", **properties: str) -> None:
        """Wait until a unit's properties are these."""
        wait_for(lambda: self.shown(*properties, unit=unit) == properties)

    def drop_in(self, text: str, unit: str = "tallyd.service") -> None:
        directory = self.units / f"{unit}.d"
        directory.mkdir(parents=True, exist_ok=True)
        (directory / f"{len(list(directory.iterdir()))}.conf").write_text(text)
        for one in (directory, *directory.iterdir(), *directory.parents):
            if one.is_relative_to(self.home):
                os.chown(one, self.uid, self.uid)
        self.run("systemctl", "--user", "daemon-reload")

    def write(self, path: str, text: str) -> Path:
        """A file of the user's below the home."""
        file = self.home / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        for one in (file, *file.parents):
            if one.is_relative_to(self.home):
                os.chown(one, self.uid, self.uid)
        return file


def host_code(times: int, *, autostart: bool = False) -> str:
    """A host of the demo's contract that counts `times` calls and ends; it may start a daemon."""
    contract = str(ROOT / "contracts" / "tallyd-demo.toml")
    return (
        "from tallyd_client import Client\n"
        f"client = Client('tallyd-demo', '1', contract={contract!r}, autostart={autostart})\n"
        "count = client.rollup('tool_calls', 'tool', 'client_name')\n"
        f"for _ in range({times}): count('search', 'test')\n"
    )


@contextmanager
def user_manager(*, as_root: bool = False) -> Iterator[Manager]:
    """A manager with an empty home; skipped, with the reason, where none can be had, and failing in CI."""
    for program in ("unshare", "setpriv", "systemctl", "systemd-run", "dbus-daemon"):
        need(program)
    uid = 0 if as_root else _ordinary_uid()
    # Where homes are, and not below /tmp: a unit has a /tmp of its own.
    home = Path(tempfile.mkdtemp(prefix="tallyd-test-", dir="/home"))
    os.chown(home, uid, uid)
    environ = {key: value for key, value in os.environ.items() if not _is_cleared(key)}
    environ |= {"MANAGER_HOME": str(home), "MANAGER_UID": str(uid)}
    # `make test-release`: another system's root, with another systemd in it, or another manager alone.
    other = os.environ.get("TALLYD_MANAGER_ROOT", "")
    environ |= {"MANAGER_OF": os.environ.get("TALLYD_MANAGER_OF", "")}
    if other:
        environ |= {"MANAGER_ROOT": other, "MANAGER_SEES": ":".join([*_needed(), str(home)])}
    elif uid:
        environ |= {"MANAGER_SEES": ":".join(_hidden())}
    # Nothing of the manager may hold our pipes when a test dies.
    process = subprocess.Popen(
        [str(_SCRIPT), sys.executable, str(_INSIDE)],
        env=environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    manager = Manager(process, home, uid)
    try:
        try:
            manager.run("true")
        except (OSError, ValueError):
            process.kill()
            why = (process.communicate()[1] or "it ended").strip()
            if os.environ.get("TALLYD_CI"):
                pytest.fail(f"no user manager: {why}")
            pytest.skip(f"no user manager here: {why}")
        yield manager
    finally:
        if process.stdin is not None:
            process.stdin.close()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
        shutil.rmtree(home, ignore_errors=True)


def _is_cleared(name: str) -> bool:
    """What the shell that runs the tests says about tallyd, its directories and this terminal."""
    return bool(re.match(r"DO_NOT_TRACK$|CI$|TALLYD_(?!CI)|CODEGRAPH_|XDG_|DBUS_", name))


def _ordinary_uid() -> int:
    try:
        pwd.getpwuid(_UID)
    except KeyError:
        return _UID
    return 0


def _hidden() -> list[str]:
    """The directories that we run from and that lie where only root may enter."""
    return [
        place
        for place in _needed()
        if not all(one.stat().st_mode & 0o001 for one in (Path(place), *Path(place).parents))
    ]


def _needed() -> list[str]:
    """The directories that we run from; of one inside another the outer one alone."""
    found: list[str] = []
    for place in sorted({os.path.realpath(sys.base_prefix), str(ROOT), sys.prefix}):
        if not any(place.startswith(f"{one}/") for one in found):
            found.append(place)
    return found

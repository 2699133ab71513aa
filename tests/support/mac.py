"""A user's Mac as far as tallyd sees it: a home, and a `launchctl` that behaves as launchd's does.

The processes are real, the launchd is not (`fake_launchctl` says what it does).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from support.processes import environ_of

_FAKE = Path(__file__).with_name("fake_launchctl.py")
LABEL = "dev.tallyd.daemon"
GUI, USER = f"gui/{os.getuid()}", f"user/{os.getuid()}"


class Mac:
    """`home` is the user's, `launchd` where the fake keeps its jobs."""

    def __init__(self, root: Path, name: str) -> None:
        self.home = root / name
        self.launchd = root / "launchd"
        self.agent = self.home / "Library" / "LaunchAgents" / f"{LABEL}.plist"
        self.log = self.home / "Library" / "Logs" / "tallyd.log"
        self.log.parent.mkdir(parents=True)
        self.launchd.mkdir()
        programs = root / "bin"
        programs.mkdir()
        fake = programs / "launchctl"
        fake.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "{_FAKE}" "$@"\n')
        fake.chmod(0o755)
        self.environ = environ_of(
            self.home,
            PATH=f"{programs}{os.pathsep}{os.environ['PATH']}",
            FAKE_LAUNCHD=str(self.launchd),
            TALLYD_SERVICE_MANAGER="launchd",
        )
        for one in ("TALLYD_HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME"):
            self.environ.pop(one, None)

    def tallyd(self, *words: str, **more: str) -> tuple[int, str, str]:
        """The exit code of a command, and what it said on stdout and stderr."""
        done = subprocess.run(
            [sys.executable, "-m", "tallyd", *words],
            env={**self.environ, **more},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        return done.returncode, done.stdout, done.stderr

    def service(self, *words: str, **more: str) -> tuple[int, str, str]:
        """The same of `tallyd service …`."""
        return self.tallyd("service", *words, **more)

    def launchctl(self, *words: str) -> None:
        """What somebody else does with launchctl."""
        subprocess.run(["launchctl", *words], env=self.environ, check=True)

    def acts(self) -> list[list[str]]:
        """What launchctl was asked to do since the last time, without the mere looks."""
        calls = self.launchd / "calls"
        lines = calls.read_text().splitlines() if calls.exists() else []
        calls.write_text("")
        said = [json.loads(line) for line in lines]
        return [one for one in said if one[0] not in ("print", "print-disabled")]

    def refuse(self, verb: str, code: int, text: str) -> None:
        """Let launchctl refuse a verb with this from now on."""
        (self.launchd / f"says-{verb}").write_text(f"{code} {text}")

    def set(self, name: str, content: str = "") -> None:
        """Give the fake one of its settings."""
        (self.launchd / name).write_text(content)

    def pids(self) -> list[int]:
        """The processes of the jobs that are loaded."""
        jobs = [one for one in self.launchd.glob(f"*/*/{LABEL}") if one.is_file()]
        return [pid for one in jobs if (pid := json.loads(one.read_text())["pid"])]


@contextmanager
def mac(root: Path, name: str = "you") -> Iterator[Mac]:
    """A Mac whose jobs end with the test."""
    made = Mac(root, name)
    try:
        yield made
    finally:
        for pid in made.pids():
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)

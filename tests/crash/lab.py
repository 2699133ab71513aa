"""The laboratory: homes in memory, a zygote that forks their processes, a gateway, and recovery.

`Lab.kill` is one experiment: a copy of a prepared home, a process that somebody kills there, one `tallyd
flush` two hours later, and what is wrong then.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from crash import pictures, scenarios
from crash.gateway import Gateway, listening
from crash.scenarios import Scenario
from support.processes import ROOT, STUB, environ_of

# Recovery runs two hours later, so that what is swept after one hour must be gone.
_LATER_S = "7200"
PATIENCE_S = 60.0


@dataclass
class Ended:
    """How a child ended; `code` None: it has only stopped, and `thread` is the worker that did it.

    `files` and `sql` are the steps that it had taken; the step that first removed a delta, and the one
    that first made a connection, are 0 when none did.
    """

    code: int | None
    files: int
    sql: int
    removed_at: int
    connected_at: int
    thread: int


@dataclass
class Outcome:
    """One experiment, as a line of JSON tells it."""

    injector: str
    scenario: int
    at: str
    wrong: str | None = None
    ended: int | None = None
    faults: list[str] = field(default_factory=list)
    files: int = 0
    sql: int = 0

    @property
    def is_kill(self) -> bool:
        return self.ended == -signal.SIGKILL

    def line(self) -> str:
        return json.dumps(asdict(self))


class Zygote:
    """A warm process that forks children."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "crash.zygote"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=program_environ(),
        )
        self._answer()

    def fork(self, do: str, environ: dict[str, str], **how: Any) -> int:
        """The process id of a new child."""
        return int(self._ask({"do": do, "environ": environ, **how})["pid"])

    def wait(self, pid: int) -> Ended:
        """Wait until it stops or ends."""
        return Ended(**self._ask({"wait": pid}))

    def close(self) -> None:
        self._process.communicate()

    def _ask(self, order: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        said: dict[str, Any] = json.loads(self._process.stdout.readline())
        return said


def program_environ() -> dict[str, str]:
    """The environment of a program of this folder."""
    path = os.pathsep.join((str(ROOT / "tests"), str(STUB), os.environ.get("PYTHONPATH", "")))
    return {**os.environ, "PYTHONPATH": path.rstrip(os.pathsep)}


class Lab:
    """Homes, their processes and their gateway; made by `laboratory`."""

    def __init__(self, root: Path, zygote: Zygote, gateway: Gateway) -> None:
        self.root, self.zygote, self.gateway = root, zygote, gateway
        self._numbers = count(1)

    def environ(self, home: Path, **more: str) -> dict[str, str]:
        url = self.gateway.url_of(home.name)
        return environ_of(home, TALLYD_DEMO_ENDPOINT=url, **more)

    def scenario(self, seed: int, features: tuple[str, ...] | None = None) -> Scenario:
        """A prepared home; the same seed makes the same one."""
        home = self._new_home()
        home.mkdir()

        def flush(where: Path, answers: tuple[str, ...]) -> None:
            self.gateway.homes[where.name].answers = answers
            self.flush(where)
            del self.gateway.homes[where.name]

        drawn = scenarios.draw(seed, home, flush, features)
        drawn.wanted.leftovers.clear()
        return drawn

    def flush(self, home: Path, wrong: str | None = None, **more: str) -> int | None:
        """A `tallyd flush` to its end."""
        environ = self.environ(home, **more)
        return self.zygote.wait(self.zygote.fork("flush", environ, wrong=wrong)).code

    def kill(
        self, outcome: Outcome, scenario: Scenario, killed: Callable[[Path], Ended]
    ) -> Outcome:
        """Let `killed` run a process in a copy of the scenario's home, recover, and compare."""
        with self.copy(scenario) as home:
            ended = killed(home)
            outcome.ended, outcome.files, outcome.sql = ended.code, ended.files, ended.sql
            outcome.faults = self.after(home, scenario, ended, outcome.wrong)
        return outcome

    @contextmanager
    def copy(self, scenario: Scenario) -> Iterator[Path]:
        """A home like the scenario's, for once."""
        home = self._new_home()
        shutil.copytree(scenario.home, home)
        self.gateway.homes[home.name].answers = scenario.answers
        try:
            yield home
        finally:
            shutil.rmtree(home)
            del self.gateway.homes[home.name]

    def after(
        self, home: Path, scenario: Scenario, ended: Ended, wrong: str | None = None
    ) -> list[str]:
        """Recover once, and what is wrong then. Who does it wrong does so the second time, too."""
        faults = []
        if ended.code not in (0, -signal.SIGKILL):
            faults.append(f"ended: by {ended.code}: {_log_of(home)}")
        again = self.flush(home, wrong, TALLYD_CLOCK_AHEAD=_LATER_S)
        if again != 0:
            faults.append(f"ended: the recovery by {again}: {_log_of(home)}")
        seen = pictures.take(home, self.gateway.homes[home.name])
        return faults + pictures.compare(seen, scenario.wanted)

    def remove(self, scenario: Scenario) -> None:
        shutil.rmtree(scenario.home)

    def _new_home(self) -> Path:
        return self.root / f"h{next(self._numbers)}"


def _log_of(home: Path) -> str:
    with suppress(OSError):
        return (home / "log").read_text()[-2000:]
    return ""


@contextmanager
def laboratory() -> Iterator[Lab]:
    """A laboratory below /dev/shm where that is, so that no kill waits for a disk."""
    where = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="tallyd-crash-", dir=where) as root, listening() as far:
        zygote = Zygote()
        try:
            yield Lab(Path(root), zygote, far)
        finally:
            zygote.close()


def ask_and_wait(home: Path, pid: int) -> None:
    """Wait until a daemon has answered the flush that was asked for, or is dead; then tell it to stop."""
    descriptor = os.pidfd_open(pid)
    try:
        deadline = time.monotonic() + PATIENCE_S
        answer = home / "state" / "flush" / f"{REQUEST}.answer"
        while not answer.exists():
            assert time.monotonic() < deadline, "the daemon did not answer"
            if _is_over(descriptor, 3):
                return
        for file in (answer, answer.with_suffix("")):
            file.unlink(missing_ok=True)
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(descriptor, signal.SIGTERM)
        assert _is_over(descriptor, PATIENCE_S * 1000), "the daemon did not stop"
    finally:
        os.close(descriptor)


REQUEST = "00000000-0000-4000-8000-000000000000"


def ask(home: Path) -> None:
    """What `tallyd flush` leaves for a running daemon: a request, which it answers at once at its start."""
    request = home / "state" / "flush" / REQUEST
    request.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    request.write_bytes(b"[]")


def _is_over(descriptor: int, patience_ms: float) -> bool:
    import select

    watcher = select.poll()
    watcher.register(descriptor, select.POLLIN)
    return bool(watcher.poll(patience_ms))

"""Kills from outside: strace lets the n-th call of one system call of one thread be the last.

First an uninjected trace of one thread tells which calls it makes and how often; then each (thread, call,
n) is one kill. strace counts calls per thread, so it takes hold of one thread only, right where that
thread begins its work: the main one (lock, database, sockets, the event loop) or the first worker (every
read, merge, seal, verdict and removal). What it injects takes effect at the entry of the call, which
is then not made. With both threads swept, every call of either has been the last one.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from crash.lab import Ended, Lab, Outcome, ask, ask_and_wait
from crash.scenarios import Scenario

# All that change a disk, a socket or the event loop, and those that read them. Calls that only look
# (stat, lseek, getsockopt) or map memory change nothing that a restart could see: a kill before one of
# them is a kill before the next of these. A name with "?" need not exist on this machine.
CALLS = (
    *(
        "?open",
        "openat",
        "?openat2",
        "?creat",
        "close",
        "read",
        "?readv",
        "pread64",
        "write",
        "?writev",
    ),
    *("pwrite64", "?pwritev", "fsync", "fdatasync", "?sync_file_range", "ftruncate", "?fallocate"),
    *("?rename", "?renameat", "?renameat2", "?unlink", "unlinkat", "?mkdir", "mkdirat", "?rmdir"),
    *("?link", "linkat", "?symlink", "?chmod", "fchmod", "fchmodat", "utimensat", "fcntl", "flock"),
    *("getdents64", "socket", "connect", "sendto", "sendmsg", "recvfrom", "recvmsg", "shutdown"),
    *("?epoll_wait", "epoll_pwait", "epoll_ctl", "?poll", "ppoll"),
)
THREADS = ("main", "worker")
_CALL = re.compile(r"^(?:\d+ +)?(\w+)\(")


def kills(
    lab: Lab,
    scenario: Scenario,
    mode: str,
    *,
    every: int = 1,
    wrong: str | None = None,
    only: tuple[str, ...] = CALLS,
) -> Iterator[Outcome]:
    """Each `every`-th of all (thread, call, n) of a flush or a run; of some calls `only`."""
    for thread, call, number in points(lab, scenario, mode, wrong, only)[::every]:
        yield lab.kill(
            Outcome(f"outside {mode}", scenario.seed, f"{thread} {call} {number}", wrong),
            scenario,
            lambda home, at=(thread, call, number): run_to(lab, home, mode, at, wrong),  # type: ignore[misc]
        )


def points(
    lab: Lab, scenario: Scenario, mode: str, wrong: str | None, only: tuple[str, ...] = CALLS
) -> list[tuple[str, str, int]]:
    """Every (thread, call, n) of one undisturbed run."""
    found = []
    for thread in THREADS:
        for call, times in traced(lab, scenario, mode, thread, wrong).items():
            if only is CALLS or call in only:
                found += [(thread, call, number) for number in range(1, times + 1)]
    return found


def traced(
    lab: Lab,
    scenario: Scenario,
    mode: str,
    thread: str,
    wrong: str | None = None,
    *,
    cap: bool = False,
) -> Counter[str]:
    """How often one thread makes each call, in an undisturbed run."""
    with lab.copy(scenario) as home:
        log = home / "trace"
        ended = _traced_run(lab, home, mode, thread, wrong, "-o", str(log), cap=cap)
        assert ended.code == 0, (home / "log").read_text()
        return Counter(
            match[1] for line in log.read_text().splitlines() if (match := _CALL.match(line))
        )


def run_to(
    lab: Lab,
    home: Path,
    mode: str,
    at: tuple[str, str, int],
    wrong: str | None,
    *,
    cap: bool = False,
) -> Ended:
    """Run it until that thread makes that call for the n-th time."""
    thread, call, number = at
    inject = f"inject={call}:signal=KILL:when={number}"
    where = ("-o", os.devnull, "-e", inject)
    return _traced_run(lab, home, mode, thread, wrong, *where, calls=(call,), cap=cap)


def _traced_run(
    lab: Lab,
    home: Path,
    mode: str,
    thread: str,
    wrong: str | None,
    *how: str,
    calls: tuple[str, ...] = CALLS,
    cap: bool = False,
) -> Ended:
    if mode == "run":
        ask(home)
    pid = lab.zygote.fork(mode, lab.environ(home), stop=thread, wrong=wrong, cap=cap)
    stopped = lab.zygote.wait(pid)
    if stopped.code is not None:
        return stopped
    with held(stopped.thread or pid, *how, "-e", f"trace={','.join(calls)}"):
        os.kill(pid, signal.SIGCONT)
        if mode == "run":
            ask_and_wait(home, pid)
        return lab.zygote.wait(pid)


@contextmanager
def held(thread: int, *how: str) -> Iterator[None]:
    """Strace has hold of this one thread while inside; it lets go when the thread is gone."""
    tracer = subprocess.Popen(
        ["strace", "-p", str(thread), *how], stderr=subprocess.PIPE, stdin=subprocess.DEVNULL
    )
    assert tracer.stderr is not None
    try:
        said = tracer.stderr.readline()
        assert b"attached" in said, said + tracer.stderr.read()
        yield
        tracer.wait(60)
    finally:
        if tracer.poll() is None:
            tracer.kill()
        tracer.communicate()

"""A warm process that forks one child for every kill: `python -m crash.zygote`.

A kill needs a fresh process, and an interpreter with tallyd, httpx and a TLS context loaded takes
half a second. So this one loads them once and then obeys JSON lines on stdin, answered on stdout:

    {"do": "flush" | "run" | "drop", "environ": …, "at": n, "wrong": …, "stop": …}  →  {"pid": …}
    {"wait": pid}  →  {"code": null when it has only stopped, "files": n, "sql": n, … (see `Ended` in `lab`)}

The child is what the command line would be: `tallyd flush`, `tallyd run`, or a host that drops. With
`at` it kills itself before its n-th step (see `steps`). With `stop` ("main" or "worker") it stops
itself where that thread begins its work, so that strace can take hold of it. `wrong` names a
deliberately wrong ordering (see `wrong`). Children die with this process.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import mmap
import os
import signal
import struct
import sys
from typing import Any

from crash import hosts, steps, wrong

_PR_SET_PDEATHSIG = 1
# What the stations import when they need it.
_LOADED = (
    *("anyio._backends._asyncio", "httpx", "httpcore", "h11", "certifi", "encodings.idna"),
    *("encodings.utf_8_sig", "importlib.resources", "importlib.resources._legacy", "stringprep"),
    *(
        "tallyd.cli.here",
        "tallyd.cli.look",
        "tallyd.cli.run",
        "tallyd.clock",
        "tallyd.contract.diff",
    ),
    *("tallyd.contract.intersect", "tallyd.registry", "tallyd.render", "tallyd.requests"),
    *("tallyd.service", "tallyd.settings", "tallyd.wakeups"),
    *("tallyd_client._drain", "tallyd_client._introduce", "tallyd_client._rare"),
)
_NAMES = ("files", "sql", "removed_at", "connected_at", "thread")
_COUNTS = struct.Struct("@qqqqq")


def _warm() -> None:
    """Load what a flush, a run and a drop would load, and nothing of a home."""
    for module in _LOADED:
        importlib.import_module(module)
    from tallyd import transport

    transport._load()
    hosts.contract()
    # What is loaded stays, and no child goes through it again.
    gc.freeze()


def _be_child(order: dict[str, Any], shared: mmap.mmap) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    os.environ.clear()
    os.environ.update(order["environ"])
    home = order["environ"]["TALLYD_HOME"]
    # Of its own: stdin and stdout of the zygote carry the orders.
    null = os.open(os.devnull, os.O_RDWR)
    log = os.open(os.path.join(home, "log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for old, new in ((0, null), (1, null), (2, log)):
        os.dup2(new, old)
    if order.get("wrong"):
        wrong.apply(order["wrong"], home)
    if order.get("stop") == "worker":
        _stop_in_worker(shared)

    def note(*counts: int) -> None:
        shared[: _COUNTS.size] = _COUNTS.pack(*counts, 0)

    if order.get("count"):
        steps.arm(home, order.get("at"), note)
    if order.get("stop") == "main":
        os.kill(os.getpid(), signal.SIGSTOP)
    if order["do"] == "drop":
        hosts.drop_some(order.get("cap", False))
        os._exit(0)
    from tallyd import cli

    cli.main([order["do"]])


def _stop_in_worker(shared: mmap.mmap) -> None:
    """Stop the whole process when its first worker thread begins; the database is its work."""
    import threading

    from anyio._backends._asyncio import WorkerThread

    right = WorkerThread.run
    seen: list[int] = []

    def run(self: WorkerThread) -> None:
        seen.append(threading.get_native_id())
        if len(seen) == 1:
            shared[: _COUNTS.size] = _COUNTS.pack(0, 0, 0, 0, seen[0])
            os.kill(os.getpid(), signal.SIGSTOP)
        right(self)

    WorkerThread.run = run  # type: ignore[method-assign]


def _fork(order: dict[str, Any]) -> tuple[int, mmap.mmap]:
    shared = mmap.mmap(-1, mmap.PAGESIZE)
    child = os.fork()
    if child == 0:
        try:
            _be_child(order, shared)
        except SystemExit as ended:
            os._exit(int(ended.code or 0))
        except BaseException:  # noqa: BLE001 - told in the log of the home
            sys.excepthook(*sys.exc_info())
            sys.stderr.flush()
        finally:
            os._exit(99)
    return child, shared


def main() -> None:
    _warm()
    out = os.fdopen(os.dup(1), "w")
    # What a careless import prints must not look like an answer.
    os.dup2(2, 1)
    children: dict[int, mmap.mmap] = {}
    print(json.dumps({"warm": os.getpid()}), file=out, flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        said: dict[str, Any]
        if "wait" in order:
            pid = order["wait"]
            _, how = os.waitpid(pid, os.WUNTRACED)
            counts = _COUNTS.unpack(children[pid][: _COUNTS.size])
            is_over = not os.WIFSTOPPED(how)
            said = {"code": os.waitstatus_to_exitcode(how) if is_over else None}
            said |= dict(zip(_NAMES, counts, strict=True))
            if is_over:
                children.pop(pid).close()
        else:
            child, shared = _fork(order)
            children[child] = shared
            said = {"pid": child}
        print(json.dumps(said), file=out, flush=True)


if __name__ == "__main__":
    main()

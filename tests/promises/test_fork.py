"""Forks: every count is dropped by the process that made it, once, and nobody is warned of us."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.hosts import NOTICE_BEGINS, PYTHONS, Dropped, built, dropped, python_of, run_host

pytestmark = pytest.mark.slow

each_python = pytest.mark.parametrize("version", PYTHONS)


def run_forking(home: Path, code: str, version: str) -> Dropped:
    """What a forking host drops. Nobody warns of anything, and stderr has the notice alone."""
    done = run_host(home, code, "-W", "error", python=python_of(version))
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert [one for one in done.stderr.splitlines() if not one.startswith(NOTICE_BEGINS)] == []
    return dropped(home)


@each_python
def test_a_child_drops_its_own_counts_and_not_its_parents(home: Path, version: str):
    """What the parent counted before the fork is in the child's memory too."""
    code = """
before = client.counter("tool_calls", tool="never_again")
before()
search(); search(); count("known"); count("failed", ok=False); count([])
client.event("server_started", transport="stdio")
pid = os.fork()
if pid == 0:
    search(); count("known"); count("new"); count("failed", ok=False); count([])
    client.event("server_started", transport="http")
    sys.exit(0)
assert os.waitpid(pid, 0)[1] == 0
search(); count("known")
"""
    found = run_forking(home, code, version)

    assert found == Dropped(
        {"never_again": 1, "search": 4, "known": 3, "failed": 2, "new": 1},
        {"failed": 2},
        {"server_started": 2},
        {"error": 2},
    )


@each_python
def test_a_tree_of_processes_that_drain_and_fork_adds_up(home: Path, version: str):
    code = """
for turn in range(5):
    search(); count("tool")
    if turn % 2:
        client.drain()
    pid = os.fork()
    if pid == 0:
        search(); count("tool"); count("child%d" % turn, ok=False)
        if turn % 2:
            client.drain()
        grandchild = os.fork()
        search()
        if grandchild == 0:
            os._exit(0) if turn == 4 and not client.drain() else sys.exit(0)
        assert os.waitpid(grandchild, 0)[1] == 0
        sys.exit(0)
    assert os.waitpid(pid, 0)[1] == 0
"""
    found = run_forking(home, code, version)

    assert found == Dropped(
        {"search": 20, "tool": 10, **{f"child{turn}": 1 for turn in range(5)}},
        {f"child{turn}": 1 for turn in range(5)},
    )


@each_python
def test_a_child_that_counts_first_begins_by_itself(home: Path, version: str):
    """The parent never counted: the child has to look at consent and start its own thread."""
    code = """
pid = os.fork()
if pid == 0:
    search()
    assert len(os.listdir("/proc/self/task")) == 2
    sys.exit(0)
assert os.waitpid(pid, 0)[1] == 0
assert len(os.listdir("/proc/self/task")) == 1
"""
    found = run_forking(home, code, version)

    assert Dropped({"search": 1}) == found


@each_python
def test_a_host_of_one_thread_forks_with_one_thread(home: Path, version: str):
    """Python 3.12 warns of every other, in the host's name; what one holds the child never gets.

    From 3.13 on Python looks when the fork is over and the thread is back, so there it may warn.
    """
    code = """
from_here = Client("tallyd-demo", "1.0.0", contract=contract)
search(); from_here.counter("tool_calls", tool="search")()
for turn in range(20):
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
assert seen_at_fork == [1] * 20, seen_at_fork
"""
    # What is registered first is called last before a fork.
    before = """\
import os
seen_at_fork = []
os.register_at_fork(before=lambda: seen_at_fork.append(len(os.listdir("/proc/self/task"))))
"""
    warnings = "error" if version == "3.13" else "always"
    done = run_host(home, code, "-W", warnings, python=python_of(version), before=before)

    assert (
        done.returncode,
        done.stdout,
        [one for one in done.stderr.splitlines() if not one.startswith(NOTICE_BEGINS)],
    ) == (0, "", [])
    assert Dropped({"search": 2}) == dropped(home)


@each_python
def test_parent_and_child_each_have_a_thread_after_a_fork(home: Path, version: str):
    """A bound counter tells of its first count once; a child that lives on must drain all the same."""
    code = """
search()
for turn in range(20):
    pid = os.fork()
    assert len(os.listdir("/proc/self/task")) == 2, os.listdir("/proc/self/task")
    if pid == 0:
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
"""
    found = run_forking(home, code, version)

    assert Dropped({"search": 1}) == found


@each_python
def test_a_fork_while_other_threads_count_and_drain_counts_everything_once(
    home: Path, version: str
):
    """A lock that another thread holds at the fork is held for ever in the child."""
    code = """
import threading, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # of the host's own threads
is_over = threading.Event()
def keep_counting():
    for _ in range(3000):
        search(); count("tool")
def keep_draining():
    while not is_over.is_set():
        client.drain()
threads = [threading.Thread(target=keep_counting) for _ in range(2)]
drainer = threading.Thread(target=keep_draining)
for thread in threads + [drainer]:
    thread.start()
for _ in range(10):
    pid = os.fork()
    if pid == 0:
        search(); count("tool"); client.close(); os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
for thread in threads:
    thread.join()
is_over.set()
drainer.join()
"""
    found = run_forking(home, code, version)

    assert Dropped({"search": 6010, "tool": 6010}) == found


@each_python
@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_children_of_multiprocessing_drop_what_they_counted(home: Path, version: str, method: str):
    """They end by os._exit, and what the stub told `atexit` is not done."""
    (home / "contract.py").write_text(f"CONTRACT = {built()!r}")
    (home / "worker.py").write_text(
        """
import os, sys
from tallyd_client import Client
import contract
client = Client("tallyd-demo", "1.0.0", contract=contract.CONTRACT)
search = client.counter("tool_calls", tool="search")
count = client.rollup("tool_calls", "tool")

def work(turn):
    search()
    count("tool")
    if turn == 3:
        sys.exit(0)
"""
    )
    code = f"""
import multiprocessing
sys.path.insert(0, {str(home)!r})
import worker
context = multiprocessing.get_context({method!r})
worker.search(); worker.count("tool")
children = [context.Process(target=worker.work, args=(turn,)) for turn in range(4)]
for child in children:
    child.start()
for child in children:
    child.join()
assert [child.exitcode for child in children] == [0] * 4
with context.Pool(2) as pool:
    pool.map(worker.work, [9] * 10)
    pool.close()
    pool.join()
"""
    found = run_forking(home, code, version)

    assert Dropped({"search": 15, "tool": 15}) == found

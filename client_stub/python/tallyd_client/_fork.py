"""Forks: a child counts for itself, and no thread of ours is around when a host forks.

It owns what happens to a client before, in the parent after, and in the child after a fork, and the
end of children of `multiprocessing`, which leave without what `atexit` was told. Loaded when a host
forks, never before. Nothing raises: a fork belongs to the host.
"""

import os
import sys
import time

from tallyd_client._cells import calls_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tallyd_client import Client

# How long a fork may wait for a drain that is under way, in seconds.
_PATIENCE_S = 1.0


def before(client: "Client") -> None:
    """End the thread: a forking process with threads is what Python warns its host of.

    And let no thread of the host's be inside the client: whatever it were importing just then, the
    child would wait for ever when it came to import it.
    """
    try:
        if client._has_thread:
            client._end_thread(_PATIENCE_S)
            _wait_until_gone(client._thread_id)
        client._fork_locks = [
            lock for lock in (client._draining, client._looking) if lock.acquire(True, _PATIENCE_S)
        ]
    except Exception:
        return


def in_parent(client: "Client") -> None:
    """Go on as before."""
    try:
        for lock in client._fork_locks:
            lock.release()
        client._fork_locks = []
        if client._has_thread and not client._is_closed:
            client._start_thread()
    except Exception:
        client._has_thread = False


def in_child(client: "Client") -> None:
    """Begin anew: what the parent counted is the parent's to drop."""
    try:
        had_thread = client._has_thread
        client._new_process()
        client._settle(
            [one for source in client._sources for one in source.fresh()],
            {one: calls_of(cell) - client._lost_marks[one] for one, cell in client._lost.items()},
        )
        client._events.clear()
        util = sys.modules.get("multiprocessing.util")
        if util is not None:
            # It forgets in its child what was to be done at exit, so this has to come later.
            util.register_after_fork(client, _drain_at_end)
        # A bound counter tells of its first count once in its life, and that was in the parent.
        if had_thread:
            client._begin()
    except Exception:
        client._is_closed = True


def if_child_of_multiprocessing(client: "Client") -> None:
    """See to the last drain of a process that `multiprocessing` made, of whatever kind."""
    process = sys.modules.get("multiprocessing.process")
    if process is not None and process.parent_process() is not None:
        _drain_at_end(client)


def _drain_at_end(client: "Client") -> None:
    try:
        finalize = sys.modules["multiprocessing.util"].Finalize
        finalize(None, client._at_exit, exitpriority=0)
    except Exception:
        return


def _wait_until_gone(thread_id: int) -> None:
    """Wait, a tenth of a second at most, until the system has buried a thread that ended."""
    task = "/proc/self/task/%d" % thread_id
    for _ in range(1000):
        if not os.path.exists(task):
            return
        time.sleep(0.0001)

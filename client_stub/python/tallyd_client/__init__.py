"""tallyd_client: counts in memory, drops small files, never costs its host anything.

    client = Client(contract=_telemetry.CONTRACT, version="1.4.2")
    searched = client.counter("usage", kind="cli_command", name="search")
    searched()                                         # one C call, safe in any thread
    count = client.rollup("usage", "kind", "name")
    count("mcp_tool", tool_name, ok=False)
    client.event("index", languages=["python"], file_count_bucket=1240)

What is counted is dropped into tallyd's spool every 30 s, at UTC midnight and at exit; a process
that is killed loses at most what it had not dropped. There is no network here, no fsync, no lock
shared with another process, no thread before the first count, no signal handler, nothing on stdout
ever and nothing on stderr but the product's notice, once.

Silence is the policy of this package, and of no other part of tallyd: no exception ever leaves it.
What keeps a client from counting stands in `client.problem`. Nothing here imports anything that
costs: `json`, `threading`, `pathlib` and their kind take longer than all of this.
"""

import _thread
import atexit
import os
import sys
import time
from itertools import chain

from tallyd_client import _policy
from tallyd_client._cells import FirstCount, Source, Turn, as_told, new_cell, new_lock, plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, TextIO

    from tallyd_client._cells import Moved
    from tallyd_client._drain import Drain

__version__ = "0.2.0"
__all__ = ["Client", "ask"]

# How long a count may stay in memory, in seconds: what a kill -9 costs at most.
_DRAIN_INTERVAL_S = 30.0
_DAY_S = 86400.0
# Distinct keys of one rollup in one process, and single events between two drains. Names that go
# beyond are no names any more; what is past it is counted as lost.
_MAX_KEYS = 1000
_MAX_EVENTS = 1000
# How long a drain waits for another thread's: at a call, and at exit.
_PATIENCE_S = 1.0
_EXIT_PATIENCE_S = 0.2


def ask(
    client: "Client",
    *,
    stdin: "TextIO | None" = None,
    stderr: "TextIO | None" = None,
    again: bool = False,
) -> "str | None":
    """Ask the user at a terminal, once, and store the answer; None when there is none.

    Nobody is asked who chose before (unless `again`), whom no terminal reaches, or where a variable
    or a policy file decides. The answer is "off", "on", or the way of being on.
    """
    try:
        from tallyd_client import _ask

        return _ask.ask(client, stdin or sys.stdin, stderr or sys.stderr, again)
    except (Exception, KeyboardInterrupt):
        return None


class Client:
    """Counts for one product in this process.

    `product` its name (the contract's, when left out), `version` the host's own version, `contract`
    the constants built from the product's contract, or a path to it (Python 3.11 or newer), or None
    for the one registered on this machine; `envelope` the host's own envelope fields. `identity` is
    the value that a contract derives its id from: it is hashed here and goes nowhere. `off` switches
    this process off, whatever anybody chose; `autostart`, or a program's path, starts the daemon.
    """

    def __init__(
        self,
        product: "str | None" = None,
        version: str = "",
        contract: "str | os.PathLike[str] | dict[str, Any] | None" = None,
        envelope: "dict[str, Any] | None" = None,
        *,
        identity: "str | None" = None,
        off: bool = False,
        autostart: "bool | str | os.PathLike[str]" = False,
    ) -> None:
        self.problem: "str | None" = None
        self._policy: "_policy.Policy | None" = None
        self._sources: "list[Source]" = []
        self._bound: "dict[Any, Callable[[], int]]" = {}
        self._events: "list[tuple[str, float, dict[str, Any]]]" = []
        self._lost = {"cap": new_cell(), "error": new_cell()}
        self._lost_marks = {"cap": 0, "error": 0}
        self._is_closed = False
        self._is_off = False
        self._autostart = autostart
        self._new_process()
        try:
            self._policy = _policy.Policy(product, version, contract, envelope or {}, identity, off)
            atexit.register(self._at_exit)
            if hasattr(os, "register_at_fork"):
                os.register_at_fork(
                    before=self._before_fork,
                    after_in_parent=self._after_fork_in_parent,
                    after_in_child=self._after_fork,
                )
        except Exception as error:
            self.problem = str(error) or type(error).__name__

    def counter(self, event: str, /, **dimensions: "Any") -> "Callable[[], int]":
        """A callable that adds one to `event` with exactly these dimensions. Bind it once."""
        first = FirstCount(self._begin)
        bound: "Callable[[], int]" = chain.from_iterable(first).__next__
        try:
            names, values = tuple(dimensions), plain(tuple(dimensions.values()))
            # Bound again and again, it is still one counter: a thousand calls cost one cell.
            known = self._bound.get((event, names, values))
            if known is not None:
                return known
            if len(self._bound) >= _MAX_KEYS:
                first.cell = self._lost["cap"]
                return bound
            source = Source(event, names)
            source.good[values] = first.cell
            self._bound[event, names, values] = bound
            self._sources.append(source)
        except Exception:
            # A value that cannot be a key: counted, and lost as an error of the host's.
            first.cell = self._lost["error"]
        return bound

    def rollup(self, event: str, /, *dimension_names: str) -> "Callable[..., None]":
        """A function `count(*values, ok=True)` that adds one to `event` under these dimensions.

        `ok=False` adds to the event's second measure, its errors, too.
        """
        source = Source(event, dimension_names)
        good, bad, width = source.good, source.bad, len(dimension_names)

        def count(*values: "Any", ok: bool = True) -> None:
            try:
                (good if ok else bad)[values]()
            except Exception:
                first_of_its_key(values, ok)

        def first_of_its_key(values: "tuple[Any, ...]", ok: bool) -> None:
            try:
                cells, values = good if ok else bad, plain(values)
                if len(values) != width:
                    self._lost["error"]()
                elif len(cells) >= _MAX_KEYS and values not in cells:
                    self._lost["cap"]()
                else:
                    # setdefault is atomic: two threads that are first together get one cell.
                    cells.setdefault(values, new_cell())()
                self._begin()
            except Exception:
                self._lost["error"]()

        self._sources.append(source)
        return count

    def event(self, name: str, /, **properties: "Any") -> None:
        """Tell of one event, now."""
        try:
            if len(self._events) < _MAX_EVENTS:
                told = {one: as_told(value) for one, value in properties.items()}
                self._events.append((name, time.time(), told))
            else:
                self._lost["cap"]()
            self._begin()
        except Exception:
            self._lost["error"]()

    def register(self, field: str, names: "Iterable[str]", /) -> None:
        """Tell which names of `field` the host knows; others are recorded as `_unknown`."""
        try:
            if self._policy is not None:
                self._policy.register(field, names)
        except Exception:
            return

    def project(self, path: "str | os.PathLike[str]", /) -> "str | None":
        """What stands for the project in directory `path`: a hash that this machine alone makes.

        None when consent is off, or where the contract has no such hash.
        """
        try:
            if self._policy is None or self._is_off or self._is_closed:
                return None
            with Turn(self._looking, _PATIENCE_S):
                from tallyd_client import _identity

                return _identity.project(self._policy, path)
        except OSError:
            # An id that cannot be written down would be another one each time: off for this run.
            self._is_off = True
        except Exception:
            return None
        return None

    def drain(self) -> None:
        """Drop now what was counted; the background thread does it by itself every 30 s."""
        self._drain(_PATIENCE_S)

    def close(self) -> None:
        """Drop what was counted and stop; later counts go nowhere."""
        self._drain(_PATIENCE_S)
        self._is_closed = True
        self._end_thread(_PATIENCE_S)
        self._has_thread = False

    def _new_process(self) -> None:
        """What belongs to one process: its locks, its writer's epoch, whether it began to count."""
        self._first = new_cell()
        self._is_off = False
        self._is_exiting = False
        self._has_thread = False
        # What a drain and a look at consent load, nobody else is loading at a fork.
        self._draining, self._looking = _thread.allocate_lock(), _thread.allocate_lock()
        self._fork_locks: "list[_thread.LockType]" = []
        self._wake, self._ended = new_lock(), new_lock()
        self._thread_id = 0
        self._drains: "Drain | None" = None
        self._starter: "Any" = None  # a _autostart.Starter
        self._seen: "_policy.Consent | None" = None
        self._window_began = time.time()

    def _begin(self) -> None:
        """At the first count of this process: look at consent, and start the thread if it is on."""
        if self._first() > 1 or self._is_exiting:
            return
        try:
            with Turn(self._looking, _PATIENCE_S):
                consent = self._policy.consent() if self._policy is not None else None
            if consent is None or not consent.is_on:
                # Off now is off for the life of this process: no thread, no file, no second look.
                self._is_off = True
                return
            self._seen = consent
            self._start_thread()
            if "multiprocessing.process" in sys.modules:
                from tallyd_client import _fork

                _fork.if_child_of_multiprocessing(self)
        except Exception:
            return

    def _start_thread(self) -> None:
        self._wake, self._ended = new_lock(), new_lock()
        _thread.start_new_thread(self._run, (self._wake, self._ended))
        self._has_thread = True

    def _run(self, wake: "_thread.LockType", ended: "_thread.LockType") -> None:
        try:
            self._thread_id = _thread.get_native_id()
            # What a drop needs is loaded here, beside the host and not before it.
            from tallyd_client import _drain

            _drain.prepare(self)

            # Another lock in the place of this one: another thread, or soon.
            while self._wake is wake and not self._is_closed:
                to_midnight_s = _DAY_S - time.time() % _DAY_S
                wake.acquire(True, min(_DRAIN_INTERVAL_S, to_midnight_s))
                if self._wake is wake:
                    self._drain(_PATIENCE_S)
        except Exception:
            self._has_thread = False
        finally:
            ended.release()

    def _drain(self, patience_s: float) -> None:
        try:
            if self._is_closed or self._is_off or self._policy is None:
                return
            if self._draining.acquire(True, patience_s):
                try:
                    from tallyd_client import _drain

                    _drain.drain(self, self._policy)
                finally:
                    self._draining.release()
        except Exception:
            return

    def _settle(self, moved: "list[Moved]", lost: "dict[str, int]") -> None:
        """Mark as dropped what a drain took, or as never to be dropped."""
        for source, key, calls, _ in moved:
            source.marks[key] = calls
        for cause, count in lost.items():
            self._lost_marks[cause] += count

    def _end_thread(self, patience_s: float) -> None:
        """Tell the thread to end, and wait until it did."""
        try:
            if self._has_thread:
                wake, self._wake = self._wake, new_lock()
                wake.release()
                if self._ended.acquire(True, patience_s):
                    self._ended.release()
        except Exception:
            return

    def _at_exit(self) -> None:
        self._drain(_EXIT_PATIENCE_S)
        self._is_exiting = True
        # An interpreter that takes itself apart around a thread may crash: on 3.11 two of 1,200 did.
        self._end_thread(_EXIT_PATIENCE_S)
        self._has_thread = False

    def _before_fork(self) -> None:
        # Imported here and not in the child, where another thread's import may be stuck for ever.
        from tallyd_client import _fork

        _fork.before(self)
        self._fork = _fork

    def _after_fork_in_parent(self) -> None:
        self._fork.in_parent(self)

    def _after_fork(self) -> None:
        self._fork.in_child(self)

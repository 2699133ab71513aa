"""Cells: the counters themselves, each an `itertools.count` that C code moves.

A cell's number is exact under any number of threads, with and without the GIL, and is read without
being moved. What is counted by, or told, is held so that no error of the host's stays alive with its
frames. Nothing here knows what is counted.
"""

import _thread
from itertools import count as _tally
from itertools import islice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Key = tuple[bool, tuple[Any, ...]]
    Moved = tuple["Source", Key, int, int]

# No contract lists more items than 128, but the first of what is told may be bad ones.
_MAX_ITEMS = 1000


def new_cell() -> "Callable[[], int]":
    """A callable that adds one each time it is called."""
    return _tally(1).__next__


def calls_of(cell: "Callable[[], int]") -> int:
    """How often a cell was called. Leaves it where it is."""
    # A count's text is its next number, "count(42)": the one way to read it that is atomic, does
    # not move it, and is neither deprecated (copying, pickling) nor private.
    return int(repr(cell.__self__)[6:-1]) - 1  # type: ignore[attr-defined]


class FirstCount:
    """Hands out the cell of a bound counter once, at its first count, and tells the client so.

    `chain.from_iterable` asks here when its counter is called for the first time and never again:
    from then on a count is one C call. Two threads that count first together both get the one cell.
    """

    __slots__ = ("_begin", "cell")

    def __init__(self, begin: "Callable[[], None]") -> None:
        self._begin = begin
        self.cell = new_cell()

    def __iter__(self) -> "FirstCount":
        return self

    def __next__(self) -> "Any":
        self._begin()
        return self.cell.__self__  # type: ignore[attr-defined]


class Source:
    """All cells of one counter or rollup: by whether it went well, and by its dimensions' values.

    `names` are the dimensions, `marks` how far each cell was dropped already.
    """

    __slots__ = ("bad", "event", "good", "marks", "names")

    def __init__(self, event: str, names: "tuple[str, ...]") -> None:
        self.event = event
        self.names = names
        self.good: "dict[tuple[Any, ...], Callable[[], int]]" = {}
        self.bad: "dict[tuple[Any, ...], Callable[[], int]]" = {}
        self.marks: "dict[Key, int]" = {}

    def fresh(self) -> "list[Moved]":
        """(self, key, calls ever, calls since the last drop) of every cell that moved."""
        moved = []
        for ok, cells in ((True, self.good), (False, self.bad)):
            for values, cell in list(cells.items()):
                calls = calls_of(cell)
                new = calls - self.marks.get((ok, values), 0)
                if new:
                    moved.append((self, (ok, values), calls, new))
        return moved


def new_lock() -> "_thread.LockType":
    """A lock that is taken."""
    lock = _thread.allocate_lock()
    lock.acquire()
    return lock


def plain(values: "tuple[Any, ...]") -> "tuple[Any, ...]":
    """Values to count by: of an error its class alone, so that none is kept alive."""
    return tuple([type(one) if isinstance(one, BaseException) else one for one in values])


def as_told(value: "Any") -> "Any":
    """What the host told, as it was: it may go on with its lists, and no error is kept alive."""
    if isinstance(value, BaseException):
        return type(value)
    if isinstance(value, (str, bytes, type)) or not hasattr(value, "__iter__"):
        return value
    if isinstance(value, dict):
        return dict(value)
    return [dict(one) if isinstance(one, dict) else one for one in islice(value, _MAX_ITEMS)]


class Turn:
    """Waits a while for a lock and goes on without it: a signal's handler may have found it taken.

    Whoever holds it is then below in the same thread, and would never let go.
    """

    __slots__ = ("_is_taken", "_lock", "_patience_s")

    def __init__(self, lock: "_thread.LockType", patience_s: float) -> None:
        self._lock = lock
        self._patience_s = patience_s

    def __enter__(self) -> None:
        self._is_taken = self._lock.acquire(True, self._patience_s)

    def __exit__(self, *_: object) -> None:
        if self._is_taken:
            self._lock.release()

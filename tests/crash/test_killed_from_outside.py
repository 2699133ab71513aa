"""Killed at any system call, by strace, which knows nothing of our steps: the next start makes it right.

The suite takes some of the calls that one thread makes; `make crash` takes each of either thread.
"""

from __future__ import annotations

from collections import Counter

import pytest
from crash import outside
from crash.lab import Lab
from crash.wrong import OF_THE_DAEMON
from support.tools import need

# The call at which each wrong ordering shows: of the files, of the names' commits, of the request, and
# of the connection after its answer.
_SHOWS = {
    "files_first": ("unlink",),
    "names_later": ("fdatasync",),
    "out_first": ("connect",),
    "new_id_each_time": ("close",),
}


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "every"), [("flush", 61), ("run", 131)])
def test_killed_at_any_system_call_every_count_is_merged_once(lab: Lab, mode: str, every: int):
    need("strace")
    scenario = lab.scenario(2)

    outcomes = list(outside.kills(lab, scenario, mode, every=every))

    assert [(one.at, one.faults) for one in outcomes if one.faults] == []
    # The daemon's loops share a thread, so that a few calls come once more or once less.
    ends = Counter(one.ended for one in outcomes)
    assert (ends[-9] > 10, ends.keys() <= {-9, 0}, ends[0] < 5) == (True, True, True)


@pytest.mark.slow
def test_both_threads_are_swept_and_do_what_we_think_that_they_do(lab: Lab):
    """A kill counts the calls of one thread: the worker removes and merges, the main one talks."""
    need("strace")
    scenario = lab.scenario(2)

    main, worker = (outside.traced(lab, scenario, "flush", one) for one in outside.THREADS)

    assert (main["connect"] > 0, main["flock"] > 0, worker["connect"]) == (True, True, 0)
    assert (worker["unlink"] > 5, worker["fdatasync"] > 5, worker["openat"] > 20) == (True,) * 3


@pytest.mark.slow
@pytest.mark.parametrize("wrong", OF_THE_DAEMON)
def test_strace_catches_every_wrong_ordering(lab: Lab, wrong: str):
    need("strace")
    scenario = lab.scenario(1, features=())

    assert any(
        one.faults for one in outside.kills(lab, scenario, "flush", wrong=wrong, only=_SHOWS[wrong])
    )

"""A host killed at any step of a drop: whole deltas or none, and what it had dropped is counted once."""

from __future__ import annotations

import pytest
from crash import host_kills
from crash.lab import Lab
from support.tools import need

_EVERY_INSIDE = {"new": 3, "in use": 1, "full": 8}
_EVERY_OUTSIDE = {"new": 6, "in use": 3, "full": 45}


@pytest.mark.slow
@pytest.mark.parametrize("kind", host_kills.KINDS)
def test_killed_before_any_step_a_host_leaves_whole_deltas(lab: Lab, kind: str):
    """Also where it makes every directory itself, and where it removes the oldest to keep the cap."""
    scenario = host_kills.prepare(lab, 1, kind)

    outcomes = list(host_kills.kills_inside(lab, scenario, every=_EVERY_INSIDE[kind]))

    assert [(one.at, one.faults) for one in outcomes if one.faults] == []
    assert ({one.ended for one in outcomes[:-1]}, outcomes[-1].ended) == ({-9}, 0)


@pytest.mark.slow
@pytest.mark.parametrize("kind", host_kills.KINDS)
def test_killed_at_any_system_call_a_host_leaves_whole_deltas(lab: Lab, kind: str):
    need("strace")
    scenario = host_kills.prepare(lab, 1, kind)

    outcomes = list(host_kills.kills_outside(lab, scenario, every=_EVERY_OUTSIDE[kind]))

    assert [(one.at, one.faults) for one in outcomes if one.faults] == []
    assert {one.ended for one in outcomes} == {-9}


@pytest.mark.slow
def test_both_catch_a_host_that_writes_its_file_where_it_is_read(lab: Lab):
    need("strace")
    scenario = host_kills.prepare(lab, 1, "in use")
    injectors = (host_kills.kills_inside, host_kills.kills_outside)

    caught = [
        any(one.faults for one in kills(lab, scenario, wrong="file_in_place"))
        for kills in injectors
    ]

    assert caught == [True, True]

"""`kill -9` of a real daemon at any moment, while real hosts drop: what they counted is there, once."""

from __future__ import annotations

import pytest
from crash import at_random
from crash.lab import Lab
from crash.wrong import OF_THE_DAEMON

_KILLS = 30
# A kill by the clock may miss: a wrong ordering has to be caught within so many rounds.
_ROUNDS = 12


@pytest.mark.slow
def test_what_hosts_counted_is_there_once_however_often_the_daemon_was_killed(lab: Lab):
    outcomes = list(at_random.kills(lab, 1, _KILLS))

    assert outcomes[-1].faults == []
    # One or the other had stopped by itself before its kill came? None had a reason to.
    assert {one.ended for one in outcomes} == {-9}


@pytest.mark.slow
@pytest.mark.parametrize("wrong", OF_THE_DAEMON)
def test_the_clock_catches_every_wrong_ordering(lab: Lab, wrong: str):
    rounds = (list(at_random.kills(lab, seed, _KILLS, wrong=wrong)) for seed in range(_ROUNDS))

    assert any(outcomes[-1].faults for outcomes in rounds)

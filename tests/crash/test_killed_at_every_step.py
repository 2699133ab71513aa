"""Crash-only: killed before any step of intake, seal, send and retention, the next start makes it right.

The injector inside (`inside`, `steps`). The suite takes every few steps of a few homes; `make crash` takes each of
many.
"""

from __future__ import annotations

from itertools import islice

import pytest
from crash import inside
from crash.lab import Lab, Outcome
from crash.wrong import OF_THE_DAEMON

# Between them: two products of which one is off, an outbox over its cap, rows past their age, a long
# ledger, merged files that are back, leftovers, and a gateway that is busy, silent or forgetful.
_SEEDS = (2, 3, 7)
_EVERY = 29


def picture(outcomes: list[Outcome]) -> dict[str, object]:
    """How they ended, and what was wrong."""
    return {
        "ended": {one.ended for one in outcomes},
        "faults": [(one.at, one.faults) for one in outcomes if one.faults],
    }


@pytest.mark.slow
@pytest.mark.parametrize("seed", _SEEDS)
def test_every_count_is_merged_once_and_sent_under_one_id(lab: Lab, seed: int):
    scenario = lab.scenario(seed)

    outcomes = list(inside.kills(lab, scenario, "flush", every=_EVERY, first=1 + seed))

    # Every end but the last was a kill: an ordinary exception must not pass for one.
    assert {"ended": {-9, 0}, "faults": []} == picture(outcomes)
    assert (outcomes[-1].files > 50, outcomes[-1].sql > 50) == (True, True)


@pytest.mark.slow
def test_a_daemon_that_lives_on_is_as_safe_as_a_flush(lab: Lab):
    """Its loops merge, seal and sweep side by side, and it records its own start and stop."""
    scenario = lab.scenario(2)

    outcomes = list(inside.kills(lab, scenario, "run", every=3 * _EVERY))

    assert {"ended": {-9, 0}, "faults": []} == picture(outcomes)


@pytest.mark.slow
@pytest.mark.parametrize("wrong", OF_THE_DAEMON)
def test_the_sweep_catches_every_wrong_ordering(lab: Lab, wrong: str):
    """An injector that cannot see a wrong order proves nothing about the right one."""
    scenario = lab.scenario(1, features=())
    removes, connects = inside.hand_overs(lab, scenario, wrong)
    # Shortly before the act that it does too early or too late: what comes before is as it should be.
    first = (connects if wrong in ("out_first", "new_id_each_time") else removes) - 4

    kills = inside.kills(lab, scenario, "flush", wrong=wrong, first=first)

    assert any(one.faults for one in islice(kills, 40))


@pytest.mark.slow
@pytest.mark.parametrize("wrong", OF_THE_DAEMON)
def test_a_wrong_ordering_is_right_as_long_as_nobody_kills_it(lab: Lab, wrong: str):
    """So it is the kill that tells it, and not a bug of another kind."""
    scenario = lab.scenario(1, features=())

    (outcome,) = inside.kills(lab, scenario, "flush", wrong=wrong, first=100_000)

    assert {"ended": {0}, "faults": []} == picture([outcome])

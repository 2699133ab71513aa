"""The incident that tallyd answers, replayed in small: rows are machines × distinct keys, not processes.

Real processes and a real daemon in the first, the real stub, pipeline and requests with a pretended
day in the others. The long form is `make incident`.
"""

from __future__ import annotations

import json

import pytest
from support.clock import NOON, FakeClock
from support.gateway import Gateway

from benchmarks import incident
from benchmarks.fleet import one_machine_day


@pytest.mark.slow
def test_two_hundred_processes_of_one_tool_are_one_row_in_one_post(tmp_path):
    """In the field each of them was a row of its own."""
    seen = incident.one_machine(tmp_path, 200)

    assert (seen.counted, seen.rows, seen.posts, seen.left_over) == (200, 1, 1, 0)


@pytest.mark.slow
def test_a_day_of_many_machines_is_their_keys_and_at_most_a_post_for_each_version(tmp_path):
    seen = incident.field(tmp_path, 20)

    assert (seen.sample, seen.rows) == (20, seen.keys)
    # Machines with nothing to tell send nothing; the others one post, two where they were upgraded.
    assert seen.used <= seen.posts.value <= 2 * seen.used
    assert seen.rows.value < seen.processes / 4


def test_a_total_is_scaled_up_by_strata_with_its_interval():
    """By hand: 10 × 2 + 100 × 5, and 1.96 × √(10² × 0.8 × 2 / 2 + 100² × 0.97 × 3 / 3)."""
    scaled = incident._scaled([10, 100], [[1, 3], [4, 4, 7]])
    half = 1.96 * (10**2 * 0.8 * 2 / 2 + 100**2 * 0.97 * 3 / 3) ** 0.5

    assert scaled == incident.Range(520.0, pytest.approx(520 - half), pytest.approx(520 + half))


@pytest.mark.slow
def test_the_gateway_holds_one_row_per_machine_and_key_however_many_processes_ran(tmp_path):
    """Also when every post comes twice."""
    days = []
    for seed, processes in enumerate((1, 5, 60, 300)):
        home = tmp_path / str(seed)
        home.mkdir()
        days.append(one_machine_day(home, processes=processes, seed=seed))
    with Gateway.open(
        tmp_path / "gateway.db", "codegraph", clock=FakeClock(NOON + 2 * 86400)
    ) as gateway:
        answers = {gateway.post(body).status for day in days for body in day.bodies * 2}
        stored = gateway.stored()
    machines = {json.loads(body)["machine_id"] for day in days for body in day.bodies}

    assert answers == {204}
    assert (len(machines), len(stored.rows)) == (4, sum(day.keys for day in days))
    assert sum(row["measures"]["count"] for row in stored.rows) == 366

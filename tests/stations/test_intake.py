"""Intake: what is dropped is merged once, screened, and never blocks the rest."""

from __future__ import annotations

from support.clock import TODAY
from support.deltas import delta, name_of, tool_calls
from support.pipeline import Pipeline, Tally
from tallyd.intake import IntakeCount


def test_deltas_of_many_processes_become_one_row(pipeline: Pipeline):
    for _ in range(5):
        pipeline.drop(delta(counts=[tool_calls("search", count=2, errors=1)]))

    pipeline.intake()

    (row,) = pipeline.rows()
    assert (TODAY, {"count": 10, "error_count": 5}) == (row.day, dict(row.measures))
    assert Tally(counted={"search": 10}) == pipeline.tally()


def test_a_delta_offered_twice_is_counted_once(pipeline: Pipeline):
    """The crash between commit and removal leaves a merged file in new/."""
    name = name_of()
    pipeline.drop(delta(counts=[tool_calls(count=3)]), name=name)
    pipeline.intake()
    pipeline.drop(delta(counts=[tool_calls(count=3)]), name=name)

    again = pipeline.intake()

    assert IntakeCount(known=1) == again
    assert Tally(counted={"search": 3}) == pipeline.tally()

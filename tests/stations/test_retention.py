"""Retention: what is too old or too much goes, oldest first, counted by cause."""

from __future__ import annotations

import os

import pytest
from support.clock import DAY_S, TODAY
from support.deltas import delta, tool_calls
from support.pipeline import Pipeline, Tally
from tallyd import retention
from tallyd.contract.days import shift_day


def test_buckets_older_than_the_contracts_window_go_as_lost_by_age(pipeline: Pipeline):
    pipeline.drop(delta(counts=[tool_calls(count=4)]))
    pipeline.intake()

    pipeline.clock.pass_s(30 * DAY_S)
    pipeline.keep_bounds()
    assert Tally(counted={"search": 4}) == pipeline.tally()

    pipeline.clock.pass_s(DAY_S)
    pipeline.keep_bounds()
    assert Tally(lost={"age": 4}) == pipeline.tally()


def test_a_batch_older_than_the_window_goes_and_gives_back_what_it_reported(pipeline: Pipeline):
    pipeline.drop(delta(day=shift_day(TODAY, -1), counts=[tool_calls(count=4)], lost={"cap": 2}))
    pipeline.intake()
    pipeline.seal()

    pipeline.clock.pass_s(30 * DAY_S + 1)
    pipeline.keep_bounds()

    assert Tally(lost={"age": 4, "cap": 2}) == pipeline.tally()
    unsent = pipeline.read(
        lambda sql: dict(sql.execute("SELECT cause, unsent FROM loss").fetchall())
    )
    assert unsent == {"age": 4, "cap": 2}


def test_the_oldest_batches_go_when_the_outbox_is_full(pipeline: Pipeline, monkeypatch):
    for days in (3, 2, 1):
        pipeline.drop(delta(day=shift_day(TODAY, -days), counts=[tool_calls(count=days)]))
        pipeline.intake()
        pipeline.seal()
    monkeypatch.setattr(retention, "OUTBOX_MAX_BYTES", 900)

    pipeline.keep_bounds()

    assert Tally(batches=2, lost={"cap": 3}) == pipeline.tally()


def test_the_oldest_days_go_when_there_are_too_many_buckets(pipeline: Pipeline, monkeypatch):
    for days in (3, 2, 1):
        calls = [tool_calls(f"t{number}", count=days) for number in range(5)]
        pipeline.drop(delta(day=shift_day(TODAY, -days), counts=calls))
    pipeline.intake()
    monkeypatch.setattr(retention, "BUCKETS_MAX_SUMS", 20)

    pipeline.keep_bounds()

    assert [shift_day(TODAY, -2), shift_day(TODAY, -1)] == sorted(
        {row.day for row in pipeline.rows()}
    )
    assert pipeline.tally().lost == {"cap": 15}


def test_the_oldest_events_go_when_there_are_too_many(pipeline: Pipeline, monkeypatch):
    for hour in range(5):
        pipeline.drop(
            delta(
                counts=[],
                events=[["server_started", f"{TODAY}T0{hour}:00:00.000Z", {"transport": "stdio"}]],
            )
        )
        pipeline.intake()
    monkeypatch.setattr(retention, "EVENTS_MAX_ROWS", 2)

    pipeline.keep_bounds()

    left = pipeline.read(lambda sql: sql.execute("SELECT ts FROM event ORDER BY id").fetchall())
    assert ([(f"{TODAY}T03:00:00.000Z",), (f"{TODAY}T04:00:00.000Z",)], {"cap": 3}) == (
        left,
        pipeline.tally().lost,
    )


def test_an_envelope_goes_with_its_last_bucket(pipeline: Pipeline):
    pipeline.drop()
    pipeline.intake()
    pipeline.clock.pass_s(31 * DAY_S)

    pipeline.keep_bounds()

    assert pipeline.read(lambda sql: sql.execute("SELECT * FROM envelope").fetchall()) == []


@pytest.mark.parametrize("name", ["0b5a", "0b5a.answer"])
def test_a_flush_request_that_nobody_waits_for_is_swept(pipeline: Pipeline, name):
    directory = pipeline.around.paths.flush_requests
    directory.mkdir(parents=True)
    for one, age_s in ((f"old{name}", 3700), (f"new{name}", 60)):
        (directory / one).touch()
        at = pipeline.clock.now() - age_s
        os.utime(directory / one, (at, at))

    pipeline.keep_bounds()

    assert [f"new{name}"] == os.listdir(directory)


def test_of_a_single_day_that_is_too_much_only_the_excess_goes(pipeline: Pipeline, monkeypatch):
    pipeline.drop(delta(counts=[tool_calls(f"t{number}", count=2) for number in range(10)]))
    pipeline.intake()
    monkeypatch.setattr(retention, "BUCKETS_MAX_SUMS", 15)

    pipeline.keep_bounds()

    assert (len(pipeline.rows()), pipeline.tally().lost) == (7, {"cap": 6})


def test_what_hosts_keep_for_the_machine_goes_with_a_no(pipeline: Pipeline):
    """Which events were told once, and a stand-in for an id that could not be derived."""
    paths = pipeline.around.paths
    kept = [paths.once("tallyd-demo") / "first_run", paths.identity("tallyd-demo")]
    for file in kept:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("")
    before = [file.exists() for file in kept]
    pipeline.environ["DO_NOT_TRACK"] = "1"
    pipeline.intake()

    assert (before, [file.exists() for file in kept]) == ([True, True], [False, False])

"""Age by place: how long what waits has waited, from names, days, seals and files."""

from __future__ import annotations

import os

import pytest
from support.clock import DAY_S, NOON
from support.deltas import delta, name_of
from support.pipeline import Pipeline
from tallyd import limits, outbox, spool
from tallyd.ages import Ages, Tally
from tallyd.status import gather

_STARTED = ["server_started", "2026-11-20T11:30:00.000Z", {"transport": "stdio"}]


@pytest.mark.parametrize(
    ("age_s", "column"),
    [
        *[(0, 0), (59.9, 0), (60, 1), (3599, 1), (3600, 2), (DAY_S - 1, 2), (DAY_S, 3)],
        *[(7 * DAY_S - 1, 3), (7 * DAY_S, 4), (9999 * DAY_S, 4), (-0.9, 0)],
    ],
)
def test_each_age_stands_in_one_column(age_s, column):
    tally = Tally(NOON)
    tally.add(NOON - age_s, 3)

    counts = tuple(3 if place == column else 0 for place in range(5))
    assert tally.ages() == Ages(counts, 0, 0, pytest.approx(age_s, abs=1e-6))


def test_what_comes_from_the_future_is_never_young_and_what_has_no_instant_never_old():
    tally = Tally(NOON)
    tally.add(NOON + 3600)
    tally.add(None)

    assert tally.ages() == Ages((0, 0, 0, 0, 0), 1, 1, -3600.0)


def test_each_place_tells_its_ages_by_its_own_instants(pipeline: Pipeline):
    """Names in the spool, days of buckets, instants of events, seals in the outbox, files set aside."""
    pipeline.drop(delta(day="2026-11-19"))
    pipeline.intake()
    pipeline.clock.pass_s(-7200)
    pipeline.seal()
    pipeline.clock.pass_s(7200)
    pipeline.drop(delta(events=[_STARTED]))
    pipeline.drop(delta(day="2026-11-16"))
    pipeline.intake()
    os.utime(pipeline.drop(b"{"), (NOON - 8 * DAY_S, NOON - 8 * DAY_S))
    pipeline.intake()
    for age_s in (5, 5, 90, 2 * DAY_S, -7200):
        pipeline.drop(at=NOON - age_s)

    ages = gather(pipeline.around, NOON)[0]["products"]["tallyd-demo"]["ages"]

    assert ages == {
        "spool": _ages(2, 1, 0, 1, 0, in_future=1, oldest_s=2 * DAY_S),
        "buckets": _ages(0, 0, 1, 1, 0, oldest_s=4.5 * DAY_S),
        "events": _ages(0, 1, 0, 0, 0, oldest_s=1800.0),
        "outbox": _ages(0, 0, 1, 0, 0, oldest_s=7200.0),
        "quarantine": _ages(0, 0, 0, 0, 1, oldest_s=8 * DAY_S),
    }


def _ages(*counts, in_future=0, unknown=0, oldest_s):
    return Ages(counts, in_future, unknown, oldest_s).as_json()


def test_the_seal_of_a_batch_is_found_whatever_its_envelope_says(pipeline: Pipeline):
    """`sent_at` in a value is written with its quotes escaped, so it is never taken for the key."""
    evil = '"sent_at":"2001-01-01T00:00:00.000Z"'
    pipeline.drop(delta(day="2026-11-19", envelope={"host_version": evil, "os": "linux"}))
    pipeline.intake()
    pipeline.seal()

    assert pipeline.read(lambda sql: outbox.sealed_at(sql, "tallyd-demo")) == [NOON]


def test_a_batch_whose_bytes_say_nothing_is_of_unknown_age(pipeline: Pipeline):
    pipeline.drop(delta(day="2026-11-19"))
    pipeline.intake()
    pipeline.seal()
    with pipeline.store.transaction() as sql:
        sql.execute("UPDATE outbox SET body = ?", (b"\xff" * 40,))

    ages = gather(pipeline.around, NOON)[0]["products"]["tallyd-demo"]["ages"]

    assert ages["outbox"] == _ages(0, 0, 0, 0, 0, unknown=1, oldest_s=None)


def test_a_flood_is_counted_in_full_and_measured_in_part(pipeline: Pipeline, monkeypatch):
    """Names tell the age of each; only of so many the system is asked for their size."""
    monkeypatch.setattr("tallyd.spool.directories.MEASURED_FILES", 3)
    assert limits.MEASURED_FILES == 4096
    for place in range(5):
        pipeline.drop(b"{}", name=name_of(NOON - 120 * place))
    size = spool.measure(pipeline.around.paths.spool("tallyd-demo"), NOON)

    assert (size.files, size.bytes, size.waiting) == (5, None, Ages((1, 4, 0, 0, 0), 0, 0, 480.0))


def test_a_name_that_tells_nothing_is_as_old_as_its_file(pipeline: Pipeline):
    os.utime(pipeline.drop(b"{}", name="odd\x1b[2Jname"), (NOON - 90, NOON - 90))
    size = spool.measure(pipeline.around.paths.spool("tallyd-demo"), NOON)

    assert size.waiting == Ages((0, 1, 0, 0, 0), 0, 0, 90.0)

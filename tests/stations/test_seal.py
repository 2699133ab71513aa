"""Seal: finished days become immutable batches; what preview shows is what is sent."""

from __future__ import annotations

import json
from itertools import pairwise

from support.clock import DAY_S, TODAY
from support.deltas import delta, tool_calls
from support.pipeline import Pipeline, Tally
from tallyd import outbox, seal
from tallyd.batch import Batch
from tallyd.contract.days import day_of, shift_day
from tallyd.limits import BODY_MAX_BYTES


def _batches(pipeline: Pipeline) -> list[Batch]:
    return pipeline.read(lambda sql: outbox.waiting(sql, "tallyd-demo"))


def test_today_stays_and_yesterday_is_sealed(pipeline: Pipeline):
    pipeline.drop()
    pipeline.drop(delta(day=shift_day(TODAY, -1), counts=[tool_calls(count=7)]))
    pipeline.intake()

    pipeline.seal()

    assert Tally(counted={"search": 1}, batches=1) == pipeline.tally()
    (batch,) = _batches(pipeline)
    body = json.loads(batch.body)
    assert {
        "machine_id": pipeline.view().machine_id,
        "ci": False,
        "host_version": "1.0.0",
        "os": "linux",
        "runtime": "python",
        "schema_version": 1,
        "batch_id": batch.batch_id,
        "product": "tallyd-demo",
        "contract": pipeline.view().contract.short_digest,
        "sent_at": "2026-11-20T12:00:00.000Z",
        "events": [
            {
                "event": "tool_calls",
                "ts": "2026-11-19T12:00:00.000Z",
                "props": {"tool": "search", "count": 7, "error_count": 0},
            }
        ],
    } == body


def test_single_events_leave_without_waiting_for_the_day_to_end(pipeline: Pipeline):
    started = ["server_started", f"{TODAY}T10:00:00.000Z", {"transport": "stdio"}]
    pipeline.drop(delta(events=[started]))
    pipeline.intake()

    pipeline.seal()

    (batch,) = _batches(pipeline)
    assert [{"event": started[0], "ts": started[1], "props": started[2]}] == json.loads(batch.body)[
        "events"
    ]
    assert pipeline.tally().counted == {"search": 1}


def test_late_counts_for_a_sealed_day_make_another_batch(pipeline: Pipeline):
    yesterday = shift_day(TODAY, -1)
    for count in (3, 4):
        pipeline.drop(delta(day=yesterday, counts=[tool_calls(count=count)]))
        pipeline.intake()
        pipeline.seal()

    counts = [json.loads(one.body)["events"][0]["props"]["count"] for one in _batches(pipeline)]
    assert counts == [3, 4]


def test_a_batch_has_one_envelope_and_at_most_the_contracts_events(pipeline: Pipeline):
    yesterday = shift_day(TODAY, -1)
    for version in ("1.0.0", "2.0.0"):
        calls = [tool_calls(f"tool_{number}") for number in range(130)]
        pipeline.drop(delta(day=yesterday, envelope={"host_version": version}, counts=calls))
    pipeline.intake()

    pipeline.seal()

    shapes = [
        (body["host_version"], len(body["events"]))
        for body in (json.loads(one.body) for one in _batches(pipeline))
    ]
    assert sorted(shapes, key=lambda one: (one[0], -one[1])) == [
        ("1.0.0", 100),
        ("1.0.0", 30),
        ("2.0.0", 100),
        ("2.0.0", 30),
    ]


def test_no_body_is_over_the_wires_limit_and_none_is_lost(pipeline: Pipeline):
    """With long names a hundred events do not fit 64 KiB."""
    text = pipeline.view().contract.text
    wide = text.replace(b"max = 64, cut = true", b"max = 1000, cut = true")
    pipeline.register("tallyd-demo", text=wide)
    for start in range(0, 150, 30):
        calls = [tool_calls(f"{number:03d}{'x' * 900}") for number in range(start, start + 30)]
        pipeline.drop(delta(day=shift_day(TODAY, -1), counts=calls))
    pipeline.intake()

    pipeline.seal()

    sealed = _batches(pipeline)
    assert (
        all(len(one.body) <= BODY_MAX_BYTES for one in sealed),
        sum(one.counted for one in sealed),
    ) == (True, 150)


def test_losses_travel_with_the_first_batch_and_only_once(pipeline: Pipeline):
    pipeline.drop(delta(day=shift_day(TODAY, -1), lost={"cap": 5}))
    pipeline.intake()
    pipeline.seal()
    pipeline.drop(delta(day=shift_day(TODAY, -1)))
    pipeline.intake()
    pipeline.seal()

    assert [json.loads(one.body).get("lost") for one in _batches(pipeline)] == [{"cap": 5}, None]


def test_preview_of_a_sealed_batch_is_its_bytes(pipeline: Pipeline):
    pipeline.drop(delta(day=shift_day(TODAY, -1)))
    pipeline.intake()
    pipeline.seal()

    shown = seal.preview(pipeline.store, pipeline.view(), pipeline.clock.now())

    assert (_batches(pipeline)[0].body, True) == shown


def test_preview_before_the_seal_shows_what_the_seal_then_makes(pipeline: Pipeline):
    pipeline.drop(delta(lost={"error": 1}))
    pipeline.intake()
    before = seal.preview(pipeline.store, pipeline.view(), pipeline.clock.now())
    pipeline.clock.pass_s(DAY_S)
    pipeline.seal()

    assert before is not None
    shown, made = json.loads(before[0]), json.loads(_batches(pipeline)[0].body)
    filled_in = {"machine_id", "batch_id", "sent_at"}
    assert {key: made[key] for key in made if key not in filled_in} == {
        key: shown[key] for key in shown if key not in filled_in
    }
    assert Tally(batches=1, lost={"error": 1}) == pipeline.tally()


def test_preview_shows_finished_days_before_today(pipeline: Pipeline):
    pipeline.drop()
    pipeline.drop(delta(day=shift_day(TODAY, -2)))
    pipeline.intake()

    shown = seal.preview(pipeline.store, pipeline.view(), pipeline.clock.now())

    assert shown is not None
    assert [one["ts"] for one in json.loads(shown[0])["events"]] == ["2026-11-18T12:00:00.000Z"]


def test_batch_ids_are_all_different(pipeline: Pipeline):
    for days in range(1, 6):
        pipeline.drop(delta(day=shift_day(TODAY, -days)))
        pipeline.intake()
        pipeline.seal()

    ids = [one.batch_id for one in _batches(pipeline)]
    assert all(first != second for first, second in pairwise(sorted(ids)))


def test_a_contract_that_became_narrower_takes_effect_before_the_seal(pipeline: Pipeline):
    """Counted when it was listed, sealed when it is not: nothing unlisted may leave."""
    pipeline.drop(
        delta(
            day=shift_day(TODAY, -1),
            counts=[
                tool_calls(count=3),
                ["tool_calls", {"tool": "x", "client_name": "c"}, {"count": 4}],
            ],
            events=[["server_started", f"{TODAY}T10:00:00.000Z", {"transport": "stdio"}]],
        )
    )
    pipeline.intake()
    text = pipeline.view().contract.text.decode()
    narrower = text.replace('values = ["stdio", "http"]', 'values = ["http"]').replace(
        "dimensions.client_name", "dimensions.agent_name"
    )
    pipeline.register("tallyd-demo", text=narrower.encode())
    shown = seal.preview(pipeline.store, pipeline.view(), pipeline.clock.now())

    pipeline.seal()

    (batch,) = _batches(pipeline)
    body = json.loads(batch.body)
    props = [one["props"] for one in body["events"]]
    assert sorted(props, key=lambda one: one["tool"]) == [
        {"tool": "search", "count": 3, "error_count": 0},
        {"tool": "x", "count": 4, "error_count": 0},
    ]
    assert shown is not None
    assert (body["lost"], json.loads(shown[0])["lost"]) == ({"screened": 1}, {"screened": 1})


def test_what_is_too_old_by_now_takes_nothing_else_with_it(pipeline: Pipeline):
    """A machine was off for a month: the day it went off is lost, and only that."""
    pipeline.drop(delta(counts=[tool_calls(count=7)]))
    pipeline.drop(
        delta(
            counts=[], events=[["server_started", f"{TODAY}T12:00:00.000Z", {"transport": "stdio"}]]
        )
    )
    pipeline.intake()
    pipeline.clock.pass_s(40 * DAY_S)
    yesterday = day_of(pipeline.clock.now() - DAY_S)
    pipeline.drop(delta(day=yesterday, counts=[tool_calls(count=5)]))
    pipeline.intake()

    assert pipeline.seal() == 1

    (batch,) = pipeline.read(lambda sql: outbox.waiting(sql, "tallyd-demo"))
    assert (batch.counted, batch.lost) == (5, {"age": 8})

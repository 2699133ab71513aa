"""Everything is bounded: each cap is overfilled, holds at once, and what goes is counted and told of."""

from __future__ import annotations

import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from support.answering import Answering, answering
from support.clock import NOON, TODAY
from support.deltas import delta, tool_calls
from support.pipeline import Pipeline, Tally
from support.processes import DEMO_CONTRACT
from support.recorder import recording
from tallyd import ledger, passes, requests, retention, runs, spool, wakeups
from tallyd.contract.days import shift_day
from tallyd.limits import (
    FLUSH_MAX_REQUESTS,
    MERGE_BATCH_FILES,
    NOTICES_MAX_FILES,
    RETRY_AFTER_MAX_S,
    RUNS_MAX_ROWS,
    STATE_FILE_MAX_BYTES,
    WATCH_MAX_PRODUCTS,
)

YESTERDAY = shift_day(TODAY, -1)
# Small enough to overfill with a few files; the numbers themselves stand in docs/architecture.md.
SMALL = 20


def _envelope(version: int) -> dict[str, Any]:
    return {"host_version": f"1.0.{version}", "os": "linux", "runtime": "python", "ci": False}


def _events(count: int) -> list[Any]:
    return [["server_started", f"{YESTERDAY}T10:00:00.000Z", {"transport": "http"}]] * count


def _told(pipeline: Pipeline, gateway: Answering) -> dict[str, int]:
    """What the next batch says is lost."""
    pipeline.environ["TALLYD_DEMO_ENDPOINT"] = gateway.url
    pipeline.deliver()
    body, _ = gateway.take()[0]
    lost: dict[str, int] = json.loads(body).get("lost", {})
    return lost


def _count(pipeline: Pipeline, table: str) -> int:
    number: int = pipeline.read(
        lambda sql: sql.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
    )
    return number


# --- what floods in between two hourly tidyings ----------------------------------------------------


@pytest.mark.slow
def test_a_flood_of_sums_stays_within_its_cap_and_the_next_batch_says_what_went(
    pipeline: Pipeline, monkeypatch
):
    """Retention runs hourly; a host with a name for each call would fill a disk in between."""
    monkeypatch.setattr(retention, "BUCKETS_MAX_SUMS", SMALL)
    monkeypatch.setattr(passes, "CAPS_SLACK_ROWS", 0)
    for place in range(5):
        calls = [tool_calls(f"t{place}-{number}", count=2) for number in range(10)]
        pipeline.drop(delta(day=YESTERDAY, counts=calls))
    pipeline.intake()

    assert (len(pipeline.rows()), pipeline.tally().lost) == (10, {"cap": 80})
    with answering() as gateway:
        assert _told(pipeline, gateway) == {"cap": 80}


def test_a_flood_of_single_events_stays_within_its_cap(pipeline: Pipeline, monkeypatch):
    monkeypatch.setattr(retention, "EVENTS_MAX_ROWS", SMALL)
    monkeypatch.setattr(passes, "CAPS_SLACK_ROWS", 0)
    for _ in range(5):
        pipeline.drop(delta(counts=[], events=_events(10)))
    pipeline.intake()

    assert (_count(pipeline, "event"), pipeline.tally().lost) == (SMALL, {"cap": 30})
    with answering() as gateway:
        assert _told(pipeline, gateway) == {"cap": 30}


@pytest.mark.slow
def test_a_flood_of_envelopes_stays_within_its_cap_oldest_first(pipeline: Pipeline, monkeypatch):
    """Each envelope is a batch of its own: a host whose version is another each time makes thousands."""
    monkeypatch.setattr(retention, "ENVELOPES_MAX_ROWS", SMALL)
    monkeypatch.setattr(passes, "CAPS_SLACK_ROWS", 0)
    for version in range(3 * SMALL):
        pipeline.drop(
            delta(day=YESTERDAY, envelope=_envelope(version), counts=[tool_calls(count=2)])
            | ({"events": _events(1)} if version == 0 else {}),
            at=NOON + version,
        )
    pipeline.intake()

    kept = [row.envelope["host_version"] for row in pipeline.rows()]
    assert sorted(kept) == sorted(f"1.0.{version}" for version in range(2 * SMALL, 3 * SMALL))
    assert (_count(pipeline, "envelope"), _count(pipeline, "event")) == (SMALL, 0)
    assert pipeline.tally().lost == {"cap": 2 * 2 * SMALL + 1}
    with answering() as gateway:
        assert _told(pipeline, gateway) == {"cap": 2 * 2 * SMALL + 1}


def test_envelopes_that_nothing_uses_are_no_reason_to_lose_any(pipeline: Pipeline, monkeypatch):
    monkeypatch.setattr(retention, "ENVELOPES_MAX_ROWS", 2)
    monkeypatch.setattr(passes, "CAPS_SLACK_ROWS", 0)
    pipeline.drop(delta(envelope=_envelope(1)))
    pipeline.drop(delta(day=YESTERDAY, envelope=_envelope(2)))
    pipeline.intake()
    pipeline.seal()
    pipeline.drop(delta(envelope=_envelope(3)))
    pipeline.intake()

    assert Tally(counted={"search": 2}, batches=1) == pipeline.tally()


@pytest.mark.slow
def test_a_flood_of_batches_stays_within_its_cap_and_the_next_one_says_what_went(
    pipeline: Pipeline, monkeypatch
):
    monkeypatch.setattr(retention, "OUTBOX_MAX_BATCHES", 5)
    with answering() as gateway:
        gateway.say(["silent"])
        pipeline.environ["TALLYD_DEMO_ENDPOINT"] = gateway.url
        for version in range(12):
            pipeline.drop(delta(day=YESTERDAY, envelope=_envelope(version)), at=NOON + version)
        pipeline.intake()
        pipeline.deliver()
        assert Tally(batches=5, lost={"cap": 7}) == pipeline.tally()

        pipeline.clock.pass_s(3600)
        pipeline.drop(delta(day=YESTERDAY, envelope=_envelope(99)))
        pipeline.intake()
        gateway.say(["stored"])
        pipeline.deliver()
        told = [json.loads(body).get("lost") for body, _ in gateway.take()]

    # The sixth batch pushed out one more after it was told of seven: the one after it tells of that.
    assert ([one for one in told if one], pipeline.tally().lost) == ([{"cap": 7}], {"cap": 8})


def test_names_are_kept_up_to_their_cap_and_the_newest_are(pipeline: Pipeline, monkeypatch):
    monkeypatch.setattr(retention, "DELTA_NAMES_MAX_ROWS", SMALL)
    pipeline.drop()
    pipeline.intake()
    pipeline.clock.pass_s(86400)
    newest = [pipeline.drop() for _ in range(SMALL)]
    pipeline.intake()
    before = _count(pipeline, "delta")
    pipeline.keep_bounds()
    for file in newest:
        pipeline.drop(name=file.name)

    assert (pipeline.intake().known, before, _count(pipeline, "delta")) == (SMALL, SMALL + 1, SMALL)


def test_a_flood_of_names_is_bounded_between_two_tidyings(pipeline: Pipeline, monkeypatch):
    monkeypatch.setattr(retention, "DELTA_NAMES_MAX_ROWS", SMALL)
    monkeypatch.setattr(passes, "DELTA_NAMES_SLACK", 5)
    most = 0
    for _ in range(10):
        for _ in range(4):
            pipeline.drop()
        pipeline.intake()
        most = max(most, _count(pipeline, "delta"))

    # The cap, the slack, and what one intake adds.
    assert SMALL < most <= SMALL + 5 + 4


def test_the_ledger_is_bounded_by_each_request_it_records(pipeline: Pipeline, monkeypatch):
    """A gateway that asks to be asked again each second would fill it with bodies in an hour."""
    monkeypatch.setattr(ledger, "LEDGER_MAX_ROWS", 6)
    monkeypatch.setattr(ledger, "LEDGER_MAX_BODIES", 2)
    pipeline.drop(delta(day=YESTERDAY))
    pipeline.intake()
    with answering() as gateway:
        pipeline.environ["TALLYD_DEMO_ENDPOINT"] = gateway.url
        for _ in range(10):
            gateway.say(["silent"])
            pipeline.deliver()
            pipeline.clock.pass_s(61)

    rows = pipeline.read(lambda sql: sql.execute("SELECT body IS NULL FROM ledger").fetchall())
    assert rows == [(1,), (1,), (1,), (1,), (0,), (0,)]


@pytest.mark.slow
def test_a_writer_that_ignores_the_cap_is_merged_in_pieces_and_loses_nothing(pipeline: Pipeline):
    number = 2 * MERGE_BATCH_FILES + 100
    content = json.dumps(delta()).encode()
    for _ in range(number):
        pipeline.drop(content)
    pipeline.intake()

    assert Tally(counted={"search": number}) == pipeline.tally()


# --- what is not data ------------------------------------------------------------------------------


def test_runs_are_kept_up_to_their_cap(pipeline: Pipeline):
    with pipeline.store.transaction() as sql:
        for number in range(RUNS_MAX_ROWS + 20):
            runs.begin(sql, 1, "1", NOON + number)

    first = pipeline.read(lambda sql: sql.execute("SELECT min(started_at) FROM run").fetchone()[0])
    assert (_count(pipeline, "run"), first) == (RUNS_MAX_ROWS, NOON + 20)


def test_a_writer_cannot_invent_causes(pipeline: Pipeline):
    pipeline.drop(delta(lost={f"cause{number}": 1 for number in range(900)} | {"cap": 2}))
    pipeline.intake()

    assert (_count(pipeline, "loss"), pipeline.tally().lost) == (1, {"cap": 2})


def test_notices_of_versions_long_gone_are_forgotten_oldest_first(pipeline: Pipeline):
    directory = pipeline.view().notice_dir
    for number in range(NOTICES_MAX_FILES + 30):
        file = directory / f"{number:016x}"
        file.write_text("2026-01-01T00:00:00.000Z\n")
        os.utime(file, (number, number))
    pipeline.keep_bounds()

    kept = os.listdir(directory)
    # The contract in force was told of last.
    assert pipeline.view().registered.short_digest in kept
    assert (len(kept), f"{30:016x}" in kept, f"{31:016x}" in kept) == (
        NOTICES_MAX_FILES,
        False,
        True,
    )


@pytest.mark.slow
def test_a_flood_of_requests_is_answered_a_round_at_a_time(pipeline: Pipeline):
    paths = pipeline.around.paths
    for _ in range(FLUSH_MAX_REQUESTS + 30):
        requests.ask(paths)
    first = requests.pending(paths)
    for one in first:
        requests.answer(one, {})

    assert (len(first), len(requests.pending(paths))) == (FLUSH_MAX_REQUESTS, 30)


def test_a_gateway_cannot_silence_a_product_for_longer_than_a_day(pipeline: Pipeline):
    pipeline.drop(delta(day=YESTERDAY))
    pipeline.intake()
    with recording(503, headers={"retry-after": "99999999"}) as recorder:
        pipeline.environ["TALLYD_DEMO_ENDPOINT"] = recorder.url
        pipeline.deliver()

    until = pipeline.read(lambda sql: ledger.not_before(sql, "tallyd-demo"))
    assert until == pipeline.clock.now() + RETRY_AFTER_MAX_S


@pytest.mark.parametrize(("size", "is_on"), [(0, True), (1, False)])
def test_a_state_file_over_its_cap_is_damage_and_so_off(pipeline: Pipeline, size, is_on):
    file = pipeline.view().choice_file
    file.parent.mkdir(parents=True)
    file.write_text('{"enabled": true}'.ljust(STATE_FILE_MAX_BYTES + size))

    assert pipeline.view().consent.is_on == is_on


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _huge(path: Path) -> None:
    path.write_bytes(b"")
    os.truncate(path, 1 << 40)


def _link(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("make", [_pipe, _huge, _link], ids=lambda one: one.__name__)
def test_a_request_that_is_no_small_file_names_nobody_and_holds_nobody(pipeline: Pipeline, make):
    paths = pipeline.around.paths
    paths.flush_requests.mkdir(parents=True)
    make(paths.flush_requests / "0b5a")

    assert [requests.to_forget(one) for one in requests.pending(paths)] == [[]]


def test_a_product_that_fails_each_round_in_the_same_words_is_one_line_of_the_log(
    pipeline: Pipeline, caplog
):
    """The intake looks each minute: for a disk that is full over a weekend, 4,320 lines."""
    caplog.set_level(logging.INFO)
    new = pipeline.view().spool.new
    spool.prepare(pipeline.view().spool)

    def rounds() -> None:
        for _ in range(5):
            pipeline._run(pipeline.passes.merge_all)

    for _ in range(2):
        shutil.rmtree(new.parent)
        new.parent.write_text("in the way")
        rounds()
        new.parent.unlink()
        rounds()

    said = [record.message.split()[0] for record in caplog.records]
    assert [one for one in said if one != "action=intake"] == [
        "action=failing",
        "action=recovered",
    ] * 2


@pytest.mark.slow
def test_a_hundred_products_are_merged_and_kept_apart(pipeline: Pipeline):
    text = DEMO_CONTRACT.read_text()
    names = [f"tool-{number}" for number in range(100)]
    for name in names:
        pipeline.register(name, text=text.replace("tallyd-demo", name).encode())
        pipeline.drop(delta(name), product=name)
    pipeline._run(pipeline.passes.merge_all)

    assert {name: pipeline.tally(name).counted for name in names} == {
        name: {"search": 1} for name in names
    }


def test_no_more_products_are_watched_than_the_cap_says(tmp_path):
    """Whoever fills the spool with directories must not take the system's watches from others."""
    for number in range(WATCH_MAX_PRODUCTS + 5):
        (tmp_path / f"tool-{number:03d}" / "new").mkdir(parents=True)

    watched = wakeups._directories(tmp_path)

    assert len(watched) == 1 + 2 * WATCH_MAX_PRODUCTS

"""Intake: what is dropped is merged once, screened, and never blocks the rest."""

from __future__ import annotations

import errno
import json
import os
import sqlite3

import anyio
import pytest
from support.clock import DAY_S, NOON, TODAY
from support.deltas import delta, name_of, tool_calls
from support.pipeline import Pipeline, Tally
from tallyd import buckets, intake, losses, retention, spool
from tallyd.contract.days import day_of, shift_day
from tallyd.delta import DeltaReader
from tallyd.errors import StateMoved, StateUnusable
from tallyd.intake import IntakeCount, merge_batch
from tallyd.limits import MAX_SUM, MERGE_BATCH_FILES

_MANY = MERGE_BATCH_FILES + 3

CHOSEN = "2026-11-19T12:00:00.000Z"
ID = "5d0c7a16-2f0e-4c1b-9b58-7e41d2aa9f03"


def test_deltas_of_many_processes_become_one_row(pipeline: Pipeline):
    for _ in range(5):
        pipeline.drop(delta(counts=[tool_calls("search", count=2, errors=1)]))

    pipeline.intake()

    (row,) = pipeline.rows()
    assert (row.day, dict(row.measures)) == (TODAY, {"count": 10, "error_count": 5})
    assert Tally(counted={"search": 10}) == pipeline.tally()


def test_a_delta_offered_twice_is_counted_once(pipeline: Pipeline):
    """The crash between commit and removal leaves a merged file in new/."""
    name = name_of()
    pipeline.drop(delta(counts=[tool_calls(count=3)]), name=name)
    pipeline.intake()
    pipeline.drop(delta(counts=[tool_calls(count=3)]), name=name)

    again = pipeline.intake()

    assert IntakeCount(seen=1, known=1) == again
    assert Tally(counted={"search": 3}) == pipeline.tally()


def test_a_delta_is_still_known_after_a_month(pipeline: Pipeline):
    """A name may be forgotten only when its day is refused as too old anyway."""
    name = name_of()
    pipeline.drop(name=name)
    pipeline.intake()
    pipeline.clock.pass_s(31 * DAY_S)
    pipeline.keep_bounds()
    pipeline.drop(name=name)

    pipeline.intake()

    assert (pipeline.tally().counted or {}) == {}


def test_more_files_than_one_transaction_holds_are_all_merged(pipeline: Pipeline):
    for _ in range(_MANY):
        pipeline.drop()

    assert IntakeCount(seen=_MANY, merged=_MANY, rows=4) == pipeline.intake()
    assert Tally(counted={"search": _MANY}) == pipeline.tally()


def test_one_bad_file_is_set_aside_and_the_rest_goes_on(pipeline: Pipeline):
    pipeline.drop()
    bad = pipeline.drop(b"{oops")
    pipeline.drop()

    pipeline.intake()

    assert Tally(bad=1, counted={"search": 2}, lost={"malformed": 1}) == pipeline.tally()
    why = (pipeline.state / "spool/tallyd-demo/bad" / f"{bad.name}.why").read_text()
    assert why.startswith("is not JSON")


@pytest.mark.parametrize(
    ("day", "lost"),
    [
        (shift_day(TODAY, 1), None),
        (shift_day(TODAY, 2), {"future": 4}),
        (shift_day(TODAY, -30), None),
        (shift_day(TODAY, -31), {"age": 4}),
        ("9999-12-31", {"future": 4}),
        ("0001-01-01", {"age": 4}),
    ],
)
def test_a_day_is_kept_as_it_is_or_refused_and_never_shifted(pipeline: Pipeline, day, lost):
    pipeline.drop(delta(day=day, counts=[tool_calls(count=4)]))

    pipeline.intake()

    kept = None if lost else {"search": 4}
    assert Tally(counted=kept, lost=lost) == pipeline.tally()
    assert ([] if lost else [day]) == [row.day for row in pipeline.rows()]


def test_a_day_is_refused_when_its_rollup_would_be_too_old_for_the_gateway(pipeline: Pipeline):
    """A rollup is dated at noon: from noon on, the day 30 days back is outside the gateway's window."""
    pipeline.clock.pass_s(1)
    pipeline.drop(delta(day=shift_day(TODAY, -30), counts=[tool_calls(count=4)]))
    pipeline.drop(delta(day=shift_day(TODAY, -29), counts=[tool_calls(count=1)]))

    pipeline.intake()

    assert Tally(counted={"search": 1}, lost={"age": 4}) == pipeline.tally()


def test_what_the_contract_does_not_list_is_never_stored(pipeline: Pipeline):
    pipeline.drop(
        delta(
            envelope={"host_version": "1.0.0", "user": "ada", "ci": "yes"},
            counts=[
                ["tool_calls", {"tool": "search", "path": "/home/ada"}, {"count": 1, "secrets": 9}],
                ["keystrokes", {"key": "a"}, {"count": 7}],
                ["tool_calls", {"tool": "sea rch"}, {"count": 2}],
                ["tool_calls", {}, {"count": 4}],
            ],
            events=[
                ["server_started", f"{TODAY}T10:00:00.000Z", {"transport": "stdio", "host": "ada"}],
                ["server_started", f"{TODAY}T10:00:00.000Z", {"transport": "carrier pigeon"}],
            ],
        )
    )

    pipeline.intake()

    (row,) = pipeline.rows()
    assert (
        row.envelope,
        row.dimensions,
        row.measures,
    ) == ({"host_version": "1.0.0"}, {"tool": "search"}, {"count": 1, "error_count": 0})
    (event,) = pipeline.read(lambda sql: list(buckets.events(sql, "tallyd-demo")))
    assert event.properties == {"transport": "stdio"}
    assert pipeline.tally().lost == {"screened": 7 + 2 + 4 + 1}


def test_what_a_writer_lost_is_added_to_what_is_lost(pipeline: Pipeline):
    pipeline.drop(delta(lost={"cap": 5, "error": 2, "made_up": 9}))

    pipeline.intake()

    assert Tally(counted={"search": 1}, lost={"cap": 5, "error": 2}) == pipeline.tally()


def test_sums_saturate_and_never_stop_the_intake(pipeline: Pipeline):
    """SQLite's integers end at 2^63: a hostile writer must not be able to overflow one."""
    for _ in range(3):
        for _ in range(2):
            pipeline.drop(delta(counts=[tool_calls(count=MAX_SUM)] * 600))
        pipeline.intake()
    pipeline.drop(delta(counts=[tool_calls("other")]))

    pipeline.intake()

    assert pipeline.tally().counted == {"search": MAX_SUM, "other": 1}


def test_the_same_envelope_in_another_order_is_the_same_bucket(pipeline: Pipeline):
    pipeline.drop(delta(envelope={"os": "linux", "ci": False}))
    pipeline.drop(delta(envelope={"ci": False, "os": "linux"}))

    pipeline.intake()

    assert len(pipeline.rows()) == 1


def test_a_product_without_a_contract_keeps_its_files_until_it_has_one(pipeline: Pipeline):
    pipeline.drop(delta("codegraph", counts=[]), product="codegraph")
    waiting = pipeline.state / "spool/codegraph/new"

    pipeline.intake()
    assert len(list(waiting.iterdir())) == 1

    pipeline.register("codegraph")
    pipeline.intake("codegraph")
    assert len(list(waiting.iterdir())) == 0


def test_a_damaged_contract_stops_its_own_product_only(pipeline: Pipeline):
    (pipeline.home / "config/contracts/broken.toml").write_text("contract = 2\n")
    pipeline.drop()

    pipeline.intake()

    assert Tally(counted={"search": 1}) == pipeline.tally()


def test_a_bad_file_that_cannot_be_set_aside_stops_no_other(pipeline: Pipeline):
    pipeline.drop(b"{oops")
    pipeline.drop()
    (pipeline.state / "spool/tallyd-demo/bad").symlink_to("/proc/1/nowhere")

    for _ in range(2):
        _merge(pipeline)

    assert Tally(new=1, counted={"search": 1}, lost={"malformed": 1}) == pipeline.tally()


def test_losses_saturate_too_and_never_stop_the_intake(pipeline: Pipeline):
    """Valid by docs/spool.md, and once enough to stop every intake for ever."""
    huge = [["unlisted", {}, {"c": MAX_SUM}]] * 600
    for _ in range(3):
        pipeline.drop(delta(counts=huge, lost={"cap": MAX_SUM}))
        pipeline.intake()
    pipeline.drop()

    pipeline.intake()

    assert (
        Tally(counted={"search": 1}, lost={"cap": MAX_SUM, "screened": MAX_SUM}) == pipeline.tally()
    )


def test_what_is_stripped_is_counted_and_is_no_loss(pipeline: Pipeline):
    pipeline.drop(
        delta(
            envelope={"host_version": "1", "user": "ada"},
            counts=[["tool_calls", {"tool": "search", "path": "/x"}, {"count": 1, "secrets": 2}]],
        )
    )
    pipeline.intake()

    assert (
        pipeline.read(lambda sql: losses.stripped(sql, "tallyd-demo")),
        pipeline.tally().lost,
    ) == (3, None)


def test_large_files_are_merged_a_megabyte_at_a_time(pipeline: Pipeline):
    """A stop waits for the transaction that is under way."""
    for _ in range(40):
        pipeline.drop(delta(padding="x" * 60_000))

    first = _merge(pipeline)

    assert 17 <= first.seen <= 18
    assert (pipeline.intake().merged + first.merged, pipeline.tally().new) == (40, 0)


def test_a_product_that_cannot_be_merged_stops_no_other(pipeline: Pipeline):
    """Of two products, the first in order has a spool that is a file."""
    pipeline.register("codegraph")
    (pipeline.state / "spool").mkdir(exist_ok=True)
    (pipeline.state / "spool" / "codegraph").write_text("not a directory")
    pipeline.drop()

    merged = anyio.run(pipeline.passes.merge_all)

    assert ("cannot be made" in merged["codegraph"].problem, merged["tallyd-demo"].problem) == (
        True,
        "",
    )
    assert Tally(counted={"search": 1}) == pipeline.tally()


def test_a_bug_in_one_products_data_stops_no_other(pipeline: Pipeline, monkeypatch):
    pipeline.register("codegraph")
    pipeline.drop(delta("codegraph", counts=[]), product="codegraph")
    pipeline.drop()
    right = intake.merge_batch

    def broken(store, view, *rest, **how):
        if view.name == "codegraph":
            raise OverflowError("a number that nobody thought of")
        return right(store, view, *rest, **how)

    monkeypatch.setattr(intake, "merge_batch", broken)

    merged = anyio.run(pipeline.passes.merge_all)

    assert (
        merged["codegraph"].problem.startswith("a bug in tallyd"),
        pipeline.tally().counted,
    ) == (
        True,
        {"search": 1},
    )


def test_a_database_that_was_moved_away_is_not_written_on(pipeline: Pipeline):
    """What is merged into an unlinked file is lost, and its deltas with it."""
    path = pipeline.drop()
    pipeline.around.paths.database.rename(pipeline.home / "elsewhere.db")

    with pytest.raises(StateMoved):
        pipeline.intake()

    assert path.exists()


@pytest.mark.parametrize(
    ("said", "merged"),
    [
        (None, 1),
        ({"since": CHOSEN, "id": ID}, 1),
        # The id was made after the host had looked.
        ({"since": CHOSEN, "id": None}, 1),
        ({"since": None, "id": ID}, 0),
        ({"since": None, "id": None}, 0),
        ({"since": "2026-11-01T00:00:00.000Z", "id": ID}, 0),
        ({"since": CHOSEN, "id": "0" * 8 + ID[8:]}, 0),
    ],
)
def test_a_delta_that_was_counted_under_another_decision_is_never_merged(
    pipeline: Pipeline, said: dict[str, str | None] | None, merged: int
):
    """However late it was renamed: its name's instant is after the choice in every case."""
    file = pipeline.around.paths.choice("tallyd-demo")
    file.parent.mkdir(parents=True)
    stored = {"enabled": True, "machine_id": ID, "consent_source": "cli", "updated_at": CHOSEN}
    file.write_text(json.dumps(stored))
    pipeline.drop(delta(consent=said))
    done = pipeline.intake()

    assert (done.merged, done.predating, pipeline.tally().new) == (merged, 1 - merged, 0)


@pytest.mark.parametrize(
    "said", [[], "off", {"since": 1}, {"id": 5}, {"id": "x" * 300}, {"since": {}}]
)
def test_a_decision_that_is_none_is_malformed(pipeline: Pipeline, said: object):
    pipeline.drop(delta(consent=said))
    pipeline.intake()

    assert (pipeline.tally().bad, pipeline.tally().counted) == (1, None)


@pytest.mark.parametrize(
    ("derived", "kept"),
    [
        ("cluster_7e6b7fc9d701cade", 1),
        ("local_7e6b7fc9d701cade", 1),
        (None, 0),
        ("7e6b7fc9d701cade", 0),
        ("cluster_7e6b", 0),
        ("cluster_7E6B7FC9D701CADE", 0),
        ("somebody@example.com", 0),
    ],
)
def test_a_derived_id_is_one_of_its_contracts_kind_or_what_came_with_it_is_lost(
    pipeline: Pipeline, derived: str | None, kept: int
):
    pipeline.register("dot-ai")
    event = ["server_stopped", f"{TODAY}T10:00:00.000Z", {"uptime_seconds": 5}]
    whole = delta("dot-ai", counts=[], events=[event], envelope={}, id=derived)
    pipeline.drop(whole, product="dot-ai")
    pipeline.intake("dot-ai")
    found = pipeline.read(
        lambda sql: sql.execute(
            "SELECT fields FROM event JOIN envelope ON envelope.id = envelope_id"
        ).fetchall()
    )
    lost = pipeline.read(lambda sql: losses.totals(sql, "dot-ai"))

    assert (len(found), lost.get("screened", 0)) == (kept, 1 - kept)
    assert derived is None or kept == 0 or derived in found[0][0]


def _merge(pipeline: Pipeline) -> IntakeCount:
    """One transaction's worth."""
    view = pipeline.view()
    with spool.list_new("tallyd-demo", view.spool) as files:
        reader = DeltaReader("tallyd-demo")
        return merge_batch(pipeline.store, view, files, reader, pipeline.clock.now())


@pytest.mark.parametrize("at", [1_732_000.0, NOON + 400 * DAY_S], ids=["seconds", "a year ahead"])
def test_a_name_that_says_another_time_than_its_day_is_remembered_as_long(pipeline: Pipeline, at):
    """A writer put seconds where milliseconds belong: its name seemed to be of 1970, and was forgotten."""
    name = name_of(at)
    for _ in range(3):
        pipeline.drop(name=name)
        pipeline.intake()
        pipeline.keep_bounds()

    assert Tally(counted={"search": 1}) == pipeline.tally()


def test_a_file_that_stays_is_counted_once_however_many_names_come_after_it(
    pipeline: Pipeline, monkeypatch
):
    """Met at every pass, so its name is the newest of all, whatever the cap takes away."""
    monkeypatch.setattr(retention, "DELTA_NAMES_MAX_ROWS", 3)
    stuck = pipeline.drop()
    discard = spool.NewFiles.discard

    def refused(files: spool.NewFiles, entry: spool.NewEntry) -> None:
        if entry.name == stuck.name:
            raise StateUnusable("it cannot be removed")
        discard(files, entry)

    monkeypatch.setattr(spool.NewFiles, "discard", refused)
    for _ in range(5):
        pipeline.clock.pass_s(DAY_S)
        for _ in range(4):
            pipeline.drop(delta(day=day_of(pipeline.clock.now()), counts=[tool_calls("other")]))
        for _ in range(2):
            with pytest.raises(AssertionError, match="1 files stay"):
                pipeline.intake()
        pipeline.keep_bounds()

    assert Tally(new=1, counted={"search": 1, "other": 20}) == pipeline.tally()


def test_malformed_files_are_counted_once_also_when_the_first_transaction_is_refused(
    pipeline: Pipeline, monkeypatch
):
    for number in range(12):
        pipeline.drop(b"{%d" % number)
    right = losses.add

    def refused(*_: object) -> None:
        raise sqlite3.OperationalError("database is locked")

    monkeypatch.setattr(losses, "add", refused)
    with pytest.raises(AssertionError, match="locked"):
        pipeline.intake()
    monkeypatch.setattr(losses, "add", right)
    pipeline.intake()

    assert Tally(bad=12, lost={"malformed": 12}) == pipeline.tally()


def test_a_disk_that_fails_at_a_read_costs_no_delta(pipeline: Pipeline, monkeypatch):
    pipeline.drop()
    pipeline.drop(delta(counts=[tool_calls("other")]))
    read, failed = os.read, []

    def failing(descriptor: int, size: int) -> bytes:
        if not failed and "/new/" in os.readlink(f"/proc/self/fd/{descriptor}"):
            failed.append(descriptor)
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return read(descriptor, size)

    monkeypatch.setattr(spool.arrivals.os, "read", failing)
    with pytest.raises(AssertionError, match=r"1 files stay in the spool: .*Input/output error"):
        pipeline.intake()
    pipeline.intake()

    assert Tally(counted={"search": 1, "other": 1}) == pipeline.tally()

"""The daemon's own life: started once, stopped once, and a hard kill found out at the next start."""

from __future__ import annotations

from support.clock import DAY_S, NOON
from support.pipeline import Pipeline
from support.processes import CONTRACTS
from tallyd import buckets, choices, heartbeat, lock
from tallyd.lock import Holder
from tallyd.runs import StopReason

_HOLDER = Holder(pid=1, role="daemon", version="0.1.0", started_at=NOON)


def _told(pipeline: Pipeline) -> list[tuple[str, str, dict[str, object]]]:
    found = pipeline.read(lambda sql: list(buckets.events(sql, "tallyd-demo")))
    return [(one.event, one.ts, {**one.properties}) for one in found]


def _start(pipeline: Pipeline) -> int:
    return heartbeat.record_start(pipeline.store, _HOLDER, 12, pipeline.passes.views(), NOON)


def _recover(pipeline: Pipeline, beat_at: float) -> None:
    """The next holder of the lock comes, and finds a heartbeat of that time."""
    with lock.hold_lock(pipeline.around.paths, _HOLDER) as held:
        held.previous_beat = beat_at
        heartbeat.recover(pipeline.store, held, pipeline.passes.views())


def test_start_and_stop_are_kept_for_a_product_that_lists_them(pipeline: Pipeline):
    run = _start(pipeline)
    heartbeat.record_stop(
        pipeline.store, run, StopReason.SIGNAL, 61.7, pipeline.passes.views(), NOON + 61.7
    )

    started, stopped = _told(pipeline)
    assert {"daemon_version", "python_version", "startup_ms"} == set(started[2])
    assert stopped == (
        "daemon_stopped",
        "2026-11-20T12:01:01.700Z",
        {"reason": "signal", "uptime_s": 61},
    )


def test_a_stop_is_recorded_once(pipeline: Pipeline):
    run = _start(pipeline)
    for reason in (StopReason.CRASH, StopReason.SIGNAL):
        heartbeat.record_stop(pipeline.store, run, reason, 1.0, pipeline.passes.views(), NOON + 1)

    assert [one[2]["reason"] for one in _told(pipeline)[1:]] == ["crash"]


def test_a_hard_kill_is_recorded_as_unclean_with_the_uptime_of_the_last_heartbeat(
    pipeline: Pipeline,
):
    _start(pipeline)

    _recover(pipeline, beat_at=NOON + 180)
    _recover(pipeline, beat_at=NOON + 999)

    assert _told(pipeline)[1:] == [
        ("daemon_stopped", "2026-11-20T12:03:00.000Z", {"reason": "unclean", "uptime_s": 180})
    ]


def test_an_uptime_is_never_negative_when_the_clock_went_back(pipeline: Pipeline):
    _start(pipeline)

    _recover(pipeline, NOON - 3600)

    assert _told(pipeline)[1][2] == {"reason": "unclean", "uptime_s": 0}


def test_an_uptime_is_not_the_years_that_a_clock_was_set_forward(pipeline: Pipeline):
    _start(pipeline)
    with lock.hold_lock(pipeline.around.paths, _HOLDER) as held:
        held.beat(NOON + 365 * DAY_S, 60.0)

    _recover(pipeline, NOON + 365 * DAY_S)

    assert _told(pipeline)[1][2] == {"reason": "unclean", "uptime_s": 60}


def test_a_product_that_does_not_list_them_or_is_off_keeps_nothing(pipeline: Pipeline):
    pipeline.register("codegraph")
    view = pipeline.view()
    choices.write_choice(
        view.contract, pipeline.around.paths, pipeline.environ, mode="off", now=NOON
    )

    _start(pipeline)

    kept = pipeline.read(lambda sql: sql.execute("SELECT count(*) FROM event").fetchone()[0])
    assert kept == 0


def test_a_product_whose_hosts_derive_its_id_is_told_of_nothing(pipeline: Pipeline):
    """Nobody but its hosts knows in whose name it would be."""
    events = '\n[events.daemon_started]\nkind = "event"\nabout = "Up."\n'
    text = (CONTRACTS / "dot-ai.toml").read_text().replace("\n[never]", f"{events}\n[never]")
    pipeline.register("dot-ai", text=text.encode())
    _start(pipeline)

    kept = pipeline.read(lambda sql: sql.execute("SELECT DISTINCT product FROM event").fetchall())
    assert kept == [("tallyd-demo",)]

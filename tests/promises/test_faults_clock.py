"""A clock that goes back or forward by years, stands still or is wrong for a minute."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable

import anyio
import pytest
from support.clock import DAY_S, NOON, TODAY, FakeClock
from support.deltas import delta, tool_calls
from support.faults import counted, drop_now, set_up
from support.pipeline import Pipeline, Tally
from support.processes import daemon, status, wait_for
from tallyd import lock
from tallyd.clock import Steadiness
from tallyd.contract.days import day_of, shift_day
from tallyd.limits import CLOCK_LEAP_S, CLOCK_SETTLE_S
from tallyd.service import life, once
from tallyd.service.daemon import serve
from tallyd.settings import Settings
from tallyd.status import gather

YEAR_S = 365 * DAY_S
OLD_DAY = shift_day(TODAY, -20)


def _set(clock: FakeClock, by_s: float) -> None:
    """Somebody sets the wall clock; no time passes."""
    clock.time += by_s


def _round(pipeline: Pipeline) -> None:
    """What the daemon does all the time: merge, then keep the bounds."""
    pipeline.intake()
    pipeline.keep_bounds()


def _drop(pipeline: Pipeline, day: str | None = None, count: int = 1) -> None:
    """A host counts; by the clock of this moment, unless told otherwise."""
    now = pipeline.clock.now()
    pipeline.drop(delta(day=day or day_of(now), counts=[tool_calls(count=count)]))


def _problems(pipeline: Pipeline) -> dict[str, str]:
    return {one.duty: one.why for one in pipeline.passes.troubles.now}


@pytest.mark.parametrize("leap_s", [YEAR_S, -YEAR_S, 40 * DAY_S, -NOON], ids=lambda s: f"{s:g} s")
def test_a_clock_that_is_wrong_for_a_minute_costs_no_count(pipeline: Pipeline, leap_s):
    """Buckets, batches, names and what waits in the spool: all were too old or too new by it."""
    pipeline.drop(delta(day=OLD_DAY, counts=[tool_calls(count=4)]))
    pipeline.intake()
    pipeline.seal()
    pipeline.drop(delta(day=OLD_DAY, counts=[tool_calls(count=8)]))
    merged = pipeline.drop(delta(counts=[tool_calls(count=16)]))
    content = merged.read_bytes()
    pipeline.intake()
    before = pipeline.tally()
    # The crash after the commit: the file is there again, and its name must still be known.
    merged.write_bytes(content)
    _drop(pipeline, count=32)
    _set(pipeline.clock, leap_s)
    _round(pipeline)
    wrong = pipeline.tally()
    said = _problems(pipeline)
    pipeline.clock.pass_s(60)
    _round(pipeline)
    _set(pipeline.clock, -leap_s)
    _round(pipeline)
    after = pipeline.tally()

    assert before == Tally(batches=1, counted={"search": 24})
    # Both files wait: one is known, but nothing is read out of a file that is held.
    assert (wrong.counted, wrong.batches, wrong.lost) == ({"search": 24}, 1, None)
    assert list(said) == ["clock"]
    assert f"by {abs(leap_s) / DAY_S:.1f} days" in said["clock"]
    assert after == Tally(batches=1, counted={"search": 24 + 32})
    pipeline.clock.pass_s(CLOCK_SETTLE_S)
    _round(pipeline)
    assert (pipeline.tally(), _problems(pipeline)) == (after, {})


def test_a_clock_that_stays_is_believed_after_a_while_and_what_is_lost_is_counted(
    pipeline: Pipeline,
):
    """A machine that really was off for a year has nothing that a gateway would still take."""
    pipeline.drop(delta(day=OLD_DAY, counts=[tool_calls(count=4)]))
    pipeline.intake()
    _drop(pipeline, count=2)
    _set(pipeline.clock, YEAR_S)
    _round(pipeline)
    seen = [pipeline.tally()]
    pipeline.clock.pass_s(CLOCK_SETTLE_S - 1)
    _round(pipeline)
    seen.append(pipeline.tally())
    pipeline.clock.pass_s(1)
    _round(pipeline)
    seen.append(pipeline.tally())

    waiting = Tally(new=1, counted={"search": 4})
    assert seen == [waiting, waiting, Tally(lost={"age": 6})]


def test_after_a_clock_set_back_for_good_counting_goes_on_and_the_old_waits(pipeline: Pipeline):
    """What was counted by the wrong clock keeps its day: a day is never shifted."""
    _drop(pipeline, count=4)
    pipeline.intake()
    _set(pipeline.clock, -YEAR_S)
    for _ in range(2):
        _drop(pipeline, count=2)
        pipeline.drop(delta(day=TODAY))
        _round(pipeline)
        pipeline.clock.pass_s(CLOCK_SETTLE_S)
    _round(pipeline)

    days = {row.day: row.measures["count"] for row in pipeline.rows()}
    assert days == {TODAY: 4, shift_day(TODAY, -365): 4}
    assert pipeline.tally().lost == {"future": 2}


def test_a_flush_by_hand_after_a_year_believes_the_second_look(home, clock: FakeClock):
    """It is over before a clock could show that it is steady; the lock's file has the last look."""
    with Pipeline.open(home, clock) as pipeline:
        pipeline.register("tallyd-demo")
        pipeline.drop(delta(counts=[tool_calls(count=4)]))
        seen = []
        for wait_s in (0, YEAR_S, DAY_S):
            clock.pass_s(wait_s)
            anyio.run(once.flush, pipeline.around, clock)
            seen.append(pipeline.tally().lost)
            if not wait_s:
                # A fresh file of a lock has the time of the disk, which is not this test's.
                os.utime(pipeline.around.paths.lock, (NOON, NOON))

    assert seen == [None, None, {"age": 4}]


@pytest.mark.parametrize(
    ("name_at", "day", "expected"),
    [
        (0.0, TODAY, Tally(counted={"search": 1})),
        (NOON + YEAR_S, TODAY, Tally(counted={"search": 1})),
        (9_999_999_999.0, TODAY, Tally(counted={"search": 1})),
        (NOON, "1970-01-01", Tally(lost={"age": 1})),
        (NOON, "0001-01-01", Tally(lost={"age": 1})),
        (NOON, "9999-12-31", Tally(lost={"future": 1})),
        (NOON, shift_day(TODAY, 1), Tally(counted={"search": 1})),
        (NOON, shift_day(TODAY, 2), Tally(lost={"future": 1})),
    ],
)
def test_a_name_or_a_day_of_another_time_is_counted_or_lost_by_its_cause(
    pipeline: Pipeline, name_at, day, expected
):
    """The day decides; the instant in a name says only what was dropped first."""
    pipeline.drop(delta(day=day), at=name_at)

    pipeline.intake()

    assert pipeline.tally() == expected


def test_a_machine_that_boots_in_1970_counts_and_loses_nothing_when_the_time_comes(home):
    """A small computer without a battery: the time service needs half a minute."""
    clock = FakeClock()
    with Pipeline.open(home, clock) as pipeline:
        pipeline.register("tallyd-demo")
        _drop(pipeline, count=4)
        pipeline.intake()
        _drop(pipeline, count=8)
    clock.time = 30.0
    with Pipeline.open(home, clock) as pipeline:
        pipeline.passes._steadiness = Steadiness(clock, last_seen=NOON)
        _round(pipeline)
        clock.pass_s(30)
        clock.time = NOON + 60
        _round(pipeline)

        assert pipeline.tally() == Tally(counted={"search": 12})


def test_the_plan_to_send_of_a_clock_that_was_ahead_is_made_anew(pipeline: Pipeline):
    due = lambda: anyio.run(lambda: pipeline.passes.due(at_start=False))[0]  # noqa: E731
    due()
    _set(pipeline.clock, YEAR_S)
    pipeline.clock.pass_s(60)
    seen = [due()]
    pipeline.deliver()
    _set(pipeline.clock, -YEAR_S)
    seen.append(due())
    pipeline.clock.pass_s(60)
    seen.append(due())

    assert seen == [["tallyd-demo"], [], ["tallyd-demo"]]


def test_a_sleep_over_midnight_seals_the_day_and_counts_on(pipeline: Pipeline):
    """Suspended: the monotonic clock stands still while the days go by."""
    _drop(pipeline, count=3)
    pipeline.intake()
    _set(pipeline.clock, 3 * DAY_S)
    _drop(pipeline, count=5)
    _round(pipeline)
    sealed = pipeline.seal()

    # No news for anybody: a machine may sleep.
    assert (sealed, _problems(pipeline)) == (1, {})
    assert pipeline.tally() == Tally(batches=1, counted={"search": 5})


def test_small_steps_of_a_time_service_are_no_leap():
    clock = FakeClock()
    steady = Steadiness(clock, last_seen=NOON - 60)
    seen = []
    for by_s in (0.5, -2.0, CLOCK_LEAP_S, -CLOCK_LEAP_S, CLOCK_LEAP_S + 1):
        _set(clock, by_s)
        seen.append(steady.is_settled())

    assert seen == [True, True, True, True, False]


@pytest.mark.slow
@pytest.mark.parametrize("leap_s", [YEAR_S, -YEAR_S])
def test_a_running_daemon_whose_clock_leaps_goes_on_and_its_uptime_stays_sane(
    pipeline: Pipeline, leap_s, monkeypatch
):
    """The daemon's own loops, in this process, with real waits and a clock that is set meanwhile."""
    monkeypatch.setattr(life, "HEARTBEAT_INTERVAL_S", 0.05)
    pipeline.store.close()
    paths = pipeline.around.paths
    _drop(pipeline, count=4)

    def at_work(then: Callable[[], None]) -> None:
        try:
            wait_for(lambda: _count(pipeline) == 4)
            then()
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    def leap() -> None:
        _set(pipeline.clock, leap_s)
        _drop(pipeline, count=2)
        wait_for(lambda: _count(pipeline) == 6)
        wait_for(lambda: lock.last_beat(paths) == pipeline.clock.now())
        wait_for(lambda: [one.duty for one in _holder(pipeline).problems] == ["clock"])
        pipeline.clock.pass_s(30)
        wait_for(lambda: _holder(pipeline).up_s == 30)
        uptimes.append(_holder(pipeline).up_s)

    uptimes: list[float] = []
    threading.Thread(target=at_work, args=(leap,)).start()
    settings = Settings(rescan_interval_s=0.1, watch=False)
    anyio.run(serve, pipeline.around, settings, pipeline.clock, 0.0)

    stop = status(pipeline.home)["last_stop"]
    assert (uptimes, stop["uptime_s"], stop["reason"]) == ([30.0], 30.0, "signal")


@pytest.mark.parametrize(("leap_s", "uptime_s"), [(YEAR_S, 160.0), (-YEAR_S, 40.0), (10, 50.0)])
def test_status_right_after_a_leap_shows_no_uptime_of_years(pipeline: Pipeline, leap_s, uptime_s):
    """Until the next heartbeat it knows of the last one only: two of its intervals are the most."""
    around = pipeline.around
    with lock.hold_lock(around.paths, lock.Holder(os.getpid(), "daemon", "1", NOON)) as held:
        held.beat(NOON + 40, 40.0)
        report, _ = gather(around, NOON + 40 + leap_s)

    assert report["daemon"]["uptime_s"] == uptime_s


def _count(pipeline: Pipeline) -> int:
    return counted(pipeline.home)["tallyd-demo"]


def _holder(pipeline: Pipeline) -> lock.Holder:
    holder = lock.current_holder(pipeline.around.paths)
    assert holder is not None
    return holder


@pytest.mark.slow
def test_a_daemon_that_was_stopped_for_a_while_goes_on_where_it_was(home):
    set_up(home)
    with daemon(home) as process:
        process.send_signal(signal.SIGSTOP)
        for _ in range(300):
            drop_now(home)
        said = status(home)["daemon"]
        process.send_signal(signal.SIGCONT)
        wait_for(lambda: counted(home) == {"tallyd-demo": 300})

        assert (said["running"], said["uptime_s"] < 120) == (True, True)

"""The service: its loops in this process, with a real gateway on loopback and a real signal."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest
from support.clock import DAY_S, TODAY, FakeClock
from support.deltas import delta, drop, tool_calls
from support.pipeline import Pipeline
from support.processes import (
    DEMO_CONTRACT,
    daemon,
    environ_of,
    run,
    show,
    tallyd,
    wait_for,
)
from support.recorder import recording
from tallyd import plan, requests
from tallyd.contract.days import shift_day
from tallyd.service import loops
from tallyd.service.daemon import serve
from tallyd.settings import Settings

pytestmark = pytest.mark.slow


def _serve_until(pipeline: Pipeline, is_done: Callable[[], object]) -> None:
    """Serve in this thread until `is_done`, asked in another one, then send ourselves a SIGTERM."""
    pipeline.store.close()

    def stop() -> None:
        try:
            wait_for(is_done)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop).start()
    anyio.run(serve, pipeline.around, Settings(), pipeline.clock, 0.0)


def test_a_finished_day_is_sent_on_the_interval_by_itself(pipeline: Pipeline, monkeypatch):
    monkeypatch.setattr(plan, "FIRST_SEND_JITTER_S", 0.0)
    pipeline.drop(delta(day=shift_day(TODAY, -1), counts=[tool_calls(count=3)]))
    pipeline.intake()
    with recording() as recorder:
        pipeline.environ["TALLYD_DEMO_ENDPOINT"] = recorder.url
        # Two: the counts, and the daemon's own start, which has another envelope.
        _serve_until(pipeline, lambda: len(recorder.bodies) == 2)

        counts = [
            event["props"].get("count") for batch in recorder.batches for event in batch["events"]
        ]
        assert 3 in counts


def test_a_due_time_comes_once_and_then_after_the_interval(pipeline: Pipeline):
    """What is planned survives a restart; what was missed is spread over a minute, not sent at once."""
    due = lambda at_start: anyio.run(lambda: pipeline.passes.due(at_start=at_start))[0]  # noqa: E731
    seen = [due(True)]
    pipeline.clock.pass_s(60)
    seen.append(due(False))
    pipeline.deliver()
    seen.append(due(False))
    pipeline.clock.pass_s(6 * 3600 * 1.2 + 1)
    # A restart: overdue, so planned within the next minute.
    seen.append(due(True))
    pipeline.clock.pass_s(60)
    seen.append(due(False))

    assert seen == [[], ["tallyd-demo"], [], [], ["tallyd-demo"]]


def test_a_plan_of_a_clock_that_was_ahead_is_made_anew(pipeline: Pipeline):
    pipeline.clock.pass_s(365 * DAY_S)
    pipeline.deliver()
    pipeline.clock.pass_s(-365 * DAY_S)
    anyio.run(lambda: pipeline.passes.due(at_start=False))
    pipeline.clock.pass_s(60)

    due, _ = anyio.run(lambda: pipeline.passes.due(at_start=False))

    assert due == ["tallyd-demo"]


def test_a_loop_that_fails_ends_the_daemon_as_a_crash(home: Path, clock: FakeClock, monkeypatch):
    """No resurrection inside the process: a supervisor starts it again."""

    async def broken(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(loops, "run_retention", broken)
    with Pipeline.open(home, clock) as pipeline:
        pipeline.store.close()
        with pytest.raises(ExceptionGroup):
            anyio.run(serve, pipeline.around, Settings(), clock, 0.0)

    report = json.loads(tallyd(home, "status", "--json", check=False))
    assert report["last_stop"]["reason"] == "crash"


def test_a_flush_asks_the_running_daemon_and_waits_for_its_result(home):
    tallyd(home, "contract", "add", str(DEMO_CONTRACT))
    with daemon(home):
        done = run("tallyd", "flush", "--json", environ=environ_of(home))

    assert "asking the running daemon" in done.stderr
    assert (set(json.loads(done.stdout)), os.listdir(home / "state" / "flush")) == (
        {"tallyd-demo"},
        [],
    )


def test_several_flushes_at_once_are_all_answered(home):
    tallyd(home, "contract", "add", str(DEMO_CONTRACT))
    results = []
    with daemon(home):
        threads = [
            threading.Thread(target=lambda: results.append(tallyd(home, "flush", "--json")))
            for _ in range(4)
        ]
        for one in threads:
            one.start()
        for one in threads:
            one.join()

    assert [set(json.loads(one)) for one in results] == [{"tallyd-demo"}] * 4


def test_a_flush_without_a_daemon_merges_in_the_foreground(home):
    tallyd(home, "contract", "add", str(DEMO_CONTRACT))
    import time

    today = time.strftime("%Y-%m-%d", time.gmtime())
    drop(home / "state", delta(day=today, counts=[tool_calls(count=2)]), at=time.time())

    result = json.loads(tallyd(home, "flush", "--json"))["tallyd-demo"]

    assert (result["merged"], [row["measures"]["count"] for row in show(home)]) == (1, [2])


def test_a_request_whose_daemon_dies_is_given_up(pipeline: Pipeline):
    request = requests.ask(pipeline.around.paths)

    assert requests.wait(request, 60, lambda: False) is None
    assert os.listdir(pipeline.around.paths.flush_requests) == []


def test_a_flush_is_answered_without_any_wake_up(home, monkeypatch):
    """Watch = false and an hour between scans are settings that a user may choose."""
    (home / "config").mkdir()
    (home / "config" / "config.toml").write_text(
        "[daemon]\nrescan_interval_s = 3600\nwatch = false\n"
    )
    tallyd(home, "contract", "add", str(DEMO_CONTRACT))
    with daemon(home):
        assert set(json.loads(tallyd(home, "flush", "--json"))) == {"tallyd-demo"}


def test_a_flush_names_a_contract_that_cannot_be_used(home):
    tallyd(home, "contract", "add", str(DEMO_CONTRACT))
    (home / "config/contracts/broken.toml").write_text("contract = 2")

    done = run("tallyd", "flush", environ=environ_of(home), check=False)

    assert (done.returncode, "broken: " in done.stdout, "tallyd-demo: 0 deltas" in done.stdout) == (
        73,
        True,
        True,
    )

"""Say no between any two steps of record, drop, intake, seal and send: nothing stays, nothing leaves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from support.deltas import delta, drop, tool_calls
from support.hosts import STUB
from support.processes import DEMO_CONTRACT, environ_of, show, tallyd
from support.recorder import Recorder, recording

_RACE = Path(__file__).with_name("race.py")
# Every step by `make race`; in the suite every few of them, begun at another one each time by chance
# of the step's number in the next change.
_EVERY = os.environ.get("TALLYD_EVERY_STEP", "4")


def _race(
    tmp_path: Path, recorder: Recorder, who: str, *commands: str, every: str = _EVERY
) -> list[dict[str, Any]]:
    """What became of each step at which the commands were run; the last one ran through."""
    template, work = tmp_path / "template", tmp_path / "work"
    template.mkdir()
    work.mkdir()
    tallyd(template, "contract", "add", str(DEMO_CONTRACT))
    if who == "flush":
        now = time.time()
        earlier = time.strftime("%Y-%m-%d", time.gmtime(now - 3 * 86400))
        for count in (1, 2):
            drop(template / "state", delta(day=earlier, counts=[tool_calls(count=count)]), at=now)
    else:
        # A host that registers, tells its notice and makes its directories in this very drop.
        for file in (template / "state" / "notices").rglob("*"):
            if file.is_file():
                file.unlink()
    done = subprocess.run(
        [sys.executable, str(_RACE), who, str(template), str(work), every, *commands],
        env=environ_of(template, RECORDER=recorder.url, PYTHONPATH=str(STUB)),
        stdout=subprocess.PIPE,
        check=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_off_before_any_step_of_a_flush_leaves_nothing_and_sends_nothing_after(tmp_path):
    with recording() as recorder:
        steps = _race(tmp_path, recorder, "flush", "off tallyd-demo")

    *raced, through = steps
    assert (through["problem"], through["rows"] != {}, through["steps"] > 60) == ("", True, True)
    assert {(0, "")} == {(one["code"], one["problem"]) for one in raced}
    left = [one for one in raced if one["spool"] or one["rows"] or one["once"]]
    assert left == []
    late = [
        (one["at"], path)
        for one in raced
        for path, at in zip(recorder.paths, recorder.times, strict=True)
        if path.endswith(f"/{one['at']}") and at > one["said_at"]
    ]
    assert late == []
    # In some of them it came before the request, in some after: the race was one.
    assert 0 < len(recorder.bodies) < len(steps)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_off_before_any_step_of_a_drop_leaves_no_file_behind(tmp_path):
    with recording() as recorder:
        steps = _race(tmp_path, recorder, "drop", "off tallyd-demo", every="1")

    *raced, through = steps
    assert (through["problem"], len(through["spool"]), len(raced) > 5) == ("", 1, True)
    assert {(0, "")} == {(one["code"], one["problem"]) for one in raced}
    assert [one for one in raced if one["spool"] or one["rows"] or one["once"]] == []


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_off_and_on_before_any_step_of_a_drop_carries_nothing_to_the_new_id(tmp_path):
    """What was counted under the old id never travels under the new one, however slow the rename."""
    with recording() as recorder:
        steps = _race(
            tmp_path, recorder, "drop", "off tallyd-demo", "on tallyd-demo", "--keep", every="1"
        )

    work = tmp_path / "work"
    *raced, _ = steps
    found = {}
    for one in raced:
        home = work / str(one["at"])
        tallyd(home, "flush")
        found[one["at"]] = show(home)
    assert {at: rows for at, rows in found.items() if rows} == {}

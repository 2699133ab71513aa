"""Crash-only: killed before any step of intake, seal and send, the next start makes it right."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.deltas import delta, drop, tool_calls
from support.processes import DEMO_CONTRACT, environ_of, tallyd
from support.recorder import Recorder, recording

_HARNESS = Path(__file__).with_name("harness.py")


def _prepare(home: Path) -> None:
    """Two days: tomorrow's counts must end in buckets, an earlier day's at the gateway.

    Tomorrow, which a host ahead of us may stamp, and not today: no midnight can end it meanwhile.
    """
    tallyd(home, "contract", "add", str(DEMO_CONTRACT))
    now = time.time()
    tomorrow, earlier = (
        time.strftime("%Y-%m-%d", time.gmtime(now + days * 86400)) for days in (1, -3)
    )
    for count in (1, 2, 4):
        drop(home / "state", delta(day=tomorrow, counts=[tool_calls(count=count)]), at=now)
    drop(home / "state", delta(day=earlier, counts=[tool_calls(count=8)]), at=now)
    drop(home / "state", b"{malformed", at=now)


def _sweep(tmp_path: Path, recorder: Recorder, *flags: str) -> Iterator[dict[str, Any]]:
    """What became of each step; the harness ends when the caller has seen enough."""
    template, work = tmp_path / "template", tmp_path / "work"
    template.mkdir()
    work.mkdir()
    _prepare(template)
    harness = subprocess.Popen(
        [sys.executable, str(_HARNESS), str(template), str(work), *flags],
        env=environ_of(template, TALLYD_DEMO_ENDPOINT=recorder.url),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert harness.stdout is not None
        for line in harness.stdout:
            yield json.loads(line)
    finally:
        harness.kill()
        harness.communicate()


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_every_count_is_merged_once_and_sent_under_one_id(tmp_path):
    with recording() as recorder:
        steps = list(_sweep(tmp_path, recorder))

    *killed, through = steps
    assert (len(killed) > 60, through["ended"], through["again"]) == (True, 0, 0)
    # Every earlier end was a kill: an ordinary exception must not pass for one.
    assert {(-9, 0)} == {(one["ended"], one["again"]) for one in killed}
    wrong = [one for one in steps if (one["counted"], one["outbox"]) != (7, 0)]
    assert wrong == []
    # Quarantine and its reason are all that is left of the files.
    assert {2} == {len(one["leftovers"]) for one in steps}

    # What arrived more than once, arrived under one id with the same bytes.
    bodies: dict[str, set[bytes]] = {}
    for body, batch in zip(recorder.bodies, recorder.batches, strict=True):
        bodies.setdefault(batch["batch_id"], set()).add(body)
    counts = [
        sum(event["props"].get("count", 0) for event in json.loads(next(iter(same)))["events"])
        for same in bodies.values()
    ]
    assert ({1}, [8] * len(steps)) == ({len(same) for same in bodies.values()}, counts)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_sweep_catches_files_that_are_removed_before_their_sums_are_committed(tmp_path):
    """A harness that cannot see a wrong order proves nothing about the right one."""
    with recording() as recorder:
        assert any(one["counted"] != 7 for one in _sweep(tmp_path, recorder, "--wrong"))

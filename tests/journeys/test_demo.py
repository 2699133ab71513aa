"""The demo: the main job on real input, as a new user runs it."""

from __future__ import annotations

import pytest
from support.processes import DEMO_CONTRACT, ROOT, environ_of, run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


def test_the_demo_ends_well_when_the_rows_equal_the_calls(home):
    done = run("tallyd", "demo", environ=environ_of(home, TMPDIR=str(home)))

    said = done.stdout
    assert "Equal: 12 calls made, 4 of them failed; the gateway's rows say 12 and 4." in said
    for part in (
        "3 files dropped by 3 processes; daemon: 3 deltas merged into 3 buckets",
        "clock set forward by 24 h",
        '"batch_id":"',
        "the gateway's answer: 204",
        "daemon_started daemon_version=",
        "daemon_stopped reason=signal uptime_s=",
    ):
        assert part in said, part
    # Nothing is left, and nothing was written to the user's own home.
    assert [one.name for one in home.iterdir()] == []


def test_the_demo_runs_for_a_user_who_said_no_and_says_so(home):
    done = run("tallyd", "demo", environ=environ_of(home, TMPDIR=str(home), DO_NOT_TRACK="1"))

    assert "Your shell says no telemetry (DO_NOT_TRACK)" in done.stdout


def test_the_demos_contract_is_the_one_in_contracts():
    packaged = ROOT / "daemon" / "tallyd" / "demo" / "tallyd-demo.toml"

    assert packaged.read_bytes() == DEMO_CONTRACT.read_bytes()

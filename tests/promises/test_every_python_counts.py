"""Every Python from 3.9 on counts with a built contract, and the daemon takes what it drops."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from support.hosts import PYTHONS, python_of, run_host
from support.pipeline import Pipeline, Tally

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("version", PYTHONS)
def test_a_host_of_every_python_is_merged_by_the_daemon(
    pipeline: Pipeline, home: Path, version: str
):
    code = """
import time
time.time = lambda: 1795176000.0  # the test's noon: a fake, allowed for time alone
search(); search(); search()
count("known"); count("known", ok=False); count([]); count("a", "b")
client.event("server_started", transport="stdio")
client.drain()
search()
assert client.problem is None, client.problem
"""
    done = run_host(home, code, "-W", "error", "-X", "dev", python=python_of(version))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

    pipeline.intake()

    assert Tally(counted={"search": 4, "known": 2}, lost={"error": 2}) == pipeline.tally()
    envelopes = [dict(row.envelope) for row in pipeline.rows()]
    assert envelopes == [
        {"host_version": "1.0.0", "os": sys.platform, "runtime": "python", "ci": False}
    ] * len(envelopes)


@pytest.mark.parametrize("version", ["3.9", "3.10"])
def test_a_contract_that_needs_tomllib_is_a_problem_and_no_exception(home: Path, version: str):
    code = """
client = Client("tallyd-demo", "1", contract="tallyd-demo.toml")
client.counter("tool_calls", tool="search")()
client.drain()
print("tomllib" in client.problem)
"""
    done = run_host(home, code, python=python_of(version))

    assert (done.stdout, done.stderr, list(home.iterdir())) == ("True\n", "", [])

"""Every Python from 3.9 on counts with a built contract, and the daemon takes what it drops."""

from __future__ import annotations

import hashlib
import re
import sys
from pathlib import Path

import pytest
from support.hosts import PYTHONS, environ_of_host, python_of, run_host, texts
from support.pipeline import Pipeline, Tally
from support.tool import NAME, PROJECT, put, tool

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


_EVERYTHING = """
[events.ran]
kind = "event"
once = "process"
sample = 1
properties.error = { type = "error_class" }
properties.share = { type = "number" }
properties.size = { type = "bucket", edges = [10], labels = ["few", "many"] }
properties.flags = { type = "names" }
properties.parts = { type = "list", of = "record", max_items = 2, fields = { driver = { type = "token" } } }
properties.project = { type = "hash" }
properties.detail = { type = "redacted", switch = "TOOL_DETAIL", optional = true }
properties.tool = { type = "token", registered = true }
"""
_STATE = """
[state]
file = "~/.tool/state.toml"
format = "toml"
keys = { enabled = "on", id = "installId" }
"""


@pytest.mark.parametrize("version", PYTHONS)
def test_every_python_records_every_type_under_a_policy_a_choice_and_an_id(
    home: Path, version: str
):
    put(home / "config/policy.toml", 'off = ["another"]\n')
    put(home / ".tool/state.toml", "on = true # mine\n")
    contract = tool(_STATE, PROJECT, events=_EVERYTHING)
    code = f"""
client = Client(contract={contract!r})
client.register("tool", ["search"])
client.event("ran", error=KeyError("x"), share=0.5, size=12, flags={{"quiet"}}, tool="mine",
             parts=[{{"driver": "pg"}}], project=client.project("/srv/x"), detail="a\\n b")
client.drain()
assert client.problem is None, client.problem
"""
    done = run_host(
        home,
        code,
        *("-W", "error", "-X", "dev"),
        python=python_of(version),
        environ=environ_of_host(home, TOOL_DETAIL="yes"),
    )

    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    mine = re.fullmatch(
        r'on = true # mine\ninstallId = "(.+)"\n', (home / ".tool/state.toml").read_text()
    )
    assert mine is not None
    assert [one[2] for one in texts(home, NAME)[0]["events"]] == [
        {
            "error": "KeyError",
            "share": 0.5,
            "size": "many",
            "flags": {"quiet": True},
            "parts": [{"driver": "pg"}],
            "project": hashlib.sha256(f"{mine[1]}:/srv/x".encode()).hexdigest(),
            "detail": "a b",
            "tool": "_unknown",
            "sample_rate": 1,
        }
    ]
    assert texts(home, NAME)[0]["consent"] == {"since": None, "id": mine[1]}


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

"""The command: every command has help with an example, data on stdout, errors that say what to do."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import subprocess
import sys
import time

import pytest
from support.clock import TODAY
from support.deltas import delta, drop, tool_calls
from support.pipeline import Pipeline
from support.processes import (
    CONTRACTS,
    DEMO_CONTRACT,
    daemon,
    environ_of,
    run,
    show,
    status,
    tallyd,
)
from support.recorder import recording
from tallyd import __version__

pytestmark = pytest.mark.slow

_COMMANDS = [
    ["run"],
    ["status"],
    ["doctor"],
    ["flush"],
    ["show"],
    ["preview"],
    ["off"],
    ["on"],
    ["contract", "add"],
    ["demo"],
]


@pytest.mark.parametrize("command", _COMMANDS, ids=" ".join)
def test_help_tells_what_it_does_with_an_example(home, command):
    text = tallyd(home, *command, "--help")

    assert f"example:\n  tallyd {' '.join(command)}" in text


def test_version_is_the_packages(home):
    assert tallyd(home, "--version") == f"tallyd {__version__}\n"


@pytest.mark.parametrize("arguments", [[], ["bogus"], ["show"], ["status", "--bogus"]], ids=str)
def test_wrong_usage_is_64_with_the_usage(home, arguments):
    done = run("tallyd", *arguments, environ=environ_of(home), check=False)

    assert (done.returncode, done.stdout, "usage: tallyd" in done.stderr) == (64, "", True)


@pytest.mark.parametrize("command", ["show", "preview"])
def test_an_unknown_product_is_told_with_what_to_do(home, command):
    done = run("tallyd", command, "nothing", environ=environ_of(home), check=False)

    assert (done.returncode, done.stdout) == (78, "")
    assert (
        "no contract is registered for 'nothing'; run \"tallyd contract add FILE\"" in done.stderr
    )


def test_adding_a_contract_shows_its_notice_once_and_on_stderr(home):
    first, second = (
        run("tallyd", "contract", "add", str(DEMO_CONTRACT), environ=environ_of(home))
        for _ in range(2)
    )

    assert ("turns it off" in first.stderr, second.stderr) == (True, "")
    assert first.stdout.startswith("registered tallyd-demo: contract ")


def test_adding_a_contract_while_off_shows_no_notice(home):
    environ = environ_of(home, DO_NOT_TRACK="1")

    done = run("tallyd", "contract", "add", str(DEMO_CONTRACT), environ=environ)

    assert (done.stderr, "consent is off, decided by DO_NOT_TRACK" in done.stdout) == ("", True)


def test_a_wrong_contract_names_file_line_and_key_and_is_not_registered(home):
    file = home / "wrong.toml"
    wrong = (CONTRACTS / "codegraph.toml").read_text().replace('"6h"', '"6 hours"')
    file.write_text(wrong)
    line = wrong[: wrong.index('"6 hours"')].count("\n") + 1

    done = run("tallyd", "contract", "add", str(file), environ=environ_of(home), check=False)

    assert done.returncode == 78
    assert f"{file}:{line}: endpoint.interval: '6 hours' is not a length of time" in done.stderr
    assert not (home / "config").exists()


@pytest.mark.parametrize("file", ["nowhere.toml", "."])
def test_a_contract_that_cannot_be_read_is_told(home, file):
    done = run("tallyd", "contract", "add", str(home / file), environ=environ_of(home), check=False)

    assert (done.returncode, "cannot be read" in done.stderr) == (78, True)


def test_show_prints_every_bucket_not_yet_sealed(pipeline: Pipeline, home):
    pipeline.drop(delta(envelope={"os": "linux"}))
    pipeline.intake()

    assert show(home) == [
        {
            "day": TODAY,
            "event": "tool_calls",
            "envelope": {"os": "linux"},
            "dimensions": {"tool": "search"},
            "measures": {"count": 1, "error_count": 0},
        }
    ]
    text = tallyd(home, "show", "tallyd-demo").splitlines()
    assert [line.split() for line in text[:2]] == [
        ["day", "event", "tool", "count", "error_count"],
        [TODAY, "tool_calls", "search", "1", "0"],
    ]


def test_show_and_preview_of_nothing_print_nothing_but_say_so(home):
    tallyd(home, "contract", "add", str(DEMO_CONTRACT))

    assert show(home) == []
    assert json.loads(tallyd(home, "preview", "tallyd-demo", "--json"))["body"] is None
    for command in ("show", "preview"):
        done = run("tallyd", command, "tallyd-demo", environ=environ_of(home))
        assert (done.stdout, done.stderr != "") == ("", True)


def test_preview_prints_the_exact_bytes_on_stdout_and_the_rest_on_stderr(pipeline: Pipeline, home):
    pipeline.drop(delta(day="2026-11-18"))
    pipeline.intake()
    pipeline.seal()

    done = run("tallyd", "preview", "tallyd-demo", environ=environ_of(home))

    body = pipeline.read(lambda sql: sql.execute("SELECT body FROM outbox").fetchone()[0])
    assert (done.stdout.encode(), "goes to http" in done.stderr) == (body, True)


def test_a_reader_that_has_seen_enough_ends_the_command_quietly(home):
    command = f"{sys.executable} -m tallyd --help | head -1"
    done = subprocess.run(
        command, shell=True, env=environ_of(home), capture_output=True, text=True, check=True
    )

    assert (done.stderr, done.stdout.startswith("usage")) == ("", True)


def test_without_the_demos_parts_the_demo_says_what_to_install(home):
    program = (
        "import importlib.util\nfind = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *rest: None if name == 'mcp' else find(name, *rest)\n"
        "from tallyd.cli import main\nmain(['demo'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environ_of(home),
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, "pip install 'tallyd[demo]'" in done.stdout) == (69, True)


@pytest.mark.parametrize("with_daemon", [False, True])
def test_off_is_one_move_and_deletes_what_was_not_sent_with_the_id(home, with_daemon):
    tallyd(home, "contract", "add", str(DEMO_CONTRACT))
    now = time.time()
    for days in (1, 0):
        day = time.strftime("%Y-%m-%d", time.gmtime(now - days * 86400))
        drop(home / "state", delta(day=day, counts=[tool_calls("find_me")]), at=now)
    with recording() as nobody:
        pass
    tallyd(home, "flush", TALLYD_DEMO_ENDPOINT=nobody.url)
    drop(home / "state", delta(counts=[tool_calls("find_me")]), at=now)
    assert [row for row in _dump(home) if "find_me" in row] != []

    with daemon(home, TALLYD_DEMO_ENDPOINT=nobody.url) if with_daemon else contextlib.nullcontext():
        said = tallyd(home, "off", "tallyd-demo")
        # Not a byte is left, in SQLite's log neither, which stays as long as a daemon runs.
        files = b"".join(file.read_bytes() for file in (home / "state").glob("tallyd.db*"))

    report = status(home)["products"]["tallyd-demo"]
    assert "tallyd-demo is off" in said
    assert (report["consent"]["state"], report["machine_id"], show(home)) == ("off", None, [])
    assert (report["outbox"]["batches"], report["spool"]["files"]) == (0, 0)
    assert b"find_me" not in files


def _dump(home) -> list[str]:
    """Every row of the database as text; deleted pages are SQLite's own to reuse."""
    database = sqlite3.connect(home / "state" / "tallyd.db")
    try:
        return list(database.iterdump())
    finally:
        database.close()


def test_on_makes_a_new_id_and_says_where_the_shell_disagrees(home):
    tallyd(home, "contract", "add", str(DEMO_CONTRACT))
    ids = []
    for _ in range(2):
        done = run("tallyd", "on", "tallyd-demo", environ=environ_of(home, DO_NOT_TRACK="1"))
        assert "note: DO_NOT_TRACK says off in this shell" in done.stderr
        ids.append(status(home)["products"]["tallyd-demo"]["machine_id"])

    assert len(set(ids)) == 2

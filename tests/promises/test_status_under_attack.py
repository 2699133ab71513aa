"""`tallyd status` on a machine that is against it: it tells what it can, and nothing steers the terminal."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.clock import NOON
from support.deltas import delta
from support.pipeline import Pipeline
from support.processes import DEMO_CONTRACT, environ_of, run, status, tallyd
from tallyd import ledger, lock, outbox
from tallyd.cost import _by_proc, _by_psutil, of_holder
from tallyd.status import gather
from tallyd.status_text import status_text
from tallyd.terminal import Screen
from tallyd.troubles import Problem

_EVIL = "\x1b[2J\x1b]0;owned\x07\r\u202e\x9b31m"
_needs_root = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can become somebody else"
)


def _steers(text: str) -> set[str]:
    """What in a text is neither printable nor the end of a line."""
    return {one for one in text if not one.isprintable() and one != "\n"}


def test_nothing_that_others_write_steers_the_terminal(pipeline: Pipeline):
    """File names, reasons, versions, dates, words of a gateway: whatever is told."""
    pipeline.drop(delta(day="2026-11-19"))
    pipeline.intake()
    pipeline.seal()
    with pipeline.store.transaction() as sql:
        batch = outbox.oldest(sql, "tallyd-demo")
        assert batch is not None
        url = f"https://{_EVIL}/v1"
        later = ledger.Verdict.TRY_LATER
        ledger.record(sql, batch, at=NOON, endpoint=url, verdict=later, detail=_EVIL)
    contracts = pipeline.home / "config" / "contracts"
    (contracts / f"x{_EVIL.replace('/', '')}.toml").write_text("contract = 2\n")
    (contracts / os.fsdecode(b"y\xff.toml")).write_text("contract = 1\n")
    choice = pipeline.home / "state" / "consent" / "tallyd-demo.json"
    choice.parent.mkdir(exist_ok=True)
    choice.write_text(json.dumps({"enabled": True, "updated_at": _EVIL, "machine_id": _EVIL}))
    holder = lock.Holder(os.getpid(), "daemon", _EVIL, NOON)
    told = []
    with lock.hold_lock(pipeline.around.paths, holder) as held:
        held.post([Problem(_EVIL, _EVIL, _EVIL, NOON, 1)])
        report, _ = gather(pipeline.around, NOON)
        for product in ("", "tallyd-demo"):
            told += status_text(report, Screen(width=80, height=99), product=product)

    assert _steers("\n".join(told)) == set()
    assert r"\x1b[2J\x1b]0;owned\x07\r\u202e\x9b31m" in "".join(told)
    assert json.dumps(report).isascii()


@pytest.mark.slow
def test_a_name_or_a_home_that_is_no_text_is_spelled_out_also_where_it_fails(home):
    odd = home / os.fsdecode(b"h\xffme\x1b[2J")
    odd.mkdir()
    done = [
        run("tallyd", *words, environ=environ_of(odd, **more), check=False)
        for words in (["status"], ["status", _EVIL], ["contract", "add", f"{_EVIL}.toml"])
        for more in ({}, {"PYTHONIOENCODING": "ascii"}, {"PYTHONIOENCODING": "latin-1"})
    ]

    assert [one.returncode for one in done] == [4] * 3 + [78] * 6
    assert {one for each in done for one in _steers(each.stdout + each.stderr)} == set()
    assert r"h\udcffme\x1b[2J/state" in done[0].stdout


@pytest.mark.slow
def test_an_encoding_that_knows_few_signs_gets_plain_ones(home):
    odd = home / "für-日本"
    odd.mkdir()
    tallyd(odd, "contract", "add", str(DEMO_CONTRACT))
    tallyd(odd, "on", "tallyd-demo")
    told = tallyd(odd, "status", check=False, PYTHONIOENCODING="ascii")

    assert (told.isascii(), r"f\xfcr-\u65e5\u672c/state" in told, "...\n" in told) == (True,) * 3


# Everything is loaded before the privileges go: what a plain user may not read is the test's Python.
_AS_NOBODY = """
import io, os, sys
from contextlib import redirect_stdout
from tallyd.cli import main
home, *words = sys.argv[1:]
for known in (["status"], ["status", "--json"]):
    with redirect_stdout(io.StringIO()):
        try:
            main(known)
        except SystemExit:
            pass
os.environ["TALLYD_HOME"] = home
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
main(words)
"""


def _as_nobody(known: Path, home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", _AS_NOBODY, str(home), *words],
        env=environ_of(known),
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def theirs(home: Path) -> Path:
    """A home of root's with everything in it, which a plain user can reach."""
    made = home / "theirs"
    made.mkdir()
    tallyd(made, "contract", "add", str(DEMO_CONTRACT))
    with Pipeline.open(made, _Clock()) as pipeline:
        pipeline.drop(delta(day="2026-11-19"))
        pipeline.intake()
        pipeline.drop()
    for above in (made, *made.parents):
        if above.stat().st_uid == os.geteuid() and above != Path("/"):
            above.chmod(above.stat().st_mode | 0o055)
    return made


class _Clock:
    def now(self) -> float:
        return NOON

    def monotonic(self) -> float:
        return 0.0


@_needs_root
@pytest.mark.slow
def test_a_state_of_another_user_is_told_once_and_what_cannot_be_read_is_unknown(home, theirs):
    """Closed, then readable but for the database and the spool, then all of it."""
    closed = json.loads(_as_nobody(home, theirs, "status", "--json").stdout)
    for each in (theirs / "config", theirs / "config/contracts", *(theirs / "state").rglob("*")):
        each.chmod(0o755 if each.is_dir() else 0o644)
    (theirs / "state").chmod(0o755)
    (theirs / "config/contracts/tallyd-demo.toml").chmod(0o644)
    (theirs / "state/tallyd.db").chmod(0o600)
    (theirs / "state/spool/tallyd-demo/new").chmod(0o700)
    half = _as_nobody(home, theirs, "status", "--json")
    words = _as_nobody(home, theirs, "status")

    places = [one["place"] for one in closed["problems"]]
    assert (places, closed["products"]) == (["disk", "contracts", "database"], {})
    assert "belongs to another user; be that user" in closed["problems"][0]["why"]
    report = json.loads(half.stdout)
    assert [one["place"] for one in report["problems"]] == ["disk", "database", "spool"]
    product = report["products"]["tallyd-demo"]
    assert [product[key] for key in ("buckets", "events", "outbox", "lost")] == [None] * 4
    assert (product["spool"]["files"], product["spool"]["bytes"], product["ages"]["spool"]) == (
        None,
        None,
        None,
    )
    assert (half.returncode, words.returncode, half.stderr, words.stderr) == (73, 73, "", "")
    assert "knows      unknown, for the database cannot be read" in words.stdout


@pytest.mark.slow
def test_a_thousand_products_are_a_row_each_and_of_one_nobody_reads_the_others(home):
    text = DEMO_CONTRACT.read_text()
    contracts = home / "config" / "contracts"
    contracts.mkdir(parents=True)
    for number in range(1000):
        name = f"tool-{number:04}"
        (contracts / f"{name}.toml").write_text(text.replace("tallyd-demo", name))
    told = tallyd(home, "status", check=False)
    for number in range(1, 1000):
        (contracts / f"tool-{number:04}.toml").write_text("damaged")
    one = tallyd(home, "status", "tool-0000", check=False)

    assert sum(line.startswith("tool-") for line in told.splitlines()) == 1000
    assert (one.splitlines()[0].split(".")[0], "tool-0001" in one) == ("tallyd: not running", False)


@pytest.mark.slow
def test_of_one_product_the_report_holds_it_alone_and_an_unknown_one_is_told(home):
    tallyd(home, "contract", "add", str(DEMO_CONTRACT))
    (home / "config/contracts/broken.toml").write_text("contract = 2\n")
    (home / "state/spool/stranger").mkdir(parents=True)
    words = (["tallyd-demo"], ["stranger"], ["broken"], ["nobody"])
    done = [
        run("tallyd", "status", *one, "--json", environ=environ_of(home), check=False)
        for one in words
    ]

    assert [one.returncode for one in done] == [3, 3, 3, 78]
    found = [json.loads(one.stdout) for one in done[:3]]
    assert [(list(one["products"]), one["unregistered"], one["health"]) for one in found] == [
        (["tallyd-demo"], [], "not_running"),
        ([], ["stranger"], "not_running"),
        (["broken"], [], "wrong"),
    ]
    assert "no contract is registered for 'nobody'; run" in done[3].stderr


@pytest.mark.slow
def test_a_damaged_database_leaves_what_it_held_unknown_and_the_rest_told(home):
    tallyd(home, "contract", "add", str(DEMO_CONTRACT))
    (home / "state" / "tallyd.db").write_bytes(b"no database at all" * 100)
    report = status(home)
    product = report["products"]["tallyd-demo"]

    assert (report["health"], [one["place"] for one in report["problems"]]) == (
        "wrong",
        ["database"],
    )
    assert [product[key] for key in ("buckets", "events", "outbox", "lost", "stripped_fields")] == [
        None
    ] * 5
    assert product["ages"] | {"spool": 0, "quarantine": 0} == {
        "spool": 0,
        "buckets": None,
        "events": None,
        "outbox": None,
        "quarantine": 0,
    }


@pytest.mark.parametrize("pid", [-1, 0, 1, 2**31, 2**70])
def test_of_a_process_that_does_not_hold_the_lock_no_cost_is_told(tmp_path, pid):
    """Its number may be another program's by now."""
    file = tmp_path / "daemon.lock"
    file.touch()

    for one in (pid, os.getpid()):
        assert of_holder(one, str(file)) == _by_psutil(abs(one), str(file)) == (None, None)


@pytest.mark.skipif(sys.platform != "linux", reason="/proc as Linux has it")
def test_proc_and_psutil_tell_the_same_cost_of_the_same_process(tmp_path):
    """Also where the program's name holds brackets and spaces, which /proc/PID/stat does not quote."""
    program = "import sys, time; sys.stdin.read()"
    file = tmp_path / "daemon.lock"
    odd = tmp_path / "a) b (c"
    odd.symlink_to(sys.executable)
    with (
        file.open("w") as held,
        subprocess.Popen(
            [str(odd), "-S", "-c", f"print(sum(range(10**7)), flush=True); {program}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=[held.fileno()],
            env={**os.environ, "PYTHONHOME": sys.base_prefix},
        ) as process,
    ):
        assert process.stdout is not None
        process.stdout.readline()
        ours, theirs = _by_proc(process.pid, str(file)), _by_psutil(process.pid, str(file))
        process.communicate()

    assert ours == theirs
    assert (ours[0] or 0) > 1_000_000
    assert (ours[1] or 0) > 0


def test_times_that_no_calendar_has_are_told_as_unknown(pipeline: Pipeline):
    """A file's time of change, a row, a problem's beginning: others may write them."""
    with lock.hold_lock(pipeline.around.paths, lock.Holder(1, "daemon", "0.1.0", NOON)) as held:
        held.post([Problem("intake", "", "it fails", 1e300, 1)])
        with pipeline.store.transaction() as sql:
            sql.execute("INSERT INTO schedule VALUES ('tallyd-demo', 1e300, 0)")
        report, _ = gather(pipeline.around, NOON)
        told = status_text(report)
    problem = report["daemon"]["problems"][0]
    next_send = report["products"]["tallyd-demo"]["next_send"]

    assert (problem["since"], next_send, "WRONG: intake" in told) == (None, None, True)

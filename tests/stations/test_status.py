"""Status: everything from the durable state alone, changing nothing."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys

import pytest
from support.clock import NOON
from support.deltas import delta
from support.pipeline import Pipeline
from support.processes import DEMO_CONTRACT, daemon, environ_of, run, status, tallyd, wait_for
from tallyd import lock
from tallyd.status import gather

_DAEMON = {
    *("running", "pid", "version", "way", "started_at", "uptime_s", "rss_bytes", "cpu_seconds"),
    *("problems", "more_problems"),
}
_PRODUCT = {
    "consent",
    "machine_id",
    "identity",
    "contract",
    "endpoint",
    "spool",
    "buckets",
    "outbox",
    "last_attempt",
    "last_success",
    "last_verdict",
    "next_send",
    "lost",
}


def test_never_set_up_is_4_and_makes_nothing(home):
    for arguments in (("status",), ("status", "--json")):
        done = run("tallyd", *arguments, environ=environ_of(home), check=False)
        assert (done.returncode, done.stderr) == (4, "")

    assert os.listdir(home) == []


def test_not_running_is_3_and_running_is_0_with_its_cost(home):
    tallyd(home, "contract", "add", str(DEMO_CONTRACT))
    assert run("tallyd", "status", environ=environ_of(home), check=False).returncode == 3

    with daemon(home) as process:
        done = run("tallyd", "status", "--json", environ=environ_of(home))
        told = json.loads(done.stdout)["daemon"]
        assert (_DAEMON, True, process.pid) == (set(told), told["running"], told["pid"])
        assert told["rss_bytes"] > 1_000_000
        process.kill()
        process.wait()

    assert run("tallyd", "status", environ=environ_of(home), check=False).returncode == 3


def test_every_key_is_there_before_and_after_the_first_count(pipeline: Pipeline):
    before = gather(pipeline.around, NOON)[0]["products"]["tallyd-demo"]
    pipeline.drop(delta(lost={"cap": 2}))
    pipeline.drop(b"{")
    pipeline.intake()
    pipeline.drop()
    after = gather(pipeline.around, NOON)[0]["products"]["tallyd-demo"]

    assert set(before) == set(after) >= _PRODUCT
    assert after["consent"] == {
        "state": "on",
        "mode": "on",
        "decided_by": "default",
        "says_off": [],
        "effective_from": None,
    }
    picture = [after[key] for key in ("buckets", "outbox", "lost")]
    assert picture == [
        {"days": 1, "rows": 1},
        {"batches": 0, "bytes": 0},
        {"cap": 2, "malformed": 1},
    ]
    assert (after["spool"]["files"], after["spool"]["quarantined"]) == (1, 1)


def test_every_rule_that_says_off_is_named(pipeline: Pipeline):
    pipeline.environ.update(DO_NOT_TRACK="1", TALLYD_DEMO_TELEMETRY="nope")

    consent = gather(pipeline.around, NOON)[0]["products"]["tallyd-demo"]["consent"]

    assert consent == {
        "state": "off",
        "mode": "off",
        "decided_by": "DO_NOT_TRACK",
        "says_off": ["DO_NOT_TRACK", "TALLYD_DEMO_TELEMETRY"],
        "effective_from": None,
    }


def test_a_damaged_contract_is_told_and_hides_no_other_product(pipeline: Pipeline):
    (pipeline.home / "config/contracts/broken.toml").write_text("contract = 2\n")

    products = gather(pipeline.around, NOON)[0]["products"]

    broken, whole = products["broken"], products["tallyd-demo"]
    assert (set(broken), whole["problem"]) == (set(whole), None)
    assert (
        "broken.toml:1: contract: is a version that this tallyd does not know" in broken["problem"]
    )


def test_a_process_id_in_a_leftover_lock_file_means_nothing(home):
    """After a crash another program may have that number."""
    (home / "state").mkdir()
    leftover = {"pid": os.getpid(), "role": "daemon", "version": "0.1.0", "started_at": 1.0}
    (home / "state" / "daemon.lock").write_text(json.dumps(leftover))

    assert not status(home)["daemon"]["running"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere psutil tells what /proc does here")
@pytest.mark.parametrize("words", [["status"], ["status", "--json"]], ids=" ".join)
def test_the_status_path_imports_none_of_the_heavy_libraries(home, words):
    """Not beside a running daemon either: 12 ms of psutil for two numbers that /proc has."""
    tallyd(home, "contract", "add", str(DEMO_CONTRACT))
    program = (
        "import sys\n"
        "from tallyd.cli import main\n"
        f"try:\n    main({words})\nexcept SystemExit as left:\n    assert left.code == 0\n"
        "heavy = {'anyio', 'httpx', 'watchfiles', 'asyncio', 'psutil', 'logging', 'subprocess'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)\n"
    )
    with daemon(home):
        done = subprocess.run(
            [sys.executable, "-c", program],
            env=environ_of(home),
            capture_output=True,
            text=True,
            check=True,
        )

    assert done.stderr == "[]\n"


def test_a_damaged_database_is_named_with_what_to_do(home):
    tallyd(home, "contract", "add", str(DEMO_CONTRACT))
    (home / "state" / "tallyd.db").write_bytes(b"no database at all" * 100)

    done = run("tallyd", "status", environ=environ_of(home), check=False)

    assert (done.returncode, done.stderr) == (73, "")
    assert "tallyd.db is damaged: file is not a database; tallyd sets it aside" in done.stdout
    assert "tallyd-demo: on, decided by default" in done.stdout


def test_a_database_of_a_newer_tallyd_is_left_alone(pipeline: Pipeline, home):
    with pipeline.store.transaction() as sql:
        sql.execute("PRAGMA user_version = 99")

    for command in (["status"], ["flush"], ["show", "tallyd-demo"], ["run"]):
        done = run("tallyd", *command, environ=environ_of(home), check=False)
        told = done.stdout + done.stderr
        assert (done.returncode, "newer tallyd" in told) == (73, True), command


def test_two_daemons_started_at_once_are_one(home):
    with daemon(home) as first:
        second = run("tallyd", "run", environ=environ_of(home), check=False)
        assert (second.returncode, f"process {first.pid}" in second.stderr) == (75, True)
        assert first.poll() is None


def test_looking_at_the_lock_never_turns_a_daemon_away(home):
    """`status` takes the lock for an instant to see whether it is held."""
    (home / "state").mkdir()
    looking = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import os\nfrom tallyd import lock, paths\n"
            "p = paths.Paths.locate(os.environ)\nprint('.', flush=True)\n"
            "while True: lock.current_holder(p)\n",
        ],
        env=environ_of(home),
        stdout=subprocess.PIPE,
    )
    try:
        assert looking.stdout is not None
        looking.stdout.read(1)
        with daemon(home):
            wait_for(lambda: status(home)["daemon"]["running"])
    finally:
        looking.kill()
        looking.communicate()


def test_the_last_heartbeat_is_what_the_next_holder_is_told(pipeline: Pipeline):
    paths = pipeline.around.paths
    holder = lock.Holder(os.getpid(), "daemon", "0.1.0", NOON)
    with lock.hold_lock(paths, holder) as held:
        held.beat(NOON + 60, 60.0)
    with lock.hold_lock(paths, holder) as held:
        assert held.previous_beat == NOON + 60


def test_saying_what_is_wrong_is_no_heartbeat(pipeline: Pipeline):
    """The time since the last one is told as uptime, and its silence as a daemon that hangs."""
    paths = pipeline.around.paths
    with lock.hold_lock(paths, lock.Holder(os.getpid(), "daemon", "0.1.0", NOON)) as held:
        held.beat(NOON + 60, 60.0)
        held.post([lock.Problem("intake", "tallyd-demo", "it fails", NOON, 1)])

        assert lock.last_beat(paths) == NOON + 60


@pytest.mark.slow
def test_a_killed_daemon_is_named_until_the_next_one_starts(home):
    with daemon(home) as process:
        process.kill()
        process.wait()
    killed = status(home)
    tallyd(home, "flush")

    assert [(one["place"], "was killed" in one["why"]) for one in killed["problems"]] == [
        ("daemon", True)
    ]
    assert (status(home)["problems"], status(home)["last_stop"]["reason"]) == ([], "unclean")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can mount")
def test_status_and_show_work_on_a_read_only_file_system(home):
    """Just when they are needed."""
    mounted = home / "mounted"
    mounted.mkdir()
    tallyd(mounted, "contract", "add", str(DEMO_CONTRACT))
    tallyd(mounted, "flush")
    if subprocess.run(["mount", "--bind", str(mounted), str(mounted)], check=False).returncode:
        pytest.skip("this machine lets nobody mount")
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", str(mounted)], check=True)
        done = [
            run("tallyd", *command, environ=environ_of(mounted), check=False)
            for command in (["status"], ["show", "tallyd-demo"], ["flush"])
        ]
    finally:
        subprocess.run(["umount", str(mounted)], check=True)

    assert [one.returncode for one in done] == [3, 0, 73]
    assert ["Traceback" in one.stderr for one in done] == [False] * 3


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can mount")
def test_a_full_disk_is_told_and_leaves_no_traceback(home):
    small = home / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(small)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount")
    try:
        with (small / "filler").open("wb", buffering=0) as filler, contextlib.suppress(OSError):
            while filler.write(b"x" * 512):
                pass
        done = [
            run("tallyd", *command, environ=environ_of(small), check=False)
            for command in (["run"], ["flush"], ["contract", "add", str(DEMO_CONTRACT)])
        ]
    finally:
        subprocess.run(["umount", str(small)], check=True)

    assert [one.returncode for one in done] == [73] * 3
    assert ["Traceback" in one.stderr for one in done] == [False] * 3


def test_output_that_cannot_be_written_is_told(home):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "tallyd", "status"],
            env=environ_of(home),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )

    assert (done.returncode, "the output cannot be written" in done.stderr) == (74, True)
    assert "Traceback" not in done.stderr

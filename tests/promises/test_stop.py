"""Stopping: at once, in order, whatever the daemon is in the middle of."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest
from support.deltas import delta, drop
from support.processes import (
    CONTRACTS,
    DEMO_CONTRACT,
    background,
    daemon,
    environ_of,
    run,
    status,
    tallyd,
    wait_for,
)
from support.recorder import recording


def _log(home: Path) -> str:
    return "".join(file.read_text() for file in sorted(home.glob("daemon-*.log")))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_in_order_and_the_stop_is_told_with_its_uptime(home, number):
    tallyd(home, "contract", "add", str(DEMO_CONTRACT))
    with daemon(home) as process:
        process.send_signal(number)

        assert process.wait(90) == 0

    stop = status(home)["last_stop"]
    assert (stop["reason"], stop["uptime_s"] > 0) == ("signal", True)
    assert _log(home).count("action=daemon_stopped reason=signal uptime_s=") == 1


@pytest.mark.slow
def test_closing_its_terminal_ends_it_and_without_one_the_same_signal_is_a_reload(home):
    """SIGHUP has two meanings; which one it has, the terminal says."""
    tallyd(home, "contract", "add", str(DEMO_CONTRACT))
    leader, terminal = os.openpty()
    log = home / "daemon-0.log"
    # A session of its own, whose terminal is the first that it opens.
    program = (
        "import os, sys; os.setsid(); os.close(os.open(sys.argv[1], os.O_RDWR)); "
        "os.execv(sys.executable, [sys.executable, '-m', 'tallyd', 'run'])"
    )
    with background(
        *(sys.executable, "-c", program, os.ttyname(terminal)),
        environ=environ_of(home),
        log=log,
        until="action=daemon_started",
    ) as process:
        os.close(terminal)
        os.close(leader)
        assert process.wait(90) == 0
    assert status(home)["last_stop"]["reason"] == "signal"

    with daemon(home) as process:
        process.send_signal(signal.SIGHUP)
        wait_for(lambda: "action=reloaded" in _log(home))
        assert process.poll() is None


@pytest.mark.slow
def test_a_stop_during_a_request_ends_it_at_once_and_keeps_the_batch(home):
    """The endpoint takes the request and never answers; the contract would wait 30 s for it."""
    text = DEMO_CONTRACT.read_text().replace('timeout = "1500ms"', 'timeout = "30s"')
    (home / "demo.toml").write_text(text)
    tallyd(home, "contract", "add", str(home / "demo.toml"))
    earlier = time.strftime("%Y-%m-%d", time.gmtime(time.time() - 86400))
    drop(home / "state", delta(day=earlier), at=time.time())
    with recording(0) as recorder, daemon(home, TALLYD_DEMO_ENDPOINT=recorder.url) as process:
        (home / "state" / "flush" / "request").touch()
        assert recorder.arrived.wait(90)
        process.terminate()

        # The request is still open at its other end when the process is gone.
        assert (process.wait(90), recorder.closing.is_set()) == (0, False)

    # Two: the counts, and the daemon's own start, which has another envelope.
    product = status(home)["products"]["tallyd-demo"]
    assert (product["outbox"]["batches"], status(home)["last_stop"]["reason"]) == (2, "signal")


@pytest.mark.slow
def test_after_a_hard_kill_the_next_start_tells_of_it_and_goes_on(home):
    tallyd(home, "contract", "add", str(DEMO_CONTRACT))
    with daemon(home) as process:
        process.kill()
        process.wait()
    assert "daemon_stopped" not in _log(home)

    with daemon(home):
        assert "action=daemon_stopped reason=unclean uptime_s=0" in _log(home)
        wait_for(lambda: status(home)["daemon"]["running"])


@pytest.mark.slow
def test_a_flush_after_a_hard_kill_tells_of_it_too(home):
    tallyd(home, "contract", "add", str(DEMO_CONTRACT))
    with daemon(home) as process:
        process.kill()
        process.wait()

    tallyd(home, "flush")

    assert status(home)["last_stop"]["reason"] == "unclean"


@pytest.mark.slow
def test_a_wrong_setting_stops_the_start_with_file_and_key(home):
    (home / "config").mkdir()
    (home / "config" / "config.toml").write_text("[daemon]\nlog_levle = 'info'\n")

    done = run("tallyd", "run", environ=environ_of(home), check=False)

    assert (done.returncode, "config.toml:2: daemon.log_levle" in done.stderr) == (78, True)


@pytest.mark.slow
def test_an_unwritable_state_directory_is_told_and_leaves_no_traceback(home):
    (home / "state").write_text("a file where the directory should be")

    for command in (["run"], ["flush"], ["contract", "add", str(CONTRACTS / "codegraph.toml")]):
        done = run("tallyd", *command, environ=environ_of(home), check=False)
        assert (done.returncode, "Traceback" in done.stderr) == (73, False), command


@pytest.mark.slow
def test_a_daemon_whose_state_is_removed_ends_and_loses_no_delta(home):
    """It would merge into a file that nobody sees, and a second daemon would start beside it."""
    (home / "config").mkdir()
    (home / "config" / "config.toml").write_text("[daemon]\nrescan_interval_s = 1\n")
    tallyd(home, "contract", "add", str(DEMO_CONTRACT))
    with daemon(home) as process:
        (home / "state").rename(home / "elsewhere")
        today = time.strftime("%Y-%m-%d", time.gmtime())
        path = drop(home / "elsewhere", delta(day=today), at=time.time())

        assert process.wait(90) == 73

    assert (path.exists(), "action=ended why=" in _log(home)) == (True, True)


@pytest.mark.slow
def test_a_stop_does_not_wait_for_a_name_that_nobody_looks_up(home):
    """A resolver's thread cannot be ended: the process must not wait for it."""
    tallyd(home, "contract", "add", str(DEMO_CONTRACT))
    program = (
        "import socket, threading, sys\n"
        "asked = threading.Event()\n"
        "def never(*_, **__):\n    print('asked', file=sys.stderr, flush=True)\n    threading.Event().wait()\n"
        "socket.getaddrinfo = never\n"
        "from tallyd.cli import main\nmain(['run'])\n"
    )
    text = DEMO_CONTRACT.read_text().replace('timeout = "1500ms"', 'timeout = "30s"')
    (home / "demo.toml").write_text(text)
    tallyd(home, "contract", "add", str(home / "demo.toml"))
    earlier = time.strftime("%Y-%m-%d", time.gmtime(time.time() - 86400))
    drop(home / "state", delta(day=earlier), at=time.time())
    environ = environ_of(home, TALLYD_DEMO_ENDPOINT="https://telemetry.invalid/v1/events")
    log = home / "daemon-1.log"
    with background(
        sys.executable, "-c", program, environ=environ, log=log, until="action=daemon_started"
    ) as process:
        (home / "state" / "flush" / "request").touch()
        wait_for(lambda: "asked" in log.read_text())
        process.terminate()

        # The look-up never ends; the process does.
        assert process.wait(90) == 0

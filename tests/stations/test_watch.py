"""`tallyd status --watch`: the report again and again, without flicker, until Ctrl-C, and nothing grows."""

from __future__ import annotations

import fcntl
import gc
import io
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

import pytest
from support.clock import NOON
from support.pipeline import Pipeline
from support.processes import DEMO_CONTRACT, environ_of, run, tallyd
from tallyd.cli.watch import Watch
from tallyd.status import gather

_COMMAND = [sys.executable, "-m", "tallyd", "status", "--watch", "0.1"]


@contextmanager
def _on_a_terminal(home, *, lines: int = 24, columns: int = 80, **more: str) -> Iterator[tuple]:
    """The watch on a terminal of this size; gives the process and the terminal's other end."""
    ours, theirs = pty.openpty()
    _resize(ours, lines, columns)
    environ = environ_of(home, TERM="xterm", **more)
    process = subprocess.Popen(
        _COMMAND, env=environ, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    )
    os.close(theirs)
    try:
        yield process, ours
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def _resize(terminal: int, lines: int, columns: int) -> None:
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))


def _read_until(terminal: int, text: bytes, times: int = 1) -> bytes:
    """What the terminal shows until `text` came so often."""
    found = b""
    while found.count(text) < times:
        assert select.select([terminal], [], [], 60)[0], found
        found += os.read(terminal, 65536)
    return found


@pytest.mark.slow
def test_on_a_terminal_each_report_is_written_over_the_last_and_ctrl_c_ends_it_with_0(home):
    tallyd(home, "contract", "add", str(DEMO_CONTRACT))
    with _on_a_terminal(home) as (process, terminal):
        shown = _read_until(terminal, b"\x1b[J", 4)
        process.send_signal(signal.SIGINT)
        code = process.wait(60)

    frames = shown.split(b"\x1b[H")[1:5]
    assert (code, shown.count(b"\x1b[2J")) == (0, 1)
    assert [(one.count(b"\n") < 24, b"Ctrl-C ends it" in one) for one in frames] == [
        (True, True)
    ] * 4
    # Each line is cleared to its end, and what is below the last one: no rest of an earlier report.
    assert all(
        line.endswith((b"\x1b[K\r", b"\x1b[K\x1b[J", b"\x1b[K\x1b[J\x1b[2J"))
        for one in frames
        for line in one.strip(b"\n").split(b"\n")
    )


@pytest.mark.slow
def test_a_change_of_the_terminals_size_is_drawn_at_once_and_nothing_is_wider_or_higher(home):
    """With an interval of a day: only the change can have drawn it. An exported COLUMNS hides no change."""
    tallyd(home, "contract", "add", str(DEMO_CONTRACT))
    day = [*_COMMAND[:-1], "86400"]
    ours, theirs = pty.openpty()
    _resize(ours, 24, 80)
    environ = environ_of(home, TERM="xterm", NO_COLOR="1", COLUMNS="80", LINES="24")
    # A session of its own, and this its terminal: who resizes it is heard.
    process = subprocess.Popen(
        [sys.executable, "-c", _WITH_TERMINAL, *day[1:]],
        env=environ,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    try:
        _read_until(ours, b"\x1b[J")
        _resize(ours, 10, 40)
        small = _read_until(ours, b"\x1b[J").split(b"\x1b[H")[-1]
    finally:
        process.kill()
        process.wait()
        os.close(ours)

    lines = small.replace(b"\x1b[K", b"").replace(b"\x1b[J", b"").split(b"\r\n")
    assert (len(lines), max(len(one.decode()) for one in lines) < 40) == (10, True)
    assert b"more lines: make this window higher" in lines[8]


_WITH_TERMINAL = (
    "import fcntl, os, sys, termios\n"
    "fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"
    "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])\n"
)


@pytest.mark.slow
@pytest.mark.parametrize("more", [(), ("--json",)], ids=["text", "json"])
def test_elsewhere_the_reports_follow_one_another_and_the_end_is_0(home, more):
    with subprocess.Popen(
        [*_COMMAND, *more], env=environ_of(home, TERM="xterm"), stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        found = []
        while sum("schema_version" in one or one.startswith("--- 2") for one in found) < 3:
            found.append(process.stdout.readline())
        process.send_signal(signal.SIGINT)
        code = process.wait(60)

    assert (code, any("\x1b" in one for one in found)) == (0, False)
    if more:
        reports = [json.loads(one) for one in found]
        assert [one["schema_version"] for one in reports] == [1, 1, 1]
        assert len({one["at"] for one in reports}) == 3
    else:
        assert sum(one.startswith("tallyd: ") for one in found) == 3


@pytest.mark.slow
def test_a_reader_that_has_seen_enough_ends_it_quietly(home):
    for command in ("status --watch 0.1", "status", "status --json"):
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", f"{sys.executable} -m tallyd {command} | head -1"],
            env=environ_of(home),
            capture_output=True,
            text=True,
            check=False,
        )
        # 4: never set up, which a status that is written in one piece still says.
        assert (done.returncode in (0, 4), done.stderr, len(done.stdout.splitlines())) == (
            True,
            "",
            1,
        )


@pytest.mark.slow
@pytest.mark.parametrize("is_json", [False, True], ids=["text", "json"])
def test_a_thousand_rounds_hold_no_more_than_a_hundred(pipeline: Pipeline, is_json):
    """No descriptor, no connection, no report: objects are counted, not seconds."""
    pipeline.drop()
    pipeline.intake()
    counts = []

    def wait(_: float) -> None:
        rounds.append(None)
        printed.seek(0)
        printed.truncate()
        if len(rounds) in (100, 1000):
            gc.collect()
            counts.append((len(os.listdir("/proc/self/fd")), len(gc.get_objects())))
        if len(rounds) == 1000:
            raise KeyboardInterrupt

    rounds: list[None] = []
    with redirect_stdout(io.StringIO()) as printed:
        code = Watch(2.0, "", is_json=is_json).run(lambda: gather(pipeline.around, NOON)[0], wait)

    (descriptors, objects), (descriptors_then, objects_then) = counts
    assert (code, len(rounds), descriptors_then - descriptors) == (0, 1000, 0)
    # A list here and a cache there; a report of its own has over 60 objects, 900 rounds 54,000.
    assert objects_then - objects < 200


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "1e9", "codegraph", ""])
def test_an_interval_that_is_none_is_wrong_usage_and_says_what_would_be_right(home, seconds):
    done = run("tallyd", "status", f"--watch={seconds}", environ=environ_of(home), check=False)

    assert (done.returncode, done.stdout) == (64, "")
    assert "is no number of seconds from 0.1 to 86400; a product's name comes before" in done.stderr

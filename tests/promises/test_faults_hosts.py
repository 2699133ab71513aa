"""Hosts that never end, stand still in the middle of a drop, or keep a file open for ever."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from support.deltas import name_of
from support.faults import counted, delta_of, drop_now, problems, set_up
from support.hosts import spool_of, start_host
from support.processes import daemon, wait_for

pytestmark = pytest.mark.slow
# Stops the whole process between the write and the rename of its first drop.
_STOPS_IN_THE_DROP = """\
import os, signal
rename, stops = os.rename, [1]
def stopping(*arguments):
    if stops:
        stops.pop()
        os.kill(os.getpid(), signal.SIGSTOP)
    rename(*arguments)
os.rename = stopping
"""


def _is_stopped(process: subprocess.Popen[str]) -> bool:
    return Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def _age(file: Path, hours: float) -> None:
    then = time.time() - hours * 3600
    os.utime(file, (then, then))


def test_the_counts_of_a_host_that_never_ends_arrive_at_its_drains(home):
    """A server that runs for months, and is never idle: it counts in another thread all the while."""
    set_up(home)
    code = (
        "import threading\n"
        "def work():\n    while True: count('busy')\n"
        "threading.Thread(target=work, daemon=True).start()\n"
        "for line in sys.stdin:\n    search()\n    client.drain()\n"
    )
    with daemon(home), start_host(home, code, stdin=subprocess.PIPE) as host:
        assert host.stdin is not None
        for number in range(1, 4):
            host.stdin.write("\n")
            host.stdin.flush()
            wait_for(lambda number=number: _of_search(home) == number)
        alive = host.poll()
        host.kill()

    assert (alive, problems(home)) == (None, {})


def _of_search(home: Path) -> int:
    from support.processes import show

    rows = [one for one in show(home) if one["dimensions"]["tool"] == "search"]
    return sum(one["measures"]["count"] for one in rows)


def test_a_host_that_stands_still_in_the_middle_of_a_drop_drops_when_it_goes_on(home):
    set_up(home)
    with daemon(home), start_host(home, "search()\n", before=_STOPS_IN_THE_DROP) as host:
        wait_for(lambda: _is_stopped(host))
        left = list(spool_of(home).tmp.iterdir())
        drop_now(home)
        wait_for(lambda: counted(home) == {"tallyd-demo": 1})
        assert (len(left), list(spool_of(home).tmp.iterdir())) == (1, left)
        host.send_signal(signal.SIGCONT)

        assert host.wait(90) == 0
        wait_for(lambda: counted(home) == {"tallyd-demo": 2})
    assert list(spool_of(home).tmp.iterdir()) == []


def test_a_host_that_stood_still_for_longer_than_its_file_may_stay_drops_again(home):
    """A suspended laptop: the file is swept meanwhile, and the host still has the counts."""
    set_up(home)
    code = "search()\nclient.drain()\nprint('dropped', flush=True)\nclient.drain()\n"
    with start_host(home, code, before=_STOPS_IN_THE_DROP) as host:
        wait_for(lambda: _is_stopped(host))
        (left,) = spool_of(home).tmp.iterdir()
        _age(left, 2)
        with daemon(home):
            wait_for(lambda: not left.exists())
            host.send_signal(signal.SIGCONT)
            assert host.wait(90) == 0
            wait_for(lambda: counted(home) == {"tallyd-demo": 1})


def test_a_file_that_is_kept_open_in_tmp_is_swept_after_an_hour(home):
    """Whoever holds it open writes on into nothing; nobody reads it, and nobody waits for it."""
    set_up(home)
    tmp = spool_of(home).tmp
    tmp.mkdir(parents=True, mode=0o700)
    names = {age: name_of() for age in (0.5, 2)}
    files = {age: (tmp / name).open("wb") for age, name in names.items()}
    for age, file in files.items():
        file.write(json.dumps(delta_of()).encode())
        file.flush()
        _age(tmp / names[age], age)
    with daemon(home):
        wait_for(lambda: not (tmp / names[2]).exists())
        drop_now(home)
        wait_for(lambda: counted(home) == {"tallyd-demo": 1})
    for file in files.values():
        file.write(b" ")
        file.close()

    assert os.listdir(tmp) == [names[0.5]]


@pytest.mark.parametrize("how", ["grows", "is cut", "is replaced", "goes"])
def test_a_file_that_changes_while_it_is_read_is_counted_once_or_set_aside(pipeline, how):
    """No writer of ours does so after the rename. Whatever is read in one piece, that is taken."""
    from tallyd import spool

    path = pipeline.drop()
    whole = path.read_bytes()
    read, tampered = os.read, []

    def tampering(descriptor: int, size: int) -> bytes:
        if not tampered and os.fstat(descriptor).st_size == len(whole):
            tampered.append(how)
            if how == "grows":
                path.write_bytes(whole + b" " * 70_000)
            elif how == "is cut":
                os.truncate(path, len(whole) // 2)
            elif how == "is replaced":
                path.unlink()
                path.write_bytes(whole)
            else:
                path.unlink()
        return read(descriptor, size)

    pipeline.drop()
    patch = pytest.MonkeyPatch()
    patch.setattr(spool.arrivals.os, "read", tampering)
    try:
        pipeline.intake()
    finally:
        patch.undo()
    pipeline.intake()

    tally = pipeline.tally()
    is_set_aside = how in {"grows", "is cut"}
    assert (tampered, tally.counted, tally.bad, tally.new) == (
        [how],
        {"search": 1 if is_set_aside else 2},
        int(is_set_aside),
        0,
    )

"""On demand: a host starts the daemon where none runs; it is one, it is nobody's, and it leaves."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.crowd import crowd
from support.disks import fill, small_disk
from support.hosts import COSTLY, PYTHONS, built, environ_of_host, program, python_of
from support.on_demand import (
    PROGRAM,
    counted,
    holder,
    log_of,
    on_demand,
    processes_of,
    run_starting,
    runs,
    script,
    set_idle,
    start_starting,
    starting,
    wait_for_daemon,
    wait_until_gone,
    waiting,
)
from support.processes import environ_of, wait_for
from tallyd import __version__
from tallyd.runs import StopReason

pytestmark = pytest.mark.slow

_IDLE = StopReason.IDLE.value


@pytest.fixture
def demand(home: Path) -> Iterator[Path]:
    """A home whose daemons leave after two seconds without work."""
    with on_demand(home) as made:
        yield made


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat behind the name: state, ppid, pgrp, session, tty_nr and more."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def test_the_first_drop_starts_a_daemon_which_merges_and_leaves_when_it_is_idle(demand: Path):
    set_idle(demand, 6)
    done = run_starting(demand)
    pid = wait_for_daemon(demand)
    during = processes_of(demand)
    run_starting(demand)
    wait_until_gone(demand)

    assert (done.stdout, list(during), during[pid].split()[1:]) == (
        "",
        [pid],
        [str(PROGRAM), "run", "--on-demand"],
    )
    assert (counted(demand), waiting(demand), runs(demand)) == (2, 0, [(__version__, _IDLE)])
    assert not (demand / "state" / "starting").exists()


@pytest.mark.parametrize("version", PYTHONS)
def test_a_host_on_any_python_starts_it_and_imports_nothing_that_costs(demand: Path, version: str):
    run_starting(demand, autostart=False)
    code = f"""
search(); client.drain()
print(client._starter._is_searched, sorted(set(sys.modules).intersection({COSTLY!r})))
"""
    program = str(PROGRAM)
    done = run_starting(demand, code, "-S", autostart=program, python=python_of(version))
    wait_for_daemon(demand)
    wait_until_gone(demand)

    assert (done.stdout, counted(demand)) == ("True []\n", 2)


def test_the_daemon_has_nothing_of_the_hosts(
    demand: Path, tmp_path_factory: pytest.TempPathFactory
):
    """No descriptor, directory, console, signal mask, child's duty, or word of its environment."""
    set_idle(demand, 3600)
    place = tmp_path_factory.mktemp("place")
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)
    before = """
import os, signal
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGUSR1])
signal.signal(signal.SIGHUP, signal.SIG_IGN)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.umask(0)
"""
    environ = environ_of_host(
        demand,
        API_KEY="secret-1",
        TALLYD_DEMO_TELEMETRY="1",
        NOTIFY_SOCKET="/nowhere",
        LISTEN_FDS="1",
        JOURNAL_STREAM="8:1",
        LC_TIME="C",
        no_proxy="localhost",
    )
    run_starting(demand, before=before, environ=environ, cwd=place, pass_fds=[writing])
    os.close(writing)
    pid = wait_for_daemon(demand)
    with os.fdopen(reading, "rb") as pipe:
        # The end of the pipe comes while the daemon lives.
        assert pipe.read() == b""
    proc = Path(f"/proc/{pid}")
    status = dict(
        line.split(":\t", 1) for line in (proc / "status").read_text().splitlines() if ":\t" in line
    )
    _, parent, group, session, terminal = _stat(pid)[:5]
    names = {one.partition("=")[0] for one in (proc / "environ").read_text().split("\0") if one}
    log = str(demand / "state" / "daemon.log")
    standard = [os.readlink(proc / "fd" / one) for one in "012"]
    others = {os.readlink(one) for one in (proc / "fd").iterdir() if one.name not in "012"}

    assert (os.readlink(proc / "cwd"), standard) == ("/", ["/dev/null", log, log])
    assert [one for one in others if str(place) in one] == []
    assert int(parent) not in (0, os.getpid())
    assert (group, session, terminal) == (str(pid), str(pid), "0")
    assert (status["SigBlk"].strip("0"), status["Umask"].strip()) == ("", "0077")
    # SIGHUP, SIGTERM: neither of them is ignored any more.
    assert int(status["SigIgn"], 16) & (1 << 0 | 1 << 14) == 0
    assert b"secret-1" not in (proc / "environ").read_bytes()
    assert names >= {"TALLYD_HOME", "HOME", "PATH", "LC_TIME", "no_proxy"}
    assert names.isdisjoint(
        {"API_KEY", "TALLYD_DEMO_TELEMETRY", "NOTIFY_SOCKET", "LISTEN_FDS", "JOURNAL_STREAM"}
    )
    assert names.isdisjoint({"PYTHONPATH", "VIRTUAL_ENV"})


def test_whoever_waits_for_a_hosts_output_hears_its_end_while_the_daemon_lives(demand: Path):
    """`$(tool)` in a shell waits until nobody holds the pipe any more."""
    set_idle(demand, 3600)
    done = run_starting(demand, "search(); print('said')", stdin=subprocess.PIPE)
    pid = wait_for_daemon(demand)

    assert (done.stdout, list(processes_of(demand))) == ("said\n", [pid])


def test_closing_the_terminal_of_a_host_does_not_end_the_daemon(demand: Path):
    set_idle(demand, 3600)
    child, terminal = pty.fork()
    if child == 0:
        arguments = [sys.executable, "-c", program(starting())]
        os.execve(sys.executable, arguments, environ_of_host(demand))
    assert os.waitpid(child, 0)[1] == 0
    pid = wait_for_daemon(demand)
    os.write(terminal, b"\x03")
    os.close(terminal)
    run_starting(demand)
    wait_for(lambda: not waiting(demand))

    assert (_stat(pid)[4], list(processes_of(demand)), counted(demand)) == ("0", [pid], 2)


def test_a_daemon_that_is_killed_is_followed_by_another_at_the_next_drop(demand: Path):
    set_idle(demand, 3600)
    pids = []
    for turn in range(3):
        run_starting(demand)
        pids.append(wait_for_daemon(demand))
        if turn == 2:
            wait_for(lambda: not waiting(demand))
        os.kill(pids[-1], signal.SIGKILL)
        wait_until_gone(demand)
    set_idle(demand, 1)
    run_starting(demand)
    wait_for_daemon(demand)
    wait_until_gone(demand)

    assert (len(set(pids)), counted(demand), waiting(demand)) == (3, 4, 0)
    unclean = StopReason.UNCLEAN.value
    assert [reason for _, reason in runs(demand)] == [unclean] * 3 + [_IDLE]


_NOT = {
    "without autostart": ({}, "search()", False),
    "off by DO_NOT_TRACK": ({"DO_NOT_TRACK": "1"}, "search()", True),
    "off by its variable": ({"TALLYD_DEMO_TELEMETRY": "0"}, "search()", True),
    "nothing was counted": ({}, "client.drain()", True),
    "a relative path": ({}, "search()", "bin/tallyd"),
    "a path to nothing": ({}, "search()", "/nowhere/tallyd"),
    "a directory": ({}, "search()", "/usr"),
    "no path": ({}, "search()", 1),
    "another home meanwhile": ({}, "os.environ['TALLYD_HOME'] = '/nowhere'; search()", True),
}


@pytest.mark.parametrize(("environ", "code", "autostart"), _NOT.values(), ids=_NOT)
def test_nothing_is_started(demand: Path, environ: dict[str, str], code: str, autostart: object):
    """And nothing is imported for it either, unless a drop of a host that wants it stayed."""
    code += "\nclient.drain()\nprint(sorted(one for one in sys.modules if 'tallyd_client._start' in one))"
    before = "import os\nspawned = []\n"
    before += "import sys\nsys.addaudithook(lambda e, a: spawned.append(e) if e == 'os.posix_spawn' else 0)\n"
    code += "\nprint(spawned)"
    done = run_starting(
        demand,
        code,
        autostart=autostart,
        before=before,
        environ=environ_of_host(demand, **environ),
    )

    assert done.stdout.splitlines()[-1] == "[]"
    assert (processes_of(demand), (demand / "state" / "starting").exists()) == ({}, False)


def test_who_stopped_the_service_stopped_the_hosts_too(demand: Path):
    run_starting(demand, autostart=False)
    (demand / "state" / "stopped").touch()
    run_starting(demand)
    quiet = processes_of(demand)
    (demand / "state" / "stopped").unlink()
    run_starting(demand)
    wait_for_daemon(demand)
    wait_until_gone(demand)

    assert (quiet, counted(demand)) == ({}, 3)


def test_a_daemon_that_is_just_starting_hears_a_stop_too(demand: Path):
    """A host looked before the word was there; whoever said it looked at the lock before it was taken."""
    run_starting(demand, autostart=False)
    (demand / "state" / "stopped").touch()
    (demand / "state" / "starting").touch()

    done = subprocess.run(
        [str(PROGRAM), "run", "--on-demand"], env=environ_of(demand), timeout=60, check=False
    )

    assert (done.returncode, runs(demand), waiting(demand)) == (0, [], 1)
    assert 'why="stopped by' in log_of(demand)
    assert not (demand / "state" / "starting").exists()


@pytest.mark.parametrize("way", ["others may write there", "it is another user's"])
def test_nothing_is_started_where_the_state_is_not_the_users_own(demand: Path, way: str):
    """As for root with the HOME of a user: `sudo tool`."""
    run_starting(demand, autostart=False)
    state = demand / "state"
    if way == "others may write there":
        state.chmod(0o770)
    elif os.geteuid():
        pytest.skip("only root gives a directory away")
    else:
        os.chown(state, 65534, 65534)
    run_starting(demand)

    assert (processes_of(demand), waiting(demand)) == ({}, 2)


def test_in_ci_nothing_is_started_where_the_contract_does_not_count_there(demand: Path):
    contract = built()
    contract["consent"]["ci"] = "off"
    for environ in ({"CI": "true"}, {}):
        run_starting(demand, contract=contract, environ=environ_of_host(demand, **environ))
        if environ:
            assert (processes_of(demand), waiting(demand)) == ({}, 0)
    wait_for_daemon(demand)
    wait_until_gone(demand)

    assert counted(demand) == 1


# --- the claim -----------------------------------------------------------------------------------


def _failing(home: Path) -> Path:
    """A program that fails at once, and leaves a line each time that it was started."""
    return script(home / "bin" / "tallyd", f'#!/bin/sh\necho "$@" >> {home}/started\nexit 1\n')


def _started(home: Path) -> int:
    try:
        return len((home / "started").read_text().splitlines())
    except FileNotFoundError:
        return 0


def _all_at_once(home: Path, hosts: int, code: str, program: Path) -> None:
    """Hosts that wait at a gate until all are there."""
    gated = f'search(); print("ready", flush=True); sys.stdin.read()\n{code}\nclient.drain()'
    waiting_at = [start_starting(home, gated, program, stdin=subprocess.PIPE) for _ in range(hosts)]
    for host in waiting_at:
        assert host.stdout is not None
        assert host.stdout.readline() == "ready\n"
    for host in waiting_at:
        assert host.stdin is not None
        host.stdin.close()
        host.stdin = None
    for host in waiting_at:
        assert (host.wait(60), *host.communicate())[0] == 0


def test_a_program_that_fails_at_once_is_not_started_by_each_host(demand: Path):
    """The claim holds for a minute; then one host tries again, however many come at once."""
    failing, claim = _failing(demand), demand / "state" / "starting"
    for _ in range(5):
        run_starting(demand, autostart=failing)
    wait_for(lambda: _started(demand))
    first = _started(demand)
    old = time.time() - 61
    os.utime(claim, (old, old))
    _all_at_once(demand, 12, "", failing)
    wait_for(lambda: _started(demand) > 1)

    assert (first, _started(demand), waiting(demand)) == (1, 2, 17)
    assert (demand / "started").read_text().splitlines() == ["run --on-demand"] * 2


_WRONG_CLAIMS = {
    "no claim": "from tallyd_client import _start; _start._claim = lambda starting: True",
    "a stale one is removed and made anew": """
from tallyd_client import _start
def claim(starting):
    try:
        os.close(os.open(starting, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        return True
    except FileExistsError:
        if not _start._is_stale(os.lstat(starting)):
            return False
    # All who found it stale are here now.
    sys.stdout.close()
    import time
    time.sleep(0.3)
    os.unlink(starting)
    os.close(os.open(starting, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    return True
_start._claim = claim
""",
}


@pytest.mark.parametrize("wrong", _WRONG_CLAIMS.values(), ids=_WRONG_CLAIMS)
def test_a_claim_that_is_wrong_is_caught(demand: Path, wrong: str):
    """The same hosts at the same gate: with any of these more than one starts."""
    failing = _failing(demand)
    run_starting(demand, autostart=failing)
    wait_for(lambda: _started(demand) == 1)
    old = time.time() - 61
    os.utime(demand / "state" / "starting", (old, old))
    _all_at_once(demand, 12, wrong, failing)
    wait_for(lambda: _started(demand) > 2)


def test_a_daemon_that_took_the_lock_meanwhile_is_no_reason_to_start_another(demand: Path):
    """It removed its own claim between a host's look and that host's claim."""
    set_idle(demand, 3600)
    run_starting(demand, autostart=False)
    code = """
from tallyd_client import _start
right = _start._claim
def claim(starting):
    print("looked", flush=True)
    sys.stdin.readline()
    return right(starting)
_start._claim = claim
search(); client.drain()
"""
    late = start_starting(demand, code, stdin=subprocess.PIPE)
    assert late.stdout is not None
    assert late.stdout.readline() == "looked\n"
    run_starting(demand)
    pid = wait_for_daemon(demand)
    wait_for(lambda: not (demand / "state" / "starting").exists())
    late.communicate("\n", timeout=60)

    assert (late.returncode, list(processes_of(demand))) == (0, [pid])
    assert not (demand / "state" / "starting").exists()


# --- leaving -------------------------------------------------------------------------------------


def test_a_host_that_drops_at_the_moment_an_idle_daemon_leaves_is_merged(demand: Path):
    """Twelve hosts, each a little later than the one before, around the second at which it leaves."""
    set_idle(demand, 1)
    run_starting(demand)
    hosts = 1
    for turn in range(12):
        while holder(demand) is None:
            run_starting(demand)
            hosts += 1
        # From the last merge on the daemon stays for a second, and looks again each second.
        time.sleep(0.85 + 0.03 * turn)
        run_starting(demand)
        hosts += 1
        wait_for(lambda: not waiting(demand))
    wait_until_gone(demand)

    assert (counted(demand), waiting(demand)) == (hosts, 0)


_LEAVING = """#!{python}
# tallyd, but for a host that drops right after an idle daemon looked for the last time.
import os, subprocess, sys
from tallyd import heartbeat
right, said = heartbeat.record_stop, []
def record_stop(*arguments):
    right(*arguments)
    if not said:
        said.append(subprocess.run([sys.executable, "-c", {host!r}], env={environ!r}, check=True))
heartbeat.record_stop = record_stop
from tallyd.cli import main
main()
"""


def test_a_file_that_comes_after_the_last_look_of_a_leaving_daemon_is_merged_by_it(demand: Path):
    """The host sees the lock, and starts nobody; the daemon looks once more when it let go of it."""
    host = program(starting())
    text = _LEAVING.format(python=sys.executable, host=host, environ=environ_of_host(demand))
    run_starting(demand, autostart=script(demand / "bin" / "tallyd", text))
    wait_for_daemon(demand)
    wait_until_gone(demand)

    assert (counted(demand), waiting(demand)) == (2, 0)
    # The same process, in a second run.
    assert runs(demand) == [(__version__, _IDLE)] * 2
    # Of which each has a start and a length of its own.
    lines = log_of(demand)
    assert [int(one) < 2000 for one in re.findall(r"daemon_started .*startup_ms=(\d+)", lines)] == [
        True,
        True,
    ]
    assert [int(one) for one in re.findall(r"daemon_stopped .*uptime_s=(\d+)", lines)][1] < 4


def test_looking_first_and_dropping_then_is_caught(demand: Path):
    """Deliberately wrong: between its look and its drop the daemon leaves, and the file stays."""
    set_idle(demand, 1)
    run_starting(demand)
    wait_for_daemon(demand)
    code = """
from tallyd_client import _autostart
starter = _autostart.Starter(client._policy, True)
starter._look()
print("looked", flush=True)
sys.stdin.readline()
client._autostart = False
search()
"""
    wrong = start_starting(demand, code, stdin=subprocess.PIPE)
    right = start_starting(demand, "print(1, flush=True)\nsys.stdin.readline()\nsearch()", stdin=-1)
    assert wrong.stdout is not None
    assert wrong.stdout.readline() == "looked\n"
    wait_until_gone(demand)
    wrong.communicate("\n", timeout=60)
    left_behind = (waiting(demand), processes_of(demand))
    right.communicate("\n", timeout=60)
    wait_for_daemon(demand)
    wait_until_gone(demand)

    assert (left_behind, waiting(demand), counted(demand)) == ((1, {}), 0, 3)


def test_files_of_no_registered_product_do_not_keep_a_daemon_busy(demand: Path):
    """Nothing is on, and something waits: it leaves once, instead of beginning anew for ever."""
    run_starting(demand, autostart=False)
    (demand / "config" / "contracts" / "tallyd-demo.toml").unlink()
    subprocess.run([PROGRAM, "run", "--on-demand"], env=environ_of(demand), timeout=60, check=True)

    assert (runs(demand), waiting(demand)) == ([(__version__, _IDLE)], 1)


# --- hosts with children -------------------------------------------------------------------------


def test_a_host_that_has_children_of_its_own_is_not_confused(demand: Path):
    """It waits by number, as subprocess and multiprocessing do, while ours starts beside it."""
    code = """
import subprocess
search()
codes = []
for turn in range(40):
    child = subprocess.Popen([sys.executable, "-S", "-c", "import sys; sys.exit(%d)" % (turn % 7)])
    if turn == 5:
        client.drain()
    codes.append(child.wait())
print(codes == [turn % 7 for turn in range(40)])
"""
    assert run_starting(demand, code).stdout == "True\n"
    wait_for_daemon(demand)


def test_a_host_that_lives_on_keeps_no_dead_shell(demand: Path):
    """Its own thread buries it within milliseconds, or the next drain does."""
    code = """
def children():
    return open("/proc/self/task/%d/children" % os.getpid()).read().split()
search(); client.drain()
after = len(children())
search(); client.drain()
print(after <= 1, children())
try:
    os.waitpid(-1, os.WNOHANG)
except ChildProcessError:
    print("no child")
"""
    pause = "import time; time.sleep(0.3)\n"
    code = code.replace("after = ", pause + "after = ")
    assert run_starting(demand, code).stdout == "True []\nno child\n"


def test_a_host_that_ignores_its_children_or_waits_for_any_sees_its_own_end(demand: Path):
    code = """
import signal, subprocess
signal.signal(signal.SIGCHLD, {action})
search(); client.drain()
mine = os.spawnv(os.P_NOWAIT, "/bin/sh", ["sh", "-c", "exit 3"])
ends = {{}}
while True:
    try:
        pid, how = os.wait()
    except ChildProcessError:
        break
    ends[pid] = how
client.drain()
print(ends.get(mine), len(ends) <= 2)
"""
    ignoring = run_starting(demand, code.format(action="signal.SIG_IGN")).stdout
    waiting_for_any = run_starting(demand, code.format(action="signal.SIG_DFL")).stdout

    assert (ignoring, waiting_for_any) == ("None True\n", "768 True\n")


def test_a_forked_child_looks_for_itself(demand: Path):
    """The parent had its look; the daemon is killed; the child's drop starts another."""
    set_idle(demand, 3600)
    code = """
search(); client.drain()
print("dropped", flush=True)
sys.stdin.readline()
if os.fork() == 0:
    search(); client.drain()
    os._exit(0)
os.wait()
"""
    host = start_starting(demand, code, stdin=subprocess.PIPE)
    assert host.stdout is not None
    host.stdout.readline()
    first = wait_for_daemon(demand)
    os.kill(first, signal.SIGKILL)
    wait_until_gone(demand)
    host.communicate("\n", timeout=60)
    second = wait_for_daemon(demand)

    assert (host.returncode, first != second) == (0, True)


def test_a_server_that_lives_on_starts_another_when_the_first_has_left(demand: Path):
    """It looks again after ten minutes; here the time of its next look is brought forward."""
    code = """
search(); client.drain()
for line in sys.stdin:
    client._starter._next_look = 0.0 if line == "later\\n" else client._starter._next_look
    search(); client.drain()
    print("dropped", flush=True)
"""
    host = start_starting(demand, code, stdin=subprocess.PIPE)
    assert host.stdin is not None
    assert host.stdout is not None
    wait_for_daemon(demand)
    seen = []
    for line in ("at once\n", "later\n"):
        wait_until_gone(demand)
        host.stdin.write(line)
        host.stdin.flush()
        host.stdout.readline()
        seen.append(waiting(demand))
    wait_for_daemon(demand)
    wait_until_gone(demand)
    host.communicate(timeout=60)

    assert (seen[0], waiting(demand), counted(demand)) == (1, 0, 3)


# --- what may be in the way ----------------------------------------------------------------------

_KINDS = ("a link", "a link to nothing", "a directory", "a pipe", "huge", "noise", "nested")
# What is only text: nobody is held by it.
_PLAIN = {"huge", "noise", "nested"}
# With which of them a host starts a daemon all the same.
_STARTS = {
    "starting": set(),
    "stopped": set(),
    "handover": set(_KINDS),
    "program.json": set(_KINDS),
    "daemon.log": _PLAIN,
    "daemon.lock": _PLAIN,
}
_TELLING = """
from tallyd_client import _start
right = _start._spawn
def spawn(*arguments):
    shell = right(*arguments)
    print("started")
    return shell
_start._spawn = spawn
search()
"""


def _hostile(file: Path, kind: str, aside: Path) -> None:
    file.unlink(missing_ok=True)
    if kind == "a link":
        aside.write_text("another's")
        file.symlink_to(aside)
    elif kind == "a link to nothing":
        file.symlink_to(aside / "nowhere")
    elif kind == "a directory":
        file.mkdir()
    elif kind == "a pipe":
        os.mkfifo(file)
    elif kind == "huge":
        with file.open("wb") as opened:
            opened.truncate(1 << 34)
    elif kind == "noise":
        file.write_bytes(b'{"version": ["9"], "program": 1, "command": {}, "package": null}\xff')
    else:
        file.write_text("[" * 4000)


@pytest.mark.parametrize("place", _STARTS)
def test_whatever_stands_in_the_state_directory_hangs_and_hurts_no_host(demand: Path, place: str):
    """And no daemon that it starts: that one takes the lock and merges."""
    set_idle(demand, 3600)
    run_starting(demand, autostart=False)
    file, aside, started = demand / "state" / place, demand / "aside", set()
    for kind in _KINDS:
        (demand / "state" / "starting").unlink(missing_ok=True)
        _hostile(file, kind, aside)
        done = run_starting(demand, _TELLING)
        assert done.stderr == ""
        if done.stdout:
            started.add(kind)
            wait_for(lambda: not waiting(demand))
            found = holder(demand)
            assert found is not None
            os.kill(found.pid, signal.SIGKILL)
            wait_until_gone(demand)
        file.rmdir() if file.is_dir() and not file.is_symlink() else file.unlink(missing_ok=True)

    assert (started, aside.read_text()) == (_STARTS[place], "another's")


def test_a_state_that_cannot_be_written_starts_nobody(demand: Path):
    """A read-only disk refuses the drop already; where it comes between, the claim is refused."""
    with small_disk(demand / "disk", "8m") as disk:
        environ = {**environ_of_host(demand), "TALLYD_HOME": str(disk / "home")}
        run_starting(demand, autostart=False, environ=environ)
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        done = run_starting(demand, environ=environ)
        running = processes_of(disk / "home")

    assert (done.stdout, running) == ("", {})


def test_on_a_full_disk_the_daemon_is_started_if_at_all_by_one(demand: Path):
    with small_disk(demand / "disk", "8m") as disk:
        home = disk / "home"
        environ = {**environ_of_host(demand), "TALLYD_HOME": str(home)}
        run_starting(demand, autostart=False, environ=environ)
        set_idle_in = home / "config" / "config.toml"
        set_idle_in.write_text("[daemon]\nidle_exit_s = 1\nrescan_interval_s = 1\n")
        filler = fill(disk)
        for _ in range(3):
            run_starting(demand, environ=environ)
        assert len(processes_of(home)) <= 1
        filler.unlink()
        wait_until_gone(home)
        claim = home / "state" / "starting"
        claim.unlink(missing_ok=True)
        run_starting(demand, environ=environ)
        wait_for_daemon(home)
        wait_until_gone(home)
        merged, left = counted(home), waiting(home)

    # What was dropped on the full disk was refused, and is lost with its host.
    assert (merged >= 2, left) == (True, 0)


# --- many ----------------------------------------------------------------------------------------


def test_of_hundreds_of_short_hosts_there_is_never_more_than_one_daemon(demand: Path):
    """`make autostart` does the same with 10,000."""
    seen = crowd(demand, hosts=300, at_once=8, kills=2)

    assert seen.problems() == []

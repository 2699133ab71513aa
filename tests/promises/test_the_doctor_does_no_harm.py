"""The doctor opens no socket unless told to, changes nothing, and neither breaks nor hangs, whatever it meets."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.deltas import delta, drop
from support.doctor import doctor, looked, of, register, tree, wrong
from support.processes import daemon, environ_of, run, tallyd
from support.tools import need
from tallyd import doctor as the_doctor
from tallyd.doctor import _guarded
from tallyd.doctor.scene import look_around
from tallyd.paths import Paths
from tallyd.product import Surroundings
from tallyd.registry import Registry

pytestmark = pytest.mark.slow
_SOCKET = re.compile(r"\b(socket|socketpair|connect|sendto|sendmsg|sendmmsg|bind|listen)\(")
_DOCTOR = (sys.executable, "-m", "tallyd", "doctor")


@pytest.mark.parametrize("runs", [False, True], ids=["no daemon", "a daemon"])
def test_without_online_no_socket_is_opened(home, runs):
    """By the kernel's word. A proxy, a trust store and a far endpoint are there to be tempted by."""
    register(home, url="https://gateway.example/v1/events")
    drop(home / "state", delta(), at=time.time())
    environ = environ_of(home, https_proxy="http://127.0.0.1:9")
    trace = home / "trace"
    strace = (need("strace"), "-f", "-e", "trace=network", "-o", str(trace))

    def look() -> int:
        done = subprocess.run([*strace, *_DOCTOR], env=environ, capture_output=True, check=False)
        assert b"Traceback" not in done.stderr
        return done.returncode

    if runs:
        with daemon(home):
            look()
    else:
        look()

    assert [line for line in trace.read_text().splitlines() if _SOCKET.search(line)] == []


def test_the_strace_of_this_test_sees_a_socket_where_one_is_opened(home):
    register(home)
    trace = home / "trace"
    strace = (need("strace"), "-f", "-e", "trace=network", "-o", str(trace))
    subprocess.run(
        [*strace, *_DOCTOR, "--online"], env=environ_of(home), capture_output=True, check=False
    )

    assert [line for line in trace.read_text().splitlines() if _SOCKET.search(line)] != []


_HOOKED = """
import sys
seen = []
sys.addaudithook(lambda event, _: seen.append(event) if event.startswith("socket.") else None)
from tallyd.cli import output
output.leave = lambda code: print(code, seen)
from tallyd.cli import main
main(sys.argv[1:])
"""


def test_without_online_no_python_code_asks_for_a_socket(home):
    register(home, url="https://gateway.example/v1/events")
    said = {
        arguments: subprocess.run(
            [sys.executable, "-c", _HOOKED, "doctor", *arguments],
            env=environ_of(home),
            capture_output=True,
            text=True,
            check=False,
        ).stdout.splitlines()[-1]
        for arguments in ((), ("--json",))
    }

    assert said == {(): "0 []", ("--json",): "0 []"}


@pytest.mark.parametrize(
    "how", ["nothing", "a stopped daemon", "a killed daemon", "a running daemon"]
)
def test_nothing_on_disk_changes(home, how):
    outside = home.parent / f"{home.name}-outside"
    if how != "nothing":
        register(home)
        drop(home / "state", delta(), at=time.time())
        with daemon(home) as process:
            tallyd(home, "flush")
            if how == "a killed daemon":
                process.kill()
                process.wait()
            if how == "a running daemon":
                before = tree(home)
                doctor(home)
                # What the daemon itself does meanwhile: its heartbeat, and the index of its log.
                after = {name: one for name, one in tree(home).items() if not name.endswith("-shm")}
                assert {name: before.get(name) for name in after} == after
                return
        (home / "state/spool/tallyd-demo/bad").mkdir(exist_ok=True)
        (home / "state/spool/tallyd-demo/bad/x").write_text("{")
    before = tree(home)

    for arguments in ((), ("--online",)):
        doctor(home, *arguments)

    # SQLite's readers write into the index of a log that is there: a file of marks, of no content.
    marks = {name for name in before if name.endswith("-shm")}
    after = tree(home)
    assert before.keys() == after.keys()
    assert {name for name in after if before[name] != after[name]} <= marks
    assert not outside.exists()


def test_a_thousand_products_are_looked_at_within_a_minute_of_nobodys_patience(home):
    for number in range(1000):
        register(home, f"product-{number}", url=f"https://gateway-{number}.example/v1/events")
        for one in ("new", "tmp", "bad"):
            (home / f"state/spool/product-{number}" / one).mkdir(parents=True, mode=0o700)
    for place in (home / "state").rglob("*"):
        place.chmod(0o700)
    (home / "state").chmod(0o700)

    code, findings = doctor(home)

    assert (code, wrong(findings)) == (0, [])
    assert len(of(findings, "consent")) == 1000
    assert of(findings, "spool") == [("ok", "of 1000 products, 0 files wait", "")]


def test_online_with_a_thousand_hosts_that_have_no_address_ends_and_names_each(home):
    for number in range(1000):
        register(home, f"product-{number}", url=f"https://gateway-{number}.example/v1/events")
    done = subprocess.run(
        [need("unshare"), "-U", "-r", "-n", *_DOCTOR, "--online"],
        env=environ_of(home),
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    assert done.stdout.count("has no address") + done.stdout.count("was not looked at") == 1000


_HOSTILE = ("\x1b[2J", "a\nb", "ü", "\udcff", "'; rm -rf ~; '", "x" * 200)


def test_names_that_are_no_names_reach_no_terminal_and_break_nothing(home):
    contracts, spools = home / "config/contracts", home / "state/spool"
    for place in (contracts, spools, spools / "ok/bad", spools / "ok/tmp"):
        place.mkdir(parents=True)
    for name in _HOSTILE:
        (contracts / f"{name}.toml").write_text("contract = 1\n")
        (spools / name).mkdir()
        (spools / "ok/bad" / name).write_text("x")
        (spools / "ok/bad" / f"{name}.why").write_text(f"why {name!r}\x1b[2J\n")
        (spools / "ok/tmp" / name).symlink_to("/")

    done = run("tallyd", "doctor", environ=environ_of(home), check=False)
    doctor(home)

    assert (done.returncode, done.stderr) == (1, "")
    assert [one for one in done.stdout if not one.isprintable() and one != "\n"] == []


def test_everything_damaged_at_once_is_told_piece_by_piece(home):
    register(home)
    state, config = home / "state", home / "config"
    (state / "spool").mkdir(parents=True)
    (state / "consent").mkdir()
    (state / "consent/tallyd-demo.json").mkdir()
    (state / "tallyd.db").mkdir()
    (state / "daemon.lock").symlink_to("/dev/zero")
    (state / "reserve").symlink_to("/dev/full")
    (state / "spool/tallyd-demo").symlink_to("/proc/self")
    os.mkfifo(state / "spool/other")
    os.mkfifo(config / "config.toml")
    os.mkfifo(config / "policy.toml")
    os.mkfifo(config / "contracts/pipe.toml")
    (config / "contracts/zero.toml").symlink_to("/dev/zero")
    (config / "contracts/dir.toml").mkdir()
    (state / "agreed").symlink_to("/dev/null")

    code, findings = doctor(
        home,
        "--online",
        PATH="/proc/self/fd:/dev:" + os.environ["PATH"],
        https_proxy="http://[",
        no_proxy="\x1b",
        SSL_CERT_FILE="/dev/zero",
        SSL_CERT_DIR="/dev/null",
        XDG_RUNTIME_DIR="relative",
        TALLYD_CLOCK_AHEAD="nan",
        TALLYD_POLICY_FILE="relative",
    )

    told = {check for check, _, _ in wrong(findings)}
    assert code == 1
    assert {"consent", "spool", "lock", "database", "proxy", "trust", "clock"} <= told
    # What mends it must not reach through a link.
    fixes = [fix for _, _, fix in wrong(findings)]
    assert [one for one in fixes if re.match("chmod", one) and "state/spool" not in one] == [
        f"chmod 700 {state}"
    ]
    assert f"{state}/spool/tallyd-demo is a link; nothing is read there" in [
        what for _, what, _ in wrong(findings)
    ]
    assert f"{state}/tallyd.db is damaged: is no regular file" in [
        what for _, what, _ in wrong(findings)
    ]


def test_a_lock_full_of_lies_breaks_nothing(home):
    """Somebody else holds it and says whatever they like, of a process that is not theirs."""
    lock = home / "state/daemon.lock"
    lock.parent.mkdir()
    lies = [
        '{"pid": 1, "role": "daemon", "version": "\\u001b[2J", "started_at": 1e12}',
        f'{{"pid": {2**70}, "role": "daemon", "version": "1", "started_at": 1}}',
        '{"pid": -1, "role": "daemon", "version": "1", "started_at": 1, "problems": [{"duty": "x",'
        ' "product": "", "why": "\\u001b", "since": 1e300, "times": 1}]}',
        '{"pid": 7, "role": "daemon", "version": "1", "started_at": 1, "problems": [{"duty": "x",'
        ' "product": "", "why": "\\u001b", "since": 1e300, "times": 1}]}',
    ]
    holder = "import fcntl,sys; f=open(sys.argv[1]); fcntl.flock(f,2); print(flush=True); input()"
    for lie in lies:
        lock.write_text(lie)
        with subprocess.Popen(
            [sys.executable, "-c", holder, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as process:
            process.stdout.readline()
            code, _ = doctor(home)
            process.communicate(b"\n")

        assert code == 1


def test_the_environment_of_a_process_that_does_not_hold_the_lock_is_nobodys(home):
    """A number in a file may be another program's by now: what it was told decides nothing."""
    lock = home / "state/daemon.lock"
    lock.parent.mkdir()
    lock.touch()
    paths = Paths.locate({"TALLYD_HOME": str(home)})
    around = Surroundings(paths, Registry(paths), {})
    holder = "import fcntl,sys; f=open(sys.argv[1]); fcntl.flock(f,2); print(flush=True); input()"
    other = [sys.executable, "-c", "input()"]
    with (
        subprocess.Popen(other, stdin=subprocess.PIPE, env={"DO_NOT_TRACK": "1"}) as stranger,
        subprocess.Popen(
            [sys.executable, "-c", holder, str(lock)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={"MINE": "1"},
        ) as process,
    ):
        process.stdout.readline()
        seen = []
        for pid in (stranger.pid, process.pid):
            lock.write_text(f'{{"pid": {pid}, "role": "daemon", "version": "1", "started_at": 1}}')
            seen.append(look_around(around, time.time()).service)
        for one in (process, stranger):
            one.communicate(b"\n")

    assert (seen[0], dict(seen[1] or {}).get("MINE")) == (None, "1")


@pytest.mark.parametrize("state", ["a file", "unreadable", "a link to nowhere", "a link"])
def test_a_state_that_is_no_directory_of_ours_is_told(home, state):
    place = home / "state"
    match state:
        case "a file":
            place.touch()
        case "unreadable":
            place.mkdir(mode=0o000)
        case "a link to nowhere":
            place.symlink_to("/nowhere/is/here")
        case _:
            (home / "elsewhere").mkdir(mode=0o700)
            place.symlink_to(home / "elsewhere")

    code, findings = doctor(home)

    # A user may keep the state elsewhere.
    is_well = state == "a link"
    assert (code, bool(wrong(findings))) == (0, False) if is_well else (1, True)


@pytest.mark.parametrize(
    ("closed", "says"), [("state", "closed to yourself"), ("config", "cannot be listed")]
)
def test_a_directory_closed_to_its_owner_is_told_with_what_opens_it(home, closed, says):
    """Root may read everything: here it is without that right."""
    register(home)
    (home / "state").mkdir(mode=0o700)
    (home / closed).chmod(0o000)
    without = (
        ("setpriv", "--bounding-set", "-dac_override,-dac_read_search") if not os.geteuid() else ()
    )
    done = subprocess.run(
        [*([need(without[0]), *without[1:]] if without else ()), *_DOCTOR, "--json"],
        env=environ_of(home),
        capture_output=True,
        text=True,
        check=False,
    )
    (home / closed).chmod(0o700)

    told = json.loads(done.stdout)["findings"]
    assert (done.returncode, done.stderr) == (1, "")
    fixes = [one["fix"] for one in told if says in one["what"]]
    assert fixes == [
        f"chmod 700 {home}/state" if closed == "state" else "make it yours and writable"
    ]


def test_without_proc_it_says_what_it_can(home):
    register(home)
    script = 'mount -t tmpfs none /proc && exec "$@"'
    done = subprocess.run(
        [*(need("unshare"), "-U", "-r", "-m", "sh", "-c", script, "sh"), *_DOCTOR],
        env=environ_of(home),
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert f"{home}/state is on a file system of unknown type" in done.stdout


def test_without_a_home_it_says_what_to_do(home):
    done = run("tallyd", "doctor", environ={"PATH": os.environ["PATH"], "HOME": "x"}, check=False)

    assert (done.returncode, "set HOME" in done.stderr) == (73, True)


def test_a_check_that_raises_or_hangs_is_a_finding_and_the_rest_goes_on(monkeypatch):
    """A bug of ours, a disk that does not answer: made by hand, for neither can be had for real here."""
    said: list[str] = []
    monkeypatch.setattr(the_doctor, "DOCTOR_SILENCE_S", 0.05)
    monkeypatch.setattr(the_doctor, "DOCTOR_CHECK_S", 0.1)

    def raises() -> list[object]:
        raise ZeroDivisionError("a bug")

    read, write = os.pipe()
    stuck = _guarded("disk", lambda: os.read(read, 1) and [], said.append)
    os.write(write, b"x")
    broken = _guarded("bug", raises, said.append)

    assert [(one.check, one.level.value, one.what) for one in (*stuck, *broken)] == [
        ("disk", "problem", "could not look: no answer within 0.1 s"),
        ("bug", "problem", "could not look: ZeroDivisionError: a bug"),
    ]
    assert said == ["still looking at disk …"]


def test_status_and_doctor_of_this_process_agree_that_nothing_is_set_up(home: Path):
    assert wrong(looked(home)) == []
    assert not list(home.iterdir())

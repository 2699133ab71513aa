"""The doctor's checks, one by one: real files, real locks, real databases, what they say and the fix."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from support.deltas import delta, drop
from support.disks import bound, fill, small_disk
from support.doctor import doctor, looked, of, register, wrong
from support.pipeline import Pipeline
from support.processes import background, daemon, environ_of, status, tallyd, wait_for
from support.tools import need
from tallyd import __version__, handover, installation
from tallyd import doctor as the_doctor
from tallyd.doctor import Finding, Level, disk, network
from tallyd.limits import MADE_AFTER, SILENT_AFTER_S
from tallyd.mounts import Mount, Place
from tallyd.paths import Paths
from tallyd.supervisor import unit

_NEVER = "/nowhere/is/here"


# --- consent ---------------------------------------------------------------------------------------


def test_nothing_set_up_is_nothing_wrong(home):
    findings = looked(home)

    assert (wrong(findings), of(findings, "consent")) == (
        [],
        [("note", "no product is set up yet", "tallyd contract add FILE")],
    )


def test_each_product_says_who_decided(home):
    register(home)
    register(home, "other")
    (home / "state/consent").mkdir(parents=True, mode=0o700)
    (home / "state/consent/other.json").write_text('{"enabled": false}')

    findings = looked(home)

    assert of(findings, "consent") == [
        ("ok", "other is off, decided by stored choice", ""),
        (
            "note",
            "tallyd-demo is on, decided by default; nothing leaves yet:"
            " the notice for this contract was not shown yet",
            "",
        ),
    ]


def test_a_shell_that_says_off_is_told_that_no_service_sees_it(home):
    register(home)

    findings = looked(home, DO_NOT_TRACK="1")

    assert (wrong(findings), of(findings, "consent")) == (
        [],
        [
            (
                "note",
                "tallyd-demo is on, decided by default; this shell says off (DO_NOT_TRACK), which"
                " a service does not see: tools started elsewhere go on to count, and it sends",
                "tallyd off tallyd-demo",
            )
        ],
    )


@pytest.mark.slow
def test_a_running_daemon_that_does_not_see_the_shells_off_is_to_mend(home):
    register(home)
    with daemon(home):
        code, blind = doctor(home, DO_NOT_TRACK="1")
    with daemon(home, DO_NOT_TRACK="1"):
        seeing_code, seeing = doctor(home, DO_NOT_TRACK="1")

    assert (code, wrong(blind)) == (
        1,
        [
            (
                "consent",
                "tallyd-demo is on, decided by default; this shell says off (DO_NOT_TRACK), which"
                " the running daemon does not see: tools started elsewhere go on to count, and it"
                " sends",
                "tallyd off tallyd-demo",
            )
        ],
    )
    assert (seeing_code, of(seeing, "consent")) == (
        0,
        [("ok", "tallyd-demo is off, decided by DO_NOT_TRACK", "")],
    )


def test_a_shell_that_says_on_does_not_reach_the_daemon(home):
    register(home)
    (home / "state/consent").mkdir(parents=True, mode=0o700)
    (home / "state/consent/tallyd-demo.json").write_text('{"enabled": false}')
    (home / "state").chmod(0o700)

    assert wrong(looked(home, TALLYD_DEMO_TELEMETRY="1")) == [
        (
            "consent",
            "tallyd-demo is off, decided by stored choice; this shell says on"
            " (TALLYD_DEMO_TELEMETRY), which holds for tools started in it alone: what they drop"
            " is not merged",
            "tallyd on tallyd-demo",
        )
    ]


def test_damaged_state_policy_settings_and_contracts_are_each_told_with_what_mends_them(home):
    register(home)
    bad = register(home, "broken")
    bad.write_text("contract = 2\n")
    (home / "state/consent").mkdir(parents=True, mode=0o700)
    (home / "state").chmod(0o700)
    (home / "state/consent/tallyd-demo.json").write_text("{")
    (home / "config/policy.toml").write_text("of = true\n")
    (home / "config/config.toml").write_text("[daemon]\nwach = true\n")

    found = wrong(looked(home))

    assert [(check, fix) for check, _, fix in found] == [
        ("settings", "mend that line"),
        ("consent", "mend it, or remove it: until then it forbids every product"),
        ("consent", 'mend it, or run "tallyd contract add FILE"'),
        (
            "consent",
            'mend it, or choose again: "tallyd off tallyd-demo" or "tallyd on tallyd-demo"',
        ),
    ]
    for (_, what, _), named in zip(
        found,
        (
            "config.toml:2: daemon.wach",
            "policy.toml of: is not known",
            "broken.toml:1",
            "is not JSON",
        ),
        strict=True,
    ):
        assert named in what


def test_a_product_that_drops_without_a_contract_is_told(home):
    (home / "state/spool/stranger").mkdir(parents=True, mode=0o700)
    for one in ("state", "state/spool"):
        (home / one).chmod(0o700)

    assert wrong(looked(home)) == [
        (
            "consent",
            "stranger drops counts, and no contract is registered for it",
            "tallyd contract add FILE",
        )
    ]


# --- spool -----------------------------------------------------------------------------------------


def test_files_that_wait_while_no_daemon_runs_are_told(home):
    register(home)
    drop(home / "state", delta(), at=time.time())
    _close(home)

    assert wrong(looked(home)) == [
        (
            "spool",
            "1 file waits in the spool, and no daemon runs",
            'tallyd flush, or let one run: "tallyd run"',
        )
    ]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_directories_open_to_others_links_and_strangers_are_told(home):
    drop(home / "state", delta(), at=time.time())
    _close(home)
    spool = home / "state/spool/tallyd-demo"
    (spool / "new").chmod(0o755)
    (spool / "tmp").rmdir() if (spool / "tmp").exists() else None
    (spool / "tmp").symlink_to(home)
    (spool / "bad").mkdir(exist_ok=True)
    os.chown(spool / "bad", 12345, 12345)

    told = {fix: what for _, what, fix in wrong(looked(home))}

    assert told[f"chmod 700 {spool / 'new'}"] == f"{spool / 'new'} is open to others (mode 0755)"
    assert [what for what in told.values() if "nothing is read there" in what] == [
        f"{spool / 'tmp'} is a link; nothing is read there",
        f"{spool / 'bad'} belongs to another user; nothing is read there",
    ]


def test_quarantine_is_told_with_its_reasons(pipeline: Pipeline, home):
    new = home / "state/spool/tallyd-demo/new"
    new.mkdir(parents=True, mode=0o700)
    _close(home)
    for number in range(5):
        (new / f"{number}.json").write_text("{")
    pipeline.intake()

    (level, what, fix), *rest = of(looked(home), "spool")

    assert (level, rest[-1][0]) == ("warning", "ok")
    assert what.startswith("tallyd-demo: 5 files were set aside, malformed, the newest 3: ")
    assert what.count("the name is not in the spool format") == 3
    assert fix == f"tell tallyd-demo's maintainer; then: rm -r {home}/state/spool/tallyd-demo/bad/*"


def test_old_leftovers_in_tmp_are_a_note(home):
    drop(home / "state", delta(), at=time.time())
    _close(home)
    tmp = home / "state/spool/tallyd-demo/tmp"
    tmp.mkdir(exist_ok=True, mode=0o700)
    (tmp / "old").touch()
    os.utime(tmp / "old", (1, 1))

    assert (
        "note",
        f"tallyd-demo: 1 file in {tmp} was left by a killed writer",
        "a running daemon sweeps them",
    ) in of(looked(home), "spool")


# --- mounts and room -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "level"),
    [("nfs4", Level.WARNING), ("9p", Level.WARNING), ("tmpfs", Level.NOTE), ("ext4", Level.OK)],
)
def test_a_state_that_another_machine_may_share_is_to_move(kind, level):
    """None can be mounted here: the place is made by hand."""
    found = disk._state(Place("/s", Mount("/s", kind, "x"), False, 1 << 40, None), Path("/s"))

    assert (found.level, "SQLite" in found.what, "XDG_STATE_HOME" in found.fix) == (
        level,
        level is Level.WARNING,
        level is not Level.OK,
    )


@pytest.mark.slow
def test_a_disk_that_fills_is_told_before_and_when_it_is_full(tmp_path):
    with small_disk(tmp_path / "disk", "24m") as home:
        (home / "state").mkdir(mode=0o700)
        roomy = of(looked(home), "room")
        _fill_but(home, 4 << 20)
        nearly = of(looked(home), "room")
        fill(home)
        full = looked(home)

    where = f"the disk of {home}/state"
    assert roomy[0][1].startswith(f"{where}: 24 MiB free")
    assert [(one[0], one[1].split(":")[0]) for one in (nearly[0], of(full, "room")[0])] == [
        ("warning", f"{where} is nearly full"),
        ("problem", f"{where} is full"),
    ]
    assert (
        f"{home}/state/spool waits, and is looked at again every 60 s: tmpfs is full: nothing can be taken out"
        in [what for _, what, _ in of(full, "mount")]
    )


@pytest.mark.slow
def test_a_disk_without_inodes_is_told(tmp_path):
    place = tmp_path / "disk"
    with small_disk(place, "4m,nr_inodes=3") as home:
        (home / "state").mkdir(mode=0o700)
        (home / "other").mkdir()

        assert of(looked(home), "room") == [
            (
                "problem",
                f"the disk of {home}/state has no inode left: no file can be made",
                "remove files there, however small",
            )
        ]


@pytest.mark.slow
def test_a_read_only_state_is_told_with_its_mount(home):
    (home / "state").mkdir(mode=0o700)
    with bound(home / "state", home / "state", read_only=True):
        findings = looked(home)

    assert of(findings, "room") == [
        (
            "problem",
            f"the disk of {home}/state is read-only",
            f"mount -o remount,rw {home}/state",
        )
    ]


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else")
def test_a_home_in_which_nothing_can_be_made_is_told(tmp_path):
    home = tmp_path / "ro"
    home.mkdir()
    for one in (home, *home.parents):
        one.chmod(one.stat().st_mode | 0o005)
    home.chmod(0o555)
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        # Root may write everywhere.
        os.setgroups([])
        os.setgid(59_500)
        os.setuid(59_500)
        os.write(writing, json.dumps(wrong(looked(home))).encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writing)
    with open(reading) as told:
        found = json.load(told)

    fix = f"make it yours: chown -R $(id -un) {home}"
    assert found == [
        ["mount", f"{home}/{one} cannot be made: {home} is not writable to you", fix]
        for one in ("config", "state")
    ]


# --- lock and database -----------------------------------------------------------------------------


@pytest.mark.slow
def test_a_daemon_that_runs_and_is_well_leaves_nothing_to_mend(home):
    register(home)
    with daemon(home) as process:
        wait_for(lambda: status(home)["daemon"]["running"])
        code, findings = doctor(home)

    (told,) = of(findings, "lock")
    assert (code, wrong(findings)) == (0, [])
    assert told[1].startswith(f"daemon {__version__}, process {process.pid}, since 20")
    assert of(findings, "database") == [("ok", f"{home}/state/tallyd.db is whole", "")]


@pytest.mark.slow
def test_a_daemon_that_hangs_is_told(home):
    register(home)
    with daemon(home) as process:
        process.send_signal(signal.SIGSTOP)
        findings = looked(home, at=time.time() + SILENT_AFTER_S + 1)
        process.send_signal(signal.SIGCONT)

    (level, what, fix) = of(findings, "lock")[0]
    assert (level, "has given no sign for 30" in what) == ("problem", True)
    assert fix == f"look at that disk, then restart it: kill {process.pid}"


@pytest.mark.slow
def test_a_daemon_of_another_version_is_to_restart(home):
    """An older version cannot be installed here: one is started that says it is another."""
    register(home)
    program = (
        "import tallyd; tallyd.__version__ = '0.0.9'; from tallyd.cli import main; main(['run'])"
    )
    log = home / "daemon.log"
    with (
        log.open("wb") as opened,
        subprocess.Popen(
            [sys.executable, "-c", program], env=environ_of(home), stderr=opened
        ) as process,
    ):
        wait_for(lambda: "action=daemon_started" in log.read_text())
        findings = looked(home)
        process.terminate()

    assert [(check, fix) for check, _, fix in wrong(findings)] == [
        ("lock", f"restart it, by its service, or: kill {process.pid}; tallyd run")
    ]
    assert of(findings, "lock")[0][1].endswith(f"this command is {__version__}")


@pytest.mark.slow
def test_a_killed_daemon_leaves_a_lock_that_means_nothing(home):
    register(home)
    with daemon(home) as process:
        process.kill()
        process.wait()

        assert of(looked(home), "lock") == [("note", "nobody holds the lock: no daemon runs", "")]


@pytest.mark.parametrize("kind", ["link", "directory", "pipe"])
def test_a_lock_that_is_no_file_is_told(home, kind):
    lock = home / "state/daemon.lock"
    lock.parent.mkdir(mode=0o700)
    {
        "link": lambda: lock.symlink_to(home),
        "directory": lock.mkdir,
        "pipe": lambda: os.mkfifo(lock),
    }[kind]()

    found = [(what, fix) for check, what, fix in wrong(looked(home)) if check == "lock"]

    what = "a link, and none is followed" if kind == "link" else "no regular file"
    assert found == [(f"{lock} is {what}", f"rm -r {lock}")]


def test_a_lock_held_by_somebody_who_says_nothing_is_told(home):
    lock = home / "state/daemon.lock"
    lock.parent.mkdir(mode=0o700)
    lock.touch(mode=0o600)
    holder = "import fcntl,sys; f=open(sys.argv[1]); fcntl.flock(f,2); print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", holder, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        process.stdout.readline()
        findings = looked(home)
        process.communicate(b"\n")

    assert wrong(findings) == [
        ("lock", f"somebody holds {lock}, and does not say who", f"fuser -v {lock}")
    ]


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"no database at all" * 100, "is damaged"), (None, "newer tallyd"), (b"half", "is damaged")],
)
def test_a_database_that_cannot_be_read_is_told(home, pipeline: Pipeline, content, says):
    file = home / "state/tallyd.db"
    pipeline.store.close()
    if content is None:
        with sqlite3.connect(file) as sql:
            sql.execute("PRAGMA user_version = 99")
        sql.close()
    elif content == b"half":
        file.write_bytes(file.read_bytes()[: 3 * 4096])
    else:
        file.write_bytes(content)
    for beside in ("-wal", "-shm"):
        file.with_name(f"{file.name}{beside}").unlink(missing_ok=True)

    (level, what, fix) = of(looked(home), "database")[0]

    assert (level, says in what, bool(fix)) == ("problem", True, True)


def test_a_broken_page_deep_in_the_database_is_found_by_reading_it_through(
    home, pipeline: Pipeline
):
    file = home / "state/tallyd.db"
    pipeline.store.close()
    whole = bytearray(file.read_bytes())
    # The root of the last table: any look at the schema alone goes well.
    whole[-4096:] = b"\xff" * 4096
    file.write_bytes(whole)

    (level, what, _) = of(looked(home), "database")[0]

    assert (level, "is damaged" in what) == ("problem", True)


def test_a_database_that_takes_too_long_is_left_and_says_so(home, pipeline: Pipeline, monkeypatch):
    pipeline.store.close()
    file = home / "state/tallyd.db"
    with sqlite3.connect(file) as sql:
        sql.execute("CREATE TABLE much (a TEXT)")
        sql.executemany("INSERT INTO much VALUES (?)", [("x" * 50,)] * 20_000)
    sql.close()
    monkeypatch.setattr("tallyd.doctor.daemon.DOCTOR_DATABASE_S", 0.0)

    assert of(looked(home), "database") == [
        ("note", f"{file}: no damage was found within 0 s, and not all of it was read", "")
    ]


# --- service, program, network, clock ---------------------------------------------------------------


def test_no_linger_is_right_and_said_to_be(home, tmp_path):
    (tmp_path / "run/systemd").mkdir(parents=True)
    (tmp_path / "run/systemd/private").touch()

    assert of(looked(home, XDG_RUNTIME_DIR=str(tmp_path / "run"), USER="nobody-here"), "service")[
        1:
    ] == [
        ("ok", "systemd's user manager runs", ""),
        ("ok", "linger is off, and right so: nothing is counted while nobody is logged in", ""),
    ]


def test_a_user_name_that_is_a_path_is_not_followed(home, tmp_path):
    (tmp_path / "run/systemd").mkdir(parents=True)
    (tmp_path / "run/systemd/private").touch()
    findings = looked(home, XDG_RUNTIME_DIR=str(tmp_path / "run"), USER="../../../../tmp")

    assert "linger is off" in of(findings, "service")[2][1]


def _unit(home: Path, *command: str, told: str = "", mark: bool = True) -> Path:
    file = home / ".config/systemd/user/tallyd.service"
    file.parent.mkdir(parents=True, exist_ok=True)
    words = " ".join(command)
    file.write_text(f"{unit.MARK if mark else '#'}\n[Service]\nExecStart={words}\n{told}")
    return file


@pytest.mark.skipif(sys.platform == "darwin", reason="the unit is systemd's")
def test_a_service_whose_program_is_gone_or_another_is_to_install_again(home):
    gone = _unit(home, "/nowhere/python", "-I", "-m", "tallyd", "run")
    told_gone = wrong(looked(home))
    _unit(home, "/bin/sh", "run", told=f'Environment="TALLYD_HOME={home}"\n')
    told_other = wrong(looked(home))

    assert told_gone == [
        ("service", f"{gone} starts /nowhere/python, which is gone", "tallyd service install")
    ]
    assert told_other == [
        (
            "service",
            f"{gone} starts /bin/sh; this is {sys.executable}",
            "tallyd service install, by the tallyd that is to stay",
        ),
        (
            "service",
            f"{gone} is there, and no daemon runs",
            "tallyd service start; tallyd service logs",
        ),
    ]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "darwin", reason="the unit is systemd's")
def test_a_service_that_works_in_another_home_is_told_and_one_that_is_stopped_is_a_note(home):
    register(home)
    mine = installation.command()
    file = _unit(home, *mine, "run", told="Environment=TALLYD_HOME=/elsewhere\n")
    with daemon(home):
        elsewhere = looked(home)
        _unit(home, *mine, "run", told=f"Environment=TALLYD_HOME={home}\n", mark=False)
        here = looked(home)
    (home / "state/stopped").touch()
    stopped = looked(home)

    assert wrong(elsewhere) == [
        (
            "service",
            f"TALLYD_HOME is {home} in this shell, and /elsewhere in the service",
            "tallyd service install, in the shell that is right",
        )
    ]
    assert of(here, "service")[:2] == [
        (
            "note",
            f'{file} was not written by "tallyd service install", and is left alone',
            f"to have ours: mv {file} {file}.mine; tallyd service install",
        ),
        ("ok", f"systemd starts it by {file}", ""),
    ]
    assert of(here, "service")[-1] == (
        "ok",
        "the running daemon: nothing holds it down: a shell started it, or a host",
        "",
    )
    assert (wrong(stopped), of(stopped, "service")[1]) == (
        [],
        ("note", 'the service was stopped, by "tallyd service stop"', "tallyd service start"),
    )


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/ns/mnt").exists(), reason="namespaces are Linux")
def test_what_the_kernel_says_of_the_running_daemon_is_told(home):
    register(home)
    log = home / "daemon.log"
    held = (need("setpriv"), "--no-new-privs", need("unshare"), "-U", "-r", "-m")
    with background(
        *(*held, sys.executable, "-m", "tallyd", "run"),
        environ=environ_of(home),
        log=log,
        until="action=daemon_started",
    ):
        told = of(looked(home), "service")

    assert told[-1][1] == "the running daemon: it can gain no rights, it has mounts of its own"


def test_a_newer_tallyd_that_ran_here_is_told(home):
    paths = Paths.locate({"TALLYD_HOME": str(home)})
    handover.settle(paths, "99.0", ["/bin/sh", "-m", "tallyd"], "/bin/sh")

    assert [one for one in wrong(looked(home)) if one[0] == "program"] == [
        ("program", "a newer tallyd has run here: /bin/sh", "upgrade this one, or call that one")
    ]


def test_another_tallyd_on_path_is_told_with_its_version_and_not_run(home):
    ran = home / "ran"
    for name, version in (("older", "0.0.3"), ("same", __version__)):
        library = home / name / "lib/python3.12/site-packages"
        (library / f"tallyd-{version}.dist-info").mkdir(parents=True)
        script = home / name / "bin/tallyd"
        script.parent.mkdir()
        script.write_text(f"#!{home}/{name}/bin/python\n")
        script.chmod(0o755)
    own = home / "own/tallyd"
    own.parent.mkdir()
    own.write_text(f"#!/bin/sh\ntouch {ran}\n")
    own.chmod(0o755)
    path = os.pathsep.join([_NEVER, "", f"{home}/older/bin", f"{home}/same/bin", f"{home}/own"])

    findings = looked(home, PATH=path)

    older = f"{home}/older/bin/tallyd"
    assert of(findings, "program")[1:] == [
        (
            "warning",
            f"another tallyd is on PATH: {older}, 0.0.3",
            f"keep one; this one is upgraded, or the other removed: {older}",
        ),
        (
            "note",
            f"another tallyd is on PATH: {own}, of unknown version",
            f"keep one; this one is upgraded, or the other removed: {own}",
        ),
    ]
    assert not ran.exists()


@pytest.mark.parametrize(
    ("proxy", "shown", "why"),
    [
        ("http://ann:secret@proxy:3128", "http://…@proxy:3128", ""),
        ("ann:secret@proxy:3128", "…@proxy:3128", ""),
        ("http://ann:se@cret@proxy:3128", "http://…@proxy:3128", ""),
        ("proxy:3128", "proxy:3128", ""),
        ("ftp://proxy", "ftp://proxy", "ftp:// is no proxy that we know"),
        ("http://", "http://", "it names no host"),
        ("http://proxy:port", "http://proxy:port", "it is no address"),
        ("http://[::1", "http://[::1", "it is no address"),
        ("socks5://proxy:1080", "socks5://proxy:1080", "a SOCKS proxy needs the package socksio"),
    ],
)
def test_a_proxy_is_told_without_its_password_and_with_what_is_wrong_with_it(proxy, shown, why):
    assert (network.without_password(proxy), network.unusable(proxy)[: len(why) or None]) == (
        shown,
        why,
    )


def test_a_password_is_in_no_finding(home):
    register(home, url="https://gateway.example/v1/events")

    findings = looked(home, https_proxy="http://ann:s3cret@[bad", HTTP_PROXY="ann:s3cret@proxy:1")

    assert [
        (one.level.value, "s3cret" in repr(one)) for one in findings if one.check == "proxy"
    ] == [*[("ok", False), ("problem", False), ("note", False), ("note", False)]]


@pytest.mark.slow
def test_a_proxy_that_the_running_daemon_does_not_see_is_to_mend(home):
    register(home, url="https://gateway.example/v1/events")
    with daemon(home):
        _, findings = doctor(home, https_proxy="http://ann:s3cret@127.0.0.1:9")

    assert wrong(findings) == [
        (
            "proxy",
            "the running daemon does not see this shell's https_proxy: there it is not set",
            'systemctl --user edit tallyd (under [Service]: Environment="https_proxy=…"),'
            " or ~/.config/environment.d/proxy.conf",
        )
    ]


def test_a_trust_store_that_is_missing_or_does_not_load_is_told(home):
    garbage = home / "ca.pem"
    garbage.write_text("-----BEGIN CERTIFICATE-----\nno\n-----END CERTIFICATE-----\n")
    empty = home / "empty"
    empty.mkdir()

    told = [
        [what for check, what, _ in wrong(looked(home, **environ)) if check == "trust"]
        for environ in (
            {"SSL_CERT_FILE": _NEVER},
            {"SSL_CERT_FILE": str(garbage)},
            {"SSL_CERT_DIR": str(empty)},
            {},
        )
    ]

    assert told[0] == [f"SSL_CERT_FILE is {_NEVER}: nothing of that kind is there"]
    assert told[1][0].startswith(f"SSL_CERT_FILE is {garbage}: it does not load")
    assert told[2:] == [
        [f"SSL_CERT_DIR is {empty}: no certificate in it has the name that OpenSSL looks for"],
        [],
    ]


def test_a_clock_before_this_version_was_made_is_wrong(home):
    told = [what for check, what, _ in wrong(looked(home, at=MADE_AFTER - 1)) if check == "clock"]

    assert told[0] == "it is 2026-10-31T23:59:59.000Z here, before this version was made"


def test_a_heartbeat_or_a_file_from_the_future_is_told(home):
    state = home / "state"
    state.mkdir(mode=0o700)
    now = time.time()
    (state / "reserve").touch(mode=0o600)
    by_file = [what for check, what, _ in wrong(looked(home, at=now - 7200)) if check == "clock"]
    (state / "daemon.lock").touch(mode=0o600)
    os.utime(state / "daemon.lock", (now + 7200, now + 7200))
    by_beat = [what for check, what, _ in wrong(looked(home, at=now)) if check == "clock"]

    assert [one[0].split(" is of ")[0] for one in (by_file, by_beat)] == [
        "a file of the state",
        "the last heartbeat",
    ]


def test_a_clock_that_is_set_ahead_for_a_test_is_told(home):
    assert wrong(looked(home, TALLYD_CLOCK_AHEAD="86400")) == [
        (
            "clock",
            "TALLYD_CLOCK_AHEAD is 86400: this shell's tallyd does not read the real time",
            "unset TALLYD_CLOCK_AHEAD",
        )
    ]


# --- what is said -----------------------------------------------------------------------------------


def test_what_is_wrong_comes_first_and_the_last_line_sums_up():
    told = the_doctor.text(
        [
            Finding("consent", Level.OK, "a is on"),
            Finding("consent", Level.WARNING, "b drops", "tallyd contract add FILE"),
            Finding("room", Level.NOTE, "the reserve is missing", "wait"),
            Finding("lock", Level.PROBLEM, "it hangs\x1b[2J\nfor long", "kill 1"),
            Finding("clock", Level.OK, "it is noon"),
        ]
    )

    assert told == [
        "WRONG: lock: it hangs\\x1b[2J\\nfor long",
        "      kill 1",
        "",
        "MEND: consent: b drops",
        "      tallyd contract add FILE",
        "",
        "consent   ok    a is on",
        "room      note  the reserve is missing",
        "                wait",
        "clock     ok    it is noon",
        "",
        "2 to mend, 1 to know, 2 well",
    ]


@pytest.mark.slow
def test_the_command_says_the_same_in_words_and_exits_with_1_when_something_is_to_mend(home):
    well = tallyd(home, "doctor")
    drop(home / "state", delta(), at=time.time())
    text = tallyd(home, "doctor", check=False)
    code, findings = doctor(home)

    assert well.splitlines()[-1].startswith("0 to mend, ")
    assert code == 1
    assert text.splitlines()[-1].startswith(f"{len(wrong(findings))} to mend, ")


def _close(home: Path) -> None:
    """What a test's own `mkdir` left open to others."""
    for place in ((home / "state"), *(home / "state").rglob("*")):
        if place.is_dir():
            place.chmod(0o700)


def _fill_but(place: Path, room: int) -> None:
    disk = os.statvfs(place)
    (place / "some").write_bytes(b"x" * (disk.f_bavail * disk.f_frsize - room))


def test_a_lock_that_nobody_can_look_at_holds_up_nothing_else(home, monkeypatch):
    """As on a disk whose server is gone: a look returns when it likes, or never."""
    has_ended = threading.Event()
    monkeypatch.setattr(the_doctor, "DOCTOR_SILENCE_S", 0.01)
    monkeypatch.setattr(the_doctor, "DOCTOR_CHECK_S", 0.02)
    monkeypatch.setattr(the_doctor, "look_around", lambda *_: has_ended.wait(60))

    found = looked(home)
    has_ended.set()

    assert found[0].what == "could not look: no answer within 0.02 s"
    assert {one.check for one in found} >= {"consent", "spool", "mount", "service", "clock"}

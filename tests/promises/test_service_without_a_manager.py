"""Where nobody can be asked to run a service: what is said, and what works instead."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.processes import DEMO_CONTRACT, environ_of, run, status, wait_for
from tallyd.cli import service_room

pytestmark = pytest.mark.slow


def _environ(home: Path, **more: str) -> dict[str, str]:
    environ = environ_of(home, **more)
    return {key: value for key, value in environ.items() if not key.startswith(("XDG_", "DBUS_"))}


@pytest.fixture
def bare(home: Path) -> dict[str, str]:
    """A shell with nothing on its PATH but Python."""
    (home / "bin").mkdir()
    (home / "bin" / "python").symlink_to(sys.executable)
    return _environ(home, PATH=str(home / "bin"))


@pytest.mark.parametrize("command", ["install", "start", "restart", "status"])
def test_it_says_so_and_offers_what_works(bare, command):
    done = run("tallyd", "service", command, environ=bare, check=False)

    assert (done.returncode, done.stdout) == (69, "")
    assert all(
        words in done.stderr
        for words in (service_room._NO_MANAGER, "Client(autostart=True)", "tallyd run --on-demand")
    )


def test_a_daemon_that_a_host_started_is_stopped_and_comes_back_only_after_a_start(home, bare):
    """Also where there is no service: nobody else could end it."""
    service_of = ("tallyd", "service")
    run("tallyd", "contract", "add", str(DEMO_CONTRACT), environ=bare)
    daemon = _on_demand(home, bare)

    said = run(*service_of, "stop", environ=bare).stdout

    assert ("ended the daemon that a tool had started" in said, daemon.wait(90)) == (True, 0)
    assert (status(home)["daemon"]["running"], (home / "state" / "stopped").exists()) == (
        False,
        True,
    )
    run(*service_of, "start", environ=bare)
    assert not (home / "state" / "stopped").exists()
    # Now there is nothing to start any more, and it says so.
    assert run(*service_of, "start", environ=bare, check=False).returncode == 69


def test_uninstall_and_purge_end_the_daemon_that_a_host_started(home, bare):
    run("tallyd", "contract", "add", str(DEMO_CONTRACT), environ=bare)
    daemon = _on_demand(home, bare)

    run("tallyd", "service", "uninstall", "--purge", environ=bare)

    assert (daemon.wait(90), (home / "state").exists()) == (0, False)


def _on_demand(home: Path, environ: dict[str, str]) -> subprocess.Popen[bytes]:
    daemon = subprocess.Popen(
        [sys.executable, "-m", "tallyd", "run", "--on-demand"], env=environ, start_new_session=True
    )
    wait_for(lambda: status(home)["daemon"]["running"])
    return daemon


def test_the_files_are_printed_also_without_a_manager(bare):
    said = run("tallyd", "service", "print", environ=bare).stdout

    assert "PrivateUsers=yes" in said


def test_a_manager_that_does_not_answer_is_told_apart_from_none(home):
    """As after `su`, or in a container: systemctl is there, and finds nobody."""
    fake = home / "bin" / "systemctl"
    fake.parent.mkdir()
    fake.write_text("#!/bin/sh\necho 'Failed to connect to bus: No medium found' >&2\nexit 1\n")
    fake.chmod(0o755)
    environ = _environ(home, PATH=f"{fake.parent}{os.pathsep}{os.environ['PATH']}")

    done = run("tallyd", "service", "install", environ=environ, check=False)

    assert (done.returncode, "does not answer this shell" in done.stderr) == (69, True)


def test_a_unit_goes_also_without_its_manager(home, bare):
    units = home / ".config" / "systemd" / "user"
    text = run("tallyd", "service", "print", "--systemd", environ=bare).stdout
    units.mkdir(parents=True)
    (units / "tallyd.service").write_text(text)
    (units / "default.target.wants").mkdir()
    (units / "default.target.wants" / "tallyd.service").symlink_to(units / "tallyd.service")

    said = run("tallyd", "service", "uninstall", environ=bare).stdout

    assert (f"removed {units}/tallyd.service" in said, (home / ".config" / "systemd").exists()) == (
        True,
        False,
    )


def test_root_by_sudo_is_told_to_be_himself(bare):
    done = run("tallyd", "service", "install", environ={**bare, "SUDO_UID": "1000"}, check=False)

    assert (done.returncode, "without sudo" in done.stderr) == (77, True)


def test_nothing_logged_is_said_and_a_log_on_demand_is_shown(home, bare):
    nothing = run("tallyd", "service", "logs", environ=bare, check=False)
    (home / "state").mkdir()
    (home / "state" / "daemon.log").write_text("one\ntwo\n")
    environ = {**bare, "PATH": os.environ["PATH"]}

    shown = run("tallyd", "service", "logs", "-n", "1", environ=environ)

    assert (nothing.returncode, shown.stdout) == (4, "two\n")

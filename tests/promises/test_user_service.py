"""The service under a live user manager: installed, started, killed, stuck, reloaded, upgraded, taken away."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import tempfile
import time
from pathlib import Path

import pytest
from support.managed import QUICK, Manager, host_code, user_manager
from support.processes import DEMO_CONTRACT, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.system, pytest.mark.timeout(400)]


@pytest.fixture
def service(manager: Manager) -> Manager:
    """The service, installed and running, with nothing slow about it."""
    manager.drop_in(QUICK)
    manager.tallyd("service", "install")
    return manager


def _tree(home: Path) -> set[str]:
    return {str(one.relative_to(home)) for one in home.rglob("*")}


def test_ready_is_said_after_the_first_scan(manager):
    """Whoever waits for the start finds everything merged that lay there before it."""
    for _ in range(3):
        manager.count_once()

    manager.tallyd("service", "install")

    told = manager.shown("ActiveState", "StatusText", "Type")
    assert (told, len(list((manager.state / "spool").rglob("*.json")))) == (
        {
            "ActiveState": "active",
            "StatusText": "1 product, 3 deltas merged since the start, nothing wrong",
            "Type": "notify",
        },
        0,
    )


def test_a_second_install_changes_nothing_and_says_so(service):
    before = service.pid()

    said = service.tallyd("service", "install")

    assert (said.splitlines()[0], service.pid()) == ("nothing to do: it is as it should be", before)


def test_a_dry_run_tells_every_step_and_takes_none(manager):
    before = _tree(manager.home)

    said = manager.tallyd("service", "install", "--dry-run")
    planned = json.loads(manager.tallyd("service", "install", "--dry-run", "--json"))

    assert (_tree(manager.home), said.splitlines()) == (
        before,
        [
            f"would write {manager.units}/tallyd.service",
            "would run systemctl --user daemon-reload",
            "would run systemctl --user enable tallyd.service",
            "would run systemctl --user restart tallyd.service",
            "undo: tallyd service uninstall",
        ],
    )
    assert [one["do"] for one in planned["steps"]] == ["write", "run", "run", "run"]


def test_killed_hard_it_is_started_again_and_the_stop_is_recorded_as_unclean(service):
    service.count_once(2)
    before = service.pid()

    service.run("kill", "-9", before)
    service.wait_until(NRestarts="1", ActiveState="active")

    report = service.status()
    assert (service.pid() != before, report["last_stop"]["reason"], service.counted()) == (
        True,
        "unclean",
        2,
    )


def test_a_daemon_that_hangs_misses_the_watchdog_and_is_started_again(service):
    service.drop_in("[Service]\nWatchdogSec=1s\n")
    service.tallyd("service", "restart")
    before = service.pid()

    service.run("kill", "-STOP", before)
    service.wait_until(NRestarts="1", ActiveState="active")

    assert (service.pid() != before, service.status()["last_stop"]["reason"]) == (True, "unclean")


def test_a_stop_is_told_with_its_reason_and_the_uptime_that_the_manager_saw(service):
    wait_for(lambda: service.status()["daemon"]["uptime_s"] > 1)
    service.tallyd("service", "stop")

    stop = service.status()["last_stop"]
    times = service.shown("ActiveEnterTimestampMonotonic", "InactiveEnterTimestampMonotonic")
    up_s = (
        int(times["InactiveEnterTimestampMonotonic"]) - int(times["ActiveEnterTimestampMonotonic"])
    ) / 1e6
    # Up from the process's beginning, half a second before READY.
    assert (stop["reason"], abs(stop["uptime_s"] - up_s) < 2) == ("signal", True)
    line = re.search(r"action=daemon_stopped .*", service.log)
    assert line is not None
    assert [pair.split("=")[0] for pair in line[0].split()] == [
        "action",
        "reason",
        "uptime_s",
        "daemon_version",
        "pid",
    ]


def test_a_wrong_setting_is_told_and_not_started_again(service):
    service.tallyd("service", "stop")
    service.write(".config/tallyd/config.toml", "[daemon]\nlog_levle = 'info'\n")

    code, _, err = service.ask_tallyd("service", "start")
    service.ask("systemctl", "--user", "start", "tallyd")

    told = service.shown("ActiveState", "NRestarts", "ExecMainStatus")
    assert (code, "config.toml:2: daemon.log_levle" in err, told) == (
        78,
        True,
        {"ActiveState": "failed", "NRestarts": "0", "ExecMainStatus": "78"},
    )
    assert "config.toml:2: daemon.log_levle" in service.log


def test_what_keeps_failing_reaches_the_start_limit_and_a_start_by_hand_begins_anew(service):
    service.drop_in("[Unit]\nStartLimitBurst=3\n[Service]\nRestartSec=50ms\n")
    service.tallyd("service", "stop")
    shutil.rmtree(service.state)
    service.state.write_text("a file where the directory should be")

    code, _, _ = service.ask_tallyd("service", "start")
    # 73 may pass by itself, so it is tried again, up to the limit.
    service.wait_until(ActiveState="failed")
    assert (code, service.shown("ExecMainStatus")["ExecMainStatus"]) == (69, "73")
    service.state.unlink()

    service.tallyd("service", "start")

    assert service.shown("ActiveState") == {"ActiveState": "active"}


def test_off_for_everything_ends_it_with_0_and_nothing_starts_it_again(service):
    service.count_once(5)

    service.tallyd("off", "--all")

    service.wait_until(ActiveState="inactive", Result="success", NRestarts="0")
    assert (service.status()["last_stop"]["reason"], _waiting(service)) == ("request", [])
    # Nor does a start by hand do more than look; and whoever says yes again has it back.
    service.tallyd("service", "start")
    service.wait_until(ActiveState="inactive", Result="success")
    code, _, err = service.ask_tallyd("on", "--all")
    assert (code, "started the service" in err) == (0, True)


def _waiting(manager: Manager) -> list[str]:
    return [str(one) for one in (manager.state / "spool").rglob("*.json")]


def test_a_reload_takes_up_the_settings_within_the_same_run(service):
    before = service.pid()
    service.write(
        ".config/tallyd/config.toml", "[daemon]\nlog_level = 'debug'\nrescan_interval_s = 30\n"
    )

    service.run("systemctl", "--user", "reload", "tallyd")
    wait_for(lambda: "action=reloaded log_level=debug" in service.log)
    service.write(".config/tallyd/config.toml", "[daemon]\nwatch = 'maybe'\n")
    service.run("systemctl", "--user", "reload", "tallyd")
    wait_for(lambda: "action=settings_kept" in service.log)

    service.count_once(4)
    assert (service.pid(), service.counted(), service.log.count("action=daemon_started")) == (
        before,
        4,
        1,
    )


def test_the_journal_has_each_line_once_with_its_priority_and_logs_shows_them(manager):
    """A real journald, which takes the marks off again, and of which the user sees what is his own."""
    manager.tallyd("service", "install")
    pid = manager.pid()
    manager.write(".config/tallyd/config.toml", "[daemon]\nwatch = 'maybe'\n")
    manager.run("systemctl", "--user", "reload", "tallyd")
    wait_for(lambda: any("settings_kept" in line for _, line in manager.journal()))
    manager.tallyd("service", "stop")
    wait_for(lambda: any("daemon_stopped" in line for _, line in manager.journal()))

    told = [
        (priority, *re.findall(r"^level=(\w+) action=(\w+)(?:.* (pid=\d+))?", line)[0])
        for priority, line in manager.journal()
        if re.search("action=(daemon_|settings_)", line)
    ]
    shown = manager.tallyd("service", "logs", "-n", "3")
    assert told == [
        ("6", "info", "daemon_started", f"pid={pid}"),
        ("3", "error", "settings_kept", ""),
        ("6", "info", "daemon_stopped", f"pid={pid}"),
    ]
    assert f" tallyd[{pid}]: level=info action=daemon_stopped reason=signal uptime_s=" in shown


def test_a_wrong_setting_is_an_error_in_the_journal_too(manager):
    """It is told before there is any log."""
    manager.tallyd("service", "install")
    wrong = manager.write(".config/tallyd/config.toml", "[daemon]\nwatch = 'maybe'\n")
    manager.ask("systemctl", "--user", "restart", "tallyd")
    wait_for(lambda: manager.journal("--priority=err"))

    assert manager.journal("--priority=err")[0] == (
        "3",
        f"tallyd: {wrong}:2: daemon.watch: 'maybe' is neither true nor false; write true or false, unquoted",
    )


def test_the_sandbox_is_what_the_running_process_has(service):
    """Not what the unit says: what the kernel says of the process."""
    pid = service.pid()
    facts = dict(
        line.split(":\t", 1)
        for line in service.run("cat", f"/proc/{pid}/status").splitlines()
        if ":\t" in line
    )
    mounts = service.run("cat", f"/proc/{pid}/mountinfo").splitlines()
    root = next(line for line in mounts if line.split()[4] == "/")
    limits = service.run("cat", f"/proc/{pid}/limits")

    assert {
        "seccomp": facts["Seccomp"],
        "no new privileges": facts["NoNewPrivs"],
        "capabilities": int(facts["CapBnd"], 16) if service.uid else 0,
        "system": root.split()[5].split(",")[0],
        "core": re.search(r"Max core file size +(\d+)", limits)[1],  # type: ignore[index]
        "nice": service.run("ps", "-o", "ni=", "-p", pid).strip(),
        "io": service.run("ionice", "-p", pid).strip(),
        "score": service.run("cat", f"/proc/{pid}/oom_score_adj").strip(),
    } == {
        "seccomp": "2",
        "no new privileges": "1",
        "capabilities": 0,
        "system": "ro",
        "core": "0",
        "nice": "10",
        "io": "idle",
        "score": "500",
    }


def test_where_a_manager_refuses_a_setting_the_unit_goes_without_it_and_starts():
    """As root of a container /proc cannot be mounted over: a unit that insisted would not start."""
    with user_manager(as_root=True) as manager:
        _, _, err = manager.ask_tallyd("service", "install")
        unit = (manager.units / "tallyd.service").read_text()

        assert manager.shown("ActiveState") == {"ActiveState": "active"}
        left_out = re.findall(r"Protect\w+=yes", err)
        assert [one for one in left_out if one in unit] == []
        assert "NoNewPrivileges=yes" in unit


def test_uninstall_leaves_nothing_of_the_service_and_everything_of_the_user(manager):
    manager.write(".config/systemd/user/mine.service", "[Service]\nExecStart=/bin/true\n")
    before = _tree(manager.home / ".config" / "systemd")
    manager.tallyd("service", "install")
    manager.count_once(3)

    said = manager.tallyd("service", "uninstall")

    assert (_tree(manager.home / ".config" / "systemd"), manager.counted()) == (before, 3)
    assert "undo: tallyd service install" in said
    again = manager.tallyd("service", "uninstall")
    assert again.splitlines()[0] == "nothing to do: it is as it should be"
    code, out, _ = manager.ask_tallyd("service", "status")
    assert (code, "not installed" in out) == (4, True)


def test_a_purge_takes_all_that_tallyd_keeps_but_never_a_no(manager):
    manager.tallyd("service", "install")
    manager.count_once(3)
    manager.tallyd("off", "tallyd-demo")
    manager.write(".local/state/tallyd/notes-of-mine.txt", "not tallyd's")

    said = manager.tallyd("service", "uninstall", "--purge")

    left = {one for one in _tree(manager.home) if "tallyd" in one}
    assert left == {
        ".config/tallyd",
        ".config/tallyd/policy.toml",
        ".local/state/tallyd",
        ".local/state/tallyd/notes-of-mine.txt",
    }
    assert "notes-of-mine.txt" in said
    # Back again, the tool still counts nothing.
    manager.tallyd("contract", "add", str(DEMO_CONTRACT))
    manager.count_once(3)
    assert manager.counted() == 0


def test_an_upgrade_is_noticed_and_started_anew(manager, tmp_path):
    program = _own_installation(manager)
    manager.drop_in(QUICK + "WatchdogSec=4s\n")
    manager.run(program, "-m", "tallyd", "service", "install")
    manager.count_once(2)
    before = manager.pid()

    _upgrade(manager, "9.9.9")
    manager.wait_until(NRestarts="1", ActiveState="active")

    report = manager.status()
    assert (manager.pid() != before, report["daemon"]["version"], manager.counted()) == (
        True,
        "9.9.9",
        2,
    )
    assert (report["last_stop"]["reason"], "upgraded" in manager.log) == ("request", True)


def test_an_installation_that_was_removed_ends_its_daemon_and_is_told(manager):
    program = _own_installation(manager)
    manager.drop_in(QUICK + "WatchdogSec=4s\n")
    manager.run(program, "-m", "tallyd", "service", "install")

    (manager.home / "venv").rename(manager.home / "gone")
    manager.wait_until(ActiveState="inactive", Result="success", NRestarts="0")

    code, out, _ = manager.ask_tallyd("service", "status")
    assert (code, "which is gone" in out, "then: tallyd service install" in out) == (3, True, True)


def _own_installation(manager: Manager) -> str:
    """A tallyd of the user's own: this code in an environment below the home; its python."""
    site = f"lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
    shared = next(one for one in sys.path if one.endswith("site-packages"))
    manager.run(sys.executable, "-m", "venv", "--without-pip", str(manager.home / "venv"))
    target = manager.home / "venv" / site
    code = Path(__file__).parents[2] / "daemon" / "tallyd"
    shutil.copytree(code, target / "tallyd", ignore=shutil.ignore_patterns("__pycache__"))
    for one in (target / "tallyd", *(target / "tallyd").rglob("*")):
        os.chown(one, manager.uid, manager.uid)
    manager.write(f"venv/{site}/shared.pth", shared)
    return str(manager.home / "venv" / "bin" / "python")


def _upgrade(manager: Manager, version: str) -> None:
    (package,) = manager.home.glob("venv/lib/*/site-packages/tallyd")
    file = package / "__init__.py"
    text = re.sub(r'__version__ = ".*"', f'__version__ = "{version}"', file.read_text())
    file.unlink()
    manager.write(str(file.relative_to(manager.home)), text)


def test_a_daemon_that_a_host_started_makes_room_for_the_service(manager):
    """Also without the command's help: at a login the manager starts it by itself."""
    manager.tallyd("service", "install", "--no-start")
    manager.drop_in(QUICK)
    manager.ask(sys.executable, "-m", "tallyd", "run", "--on-demand", background=True)
    wait_for(lambda: manager.status()["daemon"]["running"])
    first = manager.status()["daemon"]["pid"]
    manager.count_once(2)

    manager.run("systemctl", "--user", "start", "tallyd")

    report = manager.status()
    assert (report["daemon"]["pid"] != first, report["last_stop"]["reason"]) == (True, "request")
    assert manager.counted() == 2


def test_a_service_waits_for_whoever_holds_the_lock_and_then_runs(manager):
    """A flush at a login, or a daemon in a terminal, must not cost the user the service."""
    manager.tallyd("service", "install", "--no-start")
    manager.ask(sys.executable, "-m", "tallyd", "run", background=True)
    wait_for(lambda: manager.status()["daemon"]["running"])
    first = str(manager.status()["daemon"]["pid"])

    manager.run("systemctl", "--user", "start", "--no-block", "tallyd")
    manager.wait_until(
        ActiveState="activating", StatusText=f"waits for tallyd in a terminal (process {first})"
    )
    waited_from = time.monotonic()
    wait_for(lambda: time.monotonic() - waited_from > 5)
    manager.run("kill", first)

    manager.wait_until(ActiveState="active", NRestarts="0")
    # Its run begins when the lock is free, and not with the process.
    (startup_ms,) = (
        int(re.findall(r"startup_ms=(\d+)", line)[0])
        for _, line in manager.journal()
        if "action=daemon_started" in line
    )
    assert startup_ms < 5000


def test_state_behind_a_link_and_outside_the_home_can_be_written_by_the_service(manager):
    elsewhere = Path(tempfile.mkdtemp(prefix="tallyd-elsewhere-", dir="/tmp"))
    try:
        os.chown(elsewhere, manager.uid, manager.uid)
        (manager.home / ".local").mkdir(exist_ok=True)
        shutil.rmtree(manager.home / ".local" / "state", ignore_errors=True)
        (manager.home / ".local" / "state").symlink_to(elsewhere)
        for one in (manager.home / ".local", manager.home / ".local" / "state"):
            os.chown(one, manager.uid, manager.uid, follow_symlinks=False)

        manager.tallyd("service", "install")

        assert manager.shown("ActiveState") == {"ActiveState": "active"}
        assert (elsewhere / "tallyd" / "tallyd.db").exists()
    finally:
        shutil.rmtree(elsewhere, ignore_errors=True)


def test_what_keeps_a_service_from_running_is_wrong_in_the_status(service):
    service.write(".config/tallyd/config.toml", "[daemon]\nidle_exit_s = 'x'\n")
    service.ask("systemctl", "--user", "restart", "tallyd")
    service.wait_until(ActiveState="failed")

    told = service.ask_tallyd("status")[1]
    places = [one["place"] for one in service.status()["problems"]]
    # One thing is wrong, and it is told once.
    assert (places, "idle_exit_s" in told) == (["settings"], True)


def test_a_login_takes_back_what_stop_said(service):
    service.tallyd("service", "stop")
    stopped = service.status()["service"]["stopped"]
    service.run("systemctl", "--user", "start", "tallyd")

    assert (stopped, service.status()["service"]["stopped"]) == (True, False)


def test_a_daemon_in_somebodys_terminal_is_left_alone(manager):
    manager.ask(sys.executable, "-m", "tallyd", "run", background=True)
    wait_for(lambda: manager.status()["daemon"]["running"])
    first = manager.status()["daemon"]["pid"]

    code, _, err = manager.ask_tallyd("service", "install")

    assert (code, "in the foreground" in err, manager.status()["daemon"]["pid"]) == (
        75,
        True,
        first,
    )


def test_a_path_unit_starts_it_for_a_drop_and_it_leaves_when_idle(manager):
    manager.write(".config/tallyd/config.toml", "[daemon]\nidle_exit_s = 1\n")
    manager.drop_in(QUICK)
    manager.tallyd("service", "install", "--on-demand")
    # Started once, for what waits already; then it waits for the next drop.
    manager.wait_until(ActiveState="inactive", Result="success")
    code, out, _ = manager.ask_tallyd("service", "status")
    assert (code, "waits for the next drop" in out) == (0, True)

    for round_ in range(1, 4):
        manager.count_once(2)
        wait_for(lambda: manager.counted(flush=False) == round_ * 2)  # noqa: B023
        manager.wait_until(ActiveState="inactive", Result="success")

    assert manager.status()["last_stop"]["reason"] == "idle"
    manager.tallyd("service", "uninstall")
    left = {one.name for one in manager.home.rglob("*tallyd.*") if ".d" not in str(one)}
    assert left & {"tallyd.path", "tallyd.timer", "tallyd.service", "stamp-tallyd.timer"} == set()


def test_a_resident_service_becomes_one_on_demand_and_back(service):
    service.tallyd("service", "install", "--on-demand")
    paths = service.shown("ActiveState", unit="tallyd.path")
    service.tallyd("service", "install")

    assert (paths, service.shown("ActiveState", "UnitFileState")) == (
        {"ActiveState": "active"},
        {"ActiveState": "active", "UnitFileState": "enabled"},
    )
    assert not (service.units / "tallyd.path").exists()


def test_odd_names_in_a_home_reach_the_daemon_as_they_are(manager):
    odd = manager.home / 'a b %h $HOME "c" \\d ü;x'
    odd.mkdir()
    os.chown(odd, manager.uid, manager.uid)
    environ = {"TALLYD_HOME": str(odd)}

    manager.tallyd("service", "install", **environ)

    report = json.loads(manager.tallyd("status", "--json", **environ))
    assert (report["state"], str(report["daemon"]["pid"])) == (str(odd / "state"), manager.pid())


def test_a_unit_that_somebody_else_wrote_is_never_replaced_nor_removed(manager):
    file = manager.write(
        ".config/systemd/user/tallyd.service", "[Service]\nExecStart=/bin/sleep 9\n"
    )
    before = file.read_text()

    code, _, err = manager.ask_tallyd("service", "install")
    manager.tallyd("service", "uninstall")

    assert (code, "move it away" in err, file.read_text()) == (69, True, before)


def test_two_installs_at_once_leave_one_service(manager):
    script = f"{sys.executable} -m tallyd service install"

    code, out, err = manager.ask("sh", "-c", f"{script} & {script} & wait %1 && wait %2")

    assert code == 0, out + err
    assert manager.shown("ActiveState", "NRestarts") == {"ActiveState": "active", "NRestarts": "0"}


def test_a_service_command_waits_for_another_one_of_the_user(manager):
    waited = manager.home / "waited"
    own = f"{sys.executable} -m tallyd service install"
    script = (
        f"exec 9<{manager.home}; flock 9; {own} 9<&- 2>{waited} & install=$!; "
        f"until grep -q waits {waited}; do sleep 0.05; done; ls {manager.units}; exec 9<&-; wait $install"
    )

    code, out, _ = manager.ask("sh", "-c", script)

    assert out.startswith(f"wrote {manager.units}/tallyd.service")
    assert (code, waited.read_text().splitlines()[0], manager.shown("ActiveState")) == (
        0,
        'waits for another "tallyd service" command …',
        {"ActiveState": "active"},
    )


def test_commands_at_once_leave_a_whole_service_or_none(manager):
    """Whichever is last, its work is not half undone by one that began before it."""
    own = f"{sys.executable} -m tallyd service"
    words = ("install", "uninstall", "install --on-demand", "restart", "uninstall", "install")
    manager.ask("sh", "-c", " & ".join(f"{own} {one}" for one in words) + " & wait")

    files = {one.name for one in manager.units.glob("*.*") if one.is_file()}
    links = {one.name for one in manager.units.glob("*.wants/*")}
    assert (files, links) in (
        (set(), set()),
        ({"tallyd.service"}, {"tallyd.service"}),
        ({"tallyd.service", "tallyd.path", "tallyd.timer"}, {"tallyd.path", "tallyd.timer"}),
    )


def test_no_count_is_lost_or_doubled_whatever_is_done_to_the_service(manager):
    """A host counts all the while; what is counted in the end is what it counted."""
    program = _own_installation(manager)
    manager.drop_in(QUICK + "WatchdogSec=4s\n")
    tally = manager.home / "tally"
    host = (
        host_code(0)
        + "import os, time\n"
        + "total = 0\n"
        + f"while not os.path.exists({str(manager.home / 'enough')!r}):\n"
        + "    count('search', 'test'); total += 1\n"
        + "    client.drain(); time.sleep(0.01)\n"
        + "client.close()\n"
        + f"open({str(tally) + '.part'!r}, 'w').write(str(total))\n"
        + f"os.rename({str(tally) + '.part'!r}, {str(tally)!r})\n"
    )
    manager.ask(sys.executable, "-c", host, background=True)
    own = (program, "-m", "tallyd", "service")

    manager.run(*own, "install")
    for restarts in ("1", "2"):
        manager.run("kill", "-9", manager.pid())
        manager.wait_until(NRestarts=restarts, ActiveState="active")
    manager.run(*own, "restart")
    _upgrade(manager, "9.9.9")
    manager.wait_until(NRestarts="1", ActiveState="active")
    manager.run(*own, "uninstall")
    manager.run(*own, "install", "--on-demand")
    manager.run(*own, "uninstall")
    manager.run(*own, "install")
    manager.run("kill", "-STOP", manager.pid())
    manager.wait_until(NRestarts="1", ActiveState="active")
    (manager.home / "enough").touch()
    wait_for(tally.exists)

    assert manager.counted() == int(tally.read_text()) > 50

"""What service commands meet in real life: hosts that start daemons, a wrong setting, another home, a "no"."""

from __future__ import annotations

import json
import sqlite3
import sys

import pytest
from support.managed import QUICK, Manager, host_code
from support.processes import DEMO_CONTRACT, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.system, pytest.mark.timeout(400)]


@pytest.fixture
def on_demand(manager: Manager) -> Manager:
    """The service on demand, waiting for its first drop."""
    manager.drop_in(QUICK)
    manager.tallyd("service", "install", "--on-demand")
    wait_for(lambda: manager.status()["daemon"]["running"])
    manager.run("systemctl", "--user", "stop", "tallyd.service")
    return manager


def _drop(manager: Manager, **environ: str) -> None:
    manager.run(sys.executable, "-c", host_code(1), **environ)


def _spooled(manager: Manager) -> int:
    return len(list((manager.state / "spool").rglob("new/*.json")))


# --- on demand ------------------------------------------------------------------------------------


def test_a_service_on_demand_that_ends_again_and_again_is_started_for_the_next_drop_all_the_same(
    on_demand,
):
    """Stored is a no, and a shell that says yes drops what the daemon deletes: it ends with 0 each time."""
    on_demand.tallyd("off", "tallyd-demo")
    # More often than any start limit of systemd's would let it.
    for _ in range(14):
        _drop(on_demand, TALLYD_DEMO_TELEMETRY="1")
        wait_for(lambda: not _spooled(on_demand))
        on_demand.wait_until(ActiveState="inactive")
    on_demand.tallyd("on", "tallyd-demo")

    _drop(on_demand)
    wait_for(lambda: not _spooled(on_demand))

    assert on_demand.counted() == 1


def test_a_wrong_setting_that_was_mended_leaves_the_service_on_demand_as_it_was(on_demand):
    on_demand.write(".config/tallyd/config.toml", "[daemon]\nwach = true\n")
    for _ in range(12):
        before = on_demand.shown("InvocationID")
        _drop(on_demand)
        wait_for(lambda before=before: on_demand.shown("InvocationID") != before)
        on_demand.wait_until(ActiveState="failed")
    on_demand.write(".config/tallyd/config.toml", "")

    _drop(on_demand)
    wait_for(lambda: not _spooled(on_demand))

    assert on_demand.counted() == 13


def test_a_service_on_demand_that_waits_is_well_and_one_whose_drops_wait_is_not(on_demand):
    waits = on_demand.ask_tallyd("status", "--json")
    on_demand.run("systemctl", "--user", "stop", "tallyd.path")
    _drop(on_demand)
    (file,) = (on_demand.state / "spool").rglob("new/*.json")
    started, _, rest = file.name.partition("-")
    # As if it had been dropped two hours before.
    file.rename(file.with_name(f"{int(started) - 7_200_000}-{rest}"))

    late = on_demand.ask_tallyd("status", "--json")

    assert (waits[0], json.loads(waits[1])["health"]) == (0, "waits")
    assert (late[0], [one["place"] for one in json.loads(late[1])["problems"]]) == (3, ["service"])


def test_a_product_that_came_later_is_named_until_the_service_is_told_of_it(on_demand):
    later = str(DEMO_CONTRACT.with_name("codegraph.toml"))
    on_demand.tallyd("contract", "add", later)
    before = on_demand.status()["service"]["unwatched"]
    said = " ".join(on_demand.ask_tallyd("status")[1].split())
    on_demand.tallyd("service", "install", "--on-demand")

    assert (before, on_demand.status()["service"]["unwatched"]) == (["codegraph"], [])
    assert "but for codegraph: tallyd service install --on-demand" in said


def test_a_restart_after_a_stop_watches_for_drops_again(on_demand):
    on_demand.tallyd("service", "stop")

    on_demand.tallyd("service", "restart")

    assert [on_demand.shown("ActiveState", unit=f"tallyd.{one}") for one in ("path", "timer")] == [
        {"ActiveState": "active"}
    ] * 2


def test_nothing_of_a_timer_stays_when_the_service_is_to_stay(on_demand):
    stamp = on_demand.home / ".local/share/systemd/timers/stamp-tallyd.timer"
    had = stamp.exists()

    on_demand.tallyd("service", "install")

    assert (had, stamp.exists()) == (True, False)


# --- beside hosts that start daemons --------------------------------------------------------------


def test_an_installation_beside_hosts_that_start_daemons_gives_a_service_that_runs(manager):
    """Again and again a daemon that a host starts is there first; the service is the one that stays."""
    manager.drop_in(QUICK)
    loop = (
        "import subprocess, sys, os, time\n"
        f"while not os.path.exists({str(manager.home / 'enough')!r}):\n"
        f"    subprocess.run([sys.executable, '-c', {host_code(1, autostart=True)!r}]); time.sleep(0.1)\n"
        f"open({str(manager.home / 'done')!r}, 'w')\n"
    )
    manager.ask(sys.executable, "-c", loop, background=True)
    wait_for(lambda: manager.status()["daemon"]["way"] == "on demand")
    told = []
    for _ in range(3):
        code, out, err = manager.ask_tallyd("service", "install")
        told.append((code, manager.status()["daemon"]["way"]))
        assert code == 0, out + err
        manager.tallyd("service", "uninstall")
        wait_for(lambda: manager.status()["daemon"]["way"] == "on demand")
    (manager.home / "enough").touch()
    wait_for((manager.home / "done").exists)

    assert told == [(0, "service")] * 3


def test_a_purge_beside_a_host_that_counts_takes_all_there_was(manager):
    manager.drop_in(QUICK)
    manager.tallyd("service", "install")
    host = host_code(1) + (
        "import os, time\n"
        f"while not os.path.exists({str(manager.home / 'enough')!r}):\n"
        "    count('search', 'test'); client.drain(); time.sleep(0.002)\n"
    )
    for _ in range(2):
        manager.ask(sys.executable, "-c", host, background=True)
    wait_for(lambda: manager.counted() > 10)

    code, out, err = manager.ask_tallyd("service", "uninstall", "--purge")
    (manager.home / "enough").touch()

    assert (code, (manager.state / "tallyd.db").exists()) == (0, False), out + err


# --- what a command says --------------------------------------------------------------------------


def test_with_a_wrong_setting_nothing_is_installed_and_the_line_is_named(manager):
    wrong = manager.write(".config/tallyd/config.toml", "[daemon]\nwach = true\n")

    code, out, err = manager.ask_tallyd("service", "install")

    assert (code, out, err.startswith(f"tallyd: {wrong}:2: daemon.wach")) == (78, "", True), err
    assert not manager.units.exists()


def test_an_older_tallyd_does_not_install_itself_over_a_newer_database(manager):
    manager.tallyd("flush")
    with sqlite3.connect(manager.state / "tallyd.db") as database:
        database.execute("PRAGMA user_version = 99")
    database.close()

    code, out, err = manager.ask_tallyd("service", "install")

    assert (code, out, "newer" in err) == (73, "", True), err
    assert not manager.units.exists()


def test_a_start_after_a_crash_does_not_wait_for_the_restart(manager):
    manager.drop_in("[Service]\nRestartSec=1h\n")
    manager.tallyd("service", "install")
    for words in (("start",), ("install",)):
        manager.run("kill", "-9", manager.pid())
        manager.wait_until(SubState="auto-restart")

        manager.tallyd("service", *words)

        assert manager.shown("ActiveState") == {"ActiveState": "active"}


def test_what_is_as_it_should_be_is_not_done_again(manager):
    manager.tallyd("service", "install")
    started = manager.tallyd("service", "start").splitlines()
    manager.tallyd("service", "stop")
    stopped = manager.tallyd("service", "stop", "--json")

    assert started[0] == "nothing to do: it is as it should be"
    assert json.loads(stopped)["steps"] == []


def test_a_killed_service_is_one_thing_that_is_wrong(manager):
    manager.drop_in("[Service]\nRestartSec=1h\n")
    manager.tallyd("service", "install")
    manager.run("kill", "-9", manager.pid())
    manager.wait_until(SubState="auto-restart")

    assert [one["place"] for one in manager.status()["problems"]] == ["daemon"]


def test_a_unit_that_somebody_else_wrote_is_neither_started_nor_stopped(manager):
    manager.write(".config/systemd/user/tallyd.service", "[Service]\nExecStart=/bin/sleep 100\n")
    manager.run("systemctl", "--user", "daemon-reload")

    told = [manager.ask_tallyd("service", one) for one in ("start", "restart", "stop")]

    assert [(code, "did not write it" in err) for code, _, err in told] == [(69, True)] * 3
    assert manager.shown("ActiveState") == {"ActiveState": "inactive"}


def test_the_service_of_another_home_is_left_alone_and_told(manager):
    here, there = (str(manager.home / one) for one in ("here", "there"))
    manager.tallyd("service", "install", TALLYD_HOME=there)

    told = [
        manager.ask_tallyd("service", one, TALLYD_HOME=here) for one in ("start", "restart", "stop")
    ]
    seen = json.loads(manager.ask_tallyd("status", "--json", TALLYD_HOME=here)[1])
    active = manager.shown("ActiveState")
    moved = manager.ask_tallyd("service", "install", TALLYD_HOME=here)[2]

    assert [(code, f"TALLYD_HOME={there}" in err) for code, _, err in told] == [(69, True)] * 3
    assert (seen["service"]["installed"], active) == (False, {"ActiveState": "active"})
    assert f"another home's (TALLYD_HOME={there})" in moved


def test_a_stop_that_cannot_be_written_down_stops_all_the_same_and_says_both(manager):
    if not manager.uid:
        pytest.skip("root writes everywhere")
    manager.tallyd("service", "install")
    manager.run("chmod", "500", str(manager.state))

    code, _, err = manager.ask_tallyd("service", "stop")
    manager.run("chmod", "700", str(manager.state))

    assert (code, "ran systemctl --user stop" in err) == (73, True), err
    assert manager.shown("ActiveState") == {"ActiveState": "inactive"}


# --- off ------------------------------------------------------------------------------------------


def test_off_for_everything_ends_the_service_at_once_and_on_starts_it_again(manager):
    """Not at the next scan, which is an hour away here."""
    manager.write(
        ".config/tallyd/config.toml", "[daemon]\nrescan_interval_s = 3600\nwatch = true\n"
    )
    manager.drop_in(QUICK)
    manager.tallyd("service", "install")

    manager.tallyd("off", "--all")
    manager.wait_until(ActiveState="inactive")
    installed = manager.tallyd("service", "install").splitlines()[-1]
    looked = manager.ask_tallyd("service", "status")[1]
    said = manager.ask_tallyd("on", "tallyd-demo")[2]

    assert installed == (
        "every product is off (user policy), so nothing runs; to change that: tallyd on PRODUCT"
    )
    assert "every product is (user policy)" in looked
    assert "started the service" in said
    assert manager.shown("ActiveState") == {"ActiveState": "active"}

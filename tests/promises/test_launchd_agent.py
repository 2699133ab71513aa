"""tallyd under launchd: what the agent says, and what each command asks launchctl to do.

No Mac was there: the property list is held against the manual's table, and launchctl is a program of
ours that refuses as launchd was reported to. The daemon that it starts is the real one.
"""

from __future__ import annotations

import json
import os
import plistlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.launchd_keys import wrong
from support.mac import GUI, LABEL, USER, Mac, mac
from support.processes import wait_for
from support.service_files import MAC
from tallyd.contract.frozen import replace
from tallyd.limits import LOG_MAX_BYTES
from tallyd.supervisor import agent, here, launchctl
from tallyd.supervisor.launchctl import Refusal
from tallyd.supervisor.launchd import Launchd
from tallyd.supervisor.recipe import Recipe
from tallyd.supervisor.steps import Done

_TARGET = f"{GUI}/{LABEL}"
_ODD = "Jürgen & Söhne <\"x\"> 'y' %n $HOME"


def _recipe(home: Path = MAC.home, **more: Any) -> Recipe:
    python = home / ".local/share/uv/tools/tallyd/bin/python"
    return replace(
        MAC,
        command=(str(python), *MAC.command[1:]),
        home=home,
        state=home / ".local/state/tallyd",
        **more,
    )


@pytest.fixture
def a_mac(tmp_path):
    with mac(tmp_path) as made:
        yield made


# --- the property list ------------------------------------------------------------------------------


@pytest.mark.parametrize("is_on_demand", [False, True])
@pytest.mark.parametrize("has_desktop", [False, True])
def test_each_key_of_the_agent_is_in_the_manual_with_its_type(is_on_demand, has_desktop):
    rendered = agent.render(
        _recipe(
            is_on_demand=is_on_demand,
            has_desktop=has_desktop,
            products=("codegraph",),
            environ=(("TALLYD_HOME", "/Users/you/tally"),),
        )
    )

    assert wrong(plistlib.loads(rendered)) == []


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("KeepAlife", True, ["KeepAlife: no such key"]),
        ("Nice", "10", ["Nice: str, not int"]),
        ("LowPriorityIO", 1, ["LowPriorityIO: int, not bool"]),
        ("Nice", True, ["Nice: bool, not int"]),
        ("KeepAlive", {"SucessfulExit": False}, ["KeepAlive.SucessfulExit: no such key"]),
        ("HardResourceLimits", {"Core": False}, ["HardResourceLimits.Core: bool, not int"]),
        ("WatchPaths", "/tmp", ["WatchPaths: str, not an array"]),
        ("ProgramArguments", ["a", 1], ["ProgramArguments[]: int, not str"]),
        ("StartCalendarInterval", [{"Hours": 1}], ["StartCalendarInterval[].Hours: no such key"]),
        (
            "ProcessType",
            "background",
            [
                "ProcessType: 'background' is none of"
                " ['Adaptive', 'Background', 'Interactive', 'Standard']"
            ],
        ),
    ],
)
def test_a_wrong_key_or_type_would_be_found(key, value, said):
    keys = plistlib.loads(agent.render(_recipe(is_on_demand=True)))

    assert wrong({**keys, key: value}) == said


def test_the_agent_is_started_again_after_a_crash_alone_and_is_the_last_in_line():
    keys = plistlib.loads(agent.render(_recipe()))

    assert keys == {
        "Label": LABEL,
        "ProgramArguments": [
            "/Users/you/.local/share/uv/tools/tallyd/bin/python",
            *("-I", "-m", "tallyd", "run", "--agent"),
            *("--log-file", "/Users/you/Library/Logs/tallyd.log"),
        ],
        "WorkingDirectory": "/",
        "LimitLoadToSessionType": "Aqua",
        "RunAtLoad": True,
        "KeepAlive": {"SuccessfulExit": False},
        "ThrottleInterval": 15,
        "ExitTimeOut": 5,
        "ProcessType": "Background",
        "LowPriorityIO": True,
        "LowPriorityBackgroundIO": True,
        "Nice": 10,
        "Umask": 0o077,
        "SoftResourceLimits": {"Core": 0},
        "HardResourceLimits": {"Core": 0},
        # The file that the daemon writes to: what fails before it does so stands there, too.
        "StandardErrorPath": "/Users/you/Library/Logs/tallyd.log",
    }


def test_on_demand_it_is_started_by_what_changes_and_by_the_clock_and_by_no_queue():
    usual = plistlib.loads(agent.render(_recipe()))
    keys = plistlib.loads(agent.render(_recipe(is_on_demand=True, products=("codegraph", "ktx"))))

    spool = "/Users/you/.local/state/tallyd/spool"
    minutes = {one.pop("Minute") for one in keys["StartCalendarInterval"]}
    assert {key: value for key, value in keys.items() if usual.get(key) != value} == {
        "ProgramArguments": [
            *usual["ProgramArguments"][:5],
            "--on-demand",
            *usual["ProgramArguments"][5:],
        ],
        "WatchPaths": [spool, f"{spool}/codegraph/new", f"{spool}/ktx/new"],
        "StartCalendarInterval": [{"Hour": hour} for hour in (0, 6, 12, 18)],
    }
    # One minute, another on another machine, the same each time it is rendered.
    assert (len(minutes), "QueueDirectories" in keys) == (1, False)


@pytest.mark.parametrize("name", [_ODD, "with space", "日本", "-I", "a\\b"])
def test_any_path_that_a_file_system_knows_comes_back_from_the_file_as_it_was(name):
    home = Path("/Users") / name
    environ = (("TALLYD_HOME", f"/Volumes/{name}"),)
    keys = plistlib.loads(agent.render(_recipe(home, environ=environ)))

    assert (
        keys["ProgramArguments"][0],
        keys["StandardErrorPath"],
        keys["EnvironmentVariables"],
    ) == (
        f"/Users/{name}/.local/share/uv/tools/tallyd/bin/python",
        f"/Users/{name}/Library/Logs/tallyd.log",
        dict(environ),
    )


def test_an_agent_is_ours_by_its_label_and_its_command_whatever_else_is_in_it():
    ours = plistlib.loads(agent.render(_recipe(is_on_demand=True)))
    command = ours["ProgramArguments"]

    told = {
        "as rendered": ours,
        "with more keys": {**ours, "Disabled": False},
        "an older python": {**ours, "ProgramArguments": ["/old/python", *command[1:]]},
        "another label": {**ours, "Label": "com.example.tallyd"},
        "by hand": {**ours, "ProgramArguments": ["/Users/you/.local/bin/tallyd", "run"]},
        "another program": {**ours, "ProgramArguments": ["/bin/sh", "-c", "tallyd run --agent"]},
        "no array": {**ours, "ProgramArguments": "tallyd"},
        "nothing": {},
    }
    assert {name: agent.is_ours(keys) for name, keys in told.items()} == {
        "as rendered": True,
        "with more keys": True,
        "an older python": True,
        "another label": False,
        "by hand": False,
        "another program": False,
        "no array": False,
        "nothing": False,
    }


# --- what launchctl says ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "said", "why"),
    [
        (5, "Bootstrap failed: 5: Input/output error", Refusal.UNSPECIFIC),
        (37, "Bootstrap failed: 37: Operation already in progress", Refusal.BUSY),
        (36, "Boot-out failed: 36: Operation now in progress", Refusal.BUSY),
        (3, "Boot-out failed: 3: No such process", Refusal.NOT_LOADED),
        (113, f'Could not find service "{LABEL}" in domain for user gui: 501', Refusal.NOT_LOADED),
        (113, f'Bad request.\nCould not find service "{LABEL}" in domain', Refusal.NOT_LOADED),
        (112, "Could not find domain for user gui: 501", Refusal.NO_DOMAIN),
        (125, "Bootstrap failed: 125: Domain does not support specified action", Refusal.NO_DOMAIN),
        (
            119,
            "x.plist: Service is disabled\nBootstrap failed: 119: Service is disabled",
            Refusal.DISABLED,
        ),
        (122, "x.plist: Path had bad ownership/permissions", Refusal.BAD_PERMISSIONS),
        (133, "/x: service already bootstrapped\nBootstrap failed: 133", Refusal.BUSY),
        (
            134,
            "Bootstrap failed: 134: Service cannot load in requested session",
            Refusal.WRONG_SESSION,
        ),
        (109, "Bootstrap failed: 109: Invalid property list", Refusal.BAD_FILE),
        (
            155,
            "Bootstrap failed: 155: Refusing to execute/trust quarantined program/file",
            Refusal.QUARANTINED,
        ),
        (1, "Boot-out failed: 1: Operation not permitted", Refusal.NOT_PERMITTED),
        # Words that nobody has seen: the code in them, then the code it ended with.
        (1, "Bootstrap failed: 119: Dienst ist abgeschaltet", Refusal.DISABLED),
        (122, "", Refusal.BAD_PERMISSIONS),
        (153, "Completely unexpected error", Refusal.UNKNOWN),
    ],
)
def test_each_known_refusal_is_known_by_its_words_or_its_code(code, said, why):
    assert launchctl.refusal(Done(code, "", said)) is why


def test_each_refusal_that_is_known_says_what_to_do():
    told = {why: launchctl.in_words(why, _TARGET, Path("/a b.plist")) for why in Refusal}

    assert [why for why, (what, hint) in told.items() if not (what and hint)] == [Refusal.UNKNOWN]
    assert f"launchctl enable {_TARGET}" in told[Refusal.DISABLED][1]
    assert "chmod 644 '/a b.plist'" in told[Refusal.BAD_PERMISSIONS][1]


def test_print_is_read_without_the_blocks_in_it_and_with_words_nobody_knows():
    printed = """gui/501/dev.tallyd.daemon = {
        active count = 1
\tstate = running
\targuments = {
\t\tstate = nonsense
\t}
\tpid = 913
\truns = 3
\tlast exit code = 76: EX_PROTOCOL
\tlast terminating signal = Terminated: 15
\tnever = seen = before
\tgarbage
\tendpoints = {
\t\t"x" = {
\t\t\tpid = 1
\t\t}
\t}
\tpid = 2
}
"""
    fields = launchctl.fields(printed)

    assert fields == {
        "active count": "1",
        "state": "running",
        "pid": "913",
        "runs": "3",
        "last exit code": "76: EX_PROTOCOL",
        "last terminating signal": "Terminated: 15",
        "never": "seen = before",
    }
    assert [launchctl.fields(one) for one in ("", "}}}", "{", "a = b")] == [{}, {}, {}, {}]
    assert [
        launchctl.number(one) for one in ("76: EX_PROTOCOL", "(never exited)", "", None, "-9")
    ] == [*(76, None, None, None, -9)]


@pytest.mark.parametrize(
    ("word", "is_off"), [("disabled", True), ("true", True), ("enabled", False), ("false", False)]
)
def test_print_disabled_is_read_as_macos_13_says_it_and_as_it_was_said_before(word, is_off):
    printed = (
        f'disabled services = {{\n\t\t"{LABEL}" => {word}\n\t\t"{LABEL}.other" => disabled\n\t}}\n'
    )

    assert launchctl.is_disabled(printed, LABEL) is is_off


# --- what the commands do ---------------------------------------------------------------------------


def _status(a_mac: Mac) -> dict[str, Any]:
    seen: dict[str, Any] = json.loads(a_mac.service("status", "--json")[1])
    return seen


@pytest.mark.slow
def test_the_service_is_installed_looked_at_stopped_and_taken_away(tmp_path):
    with mac(tmp_path, _ODD.replace("$HOME", "x")) as a_mac:
        code, said, noted = a_mac.service("install")
        [pid] = a_mac.pids()
        assert (code, said.splitlines()) == (
            0,
            [
                f"wrote {a_mac.agent}",
                f"ran launchctl bootstrap {GUI} {a_mac.agent}",
                "undo: tallyd service uninstall",
                f'it runs (process {pid}), and will at each login; "tallyd status" shows how it is',
            ],
        )
        assert "switched off in System Settings > General > Login Items" in noted
        assert (a_mac.agent.stat().st_mode & 0o777, a_mac.acts()) == (
            0o644,
            [["bootstrap", GUI, str(a_mac.agent)]],
        )
        seen = _status(a_mac)
        assert {
            key: seen[key] for key in ("supervisor", "mode", "enabled", "state", "pid", "restarts")
        } == {
            "supervisor": "launchd",
            "mode": "resident",
            "enabled": True,
            "state": "active",
            "pid": pid,
            "restarts": 0,
        }

        # Again: it is as it should be.
        assert (a_mac.service("install")[1].splitlines()[0], a_mac.acts(), a_mac.pids()) == (
            "nothing to do: it is as it should be",
            [],
            [pid],
        )

        wait_for(lambda: "action=daemon_started" in a_mac.log.read_text())
        assert a_mac.service("logs", "-n", "1")[1].count("\n") == 1
        assert a_mac.service("restart")[0] == 0
        [later] = a_mac.pids()
        assert (later != pid, a_mac.acts()) == (
            True,
            [["kill", "SIGTERM", _TARGET], ["kickstart", "-k", _TARGET]],
        )
        # It was asked to, not killed.
        assert "action=daemon_stopped reason=signal" in a_mac.log.read_text()

        code, said, _ = a_mac.service("stop")
        assert (code, said.splitlines()[0], a_mac.pids()) == (
            0,
            f"ran launchctl bootout {_TARGET}",
            [],
        )
        seen = _status(a_mac)
        assert (seen["state"], seen["detail"], seen["enabled"]) == ("inactive", "not loaded", True)
        assert a_mac.service("start")[0] == 0
        assert a_mac.acts() == [["bootout", _TARGET], ["bootstrap", GUI, str(a_mac.agent)]]

        code, said, _ = a_mac.service("uninstall")
        assert (code, said.splitlines()[:3], a_mac.pids()) == (
            0,
            [f"ran launchctl bootout {_TARGET}", f"removed {a_mac.agent}", f"removed {a_mac.log}"],
            [],
        )
        assert [list(one.iterdir()) for one in (a_mac.agent.parent, a_mac.log.parent)] == [[], []]
        assert (
            a_mac.service("uninstall")[1].splitlines()[0] == "nothing to do: it is as it should be"
        )
        assert a_mac.service("status")[0] == 4


@pytest.mark.slow
def test_a_dry_run_says_what_it_would_do_and_does_nothing(a_mac):
    code, said, _ = a_mac.service("install", "--dry-run")

    assert (code, said.splitlines()[:2], a_mac.acts(), a_mac.agent.exists()) == (
        0,
        [f"would write {a_mac.agent}", f"would run launchctl bootstrap {GUI} {a_mac.agent}"],
        [],
        False,
    )


@pytest.mark.slow
def test_another_agent_is_loaded_only_when_the_one_before_is_gone(a_mac):
    """`bootout` returns at once, and launchd refuses a `bootstrap` until it has cleaned up."""
    a_mac.service("install")
    a_mac.acts()
    a_mac.set("lingers", "3")
    a_mac.set("eio", "2")

    code, _, said = a_mac.service("install", "--on-demand")

    load = ["bootstrap", GUI, str(a_mac.agent)]
    assert (code, a_mac.acts()) == (0, [["bootout", _TARGET], load, load, load]), said
    # Started at once, it found no product that is on, and left; the watch and the clock start it again.
    wait_for(lambda: not _runs(a_mac))
    seen = _status(a_mac)
    assert (
        seen["mode"],
        seen["waits"],
        seen["state"],
        seen["result"],
        a_mac.service("status")[0],
    ) == (
        *("on-demand", True, "inactive", "success"),
        0,
    )


@pytest.mark.slow
def test_over_ssh_alone_the_agent_is_for_any_login_and_at_the_screen_it_is_the_screens_again(a_mac):
    a_mac.set("no-gui")
    code, _, noted = a_mac.service("install")

    assert (code, a_mac.acts(), _status(a_mac)["state"]) == (
        0,
        [["bootstrap", USER, str(a_mac.agent)]],
        "active",
    )
    assert "nobody is logged in at this Mac's screen" in noted
    assert plistlib.loads(a_mac.agent.read_bytes())["LimitLoadToSessionType"] == "Background"

    (a_mac.launchd / "no-gui").unlink()
    code, _, noted = a_mac.service("install")

    assert (code, a_mac.acts(), "nobody is logged in" in noted) == (
        0,
        [["bootout", f"{USER}/{LABEL}"], ["bootstrap", GUI, str(a_mac.agent)]],
        False,
    )


@pytest.mark.slow
def test_an_agent_of_the_screen_is_told_as_such_where_nobody_is_at_the_screen(a_mac):
    a_mac.service("install", "--no-start")
    a_mac.set("no-gui")
    a_mac.acts()

    seen = _status(a_mac)
    code, _, said = a_mac.service("start")

    assert (seen["state"], seen["detail"]) == ("inactive", "nobody is logged in at the screen")
    assert (code, said.splitlines()) == (
        69,
        [
            f"tallyd: launchd has no session {GUI} that takes agents (Bootstrap failed: 125: Domain does"
            " not support specified action); log in at this Mac's screen as yourself, without sudo or su,"
            ' and try again. Over ssh alone "tallyd service install" makes an agent for any login. If you are'
            " at the screen, see whether it is switched off in System Settings > General > Login Items."
            ' "tallyd run" works everywhere'
        ],
    )


@pytest.mark.slow
def test_what_was_switched_off_stays_off_until_its_user_switches_it_on(a_mac):
    a_mac.launchctl("disable", _TARGET)
    a_mac.acts()
    code, _, said = a_mac.service("install")

    assert (code, a_mac.acts(), a_mac.agent.exists()) == (69, [], False)
    assert said.splitlines() == [
        f"tallyd: launchd has {_TARGET} switched off; switch it on in System Settings > General >"
        f" Login Items, or: launchctl enable {_TARGET}; then try again"
    ]
    a_mac.launchctl("enable", _TARGET)
    assert a_mac.service("install")[0] == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cause", "what"),
    [
        ("permissions", "launchd does not trust"),
        ("nobody", "launchd has no session"),
        ("nothing known", "launchd did not take the agent, and does not say why"),
    ],
)
def test_behind_an_input_output_error_its_cause_is_looked_for(a_mac, cause, what):
    a_mac.service("install", "--no-start")
    a_mac.set("as-io-error")
    if cause == "permissions":
        a_mac.agent.chmod(0o666)
    elif cause == "nobody":
        a_mac.set("no-gui")
        a_mac.refuse("bootstrap", 5, "Bootstrap failed: 5: Input/output error")
    else:
        a_mac.set("eio", "99")

    code, _, said = a_mac.service("start")

    assert (code, said.startswith(f"tallyd: {what}"), "Traceback" in said) == (69, True, False), (
        said
    )
    # launchctl's own advice would install it for root.
    assert "as root" not in said


def test_what_is_switched_off_in_the_moment_of_the_start_is_told_as_such(a_mac, monkeypatch):
    for name in ("PATH", "FAKE_LAUNCHD"):
        monkeypatch.setenv(name, a_mac.environ[name])
    a_mac.launchctl("disable", _TARGET)
    refused = Done(
        5, "", "Bootstrap failed: 5: Input/output error\nTry re-running the command as root"
    )

    told = Launchd(a_mac.environ).explain(
        ("launchctl", "bootstrap", GUI, str(a_mac.agent)), refused
    )

    assert str(told) == (
        f"launchd has {_TARGET} switched off (Bootstrap failed: 5: Input/output error); switch it on in"
        f" System Settings > General > Login Items, or: launchctl enable {_TARGET}; then try again"
    )


@pytest.mark.slow
def test_a_file_that_others_can_write_is_written_anew(a_mac):
    a_mac.service("install", "--no-start")
    a_mac.agent.chmod(0o666)

    assert a_mac.service("install")[0] == 0
    assert a_mac.agent.stat().st_mode & 0o777 == 0o644


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", ["another program", "no property list", "a link", "a pipe", "huge"]
)
def test_a_file_that_is_not_ours_is_neither_replaced_nor_removed_nor_unloaded(
    a_mac, tmp_path, kind
):
    a_mac.agent.parent.mkdir(parents=True)
    other = {**plistlib.loads(agent.render(MAC)), "ProgramArguments": ["/usr/bin/true"]}
    if kind == "a link":
        target = tmp_path / "dotfiles.plist"
        target.write_bytes(agent.render(MAC))
        a_mac.agent.symlink_to(target)
    elif kind == "a pipe":
        os.mkfifo(a_mac.agent)
    else:
        content = {
            "another program": plistlib.dumps(other),
            "no property list": b"<plist><dict>",
            "huge": b"x" * 1_000_000,
        }[kind]
        a_mac.agent.write_bytes(content)
    before = _identity(a_mac.agent)

    code, _, said = a_mac.service("install")
    removal = a_mac.service("uninstall")

    assert (code, said.splitlines()) == (
        69,
        [f"tallyd: {a_mac.agent} was not written by tallyd; move it away, then try again"],
    )
    assert (removal[0], removal[1].splitlines()[0]) == (0, "nothing to do: it is as it should be")
    assert (_identity(a_mac.agent), a_mac.acts()) == (before, [])
    assert "not written by tallyd" in a_mac.service("status")[1]


def _identity(file: Path) -> tuple[int, ...]:
    about = os.lstat(file)
    return about.st_ino, about.st_mode, about.st_size, about.st_mtime_ns


@pytest.mark.slow
def test_a_job_whose_file_is_gone_is_unloaded_all_the_same(a_mac):
    a_mac.service("install")
    a_mac.agent.unlink()
    a_mac.acts()

    assert a_mac.service("uninstall")[0] == 0
    assert (a_mac.acts(), a_mac.pids()) == ([["bootout", _TARGET]], [])


@pytest.mark.slow
def test_a_program_that_is_gone_is_told_and_not_handed_to_launchd(a_mac):
    a_mac.service("install", "--no-start")
    keys = plistlib.loads(a_mac.agent.read_bytes())
    keys["ProgramArguments"][0] = "/gone/bin/python"
    a_mac.agent.write_bytes(plistlib.dumps(keys))
    a_mac.acts()

    code, _, said = a_mac.service("start")

    assert (code, a_mac.acts(), said.splitlines()) == (
        69,
        [],
        [
            f"tallyd: {a_mac.agent} starts /gone/bin/python, which is gone;"
            " install tallyd again, then: tallyd service install"
        ],
    )


@pytest.mark.slow
def test_what_launchd_could_not_start_is_told_with_its_likely_cause(a_mac):
    a_mac.log.mkdir()
    a_mac.service("install")

    seen = _status(a_mac)

    assert (seen["state"], seen["result"]) == (
        "failed",
        "78: EX_CONFIG: launchd could not start it; is its program there, and ~/Library/Logs writable?",
    )


@pytest.mark.slow
def test_an_install_that_was_cut_short_is_finished_by_the_next_one(a_mac):
    a_mac.service("install")
    a_mac.refuse(
        "bootstrap", 134, "Bootstrap failed: 134: Service cannot load in requested session"
    )
    first = a_mac.service("install", "--on-demand")
    (a_mac.launchd / "says-bootstrap").unlink()
    a_mac.acts()

    again = a_mac.service("install", "--on-demand")

    assert (first[0], f"the agent is not for {GUI}" in first[2]) == (69, True)
    assert (again[0], a_mac.acts(), _status(a_mac)["waits"]) == (
        0,
        [["bootstrap", GUI, str(a_mac.agent)]],
        True,
    )


@pytest.mark.slow
def test_an_agent_waits_for_a_tallyd_that_runs_and_then_takes_its_place(a_mac):
    """To end would leave this user without one: with 0 until the next login, else every 15 s anew."""
    first = subprocess.Popen(
        [sys.executable, "-m", "tallyd", "run", "--log-file", str(a_mac.home / "first.log")],
        env=a_mac.environ,
    )
    try:
        wait_for(lambda: "action=daemon_started" in _text(a_mac.home / "first.log"))
        a_mac.service("install", "--no-start")
        agent = subprocess.Popen(
            [sys.executable, "-m", "tallyd", "run", "--agent", "--log-file", str(a_mac.log)],
            env=a_mac.environ,
        )
    finally:
        first.terminate()
        first.wait(90)
    try:
        wait_for(lambda: "action=daemon_started" in _text(a_mac.log))
        assert agent.poll() is None
    finally:
        agent.terminate()
        agent.wait(90)


def _text(file: Path) -> str:
    return file.read_text() if file.exists() else ""


@pytest.mark.slow
def test_two_installs_at_once_leave_one_agent_that_runs(a_mac):
    words = [sys.executable, "-m", "tallyd", "service", "install"]
    both = [
        subprocess.Popen(
            words, env=a_mac.environ, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        for _ in range(2)
    ]
    ends = [(one.communicate()[1].decode(), one.returncode) for one in both]

    assert [code for _, code in ends] == [0, 0], ends
    assert (len(a_mac.pids()), _status(a_mac)["state"]) == (1, "active")


@pytest.mark.slow
def test_the_doctor_reads_the_agent_as_it_reads_a_unit(a_mac):
    home = str(a_mac.home / "tally")
    a_mac.service("install", "--no-start", TALLYD_HOME=home)

    def found(**more: str) -> list[str]:
        said = json.loads(a_mac.tallyd("doctor", "--json", **more)[1])
        return [one["what"] for one in said["findings"] if one["check"] == "service"]

    assert found(TALLYD_HOME=home) == [
        f"{a_mac.agent} is there, and no daemon runs",
        "launchd is this system's service manager",
    ]
    assert f"TALLYD_HOME is not set in this shell, and {home} in the service" in found()


# --- the log ------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_daemon_that_fails_at_each_start_does_not_fill_the_log(a_mac):
    """It is started again for ever, and what it says before its log is set up has no other cap."""
    a_mac.service("install")
    a_mac.service("stop")
    config = a_mac.home / ".config" / "tallyd" / "config.toml"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text("[daemon]\nlog_level = 7\n")
    before = "".join(f"{number:07}\n" for number in range(LOG_MAX_BYTES // 4))
    a_mac.log.write_text(before)

    # As at a login: "tallyd service start" would say what is wrong, and start nothing.
    a_mac.launchctl("bootstrap", GUI, str(a_mac.agent))
    wait_for(a_mac.log.with_name("tallyd.log.1").exists)
    wait_for(lambda: not _runs(a_mac))

    kept = a_mac.log.with_name("tallyd.log.1").read_text()
    assert (kept, _status(a_mac)["result"]) == (before[-LOG_MAX_BYTES:], "success")
    # It ended with 0, for another start would mend nothing, and said why.
    assert "log_level" in a_mac.log.read_text()
    assert a_mac.log.stat().st_size < 1000


def _runs(a_mac: Mac) -> bool:
    return bool(_status(a_mac)["pid"])


@pytest.mark.slow
def test_a_log_that_cannot_be_opened_ends_the_agent_for_good(a_mac):
    """Another start would not mend it, and launchd knows no other way to be told."""
    a_mac.log.symlink_to(a_mac.home / "elsewhere")
    done = subprocess.run(
        [sys.executable, "-m", "tallyd", "run", "--agent", "--log-file", str(a_mac.log)],
        env=a_mac.environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert (done.returncode, done.stderr.startswith(f"tallyd: {a_mac.log} cannot be opened")) == (
        0,
        True,
    )


@pytest.mark.slow
@pytest.mark.parametrize("follow", [False, True])
def test_logs_shows_the_last_lines_with_those_before_them_where_it_is_short(a_mac, follow):
    a_mac.agent.parent.mkdir(parents=True)
    a_mac.agent.write_bytes(agent.render(MAC))
    a_mac.log.with_name("tallyd.log.1").write_text("1\n2\n3\n")
    a_mac.log.write_text("4\n5\n")

    if not follow:
        shown = [a_mac.service("logs", "-n", str(lines))[1].split() for lines in (1, 2, 4, 9)]
        assert shown == [["5"], ["4", "5"], ["2", "3", "4", "5"], ["1", "2", "3", "4", "5"]]
        return
    with subprocess.Popen(
        [sys.executable, "-m", "tallyd", "service", "logs", "-n", "3", "-f"],
        env=a_mac.environ,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        first = [process.stdout.readline().strip() for _ in range(3)]
        with a_mac.log.open("a") as opened:
            opened.write("6\n")
        assert (first, process.stdout.readline().strip()) == (["3", "4", "5"], "6")
        process.kill()


@pytest.mark.slow
def test_logs_says_so_when_nothing_was_logged_yet(a_mac):
    a_mac.agent.parent.mkdir(parents=True)
    a_mac.agent.write_bytes(agent.render(MAC))

    assert a_mac.service("logs")[::2] == (
        69,
        f"tallyd: nothing was logged yet: there is no {a_mac.log}\n",
    )


# --- which service manager ----------------------------------------------------------------------------


@pytest.mark.slow
def test_the_environment_names_the_service_manager_and_a_wrong_word_is_told(a_mac):
    none = a_mac.service("status", TALLYD_SERVICE_MANAGER="none")
    wrong_word = a_mac.service("install", TALLYD_SERVICE_MANAGER="upstart")

    assert (none[0], none[2].splitlines()[0]) == (
        69,
        "tallyd: there is no service manager here (neither systemd for users nor launchd).",
    )
    assert wrong_word == (
        64,
        "",
        "tallyd: TALLYD_SERVICE_MANAGER is 'upstart';"
        " set it to one of systemd, launchd, none, or unset it\n",
    )


def test_without_launchctl_there_is_no_launchd(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))

    assert here({"TALLYD_SERVICE_MANAGER": "launchd", "HOME": str(tmp_path)}) is None


@pytest.mark.slow
def test_print_shows_the_agent_on_any_system_as_install_would_write_it(a_mac):
    code, said, _ = a_mac.service("print", "--launchd", TALLYD_SERVICE_MANAGER="systemd")
    a_mac.service("install", "--no-start")

    assert (code, said) == (0, a_mac.agent.read_text())

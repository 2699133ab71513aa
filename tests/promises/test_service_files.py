"""The service files are what systemd and launchd take, and say what the daemon does."""

from __future__ import annotations

import os
import plistlib
import subprocess

from support.processes import ROOT
from support.tools import need

_UNIT = ROOT / "systemd" / "tallyd.service"
_AGENT = ROOT / "launchd" / "dev.tallyd.daemon.plist"

# launchd.plist(5): the keys used and their types; an unknown key is ignored in silence there.
_AGENT_KEYS = {
    "Label": str,
    "ProgramArguments": list,
    "RunAtLoad": bool,
    "KeepAlive": dict,
    "ThrottleInterval": int,
    "ExitTimeOut": int,
    "ProcessType": str,
    "LowPriorityIO": bool,
    "LowPriorityBackgroundIO": bool,
    "Nice": int,
    "Umask": int,
    "StandardErrorPath": str,
}


def test_systemd_takes_the_unit_without_a_word(tmp_path):
    """The exit code alone does not tell of an unknown key: its stderr must be empty."""
    unit = tmp_path / "tallyd.service"
    unit.write_text(_UNIT.read_text().replace("%h/.local/bin/tallyd", "/bin/true"))

    done = subprocess.run(
        [need("systemd-analyze"), "--user", "verify", str(unit)],
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")


def test_a_mistake_in_the_unit_would_be_found(tmp_path):
    unit = tmp_path / "tallyd.service"
    unit.write_text(
        _UNIT.read_text().replace("Restart=", "Restrat=").replace("%h/.local", "/nowhere")
    )

    done = subprocess.run(
        [need("systemd-analyze"), "--user", "verify", str(unit)],
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert "Restrat" in done.stderr


def test_the_agent_is_a_property_list_of_known_keys_and_types():
    agent = plistlib.loads(_AGENT.read_bytes())

    assert {key: type(value) for key, value in agent.items()} == _AGENT_KEYS
    assert agent["Label"] == _AGENT.stem
    # launchd expands nothing, and a crash alone is started again.
    assert (agent["ProgramArguments"][0][0], agent["KeepAlive"]) == ("/", {"SuccessfulExit": False})
    assert agent["Umask"] == 0o077

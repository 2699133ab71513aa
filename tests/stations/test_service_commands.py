"""What a service command makes of odd paths, odd links and odd numbers, without any manager."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest
from support.on_demand import PROGRAM
from support.processes import environ_of, wait_for
from tallyd import __version__, lock
from tallyd.contract.frozen import replace
from tallyd.errors import BadRequest
from tallyd.paths import Paths
from tallyd.supervisor import unit, unit_files
from tallyd.supervisor.recipe import Recipe, recipe_for

_HOME = Path("/home/you")


@pytest.mark.parametrize("name", ["a$b", "$$", "a b", 'a"b', "a\\b", "a%b", "%h", "ü;x"])
def test_an_interpreter_whatever_its_name_is_the_one_that_is_started(name):
    """Systemd looks for variables in every word of a command line but the first."""
    command = (f"/opt/{name}/bin/python", "-m", f"tally{name}d")
    recipe = Recipe(command, (("TALLYD_HOME", f"/x {name}"),), _HOME, _HOME / "c", _HOME / "s")

    text = unit.render(recipe)[unit.SERVICE]

    (line,) = (one for one in text.splitlines() if one.startswith("ExecStart="))
    assert unit.command_of(text) == [*command, "run"]
    assert unit.environ_of(text) == [("TALLYD_HOME", f"/x {name}")]
    assert ("$$" in line.split(" -m ")[0]) == ("$$" in name)


def test_where_a_link_leads_must_be_sayable_in_a_service_file(tmp_path, monkeypatch):
    monkeypatch.setattr("tallyd.installation.why_ephemeral", lambda: "")
    (tmp_path / "a\nEnvironment=X=1").mkdir()
    (tmp_path / "state").symlink_to(tmp_path / "a\nEnvironment=X=1")
    environ = {"TALLYD_HOME": str(tmp_path), "HOME": str(tmp_path)}

    with pytest.raises(BadRequest, match="no service file can hold"):
        recipe_for(Paths.locate(environ), environ)


def test_a_unit_that_is_a_link_is_its_users(tmp_path):
    recipe = Recipe(("/bin/sh",), (), _HOME, _HOME / "c", _HOME / "s")
    (tmp_path / "mine").write_text(unit.render(recipe)[unit.SERVICE])
    (tmp_path / unit.SERVICE).symlink_to(tmp_path / "mine")
    found = unit_files.installed_in(tmp_path)
    assert found is not None

    assert (found.is_ours, replace(found, command=("%h/.local/bin/tallyd",)).problem) == (False, "")


@pytest.mark.slow
def test_a_stop_ends_nobody_but_who_holds_the_lock(home):
    """What the lock tells may be of another system that shares this home, and its number somebody's here."""
    other = subprocess.Popen(["sleep", "300"])
    paths = Paths.locate(environ_of(home))
    holder = lock.Holder(other.pid, "daemon", __version__, time.time(), way=lock.ON_DEMAND)
    try:
        with lock.hold_lock(paths, holder):
            stop = subprocess.Popen(
                [str(PROGRAM), "service", "stop"],
                env=environ_of(home, TALLYD_SERVICE_MANAGER="none"),
                stdout=subprocess.PIPE,
            )
            wait_for(paths.handover.exists)
        out = stop.communicate(timeout=60)[0]

        assert (stop.returncode, b"no tool starts a daemon" in out, other.poll()) == (0, True, None)
    finally:
        other.kill()
        other.wait()

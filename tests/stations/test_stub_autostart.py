"""The stub's part of a start, piece by piece: which program, which environment, who asks for whose place."""

from __future__ import annotations

import fcntl
import json
import os
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.on_demand import script
from support.processes import ROOT
from support.tool import put
from tallyd import handover, limits
from tallyd.paths import Paths
from tallyd_client import Client, _autostart, _handover, _start

_PARTS = st.lists(st.from_regex(r"[0-9]{0,4}[a-z+-]{0,2}", fullmatch=True), max_size=5)


@given(_PARTS.map(".".join), _PARTS.map(".".join))
def test_stub_and_daemon_compare_versions_alike(one: str, other: str):
    assert _handover.is_newer(one, other) == handover.is_newer(one, other)


def test_versions_are_compared_by_their_numbers():
    newer = [("0.10.0", "0.9.1"), ("1.0", "0.9"), ("1.0.1", "1.0"), ("0.2rc1", "0.1"), ("1", "x")]
    same = [("1.0", "1"), ("1.0.0", "1.0"), ("0.2rc1", "0.2"), ("", "x")]

    assert [_handover.is_newer(*one) for one in newer] == [True] * len(newer)
    assert [_handover.is_newer(*reversed(one)) for one in newer + same] == [False] * 9
    assert [_handover.is_newer(*one) for one in same] == [False] * len(same)


# --- which program -------------------------------------------------------------------------------


def _program(directory: Path, mode: int = 0o755) -> str:
    file = script(directory / "tallyd", "#!/bin/sh\n")
    file.chmod(mode)
    return str(file)


def test_the_first_safe_program_on_the_path_is_it(home: Path, monkeypatch: pytest.MonkeyPatch):
    """What cannot be run, what others can write, and what a directory decides is passed over."""
    good, other = _program(home / "good"), _program(home / "other")
    (home / "folder" / "tallyd").mkdir(parents=True)
    _program(home / "text", 0o644)
    unsafe = str(home / "unsafe")
    _program(home / "unsafe", 0o757)
    monkeypatch.chdir(home / "good")
    found = []
    for path in (
        [home / "nowhere", home / "folder", home / "text", home / "good", home / "other"],
        [home / "other", home / "good"],
        ["", ".", "good", home / "other"],
        ["", "."],
        [unsafe, home / "good"],
    ):
        monkeypatch.setenv("PATH", os.pathsep.join(map(str, path)))
        found.append(_start.on_path())

    assert found == [good, other, other, None, good]


def test_a_program_of_another_user_is_not_run(home: Path, monkeypatch: pytest.MonkeyPatch):
    if os.geteuid():
        pytest.skip("only root gives a file away")
    os.chown(_program(home), 65534, 65534)
    monkeypatch.setenv("PATH", str(home))

    assert _start.on_path() is None


def test_the_program_beside_the_interpreter_comes_with_the_host(monkeypatch: pytest.MonkeyPatch):
    beside = str(Path(sys.executable).with_name("tallyd"))
    found = [_autostart.beside_interpreter()]
    for executable in ("", None, "python"):
        monkeypatch.setattr(sys, "executable", executable)
        found.append(_autostart.beside_interpreter())

    assert found == [beside, None, None, None]


# --- what the daemon is told ---------------------------------------------------------------------


def test_the_environment_is_a_list_and_the_readme_has_it(monkeypatch: pytest.MonkeyPatch):
    for name in list(os.environ):
        monkeypatch.delenv(name)
    for name in (*_autostart._PASSED, "LC_ALL", "LC_TIME", "DO_NOT_TRACK", "CI", "AWS_SECRET"):
        monkeypatch.setenv(name, name)
    told = (ROOT / "client_stub" / "python" / "README.md").read_text()

    assert set(_autostart.environ()) == {*_autostart._PASSED, "LC_ALL", "LC_TIME"}
    assert [one for one in _autostart._PASSED if f"`{one}`" not in told and one.islower()] == []
    assert [
        one
        for one in _autostart._PASSED
        if f"`{one}`" not in told and f"`{one.lower()}`" not in told
    ] == []


def test_an_inheritable_descriptor_is_closed_and_no_other():
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)
    found = _start._inheritable()
    os.close(reading)
    os.close(writing)

    assert (writing in found, reading in found, min(found) > 2) == (True, False, True)


# --- the claim and the lock ----------------------------------------------------------------------


def _age(file: Path, seconds: float) -> None:
    at = time.time() + seconds
    os.utime(file, (at, at))


def test_a_claim_is_made_once_and_taken_over_when_it_is_stale(home: Path):
    """Also one from the future: the clock was set back."""
    claim = home / "starting"
    taken = [_start._claim(str(claim)), _start._claim(str(claim))]
    for seconds in (-59, -61, 59, 61):
        _age(claim, seconds)
        taken.append(_start._claim(str(claim)))

    assert taken == [True, False, False, True, False, True]
    assert abs(claim.stat().st_mtime - time.time()) < 60


def test_a_stale_claim_that_is_being_taken_over_is_left(home: Path):
    claim = put(home / "starting", "")
    _age(claim, -61)
    with claim.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(BlockingIOError):
            _start._claim(str(claim))

    assert _start._claim(str(claim))


def test_a_look_at_the_lock_leaves_it_free(home: Path):
    """Also for a child that was forked in between and has the same descriptor."""
    file = put(home / "daemon.lock", "who")
    free = _autostart.text_if_held(str(file))
    with file.open("r+") as daemon:
        fcntl.flock(daemon, fcntl.LOCK_EX | fcntl.LOCK_NB)
        held = _autostart.text_if_held(str(file))
        absent = _autostart.text_if_held(str(home / "absent"))

    assert (free, held, absent) == (None, b"who", None)


# --- asking for the place ------------------------------------------------------------------------


@pytest.fixture
def environment(home: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Makes this process one of an environment in which a version of tallyd is installed."""

    def make(*versions: str) -> Path:
        prefix = home / "venv"
        python = f"python{sys.version_info[0]}.{sys.version_info[1]}"
        for version in versions:
            (prefix / "lib" / python / "site-packages" / f"tallyd-{version}.dist-info").mkdir(
                parents=True
            )
        _program(prefix / "bin")
        monkeypatch.setattr(sys, "prefix", str(prefix))
        monkeypatch.setattr(sys, "executable", str(prefix / "bin" / "python"))
        return prefix / "bin" / "tallyd"

    return make


def _seen(client: Client, autostart: bool | str, **said: object) -> _autostart.Starter:
    assert client._policy is not None
    os.makedirs(client._policy.state_dir, exist_ok=True)
    starter = _autostart.Starter(client._policy, autostart)
    text = {"version": "1.0", "way": "on demand", **said}
    starter._see_who_runs(json.dumps(text).ljust(limits.BOARD_BYTES).encode())
    return starter


_ASKING = {
    "a newer one": (("2.0",), True, {}, "2.0"),
    "the newest of what an upgrade left": (("1.0.1", "0.9", "2.0"), True, {}, "2.0"),
    "the same": (("1.0",), True, {}, None),
    "an older one": (("0.9",), True, {}, None),
    "none installed": ((), True, {}, None),
    "a program elsewhere": (("2.0",), "/bin/sh", {}, None),
    "a service runs": (("2.0",), True, {"way": "service"}, None),
    "a terminal's runs": (("2.0",), True, {"way": "foreground"}, None),
}


@pytest.mark.parametrize(("versions", "autostart", "said", "asked"), _ASKING.values(), ids=_ASKING)
def test_a_host_asks_for_the_newer_version_that_it_brings(
    home: Path,
    new_client: Callable[..., Client],
    environment: Callable[..., Path],
    versions: tuple[str, ...],
    autostart: bool | str,
    said: dict[str, object],
    asked: str | None,
):
    program = environment(*versions)
    file = Paths.locate({"TALLYD_HOME": str(home)}).handover
    _seen(new_client(), autostart, **said)
    found = json.loads(file.read_text()) if file.exists() else None

    assert found == (None if asked is None else {"version": asked, "program": str(program)})


def test_it_asks_once_and_again_after_an_hour_or_for_more(
    home: Path, new_client: Callable[..., Client], environment: Callable[..., Path]
):
    client, file = new_client(), home / "state" / "handover"
    environment("2.0")
    marks = []

    def see() -> None:
        _seen(client, True)
        marks.append(file.stat().st_ino)

    see()
    see()
    _age(file, -3601)
    see()
    environment("2.1")
    see()
    see()
    # What is no request is replaced.
    file.write_text("{")
    see()

    same = [one == other for one, other in pairwise(marks)]
    assert same == [True, False, False, True, False]
    assert os.listdir(file.parent) == ["handover"]


def test_the_stub_reads_the_way_as_the_daemon_writes_it():
    from tallyd import lock

    assert f'"{lock.ON_DEMAND}"' in (Path(_autostart.__file__)).read_text()

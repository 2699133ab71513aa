"""Paths: daemon and stub find the same directories from the same environment."""

from __future__ import annotations

import json
import os
import pwd
from pathlib import Path
from typing import Any

import pytest
from support.processes import ROOT
from tallyd.errors import StateUnusable
from tallyd.paths import Paths
from tallyd_client import _policy

_CASES = json.loads((ROOT / "tests/vectors/paths.json").read_text())["cases"]


@pytest.mark.parametrize("case", _CASES, ids=[str(case["environ"]) for case in _CASES])
def test_daemon_and_stub_find_the_directories_that_the_vectors_name(case: dict[str, Any]):
    paths = Paths.locate(case["environ"])

    assert (case["config"], case["state"]) == (str(paths.config), str(paths.state))
    assert (case["config"], case["state"]) == _policy.directories(case["environ"])


@pytest.mark.parametrize("home", [{"HOME": "relative"}, {"HOME": "./"}, {"HOME": "~"}])
def test_a_home_that_is_no_absolute_path_is_none(home: dict[str, str]):
    """Directories relative to wherever a host was started would be made all over the disk."""
    with pytest.raises(StateUnusable):
        Paths.locate(home)
    with pytest.raises(ValueError, match="no home"):
        _policy.directories(home)


def test_an_empty_home_is_not_the_root_of_the_file_system():
    expected = Path(pwd.getpwuid(os.getuid()).pw_dir)

    assert (
        (expected / ".config/tallyd", expected / ".local/state/tallyd")
        == (Paths.locate({"HOME": ""}).config, Paths.locate({"HOME": ""}).state)
        == tuple(map(Path, _policy.directories({"HOME": ""})))
    )


def test_without_a_variable_both_take_the_home_of_the_user(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("HOME", raising=False)
    expected = Path("~").expanduser()

    assert (
        (expected / ".config/tallyd", expected / ".local/state/tallyd")
        == (Paths.locate({}).config, Paths.locate({}).state)
        == tuple(map(Path, _policy.directories({})))
    )

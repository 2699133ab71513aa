"""The service files are what the code renders, and what systemd takes without a word."""

from __future__ import annotations

import itertools
import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.processes import ROOT
from support.service_files import ON_DEMAND, RECIPE, samples
from support.tools import need
from tallyd.contract.frozen import replace
from tallyd.supervisor import unit
from tallyd.supervisor.recipe import Recipe

# `systemd-analyze security` of the unit with and without its sandbox, times ten: 2.1 and 6.3 on systemd
# 252, where tallyd was measured. It counts network, home and AF_UNIX, which the daemon needs.
_EXPOSURE_WITH, _EXPOSURE_WITHOUT = 22, 64
_BARE = replace(RECIPE, left_out=("PrivateUsers=yes",))


def test_the_files_in_the_repository_are_those_that_the_code_renders():
    """`make units` writes them anew."""
    there = {
        file: file.read_text()
        for directory in ("systemd", "launchd")
        for file in (ROOT / directory).rglob("*")
        if file.suffix != ".md" and file.is_file()
    }

    assert there == samples()


def _analyze(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [need("systemd-analyze"), "--user", *arguments],
        env={**os.environ, "XDG_RUNTIME_DIR": str(directory)},
        capture_output=True,
        text=True,
        check=False,
    )


def _written(recipe: Recipe, directory: Path) -> list[str]:
    # What is verified must be there to be started.
    rendered = unit.render(replace(recipe, command=("/bin/true", *recipe.command[1:])))
    for name, text in rendered.items():
        (directory / name).write_text(text)
    return [str(directory / name) for name in rendered]


@pytest.mark.parametrize(
    ("recipe", "left_out"),
    list(itertools.product((RECIPE, ON_DEMAND), ((), ("ProtectKernelLogs=yes",), _BARE.left_out))),
)
def test_systemd_takes_every_unit_without_a_word(tmp_path, recipe, left_out):
    """The exit code alone does not tell of an unknown key: its stderr must be empty."""
    files = _written(replace(recipe, left_out=left_out), tmp_path)

    done = _analyze(tmp_path, "verify", *files)

    assert (done.returncode, done.stderr) == (0, "")


def test_a_mistake_in_a_unit_would_be_found(tmp_path):
    (file,) = _written(RECIPE, tmp_path)
    text = Path(file).read_text()
    Path(file).write_text(text.replace("Restart=", "Restrat="))

    assert "Restrat" in _analyze(tmp_path, "verify", file).stderr


@pytest.mark.parametrize(("recipe", "most"), [(RECIPE, _EXPOSURE_WITH), (_BARE, _EXPOSURE_WITHOUT)])
def test_what_a_unit_leaves_exposed_is_below_its_limit(tmp_path, recipe, most):
    _written(recipe, tmp_path)
    security = ("security", "--offline=yes", "--no-pager")

    done = _analyze(tmp_path, *security, f"--threshold={most}", str(tmp_path / "tallyd.service"))
    worse = _analyze(
        tmp_path, *security, f"--threshold={most - 3}", str(tmp_path / "tallyd.service")
    )

    assert (done.returncode, worse.returncode) == (0, 1), done.stdout[-200:]


def test_no_unit_asks_for_what_means_something_else_in_another_version():
    """Before systemd 254 a user's StateDirectory and %S are the configuration directory."""
    text = "".join(samples().values())

    assert [
        one
        for one in ("StateDirectory", "%S", "Type=notify-reload", "network-online")
        if one in text
    ] == []


_WORDS = st.text(
    st.characters(
        exclude_categories=("Cc", "Cs", "Cf", "Zl", "Zp", "Co", "Cn"), exclude_characters="\u00a0"
    ).filter(str.isprintable),
    min_size=1,
    max_size=12,
)


@given(st.lists(_WORDS, min_size=1, max_size=4))
def test_a_command_line_comes_back_from_its_unit_as_it_was(words):
    recipe = replace(RECIPE, command=tuple(words))

    assert unit.command_of(unit.render(recipe)["tallyd.service"]) == [*words, "run"]

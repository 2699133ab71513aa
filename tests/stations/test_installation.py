"""Where tallyd is installed: how it is started again, whether it lasts, whether it changed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tallyd.installation import Fingerprint, command, why_ephemeral

_TAG = "Signature: 8a477f597d28d172789f06886806bc55\n# a cache\n"


def test_the_command_line_is_absolute_and_starts_this_tallyd_from_anywhere(tmp_path):
    words = command()

    done = subprocess.run(
        [*words, "--version"], cwd=tmp_path, env={}, capture_output=True, text=True, check=False
    )

    assert (os.path.isabs(words[0]), words[0], done.stdout[:7]) == (True, sys.executable, "tallyd ")


@pytest.mark.parametrize(
    ("below", "is_ephemeral"),
    [
        (".cache/uv/archive-v0/x", True),
        ("tagged/archive-v0/x", True),
        (".local/share/uv/tools/tallyd", False),
        ("projects/thing/.venv", False),
    ],
)
def test_an_environment_in_a_cache_will_not_last(tmp_path, below, is_ephemeral):
    prefix = tmp_path / below
    prefix.mkdir(parents=True)
    (tmp_path / "tagged").mkdir(exist_ok=True)
    (tmp_path / "tagged" / "CACHEDIR.TAG").write_text(_TAG)
    # uv marks each environment that it makes, so that backups leave it out: that says nothing of it.
    (prefix / "CACHEDIR.TAG").write_text(_TAG)

    assert bool(why_ephemeral(str(prefix))) == is_ephemeral


def _package(directory: Path, text: str) -> Path:
    directory.mkdir(exist_ok=True)
    beside = directory / "new"
    beside.write_text(text)
    beside.rename(directory / "__init__.py")
    return directory


def test_an_upgrade_is_told_once_it_stands_still(tmp_path):
    package = _package(tmp_path / "tallyd", "1")
    fingerprint = Fingerprint(package)
    told = [fingerprint.change()]
    (package / "__init__.py").unlink()
    told.append(fingerprint.change())
    _package(package, "2")
    told += [fingerprint.change(), fingerprint.change()]

    assert told == ["", "", "", "replaced"]


def test_a_removal_is_told_once_it_lasts(tmp_path):
    package = _package(tmp_path / "tallyd", "1")
    fingerprint = Fingerprint(package)
    (package / "__init__.py").unlink()

    assert [fingerprint.change(), fingerprint.change()] == ["", "removed"]

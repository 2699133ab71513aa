"""The manual page: no word of it is wrong for the programs that show it, and it tells all that there is."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
from support.processes import ROOT
from support.tools import need
from tallyd import __version__
from tallyd.exits import TABLE
from tallyd.settings import Settings
from tallyd.usage.commands import COMMANDS

pytestmark = pytest.mark.slow

_PAGE = ROOT / "daemon" / "tallyd" / "shell" / "tallyd.1"


@pytest.mark.parametrize(
    "command",
    [
        ["groff", "-man", "-ww", "-z", "-K", "utf-8"],
        ["groff", "-man", "-ww", "-z", "-Tascii"],
        ["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z"],
        ["mandoc", "-Tlint"],
    ],
    ids=" ".join,
)
def test_no_formatter_has_anything_to_say(command):
    done = subprocess.run(
        [need(command[0]), *command[1:], str(_PAGE)],
        env={**os.environ, "MANROFFSEQ": "", "MANWIDTH": "80"},
        capture_output=True,
        text=True,
        check=False,
    )
    said = done.stdout if command[0] == "mandoc" else ""

    assert (done.returncode, done.stderr, said) == (0, "", "")


def _shown() -> str:
    """The page as a terminal shows it, in one line, without what makes letters bold."""
    done = subprocess.run(
        [need("groff"), "-man", "-Tascii", "-P-c", "-P-b", "-P-u", "-rLL=500n", str(_PAGE)],
        capture_output=True,
        text=True,
        check=True,
    )
    return re.sub(r"\s+", " ", done.stdout)


def test_it_tells_of_every_command_every_argument_and_every_exit_code():
    shown = _shown()
    wanted = [f"tallyd {one.words} " for one in COMMANDS]
    wanted += [name for one in COMMANDS for name in one.arguments if name.startswith("-")]
    wanted += [one.summary[1:] for one in COMMANDS]
    wanted += [f" {one.code} {one.means[0].upper()}" for one in TABLE]

    assert [one for one in wanted if one.replace("`", "") not in shown] == []


def test_it_has_the_sections_in_the_order_that_readers_know():
    sections = re.findall(r'^\.SH "?([^"\n]+)', _PAGE.read_text(), re.MULTILINE)

    assert sections == [
        "NAME",
        "SYNOPSIS",
        "DESCRIPTION",
        "WHAT LEAVES THE MACHINE",
        "COMMANDS",
        "FILES",
        "ENVIRONMENT",
        "EXIT STATUS",
        "SIGNALS",
        "EXAMPLES",
        "SEE ALSO",
    ]


def test_every_variable_of_ours_that_the_daemon_reads_is_told():
    """Not a word from one of our programs to the next, nor the demonstration's own."""
    read = set()
    for file in (ROOT / "daemon" / "tallyd").rglob("*.py"):
        read |= set(re.findall(r'"((?:TALLYD|XDG)_[A-Z_]+)"', file.read_text()))
    page = _PAGE.read_text()

    assert {one for one in read if one not in page} == {
        "TALLYD_DEFERRED",
        "TALLYD_DEMO_ENDPOINT",
    }
    assert [name for name in Settings._fields if f"\\fB{name}\\fR" not in page] == []


def test_it_says_its_version_and_is_the_same_on_any_day():
    """`test_completions` compares it with what is rendered; here a day far away renders it."""
    code = (
        "import time; time.time = lambda: 4e9; from shell.manual import render_manual as r;"
        "import sys; sys.stdout.buffer.write(r().encode())"
    )
    renderings = {
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={**os.environ, "SOURCE_DATE_EPOCH": epoch, "TZ": zone, "COLUMNS": columns},
            capture_output=True,
            check=True,
        ).stdout
        for epoch, zone, columns in (("0", "UTC", "40"), ("4000000000", "Asia/Tokyo", "200"))
    }

    assert renderings == {_PAGE.read_bytes()}
    assert f'"tallyd {__version__}"' in _PAGE.read_text()

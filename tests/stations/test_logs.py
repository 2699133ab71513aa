"""The log: its lines, and a file that stays small whoever opened it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tallyd.limits import LOG_MAX_BYTES

pytestmark = pytest.mark.slow

_MANY = (
    "import logging, sys; from pathlib import Path; from tallyd import logs\n"
    "file = Path(sys.argv[1]); logs.to_file(file); logs.set_up('info', file)\n"
    "for one in range(int(sys.argv[2])): logging.getLogger('tallyd.x').info(logs.line('test', n=one))\n"
)


def _log(file: Path, lines: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", _MANY, str(file), str(lines)],
        capture_output=True,
        text=True,
        check=False,
    )


def _numbers(file: Path) -> list[int]:
    return [int(one) for one in re.findall(r"n=(\d+)$", file.read_text(), re.MULTILINE)]


def test_a_log_that_is_a_file_keeps_its_newest_lines_and_as_much_before(tmp_path):
    file = tmp_path / "log"
    _log(file, 9000)
    beside = tmp_path / "log.1"

    numbers = _numbers(beside) + _numbers(file)
    assert (numbers[-1], numbers == list(range(numbers[0], 9000))) == (8999, True)
    assert file.stat().st_size <= LOG_MAX_BYTES
    assert beside.stat().st_size <= LOG_MAX_BYTES
    assert {one.stat().st_mode & 0o777 for one in (file, beside)} == {0o600}


def test_a_log_goes_on_where_an_earlier_one_ended(tmp_path):
    file = tmp_path / "log"
    _log(file, 3)
    _log(file, 2)

    assert _numbers(file) == [0, 1, 2, 0, 1]


def test_a_log_that_is_a_link_is_not_followed(tmp_path):
    (tmp_path / "elsewhere").write_text("mine")
    (tmp_path / "log").symlink_to(tmp_path / "elsewhere")

    done = _log(tmp_path / "log", 3)

    assert ("StateUnusable" in done.stderr, (tmp_path / "elsewhere").read_text()) == (True, "mine")


def test_whatever_stands_beside_a_log_does_not_stop_it_from_being_cut(tmp_path):
    (tmp_path / "log.1").mkdir()
    file = tmp_path / "log"
    _log(file, 9000)

    assert (file.stat().st_size <= LOG_MAX_BYTES, _numbers(file)[-1]) == (True, 8999)


@pytest.mark.parametrize(("leads", "mark"), [(True, "<6>"), (False, "")])
def test_only_a_stream_that_is_the_journal_s_gets_its_marks(tmp_path, leads, mark):
    """A desktop's shells inherit the variable, and a unit may lead stderr into a file."""
    code = "import logging; from tallyd import logs; logs.set_up('info'); logging.getLogger('tallyd.x').info('a\\nb')"
    with (tmp_path / "stream").open("wb") as stream:
        about = os.fstat(stream.fileno())
        named = f"{about.st_dev}:{about.st_ino if leads else about.st_ino + 1}"
        environ = {**os.environ, "JOURNAL_STREAM": named}
        subprocess.run([sys.executable, "-c", code], env=environ, stderr=stream, check=True)

    first, second = (tmp_path / "stream").read_text().splitlines()
    assert (first.startswith(mark or "20"), second) == (True, f"{mark}b")

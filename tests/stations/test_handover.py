"""The hand-over: what is written down of programs, who asks, and what is believed of either."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from support.tool import put
from tallyd import handover
from tallyd.limits import HANDOVER_FRESH_S, HANDOVER_MAX_BYTES
from tallyd.paths import Paths

_SH = "/bin/sh"


@pytest.fixture
def paths(home: Path) -> Paths:
    made = Paths.locate({"TALLYD_HOME": str(home)})
    made.state.mkdir(parents=True)
    return made


def _ask(paths: Paths, version: object = "2.0", program: object = _SH) -> None:
    put(paths.handover, {"version": version, "program": program})


def test_the_newest_program_that_ran_is_written_down_and_stays(paths: Paths):
    said = []
    for version, command in (
        ("1.0", [_SH, "old"]),
        ("1.10", [_SH, "new"]),
        ("1.9", [_SH, "older"]),
        # The way back, in one environment: what it says now is what it runs.
        ("1.8", [_SH, "new"]),
        ("1.8.0", [_SH, "same"]),
    ):
        handover.settle(paths, version, command, _SH)
        known = json.loads(paths.program.read_text())
        said.append((known["version"], known["command"][1]))

    assert said == [
        ("1.0", "old"),
        ("1.10", "new"),
        ("1.10", "new"),
        ("1.8", "new"),
        ("1.8.0", "same"),
    ]


def test_a_program_is_run_instead_only_while_it_is_newer_and_there(paths: Paths, home: Path):
    package = put(home / "package.py", "")
    handover.settle(paths, "2.0", [_SH, "-m"], str(package))
    found = [handover.newer_program(paths, one) for one in ("1.9", "2.0", "2.1")]
    package.unlink()

    assert found == [[_SH, "-m"], None, None]
    assert handover.newer_program(paths, "1.9") is None


_UNBELIEVED: dict[str, object] = {
    "no version": {"program": _SH},
    "an older one": {"version": "1.0", "program": _SH},
    "a number": {"version": 2, "program": _SH},
    "no program": {"version": "2.0"},
    "a relative program": {"version": "2.0", "program": "bin/sh"},
    "no such program": {"version": "2.0", "program": "/nowhere"},
    "a list": [],
    "text": "2.0",
}


@pytest.mark.parametrize("said", _UNBELIEVED.values(), ids=_UNBELIEVED)
def test_who_asks_is_believed_only_with_a_newer_version_and_a_program(paths: Paths, said: object):
    put(paths.handover, json.dumps(said))

    assert handover.asked(paths, "1.5") is None


def test_a_file_that_others_can_write_is_believed_in_nothing(paths: Paths):
    handover.settle(paths, "3.0", [_SH], _SH)
    _ask(paths)
    before = (handover.asked(paths, "1.0") is not None, handover.newer_program(paths, "1.0"))
    for file in (paths.handover, paths.program):
        file.chmod(0o622)

    assert before == (True, [_SH])
    assert (handover.asked(paths, "1.0"), handover.newer_program(paths, "1.0", 0.0)) == (None, None)


def test_a_word_over_the_cap_is_nobodys(paths: Paths):
    """To the byte: neither who asks nor which program ran is read further."""
    found = []
    for size in (HANDOVER_MAX_BYTES, HANDOVER_MAX_BYTES + 1):
        said = {"version": "2.0", "program": _SH, "command": [_SH], "package": _SH}
        for file in (paths.handover, paths.program):
            put(file, json.dumps(said).ljust(size))
        found.append((handover.asked(paths, "1.0") is None, handover.newer_program(paths, "1.0")))

    assert found == [(False, [_SH]), (True, None)]


def test_a_start_prefers_what_was_asked_for_shortly_before(paths: Paths):
    """Or an older host would start the older daemon again; a program that cannot run costs ten minutes."""
    handover.settle(paths, "1.5", ["/bin/sh", "proven"], _SH)
    _ask(paths)
    at = paths.handover.stat().st_mtime
    found = [
        handover.newer_program(paths, version, now)
        for version, now in (
            ("1.0", at + 1),
            ("1.5", at + 1),
            ("2.0", at + 1),
            ("1.0", at + HANDOVER_FRESH_S + 1),
        )
    ]

    assert found == [[_SH], [_SH], None, ["/bin/sh", "proven"]]


def test_a_request_is_another_one_when_it_was_made_again(paths: Paths):
    """What was there before a run is what it came of: it is not a reason to leave once more."""
    _ask(paths)
    first = handover.asked(paths, "1.0")
    again = handover.asked(paths, "1.0")
    beside = put(paths.state / "beside", {"version": "2.0", "program": _SH})
    os.replace(beside, paths.handover)

    assert (first == again, first == handover.asked(paths, "1.0")) == (True, False)


def test_what_was_asked_for_is_done_with_when_it_runs(paths: Paths):
    left = []
    for version in ("1.0", "2.0"):
        _ask(paths)
        handover.announce(paths)
        handover.settle(paths, version, [_SH], _SH)
        left.append(sorted(os.listdir(paths.state)))

    assert left == [["handover", "program.json"], ["program.json"]]


def test_a_service_that_asks_has_no_program_to_become(paths: Paths):
    handover.ask_for_service(paths)
    asked = handover.asked(paths, "1.0")
    instead = handover.newer_program(paths, "1.0", paths.handover.stat().st_mtime)
    handover.settle(paths, "1.0", None, _SH)

    assert asked is not None
    assert (asked.version, asked.command, instead) == (handover.SERVICE, (), None)
    assert [*paths.state.rglob("*")] == [paths.flush_requests]


def test_a_program_that_was_tried_and_never_settled_keeps_nothing_from_running(
    paths: Paths, home: Path
):
    """An environment with a part missing starts, and fails, and would be started again for ever."""
    handover.settle(paths, "9.0", ["/bin/false"], "/bin/false")
    before = handover.newer_program(paths, "1.0")
    handover.note_try(paths)
    tried = handover.newer_program(paths, "1.0")
    handover.settle(paths, "1.0", ["/bin/true"], "/bin/true")

    assert (before, tried, handover.newer_program(paths, "0.9")) == (
        ["/bin/false"],
        None,
        ["/bin/true"],
    )

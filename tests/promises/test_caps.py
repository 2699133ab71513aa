"""The table of every cap in docs/architecture.md is the code's, and each cap has a test that overfills it."""

from __future__ import annotations

import re
from itertools import pairwise

import tallyd_client
from support.processes import ROOT
from tallyd import limits
from tallyd_client import _drop

_ROW = re.compile(r"^\| `(\w+)` \| (\d+)( KiB| MiB)? \| .* \| `(test_\w+)` \|$", re.MULTILINE)
_UNITS = {"": 1, " KiB": 1024, " MiB": 1024 * 1024}
_TABLE = _ROW.findall((ROOT / "docs" / "architecture.md").read_text())
# Caps whose names do not say so, and the stub's.
_OTHERS = ("MERGE_BATCH_FILES", "MERGE_BATCH_BYTES", "DELTA_NAMES_SLACK", "CAPS_SLACK_ROWS")
# Not a size: how far a day may lie ahead, which the rows of losses tell of.
_NO_CAP = ("MAX_DAYS_AHEAD",)


def test_every_cap_is_in_the_table_with_its_number():
    told = {name: int(number) * _UNITS[unit] for name, number, unit, _ in _TABLE}
    caps = {
        name: getattr(limits, name)
        for name in dir(limits)
        if ("MAX" in name and name not in _NO_CAP) or name in _OTHERS
    }
    caps |= {name: getattr(_drop, name) for name in ("_CAP_FILES", "_CAP_BYTES")}
    caps["_MAX_CONTENT_BYTES"] = _drop._MAX_CONTENT_BYTES
    caps |= {name: getattr(tallyd_client, name) for name in ("_MAX_KEYS", "_MAX_EVENTS")}

    assert caps == told


def test_every_cap_has_a_comment_that_says_where_it_comes_from():
    source = (ROOT / "daemon" / "tallyd" / "limits.py").read_text()
    lines = source.splitlines()
    named = {name for name, *_ in _TABLE}
    # Caps that are told of together stand together below their comment.
    bare = [
        line
        for before, line in pairwise(lines)
        if line.partition(":")[0] in named
        and (before.startswith("# ---") or not before.startswith("#"))
        and ": Final" not in before
    ]

    assert bare == []


def test_every_cap_names_a_test_that_is_there():
    written = "".join(file.read_text() for file in (ROOT / "tests").rglob("test_*.py"))
    missing = [test for *_, test in _TABLE if f"def {test}(" not in written]

    assert missing == []

"""docs/conformance.md maps every row of the acceptance table to tests that exist, and leaves none out."""

from __future__ import annotations

import ast
import re
from collections import Counter
from functools import cache

from support.processes import ROOT

_DOCUMENT = (ROOT / "docs" / "conformance.md").read_text(encoding="utf-8")
_COUNTS = {"C": 20, "I": 11, "E": 16, "A": 6, "T": 4}
_OTHERS = {"D": 17, "R": 10, "G": 13}


def _rows() -> list[tuple[str, str, str]]:
    """(row, rule, tests) of every table."""
    return re.findall(r"^\| ([A-Z]\d+) \| ([^|]+) \| ([^|]+) \|$", _DOCUMENT, re.MULTILINE)


def _shown() -> dict[str, list[tuple[str, str]]]:
    """(file, test) of each row that must have one."""
    found: dict[str, list[tuple[str, str]]] = {}
    for row, _, tests in _rows():
        if row[0] in _COUNTS:
            named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", tests)
            assert len(named) == tests.count("`") / 2, row
            found.setdefault(row, []).extend(named)
    return found


@cache
def _tests_in(file: str) -> list[str]:
    """The tests that stand in a file; a name that stands there twice would be run once."""
    body = ast.parse((ROOT / file).read_text(encoding="utf-8")).body
    return [
        one.name
        for one in body
        if isinstance(one, (ast.FunctionDef, ast.AsyncFunctionDef)) and one.name.startswith("test")
    ]


def test_every_row_stands_in_the_document_once():
    wanted = {
        f"{letter}{n}" for letter, last in (_COUNTS | _OTHERS).items() for n in range(1, last + 1)
    }
    found = Counter(row for row, _, _ in _rows())
    lines = re.findall(r"^\| ([A-Z]\d+) ", _DOCUMENT, re.MULTILINE)

    assert (wanted - set(found), set(found) - wanted) == (set(), set())
    assert {row: count for row, count in found.items() if count != 1} == {}
    # A line that is no whole row would otherwise be overlooked.
    assert sorted(lines) == sorted(found)
    assert sum(_COUNTS.values()) == 57


def test_every_row_names_a_test_that_exists_and_begins_with_its_number():
    shown = _shown()

    assert [row for row, tests in shown.items() if not tests] == []
    for row, tests in shown.items():
        begins = f"test_{row[0].lower()}{int(row[1:]):02d}_"
        for file, test in tests:
            assert (ROOT / file).is_file(), file
            assert _tests_in(file).count(test) == 1, f"{file}::{test}"
            assert test.startswith(begins), f"{row} names {test}"


def test_every_test_of_the_rows_is_in_the_document_once():
    files = sorted(
        one.relative_to(ROOT).as_posix()
        for one in (ROOT / "tests" / "conformance").rglob("*.py")
        if _tests_in(one.relative_to(ROOT).as_posix())
    )
    there = Counter((file, test) for file in files for test in _tests_in(file))
    named = Counter(one for tests in _shown().values() for one in tests)

    assert there == named
    assert [file for file in files if not file.rsplit("/", 1)[1].startswith("test_")] == []


def test_what_is_named_of_other_rows_exists():
    """These name files below tests/, and tests in them."""
    for row, _, where in _rows():
        if row[0] not in _OTHERS:
            continue
        file = ""
        for named, test in re.findall(r"`([a-z_/]+\.py)?(?:::(\w+))?`", where):
            file = named or file
            if named or test:
                assert (ROOT / "tests" / file).is_file(), (row, file)
                assert not test or test in _tests_in(f"tests/{file}"), (row, test)

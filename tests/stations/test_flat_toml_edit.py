"""An edit of a user's small TOML file: it sets what it is told, and every other byte stays."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.drawn import examples
from support.flat_files import BOM, CHOICE, by_tomllib, files, integers, keys, strings, typed
from tallyd.flat_toml import read, replace


def test_a_value_is_replaced_where_it_stands_and_all_else_stays():
    for newline in ("\n", "\r\n"):
        text = BOM + CHOICE.replace("\n", newline)
        done = replace(text, {"telemetry_mode": 'say "\\" \x7f\n', "rate": 7, "respect_dnt": False})

        assert done == (
            text.replace('"off"', '"say \\"\\\\\\" \\u007F\\n"', 1)
            .replace("-0.5e-1", "7")
            .replace("true", "false")
        )


def test_a_list_on_several_lines_is_replaced_whole():
    text = "a = [ # one\n 'x', # two\n] # three\nb = 1\n"

    assert replace(text, {"a": "y"}) == 'a = "y" # three\nb = 1\n'
    assert replace(text, {"a": None}) == "b = 1\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "n = 1\n"),
        (BOM, f"{BOM}n = 1\n"),
        ("a = 1\n", "a = 1\nn = 1\n"),
        ("a = 1", "a = 1\nn = 1"),
        ("a = 1 # c\r\n\r\n# d\r\n", "a = 1 # c\r\nn = 1\r\n\r\n# d\r\n"),
        ("b = 2\r\na = 1", "b = 2\r\na = 1\r\nn = 1"),
        ("a = 1\n\n# of t\n[t]\nn = 2\n", "a = 1\nn = 1\n\n# of t\n[t]\nn = 2\n"),
        ("a = 1\n[t]\nb = 2", "a = 1\nn = 1\n[t]\nb = 2"),
        (f"{BOM}  [t]\n", f"{BOM}n = 1\n  [t]\n"),
        ("# c\n", "# c\nn = 1\n"),
        ("# c", "# c\nn = 1"),
        ("a = [\n]\n[t]", "a = [\n]\nn = 1\n[t]"),
    ],
)
def test_a_new_key_follows_the_last_one_and_precedes_the_first_table(text: str, expected: str):
    assert replace(text, {"n": 1}) == expected
    assert replace(text, {"n": None}) == text


def test_a_key_is_removed_with_its_line_and_others_are_added_in_its_place():
    text = "# c\n  a = 1 # d\nb = 2"

    assert replace(text, {"a": None}) == "# c\nb = 2"
    assert (
        replace(text, {"b": None, "n": True, "m": "x"}) == '# c\n  a = 1 # d\nn = true\nm = "x"\n'
    )
    assert replace(text, {"a": None, "b": None, "n": -1}) == "# c\nn = -1\n"


@pytest.mark.parametrize("key", ["", "a.b", "a b", "é", 'a"', "a\n"])
def test_a_key_that_is_not_bare_is_refused(key: str):
    with pytest.raises(ValueError, match="bare key"):
        replace("", {key: None})


def test_what_cannot_be_written_is_refused():
    for value in (2**63, -(2**63) - 1, "\ud800"):
        with pytest.raises(ValueError, match=r"64 bits|surrogates"):
            replace("a = 1", {"a": value})
    with pytest.raises(TypeError, match="float"):
        replace("a = 1", {"a": 1.5})  # type: ignore[dict-item]
    for text in ("[t]", "[t.u]"):
        with pytest.raises(ValueError, match="line"):
            replace(text, {"t": 1})


@examples(500)
@given(
    files(),
    st.dictionaries(
        keys | st.just("T"), strings | st.booleans() | integers | st.none(), max_size=4
    ),
)
def test_replacing_sets_what_it_is_told_and_leaves_every_other_line(file, changes):
    values, text = file
    expected = {**values, **changes}
    expected = {key: value for key, value in expected.items() if value is not None}
    has_table = "T" in tomllib.loads(text.removeprefix(BOM)) and "T" not in values
    if has_table and changes.get("T") is not None:
        with pytest.raises(ValueError, match=r"^line "):
            replace(text, changes)
        return

    done = replace(text, changes)

    assert typed(read(done)) == typed(expected) == by_tomllib(done)
    assert list(read(done)) == list(expected)
    whole = tomllib.loads(text.removeprefix(BOM))
    tables = {key: value for key, value in whole.items() if isinstance(value, dict)}
    assert {
        key: value
        for key, value in tomllib.loads(done.removeprefix(BOM)).items()
        if isinstance(value, dict)
    } == tables
    assert replace(done, changes) == done
    if not changes:
        assert done == text


@pytest.mark.slow
def test_very_many_keys_and_tables_are_read_and_edited():
    text = "".join(f"k{number} = '{number}'\n" for number in range(50_000)) + "".join(
        f"[a.b.c.d.t{number}]\nx = ['y', 'z']\n" for number in range(20_000)
    )

    assert len(read(replace(text, {f"k{number}": None for number in range(25_000)}))) == 25_000

"""A user's small TOML file: what is read of it is what tomllib reads, and an edit changes no more."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tallyd.flat_toml import read, replace

BOM = "\ufeff"

CHOICE = """\
# Telemetry of this project
telemetry_mode = "off"   # off, anonymous or identified
host = 'https://eu.example.com'

respect_dnt = true
redact = [ "prompt", 'response',  # what is typed
    "file_path",

  # and where
    "url", ] # end
retries = 1_000
rate=-0.5e-1
\t"""

VALUES = {
    "telemetry_mode": "off",
    "host": "https://eu.example.com",
    "respect_dnt": True,
    "redact": ["prompt", "response", "file_path", "url"],
    "retries": 1000,
    "rate": -0.05,
}


def by_tomllib(text: str) -> dict[str, Any]:
    """The top level as tomllib reads it, with the type beside each value."""
    return typed(
        {
            key: value
            for key, value in tomllib.loads(text.removeprefix(BOM)).items()
            if not isinstance(value, dict)
        }
    )


def typed(values: dict[str, Any]) -> dict[str, Any]:
    """Values that are equal only when their types are: 1 is not True, nor 1.0, and 0.0 not -0.0."""
    return {key: (type(value), repr(value)) for key, value in values.items()}


# --- reading ----------------------------------------------------------------------------------------


def test_a_choice_is_read():
    assert typed(read(CHOICE)) == typed(VALUES) == by_tomllib(CHOICE)
    assert read(CHOICE.replace("\n", "\r\n")) == VALUES
    assert read(BOM + CHOICE) == VALUES


def test_what_is_in_tables_is_left_out():
    text = 'a = 1\n[ t . u ] # c\na = "x"\nb = []\n[t]\nv = 1\n[t.w]\nv=2'

    assert (read(text), by_tomllib(text)) == ({"a": 1}, typed({"a": 1}))


@pytest.mark.parametrize("text", ["", "\n\r\n", "# only", BOM, " \t", "[t]", "#\u2028\x85\n"])
def test_a_file_without_keys_is_empty(text: str):
    assert read(text) == {}


READ = {
    r'"\b\t\n\f\r\"\\\u00e9\U0001F600"': '\b\t\n\f\r"\\é😀',
    r"'C:\new'": r"C:\new",
    '""': "",
    "''": "",
    '"#]\t=\'"': "#]\t='",
    "[]": [],
    "[\r\n]": [],
    "['a',]": ["a"],
    "[#x\n'a'#]\n,#]\n]": ["a"],
    "0": 0,
    "-0": 0,
    "+12": 12,
    "1_2_3": 123,
    str(2**63 - 1): 2**63 - 1,
    str(-(2**63)): -(2**63),
    "0.0": 0.0,
    "-0.0": -0.0,
    "1e5": 1e5,
    "1E+0_5": 1e5,
    "1_0.0_1": 10.01,
    "1e999": float("inf"),
    "false": False,
}


@pytest.mark.parametrize(("value", "expected"), READ.items())
def test_a_value_is_read_as_tomllib_reads_it(value: str, expected: object):
    for text in (f"a = {value}", f"  a={value}#c\r\nb = 1", f"x=1\na\t=\t{value} \n"):
        assert typed({"a": read(text)["a"]}) == typed({"a": expected})
        assert typed(read(text)) == by_tomllib(text)


REFUSED_VALUES = [
    *("", "#", "x", "True", "inf", "-nan", "0x1", "0o7", "0b1", "01", "-01", "1_", "_1", "1__2"),
    *(
        "1.",
        ".5",
        "1.e5",
        "1e",
        "1e+",
        "1e_5",
        "1._5",
        "+-1",
        "+",
        "1e5.5",
        "\u0661",
        "0_1",
        "00.1",
    ),
    *("9" * 19, str(2**63), "0." + "1" * 70, "2024-01-01", "07:32:00", "1 2", '"a" b', "true1"),
    *(
        '"""a"""',
        "'''a'''",
        '"""',
        '"a',
        "'a",
        '"a\nb"',
        '"\\',
        '"\\"',
        r'"\x41"',
        r'"\e"',
        r'"\ "',
    ),
    *(
        r'"\u12"',
        r'"\u',
        r'"\uD800"',
        r'"\U00110000"',
        r'"\u+123"',
        '"\x00"',
        "'\x7f'",
        '"\x1b"',
        "a = 1",
    ),
    *("{}", "{a = 1}", "[", "[,]", "['a'", "['a' 'b']", "['a',,]", "[1]", "[['a']]", "[true]", "]"),
    *('["""a"""]', "['a']]", "'a'\rx", "1\r#", "['a'\r]", "1 \x0b", "1 # \x00", "1 # \rx", "1\x0c"),
]


@pytest.mark.parametrize("value", REFUSED_VALUES)
def test_a_value_outside_the_subset_is_refused_with_its_line(value: str):
    for start, end in (("\n\na = ", ""), ("[t]\n\na = ", "\n"), ("x = 1\r\n\r\na = ", "\nb = 1")):
        text = start + value + end
        with pytest.raises(ValueError, match=r"^line \d+: "):
            read(text)
        with pytest.raises(ValueError, match=r"^line \d+: "):
            replace(text, {"c": 1})


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a = 1\nb = 1\na = 2", 3),
        ("a = 1\n[a]", 2),
        ("[a]\n[b]\n[a]", 3),
        ("[a.b]\n[a]\nb = 1", 3),
        ("[a]\nb = 1\n[a.b.c]", 3),
        ("[a.b.c]\n[a]\nb = 1", 3),
        ("[a]\nb = 1\nb = 2", 3),
        ("a.b = 1", 1),
        ("[t]\na.b = 1", 2),
        ('\n"a" = 1', 2),
        ("\n= 1", 2),
        ("a", 1),
        ("a\n= 1", 1),
        ("\u00e9 = 1", 1),
        ("a = [\n'x',\n1]", 3),
        ("a = [\n'x',\n", 3),
        ("[[a]]", 1),
        ("[a", 1),
        ("[a]b", 1),
        ("[]", 1),
        ("[a..b]", 1),
        ("[a.]", 1),
        ("['a']", 1),
        ("[" + ".".join("a" * 9) + "]", 1),
        ("a = 1\rb = 2", 1),
        ("a = 1\n\r", 2),
        (f"{BOM}{BOM}a = 1", 1),
        (f"a = 1\n{BOM}", 2),
        ("a = 1\n# \ud800", 2),
        ("# \x7f", 1),
    ],
)
def test_a_line_outside_the_subset_is_refused_by_its_number(text: str, line: int):
    with pytest.raises(ValueError, match=rf"^line {line}: "):
        read(text)


def test_a_refusal_says_what_is_wrong():
    for text, why in (('a = """b"""', "several lines"), ("a = 1979-05-27", "kind"), ("a", "no =")):
        with pytest.raises(ValueError, match=f"^line 1: .*{why}"):
            read(text)


# --- what is generated ------------------------------------------------------------------------------

keys = st.text("abAB01-_", min_size=1, max_size=3)
characters = st.characters(exclude_categories=("Cs",))
strings = st.text(characters, max_size=8) | st.text("a\"'\\\n\t\x7f#]", max_size=8)
spaces = st.text(" \t", max_size=2)
newlines = st.sampled_from(["\n", "\r\n"])
comments = st.just("") | st.text("a#'\"[=é\t", max_size=5).map("#{}".format)
integers = st.integers(-(2**63), 2**63 - 1)


def escaped(text: str, how: int) -> str:
    """`text` as a TOML string, in one of the ways there are."""
    if how == 0 and not any((one < " " and one != "\t") or one in "'\x7f" for one in text):
        return f"'{text}'"
    if how == 1:
        return '"' + "".join(f"\\U{ord(one):08x}" for one in text) + '"'
    named = {'"': '\\"', "\\": "\\\\", "\n": "\\n"}
    return (
        '"'
        + "".join(
            named.get(one, f"\\u{ord(one):04X}" if one < " " or one == "\x7f" else one)
            for one in text
        )
        + '"'
    )


@st.composite
def written_values(draw: st.DrawFn) -> tuple[object, str]:
    """A value and one way to write it."""
    value = draw(
        strings
        | st.booleans()
        | integers
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.lists(strings, max_size=3)
    )
    if isinstance(value, str):
        return value, escaped(value, draw(st.integers(0, 2)))
    if isinstance(value, list):
        between = (
            st.builds(lambda *parts: "".join(parts), spaces, comments, newlines, spaces) | spaces
        )
        items = [
            draw(between) + escaped(one, draw(st.integers(0, 2))) + draw(between) for one in value
        ]
        end = "," if items and draw(st.booleans()) else ""
        return value, "[" + ",".join(items) + end + draw(between) + "]"
    return value, str(value).lower() if isinstance(value, bool) else repr(value)


@st.composite
def files(draw: st.DrawFn) -> tuple[dict[str, object], str]:
    """The values of a valid flat file, and its text."""
    text, values = draw(st.sampled_from(["", BOM])), {}
    fillers = st.builds(lambda *parts: "".join(parts), spaces, comments, newlines)
    tables = draw(st.lists(st.sampled_from(["T", "T.u", "V . w", "X"]), max_size=2, unique=True))
    for table in ["", *tables]:
        if table:
            text += f"{draw(spaces)}[{table}]{draw(spaces)}{draw(comments)}{draw(newlines)}"
        for key in draw(st.lists(keys, max_size=4, unique=True)):
            value, written = draw(written_values())
            text += "".join(draw(st.lists(fillers, max_size=2)))
            text += f"{draw(spaces)}{key}{draw(spaces)}={draw(spaces)}{written}{draw(spaces)}"
            text += draw(comments) + draw(newlines)
            if not table:
                values[key] = value
    text += "".join(draw(st.lists(fillers, max_size=2)))
    if draw(st.booleans()):
        text = text.removesuffix("\n").removesuffix("\r")
    return values, text


@settings(max_examples=300)
@given(files())
def test_a_valid_flat_file_is_read_to_the_values_it_was_written_from(file):
    values, text = file

    assert typed(read(text)) == typed(values) == by_tomllib(text)


PIECES = [
    *("a", "b", "-", "_", "0", "1", ".", "e", "E", "+", "=", " = ", " ", "\t", "\n", "\r\n", "\r"),
    *('"', "'", '"""', "'''", "\\", "\\n", "\\u0041", "\\U0001F600", "\\uD800", "#", "[", "]", ","),
    *("[[", "]]", "{", "}", "[a]", "[a.b]", "true", "false", "inf", "nan", "0x", "1979-05-27", "é"),
    *("\x00", "\x7f", "\x0b", "\u2028", BOM, "a = 1\n", "b = 'x'\n", "\na", "\nb"),
]


@settings(max_examples=1500)
@given(
    st.lists(st.sampled_from(PIECES), max_size=14).map("".join)
    | st.tuples(files(), st.integers(0, 60), st.integers(0, 3), st.sampled_from(["", *PIECES])).map(
        lambda cut: cut[0][1][: cut[1]] + cut[3] + cut[0][1][cut[1] + cut[2] :]
    )
)
@example("a = 1\n[b]\n[b.c]\n[b]")
@example("[a.b]\n[a]\nb.c = 1")
def test_whatever_is_read_tomllib_reads_to_the_same(text: str):
    try:
        values = read(text)
    except ValueError as error:
        assert str(error).startswith("line ")  # noqa: PT017  # refused is fine, and says where
        return
    assert typed(values) == by_tomllib(text)


@settings(max_examples=500)
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


# --- editing ----------------------------------------------------------------------------------------


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


@pytest.mark.slow
@pytest.mark.parametrize(
    "unit",
    [
        "\n",
        "#",
        "a",
        "\r\n",
        "a = ",
        '"',
        "\\",
        "[",
        "[a",
        "a.",
        "'",
        "1",
        "1_",
        " ",
        "[a]\n",
        "=",
        ",",
    ],
)
def test_a_megabyte_of_anything_ends(unit: str):
    """Quadratic time would take an hour."""
    for start in ("", "a = ", 'a = "', "a = '", "a = [", 'a = ["', "[", "a = 1 #", "a = ['', "):
        text = start + unit * (1_000_000 // len(unit))
        try:
            assert isinstance(read(text), dict)
        except ValueError as error:
            assert len(str(error)) < 200  # noqa: PT017  # either will do


@pytest.mark.slow
def test_very_many_keys_and_tables_are_read_and_edited():
    text = "".join(f"k{number} = '{number}'\n" for number in range(50_000)) + "".join(
        f"[a.b.c.d.t{number}]\nx = ['y', 'z']\n" for number in range(20_000)
    )

    assert len(read(replace(text, {f"k{number}": None for number in range(25_000)}))) == 25_000

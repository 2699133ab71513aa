"""A user's small TOML file: what is read of it is what tomllib reads."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.drawn import examples
from support.flat_files import BOM, CHOICE, by_tomllib, files, typed
from tallyd.flat_toml import read, replace

VALUES = {
    "telemetry_mode": "off",
    "host": "https://eu.example.com",
    "respect_dnt": True,
    "redact": ["prompt", "response", "file_path", "url"],
    "retries": 1000,
    "rate": -0.05,
}


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


@examples(300)
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


@examples(1500)
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

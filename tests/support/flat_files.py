"""Flat TOML files for tests: one in the flesh, generated ones, and what tomllib reads of them."""

from __future__ import annotations

import tomllib
from typing import Any

from hypothesis import strategies as st

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

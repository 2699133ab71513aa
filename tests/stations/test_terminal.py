"""Text on a terminal: nothing in it steers, it fits, and colour is there only where it is wanted."""

from __future__ import annotations

import os

import pytest
from tallyd.terminal import Line, Piece, Screen, encodable, printable, screen_of, typeset


@pytest.mark.parametrize(
    ("environ", "colour_on_terminal", "colour_in_pipe"),
    [
        ({"TERM": "xterm"}, True, False),
        ({"TERM": "dumb"}, False, False),
        ({}, False, False),
        ({"TERM": "xterm", "NO_COLOR": ""}, True, False),
        ({"TERM": "xterm", "NO_COLOR": "0"}, False, False),
        ({"TERM": "dumb", "FORCE_COLOR": "1"}, True, True),
        ({"TERM": "xterm", "FORCE_COLOR": "0"}, False, False),
        ({"TERM": "xterm", "FORCE_COLOR": "1", "NO_COLOR": "1"}, False, False),
    ],
    ids=str,
)
def test_colour_is_for_terminals_and_a_no_is_heard_first(
    environ, colour_on_terminal, colour_in_pipe
):
    ours, theirs = os.openpty()
    reader, writer = os.pipe()
    with (
        os.fdopen(theirs, "w") as terminal,
        os.fdopen(writer, "w") as pipe,
    ):
        found = [screen_of(one, environ).has_colour for one in (terminal, pipe)]
    os.close(ours)
    os.close(reader)

    assert found == [colour_on_terminal, colour_in_pipe]


@pytest.mark.parametrize(
    ("environ", "size"),
    [
        ({}, (80, 24)),
        ({"COLUMNS": "120", "LINES": "50"}, (120, 50)),
        ({"COLUMNS": "1"}, (20, 24)),
        ({"COLUMNS": "-5", "LINES": "x"}, (80, 24)),
        ({"COLUMNS": "9" * 5000}, (80, 24)),
        ({"COLUMNS": "²"}, (80, 24)),
    ],
    ids=lambda one: str(one)[:40],
)
def test_a_terminal_that_knows_no_size_has_80_by_24_and_the_environment_is_believed_first(
    environ, size
):
    ours, theirs = os.openpty()
    with os.fdopen(ours, "wb"), os.fdopen(theirs, "w") as terminal:
        screen = screen_of(terminal, environ)

    assert (screen.width, screen.height) == size


def test_a_pipe_has_no_edge_unless_it_is_told_one(tmp_path):
    with (tmp_path / "file").open("w") as file:
        wide, told = screen_of(file, {"LINES": "9"}), screen_of(file, {"COLUMNS": "40"})

    assert [(one.width, one.height) for one in (wide, told)] == [(None, None), (40, None)]


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("plain – ünïcödé 日本", "plain – ünïcödé 日本"),
        ("\x1b[2J\x07\r\n\t\x9b", r"\x1b[2J\x07\r\n\t\x9b"),
        ("tool\u202egnp.\u2066", r"tool\u202egnp.\u2066"),
        ("name\udcff", r"name\udcff"),
        ("\U000e0041", r"\U000e0041"),
    ],
)
def test_what_could_steer_a_terminal_is_spelled_out(text, safe):
    assert printable(text) == safe


def test_what_an_encoding_cannot_take_is_plain_or_spelled_out():
    text = "a… ü 日"

    assert [encodable(text, one) for one in ("utf-8", "latin-1", "ascii")] == [
        "a… ü 日",
        r"a... ü \u65e5",
        r"a... \xfc \u65e5",
    ]


def test_a_long_line_goes_on_below_its_text_and_a_row_is_cut():
    pieces = (Piece("label  ", "dim"), Piece("words that do not fit in one line of it"))
    told = typeset([Line(pieces, 7), Line(pieces, is_row=True)], Screen(width=24))

    assert told == [
        "label  words that do not",
        "       fit in one line",
        "       of it",
        "label  words that do no…",
    ]


def test_colour_goes_on_over_the_break_of_a_line_and_nothing_else_steers():
    line = Line((Piece("a bad word", "bad"), Piece("\x1b[31m")))

    assert typeset([line], Screen(width=20, has_colour=True)) == [
        "\x1b[1;31ma bad word\x1b[0m\\x1b[31m"
    ]
    assert typeset([line], Screen(width=6, has_colour=True)) == [
        "\x1b[1;31ma bad\x1b[0m",
        "\x1b[1;31mword\x1b[0m\\x",
        "1b[31m",
    ]


def test_wide_signs_take_two_columns_and_marks_none():
    told = typeset([Line((Piece("日本語日本語 e\u0301e\u0301"),))], Screen(width=8))

    assert told == ["日本語日", "本語 e\u0301e\u0301"]


@pytest.mark.parametrize("width", [20, 21, 79, 200])
@pytest.mark.parametrize("text", ["x" * 500, "a " * 300, " " * 100, "", "日" * 100], ids=len)
def test_every_line_fits_and_no_word_is_lost(width, text):
    told = typeset([Line((Piece(text),), hang=4)], Screen(width=width))

    assert "".join("".join(told).split()) == "".join(text.split())
    wide = 2 if "日" in text else 1
    assert max(len(one.strip()) * wide for one in told) <= width

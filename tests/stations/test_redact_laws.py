"""The laws of redaction: again changes nothing, nothing raises, and twice the text costs twice."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.drawn import IS_THOROUGH, examples
from support.regex_steps import Matcher
from tallyd.contract import redact as module
from tallyd.contract.redact import MARK, one_line, redact

ATOMS = [
    *("a", "s3cr3t", "password", "token", "api", "key", ":", "=", "://", "https", "/"),
    *("//", "@", ".", "com", "x.y", "-", "--", "_", '"', "'", "`", "\\", '\\"', "[redacted]"),
    *("[path]", "[email]", "[", "]", "(", ")", "{", "}", ";", "&", "?", "#", ",", "<"),
    *(">", "|", "~", "C:", "\\\\", "Bearer", "eyJaaaaaaaaaaaa", "AKIAIOSFODNN7EXAMPLE"),
    *("-----BEGIN", "-----END", "-----", "Cookie", "Authorization", "sig", "KTX_A", "home"),
    *("1", "12345", "%", "$HOME", "...", "\xe9", "\ud800", "*", "+", "file", "--token"),
    *("and", "redacted", "edac", "</a", "b'", '"""'),
]
texts = st.lists(st.sampled_from([*ATOMS, " ", "  ", "\n", "\r", "\t", "\xa0"]), max_size=20).map(
    "".join
) | st.text(st.characters(), max_size=60)
secret_lists = st.lists(
    st.sampled_from(["redacted", "s3cr3t", "acted]", "[red", "path", "s3cr3t a", "a[redac", "://a"])
    | st.text(st.characters(), max_size=8),
    max_size=3,
)


@examples(400)
@given(texts, secret_lists)
@example("password=\ud800", ["\ud800\udfff\ud800\ud800"])
def test_redacting_again_changes_nothing_and_nothing_raises(text: str, secrets: list[str]):
    once = redact(text, secrets)

    assert redact(once, secrets) == once
    between = re.split(r"\[(?:redacted|path|email)\]", once)
    assert [
        one for one in secrets if len(one.strip()) >= 4 and any(one in piece for piece in between)
    ] == []


@examples(400)
@given(texts, secret_lists, st.integers(-1, 60))
@example("</div>", [], 5)
@example("see x y", [], 6)
def test_one_line_is_one_short_line_and_applied_again_changes_nothing(
    text: str, secrets: list[str], max_length: int
):
    line = one_line(text, max_length, secrets)

    assert len(line) <= max(0, max_length)
    assert line == " ".join(line.split())
    assert one_line(line, max_length, secrets) == line


def test_text_that_never_settles_goes_whole(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_pass", lambda text, _: text + "x")

    assert redact("a") == MARK


# --- time -------------------------------------------------------------------------------------------

HOSTILE = [
    *("a:", "://", "://a", "password", "password ", 'password="', "password='a", "password=\\"),
    *("-----BEGIN", "-----END", " ", "a", "a ", "@", "a@", "a@b.", "a.b@c.1 ", "/", "/a", "/ab "),
    *("/abc b", "~", "~a/ ", "C:\\", "C:\\a ", "\\", "\\\\a", "x:\\ a", "eyJ", "eyJaaaaaaaaaa."),
    *("AKIA", "sk-", "bearer ", "bearer token ", MARK, "https://u:p@h/", "?a=b&", "#;", "token: a"),
    *("cookie: ", "cookie: a\n", "--a ", "--token a ", "api ", "'", '"/a', "</a", "\n", "=", "é"),
    *("\ud800", 'password=\\"', "x token: "),
]
PATTERNS = {name: value for name, value in vars(module).items() if isinstance(value, re.Pattern)}


@contextmanager
def deep_recursion() -> Iterator[None]:
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(20_000)
    yield
    sys.setrecursionlimit(limit)


def steps(pattern: re.Pattern[str], text: str) -> int:
    """What finding a pattern everywhere costs, counted by a matcher that finds the same."""
    matcher = Matcher(pattern, text)
    with deep_recursion():
        assert matcher.spans() == [one.span() for one in pattern.finditer(text)]
    return matcher.steps


# Enough that a pattern that takes the square of it would not end; ten times as much in `make thorough`.
_HOSTILE_CHARS = 2_000_000 if IS_THOROUGH else 200_000


@pytest.mark.slow
@pytest.mark.parametrize("name", PATTERNS)
def test_twice_the_text_costs_a_pattern_twice_the_steps(name: str):
    """A count of steps, not of seconds: the same on every machine."""
    growth = {
        unit: steps(PATTERNS[name], (unit * 1000)[:1000])
        / steps(PATTERNS[name], (unit * 500)[:500])
        for unit in HOSTILE
    }

    assert {unit: factor for unit, factor in growth.items() if factor > 2.5} == {}


def test_the_count_of_steps_tells_a_pattern_that_is_not_linear():
    for pattern in (r"a*:", r"(?:[a-z]+ ?)+:"):
        bad = re.compile(pattern)

        assert steps(bad, "a" * 12) / steps(bad, "a" * 6) > 2.5


@pytest.mark.slow
@pytest.mark.parametrize("unit", HOSTILE)
def test_megabytes_of_hostile_text_end(unit: str):
    """Quadratic time would take hours here, and the limit of a test is minutes."""
    text = (unit * (_HOSTILE_CHARS // len(unit) + 1))[:_HOSTILE_CHARS]

    assert isinstance(redact(text, ["aaaa"]), str)
    assert len(one_line(text, 1000)) <= 1000

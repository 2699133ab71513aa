"""Hostile inputs as hypothesis makes them: good ones, bent in every way a disk, an editor or an enemy bends them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

from fuzz.corpus import pieces, seeds

_WORDS = re.compile(rb'"[^"\n]{0,60}"|[\w.+-]+')
# Where a member, an item or a line begins and ends.
_JOINTS = re.compile(rb"[,\n{}\[\]:=]|(?<=[,\n])")
_MAX_BYTES = 70_000


@st.composite
def inputs(draw: Any, target: str) -> bytes:
    """An input of `target`: a good one with up to six changes, or now and then any bytes."""
    good = seeds(target)
    if draw(st.integers(0, 15)) == 0:
        return draw(st.binary(max_size=300))
    text = draw(st.sampled_from(good))
    for change in draw(st.lists(st.sampled_from(_CHANGES), max_size=6)):
        text = change(draw, text, target)[:_MAX_BYTES]
    return text


def _flip(draw: Any, text: bytes, target: str) -> bytes:
    if not text:
        return text
    at = draw(st.integers(0, len(text) - 1))
    return text[:at] + bytes([draw(st.integers(0, 255))]) + text[at + 1 :]


def _cut(draw: Any, text: bytes, target: str) -> bytes:
    return text[: draw(st.integers(0, len(text)))]


def _drop(draw: Any, text: bytes, target: str) -> bytes:
    start, end = _stretch(draw, text)
    return text[:start] + text[end:]


def _double(draw: Any, text: bytes, target: str) -> bytes:
    """A stretch between two joints once more: most often a key that stands twice."""
    start, end = _stretch(draw, text)
    return text[:end] + text[start:end] + text[end:]


def _splice(draw: Any, text: bytes, target: str) -> bytes:
    """A hostile piece between two joints, or in the place of what stood between them."""
    start, end = _stretch(draw, text)
    piece = draw(st.sampled_from(pieces(target)))
    return text[:start] + piece + text[draw(st.sampled_from([start, end])) :]


def _graft(draw: Any, text: bytes, target: str) -> bytes:
    """A stretch of another good input."""
    start, end = _stretch(draw, text)
    other = draw(st.sampled_from(seeds(target)))
    first, last = _stretch(draw, other)
    return text[:start] + other[first:last] + text[end:]


def _letter(draw: Any, text: bytes, target: str) -> bytes:
    """Another first byte: some targets read there which reader is meant."""
    return draw(st.sampled_from(seeds(target)))[:1] + text[1:]


def _swap(draw: Any, text: bytes, target: str) -> bytes:
    """A word for another of the same text: values come under keys that they were not made for."""
    words = _WORDS.findall(text)
    if not words:
        return text
    old, new = draw(st.sampled_from(words)), draw(st.sampled_from(words))
    return text.replace(old, new, draw(st.sampled_from([1, -1])))


def _replace(draw: Any, text: bytes, target: str) -> bytes:
    """A hostile piece in the place of a word."""
    words = list(_WORDS.finditer(text))
    if not words:
        return text
    word = draw(st.sampled_from(words))
    return text[: word.start()] + draw(st.sampled_from(pieces(target))) + text[word.end() :]


_CHANGES = [_flip, _cut, _drop, _double, _splice, _replace, _replace, _graft, _letter, _swap]


def bent(text: bytes, target: str) -> Iterator[bytes]:
    """`text` bent once, in every way: a hostile piece for a word or at a joint, a short stretch twice."""
    for word in _WORDS.finditer(text):
        for piece in pieces(target):
            yield text[: word.start()] + piece + text[word.end() :]
    # Behind the first byte, too, which picks the reader.
    joints = sorted({0, 1, *(one.end() for one in _JOINTS.finditer(text)), len(text)})
    for place, start in enumerate(joints):
        for piece in pieces(target):
            yield text[:start] + piece + text[start:]
        for end in joints[place + 1 : place + 5]:
            yield text[:end] + text[start:end] + text[end:]


def _stretch(draw: Any, text: bytes) -> tuple[int, int]:
    joints = [0, *(one.end() for one in _JOINTS.finditer(text)), len(text)]
    first = draw(st.integers(0, len(joints) - 1))
    last = min(len(joints) - 1, first + draw(st.integers(0, 4)))
    return joints[first], joints[last]

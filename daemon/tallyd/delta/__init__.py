"""A delta: the bytes of one dropped file, understood.

Pure. It guarantees that anything outside spool-v1's content (not UTF-8, duplicate keys, NaN, a boolean
for an integer, negative, too deep, another product's) raises Malformed with a reason for people, and
nothing else is ever raised. What the contract lists is not its business: `tallyd.contract.screen` looks
at the names and values.

There are two ways through it. The strict one (`grammar`) decodes everything. The quick one cuts a delta
where our stubs put the seams: a head that is matched as a whole, what stands before the counts, each
entry of the counts, what follows them. A piece is decoded strictly the first time it is met and known
by its bytes from then on. A cut in the wrong place leaves a piece that is no JSON of its own, and pieces
that each are JSON make a whole that is; so the quick way never takes what the strict one refuses.
Whatever it does not know goes the strict way, which finds the words for what is wrong.
"""

from __future__ import annotations

import re
from typing import TypeVar

from tallyd.delta.grammar import (
    About,
    Count,
    Delta,
    read_about,
    read_count,
    read_piece,
    read_rest,
    read_strictly,
)
from tallyd.errors import Malformed
from tallyd.limits import DELTA_MEMORY_PIECE_BYTES, DELTA_MEMORY_PIECES

_Piece = TypeVar("_Piece")

__all__ = ["About", "Count", "Delta", "DeltaReader", "parse_delta"]

# As our stubs write it. A number of 15 digits is under 2^53.
_HEAD = (
    r'\{"v":1,"product":"%s",(?:"contract":"[0-9a-f]{16}",)?"writer":\{"epoch":"[0-9a-f]{16}",'
    r'"seq":(?:0|[1-9][0-9]{0,14}),"lang":"[a-z]{1,16}","version":"[0-9A-Za-z.+-]{1,32}"\},'
)
_COUNTS, _EVENTS = b',"counts":[', b'],"events":['
_FIRST, _SEAM, _LAST = b'["', b'}],["', b"}]"
_NO_EVENTS = b'],"events":[]}'


class DeltaReader:
    """Reads the deltas of one product, and remembers the pieces that come again and again.

    For one pass: it holds at most twice DELTA_MEMORY_PIECES of at most DELTA_MEMORY_PIECE_BYTES.
    """

    def __init__(self, product: str) -> None:
        self._product = product
        self._head = re.compile((_HEAD % re.escape(product)).encode("ascii")).match
        self._abouts: dict[bytes, About] = {}
        self._counts: dict[bytes, Count] = {}

    def read(self, content: bytes) -> Delta:
        """The delta in `content`. Raises Malformed."""
        head = self._head(content)
        if head is not None:
            start = head.end()
            middle = content.find(_COUNTS, start)
            end = content.rfind(_EVENTS)
            if 0 <= middle < end:
                try:
                    return self._pieced(
                        content[start:middle], content[middle + len(_COUNTS) : end], content[end:]
                    )
                except Malformed:
                    # Perhaps it was only cut in the wrong place.
                    pass
        return read_strictly(content, self._product)

    def _pieced(self, before: bytes, entries: bytes, after: bytes) -> Delta:
        about = self._abouts.get(before)
        if about is None:
            about = read_about(b"{%b}" % before)
            _remember(self._abouts, before, about)
        counts = self._entries(entries)
        if after == _NO_EVENTS:
            return Delta(about, counts)
        return Delta(about, counts, *read_rest(b'{"counts":[%b' % after))

    def _entries(self, text: bytes) -> list[Count]:
        if not text:
            return []
        if not (text.startswith(_FIRST) and text.endswith(_LAST)):
            raise Malformed("is cut in the wrong place")
        pieces = text[len(_FIRST) : -len(_LAST)].split(_SEAM)
        try:
            known = self._counts
            return [known[one] for one in pieces]
        except KeyError:
            return self._learned(pieces)

    def _learned(self, pieces: list[bytes]) -> list[Count]:
        counts = []
        for index, text in enumerate(pieces):
            one = self._counts.get(text)
            if one is None:
                one = read_count(read_piece(_FIRST + text + _LAST, 2), f"counts[{index}]")
                _remember(self._counts, text, one)
            counts.append(one)
        return counts


def parse_delta(content: bytes, product: str) -> Delta:
    """The delta in `content`, dropped for `product`. Raises Malformed."""
    return DeltaReader(product).read(content)


def _remember(memory: dict[bytes, _Piece], text: bytes, piece: _Piece) -> None:
    if len(text) <= DELTA_MEMORY_PIECE_BYTES:
        if len(memory) >= DELTA_MEMORY_PIECES:
            # All at once: what is common is back after a few deltas, and nothing has to be counted.
            memory.clear()
        memory[text] = piece

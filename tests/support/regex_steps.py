"""Counts what a regular expression does: the steps of a backtracking matcher, the same each run.

It walks the tree that `re` itself compiles, as `re` does: greedy, leftmost, depth first, and
without the shortcuts that `re` takes. So its count is at least what `re` does up to a constant,
and a pattern that is linear here is linear there. It knows the constructs that our patterns use.
"""

from __future__ import annotations

import re
import re._constants as op  # type: ignore[import-not-found]
import re._parser as parser  # type: ignore[import-not-found]
from collections.abc import Callable, Iterable
from typing import Any

Rest = Callable[[int], "int | None"]

_CATEGORIES = {
    op.CATEGORY_DIGIT: str.isdecimal,
    op.CATEGORY_SPACE: str.isspace,
    op.CATEGORY_WORD: lambda one: one.isalnum() or one == "_",
}
_OPPOSITES = {
    op.CATEGORY_NOT_DIGIT: op.CATEGORY_DIGIT,
    op.CATEGORY_NOT_SPACE: op.CATEGORY_SPACE,
    op.CATEGORY_NOT_WORD: op.CATEGORY_WORD,
}
_KNOWN = (op.LITERAL, op.NOT_LITERAL, op.IN, op.AT)


class Matcher:
    """One pattern on one text; `steps` grows with each character or condition looked at."""

    def __init__(self, pattern: re.Pattern[str], text: str) -> None:
        self.text = text
        self.tree = _plain(parser.parse(pattern.pattern, pattern.flags & ~re.UNICODE), folds=False)
        self.steps = 0

    def spans(self) -> list[tuple[int, int]]:
        """What `finditer` finds."""
        found, at = [], 0
        while at <= len(self.text):
            end = self.run(self.tree, 0, at, lambda end: end)
            if end is None:
                at += 1
                continue
            found.append((at, end))
            at = end if end > at else at + 1
        return found

    def run(self, nodes: list[Any], place: int, at: int, rest: Rest) -> int | None:
        """Match the nodes from `place` on at `at`, then `rest`; where that ended, or None."""
        self.steps += 1
        if place == len(nodes):
            return rest(at)
        kind, value = nodes[place]
        if kind is op.MAX_REPEAT:
            low, high, body = value
            return self.repeat(
                body, low, high, at, lambda end: self.run(nodes, place + 1, end, rest)
            )
        if kind is op.SUBPATTERN:
            return self.run(value[3], 0, at, lambda end: self.run(nodes, place + 1, end, rest))
        if kind is op.BRANCH:
            for branch in value:
                end = self.run(branch, 0, at, lambda end: self.run(nodes, place + 1, end, rest))
                if end is not None:
                    return end
            return None
        if kind in (op.ASSERT, op.ASSERT_NOT):
            direction, width, body = value
            start = at
            if direction < 0:
                start = at - width
            held = start >= 0 and self.run(body, 0, start, lambda end: end) is not None
            return self.run(nodes, place + 1, at, rest) if held is (kind is op.ASSERT) else None
        if kind is op.AT:
            return self.run(nodes, place + 1, at, rest) if self.is_at(value, at) else None
        if at < len(self.text) and self.is_one(kind, value, self.text[at]):
            return self.run(nodes, place + 1, at + 1, rest)
        return None

    def repeat(self, body: list[Any], low: int, high: int, at: int, rest: Rest) -> int | None:
        """A greedy repetition: as often as it goes, then ever less, like `re`, but no recursion."""
        if len(body) == 1 and body[0][0] in (op.LITERAL, op.NOT_LITERAL, op.IN):
            last = at
            while (
                last < len(self.text)
                and last - at < high
                and self.is_one(*body[0], self.text[last])
            ):
                self.steps += 1
                last += 1
            while last >= at + low:
                end = rest(last)
                if end is not None:
                    return end
                last -= 1
            return None

        def again(count: int, at: int) -> int | None:
            if count < high:
                end = self.run(body, 0, at, lambda end: again(count + 1, end) if end > at else None)
                if end is not None:
                    return end
            return rest(at) if count >= low else None

        return again(0, at)

    def is_at(self, where: Any, at: int) -> bool:
        if where is op.AT_BEGINNING_STRING:
            return at == 0
        if where is op.AT_END_STRING:
            return at == len(self.text)
        assert where is op.AT_BOUNDARY, where
        is_word = _CATEGORIES[op.CATEGORY_WORD]
        before = at > 0 and is_word(self.text[at - 1])
        return before is not (at < len(self.text) and is_word(self.text[at]))

    def is_one(self, kind: Any, value: Any, one: str) -> bool:
        if kind is op.LITERAL:
            return ord(one) == value
        if kind is op.NOT_LITERAL:
            return ord(one) != value
        assert kind is op.IN, kind
        return self.is_in(value, one)

    def is_in(self, items: Iterable[Any], one: str) -> bool:
        self.steps += 1
        is_negated = False
        for kind, value in items:
            if kind is op.NEGATE:
                is_negated = True
            elif (
                (kind is op.LITERAL and ord(one) == value)
                or (kind is op.RANGE and value[0] <= ord(one) <= value[1])
                or (kind is op.CATEGORY and self.is_category(value, one))
            ):
                return not is_negated
        return is_negated

    def is_category(self, name: Any, one: str) -> bool:
        if name in _OPPOSITES:
            return not _CATEGORIES[_OPPOSITES[name]](one)
        return _CATEGORIES[name](one)


def _plain(nodes: Any, *, folds: bool) -> list[Any]:
    """A tree as nested lists, in which a letter without regard to case is a set of two."""
    plain = []
    for kind, value in nodes:
        if kind is op.LITERAL and folds and chr(value).isalpha():
            both = {ord(chr(value).lower()), ord(chr(value).upper())}
            plain.append((op.IN, [(op.LITERAL, one) for one in both]))
        elif kind is op.MAX_REPEAT:
            low, high, body = value
            plain.append((kind, (low, high, _plain(body, folds=folds))))
        elif kind is op.SUBPATTERN:
            body = _plain(value[3], folds=folds or bool(value[1] & re.IGNORECASE))
            plain.append((kind, (*value[:3], body)))
        elif kind is op.BRANCH:
            plain.append((kind, [_plain(branch, folds=folds) for branch in value[1]]))
        elif kind in (op.ASSERT, op.ASSERT_NOT):
            direction, body = value
            width = body.getwidth()[0] if direction < 0 else 0
            plain.append((kind, (direction, width, _plain(body, folds=folds))))
        else:
            assert kind in _KNOWN, kind
            plain.append((kind, value))
    return plain

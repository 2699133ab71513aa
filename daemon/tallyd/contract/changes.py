"""What one change between two contracts is, and the kinds of rule that find one.

A rule looks at one attribute of something that both contracts have and yields what changed, in a
sentence that somebody who does not program can read. The rules here know no attribute: `diff` has
the tables that say which one each attribute has. In a sentence, `{at}` is what the changed thing is
called, `{old}` and `{new}` its two values, `{one}` a member of a list.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from typing import Any

from tallyd.contract.frozen import Frozen


class Kind(Enum):
    """Whether a change lets more be collected or less, or has no part in that."""

    MORE = "more"
    LESS = "less"
    OTHER = "other"


class Change(Frozen):
    """One change: its kind, the dotted key of what changed, and a sentence that says it."""

    kind: Kind
    place: str
    words: str


class Spot(Frozen):
    """Where a rule looks: the dotted key, and what a sentence calls it."""

    place: str = ""
    name: str = ""

    def under(self, key: str, name: str | None = None) -> Spot:
        """The spot of `key` in this one, called as this one is unless `name` says otherwise."""
        return Spot(f"{self.place}.{key}".lstrip("."), self.name if name is None else name)

    def change(self, kind: Kind, words: str, **values: object) -> Change:
        """A change here; `words` may name `values` and `{at}`."""
        return Change(kind, self.place, words.format(at=self.name, **values))


Rule = Callable[[Spot, Any, Any], Iterator[Change]]
# By attribute: the key that a contract writes it under ("" for that of what holds it), and its rule.
Rules = Mapping[str, tuple[str, Rule]]
Show = Callable[[Any], object]


def shown(value: object) -> str:
    """A value as a sentence has it."""
    if value is None or value in ("", ()):
        return "none"
    if isinstance(value, float):
        return f"{value:g}"
    return ", ".join(value) if isinstance(value, tuple) else str(value)


def length_of_time(seconds: float) -> str:
    """A number of seconds in the largest unit that divides it."""
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        count, rest = divmod(seconds, length)
        if count and not rest:
            return f"{count:g} {unit}{'s' * (count > 1)}"
    return f"{seconds:g} seconds"


def share(rate: float) -> str:
    """A rate between 0 and 1 as a percentage."""
    return f"{rate * 100:g} %"


def inside(rules: Rules) -> Rule:
    """What the rules of a type say of two objects of it, attribute by attribute."""

    def rule(spot: Spot, old: Any, new: Any) -> Iterator[Change]:
        for attribute, (key, one) in rules.items():
            before, after = getattr(old, attribute), getattr(new, attribute)
            if before != after:
                yield from one(spot.under(key) if key else spot, before, after)

    return rule


def by_name(what: str, inner: Rule) -> Rule:
    """Of two mappings: what is new is MORE, what is gone is LESS, and the rest is for `inner`.

    Their order means nothing and is not told.
    """

    def rule(spot: Spot, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Change]:
        within = f"{spot.name.strip('`')}." if spot.name else ""
        for name in (*new, *(one for one in old if one not in new)):
            at = spot.under(name, f"`{within}{name}`")
            if name in old and name in new:
                if old[name] != new[name]:
                    yield from inner(at, old[name], new[name])
                continue
            one = new[name] if name in new else old[name]
            noun = "group" if getattr(one, "is_group", False) else what
            if name in new:
                about = getattr(one, "about", "")
                words = "The {noun} {at} is new" + (": {about}" if about else "")
                yield at.change(Kind.MORE, words, noun=noun, about=about)
            else:
                yield at.change(Kind.LESS, "The {noun} {at} is gone", noun=noun)

    return rule


def ranked(
    rank: Callable[[Any], Any],
    more: str,
    less: str = "",
    *,
    show: Show = shown,
    otherwise: Kind = Kind.OTHER,
) -> Rule:
    """MORE where the new value ranks higher, LESS where lower, `otherwise` where it ranks the same.

    `less` is `more` unless it needs other words.
    """

    def rule(spot: Spot, old: Any, new: Any) -> Iterator[Change]:
        before, after = rank(old), rank(new)
        kind = Kind.MORE if after > before else Kind.LESS if after < before else otherwise
        words = (less or more) if kind is Kind.LESS else more
        yield spot.change(kind, words, old=show(old), new=show(new))

    return rule


def changed(kind: Kind, words: str, *, show: Show = shown) -> Rule:
    """A change of one kind, whatever the values."""

    def rule(spot: Spot, old: Any, new: Any) -> Iterator[Change]:
        yield spot.change(kind, words, old=show(old), new=show(new))

    return rule


def toggled(on: tuple[Kind, str], off: tuple[Kind, str]) -> Rule:
    """What it means that a yes-or-no became true, and what that it became false."""

    def rule(spot: Spot, _old: Any, new: Any) -> Iterator[Change]:
        yield spot.change(*(on if new else off))

    return rule


def members(added: str, removed: str, *, reordered: str = "", new_is: Kind = Kind.MORE) -> Rule:
    """Each text that a list has gained is `new_is`, each that it lost the reverse.

    Where both hold the same texts in another order, `reordered` says so, if that is worth a word.
    """
    gone_is = Kind.LESS if new_is is Kind.MORE else Kind.MORE

    def rule(spot: Spot, old: Any, new: Any) -> Iterator[Change]:
        for kind, words, ones, others in ((new_is, added, new, old), (gone_is, removed, old, new)):
            for one in _in_order(ones):
                if one not in others:
                    yield spot.change(kind, words, one=one)
        both = [one for one in old if one in new]
        if reordered and both != [one for one in new if one in old]:
            yield spot.change(Kind.OTHER, reordered)

    return rule


def _in_order(ones: Any) -> list[str]:
    """A set has no order of its own, and the sentences are to come in the same one every time."""
    return sorted(ones) if isinstance(ones, frozenset) else list(ones)

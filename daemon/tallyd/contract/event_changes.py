"""The rules for what is collected: events, fields and the types of fields.

It owns what a change of each attribute means for whoever is counted; `diff` puts the rules to work.
A type that becomes another kind of type is MORE unless `overlap` shows that all it lets through was
let through before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tallyd.contract import fields
from tallyd.contract.changes import (
    Change,
    Kind,
    Rule,
    Rules,
    Spot,
    by_name,
    changed,
    inside,
    members,
    ranked,
    share,
    toggled,
)
from tallyd.contract.frozen import replace
from tallyd.contract.model import Event, Rollup, Sampling
from tallyd.contract.overlap import overlap

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tallyd.contract.fields import FieldType

_MORE, _LESS, _OTHER = Kind.MORE, Kind.LESS, Kind.OTHER
# What stands for "never" and for "no sampling", so that either can be compared with the other.
_NEVER: Final = "9999-12-31"
_EVERY_RUN: Final = Sampling(1.0, "")


# --- types of fields -----------------------------------------------------------------------------


def _type(spot: Spot, old: FieldType, new: FieldType) -> Iterator[Change]:
    if type(old) is not type(new):
        kind = _LESS if overlap(old, new) == new else _MORE
        yield spot.change(kind, "{at} is now {new} ({old} before)", old=_said(old), new=_said(new))
        return
    if isinstance(old, fields.Bucket) and isinstance(new, fields.Bucket) and old.edges != new.edges:
        # Other ranges have other labels: the ranges alone tell whether more is said.
        new = replace(new, labels=old.labels)
    yield from inside(TYPES[type(new)])(spot, old, new)


def _said(one: FieldType) -> str:
    """A type in a few words."""
    longest = getattr(one, "max_length", 0)
    return _WORDS[type(one)] + (f" of up to {longest} characters" if longest else "")


def _item(spot: Spot, old: FieldType, new: FieldType) -> Iterator[Change]:
    yield from _type(Spot(spot.place, f"Each item of {spot.name}"), old, new)


def _name(spot: Spot, old: FieldType, new: FieldType) -> Iterator[Change]:
    yield from _type(Spot(spot.place, f"Each name in {spot.name}"), old, new)


def _alphabet(spot: Spot, old: frozenset[str], new: frozenset[str]) -> Iterator[Change]:
    if new < old:
        yield spot.change(_LESS, "{at} may now hold fewer kinds of characters")
    else:
        yield spot.change(_MORE, "{at} may now hold other kinds of characters than before")


def _edges(spot: Spot, old: tuple[int, ...], new: tuple[int, ...]) -> Iterator[Change]:
    """Ranges that are joined say less; any other change may tell apart what was one."""
    if set(new) < set(old):
        yield spot.change(_LESS, "{at} now tells fewer ranges apart")
    else:
        yield spot.change(_MORE, "{at} now tells other ranges apart than before")


def _up_to(unit: str) -> Rule:
    return ranked(lambda most: most, f"{{at}} may now have up to {{new}} {unit} ({{old}} before)")


_OPTIONAL: Final = members(
    "{at}: `{one}` may now be missing", "{at}: `{one}` may no longer be missing"
)


def _inner_optional(spot: Spot, old: frozenset[str], new: frozenset[str]) -> Iterator[Change]:
    """Whether a part may be missing changes nothing about what it says."""
    for one in _OPTIONAL(spot, old, new):
        yield replace(one, kind=_OTHER)


_HIGHEST: Final = ranked(lambda most: most, "{at} may now be up to {new} ({old} before)")
_LOWEST: Final = ranked(lambda least: -least, "{at} may now be as low as {new} ({old} before)")

TYPES: Final[dict[type, Rules]] = {
    fields.Enum: {
        "values": (
            "",
            members(
                "{at} may now also be `{one}`",
                "{at} may no longer be `{one}`",
                reordered="The values of {at} stand in another order",
            ),
        )
    },
    fields.Text: {
        "alphabet": ("", _alphabet),
        "max_length": ("", _up_to("characters")),
        "cut": (
            "",
            toggled(
                (_MORE, "{at} is now cut when it is too long, and no longer left out"),
                (_LESS, "{at} is now left out when it is too long, and no longer cut"),
            ),
        ),
        "registered": (
            "",
            toggled(
                (_LESS, "{at} may now be only a name that the program registered"),
                (_MORE, "{at} may now be a name that the program did not register"),
            ),
        ),
    },
    fields.Integer: {"minimum": ("", _LOWEST), "maximum": ("", _HIGHEST)},
    fields.Number: {"minimum": ("", _LOWEST), "maximum": ("", _HIGHEST)},
    fields.Boolean: {},
    fields.Bucket: {
        "edges": ("", _edges),
        "labels": ("", changed(_MORE, "The ranges of {at} are now called {new} ({old} before)")),
    },
    fields.Uuid: {},
    fields.Hash: {
        "length": (
            "",
            ranked(lambda digits: digits, "{at} now has {new} digits of its hash ({old} before)"),
        ),
        "prefix": ("", changed(_MORE, "{at} now begins with {new} ({old} before)")),
    },
    fields.ErrorClass: {"max_length": ("", _up_to("characters"))},
    fields.Redacted: {
        "max_length": ("", _up_to("characters")),
        "switch": ("", changed(_MORE, "{at} is now recorded where {new} is set ({old} before)")),
    },
    fields.Record: {
        "fields": ("fields", by_name("field", _type)),
        "optional": ("", _inner_optional),
    },
    fields.List: {"of": ("", _item), "max_items": ("", _up_to("items"))},
    fields.Names: {"of": ("", _name), "max_items": ("", _up_to("names"))},
}

_WORDS: Final[dict[type, str]] = {
    fields.Enum: "one of a list of texts",
    fields.Text: "a text",
    fields.Integer: "a whole number",
    fields.Number: "a number",
    fields.Boolean: "yes or no",
    fields.Bucket: "the name of a range",
    fields.Uuid: "a random id",
    fields.Hash: "a hash",
    fields.ErrorClass: "the name of an error's class",
    fields.Redacted: "free text, redacted",
    fields.Record: "an object",
    fields.List: "a list",
    fields.Names: "a set of names",
}


# --- fields and events ---------------------------------------------------------------------------


def _event(spot: Spot, old: Event, new: Event) -> Iterator[Change]:
    if type(old) is type(new):
        rules = ROLLUP if isinstance(new, Rollup) else SINGLE_EVENT
        yield from inside(rules)(spot, _without_rate(old), _without_rate(new))
    elif isinstance(new, Rollup):
        yield spot.change(_MORE, "{at} is now counted by day, and no longer told one by one")
    else:
        yield spot.change(_MORE, "{at} is now told one by one, with its time, and not by day")


def _without_rate(event: Event) -> Event:
    """The event without the field of its sampling's rate, which is compared as part of that."""
    rate = event.sampling.field if event.sampling else ""
    rest = {name: one for name, one in event.fields.items() if name != rate}
    if isinstance(event, Rollup):
        return replace(event, dimensions=rest)
    return replace(event, properties=rest)


def _sampling(spot: Spot, old: Sampling | None, new: Sampling | None) -> Iterator[Change]:
    was, is_now = old or _EVERY_RUN, new or _EVERY_RUN
    if was.rate != is_now.rate and (old is None or new is None):
        # That a rate is sent goes without saying where there is one to say.
        is_now = replace(is_now, field=was.field)
    yield from inside(SAMPLING)(spot, was, is_now)


_ABOUT: Final = ("about", changed(_OTHER, "{at} is now described as: {new}"))
_AS: Final = ("as", changed(_OTHER, "{at} is now sent under the name {new} ({old} before)"))
_EXPIRES: Final = (
    "expires",
    ranked(
        lambda day: day or _NEVER,
        "{at} is now collected until {new} ({old} before)",
        show=lambda day: day or "further notice",
    ),
)

FIELD: Final[Rules] = {
    "type": ("", _type),
    "is_optional": (
        "",
        toggled((_OTHER, "{at} may now be missing"), (_OTHER, "{at} may no longer be missing")),
    ),
    "about": _ABOUT,
    "expires": _EXPIRES,
    "wire_name": _AS,
    "is_group": (
        "",
        toggled(
            (_MORE, "{at} now groups events, as PostHog does it"),
            (_LESS, "{at} no longer groups events"),
        ),
    ),
    # What the host says may be anything of the type; a fact of the process is always that fact.
    "origin": (
        "from",
        ranked(
            lambda origin: origin == "host",
            "{at} is now taken from {new} ({old} before)",
            otherwise=_MORE,
        ),
    ),
}

SAMPLING: Final[Rules] = {
    "rate": (
        "",
        ranked(
            lambda rate: rate, "{at} is now recorded in {new} of runs ({old} before)", show=share
        ),
    ),
    "field": ("", changed(_OTHER, "The rate of {at} is now sent as {new} ({old} before)")),
}

_EVERY_EVENT: Final[Rules] = {
    "about": _ABOUT,
    "expires": _EXPIRES,
    "wire_name": _AS,
    "sampling": ("sample", _sampling),
}

ROLLUP: Final[Rules] = {
    **_EVERY_EVENT,
    "dimensions": ("dimensions", by_name("field", inside(FIELD))),
    "measures": (
        "measures",
        members(
            "{at} now also sums up `{one}`",
            "{at} no longer sums up `{one}`",
            reordered="The sums of {at} stand in another order",
        ),
    ),
    "maxima": (
        "measures",
        changed(_OTHER, "One row of {at} may now hold other sums than before"),
    ),
}

# From the strictest to the freest.
ONCE_LEVELS: Final = ("machine", "process", "")
_ONCE_WORDS: Final = {
    "machine": "once per machine",
    "process": "once per run",
    "": "any number of times",
}

SINGLE_EVENT: Final[Rules] = {
    **_EVERY_EVENT,
    "properties": ("properties", by_name("field", inside(FIELD))),
    "once": (
        "once",
        ranked(
            ONCE_LEVELS.index,
            "{at} may now be recorded {new} ({old} before)",
            show=lambda once: _ONCE_WORDS[once],
        ),
    ),
}

envelope_changes: Final[Rule] = by_name("field", inside(FIELD))
event_changes: Final[Rule] = by_name("event", _event)

"""The rules for where data goes, who may say no, and who a row is from.

It owns what a change of each attribute of the policy means for whoever is counted; `diff` puts the
rules to work. Another receiver is MORE in either direction; a switch that turns off less is MORE.

It knowingly takes another place of the state file for OTHER: whoever moves it brings the stored
choice along.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from tallyd.contract.changes import (
    Change,
    Kind,
    Rule,
    Rules,
    Spot,
    changed,
    inside,
    length_of_time,
    members,
    ranked,
    toggled,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tallyd.contract.model import EnvSwitch, StateFile

_MORE, _LESS, _OTHER = Kind.MORE, Kind.LESS, Kind.OTHER

# Each from the strictest to the freest.
DEFAULTS: Final = ("off", "ask", "on")
DO_NOT_TRACK_RULES: Final = ("any", "set", "ignore")


# --- the receiver --------------------------------------------------------------------------------


def _url(spot: Spot, old: str, new: str) -> Iterator[Change]:
    was, is_now = _receiver(old), _receiver(new)
    if was == is_now:
        words = "Data goes to {new} instead of {old}, on the same host"
        yield spot.change(_OTHER, words, old=old, new=new)
        return
    if was[1] != is_now[1]:
        ends = was[1], is_now[1]
    else:
        ends = "{}://{}:{}".format(*was), "{}://{}:{}".format(*is_now)
    yield spot.change(_MORE, "Data goes to {new} instead of {old}", old=ends[0], new=ends[1])


def _receiver(url: str) -> tuple[str, str, int]:
    """Scheme, host and port: who answers there."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return parts.scheme, (parts.hostname or "").lower(), port


def _variable(what: str) -> Rule:
    """The name of a variable that changes something: only to lose it is LESS."""
    return ranked(
        bool,
        f"The variable {{new}} can now set {what} ({{old}} before)",
        f"No variable can set {what} any more ({{old}} before)",
        otherwise=_MORE,
    )


_TIME: Final = "{at} is now {new} ({old} before)"


def _plainly(name: str) -> Rule:
    """An attribute of which only the value is told."""
    return changed(_OTHER, f"{name} is now {{new}} ({{old}} before)")


def _duration(name: str) -> Rule:
    return changed(_OTHER, f"{name} is now {{new}} ({{old}} before)", show=length_of_time)


ENDPOINT: Final[Rules] = {
    "url": ("url", _url),
    "protocol": ("protocol", changed(_MORE, "Data is sent as {new} instead of {old}")),
    "key": ("key", changed(_MORE, "Data goes to another project: {new} instead of {old}")),
    "override_env": ("override_env", _variable("where data goes")),
    "key_env": ("key_env", _variable("which project data goes to")),
    "retention_days": (
        "retention_days",
        ranked(
            lambda days: days or math.inf,
            "The receiver now keeps what it gets for {new} ({old} before)",
            show=lambda days: f"{days} days" if days else "an unstated time",
        ),
    ),
    "interval_s": ("interval", _duration("The time between two requests")),
    "timeout_s": ("timeout", _duration("The time to wait for an answer")),
    "max_events": ("max_events", _plainly("The largest number of events in one request")),
    "max_requests_per_minute": (
        "max_requests_per_minute",
        _plainly("The largest number of requests in a minute"),
    ),
    "max_age_days": ("max_age_days", _plainly("The number of days that data may wait here")),
    "keeps_unanswered": (
        "unanswered",
        toggled(
            (_OTHER, "What got no answer is now sent again"),
            (_OTHER, "What got no answer is no longer sent again"),
        ),
    ),
    "retries_busy": (
        "busy",
        toggled(
            (_OTHER, "What a busy receiver refused is now sent again"),
            (_OTHER, "What a busy receiver refused is no longer sent again"),
        ),
    ),
}


# --- who may say no ------------------------------------------------------------------------------


def switches_by_name(env: tuple[EnvSwitch, ...]) -> dict[str, EnvSwitch]:
    """The switches in their order; of two with one name, the first decides."""
    found: dict[str, EnvSwitch] = {}
    for one in env:
        found.setdefault(one.name, one)
    return found


def names_before(name: str, names: dict[str, EnvSwitch]) -> set[str]:
    """The switches that decide before `name` does."""
    return set(list(names)[: list(names).index(name)])


def _switches(
    spot: Spot, old: tuple[EnvSwitch, ...], new: tuple[EnvSwitch, ...]
) -> Iterator[Change]:
    was, is_now = switches_by_name(old), switches_by_name(new)
    for name, one in is_now.items():
        at = Spot(spot.place, name)
        if name not in was and one.on:
            yield at.change(_MORE, "The variable `{at}` is new, and can turn it on")
        elif name not in was:
            yield at.change(_LESS, "The variable `{at}` is new, and turns it off")
        else:
            yield from inside(ENV_SWITCH)(at, was[name], one)
            # Whoever decides first may now turn on what the other had turned off.
            for other in sorted(names_before(name, was) & is_now.keys()) if one.on else ():
                if other not in names_before(name, is_now):
                    yield at.change(_MORE, "`{at}` now decides before `{other}`", other=other)
    for name in was:
        if name not in is_now:
            yield Spot(spot.place, name).change(_MORE, "The variable `{at}` no longer turns it off")


def modes_of(modes: tuple[str, ...]) -> tuple[str, ...]:
    """The choices that a person has: off and on where the contract names no others."""
    return modes or ("off", "on")


_MODES: Final = members(
    "It can now be switched on as {one}",
    "It can no longer be switched on as {one}",
    reordered="The choices stand in another order",
)


def _modes(spot: Spot, old: tuple[str, ...], new: tuple[str, ...]) -> Iterator[Change]:
    yield from _MODES(spot, modes_of(old), modes_of(new))


ENV_SWITCH: Final[Rules] = {
    "off": (
        "",
        members(
            "`{at}={one}` now turns it off", "`{at}={one}` no longer turns it off", new_is=_LESS
        ),
    ),
    "on": ("", members("`{at}={one}` now turns it on", "`{at}={one}` no longer turns it on")),
}

CONSENT: Final[Rules] = {
    "default": (
        "default",
        ranked(
            lambda default: default == "on",
            "When nobody chose, it now is {new} ({old} before)",
            show={"on": "on", "off": "off", "ask": "off until somebody is asked"}.__getitem__,
        ),
    ),
    "do_not_track": (
        "do_not_track",
        ranked(
            DO_NOT_TRACK_RULES.index,
            "DO_NOT_TRACK now turns it off {new} ({old} before)",
            show={
                "any": "with any value",
                "set": "with any value but 0 and false",
                "ignore": "with no value",
            }.__getitem__,
        ),
    ),
    "env": ("env", _switches),
    "ci_disables": (
        "ci",
        toggled(
            (_LESS, "It is now off in continuous integration"),
            (_MORE, "It is no longer off in continuous integration"),
        ),
    ),
    "needs_terminal": (
        "terminal",
        toggled(
            (_LESS, "It is now off where there is no terminal"),
            (_MORE, "It is no longer off where there is no terminal"),
        ),
    ),
    "modes": ("modes", _modes),
    "grace_s": (
        "grace",
        ranked(
            lambda seconds: -seconds,
            "Nothing leaves for {new} after the notice ({old} before)",
            show=length_of_time,
        ),
    ),
    "notice": ("notice", changed(_OTHER, "The notice now says: {new}")),
    # Whenever it is shown, nothing leaves before it was.
    "notice_when": ("notice_when", _plainly("The time of the notice")),
    "off_command": ("off_command", _plainly("The command that turns it off")),
}


# --- where the choice is kept, and who a row is from ---------------------------------------------

STATE: Final[Rules] = {
    "path": ("file", _plainly("The file that keeps the choice")),
    "format": ("format", _plainly("The format of the file that keeps the choice")),
    "is_strict": (
        "strict",
        toggled(
            (_OTHER, "The file that keeps the choice is now read strictly"),
            (_OTHER, "The file that keeps the choice is no longer read strictly"),
        ),
    ),
    "default_source": ("default_source", _plainly("The word for a choice that nobody made")),
    **{
        one: (f"keys.{one}", _plainly(f"The name for `{one}` in the file that keeps the choice"))
        for one in (
            *("enabled", "mode", "id", "user", "source", "notice", "notice_at"),
            *("notice_version", "created", "updated"),
        )
    },
}


def state_changes(spot: Spot, old: StateFile | None, new: StateFile | None) -> Iterator[Change]:
    """What changed about the file of the choice; without one, tallyd keeps it in its own."""
    if old is not None and new is not None:
        yield from inside(STATE)(spot, old, new)
    else:
        where = new.path if new else "a file of tallyd's own"
        yield spot.change(_OTHER, "The choice is now kept in {where}", where=where)


IDENTITY: Final[Rules] = {
    "kind": ("kind", changed(_MORE, "The id on what is sent is now {new} ({old} before)")),
    "prefix": ("prefix", changed(_MORE, "Ids now begin with {new} ({old} before)")),
    "fallback_prefix": (
        "fallback_prefix",
        changed(_MORE, "Random ids now begin with {new} ({old} before)"),
    ),
    "length": ("length", changed(_MORE, "Ids now have {new} digits ({old} before)")),
    "has_project": (
        "project",
        toggled(
            (_MORE, "Events may now carry a hash of the project's directory"),
            (_LESS, "Events no longer carry a hash of the project's directory"),
        ),
    ),
}

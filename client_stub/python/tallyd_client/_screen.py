"""What of this process's counts and events the contract lets be recorded, and as what.

It owns the envelope, the expiry of events and fields, the sticky draw of sampled events, and what
may be told only once. It guarantees that a number given for a bucket, and text that was not
redacted, never leave it. Whatever is odd is lost as an error; what was sampled out, has expired or
was told before is not lost: it was never to be recorded. The daemon and the gateway screen again.
"""

import os
import sys
import time

from tallyd_client._fields import clean, clean_fields, has_expired
from tallyd_client._policy import is_ci

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from tallyd_client._cells import Key, Moved, Source
    from tallyd_client._policy import Policy

    Told = tuple[str, float, dict[str, Any]]

_ARCHES = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64", "i686": "ia32", "i386": "ia32"}
_RATE_FIELD = "sample_rate"
# One draw per process, by its id: a forked child is another process and draws anew.
_DRAWN: "dict[int, float]" = {}
_random = os.urandom


class _NotRecorded(Exception):
    """It was not to be recorded at all, so it is not lost either."""


class Screened:
    """What may be dropped: `counts` and `events` as the entries of a delta, and `lost` by cause.

    Each entry stands between its place among what was screened and how much is lost with it. `once`
    holds, by place, what an event that is told only once was taken for.
    """

    __slots__ = ("counts", "events", "lost", "once")

    def __init__(self) -> None:
        self.counts: "list[tuple[int, list[Any], int]]" = []
        self.events: "list[tuple[int, list[Any], int]]" = []
        self.lost: "dict[str, int]" = {}
        self.once: "dict[int, Any]" = {}

    def __bool__(self) -> bool:
        return bool(self.counts or self.events or any(self.lost.values()))

    def lose(self, cause: str, count: int) -> None:
        """Count what could not be recorded."""
        self.lost[cause] = self.lost.get(cause, 0) + count


class Screen:
    """One process's view through its contract. Raises when the envelope is none."""

    def __init__(self, policy: "Policy") -> None:
        self._policy = policy
        self._told: "set[Any]" = set()
        self._envelope: "dict[str, Any]" = {}
        for name, spec in policy.listed_envelope.items():
            value = clean(spec, _fact(policy, name, spec), name, policy.registered)
            if value is not None:
                self._envelope[name] = value

    def envelope(self, day: str) -> "dict[str, Any]":
        """The envelope's fields that are collected on `day`."""
        listed = self._policy.listed_envelope
        return {
            name: value
            for name, value in self._envelope.items()
            if not has_expired(listed[name], day)
        }

    def screen(
        self, moved: "list[Moved]", events: "list[Told]", lost: "dict[str, int]", day: str
    ) -> Screened:
        """What the contract lists of these counts, which belong to `day`, and of these events.

        What is told only once is taken: `settle` says whether it was told.
        """
        screened = Screened()
        screened.lost.update(lost)
        for place, one in enumerate(moved):
            entry = _tried(screened, one[3], self._count, *one, day)
            if entry is not None:
                screened.counts.append((place, entry, one[3]))
        for place, told in enumerate(events):
            entry = _tried(screened, 1, self._event, screened, place, *told)
            if entry is not None:
                screened.events.append((place, entry, 1))
        return screened

    def settle(self, screened: Screened, *, is_dropped: bool) -> None:
        """What was told once is told; what waits for another drop, or is never to be, was not."""
        waiting = {place for place, _, _ in screened.events}
        for place, (key, marker) in screened.once.items():
            if is_dropped and place not in waiting:
                self._told.add(key)
            elif marker is not None:
                from tallyd_client import _once

                _once.release(marker)
        screened.once.clear()

    def _count(self, source: "Source", key: "Key", _: int, count: int, day: str) -> "list[Any]":
        """One entry of a delta's counts. Raises for what is not listed, and for whatever is odd."""
        ok, values = key
        listed, rate, rate_field = self._listed(source.event, "rollup", day)
        given = dict(zip(source.names, values))
        kept = clean_fields(
            listed.get("dimensions", {}), given, day, self._policy.registered, rate_field
        )
        if rate_field:
            kept[rate_field] = rate
        measures = dict.fromkeys(listed["measures"], 0)
        measures[listed["measures"][0]] = count
        if not ok and len(measures) > 1:
            measures[listed["measures"][1]] = count
        return [source.event, kept, measures]

    def _event(
        self, screened: Screened, place: int, name: str, at: float, properties: "dict[str, Any]"
    ) -> "list[Any]":
        """One entry of a delta's events. Raises as for counts."""
        said = instant(at)
        listed, rate, rate_field = self._listed(name, "event", said[:10])
        fields = listed.get("properties", {})
        kept = clean_fields(fields, properties, said[:10], self._policy.registered, rate_field)
        if rate_field:
            kept[rate_field] = rate
        once = listed.get("once")
        if once:
            self._take(screened, place, name, kept, fields, once == "machine")
        return [name, said, kept]

    def _listed(self, event: str, kind: str, day: str) -> "tuple[dict[str, Any], float, str]":
        """An event as listed, its rate, and where the rate stands ("" where all are recorded)."""
        listed: "dict[str, Any]" = self._policy.events[event]
        if listed["kind"] != kind:
            raise ValueError("%s is no %s" % (event, kind))
        if has_expired(listed, day):
            raise _NotRecorded
        rate = listed.get("sample")
        if rate is None:
            return listed, 1, ""
        if _drawn() >= rate:
            raise _NotRecorded
        return listed, rate, listed.get("sample_as", _RATE_FIELD)

    def _take(
        self,
        screened: Screened,
        place: int,
        name: str,
        kept: "dict[str, Any]",
        fields: "dict[str, Any]",
        is_for_machine: bool,
    ) -> None:
        """Take an event that is told once. Raises when it was told, or is about to be.

        Its groups tell one from another, once per process: a hash is always a group's, or as good.
        """
        hashes = [kept.get(one) for one, spec in fields.items() if spec.get("type") == "hash"]
        key = (name, None if is_for_machine else tuple(hashes))
        if key in self._told or any(key == taken for taken, _ in screened.once.values()):
            raise _NotRecorded
        marker = None
        if is_for_machine:
            from tallyd_client import _once

            marker = _once.take(self._policy, name)
            if marker is None:
                self._told.add(key)
                raise _NotRecorded
        screened.once[place] = (key, marker)


def instant(unix_s: float) -> str:
    """`YYYY-MM-DDTHH:MM:SS.mmmZ`."""
    whole = int(unix_s)
    return "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ" % (
        *time.gmtime(whole)[:6],
        int((unix_s - whole) * 1000),
    )


def _tried(
    screened: Screened, weight: int, entry_of: "Callable[..., list[Any]]", *parts: "Any"
) -> "list[Any] | None":
    """An entry of a delta; None when there is none, which is a loss unless it was not to be."""
    try:
        return entry_of(*parts)
    except _NotRecorded:
        return None
    except Exception:
        screened.lose("error", weight)
        return None


def _drawn() -> float:
    """This process's draw, 0 or more and under 1: an event is recorded when it is under its rate."""
    pid = os.getpid()
    if pid not in _DRAWN:
        # 53 bits are all that a float holds; more could round up to 1. Of two threads one sets it.
        _DRAWN.setdefault(pid, (int.from_bytes(_random(7), "big") >> 3) / 2**53)
    return _DRAWN[pid]


def _fact(policy: "Policy", name: str, spec: "dict[str, Any]") -> "Any":
    """What an envelope's field holds, before it is cleaned."""
    origin = spec.get("from", "host")
    if origin == "version":
        return policy.version
    if not origin.startswith("runtime"):
        return policy.given_envelope.get(name)
    fact = name if origin == "runtime" else origin[8:]
    if fact == "os":
        return sys.platform
    if fact == "arch":
        # os.uname, not platform.machine: importing platform costs 3 ms.
        machine = os.uname().machine if hasattr(os, "uname") else ""
        machine = (machine or os.environ.get("PROCESSOR_ARCHITECTURE", "")).lower()
        return _ARCHES.get(machine, machine)
    return {
        "ci": is_ci(os.environ),
        "runtime": "python",
        "runtime_version": "%d.%d.%d" % sys.version_info[:3],
        "runtime_major": sys.version_info[0],
    }.get(fact)

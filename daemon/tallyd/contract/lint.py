"""What parses and still wants mending: the findings of `tallyd contract check`.

It owns what a careful maintainer looks for before a contract goes out. An error is something that
users would be told wrongly or not at all; advice is the rest. It never raises, reads no clock (`today` is given), and says for each finding on which line it stands.
"""

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING, Any, Final, Literal

from tallyd.contract.event_grammar import resolve_tables
from tallyd.contract.fields import Enum, Redacted
from tallyd.contract.frozen import Frozen
from tallyd.contract.locate import line_in, lines_of
from tallyd.contract.policy_grammar import LOOPBACK, host_of
from tallyd.contract.screen import has_expired

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tallyd.contract.model import Contract, Field

Severity = Literal["error", "advice"]
_Path = tuple[str, ...]

# Two lines of a terminal, and a little: a longer notice is not read.
NOTICE_MAX_CHARS: Final = 220
# An address, a path, or the name of a file: somewhere to look.
_PLACE: Final = re.compile(r"https?://\S+|\S*[/.]\S+")


class Finding(Frozen):
    """One thing to mend: `line` from 1 (0: nowhere), `key` dotted as in TOML, `hint` what to write."""

    file: str
    line: int
    severity: Severity
    key: str
    problem: str
    hint: str

    @property
    def is_error(self) -> bool:
        """Whether users would be told something wrong, or nothing at all."""
        return self.severity == "error"

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.severity}: {self.key}: {self.problem}; {self.hint}"


class _Raw(Frozen):
    """A finding whose line is still to be found."""

    severity: Severity
    path: _Path
    problem: str
    hint: str


def findings(contract: Contract, file: str, today: str) -> list[Finding]:
    """All that is to be mended, in the order of the file, which `file` names; `today` is a UTC day."""
    text = contract.text.decode("utf-8")
    values, lines = tomllib.loads(text), lines_of(text)
    raw = [
        *_product(contract),
        *_endpoint(contract),
        *_consent(contract),
        *_notice(contract),
        *_fields(contract, values, today),
        *_records(contract, values),
        *_groups(contract, values),
        *_never(contract),
    ]
    # A shared field is found once, however many events use it.
    found = dict.fromkeys(
        Finding(
            file,
            line_in(lines, one.path),
            one.severity,
            ".".join(one.path),
            one.problem,
            one.hint,
        )
        for one in raw
    )
    return sorted(found, key=lambda one: one.line)


def _product(contract: Contract) -> Iterator[_Raw]:
    if not contract.about:
        yield _Raw("error", ("product", "about"), "is missing", "say in a sentence why you collect")
    if _PLACE.fullmatch(contract.details) is None:
        hint = "write the address or the path of the page that explains it"
        yield _Raw("error", ("product", "details"), "leads nowhere", hint)


def _endpoint(contract: Contract) -> Iterator[_Raw]:
    endpoint = contract.endpoint
    if not endpoint.retention_days:
        hint = "write how many days the receiver keeps what it gets"
        yield _Raw("advice", ("endpoint", "retention_days"), "is not stated", hint)
    if _stays_here(contract) and not contract.product.endswith("demo"):
        hint = "write the receiver's own address"
        yield _Raw("advice", ("endpoint", "url"), "leads to the user's own machine", hint)


def _consent(contract: Contract) -> Iterator[_Raw]:
    policy = contract.consent
    if policy.default == "on" and not policy.grace_s and not _stays_here(contract):
        hint = 'write "24h", so that whoever reads the notice can still say no'
        yield _Raw("error", ("consent", "grace"), "is nothing, and the default is on", hint)
    if policy.do_not_track == "ignore":
        hint = 'write "set": people set it once and mean all programs'
        yield _Raw("advice", ("consent", "do_not_track"), "is not looked at", hint)
        if "DO_NOT_TRACK" in policy.off_command:
            hint = "name a command that turns it off"
            yield _Raw("error", ("consent", "off_command"), "turns nothing off", hint)
    if not policy.env:
        hint = "give users a variable of this product's own"
        yield _Raw("advice", ("consent", "env"), "names no variable", hint)


def _notice(contract: Contract) -> Iterator[_Raw]:
    policy, path = contract.consent, ("consent", "notice")
    for name, what in (
        ("{off_command}", "how to turn it off"),
        ("{details}", "where to read more"),
    ):
        if name not in policy.notice:
            yield _Raw("error", path, f"does not say {what}", f"put {name} into it")
    if len(contract.notice) > NOTICE_MAX_CHARS:
        problem = f"has {len(contract.notice)} characters once it is filled in"
        yield _Raw("advice", path, problem, f"say it in {NOTICE_MAX_CHARS}")
    if "anonym" in policy.notice.lower() and "anonymous" not in policy.modes:
        problem = "says anonymous, but rows carry an id that stays"
        yield _Raw("error", path, problem, "say pseudonymous")


def _never(contract: Contract) -> Iterator[_Raw]:
    if not contract.never:
        hint = 'list what is never collected, like ["source code", "file paths"]'
        yield _Raw("error", ("never", "text"), "is empty", hint)


def _fields(contract: Contract, values: dict[str, Any], today: str) -> Iterator[_Raw]:
    for name, one in contract.envelope.items():
        yield from _field(("envelope", name), one, today)
    for event in contract.events.values():
        path = ("events", event.name)
        if has_expired(event.expires, today):
            hint = "take the event out, or say until when you still need it"
            yield _Raw("advice", (*path, "expires"), f"was {event.expires}", hint)
        if event.sampling is not None and not event.sampling.rate:
            yield _Raw("advice", (*path, "sample"), "records nothing", "take the event out")
        for name, one in event.fields.items():
            yield from _field(_place(values, event.name, name), one, today)


def _field(path: _Path, field: Field, today: str) -> Iterator[_Raw]:
    if not field.about:
        hint = "say in a few words what it is: TELEMETRY.md shows it"
        yield _Raw("error", (*path, "about"), "is missing", hint)
    if has_expired(field.expires, today):
        hint = "take the field out, or say until when you still need it"
        yield _Raw("advice", (*path, "expires"), f"was {field.expires}", hint)
    if isinstance(field.type, Redacted):
        hint = "an enum or an error_class says less by accident"
        yield _Raw("advice", path, "is free text", hint)
    if isinstance(field.type, Enum) and len(field.type.values) == 1:
        hint = "a field that is always the same tells nothing: take it out"
        yield _Raw("advice", (*path, "values"), "has one value", hint)


def _records(contract: Contract, values: dict[str, Any]) -> Iterator[_Raw]:
    """The fields of a record, whose texts only the file holds."""
    for event, table in resolve_tables(values).items():
        for name in contract.events[event].fields:
            spec = table.get("properties", table.get("dimensions", {}))[name]
            for inner, one in spec.get("fields", {}).items():
                if not one.get("about"):
                    path = (*_place(values, event, name), "fields", inner, "about")
                    yield _Raw("error", path, "is missing", "say in a few words what it is")


def _groups(contract: Contract, values: dict[str, Any]) -> Iterator[_Raw]:
    """Groups where there are none."""
    if contract.endpoint.protocol == "posthog-batch":
        return
    for event in contract.events.values():
        for name, one in event.fields.items():
            if one.is_group:
                hint = 'only "posthog-batch" has groups: make it a field of type "hash"'
                yield _Raw("advice", _place(values, event.name, name), "is a group", hint)


def _place(values: dict[str, Any], event: str, name: str) -> _Path:
    """Where a field of an event was written down."""
    for own in ("properties", "dimensions"):
        if name in values["events"][event].get(own, {}):
            return ("events", event, own, name)
    for shared in ("groups", "fields"):
        if name in values["events"][event].get("uses" if shared == "fields" else shared, ()):
            return (shared, name)
    # The rate of a sampled event, which is written by us.
    return ("events", event, "sample")


def _stays_here(contract: Contract) -> bool:
    return host_of(contract.endpoint.url) in LOOPBACK

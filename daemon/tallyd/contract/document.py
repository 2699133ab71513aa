"""A contract as the page its users read: TELEMETRY.md.

It owns the order and the words of that page. It says everything that the contract allows, field by
field, and every way to say no. It guarantees the same text for the same contract, and that no text of
the contract is more than text there (see `words`). It says *pseudonymous* wherever an id persists.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tallyd.contract.fields import MAX_INTEGER, Integer
from tallyd.contract.model import Rollup
from tallyd.contract.policy_grammar import LOOPBACK, host_of
from tallyd.contract.words import code, link, listed, plain, span, what_it_holds

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from tallyd.contract.model import ConsentPolicy, Contract, Event, Field, SingleEvent

_HEAD = ("Name", "What it is", "What it can hold", "Is it there?", "Until")
_WHEN = {
    "first-use": "the first time it is used",
    "before-send": "before anything is sent for the first time",
    "interactive": "the first time it is used at a terminal",
}
_DO_NOT_TRACK = {
    "set": "Set the variable `DO_NOT_TRACK` to `1`, or to anything else but `0` and `false`.",
    "any": "Set the variable `DO_NOT_TRACK` to anything at all, even `0`.",
    "ignore": "The variable `DO_NOT_TRACK` is **not** looked at.",
}


def render_document(contract: Contract, file: str) -> str:
    """The page, in Markdown; `file` is named as where it comes from."""
    source = " ".join(file.split()).replace(">", "&gt;")
    title = plain(contract.title)
    parts = [
        f'<!-- rendered from {source} by "tallyd contract docs"; do not edit -->',
        f"# What {title} tells its makers, and how to stop it",
        *([plain(contract.about)] if contract.about else []),
        (
            f"This page is made from the list that the program itself obeys: what is not here cannot "
            f"be collected. Details: {link(contract.details)}"
        ),
        *_section("Is it on?", _is_it_on(contract)),
        *_section("How to turn it off", _ways_off(contract)),
        "## The notice",
        f"> {plain(contract.notice)}",
        *_section("What is never collected", [plain(one) for one in contract.never]),
        *_section("Where it goes, and how long it is kept", _where(contract)),
        *_section("Who a row is from", _identity(contract)),
        *_section("When it ends", _ends(contract)),
        "## Everything that can be collected",
        *_envelope(contract),
    ]
    for event in contract.events.values():
        parts += _event(event)
    return "\n\n".join(parts) + "\n"


def keeps_an_id(contract: Contract) -> bool:
    """Whether rows of one machine or person can be put together by an id that stays."""
    return not contract.consent.modes or "identified" in contract.consent.modes


def _section(title: str, items: Iterable[str]) -> list[str]:
    text = "\n".join(f"- {one}" for one in items)
    return [f"## {title}", text] if text else []


# --- consent --------------------------------------------------------------------------------------


def _is_it_on(contract: Contract) -> Iterator[str]:
    policy, product = contract.consent, contract.product
    if policy.default == "on":
        yield "It is **on** unless somebody turned it off."
    elif policy.default == "off":
        yield f"It is **off** until you turn it on with `tallyd on {product}`."
    else:
        yield "It is **off** until you were asked and agreed; no answer means no."
    if policy.modes:
        yield f"You choose among {listed(policy.modes)}."
    wait = f" and {span(policy.grace_s)} went by" if policy.grace_s else ""
    yield (
        f"Unless you turned it on yourself, nothing leaves your machine before the notice below was "
        f"shown{wait}. It is shown {_WHEN[policy.notice_when]}. A longer list than the one you were "
        f"told of needs a new notice first."
    )


def _ways_off(contract: Contract) -> Iterator[str]:
    policy, product = contract.consent, contract.product
    yield (
        f"Run `tallyd off {product}`. It stops programs that run already, too, and deletes what was "
        f"counted and not sent, and any id that was kept. `tallyd off --all` does it for every "
        f"product that uses tallyd."
    )
    if policy.off_command not in ("DO_NOT_TRACK=1", f"tallyd off {contract.product}"):
        yield f"Or, in {plain(contract.title)}'s own way: {code(policy.off_command)}"
    yield _DO_NOT_TRACK[policy.do_not_track]
    yield from _variables(policy)
    if policy.ci_disables:
        yield "In continuous integration (where the variable `CI` is set) it is off."
    else:
        yield "Continuous integration (the variable `CI`) alone does not turn it off."
    if policy.needs_terminal:
        yield "It is off wherever the program's output is not a terminal."
    if contract.state is not None:
        key = contract.state.mode or contract.state.enabled
        value = '"off"' if contract.state.mode else "false"
        yield (
            f"The choice is kept in the file {code(contract.state.path)}; {code(key)} set to "
            f"`{value}` there is off. A damaged file is off, too."
        )
    else:
        yield "The choice is kept in tallyd's own folder, which `tallyd status` names."
    yield "Who looks after the machine can forbid it for everybody in `/etc/tallyd/policy.toml`."


def _variables(policy: ConsentPolicy) -> Iterator[str]:
    for one in policy.env:
        on = f" One of {listed(sorted(one.on))} says on." if one.on else ""
        yield (
            f"Set the variable {code(one.name)} to one of {listed(sorted(one.off))}.{on} "
            f"Any other text means off, too."
        )


# --- where, who, until when -----------------------------------------------------------------------


def _where(contract: Contract) -> Iterator[str]:
    endpoint, host = contract.endpoint, host_of(contract.endpoint.url)
    if host in LOOPBACK:
        yield f"To a program on this machine ({code(host)}): nothing goes over the network."
    else:
        yield f"To {code(host)}, over an encrypted connection (HTTPS)."
    if endpoint.override_env:
        yield f"The variable {code(endpoint.override_env)} names another address, where it is set."
    if endpoint.protocol == "posthog-batch":
        if endpoint.key_env:
            yield f"The variable {code(endpoint.key_env)} names another project there."
        yield (
            "That is PostHog, an analytics service. It is told not to look up where an address is"
            + (
                ", and to keep a profile only of who chose `identified`."
                if contract.identity.kind == "user"
                else ", and to keep no profile of a person."
            )
        )
    else:
        yield "The network address it comes from is not read, not stored and not passed on."
    if endpoint.retention_days:
        days = span(endpoint.retention_days * 86400.0)
        yield f"It is kept there for {days}."
    else:
        yield "How long it is kept there is not stated."
    yield (
        f"It is sent about every {span(endpoint.interval_s)}; what is counted per day, once that day "
        f"(UTC) is over. What could not be sent is "
        + (
            f"tried again for {span(endpoint.max_age_days * 86400.0)} at most."
            if endpoint.keeps_unanswered
            else "dropped."
        )
    )
    yield (
        f"`tallyd preview {contract.product}` shows what would be sent next, `tallyd status` what waits"
        " and when something was sent last."
    )


def _identity(contract: Contract) -> Iterator[str]:
    identity, product = contract.identity, contract.product
    if "anonymous" in contract.consent.modes:
        yield (
            "In the mode `anonymous`, every request has a new random id that is used once, so that "
            "no two can be put together."
        )
    if identity.kind == "user":
        yield (
            "In the mode `identified`, every row carries the user id that you gave. The data is "
            "*pseudonymous* at best: who knows that id knows that it is you."
        )
    elif keeps_an_id(contract):
        yield from _lasting_id(contract)
    if identity.has_project:
        yield (
            "Rows can also carry a hash of that id and the project's folder: the same for the same "
            "folder on the same machine, different anywhere else. The folder's name does not leave."
        )
    if identity.kind == "random" and keeps_an_id(contract):
        yield f"`tallyd reset {product}` deletes the id; from then on there is a new one."


def _lasting_id(contract: Contract) -> Iterator[str]:
    identity = contract.identity
    if identity.kind == "random":
        yield (
            "Every row carries a random id that was made on this machine. It says nothing about you, "
            "but it stays the same, so that rows of one machine can be put together: the data is "
            "*pseudonymous*."
        )
        return
    yield (
        f"Every row carries an id computed (SHA-256) from a value of the system it runs on: "
        f"{code(identity.prefix)} and {identity.length} digits. The value cannot be read from it, but it "
        f"stays the same, so that rows of one system can be put together: the data is *pseudonymous*."
    )
    yield (
        f"Where there is no such value, {code(identity.fallback_prefix)} and {identity.length} random "
        f"digits stand in its place."
    )
    yield (
        f"`tallyd reset {contract.product}` deletes what was counted and replaces random digits; an id "
        f"that was computed comes out the same again."
    )


def _ends(contract: Contract) -> Iterator[str]:
    for event in contract.events.values():
        if event.expires:
            yield f"{code(_named(event))} is no longer collected from {event.expires} on."
    fields = [
        one
        for listed in (contract.envelope, *(event.fields for event in contract.events.values()))
        for one in listed.values()
    ]
    if any(one.expires for one in fields):
        yield "Single fields end on the day that stands beside them below."
    if not any(one.expires for one in (*contract.events.values(), *fields)):
        yield "No date is stated."


# --- field by field -------------------------------------------------------------------------------


def _envelope(contract: Contract) -> Iterator[str]:
    yield "### Sent along with everything"
    if contract.endpoint.protocol == "posthog-batch":
        yield "The id explained above, a number for each row so that none counts twice, and:"
    else:
        yield (
            f"The name {code(contract.product)}, the version of this list "
            f"({contract.schema_version}), the time of sending, the id explained above, a number for "
            f"each request so that none counts twice, how many counts were lost and why, and:"
        )
    yield _table(_rows(contract.envelope, always="when known"))


def _event(event: Event) -> Iterator[str]:
    yield f"### {code(_named(event))}"
    yield plain(event.about)
    yield " ".join(_how_told(event))
    rows = list(_rows(event.fields, always="always"))
    if isinstance(event, Rollup):
        rows += [_measure(event, name) for name in event.measures]
    yield _table(rows)


def _how_told(event: Event) -> Iterator[str]:
    if isinstance(event, Rollup):
        yield "Counted per day: one row for each different combination of what stands below."
    else:
        yield f"Told one by one with its time{_once(event)}."
    if event.sampling is not None and event.sampling.rate < 1:
        share = f"{event.sampling.rate * 100:g} %"
        yield (
            f"Only a share is recorded: {share} of all runs of the program, drawn by lot when it starts."
        )
    if event.expires:
        yield f"Until {event.expires}."


def _once(event: SingleEvent) -> str:
    spans = {"process": "once in each run of the program", "machine": "once on each machine"}
    return f", at most {spans[event.once]}" if event.once else ""


def _named(event: Event) -> str:
    return event.wire_name or event.name


def _rows(listed: Mapping[str, Field], *, always: str) -> Iterator[tuple[str, ...]]:
    for name, one in listed.items():
        yield (
            code(one.wire_name or name),
            plain(one.about) or "—",
            what_it_holds(one.type),
            "when known" if one.is_optional else always,
            f"until {one.expires}" if one.expires else "—",
        )


def _measure(event: Rollup, name: str) -> tuple[str, ...]:
    about = "how often it happened" if name == event.primary else "a number that is added up"
    number = Integer(0, event.maxima.get(name, MAX_INTEGER))
    return (code(name), about, what_it_holds(number), "always", "—")


def _table(rows: Iterable[tuple[str, ...]]) -> str:
    """A table; its cells are escaped already."""
    lines = [_HEAD, ("---",) * len(_HEAD), *rows]
    if len(lines) == 2:
        return "Nothing else."
    return "\n".join(f"| {' | '.join(one)} |" for one in lines)

"""What two versions of a contract both allow: the contract in force until a new notice was shown.

It owns the choice, part by part, of the stricter of both. It guarantees that whatever is screened
under the intersection is listed by both versions with a type that keeps it as it is, that consent is
off under it wherever it is off under either, and that it is no wider than either. Receiver and
identity are the exception: they stay those that were agreed to, and are not `new`'s when they moved.

What a person reads stays `old`'s, for that is what they were told; what the wire says (`as`,
`schema_version`) is `new`'s, which renders it. A field that may be missing under one version may be
missing: such an event says less, not more. The rate of a sampled event may be at most the lower of
both, so that an event which its host drew at the higher one is not let through.

It knowingly is no contract that could be written down: it may list no event, and its text is `new`'s.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from tallyd.contract.diff import compare, is_wider
from tallyd.contract.digest import sha256
from tallyd.contract.event_changes import ONCE_LEVELS
from tallyd.contract.fields import Number
from tallyd.contract.frozen import replace
from tallyd.contract.model import (
    ConsentPolicy,
    Contract,
    Endpoint,
    EnvSwitch,
    Event,
    Field,
    Rollup,
    Sampling,
    SingleEvent,
)
from tallyd.contract.overlap import overlap
from tallyd.contract.policy_changes import (
    DEFAULTS,
    DO_NOT_TRACK_RULES,
    modes_of,
    names_before,
    switches_by_name,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tallyd.contract.model import Mode


def intersect(old: Contract, new: Contract) -> Contract:
    """Only what both allow; `old` is the version that was agreed to.

    Its digest is the SHA-256 of `old`'s digest followed by `new`'s, in hex: a digest of its own, so
    that nothing takes a row of it for a row of either.
    """
    both = sha256(f"{old.digest}{new.digest}".encode("ascii"))
    return replace(
        old,
        schema_version=new.schema_version,
        endpoint=_endpoint(old, new),
        consent=_consent(old.consent, new.consent),
        identity=replace(
            old.identity, has_project=old.identity.has_project and new.identity.has_project
        ),
        envelope=_fields(old.envelope, new.envelope),
        events={
            name: common
            for name, one in old.events.items()
            if name in new.events and (common := _event(one, new.events[name])) is not None
        },
        never=tuple(dict.fromkeys((*old.never, *new.never))),
        digest=both,
        text=new.text,
    )


# --- what is collected ---------------------------------------------------------------------------


def _event(old: Event, new: Event) -> Event | None:
    """The event with what both list of it; None when it lacks something that `old` requires."""
    rates = {one.sampling.field for one in (old, new) if one.sampling is not None}
    own = {name: one for name, one in old.fields.items() if name not in rates}
    fields = _fields(own, new.fields)
    required = {name for name, one in own.items() if not one.is_optional}
    if not required <= fields.keys():
        return None
    sampling = _sampling(old.sampling, new.sampling)
    if sampling is not None:
        if sampling.field in {one.wire_name for one in fields.values()}:
            return None  # the rate of one version has the name on the wire of a field of the other
        drawn = old if sampling.field == (old.sampling and old.sampling.field) else new
        fields[sampling.field] = replace(
            drawn.fields[sampling.field], type=Number(0, sampling.rate)
        )
    expires = _earlier(old.expires, new.expires)
    if isinstance(old, Rollup) and isinstance(new, Rollup):
        if old.primary not in new.measures:
            return None
        listed = frozenset(new.measures)
        return replace(
            old,
            dimensions=fields,
            measures=(measures := tuple(one for one in old.measures if one in listed)),
            maxima=_smaller(measures, old.maxima, new.maxima),
            expires=expires,
            wire_name=new.wire_name,
            sampling=sampling,
        )
    if isinstance(old, SingleEvent) and isinstance(new, SingleEvent):
        return replace(
            old,
            properties=fields,
            expires=expires,
            wire_name=new.wire_name,
            sampling=sampling,
            once=min(old.once, new.once, key=ONCE_LEVELS.index),
        )
    return None


def _fields(old: Mapping[str, Field], new: Mapping[str, Field]) -> dict[str, Field]:
    return {
        name: common
        for name, one in old.items()
        if name in new and (common := _field(one, new[name])) is not None
    }


def _field(old: Field, new: Field) -> Field | None:
    kind = overlap(old.type, new.type)
    origins = {old.origin, new.origin}
    if len(origins) == 2:
        # The host's own words may be anything; a fact of the process is among them.
        origins.discard("host")
    if kind is None or old.is_group != new.is_group or len(origins) > 1:
        return None
    return replace(
        old,
        type=kind,
        is_optional=old.is_optional or new.is_optional,
        expires=_earlier(old.expires, new.expires),
        wire_name=new.wire_name,
        origin=origins.pop(),
    )


def _sampling(old: Sampling | None, new: Sampling | None) -> Sampling | None:
    """The lower rate, and the field in which those who draw at it send it."""
    if old is None or new is None:
        return old or new
    return old if old.rate < new.rate else new


def _earlier(one: str, other: str) -> str:
    """The earlier of two expiries, of which "" is none."""
    return min(filter(None, (one, other)), default="")


def _smaller(
    measures: tuple[str, ...], old: Mapping[str, int], new: Mapping[str, int]
) -> dict[str, int]:
    """The smaller maximum of each measure of which either says one."""
    return {
        name: min(maxima[name] for maxima in (old, new) if name in maxima)
        for name in measures
        if name in old or name in new
    }


# --- where it goes, and who may say no -----------------------------------------------------------


def _endpoint(old: Contract, new: Contract) -> Endpoint:
    """`new`'s receiver unless that is another one or keeps more: then the one agreed to, whole."""
    moved = compare(old, replace(old, endpoint=new.endpoint))
    return old.endpoint if is_wider(moved) else new.endpoint


def _consent(old: ConsentPolicy, new: ConsentPolicy) -> ConsentPolicy:
    modes = tuple(one for one in modes_of(old.modes) if one in modes_of(new.modes))
    return replace(
        old,
        default=min(old.default, new.default, key=DEFAULTS.index),
        do_not_track=min(old.do_not_track, new.do_not_track, key=DO_NOT_TRACK_RULES.index),
        env=_env(old.env, new.env),
        ci_disables=old.ci_disables or new.ci_disables,
        grace_s=max(old.grace_s, new.grace_s),
        needs_terminal=old.needs_terminal or new.needs_terminal,
        modes=cast("tuple[Mode, ...]", modes if old.modes or new.modes else ()),
    )


def _env(old: tuple[EnvSwitch, ...], new: tuple[EnvSwitch, ...]) -> tuple[EnvSwitch, ...]:
    """Every switch of either, those of one version first: they can only turn off.

    One of both turns on only where every switch that decides before it in either does so here, too.
    """
    was, is_now = switches_by_name(old), switches_by_name(new)
    common = [name for name in was if name in is_now]
    found = {
        name: EnvSwitch(name, one.off, frozenset())
        for name, one in {**was, **is_now}.items()
        if name not in common
    }
    for name in common:
        before = names_before(name, was) | names_before(name, is_now)
        on = was[name].on & is_now[name].on if before <= found.keys() else frozenset[str]()
        found[name] = EnvSwitch(name, was[name].off | is_now[name].off, on)
    return tuple(found.values())

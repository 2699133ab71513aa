"""What a new version of a contract collects more or less than the old one, in words.

RULES says of every attribute of a contract how it is compared, IGNORED which says nothing by
itself; a test fails for an attribute in neither. It guarantees that what is not provably narrower
is MORE: a wider contract needs a new notice, a narrower one takes effect at once.

It knowingly judges no prose: a field whose `about` says something else is OTHER. A field that
several events share is told of in each of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tallyd.contract import model
from tallyd.contract.changes import Change, Kind, Rules, Spot, changed, inside, members
from tallyd.contract.event_changes import (
    FIELD,
    ROLLUP,
    SAMPLING,
    SINGLE_EVENT,
    TYPES,
    envelope_changes,
    event_changes,
)
from tallyd.contract.policy_changes import (
    CONSENT,
    ENDPOINT,
    ENV_SWITCH,
    IDENTITY,
    STATE,
    state_changes,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tallyd.contract.model import Contract

__all__ = ["IGNORED", "RULES", "Change", "Kind", "compare", "is_wider"]

_CONTRACT: Final[Rules] = {
    "product": (
        "product.name",
        changed(Kind.MORE, "This is the contract of {new}, and that was {old}'s"),
    ),
    "title": ("product.title", changed(Kind.OTHER, "It is now called {new} ({old} before)")),
    "about": ("product.about", changed(Kind.OTHER, "It is now described as: {new}")),
    "schema_version": (
        "product.schema_version",
        changed(Kind.OTHER, "The contract is now version {new} ({old} before)"),
    ),
    "details": ("product.details", changed(Kind.OTHER, "More is told at {new} ({old} before)")),
    "events": ("events", event_changes),
    "envelope": ("envelope", envelope_changes),
    "never": (
        "never.text",
        members(
            "It is now promised never to collect: {one}",
            "It is no longer promised never to collect: {one}",
            new_is=Kind.LESS,
        ),
    ),
    "endpoint": ("endpoint", inside(ENDPOINT)),
    "consent": ("consent", inside(CONSENT)),
    "identity": ("identity", inside(IDENTITY)),
    "state": ("state", state_changes),
}

RULES: Final[dict[type, Rules]] = {
    **TYPES,
    model.Field: FIELD,
    model.Sampling: SAMPLING,
    model.Rollup: ROLLUP,
    model.SingleEvent: SINGLE_EVENT,
    model.Endpoint: ENDPOINT,
    model.EnvSwitch: ENV_SWITCH,
    model.ConsentPolicy: CONSENT,
    model.StateFile: STATE,
    model.Identity: IDENTITY,
    model.Contract: _CONTRACT,
}

# The names are those that the two are compared under; what the text says, the rest of it holds.
IGNORED: Final[dict[type, frozenset[str]]] = {
    model.Rollup: frozenset({"name"}),
    model.SingleEvent: frozenset({"name"}),
    model.EnvSwitch: frozenset({"name"}),
    model.Contract: frozenset({"digest", "text"}),
}


def compare(old: Contract, new: Contract) -> list[Change]:
    """Every change from `old` to `new`, the collected things first; none when nothing changed."""
    return list(inside(_CONTRACT)(Spot(), old, new))


def is_wider(changes: Iterable[Change]) -> bool:
    """Whether any of them lets more be collected, or makes it harder to say no."""
    return any(one.kind is Kind.MORE for one in changes)

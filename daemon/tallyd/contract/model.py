"""A contract as data: what `parse` reads and everything else consults.

Frozen objects only, no behaviour beyond look-ups. Texts and numbers are already validated; units
are in the names.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tallyd.contract.fields import FieldType

Default = Literal["on", "off", "ask"]


@dataclass(frozen=True, slots=True)
class Field:
    """One listed field: its type, whether it may be missing, and what it is for."""

    type: FieldType
    is_optional: bool = False
    about: str = ""


@dataclass(frozen=True, slots=True)
class Rollup:
    """An event that is counted: its key fields and its summed fields.

    The first measure is the primary one: the number of things that happened.
    """

    name: str
    about: str
    dimensions: Mapping[str, Field]
    measures: tuple[str, ...]

    @property
    def primary(self) -> str:
        """The measure that counts how often it happened."""
        return self.measures[0]


@dataclass(frozen=True, slots=True)
class SingleEvent:
    """An event that is told one by one, with its instant."""

    name: str
    about: str
    properties: Mapping[str, Field]


Event = Rollup | SingleEvent


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where finished days go, how often, and what an answer means."""

    url: str
    override_env: str | None
    interval_s: float
    timeout_s: float
    max_events: int
    max_requests_per_minute: int
    keeps_unanswered: bool
    retries_busy: bool
    max_age_days: int


@dataclass(frozen=True, slots=True)
class EnvSwitch:
    """A product's own environment variable; values are compared trimmed and in lower case."""

    name: str
    off: frozenset[str]
    on: frozenset[str]


@dataclass(frozen=True, slots=True)
class ConsentPolicy:
    """How consent is decided, and what is said before anything leaves."""

    default: Default
    do_not_track: Literal["set", "any", "ignore"]
    env: tuple[EnvSwitch, ...]
    ci_disables: bool
    notice: str
    grace_s: float
    off_command: str


@dataclass(frozen=True, slots=True)
class StateFile:
    """The product's own JSON file of choice and id, and what its keys are called there."""

    path: str
    enabled: str = "enabled"
    id: str = "machine_id"
    source: str = "consent_source"
    notice: str = "first_run_notice_shown"
    updated: str = "updated_at"
    # The value of `source` that means: nobody chose, the default stands.
    default_source: str = "default-notice"


@dataclass(frozen=True, slots=True)
class Contract:
    """One product's allowlist and policy.

    `text` is the file as its author wrote it; `digest` is the SHA-256 of it, in hex.
    """

    product: str
    title: str
    schema_version: int
    details: str
    endpoint: Endpoint
    consent: ConsentPolicy
    state: StateFile | None
    envelope: Mapping[str, Field]
    events: Mapping[str, Event]
    never: tuple[str, ...]
    digest: str
    text: bytes = field(repr=False)

    @property
    def short_digest(self) -> str:
        """The digest as deltas, notices and the wire carry it."""
        return self.digest[:16]

    @property
    def notice(self) -> str:
        """The one line that a user sees before anything leaves."""
        return self.consent.notice.replace("{off_command}", self.consent.off_command).replace(
            "{details}", self.details
        )

"""A contract as data: what `parse` reads and everything else consults.

Frozen objects only, no behaviour beyond look-ups. Texts and numbers are already validated; units
are in the names. Shared definitions are resolved: an event holds every field it may carry.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from tallyd.contract.frozen import Frozen

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tallyd.contract.fields import FieldType

Default = Literal["on", "off", "ask"]
DoNotTrack = Literal["set", "any", "ignore"]
Protocol = Literal["events-v1", "posthog-batch"]
NoticeWhen = Literal["first-use", "before-send", "interactive"]
Once = Literal["", "process", "machine"]
Mode = Literal["off", "anonymous", "identified"]

_NO_MAXIMA: Mapping[str, int] = {}


class Field(Frozen):
    """One listed field: its type, whether it may be missing, and what it is for.

    `expires` is the first day (UTC) on which it is no longer collected, "" for never; `wire_name` is
    what it is called on the wire, "" for its own name; `is_group`: it travels as a PostHog group;
    `origin` is where the stub takes an envelope field from.
    """

    type: FieldType
    is_optional: bool = False
    about: str = ""
    expires: str = ""
    wire_name: str = ""
    is_group: bool = False
    origin: str = ""


class Sampling(Frozen):
    """A sticky draw per process: `rate` of them record; the rate travels as `field`."""

    rate: float
    field: str


class Rollup(Frozen):
    """An event that is counted: its key fields and its summed fields.

    The first measure is the primary one: the number of things that happened. `maxima` holds the
    largest number that one row may carry, by measure; a larger sum leaves as several rows.
    """

    name: str
    about: str
    dimensions: Mapping[str, Field]
    measures: tuple[str, ...]
    maxima: Mapping[str, int] = _NO_MAXIMA
    expires: str = ""
    wire_name: str = ""
    sampling: Sampling | None = None

    @property
    def primary(self) -> str:
        """The measure that counts how often it happened."""
        return self.measures[0]

    @property
    def fields(self) -> Mapping[str, Field]:
        """Its fields, whatever kind of event it is."""
        return self.dimensions


class SingleEvent(Frozen):
    """An event that is told one by one, with its instant; at most `once` per process or machine."""

    name: str
    about: str
    properties: Mapping[str, Field]
    expires: str = ""
    wire_name: str = ""
    sampling: Sampling | None = None
    once: Once = ""

    @property
    def fields(self) -> Mapping[str, Field]:
        """Its fields, whatever kind of event it is."""
        return self.properties


Event = Rollup | SingleEvent


class Endpoint(Frozen):
    """Where finished days go, how often, and what an answer means.

    `url` is the whole address for events-v1 and the host's for posthog-batch; `key` is PostHog's
    public project key; `retention_days` is how long the receiver keeps the rows, 0 when unsaid.
    """

    url: str
    override_env: str | None
    interval_s: float
    timeout_s: float
    max_events: int
    max_requests_per_minute: int
    keeps_unanswered: bool
    retries_busy: bool
    max_age_days: int
    protocol: Protocol = "events-v1"
    key: str = ""
    key_env: str | None = None
    retention_days: int = 0


class EnvSwitch(Frozen):
    """A product's own environment variable; values are compared trimmed and in lower case."""

    name: str
    off: frozenset[str]
    on: frozenset[str]


class ConsentPolicy(Frozen):
    """How consent is decided, and what is said before anything leaves.

    `modes` are the choices beyond on and off, in the order of the menu; empty for on and off alone.
    """

    default: Default
    do_not_track: DoNotTrack
    env: tuple[EnvSwitch, ...]
    ci_disables: bool
    notice: str
    grace_s: float
    off_command: str
    needs_terminal: bool = False
    notice_when: NoticeWhen = "first-use"
    modes: tuple[Mode, ...] = ()


class StateFile(Frozen):
    """The file of choice and id, and what its keys are called there; "" for what it has no key for.

    A product's own file holds what its contract maps and nothing else; without one, tallyd's own
    file has the names below.
    """

    path: str
    format: Literal["json", "toml"] = "json"
    is_strict: bool = False
    enabled: str = "enabled"
    mode: str = ""
    id: str = "machine_id"
    user: str = ""
    source: str = "consent_source"
    notice: str = "first_run_notice_shown"
    notice_at: str = ""
    notice_version: str = ""
    created: str = ""
    updated: str = "updated_at"
    # The value of `source` that means: nobody chose, the default stands.
    default_source: str = "default-notice"

    @property
    def keys(self) -> tuple[str, ...]:
        """Every key that it has a name for."""
        named = (
            *(self.enabled, self.mode, self.id, self.user, self.source, self.notice),
            *(self.notice_at, self.notice_version, self.created, self.updated),
        )
        return tuple(name for name in named if name)


class Identity(Frozen):
    """Who a row is from.

    `random`: a UUID made on this machine. `derived`: `prefix` and `length` hex digits of the SHA-256
    of a value that the host gives, `fallback_prefix` and random digits where it has none. `user`: the
    user's own id in the identified mode, and none otherwise. `has_project`: events may carry the
    hash of id and project directory.
    """

    kind: Literal["random", "derived", "user"] = "random"
    prefix: str = ""
    fallback_prefix: str = ""
    length: int = 0
    has_project: bool = False


class Contract(Frozen):
    """One product's allowlist and policy.

    `text` is the file as its author wrote it; `digest` is the SHA-256 of it, in hex.
    """

    product: str
    title: str
    about: str
    schema_version: int
    details: str
    endpoint: Endpoint
    consent: ConsentPolicy
    state: StateFile | None
    identity: Identity
    envelope: Mapping[str, Field]
    events: Mapping[str, Event]
    never: tuple[str, ...]
    digest: str
    text: bytes

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

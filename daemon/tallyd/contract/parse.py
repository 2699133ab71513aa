"""Read a contract file: TOML text in, a Contract or a ContractError out.

It owns the grammar of contract-v1. It guarantees that an unknown key, a missing key or a value of
the wrong type is named with file, line and key. It opens no file: the caller hands over the bytes
and the name to use in messages. Parts of the language that this version does not know yet are
errors, never silently ignored.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from typing import TYPE_CHECKING, Final, cast
from urllib.parse import urlsplit

from tallyd.contract.errors import ContractError
from tallyd.contract.field_grammar import FIELD_NAME, read_fields
from tallyd.contract.model import (
    ConsentPolicy,
    Contract,
    Default,
    Endpoint,
    EnvSwitch,
    Event,
    Rollup,
    SingleEvent,
    StateFile,
)
from tallyd.contract.table import Table

if TYPE_CHECKING:
    from typing import Literal

# A contract is read by people; the largest reference system needs 12 KiB.
CONTRACT_MAX_BYTES: Final = 64 * 1024
# tomllib takes time with the square of a dotted key's parts: 27 s for a key of 64 KiB, 2 s for
# seven of 8 KiB. The longest line of our contracts has under 200 characters.
LINE_MAX_CHARS: Final = 8 * 1024

PRODUCT_NAME: Final = r"[a-z0-9][a-z0-9-]{0,31}"
_ENV_NAME = r"[A-Za-z_][A-Za-z0-9_]{0,63}"
_URL = re.compile(r"[!-\[\]-~]+", re.ASCII)
LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
_AT = re.compile(r"\(at [^()]*\)$")
_AT_LINE = re.compile(r"\(at line (\d+), column \d+\)")


def parse_contract(text: bytes, file: str) -> Contract:
    """The contract that `text` says; `file` is only named in messages.

    Raises ContractError when it is not UTF-8, not TOML, over its caps, or not in the grammar.
    """
    if len(text) > CONTRACT_MAX_BYTES:
        raise ContractError(
            file, 0, "", f"is over {CONTRACT_MAX_BYTES // 1024} KiB", "a contract is a short file"
        )
    try:
        source = text.decode("utf-8")
    except UnicodeDecodeError as error:
        line = text.count(b"\n", 0, error.start) + 1
        raise ContractError(file, line, "", "is not UTF-8", "save it as UTF-8") from None
    for number, one in enumerate(source.split("\n"), 1):
        if len(one) > LINE_MAX_CHARS:
            problem = f"is a line of over {LINE_MAX_CHARS // 1024} KiB"
            raise ContractError(file, number, "", problem, "break it into several")
    try:
        values = tomllib.loads(source)
    except tomllib.TOMLDecodeError as error:
        at = _AT_LINE.search(str(error))
        line = int(at[1]) if at else source.rstrip().count("\n") + 1
        problem = f"is not TOML: {_AT.sub('', str(error)).strip()}"
        raise ContractError(file, line, "", problem) from None
    except RecursionError:
        problem = "is nested too deeply"
        raise ContractError(file, 0, "", problem, "a contract is a short file") from None
    except ValueError:
        # Python refuses to read what would take it long.
        problem = "holds a number of thousands of digits"
        raise ContractError(file, 0, "", problem, "write fewer") from None
    root = Table(file, source, (), values)
    root.integer("contract", low=1, high=1)
    product = root.table("product", required=True)
    contract = Contract(
        product=product.matching("name", PRODUCT_NAME, "a product name"),
        title=product.text("title"),
        schema_version=product.integer("schema_version", 1, low=0, high=99),
        details=product.text("details"),
        endpoint=_endpoint(root.table("endpoint", required=True)),
        consent=_consent(root.table("consent", required=True)),
        state=_state(root.table("state")) if "state" in values else None,
        envelope=read_fields(root.table("envelope"), is_envelope=True),
        events=_events(root.table("events", required=True)),
        never=_never(root.table("never")),
        digest=hashlib.sha256(text).hexdigest(),
        text=text,
    )
    product.finish()
    root.finish()
    return contract


def usable_url(url: str) -> bool:
    """Whether `url` may be an endpoint: https, or plain http to this machine only."""
    # urlsplit forgives line breaks, spaces and backslashes, which others read as another host.
    if _URL.fullmatch(url) is None:
        return False
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return False
    if not host or parts.username or parts.password:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and host in LOOPBACK)


def _endpoint(table: Table) -> Endpoint:
    url = table.text("url")
    if not usable_url(url):
        table.fail("url", f"{url!r} is no endpoint", 'write "https://…" (http only to localhost)')
    table.choice("protocol", "events-v1", ("events-v1",))
    override_env = None
    if "override_env" in table.values:
        override_env = table.matching("override_env", _ENV_NAME, "a variable's name")
    endpoint = Endpoint(
        url=url,
        override_env=override_env,
        # Under 10 s a daemon would be a stream; over 31 days a batch outlives the gateway's window.
        interval_s=table.duration_s("interval", "6h", low_s=10, high_s=31 * 86400),
        timeout_s=table.duration_s("timeout", "1500ms", low_s=0.1, high_s=30),
        max_events=table.integer("max_events", 100, low=1, high=100),
        max_requests_per_minute=table.integer("max_requests_per_minute", 6, low=1, high=60),
        keeps_unanswered=table.choice("unanswered", "keep", ("keep", "drop")) == "keep",
        retries_busy=table.choice("busy", "final", ("final", "later")) == "later",
        max_age_days=table.integer("max_age_days", 30, low=1, high=30),
    )
    table.finish()
    return endpoint


def _consent(table: Table) -> ConsentPolicy:
    policy = ConsentPolicy(
        default=cast("Default", table.choice("default", "off", ("on", "off", "ask"))),
        do_not_track=cast(
            'Literal["set", "any", "ignore"]',
            table.choice("do_not_track", "set", ("set", "any", "ignore")),
        ),
        env=tuple(_env_switch(one) for one in table.tables("env")),
        ci_disables=table.choice("ci", "tag", ("off", "tag")) == "off",
        notice=table.text("notice"),
        grace_s=table.duration_s("grace", "24h", low_s=0, high_s=31 * 86400),
        off_command=table.text("off_command", "DO_NOT_TRACK=1"),
    )
    table.choice("terminal", "any", ("any",))
    if table.texts("modes", ()):
        table.fail("modes", "is not supported yet", "leave it empty")
    table.finish()
    return policy


def _env_switch(table: Table) -> EnvSwitch:
    switch = EnvSwitch(
        name=table.matching("name", _ENV_NAME, "a variable's name"),
        off=frozenset(one.strip().lower() for one in table.texts("off")),
        on=frozenset(one.strip().lower() for one in table.texts("on", ())),
    )
    if switch.off & switch.on:
        table.fail("on", "names a value that `off` names too", "a value can mean one thing only")
    table.finish()
    return switch


def _state(table: Table) -> StateFile:
    path = table.text("file")
    if not path.startswith(("~/", "/")):
        table.fail("file", f"{path!r} is not absolute", 'begin it with "~/" or "/"')
    keys = table.table("keys")
    defaults = StateFile(path)
    state = StateFile(
        path=path,
        enabled=keys.text("enabled", defaults.enabled),
        id=keys.text("id", defaults.id),
        source=keys.text("source", defaults.source),
        notice=keys.text("notice", defaults.notice),
        updated=keys.text("updated", defaults.updated),
        default_source=table.text("default_source", defaults.default_source),
    )
    names = [state.enabled, state.id, state.source, state.notice, state.updated]
    if "" in names or len(set(names)) != len(names):
        table.fail("keys", "gives two things one name", "write a name of its own for each")
    keys.finish()
    table.finish()
    return state


def _events(table: Table) -> dict[str, Event]:
    events = {
        name: _event(name, one)
        for name, one in table.named_tables(name_pattern=FIELD_NAME, what="an event")
    }
    if not events:
        table.fail("", "lists no event", "write at least one table [events.NAME]")
    return events


def _event(name: str, table: Table) -> Event:
    kind = table.choice("kind", "", ("rollup", "event"))
    if not kind:
        table.fail("kind", "is missing", 'write "rollup" (counted by day) or "event" (told singly)')
    about = table.text("about")
    event: Event
    if kind == "event":
        event = SingleEvent(name, about, read_fields(table.table("properties")))
        table.finish()
        return event
    dimensions = read_fields(table.table("dimensions"))
    measures = table.texts("measures")
    if not measures:
        table.fail("measures", "is empty", 'name at least the number of times, like ["count"]')
    for measure in measures:
        if re.fullmatch(FIELD_NAME, measure, re.ASCII) is None or measure in dimensions:
            table.fail("measures", f"{measure!r} is no name for a measure", "it must be a new name")
    table.finish()
    return Rollup(name, about, dimensions, measures)


def _never(table: Table) -> tuple[str, ...]:
    texts = table.texts("text", ())
    table.finish()
    return texts

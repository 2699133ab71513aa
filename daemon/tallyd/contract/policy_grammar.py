"""How a contract writes its policy: `[endpoint]`, `[consent]`, `[state]` and `[identity]`.

It owns the grammar of where data goes, who decides, where choice and id live, and who a row is
from. It opens no file and resolves no name.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, cast
from urllib.parse import urlsplit

from tallyd.contract.field_grammar import ENV_NAME
from tallyd.contract.model import (
    ConsentPolicy,
    Default,
    DoNotTrack,
    Endpoint,
    EnvSwitch,
    Identity,
    Mode,
    NoticeWhen,
    Protocol,
    StateFile,
)

if TYPE_CHECKING:
    from typing import Literal

    from tallyd.contract.table import Table

_URL = re.compile(r"[!-\[\]-~]+", re.ASCII)
LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
_MODES: Final = ("off", "anonymous", "identified")
# What a state file may have a key for; each must be named in `keys` to be there.
STATE_KEYS: Final = (
    *("enabled", "mode", "id", "user", "source", "notice", "notice_at", "notice_version"),
    *("created", "updated"),
)
_PREFIX = r"[a-z][a-z0-9]{0,15}_"


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


def host_of(url: str) -> str:
    """The host that `url` leads to, in lower case."""
    return (urlsplit(url).hostname or "").lower()


def read_endpoint(table: Table) -> Endpoint:
    """`[endpoint]`. Raises ContractError."""
    url = table.text("url")
    if not usable_url(url):
        table.fail("url", f"{url!r} is no endpoint", 'write "https://…" (http only to localhost)')
    protocol = table.choice("protocol", "events-v1", ("events-v1", "posthog-batch"))
    key, key_env = "", None
    if protocol == "posthog-batch":
        key = table.matching("key", r"phc_[A-Za-z0-9_]{1,80}", "a PostHog project key")
        key_env = _env_name(table, "key_env")
        if urlsplit(url).query or urlsplit(url).fragment:
            table.fail("url", f"{url!r} is no host", 'write the host alone, like "https://…"')
    endpoint = Endpoint(
        url=url,
        override_env=_env_name(table, "override_env"),
        # Under 10 s a daemon would be a stream; over 31 days a batch outlives the gateway's window.
        interval_s=table.duration_s("interval", "6h", low_s=10, high_s=31 * 86400),
        timeout_s=table.duration_s("timeout", "1500ms", low_s=0.1, high_s=30),
        max_events=table.integer("max_events", 100, low=1, high=100),
        max_requests_per_minute=table.integer("max_requests_per_minute", 6, low=1, high=60),
        keeps_unanswered=table.choice("unanswered", "keep", ("keep", "drop")) == "keep",
        retries_busy=table.choice("busy", "final", ("final", "later")) == "later",
        max_age_days=table.integer("max_age_days", 30, low=1, high=30),
        protocol=cast("Protocol", protocol),
        key=key,
        key_env=key_env,
        retention_days=table.integer("retention_days", 0, low=0, high=36500),
    )
    table.finish()
    return endpoint


def read_consent(table: Table) -> ConsentPolicy:
    """`[consent]`. Raises ContractError."""
    modes = table.texts("modes", ())
    for mode in modes:
        if mode not in _MODES:
            table.fail("modes", f"{mode!r} is not known", f"choose among {', '.join(_MODES)}")
    if modes and (modes[0] != "off" or len(modes) == 1):
        table.fail("modes", "do not begin with off and go on", 'write "off" first, then another')
    default = table.choice("default", "off", ("on", "off", "ask"))
    if modes and default == "on":
        table.fail("default", "is on, but there are several ways to be on", 'write "ask" or "off"')
    switches = tuple(_env_switch(one) for one in table.tables("env"))
    names = [one.name for one in switches]
    if len(set(names)) != len(names):
        table.fail("env", "names a variable twice", "write each once")
    policy = ConsentPolicy(
        default=cast("Default", default),
        do_not_track=cast(
            "DoNotTrack", table.choice("do_not_track", "set", ("set", "any", "ignore"))
        ),
        env=switches,
        ci_disables=table.choice("ci", "tag", ("off", "tag")) == "off",
        notice=_notice(table),
        grace_s=table.duration_s("grace", "24h", low_s=0, high_s=31 * 86400),
        off_command=table.text("off_command", "DO_NOT_TRACK=1"),
        needs_terminal=table.choice("terminal", "any", ("any", "required")) == "required",
        notice_when=cast(
            "NoticeWhen",
            table.choice("notice_when", "first-use", ("first-use", "before-send", "interactive")),
        ),
        modes=cast("tuple[Mode, ...]", modes),
    )
    table.finish()
    return policy


def read_state(table: Table, policy: ConsentPolicy) -> StateFile:
    """`[state]`: a file that the product already has, or is to have. Raises ContractError."""
    path = table.text("file")
    if not path.startswith(("~/", "/")):
        table.fail("file", f"{path!r} is not absolute", 'begin it with "~/" or "/"')
    if ".." in path.split("/") or not path.endswith((".json", ".toml")):
        # tallyd writes this file: it is the product's own choice, and nothing else of its user's.
        table.fail(
            "file", f"{path!r} is no state file", 'name a file like "~/.tool/telemetry.json"'
        )
    keys = table.table("keys", required=True)
    for key in keys.values:
        if key not in STATE_KEYS:
            keys.fail(key, "is not known here", f"known keys: {', '.join(STATE_KEYS)}")
    named = {key: keys.text(key) if key in keys.values else "" for key in STATE_KEYS}
    if len({one for one in named.values() if one}) != len(keys.values):
        table.fail("keys", "gives two things one name", "write a name of its own for each")
    wanted = "mode" if policy.modes else "enabled"
    if not named[wanted]:
        keys.fail(wanted, "is missing", "the file must have a key for the choice itself")
    state = StateFile(
        path=path,
        format=cast('Literal["json", "toml"]', table.choice("format", "json", ("json", "toml"))),
        is_strict=table.boolean("strict", default=False),
        **named,
        default_source=table.text("default_source", "default-notice"),
    )
    table.finish()
    return state


def read_identity(table: Table, endpoint: Endpoint, policy: ConsentPolicy) -> Identity:
    """`[identity]`. Raises ContractError."""
    kind = table.choice("kind", "random", ("random", "derived", "user"))
    if kind != "random" and endpoint.protocol == "events-v1":
        table.fail("kind", f"{kind!r} is no UUID, as events-v1 has it", 'write "random"')
    if (kind == "user") != ("identified" in policy.modes):
        table.fail(
            "kind", "does not fit the modes", '"user" goes with the mode "identified", and only so'
        )
    prefix, fallback, length = "", "", 0
    if kind == "derived":
        prefix = table.matching("prefix", _PREFIX, "a prefix")
        fallback = table.matching("fallback_prefix", _PREFIX, "a prefix")
        # 8 digits are 32 bits: under that, machines are mistaken for one another.
        length = table.integer("length", low=8, high=64)
        if prefix == fallback:
            table.fail("fallback_prefix", "is the prefix itself", "one must tell them apart")
    project = table.choice("project", "", ("sha256(id:path)",))
    table.finish()
    return Identity(
        cast('Literal["random", "derived", "user"]', kind), prefix, fallback, length, bool(project)
    )


def _env_name(table: Table, key: str) -> str | None:
    return table.matching(key, ENV_NAME, "a variable's name") if key in table.values else None


def _notice(table: Table) -> str:
    notice = table.text("notice")
    for name in re.findall(r"\{([^{}]*)\}", notice):
        if name not in ("off_command", "details"):
            what = f"holds {{{name}}}, which nothing fills in"
            table.fail("notice", what, "known: {off_command}, {details}")
    return notice


def _env_switch(table: Table) -> EnvSwitch:
    switch = EnvSwitch(
        name=table.matching("name", ENV_NAME, "a variable's name"),
        off=frozenset(one.strip().lower() for one in table.texts("off")),
        on=frozenset(one.strip().lower() for one in table.texts("on", ())),
    )
    if switch.name in ("DO_NOT_TRACK", "CI"):
        table.fail(
            "name", f"{switch.name} is everybody's", "give the product a variable of its own"
        )
    if switch.off & switch.on:
        table.fail("on", "names a value that `off` names too", "a value can mean one thing only")
    table.finish()
    return switch

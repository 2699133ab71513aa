"""Contracts that no product has: one for every type and rule, and one for each kind of id.

`hostile` makes a contract of the same structure around whatever texts a test brings.
"""

from __future__ import annotations

import json

from hypothesis import strategies as st
from tallyd.contract import Contract, parse_contract

EVERY_TYPE = """contract = 1
[product]
name = "every-type"
title = "Every type"
about = "It is there to be tested."
schema_version = 7
details = "docs/every-type.md"
[endpoint]
url = "https://every.example/v1/events"
max_events = 3
[consent]
default = "ask"
do_not_track = "any"
ci = "off"
terminal = "required"
notice = "Every type: {off_command}, {details}"
notice_when = "interactive"
off_command = "every off"
env = [{ name = "EVERY_TELEMETRY", off = ["No", " 0 "] }]
[identity]
project = "sha256(id:path)"
[envelope]
"version" = { type = "version", from = "version", as = "every version", about = "Its version." }
os = { type = "token", max = 16, from = "runtime", about = "The system." }
level = { type = "int", max = 9, about = "A level.", expires = "2029-01-01" }
[fields]
theme = { type = "token", max = 8, registered = true, optional = true, about = "A theme." }
[groups]
project = { type = "hash", about = "The project." }
[events.types]
kind = "event"
about = "One property of each type."
as = "every.types"
once = "process"
uses = ["theme"]
groups = ["project"]
properties.enum = { type = "enum", values = ["a", "b b", "c|d"], optional = true, about = "Enum." }
properties.token = { type = "token", max = 8, optional = true, about = "Token." }
properties.cut = { type = "token", max = 8, cut = true, optional = true, about = "Cut token." }
properties.label = { type = "label", max = 8, optional = true, about = "Label." }
properties.version = { type = "version", optional = true, about = "Version." }
properties.int = { type = "int", min = -5, max = 100, optional = true, about = "Int." }
properties.wide = { type = "int", optional = true, as = "wide one", about = "Wide int." }
properties.deep = { type = "int", min = -9007199254740991, max = 9, optional = true, about = "Deep int." }
properties.number = { type = "number", min = -0.5, max = 2.5, optional = true, about = "Number." }
properties.any = { type = "number", min = -9007199254740991, optional = true, about = "Any number." }
properties.boolean = { type = "boolean", optional = true, about = "Boolean." }
properties.bucket = { type = "bucket", edges = [10, 100], labels = ["<10", "10-99", "100+"], optional = true, about = "Bucket." }
properties.uuid = { type = "uuid", optional = true, about = "Uuid." }
properties.hash = { type = "hash", length = 8, prefix = "h-x_", optional = true, about = "Hash." }
properties.error = { type = "error_class", max = 12, optional = true, about = "Error class." }
properties.detail = { type = "redacted", max = 20, switch = "EVERY_DETAIL", optional = true, about = "Detail." }
properties.tokens = { type = "list", of = "token", max = 4, max_items = 3, optional = true, about = "Tokens." }
properties.ints = { type = "list", of = "int", max = 4, max_items = 2, optional = true, about = "Ints." }
properties.enums = { type = "list", of = "enum", values = ["x", "y"], max_items = 3, optional = true, about = "Enums." }
properties.records = { type = "list", of = "record", max_items = 2, optional = true, about = "Records.", fields = { driver = { type = "token", max = 4, about = "Driver." }, demo = { type = "boolean", optional = true, about = "Demo." } } }
properties.flags = { type = "names", max = 4, max_items = 2, optional = true, about = "Flags." }
properties.parts = { type = "names", values = ["p", "q"], optional = true, about = "Parts." }
[events.needs]
kind = "event"
about = "A required and an optional property."
sample = 0.1
sample_as = "rate"
expires = "2030-01-01"
properties.must = { type = "token", about = "Must." }
properties.may = { type = "token", optional = true, about = "May." }
properties.ends = { type = "token", expires = "2028-01-01", about = "Ends." }
[events.sums]
kind = "rollup"
about = "Counts."
uses = ["theme"]
dimensions.tool = { type = "token", max = 8, as = "tool name", about = "Tool." }
dimensions.wide = { type = "boolean", optional = true, about = "Wide." }
measures = ["count", { name = "bytes", max = 1000 }, "errors"]
[never]
text = ["source code", "file names"]
"""

_TO_POSTHOG = (
    (
        'url = "https://every.example/v1/events"\n',
        'url = "https://posthog.example"\nprotocol = "posthog-batch"\nkey = "phc_every"\n'
        'key_env = "EVERY_KEY"\nretention_days = 365\nunanswered = "drop"\n',
    ),
    ('name = "every-type"', 'name = "every-posthog"'),
)
DERIVED = """[identity]
kind = "derived"
prefix = "cluster_"
fallback_prefix = "local_"
length = 16
"""
USER = """[state]
file = "~/.every.toml"
format = "toml"
strict = true
keys = { mode = "telemetry_mode", user = "user_id" }
[identity]
kind = "user"
"""


def changed(text: str, *changes: tuple[str, str]) -> str:
    """`text` with each change made; each old text must stand in it once."""
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


def parsed(text: str) -> Contract:
    return parse_contract(text.encode(), "telemetry.toml")


POSTHOG = changed(EVERY_TYPE, *_TO_POSTHOG)
_IDENTITY = '[identity]\nproject = "sha256(id:path)"\n'
INLINE = {
    "every type": EVERY_TYPE,
    "posthog": POSTHOG,
    "derived": changed(POSTHOG, (_IDENTITY, DERIVED), ('key_env = "EVERY_KEY"\n', "")),
    "user": changed(
        POSTHOG,
        (_IDENTITY, USER),
        ('default = "ask"', 'default = "ask"\nmodes = ["off", "anonymous", "identified"]'),
    ),
    "anonymous": changed(
        EVERY_TYPE,
        ('default = "ask"', 'default = "ask"\nmodes = ["off", "anonymous"]'),
        ('do_not_track = "any"', 'do_not_track = "ignore"'),
        (_IDENTITY, ""),
    ),
}

# One line of what a contract's grammar lets through, and what breaks out of things.
_NASTY = [
    *(
        "|",
        "`",
        "``",
        "\\",
        "\\|",
        "<script>",
        "</td>",
        "<!--",
        "-->",
        "](x)",
        "[a]: x",
        "![",
        "&lt;",
    ),
    *(
        "# ",
        "1. ",
        "1) ",
        "- ",
        "+ ",
        "> ",
        "=",
        "---",
        "***",
        "__",
        "_a_",
        "$$",
        "~~",
        "   ",
        "\u00a0",
    ),
    *('"', "'", '"""', "'''", "\\n", "\\x41", "{", "}", "%s", "é", "中", "\U0001f600", "{details}"),
]
_LINE = st.characters(exclude_categories=("Cc", "Cf", "Co", "Cn", "Cs", "Zl", "Zp"))
_PIECES = st.lists(st.sampled_from(_NASTY) | st.text(_LINE, min_size=1, max_size=8), min_size=1)
HOSTILE = _PIECES.map("".join).filter(str.strip)


def hostile(texts: list[str]) -> Contract:
    """A contract with these texts wherever it has texts of its author's choice."""
    quoted = [json.dumps(one, ensure_ascii=False) for one in texts]
    title, about, details, _, off, word, path, event, field, value, label, never = quoted
    # What has a meaning of its own there: names in braces, and the parts of a path.
    notice = json.dumps(texts[3].replace("{", "("), ensure_ascii=False)
    file = json.dumps(f"~/{texts[6].replace('/', '_')}.json", ensure_ascii=False)
    return parsed(f"""contract = 1
[product]
name = "hostile"
title = {title}
about = {about}
details = {details}
[endpoint]
url = "https://hostile.example"
[consent]
notice = {notice}
off_command = {off}
env = [{{ name = "HOSTILE", off = ["0", {json.dumps("x" + texts[5], ensure_ascii=False)}], on = [{word}] }}]
[state]
file = {file}
keys = {{ enabled = {path} }}
[envelope]
os = {{ type = "token", from = "runtime", about = {field} }}
[events.one]
kind = "event"
about = {event}
properties.choice = {{ type = "enum", values = [{value}], about = {field} }}
properties.range = {{ type = "bucket", edges = [1], labels = ["<1", {json.dumps("1" + texts[10], ensure_ascii=False)}] }}
properties.any = {{ type = "names", values = [{label}] }}
[never]
text = [{never}]
""")


HOSTILE_TEXTS = st.lists(HOSTILE, min_size=12, max_size=12).filter(
    # A word that says off cannot say on.
    lambda texts: texts[5].strip() != "0"
)

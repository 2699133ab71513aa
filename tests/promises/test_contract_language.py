"""docs/contracts.md is the contract language: every table, key, type, default and message of it."""

from __future__ import annotations

import re
import tomllib
from collections import defaultdict

import pytest
from support.inline_contracts import EVERY_TYPE, INLINE, changed, parsed
from support.processes import CONTRACTS, ROOT
from tallyd.contract import Contract, ContractError, parse_contract
from tallyd.contract.field_grammar import _ITEM_READERS, _READERS, RUNTIME_FACTS
from tallyd.contract.frozen import replace
from tallyd.contract.policy_grammar import _MODES, STATE_KEYS
from tallyd.contract.table import Table

DOCUMENT = (ROOT / "docs" / "contracts.md").read_text(encoding="utf-8")
EXAMPLE, POLICY = re.findall(r"```toml\n(.*?)```", DOCUMENT, re.DOTALL)
SECTIONS = {
    match[1]: match[2]
    for match in re.finditer(r"^##+ (.*?)\n(.*?)(?=^##+ |\Z)", DOCUMENT, re.MULTILINE | re.DOTALL)
}
# Where the keys of a table of the grammar are described.
_PLACES = {
    "": "The file",
    **{name: f"`[{name}]`" for name in ("product", "endpoint", "consent", "state", "identity", "never")},
    "consent.env": "`consent.env`",
    "events.*": "`[events.NAME]`",
    "events.*.measures": "`measures`",
}  # fmt: skip
_FIELD = re.compile(r"(envelope|fields|groups|events\.\*\.(properties|dimensions))\.\*")


def rows(title: str) -> dict[str, list[str]]:
    """The rows of a section's table by the name in their first cell."""
    lines = [line for line in SECTIONS[title].splitlines() if line.startswith("| `")]
    split = [[cell.strip() for cell in line.strip("|").split(" |")] for line in lines]
    return {one[0].strip("`"): one[1:] for one in split}


def keys_of_the_grammar(monkeypatch: pytest.MonkeyPatch) -> dict[str, set[str]]:
    """Every key that reading our contracts and the inline ones asks for, by table; names are `*`."""
    asked: dict[str, set[str]] = defaultdict(set)
    finish = Table.finish

    def remember(self: Table) -> None:
        path = list(self.path)
        if path[:1] and path[0] in ("envelope", "fields", "groups", "events"):
            path[1:2] = ["*"] * len(path[1:2])
        if path[2:3] and path[2] in ("properties", "dimensions"):
            path[3:4] = ["*"] * len(path[3:4])
        asked[".".join(path)] |= self._read
        finish(self)

    monkeypatch.setattr(Table, "finish", remember)
    for text in (*INLINE.values(), EXAMPLE, *(one.read_text() for one in CONTRACTS.glob("*.toml"))):
        parsed(text)
    return asked


# --- the example ----------------------------------------------------------------------------------


def test_the_example_is_a_contract_that_uses_every_table_but_those_for_posthog():
    contract = parse_contract(EXAMPLE.encode(), "telemetry.toml")

    assert contract.product == "sprig"
    assert set(rows("The file")) - set(tomllib.loads(EXAMPLE)) == {"identity", "groups"}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    re.findall(r"^- `(.*)` as `(.*)` gives\n  `(.*)`$", DOCUMENT, re.MULTILINE),
)
def test_each_message_is_the_one_that_the_example_gives(old: str, new: str, message: str):
    assert EXAMPLE.count(old) >= 1

    with pytest.raises(ContractError) as raised:
        parse_contract(EXAMPLE.replace(old, new, 1).encode(), "telemetry.toml")

    assert str(raised.value) == message


def test_there_are_messages_to_look_at():
    assert DOCUMENT.count(" gives\n") == 4


# --- tables and keys ------------------------------------------------------------------------------


def test_every_key_that_the_grammar_knows_is_described_and_no_other(monkeypatch):
    asked = keys_of_the_grammar(monkeypatch)
    # Asked of each kind of event alone, and of no other table of ours.
    described = {table: set(rows(title)) for table, title in _PLACES.items()}

    assert {table: asked[table] for table in described} == described
    rest = {table for table in asked if not _FIELD.match(table)}
    assert rest == set(described), "a table of the grammar has no section"


def test_every_key_of_a_field_is_described_and_no_other(monkeypatch):
    asked = set().union(
        *(keys for table, keys in keys_of_the_grammar(monkeypatch).items() if _FIELD.match(table))
    )
    common = set(rows("Every field"))
    own = set().union(*(re.findall(r"`(\w+)`", one[1]) for one in rows("Types").values()))

    # `names` speaks of two types by their names, `list` of a record's `fields` below the table.
    assert asked == (common | own | {"fields"}) - {"enum", "token"}
    assert "whose `fields` are" in SECTIONS["Types"]


def test_the_keys_of_each_type_are_those_that_it_reads():
    for kind, (_, told) in rows("Types").items():
        table = Table("", "", (), dict(_SAMPLES[kind]))
        _READERS[kind](table)
        own = set(re.findall(r"`(\w+)`", told)) - {"enum", "token"}
        extra = {"max", "cut", "registered"} if kind in ("list", "names") else set()
        assert table._read - extra - {"values"} == own - {"values"}, kind


_SAMPLES: dict[str, dict[str, object]] = {
    **{kind: {} for kind in ("token", "label", "version", "int", "number", "boolean", "uuid")},
    "enum": {"values": ["a"]},
    "bucket": {"edges": [1], "labels": ["a", "b"]},
    "hash": {"prefix": "a"},
    "error_class": {},
    "redacted": {"switch": "S"},
    "list": {"max_items": 1},
    "names": {},
}


def test_every_type_is_described_and_no_other():
    assert set(rows("Types")) == set(_READERS)
    listed = re.search(r"A `list` is of (.*?)or\s+`record`", SECTIONS["Types"], re.DOTALL)
    assert listed is not None
    assert set(re.findall(r"`(\w+)`", listed[1])) == set(_ITEM_READERS)


def test_every_key_of_a_state_file_is_described_and_no_other():
    assert tuple(rows("`state.keys`")) == STATE_KEYS


def test_every_fact_of_a_process_and_every_mode_is_described():
    assert set(re.findall(r"`runtime\.(\w+)`", SECTIONS["Every field"])) == set(RUNTIME_FACTS)
    assert set(re.findall(r'`"(\w+)"`', rows("`[consent]`")["modes"][1])) == set(_MODES)


@pytest.mark.parametrize(
    ("title", "key"),
    [
        *[("`[endpoint]`", key) for key in ("protocol", "unanswered", "busy")],
        *[("`[consent]`", key) for key in ("default", "do_not_track", "ci", "terminal", "notice_when")],
        ("`[state]`", "format"),
        ("`[identity]`", "kind"),
        ("`[identity]`", "project"),
    ],
)  # fmt: skip
def test_every_word_that_a_key_may_say_is_described_and_no_other(title: str, key: str):
    """A wrong word is answered with all the right ones."""
    table = title.strip("`[]")
    base = INLINE["user"] if table == "state" else EVERY_TYPE
    stripped = re.sub(rf"^{key} = .*\n", "", base, flags=re.MULTILINE)
    with pytest.raises(ContractError) as raised:
        parsed(changed(stripped, (f"[{table}]\n", f'[{table}]\n{key} = "?"\n')))
    wanted = set(re.findall(r'"([^"]+)"', raised.value.hint))

    told = set(re.findall(r'`"([\w()>:-]+)"`', "|".join(rows(title)[key])))
    assert wanted == told


# --- defaults -------------------------------------------------------------------------------------

_DEFAULTS = [
    (table, key, cells[0].strip("`"))
    for table in ("product", "endpoint", "consent", "state", "identity", "never")
    for key, cells in rows(f"`[{table}]`").items()
    if cells[0].startswith("`")
]
_BARE = """contract = 1
[product]
name = "bare"
title = "Bare"
details = "none"
[endpoint]
url = "https://bare.example"
[consent]
notice = "n"
[state]
file = "~/x.json"
keys = { enabled = "e" }
[identity]
[events.one]
kind = "rollup"
about = "One."
dimensions.a = { type = "token" }
measures = ["count"]
[never]
"""


def as_read(text: str) -> Contract:
    """A contract without what says how it was written."""
    return replace(parsed(text), digest="", text=b"")


@pytest.mark.parametrize(("table", "key", "default"), _DEFAULTS)
def test_a_key_that_is_left_out_has_the_default_that_is_told(table: str, key: str, default: str):
    told = changed(_BARE, (f"[{table}]\n", f"[{table}]\n{key} = {default}\n"))

    assert as_read(told) == as_read(_BARE)


def test_what_is_told_as_needed_is_needed():
    for table in ("product", "endpoint", "consent", "state"):
        for key, cells in rows(f"`[{table}]`").items():
            if cells[0] != "needed":
                continue
            short = re.sub(rf"^{key} = .*\n", "", _BARE, count=1, flags=re.MULTILINE)
            assert short != _BARE, key
            with pytest.raises(ContractError, match=f"{table}.{key}: is missing"):
                parsed(short)


@pytest.mark.parametrize(
    ("kind", "key", "default"),
    [
        (kind, key, default)
        for kind, (_, told) in rows("Types").items()
        for key, default in re.findall(r'`(\w+)` = ("\w*"|\w+)', told)
        # An empty prefix cannot be written, only left out.
        if key != "prefix"
    ],
)
def test_a_types_key_that_is_left_out_has_the_default_that_is_told(
    kind: str, key: str, default: str
):
    value = tomllib.loads(f"x = {default}")["x"]
    sample = _SAMPLES[kind]

    read = _READERS[kind](Table("", "", (), {**sample, key: value}))
    assert read == _READERS[kind](Table("", "", (), dict(sample)))


def test_the_defaults_of_events_and_measures_are_those_that_are_told():
    told = changed(
        _BARE,
        ('about = "One."', 'about = "One."\nuses = []\ngroups = []\nas = "one"'),
        ('measures = ["count"]', 'measures = [{ name = "count", max = 9007199254740991 }]'),
    )
    event, bare = parsed(told).events["one"], parsed(_BARE).events["one"]

    assert event.wire_name == "one"
    assert replace(event, wire_name="", maxima={}) == bare
    assert rows("`measures`")["max"][0] == "`9007199254740991`"
    assert rows("`[events.NAME]`")["sample_as"][0] == '`"sample_rate"`'
    sampled = changed(_BARE, ('about = "One."', 'about = "One."\nsample = 0.5'))
    assert "sample_rate" in parsed(sampled).events["one"].fields


# --- what stands around it ------------------------------------------------------------------------


def test_the_policy_file_is_toml_with_the_two_keys():
    assert tomllib.loads(POLICY) == {"off": True, "except": ["ktx"]}


def test_every_command_of_a_contract_is_told():
    told = re.findall(r"^\| `tallyd contract (\w+)", SECTIONS["The commands"], re.MULTILINE)

    assert told == ["check", "docs", "diff", "schema", "build", "add", "list"]


def test_the_document_is_set_for_a_screen():
    assert [line for line in DOCUMENT.splitlines() if len(line) >= 120] == []

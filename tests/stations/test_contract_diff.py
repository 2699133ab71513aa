"""What a new version of a contract collects more or less, in words: one edit at a time."""

from __future__ import annotations

import inspect

import pytest
from hypothesis import given
from support.contracts import contract_to_edit, versions
from support.drawn import examples
from tallyd.contract import Contract, fields, model, parse_contract
from tallyd.contract.diff import IGNORED, RULES, Change, Kind, compare, is_wider
from tallyd.contract.frozen import Frozen, replace

MORE, LESS, OTHER = Kind.MORE, Kind.LESS, Kind.OTHER
CODEGRAPH = contract_to_edit()
POSTHOG = b"""contract = 1
[product]
name = "tool"
title = "Tool"
details = "none"
[endpoint]
url = "https://eu.example"
protocol = "posthog-batch"
key = "phc_a"
key_env = "TOOL_KEY"
retention_days = 60
[consent]
default = "ask"
notice = "It counts."
modes = ["off", "anonymous"]
env = [{ name = "A", off = ["0"], on = ["1"] }, { name = "B", off = ["0"], on = ["1"] }]
[identity]
kind = "derived"
prefix = "m_"
fallback_prefix = "r_"
length = 16
project = "sha256(id:path)"
[groups]
cluster = { type = "hash", about = "Which cluster." }
[events.report]
kind = "event"
about = "A report."
groups = ["cluster"]
expires = "2028-01-01"
sample = 0.1
once = "process"
as = "Report"
properties.field = { type = "boolean", expires = "2028-01-01", as = "Field" }
[events.sums]
kind = "rollup"
about = "Sums."
measures = ["count", { name = "errors", max = 9 }]
[never]
text = ["paths", "code"]
"""


def edited(text: bytes, old: str, new: str) -> Contract:
    """The contract of this text with `new` in the place of `old`."""
    assert text.count(old.encode()) == 1, old
    return parse_contract(text.replace(old.encode(), new.encode()), "edited.toml")


def only_change(old: Contract, new: Contract) -> Change:
    """The one change between them."""
    changes = compare(old, new)
    assert len(changes) == 1, changes
    return changes[0]


# --- one edit, one change, in words ----------------------------------------------------------------

_ENV = (
    'off = ["0", "false", "no", "off"], on = ["1", "true", "yes", "on"] }]',
    'off = ["0", "false", "no"], on = ["1", "true", "yes", "on"] }]',
)
_WIDE, _NARROW = 'on = ["1", "true", "yes", "on"] }]', 'on = ["1", "true", "yes"] }]'
_NEW_ENV = f'{_WIDE[:-1]}, {{ name = "X", off = ["0"]'
_CONSENT = 'do_not_track = "set"'
_KEEPS = "max_age_days = 30"
_SCOPE = 'values = ["local", "global"]'
_NAME = 'type = "token", max = 64, cut = true'
_OS = 'os = { type = "token", max = 16, from = "runtime.os"'
_SIZES = (
    'edges = [100, 1000, 10000], labels = ["<100", "100-1k", "1k-10k", "10k+"]',
    'edges = [100, 1000], labels = ["<100", "100-1k", "1k+"]',
)
_UNINSTALL = '[events.uninstall]\nkind = "event"\nabout = "One run of the uninstaller."\n'
_UNINSTALL_TARGETS = (
    'properties.targets = { type = "list", of = "token", max = 24, max_items = 12, optional = true }'
    "\n\n[never]"
)
_REQUIRED = 'scope = { type = "enum", values = ["local", "global"] }'
_GONE_WORD = "query strings"

# (what stands there, what is to stand there, how that counts, how the way back counts, the place,
# some words of the sentence there and of the one back)
EDITS: list[tuple[str, str, Kind, Kind, str, str, str]] = [
    ('max = 64, cut = true, about = "The t', 'max = 99, cut = true, about = "The t', MORE, LESS, "events.usage_rollup.dimensions.name", "`usage_rollup.name` may now have up to 99 characters (64 before)", "up to 64 characters (99 before)"),
    (_NAME + ", about", 'type = "label", max = 64, cut = true, about', MORE, LESS, "events.usage_rollup.dimensions.name", "other kinds of characters", "fewer kinds of characters"),
    (_NAME + ", about", 'type = "token", max = 64, about', LESS, MORE, "events.usage_rollup.dimensions.name", "left out when it is too long", "cut when it is too long"),
    (_NAME + ", about", _NAME + ", registered = true, about", LESS, MORE, "events.usage_rollup.dimensions.name", "only a name that the program registered", "did not register"),
    (_NAME + ", about", _NAME + ', expires = "2028-01-01", about', LESS, MORE, "events.usage_rollup.dimensions.name.expires", "until 2028-01-01 (further notice before)", "until further notice (2028-01-01 before)"),
    (_NAME + ", about", _NAME + ", optional = true, about", OTHER, OTHER, "events.usage_rollup.dimensions.name", "may now be missing", "no longer be missing"),
    (_NAME + ", about", _NAME + ', as = "tool", about', OTHER, OTHER, "events.usage_rollup.dimensions.name.as", "under the name tool (none before)", "none (tool before)"),
    ('about = "The tool\'s', 'about = "Any', OTHER, OTHER, "events.usage_rollup.dimensions.name.about", "described as: Any or", "described as: The tool's or"),
    (_SCOPE, 'values = ["local", "global", "team"]', MORE, LESS, "events.install.properties.scope", "`install.scope` may now also be `team`", "no longer be `team`"),
    (_SCOPE, 'values = ["global", "local"]', OTHER, OTHER, "events.install.properties.scope", "another order", "another order"),
    (_REQUIRED, 'scope = { type = "token" }', MORE, LESS, "events.install.properties.scope", "a text of up to 64 characters (one of a list of texts before)", "one of a list of texts (a text"),
    (_SIZES[0], _SIZES[1], LESS, MORE, "events.index.properties.file_count_bucket", "fewer ranges", "other ranges"),
    (_SIZES[0], _SIZES[0].replace("<100", "few"), MORE, MORE, "events.index.properties.file_count_bucket", "called few, 100-1k, 1k-10k, 10k+", "called <100"),
    ("max = 24, max_items = 32", "max = 24, max_items = 33", MORE, LESS, "events.index.properties.languages", "up to 33 items (32 before)", "up to 32 items"),
    ("max = 24, max_items = 32", "max = 25, max_items = 32", MORE, LESS, "events.index.properties.languages", "Each item of `index.languages` may now have up to 25", "up to 24"),
    ("min = 0, max = 99", "min = 0, max = 100", MORE, LESS, "envelope.node_major", "`node_major` may now be up to 100 (99 before)", "up to 99"),
    ("min = 0, max = 99", "min = -1, max = 99", MORE, LESS, "envelope.node_major", "as low as -1 (0 before)", "as low as 0"),
    (_OS, _OS.replace("runtime.os", "host"), MORE, LESS, "envelope.os.from", "`os` is now taken from host (runtime.os before)", "from runtime.os"),
    (_OS, _OS.replace("runtime.os", "runtime.arch"), MORE, MORE, "envelope.os.from", "from runtime.arch", "from runtime.os"),
    ("[envelope]", '[envelope]\nshell = { type = "token", about = "The shell." }', MORE, LESS, "envelope.shell", "The field `shell` is new: The shell.", "The field `shell` is gone"),
    (_UNINSTALL + _UNINSTALL_TARGETS, "[never]", LESS, MORE, "events.uninstall", "The event `uninstall` is gone", "The event `uninstall` is new: One run of the uninstaller."),
    (_UNINSTALL + _UNINSTALL_TARGETS, _UNINSTALL + "\n[never]", LESS, MORE, "events.uninstall.properties.targets", "The field `uninstall.targets` is gone", "The field `uninstall.targets` is new"),
    (_UNINSTALL, _UNINSTALL.replace("run of", "end of"), OTHER, OTHER, "events.uninstall.about", "described as: One end", "described as: One run"),
    (_UNINSTALL, _UNINSTALL + 'expires = "2028-01-01"\n', LESS, MORE, "events.uninstall.expires", "until 2028-01-01", "until further notice"),
    (_UNINSTALL, _UNINSTALL + "sample = 0.5\n", LESS, MORE, "events.uninstall.sample", "`uninstall` is now recorded in 50 % of runs (100 % before)", "100 % of runs"),
    (_UNINSTALL, _UNINSTALL + 'once = "process"\n', LESS, MORE, "events.uninstall.once", "once per run (any number of times before)", "any number of times"),
    (_UNINSTALL, _UNINSTALL + 'as = "bye"\n', OTHER, OTHER, "events.uninstall.as", "under the name bye", "under the name none"),
    ('["count", "error_count"]', '["count", "error_count", "tokens"]', MORE, LESS, "events.usage_rollup.measures", "`usage_rollup` now also sums up `tokens`", "no longer sums up `tokens`"),
    ('["count", "error_count"]', '["error_count", "count"]', OTHER, OTHER, "events.usage_rollup.measures", "another order", "another order"),
    ('["count", "error_count"]', '["count", { name = "error_count", max = 9 }]', OTHER, OTHER, "events.usage_rollup.measures", "other sums", "other sums"),
    ("telemetry.getcodegraph.com", "b.example", MORE, MORE, "endpoint.url", "Data goes to b.example instead of telemetry.getcodegraph.com", "to telemetry.getcodegraph.com instead of b.example"),
    ("getcodegraph.com/v1", "getcodegraph.com:8443/v1", MORE, MORE, "endpoint.url", ":8443 instead of https://telemetry.getcodegraph.com:443", ":443 instead"),
    ("getcodegraph.com/v1", "getcodegraph.com/v2", OTHER, OTHER, "endpoint.url", "on the same host", "on the same host"),
    ("getcodegraph.com/v1", "getcodegraph.com:443/v1", OTHER, OTHER, "endpoint.url", "on the same host", "on the same host"),
    ('override_env = "CODEGRAPH_TELEMETRY_ENDPOINT"\n', "", LESS, MORE, "endpoint.override_env", "No variable can set where data goes any more (CODEGRAPH_TELEMETRY_ENDPOINT before)", "CODEGRAPH_TELEMETRY_ENDPOINT can now set where data goes"),
    ('"CODEGRAPH_TELEMETRY_ENDPOINT"', '"OTHER"', MORE, MORE, "endpoint.override_env", "OTHER can now", "can now set"),
    (_KEEPS, _KEEPS + "\nretention_days = 90", LESS, MORE, "endpoint.retention_days", "for 90 days (an unstated time before)", "an unstated time (90 days before)"),
    (_KEEPS, "max_age_days = 7", OTHER, OTHER, "endpoint.max_age_days", "may wait here is now 7 (30 before)", "30 (7 before)"),
    ('interval = "6h"', 'interval = "90m"', OTHER, OTHER, "endpoint.interval", "90 minutes (6 hours before)", "6 hours"),
    ('timeout = "1500ms"', 'timeout = "1s"', OTHER, OTHER, "endpoint.timeout", "1 seconds (1.5 seconds before)", "1.5 seconds"),
    ("max_events = 100", "max_events = 10", OTHER, OTHER, "endpoint.max_events", "10 (100 before)", "100"),
    ("minute = 6", "minute = 5", OTHER, OTHER, "endpoint.max_requests_per_minute", "5 (6 before)", "6"),
    ('"keep"', '"drop"', OTHER, OTHER, "endpoint.unanswered", "no longer sent again", "now sent again"),
    ('"final"', '"later"', OTHER, OTHER, "endpoint.busy", "now sent again", "no longer sent again"),
    ('default = "on"', 'default = "off"', LESS, MORE, "consent.default", "it now is off (on before)", "it now is on (off before)"),
    ('default = "on"', 'default = "ask"', LESS, MORE, "consent.default", "off until somebody is asked", "it now is on"),
    (_CONSENT, 'do_not_track = "any"', LESS, MORE, "consent.do_not_track", "any value (with any value but", "any value but 0 and false"),
    (_CONSENT, 'do_not_track = "ignore"', MORE, LESS, "consent.do_not_track", "with no value", "any value but 0 and false"),
    (_ENV[0], _ENV[1], MORE, LESS, "consent.env", "`CODEGRAPH_TELEMETRY=off` no longer turns it off", "`CODEGRAPH_TELEMETRY=off` now turns it off"),
    (_WIDE, _NARROW, LESS, MORE, "consent.env", "`CODEGRAPH_TELEMETRY=on` no longer turns it on", "`CODEGRAPH_TELEMETRY=on` now turns it on"),
    (_WIDE, _NEW_ENV + " }]", LESS, MORE, "consent.env", "`X` is new, and turns it off", "`X` no longer turns it off"),
    (_WIDE, _NEW_ENV + ', on = ["1"] }]', MORE, MORE, "consent.env", "`X` is new, and can turn it on", "`X` no longer turns it off"),
    ('ci = "tag"', 'ci = "off"', LESS, MORE, "consent.ci", "now off in continuous", "no longer off in continuous"),
    ('terminal = "any"', 'terminal = "required"', LESS, MORE, "consent.terminal", "now off where there is no terminal", "no longer off"),
    ('grace = "24h"', 'grace = "90s"', MORE, LESS, "consent.grace", "for 90 seconds after the notice (1 day before)", "for 1 day"),
    ('grace = "24h"', 'grace = "24h"\nnotice_when = "interactive"', OTHER, OTHER, "consent.notice_when", "interactive", "first-use"),
    ("(no code, no paths)", "(no code)", OTHER, OTHER, "consent.notice", "The notice now says: codegraph", "The notice now says"),
    ('"codegraph telemetry off"', '"codegraph off"', OTHER, OTHER, "consent.off_command", "codegraph off", "codegraph telemetry off"),
    ("~/.codegraph/telemetry.json", "~/.codegraph/t.json", OTHER, OTHER, "state.file", "~/.codegraph/t.json", "telemetry.json"),
    ('"machine_id"', '"uuid"', OTHER, OTHER, "state.keys.id", "uuid (machine_id before)", "machine_id"),
    ('default_source = "default-notice"', 'default_source = "notice"\nstrict = true', OTHER, OTHER, "", "", ""),
    ('title = "CodeGraph"', 'title = "Graph"', OTHER, OTHER, "product.title", "called Graph", "called CodeGraph"),
    ("schema_version = 2", "schema_version = 3", OTHER, OTHER, "product.schema_version", "version 3 (2 before)", "version 2"),
    ("schema_version = 2", 'schema_version = 2\nabout = "A graph."', OTHER, OTHER, "product.about", "A graph.", "none"),
    ("blob/main/TELEMETRY.md", "wiki", OTHER, OTHER, "product.details", "codegraph/wiki", "TELEMETRY.md"),
    ('name = "codegraph"', 'name = "graph"', MORE, MORE, "product.name", "the contract of graph", "the contract of codegraph"),
    (f'"{_GONE_WORD}", ', "", MORE, LESS, "never.text", "no longer promised never to collect: query strings", "now promised never to collect: query strings"),
    # What a fact is called does not matter, but the sentence has to survive it.
    ("One run of the uninstaller.", "One {at} of {new}.", OTHER, OTHER, "events.uninstall.about", "One {at} of {new}.", "One run"),
]  # fmt: skip

POSTHOG_EDITS: list[tuple[str, str, Kind, Kind, str, str, str]] = [
    ("https://eu", "https://us", MORE, MORE, "endpoint.url", "us.example instead of eu.example", "eu.example instead"),
    ("phc_a", "phc_b", MORE, MORE, "endpoint.key", "another project: phc_b instead of phc_a", "phc_a instead"),
    ('key_env = "TOOL_KEY"\n', "", LESS, MORE, "endpoint.key_env", "No variable can set which project", "TOOL_KEY can now set"),
    ("retention_days = 60", "retention_days = 61", MORE, LESS, "endpoint.retention_days", "61 days (60 days before)", "60 days"),
    ('default = "ask"', 'default = "off"', OTHER, OTHER, "consent.default", "is off (off until", "until somebody is asked"),
    ('"m_"', '"n_"', MORE, MORE, "identity.prefix", "begin with n_ (m_ before)", "m_"),
    ('"r_"', '"n_"', MORE, MORE, "identity.fallback_prefix", "Random ids now begin with n_", "r_"),
    ("length = 16", "length = 15", MORE, MORE, "identity.length", "15 digits (16 before)", "16 digits"),
    ('project = "sha256(id:path)"\n', "", LESS, MORE, "identity.project", "no longer carry a hash of the project", "may now carry"),
    ('"derived"\nprefix = "m_"\nfallback_prefix = "r_"\nlength = 16', '"random"', MORE, MORE, "", "", ""),
    ('groups = ["cluster"]\n', "", LESS, MORE, "events.report.properties.cluster", "The group `report.cluster` is gone", "The group `report.cluster` is new: Which cluster."),
    ('type = "hash"', 'type = "hash", length = 32', LESS, MORE, "events.report.properties.cluster", "32 digits of its hash (64 before)", "64 digits"),
    ('type = "hash"', 'type = "hash", prefix = "c_"', MORE, MORE, "events.report.properties.cluster", "begins with c_ (none before)", "begins with none"),
    ('groups = ["cluster"]\nexpires', 'properties.cluster = { type = "hash", optional = true, about = "Which cluster." }\nexpires', LESS, MORE, "events.report.properties.cluster", "no longer groups", "now groups"),
    ('expires = "2028-01-01"\nsample', 'expires = "2028-02-01"\nsample', MORE, LESS, "events.report.expires", "until 2028-02-01 (2028-01-01 before)", "2028-01-01"),
    ('expires = "2028-01-01"\nsample', "sample", MORE, LESS, "events.report.expires", "until further notice", "2028-01-01"),
    ('"2028-01-01", as', '"2027-01-01", as', LESS, MORE, "events.report.properties.field.expires", "until 2027-01-01", "2028-01-01"),
    ("sample = 0.1", "sample = 0.2", MORE, LESS, "events.report.sample", "20 % of runs (10 % before)", "10 %"),
    ("sample = 0.1\n", "", MORE, LESS, "", "", ""),
    ("sample = 0.1", 'sample = 0.1\nsample_as = "rate"', OTHER, OTHER, "events.report.sample", "sent as rate (sample_rate before)", "sample_rate"),
    ('once = "process"', 'once = "machine"', LESS, MORE, "events.report.once", "once per machine (once per run before)", "once per run"),
    ('kind = "rollup"\nabout = "Sums."\nmeasures = ["count", { name = "errors", max = 9 }]', 'kind = "event"\nabout = "Sums."', MORE, MORE, "events.sums", "told one by one", "counted by day"),
    ("max = 9", "max = 10", OTHER, OTHER, "events.sums.measures", "other sums", "other sums"),
    ('modes = ["off", "anonymous"]\n', "", MORE, MORE, "", "", ""),
]  # fmt: skip


CASES = [
    *((CODEGRAPH.text, *edit) for edit in EDITS),
    *((POSTHOG, *edit) for edit in POSTHOG_EDITS),
]
IDS = [f"{place or 'several'}: {new[:40]!r}" for _, _, new, _, _, place, _, _ in CASES]


@pytest.mark.parametrize(
    ("text", "before", "after", "kind", "back", "place", "words", "words_back"), CASES, ids=IDS
)
def test_an_edit_is_told_as_more_or_less_in_words_and_so_is_its_undoing(
    text: bytes,
    before: str,
    after: str,
    kind: Kind,
    back: Kind,
    place: str,
    words: str,
    words_back: str,
):
    old, new = parse_contract(text, "old.toml"), edited(text, before, after)
    there, and_back = compare(old, new), compare(new, old)
    if not place:
        # Several things change at once: the widest of them decides.
        assert (kind is MORE, back is MORE) == (is_wider(there), is_wider(and_back))
        return

    assert [(kind, place)] == [(one.kind, one.place) for one in there], there
    assert [(back, place)] == [(one.kind, one.place) for one in and_back], and_back
    assert words in there[0].words
    assert words_back in and_back[0].words


# --- switches and modes --------------------------------------------------------------------------------------


def test_a_switch_that_now_decides_first_may_turn_on_what_another_turned_off():
    first, second = (
        '{ name = "A", off = ["0"], on = ["1"] }',
        '{ name = "B", off = ["0"], on = ["1"] }',
    )

    change = only_change(
        parse_contract(POSTHOG, "old.toml"),
        edited(POSTHOG, f"{first}, {second}", f"{second}, {first}"),
    )

    assert Change(MORE, "consent.env", "`B` now decides before `A`") == change


def test_a_switch_that_can_only_turn_off_may_decide_first():
    both = '{ name = "A", off = ["0"], on = ["1"] }, { name = "B", off = ["0"], on = ["1"] }'
    quiet = '{ name = "A", off = ["0"], on = ["1"] }, { name = "B", off = ["0"] }'
    first = '{ name = "B", off = ["0"] }, { name = "A", off = ["0"], on = ["1"] }'

    assert compare(edited(POSTHOG, both, quiet), edited(POSTHOG, both, first)) == []


def test_another_way_of_being_on_is_more():
    old = parse_contract(POSTHOG, "old.toml")
    consent = replace(old.consent, modes=("off", "anonymous", "identified"))
    new = replace(old, consent=consent)

    assert Change(MORE, "consent.modes", "It can now be switched on as identified") == only_change(
        old, new
    )
    assert LESS is only_change(new, old).kind


def test_a_contract_without_a_state_file_keeps_its_choice_elsewhere():
    without = replace(CODEGRAPH, state=None)

    assert OTHER is only_change(CODEGRAPH, without).kind
    assert "~/.codegraph/telemetry.json" in only_change(without, CODEGRAPH).words


# --- nothing is forgotten --------------------------------------------------------------------------

CLASSES = [
    one
    for module in (model, fields)
    for _, one in inspect.getmembers(module, inspect.isclass)
    if issubclass(one, Frozen) and one.__module__ == module.__name__
]


@pytest.mark.parametrize("one", CLASSES, ids=lambda one: one.__name__)
def test_every_attribute_of_a_contract_is_compared_or_ignored_on_purpose(one: type):
    """A part of the language that no rule knows could grow without a notice."""
    assert issubclass(one, Frozen)
    has = list(one._fields)

    assert sorted(has) == sorted([*RULES[one], *IGNORED.get(one, ())])


def test_what_is_ignored_exists():
    assert set(IGNORED) <= set(CLASSES) == set(RULES)


def test_the_collected_things_come_first_and_each_is_told_once():
    old = edited(CODEGRAPH.text, 'ci = "tag"', 'ci = "off"')
    new = edited(CODEGRAPH.text, "max_items = 32", "max_items = 64")

    assert [(one.kind, one.place) for one in compare(old, new)] == [
        (MORE, "events.index.properties.languages"),
        (MORE, "consent.ci"),
    ]


# --- whatever comes --------------------------------------------------------------------------------


@pytest.mark.slow
@examples(60)
@given(both=versions())
def test_every_change_has_a_place_and_a_whole_sentence_on_one_line(
    both: tuple[Contract, Contract],
):
    for one in compare(*both):
        assert one.place
        assert one.words[0] == "`" or one.words[0].isupper()
        assert one.words.isprintable()
        assert "{" not in one.words.replace("{it}", "").replace("{details}", "")

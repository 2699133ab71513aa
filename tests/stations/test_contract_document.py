"""The page for users: it says all that the contract allows, in words, and no text breaks out of it."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.inline_contracts import (
    EVERY_TYPE,
    HOSTILE,
    HOSTILE_TEXTS,
    INLINE,
    changed,
    hostile,
    parsed,
)
from support.processes import CONTRACTS
from tallyd.contract.document import render_document
from tallyd.contract.model import Rollup
from tallyd.contract.words import code, link, plain, span

CODEGRAPH = (CONTRACTS / "codegraph.toml").read_text(encoding="utf-8")
DEMO = (CONTRACTS / "tallyd-demo.toml").read_text(encoding="utf-8")
CASES = {
    **{file.stem: file.read_text(encoding="utf-8") for file in sorted(CONTRACTS.glob("*.toml"))},
    **INLINE,
}


def page(text: str, *changes: tuple[str, str]) -> str:
    return render_document(parsed(changed(text, *changes)), "telemetry.toml")


def sections(text: str, *changes: tuple[str, str]) -> dict[str, str]:
    """The page's sections by their headings; under "" what stands before the first."""
    first, *parts = re.split(r"^##+ ", page(text, *changes), flags=re.MULTILINE)
    return {"": first, **{one.split("\n")[0]: one.split("\n", 1)[1].strip() for one in parts}}


def cells(section: str) -> dict[str, list[str]]:
    """The rows of a section's table by their names."""
    rows = [
        [cell.strip() for cell in line[1:-1].split("|")]
        for line in section.splitlines()
        if line.startswith("|")
    ]
    return {row[0].strip("`"): row[1:] for row in rows[2:]}


# --- the first screen -----------------------------------------------------------------------------


def test_the_page_says_first_that_it_is_made_and_then_what_it_is_and_why():
    begin = sections(EVERY_TYPE)[""].split("\n\n")

    assert begin[:3] == [
        '<!-- rendered from telemetry.toml by "tallyd contract docs"; do not edit -->',
        "# What Every type tells its makers, and how to stop it",
        "It is there to be tested.",
    ]
    assert begin[3].endswith("cannot be collected. Details: docs/every-type.md")
    details = "https://github.com/colbymchenry/codegraph/blob/main/TELEMETRY.md"
    assert f"Details: <{details}>\n" in page(CODEGRAPH)


def test_all_that_is_said_before_the_fields_is_in_this_order():
    assert list(sections(CODEGRAPH))[1:10] == [
        "Is it on?",
        "How to turn it off",
        "The notice",
        "What is never collected",
        "Where it goes, and how long it is kept",
        "Who a row is from",
        "When it ends",
        "Everything that can be collected",
        "Sent along with everything",
    ]
    # One screen: the fields begin before line 60.
    assert page(CODEGRAPH).split("## Everything")[0].count("\n") < 60


@pytest.mark.parametrize(
    ("text", "change", "said"),
    [
        (CODEGRAPH, ("", ""), "It is **on** unless somebody turned it off."),
        (CODEGRAPH, ('default = "on"', 'default = "off"'), "until you turn it on with `tallyd on codegraph`."),
        (EVERY_TYPE, ("", ""), "It is **off** until you were asked and agreed; no answer means no."),
        (INLINE["user"], ("", ""), "You choose among `off`, `anonymous`, `identified`."),
        (CODEGRAPH, ("", ""), "before the notice below was shown and 1 day went by. It is shown "),
        (DEMO, ("", ""), "It is shown the first time it is used."),
        (CODEGRAPH, ('grace = "24h"', 'grace = "90m"'), "shown and 90 minutes went by."),
        (DEMO, ("", ""), "before the notice below was shown. It is"),
        (EVERY_TYPE, ("", ""), "shown the first time it is used at a terminal."),
        (EVERY_TYPE, ('"interactive"', '"before-send"'), "before anything is sent for the first time."),
    ],
)  # fmt: skip
def test_it_says_whether_it_is_on(text: str, change: tuple[str, str], said: str):
    assert said in sections(text, *([change] if change[0] else []))["Is it on?"]


def test_it_says_every_way_to_turn_it_off():
    off = sections(CODEGRAPH)["How to turn it off"].splitlines()

    assert [line.split("`")[1] for line in off] == [
        "tallyd off codegraph",
        "codegraph telemetry off",
        "DO_NOT_TRACK",
        "CODEGRAPH_TELEMETRY",
        "CI",
        "~/.codegraph/telemetry.json",
        "/etc/tallyd/policy.toml",
    ]
    assert "`tallyd off --all`" in off[0]
    assert "to one of `0`, `false`, `no`, `off`. One of `1`, `on`, `true`, `yes` says on" in off[3]
    assert "alone does not turn it off" in off[4]
    assert "`enabled` set to `false` there is off. A damaged file is off, too." in off[5]


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("every type", "Set the variable `DO_NOT_TRACK` to anything at all, even `0`."),
        ("anonymous", "The variable `DO_NOT_TRACK` is **not** looked at."),
        ("codegraph", "Set the variable `DO_NOT_TRACK` to `1`, or to anything else but `0` and `false`."),
        ("every type", "Set the variable `EVERY_TELEMETRY` to one of `0`, `no`. Any other text means off"),
        ("every type", "In continuous integration (where the variable `CI` is set) it is off."),
        ("every type", "It is off wherever the program's output is not a terminal."),
        ("every type", "The choice is kept in tallyd's own folder, which `tallyd status` names."),
        ("user", '`~/.every.toml`; `telemetry_mode` set to `"off"` there is off.'),
    ],
)  # fmt: skip
def test_each_rule_of_consent_is_said_in_words(case: str, said: str):
    assert said in sections(CASES[case])["How to turn it off"]


def test_what_is_not_a_rule_of_the_contract_is_not_said():
    off = sections(CODEGRAPH)["How to turn it off"]

    assert "terminal" not in off
    assert "own way" not in sections(CODEGRAPH, ('off_command = "codegraph telemetry off"', ""))[
        "How to turn it off"
    ]  # fmt: skip


def test_it_says_what_is_never_collected_and_the_notice_as_it_is_shown():
    said = sections(EVERY_TYPE)

    assert said["What is never collected"] == "- source code\n- file names"
    assert said["The notice"] == "> Every type: every off, docs/every-type.md"
    assert "What is never collected" not in sections(
        EVERY_TYPE, ('text = ["source code", "file names"]', "")
    )


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("codegraph", "To `telemetry.getcodegraph.com`, over an encrypted connection (HTTPS)"),
        ("tallyd-demo", "To a program on this machine (`127.0.0.1`)"),
        ("codegraph", "`CODEGRAPH_TELEMETRY_ENDPOINT` names another address"),
        ("codegraph", "The network address it comes from is not read, not stored and not passed on."),
        ("tallyd-demo", "How long it is kept there is not stated."),
        ("posthog", "It is kept there for 365 days."),
        ("codegraph", "It is sent about every 6 hours; what is counted per day, once that day (UTC)"),
        ("codegraph", "What could not be sent is tried again for 30 days at most."),
        ("posthog", "What could not be sent is dropped."),
        ("posthog", "That is PostHog, an analytics service. It is told not to look up where"),
        ("posthog", "and to keep no profile of a person."),
        ("user", "and to keep a profile only of who chose `identified`."),
        ("posthog", "`EVERY_KEY` names another project there."),
    ],
)  # fmt: skip
def test_it_says_where_it_goes_and_how_long_it_is_kept(case: str, said: str):
    assert said in sections(CASES[case])["Where it goes, and how long it is kept"]


def test_posthog_is_not_said_to_ignore_the_address():
    """Only tallyd's own gateway promises that."""
    assert "address it comes from" not in page(INLINE["posthog"])


@pytest.mark.parametrize(
    ("case", "said", "unsaid"),
    [
        ("codegraph", ["random id", "*pseudonymous*", "`tallyd reset codegraph`"], ["folder"]),
        ("every type", ["*pseudonymous*", "hash of that id and the project's folder"], []),
        ("derived", ["SHA-256", "`cluster_` and 16 digits", "*pseudonymous*", "`local_` and 16 random"], ["folder"]),
        ("user", ["`anonymous`, every request has a new", "`identified`", "*pseudonymous*"], ["reset"]),
        ("anonymous", ["`anonymous`, every request has a new"], ["pseudonymous", "reset"]),
    ],
)  # fmt: skip
def test_it_says_who_a_row_is_from(case: str, said: list[str], unsaid: list[str]):
    section = sections(CASES[case])["Who a row is from"]

    assert [one for one in said if one not in section] == []
    assert [one for one in unsaid if one in section] == []


@pytest.mark.parametrize("case", CASES)
def test_anonymous_is_the_name_of_a_mode_and_nothing_else(case: str):
    said = re.findall(r"(.)anonym", page(CASES[case]), re.IGNORECASE)

    assert set(said) <= {"`"}


def test_it_says_when_it_ends():
    assert sections(CODEGRAPH)["When it ends"] == "- No date is stated."
    assert sections(EVERY_TYPE)["When it ends"].splitlines() == [
        "- `needs` is no longer collected from 2030-01-01 on.",
        "- Single fields end on the day that stands beside them below.",
    ]


# --- field by field -------------------------------------------------------------------------------

NAME8 = "a name of up to 8 letters, digits and `_ . : + -`"


def test_every_type_is_told_in_words():
    """`|` stands in no cell: the value with one is in quotes, as an entity."""
    rows = cells(sections(EVERY_TYPE)["`every.types`"])

    assert {name: row[1] for name, row in rows.items()} == {
        "project": "a hash: 64 digits (0-9, a-f) computed from a value that itself stays on your machine",
        "theme": f"{NAME8}; one that the program itself does not know is told as `_unknown`",
        "enum": "one of: `a`, `b b`, “c&#124;d”",
        "token": NAME8,
        "cut": f"{NAME8}; a longer one is cut",
        "label": "a name of up to 8 letters, digits, spaces and `_ . : + - / @ ( )`",
        "version": "a name of up to 32 letters, digits and `_ . : + -`",
        "int": "whole number -5 to 100",
        "wide one": "whole number from 0 up",
        "deep": "whole number up to 9",
        "number": "number -0.5 to 2.5",
        "any": "number of any size",
        "boolean": "yes or no",
        "bucket": "only the range it falls in: `<10`, `10-99`, `100+`; the number stays on your machine",
        "uuid": "an id of 32 digits and letters (a UUID)",
        "hash": "a hash: `h-x_` and 8 digits (0-9, a-f) computed from a value that itself stays on your machine",
        "error": "the name of a kind of error, up to 12 letters, digits and `_`; never the error's message",
        "detail": "free text of up to 20 characters with what looks like a secret, an absolute path or an e-mail address taken out; none unless the variable `EVERY_DETAIL` allows it",
        "tokens": "up to 3 of these: a name of up to 4 letters, digits and `_ . : + -`",
        "ints": "up to 2 of these: whole number 0 to 4",
        "enums": "up to 3 of these: one of: `x`, `y`",
        "records": "up to 2 of these: an entry with `driver`: a name of up to 4 letters, digits and `_ . : + -`; `demo` (when known): yes or no",
        "flags": "which of up to 2 were there, never their values; each name is a name of up to 4 letters, digits and `_ . : + -`",
        "parts": "which of up to 32 were there, never their values; each name is one of: `p`, `q`",
    }  # fmt: skip


def test_a_field_is_told_with_what_it_is_whether_it_is_there_and_until_when():
    said = sections(EVERY_TYPE)

    assert cells(said["`needs`"]) == {
        "must": ["Must.", "a name of up to 64 letters, digits and `_ . : + -`", "always", "—"],
        "may": ["May.", "a name of up to 64 letters, digits and `_ . : + -`", "when known", "—"],
        "ends": ["Ends.", "a name of up to 64 letters, digits and `_ . : + -`", "always", "until 2028-01-01"],
        "rate": ["The share of processes that record this event, so that it can be weighted.", "number 0 to 1", "always", "—"],
    }  # fmt: skip
    assert cells(said["`sums`"]) == {
        "theme": ["A theme.", f"{NAME8}; one that the program itself does not know is told as `_unknown`", "when known", "—"],
        "tool name": ["Tool.", NAME8, "always", "—"],
        "wide": ["Wide.", "yes or no", "when known", "—"],
        "count": ["how often it happened", "whole number from 0 up", "always", "—"],
        "bytes": ["a number that is added up", "whole number 0 to 1000", "always", "—"],
        "errors": ["a number that is added up", "whole number from 0 up", "always", "—"],
    }  # fmt: skip
    assert cells(said["Sent along with everything"])["level"] == [
        "A level.", "whole number 0 to 9", "when known", "until 2029-01-01",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("event", "said"),
    [
        ("`every.types`", "Told one by one with its time, at most once in each run of the program."),
        ("`needs`", "Told one by one with its time. Only a share is recorded: 10 % of all runs of the program, drawn by lot when it starts. Until 2030-01-01."),
        ("`sums`", "Counted per day: one row for each different combination of what stands below."),
    ],
)  # fmt: skip
def test_an_event_is_told_with_how_it_is_told(event: str, said: str):
    assert sections(EVERY_TYPE)[event].split("\n\n")[1] == said


def test_once_on_a_machine_and_a_share_of_all_are_said_as_they_are():
    told = sections(
        EVERY_TYPE, ('once = "process"', 'once = "machine"'), ("sample = 0.1", "sample = 1")
    )

    assert "at most once on each machine." in told["`every.types`"]
    assert "share is recorded" not in told["`needs`"]


def test_what_the_request_says_beside_the_fields_is_said_for_both_protocols():
    assert "The name `every-type`, the version of this list (7)" in page(EVERY_TYPE)
    assert "the version of this list" not in page(INLINE["posthog"])


def test_a_table_of_nothing_says_so():
    head, _ = EVERY_TYPE.split("[envelope]")
    bare = f'{head}[events.ping]\nkind = "event"\nabout = "A ping."\n'

    assert sections(bare)["`ping`"].endswith("\n\nNothing else.")
    assert sections(bare)["Sent along with everything"].endswith("and:\n\nNothing else.")


@pytest.mark.parametrize("case", CASES)
def test_nothing_that_the_contract_lists_is_missing(case: str):
    contract = parsed(CASES[case])
    told = sections(CASES[case])

    assert set(cells(told["Sent along with everything"])) == {
        one.wire_name or name for name, one in contract.envelope.items()
    }
    for event in contract.events.values():
        section = told[f"`{event.wire_name or event.name}`"]
        listed = [one.wire_name or name for name, one in event.fields.items()]
        measures = event.measures if isinstance(event, Rollup) else ()
        assert list(cells(section)) == [*listed, *measures]
        assert section.startswith(event.about)
    assert page(CASES[case]) == page(CASES[case])


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(1, "1 second"), (1.5, "1.5 seconds"), (60, "1 minute"), (5400, "90 minutes"), (86400, "1 day"), (172800, "2 days")],
)  # fmt: skip
def test_a_length_of_time_is_told_in_its_largest_whole_unit(seconds: float, said: str):
    assert span(seconds) == said


# --- whatever the texts are -----------------------------------------------------------------------

_CODE = re.compile(r"`[^`]*`")


def shape(text: str) -> list[str]:
    """What each line of a page is: a heading, an item, a row of so many cells, a text, or nothing."""
    shapes = []
    for line in text.split("\n"):
        bare = _CODE.sub("code", line)
        assert "`" not in bare, line
        start = re.match(r"#+ |- |> |\||<!--|", line)
        assert start is not None
        cells = len(re.findall(r"\|", bare))
        if not start[0] and line:
            assert re.match(r"\d+[.)]|[-+=*_#>~\s]", line) is None, line
        assert start[0] == "|" or cells == 0, line
        shapes.append(f"{start[0]}{cells}" if line else "")
    return shapes


def assert_inert(line: str) -> None:
    """Outside of code, no tag, link, emphasis, cell or entity that we did not write."""
    bare = re.sub(r"<https?://[^<>\s]+>", "", _CODE.sub("", line))
    bare = re.sub(r"&(amp|lt|gt|#124|#92|#96);", "", bare)
    assert re.search(r"[<>&|`]", bare) is None, line
    assert re.search(r"(?<!\\)[*\[\]~$]", bare) is None, line
    assert re.search(r"\\(?![*\[\]~$_#+=.)-])", bare) is None, line


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(texts=HOSTILE_TEXTS)
@example(texts=["|"] * 12)
@example(texts=["`|`"] * 12)
@example(texts=["\\"] * 12)
def test_no_text_of_a_contract_changes_the_shape_of_the_page(texts: list[str]):
    contract = hostile(texts)
    text = render_document(contract, "x.toml")

    assert shape(text) == shape(render_document(hostile(["word"] * 12), "x.toml"))
    for line in text.split("\n")[1:]:
        if line.startswith(("# ", "> ")) or not line.startswith(("#", "|", "-")):
            assert_inert(re.sub(r"^[#>] ", "", line).replace("*pseudonymous*", ""))


@settings(max_examples=300, deadline=None)
@given(text=HOSTILE)
@example(text="1. a")
@example(text="-")
@example(text="a_b _c_")
@example(text="\\|")
def test_a_text_stands_for_itself_and_nothing_else(text: str):
    for said in (plain(text), code(text), link(text)):
        assert "\n" not in said
        assert_inert(said)
        assert re.match(r"\d+[.)]|[-+=#>]", said) is None, said


@given(text=HOSTILE | st.text())
def test_what_is_escaped_reads_as_it_was_written(text: str):
    """The same with every escape undone: nothing is lost, nothing is added."""
    undone = re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", plain(text))
    for entity, sign in (("#124", "|"), ("#92", "\\"), ("#96", "`"), ("lt", "<"), ("gt", ">"), ("amp", "&")):  # fmt: skip
        undone = undone.replace(f"&{entity};", sign)

    assert undone == " ".join(text.split())


@pytest.mark.parametrize("name", ["a-->b", "a--!>b", "a\nb", "a>b", "é -- x"])
def test_no_name_of_a_file_ends_the_comment(name: str):
    first, *rest = render_document(parsed(EVERY_TYPE), name).split("\n")

    assert first.count(">") == 1
    assert first.endswith('by "tallyd contract docs"; do not edit -->')
    assert rest[0] == ""

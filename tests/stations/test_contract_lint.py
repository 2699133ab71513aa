"""What a careful maintainer would mend is found, with its line, and nothing else is."""

from __future__ import annotations

import pytest
from support.inline_contracts import EVERY_TYPE, INLINE, changed, parsed
from support.processes import ROOT
from tallyd.contract.lint import Finding, findings

TODAY = "2026-11-20"
CLEAN = (ROOT / "docs" / "contracts.md").read_text().split("```toml\n")[1].split("```")[0]
_SPRIG = "https://telemetry.sprig.example/v1/events"
_HERE = "http://127.0.0.1:8787/v1/events"
_DETAILS = 'details = "https://sprig.example/TELEMETRY.md"'
_ENV = 'env = [{ name = "SPRIG_TELEMETRY", off = ["0", "false", "no", "off"], on = ["1", "true", "yes", "on"] }]'
_THEME = ', about = "The theme, when it is one of Sprig\'s own."'
_FILES = ', about = "Files in it."'
_TEXT = 'text = ["the text of pages", "file names", "addresses of sites"]'
_NOTICE = "Sprig collects pseudonymous usage counts. Turn off: {off_command}. Details: {details}"


def found(text: str) -> list[Finding]:
    return findings(parsed(text), "telemetry.toml", TODAY)


def test_a_clean_contract_has_no_findings():
    assert found(CLEAN) == []


def test_a_finding_is_said_like_an_error_of_the_parser():
    (finding,) = found(changed(CLEAN, ("retention_days = 90", "")))

    assert str(finding) == (
        f"telemetry.toml:{finding.line}: advice: endpoint.retention_days: is not stated; "
        "write how many days the receiver keeps what it gets"
    )
    assert (finding.is_error, finding.as_dict()["line"]) == (False, finding.line)
    assert set(finding.as_dict()) == {"file", "line", "severity", "key", "problem", "hint"}
    (error,) = found(changed(CLEAN, (_TEXT, "")))
    assert error.is_error


# (old text, new text, severity, key, text on the line that is named, part of problem or hint)
WRONG = [
    ('about = "Sprig counts how it is used, to see which themes to keep and where builds fail."', "", "error", "product.about", "[product]", "why you collect"),
    (_DETAILS, 'details = "ask us"', "error", "product.details", "details = ", "leads nowhere"),
    ("retention_days = 90", "", "advice", "endpoint.retention_days", "[endpoint]", "is not stated"),
    (f'url = "{_SPRIG}"', f'url = "{_HERE}"', "advice", "endpoint.url", "url = ", "user's own machine"),
    ('grace = "24h"', 'grace = "0s"', "error", "consent.grace", "grace = ", "the default is on"),
    ('do_not_track = "set"', 'do_not_track = "ignore"', "advice", "consent.do_not_track", "do_not_track", "is not looked at"),
    (_ENV, "", "advice", "consent.env", "[consent]", "names no variable"),
    (" Turn off: {off_command}.", "", "error", "consent.notice", "notice = ", "put {off_command} into it"),
    (" Details: {details}", "", "error", "consent.notice", "notice = ", "put {details} into it"),
    ("pseudonymous", "anonymous", "error", "consent.notice", "notice = ", "say pseudonymous"),
    ("pseudonymous", "Anonymized", "error", "consent.notice", "notice = ", "say pseudonymous"),
    (_TEXT, "", "error", "never.text", "[never]", "is empty"),
    (_FILES, "", "error", "events.site_created.properties.files.about", "properties.files", "TELEMETRY.md shows it"),
    (_THEME, "", "error", "fields.theme.about", "theme = {", "TELEMETRY.md shows it"),
    (', about = "The operating system, as in linux."', "", "error", "envelope.os.about", "os = {", "is missing"),
    ('expires = "2028-01-01"', f'expires = "{TODAY}"', "advice", "events.site_created.expires", "expires = ", f"was {TODAY}"),
    (_FILES, f'{_FILES}, expires = "2026-01-01"', "advice", "events.site_created.properties.files.expires", "properties.files", "was 2026-01-01"),
    ('values = ["command", "watch"]', 'values = ["command"]', "advice", "events.builds.dimensions.trigger.values", "dimensions.trigger", "has one value"),
    ('once = "machine"', "sample = 0", "advice", "events.site_created.sample", "sample = 0", "records nothing"),
    ('type = "bucket", edges = [10, 100], labels = ["<10", "10-99", "100+"]', 'type = "redacted", optional = true, switch = "S"', "advice", "events.site_created.properties.files", "properties.files", "is free text"),
    ('type = "bucket", edges = [10, 100], labels = ["<10", "10-99", "100+"]', 'type = "list", of = "record", max_items = 2, fields = { a = { type = "int" }, b = { type = "int", about = "B." } }', "error", "events.site_created.properties.files.fields.a.about", "properties.files", "is missing"),
    ('once = "machine"', 'groups = ["site"]\n[groups]\nsite = { type = "hash", about = "It." }\n[events.x]\nkind = "event"\nabout = "X."\n', "advice", "groups.site", "site = {", "is a group"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "severity", "key", "line_of", "said"), WRONG)
def test_what_is_to_be_mended_is_found_on_its_line(
    old: str, new: str, severity: str, key: str, line_of: str, said: str
):
    text = changed(CLEAN, (old, new))
    (finding,) = found(text)

    assert (severity, key, said in f"{finding.problem}; {finding.hint}") == (
        finding.severity,
        finding.key,
        True,
    ), finding
    assert line_of in text.split("\n")[finding.line - 1]


def test_a_long_notice_is_measured_as_it_is_shown():
    """220 characters are three lines of a terminal at most; the last one that is let through is 220."""
    shown = len(_NOTICE.replace("{off_command}", "sprig telemetry off")) - len("{details}")
    room = 220 - shown - len("https://sprig.example/TELEMETRY.md")

    assert found(changed(CLEAN, (_NOTICE, _NOTICE + "x" * room))) == []
    (finding,) = found(changed(CLEAN, (_NOTICE, _NOTICE + "x" * (room + 1))))
    assert (finding.severity, finding.problem) == (
        "advice",
        "has 221 characters once it is filled in",
    )


def test_an_off_command_that_does_nothing_is_an_error():
    text = changed(
        CLEAN,
        ('do_not_track = "set"', 'do_not_track = "ignore"'),
        ('off_command = "sprig telemetry off"\n', ""),
    )

    assert [(one.severity, one.key) for one in found(text)] == [
        ("error", "consent.off_command"),
        ("advice", "consent.do_not_track"),
    ]


def test_a_demonstration_may_send_to_its_own_machine_at_once():
    text = changed(
        CLEAN,
        (_SPRIG, _HERE),
        ('grace = "24h"', 'grace = "0s"'),
        ('name = "sprig"', 'name = "sprig-demo"'),
    )

    assert found(text) == []


@pytest.mark.parametrize("details", ["docs/page.md", "TELEMETRY.md", "http://sprig.example", "/p"])
def test_details_may_be_an_address_or_a_path(details: str):
    assert found(changed(CLEAN, (_DETAILS, f'details = "{details}"'))) == []


def test_a_mode_without_an_id_may_be_called_anonymous():
    text = changed(INLINE["anonymous"], ("Every type: {off", "Every type, anonymous: {off"))

    assert [one.key for one in found(text) if "anonymous" in one.problem] == []


def test_a_group_for_posthog_is_no_finding():
    assert "is a group" not in [one.problem for one in found(INLINE["posthog"])]


def test_what_several_events_share_is_found_once_and_all_is_in_the_order_of_the_file():
    text = changed(
        CLEAN,
        (_THEME, ""),
        (_FILES, ""),
        ("retention_days = 90", ""),
        ('about = "Sprig counts how it is used, to see which themes to keep and where builds fail."', ""),
    )  # fmt: skip

    assert [one.key for one in found(text)] == [
        "product.about",
        "endpoint.retention_days",
        "fields.theme.about",
        "events.site_created.properties.files.about",
    ]


def test_the_rate_of_a_sampled_event_needs_no_words():
    assert [one for one in found(EVERY_TYPE) if "rate" in one.key] == []

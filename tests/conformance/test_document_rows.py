"""Rows T1 to T4 of the acceptance table: what a user can read, and that it keeps up with the code."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from support.gateway import Gateway, batch, rollup
from support.machine import SYSTEMS, contract_named, with_changes
from support.processes import CONTRACTS, ROOT
from tallyd.contract import parse_contract
from tallyd.contract.document import render_document
from tallyd.contract.json_schema import schema_of


def _page(name: str) -> str:
    return render_document(contract_named(name), f"{name}.toml")


def _tallyd(monkeypatch: pytest.MonkeyPatch, home: Path, *words: object) -> int:
    """The exit code of `tallyd contract …`."""
    from tallyd.cli import main

    monkeypatch.setenv("TALLYD_HOME", str(home))
    with pytest.raises(SystemExit) as ended:
        main(["contract", *map(str, words)])
    return int(ended.value.code or 0)


def test_t01_the_page_lists_every_field_and_is_made_from_the_allowlist(
    home: Path, monkeypatch: pytest.MonkeyPatch
):
    for name in SYSTEMS:
        contract, page = contract_named(name), _page(name)
        assert len(page.split("## Everything that can be collected")) == 2
        listed = page.split("## Everything that can be collected")[1]
        sections = dict(re.findall(r"(?ms)^### `(\w+)`\n(.*?)(?=^### |\Z)", listed))
        assert set(sections) == set(contract.events), name
        for event, one in contract.events.items():
            rows = set(re.findall(r"(?m)^\| `(\w+)`", sections[event]))
            assert set(one.fields) <= rows, (name, event)
        envelope = listed.split("### `")[0] + listed.split("### Sent along with everything")[1]
        for field in contract.envelope:
            assert f"`{field}`" in envelope, (name, field)

    # Ours lies in the repository, and is stale as soon as one word of the list is another.
    own = home / "tallyd.toml"
    text = (CONTRACTS / "tallyd.toml").read_text()
    pages = []
    for changes in ((), (("The version of tallyd.", "Another version."),)):
        own.write_text(with_changes(text, *changes))
        words = ("docs", own, "-o", ROOT / "TELEMETRY.md", "--check")
        pages.append(_tallyd(monkeypatch, home, *words))
    assert pages == [0, 1]


def test_t02_the_page_lists_what_is_never_collected(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    for name in SYSTEMS:
        contract, page = contract_named(name), _page(name)
        section = page.split("## What is never collected")[1].split("\n## ")[0]
        assert re.findall(r"(?m)^- (.*)$", section) == list(contract.never), name
        assert "IP addresses" in " ".join(contract.never)

    # Without such a list a contract is to be mended.
    text = (CONTRACTS / "tallyd.toml").read_text()
    without = home / "without.toml"
    without.write_text(text[: text.index("[never]")])
    _tallyd(monkeypatch, home, "check", without)
    assert "never" in capsys.readouterr().out


def test_t03_the_page_says_how_long_it_is_kept_or_that_nobody_said():
    said = {}
    for name in SYSTEMS:
        section = _page(name).split("how long it is kept")[1].split("\n## ")[0]
        said[name] = [one for one in section.splitlines() if "kept there" in one]

    days = ["- It is kept there for 90 days."]
    unsaid = ["- How long it is kept there is not stated."]
    assert said == {
        "ktx-v1": days,
        "ktx-v2": days,
        "dot-ai": unsaid,
        "pipelex": unsaid,
        "codegraph": days,
        "tallyd": days,
    }


@pytest.mark.slow
def test_t04_page_constants_schema_gateway_and_version_change_together(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """One more value in the contract: each of what is made from it is stale until it is made again."""
    old, file = home / "old.toml", home / "codegraph.toml"
    text = (CONTRACTS / "codegraph.toml").read_text()
    wider = ('"cli_command"]', '"cli_command", "hook"]')
    raised = ("schema_version = 2", "schema_version = 3")
    old.write_text(text)
    made = (
        ("docs", file, "-o", home / "TELEMETRY.md"),
        ("build", file, "--python", home / "_telemetry.py"),
        ("schema", file, "-o", home / "schema.json"),
    )

    def codes(*more: str) -> list[int]:
        return [_tallyd(monkeypatch, home, *words, *more) for words in made]

    found = []
    for changes in ((), (wider,), (wider, raised)):
        file.write_text(with_changes(text, *changes))
        found.append((codes("--check"), codes(), codes("--check")))
        found.append(_tallyd(monkeypatch, home, "diff", old, file))
    stale, good = [1, 1, 1], [0, 0, 0]
    assert found == [(stale, good, good), 0, (stale, good, good), 1, (stale, good, good), 0]
    assert "raise it" in capsys.readouterr().err

    # And a gateway that was not told takes out what it does not list.
    hook = batch(rollup(), rollup("hooked"))
    hook["events"][1]["props"]["kind"] = "hook"  # type: ignore[index]
    with Gateway.open(home / "gateway.db", "codegraph") as gateway:
        assert (gateway.post(hook).status, gateway.counted()) == (204, {"explore": 1})
    schemas = [schema_of(parse_contract(one.read_bytes(), "")) for one in (old, file)]
    stored = json.loads((home / "schema.json").read_text())
    Draft202012Validator.check_schema(stored)
    assert (stored == schemas[1], stored == schemas[0]) == (True, False)


def test_t04_each_release_says_what_it_collects():
    text = (ROOT / "CHANGELOG.md").read_text()
    releases = re.split(r"(?m)^## ", text)[1:]

    assert releases
    assert [one.splitlines()[0] for one in releases if "\n### Collected\n" not in one] == []
    assert "docs/conformance.md" in (ROOT / "README.md").read_text()

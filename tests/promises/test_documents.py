"""The documents say what the program does: commands, keys, codes, tables and links."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest
from support.processes import ROOT, environ_of, run
from tallyd import exits, limits, losses, runs, usage
from tallyd_ingest import cli as ingest_cli
from tallyd_ingest import limits as ingest_limits
from tallyd_ingest.app import make_app

_README = (ROOT / "README.md").read_text()
_DOCUMENTS = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "client_stub" / "python" / "README.md",
]


@pytest.mark.slow
@pytest.mark.parametrize("document", _DOCUMENTS, ids=lambda one: one.name)
def test_every_link_to_a_file_leads_to_one(document):
    targets = re.findall(r"\]\(([^)#]+)\)", document.read_text())
    missing = [
        target
        for target in targets
        if not target.startswith("http") and not (document.parent / target).exists()
    ]

    assert missing == []


@pytest.mark.slow
def test_every_command_that_the_readme_names_exists(home):
    named = {
        match[1]
        for text in _code(_README)
        if (match := re.match(r"tallyd ((?:contract )?[a-z]+)", text))
    }
    codes = {
        command: run(
            "tallyd", *command.split(), "--help", environ=environ_of(home), check=False
        ).returncode
        for command in named
    }

    assert {"run", "status", "flush", "show", "preview", "demo"} <= named
    assert set(codes.values()) == {0}, codes


def test_every_target_that_the_documents_name_is_in_the_makefile():
    makefile = (ROOT / "Makefile").read_text()
    for text in (_README, (ROOT / "CONTRIBUTING.md").read_text()):
        named = {match[1] for one in _code(text) if (match := re.match(r"make ([a-z]+)", one))}
        assert named
        assert {one for one in named if not re.search(rf"^{one}:", makefile, re.MULTILINE)} == set()


def test_the_exit_codes_of_the_gateway_are_the_daemons():
    """The gateway imports nothing of the daemon but the contract, so it says them again."""
    gateway = {name: code for name, code in vars(ingest_cli).items() if name.startswith("EXIT_")}
    daemon = {
        "EXIT_USAGE": exits.USAGE,
        "EXIT_UNAVAILABLE": exits.UNAVAILABLE,
        "EXIT_STATE": exits.STATE,
        "EXIT_OUTPUT": exits.OUTPUT,
        "EXIT_CONFIG": exits.CONFIG,
        "EXIT_INTERRUPTED": exits.INTERRUPTED,
    }

    assert gateway == daemon


def test_every_exit_code_stands_in_one_table_once_and_nowhere_else_as_a_number():
    """README's and the manual page's tables are rendered from it (`test_completions`)."""
    codes = [one.code for one in exits.TABLE]
    named = {code for name, code in vars(exits).items() if name.isupper() and code.__class__ is int}
    ends = re.compile(
        r"(?:exit|_exit|leave|SystemExit)\(\d|\bEXIT_\w+\b.*= \d|exit_code(?:: .*)? = [1-9]"
    )
    elsewhere = [
        f"{file.name}: {line.strip()}"
        for file in sorted((ROOT / "daemon").rglob("*.py"))
        for line in file.read_text().splitlines()
        if ends.search(line) and "leave(0)" not in line
    ]

    assert (codes, elsewhere) == (sorted(named), [])


def test_every_command_that_the_table_of_exit_codes_names_exists():
    words = {one.words for one in usage.COMMANDS}
    words |= {one.partition(" ")[0] for one in words}

    assert {one for row in exits.TABLE for one in row.of} - words == set()


def test_the_spool_document_names_the_numbers_of_the_code():
    spool = (ROOT / "docs" / "spool.md").read_text()
    for number, text in (
        (limits.DELTA_MAX_BYTES, "64 KiB"),
        (limits.DELTA_MAX_DEPTH, "8 levels"),
        (limits.DELTA_NAME_MAX_CHARS, "96 characters"),
        (limits.MERGE_BATCH_FILES, "1,024 files"),
        (limits.DELTA_ID_DAYS, "32 days"),
        (limits.QUARANTINE_MAX_FILES, "100 files and 2 MiB"),
        (limits.LEFTOVER_S, "an hour"),
    ):
        assert text in spool, text
        leading = float(re.sub(r"[^0-9.]", "", text.split()[0]) or 1)
        assert number in {leading, leading * 1024, leading * 3600}, text


def test_the_stubs_caps_are_those_of_the_spool_document():
    program = (
        "from tallyd_client import _drop as d; print(d._CAP_FILES, d._CAP_BYTES, d._LOOK_ONE_IN)"
    )
    said = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert said.stdout.split() == ["2048", str(2 * 1024 * 1024), "64"]
    spool = (ROOT / "docs" / "spool.md").read_text()
    assert all(text in spool for text in ("2,048 files or 2 MiB", "one drop in 64"))


def test_the_wire_document_names_every_path_and_number_of_the_gateway(tmp_path):
    wire = (ROOT / "docs" / "wire.md").read_text()
    paths = {route.path for route in make_app({}, None, lambda: 0.0).routes}  # type: ignore[arg-type]

    assert {path for path in paths if f"{path}`" not in wire} == set()
    assert (ingest_limits.BODY_MAX_BYTES, ingest_limits.EVENTS_MAX) == (64 * 1024, 100)
    assert all(
        text in wire
        for text in ("64 KiB", "100 events", "30 days back to 10 minutes ahead", "32 days")
    )


def test_words_that_travel_or_are_kept_are_never_changed():
    """They are in databases and on the wire already: a rename is a new word beside the old one."""
    assert {one.name: one.value for one in runs.StopReason} == {
        "SIGNAL": 1,
        "REQUEST": 2,
        "IDLE": 3,
        "CRASH": 4,
        "UNCLEAN": 5,
    }
    assert sorted(losses.Cause) == [
        "age",
        "cap",
        "error",
        "future",
        "malformed",
        "refused",
        "screened",
        "unanswered",
    ]


def test_nothing_in_the_project_names_a_registry_or_a_machine():
    hosts = ["py" + "pi.org", "python" + "hosted", "npm" + "js", "deb.deb" + "ian"]
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split()
    if not tracked:
        pytest.skip("not a git checkout")
    found = {
        name: host
        for name in tracked
        for host in hosts
        if host in (ROOT / name).read_text(encoding="utf-8", errors="replace")
    }

    assert found == {}


def test_a_pin_has_a_hash_and_the_runtime_needs_what_the_package_says():
    for file in (ROOT / "requirements").glob("*.txt"):
        pins = re.findall(
            r"^[a-z0-9].*?(?=^[a-z0-9]|\Z)", file.read_text(), re.MULTILINE | re.DOTALL
        )
        assert [pin for pin in pins if "--hash=sha256:" not in pin] == [], file.name
    pyproject = (ROOT / "pyproject.toml").read_text()
    for line in (ROOT / "requirements" / "runtime.in").read_text().split():
        assert f'"{line}>=' in pyproject


def _code(text: str) -> list[str]:
    """What stands in backticks: each line of a block, and each piece within a sentence."""
    blocks = re.findall(r"```[a-z]*\n(.*?)```", text, re.DOTALL)
    lines = [line.strip() for block in blocks for line in block.splitlines()]
    return [*lines, *re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))]


def test_the_vectors_are_json():
    for file in (ROOT / "tests" / "vectors").glob("*.json"):
        json.loads(file.read_text())

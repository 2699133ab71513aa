"""The commands about contracts, as a maintainer runs them: what they print, write and exit with."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from support.processes import CONTRACTS, ROOT, environ_of, run, tallyd
from tallyd.contract import parse_contract
from tallyd.contract.build import built

CODEGRAPH = CONTRACTS / "codegraph.toml"
GOOD = CODEGRAPH.read_text()
WIDER = GOOD.replace('"cli_command"]', '"cli_command", "hook"]')
RAISED = WIDER.replace("schema_version = 2", "schema_version = 3")


def _command(home: Path, *arguments: str) -> tuple[int, str, str]:
    done = run("tallyd", "contract", *arguments, environ=environ_of(home), check=False)
    return done.returncode, done.stdout, done.stderr


def _file(home: Path, text: str, name: str = "telemetry.toml") -> str:
    (home / name).write_text(text)
    return str(home / name)


def test_check_names_file_line_and_key_of_what_to_mend_and_exits_1_for_an_error(home):
    text = GOOD.replace(', about = "Where it was installed."', "")
    about = next(one for one in GOOD.splitlines() if one.startswith("properties.scope"))
    text = GOOD.replace(about, about.partition(", about")[0] + " }")
    assert text != GOOD
    file = _file(home, text)
    line = text.splitlines().index(about.partition(", about")[0] + " }") + 1
    code, out, _ = _command(home, "check", file)
    as_json: list[dict[str, Any]] = json.loads(_command(home, "check", file, "--json")[1])

    assert (code, f"{file}:{line}: error: events.install.properties.scope.about" in out) == (
        1,
        True,
    ), out
    assert [one["line"] for one in as_json if one["severity"] == "error"] == [line]


def test_check_of_every_contract_of_ours_finds_no_error(home):
    codes = {file.stem: _command(home, "check", str(file))[0] for file in CONTRACTS.glob("*.toml")}

    assert {name: code for name, code in codes.items() if code} == {}


@pytest.mark.parametrize("command", ["check", "docs", "schema", "add"])
def test_a_contract_that_is_wrong_is_told_with_file_line_and_key_and_never_a_traceback(
    home, command
):
    file = _file(home, GOOD.replace('busy = "final"', 'busy = "maybe"'))
    line = GOOD.splitlines().index('busy = "final"') + 1
    code, out, err = _command(home, command, file)

    assert (code, out, err.startswith(f"tallyd: {file}:{line}: endpoint.busy: ")) == (
        78,
        "",
        True,
    ), err


@pytest.mark.parametrize(
    ("new", "code", "says"),
    [
        (GOOD, 0, "both collect the same"),
        (WIDER, 1, "collects more:"),
        (RAISED, 0, "collects more:"),
        (GOOD.replace(', "cli_command"]', "]"), 0, "it takes effect at once"),
    ],
)
def test_diff_says_in_words_what_is_more_and_wants_the_version_raised(home, new, code, says):
    found, out, err = _command(home, "diff", str(CODEGRAPH), _file(home, new))

    assert (code, says in out, "raise it" in err) == (found, True, code == 1)


def test_diff_for_programs_says_the_same(home):
    code, out, _ = _command(home, "diff", str(CODEGRAPH), _file(home, WIDER), "--json")
    said = json.loads(out)

    assert (
        code,
        said["needs_notice"],
        said["schema_version_raised"],
        [one["kind"] for one in said["changes"]],
    ) == (1, True, False, ["more"])
    assert "hook" in said["changes"][0]["words"]


def test_build_writes_the_constants_and_check_fails_once_they_are_stale(home):
    file, module = _file(home, GOOD), str(home / "_telemetry.py")
    codes = [_command(home, "build", file, "--python", module, "--check")[0]]
    codes.append(_command(home, "build", file, "--python", module)[0])
    codes.append(_command(home, "build", file, "--python", module, "--check")[0])
    constants = runpy.run_path(module)["CONTRACT"]
    _file(home, WIDER)
    code, _, err = _command(home, "build", file, "--python", module, "--check")

    assert (codes, code) == ([1, 0, 0], 1)
    assert f"tallyd contract build {file} --python {module}" in err
    assert constants == built(parse_contract(GOOD.encode(), file))


def test_a_packager_can_build_constants_that_are_off(home):
    module = str(home / "_telemetry.py")
    _command(home, "build", str(CODEGRAPH), "--python", module, "--off")

    assert runpy.run_path(module)["CONTRACT"]["off"] is True


def test_schema_prints_a_json_schema_and_docs_a_page(home):
    schema = json.loads(_command(home, "schema", str(CODEGRAPH))[1])
    page = _command(home, "docs", str(CODEGRAPH))[1]
    Draft202012Validator.check_schema(schema)

    assert page.startswith('<!-- rendered from codegraph.toml by "tallyd contract docs"')


def test_a_registered_product_may_stand_for_its_file_and_list_names_them(home):
    tallyd(home, "contract", "add", str(CODEGRAPH))
    (home / "config" / "contracts" / "broken.toml").write_text("contract = 2")
    listed = json.loads(_command(home, "list", "--json")[1])
    text = _command(home, "list")[1]

    assert [(one["product"], bool(one["problem"])) for one in listed] == [
        ("broken", True),
        ("codegraph", False),
    ]
    assert all(one in text for one in ("codegraph", "broken: "))
    assert _command(home, "docs", "codegraph")[1].startswith("<!-- rendered from codegraph")
    assert _command(home, "docs", "nobody")[0] == 78


def test_list_of_nothing_says_what_to_do(home):
    assert "tallyd contract add FILE" in _command(home, "list")[1]


@pytest.mark.parametrize(
    "arguments",
    [
        ("docs", str(CODEGRAPH), "--check"),
        ("build", str(CODEGRAPH)),
        ("schema", str(CODEGRAPH), "--check"),
    ],
)
def test_what_to_write_or_compare_must_be_named(home, arguments):
    assert _command(home, *arguments)[0] == 64


def test_a_place_that_cannot_be_written_is_told(home):
    code, _, err = _command(home, "docs", str(CODEGRAPH), "-o", str(home / "no" / "where.md"))

    assert (code, "No such file or directory" in err, "Traceback" in err) == (73, True, False)


def test_telemetry_md_is_what_tallyds_own_contract_says(home):
    """The page that a user reads and the list that the program obeys are one."""
    code, _, err = _command(
        home, "docs", str(CONTRACTS / "tallyd.toml"), "-o", str(ROOT / "TELEMETRY.md"), "--check"
    )

    assert (0, "as the contract says" in err) == (code, True), err


def test_adding_a_wider_contract_says_what_is_more_and_shows_its_notice(home):
    tallyd(home, "contract", "add", str(CODEGRAPH))
    tallyd(home, "on", "codegraph")
    code, out, err = _command(home, "add", _file(home, WIDER))

    assert (code, "collects more:" in out, "hook" in out) == (0, True, True)
    assert err.startswith("codegraph collects pseudonymous")

"""State files that a product already has: their id, choice, format and other keys stay their own."""

from __future__ import annotations

import json
import tomllib
import uuid
from pathlib import Path
from typing import Any

import pytest
from support.clock import DAY_S, NOON
from support.pipeline import Pipeline
from support.processes import CONTRACTS, ROOT
from tallyd import choices
from tallyd.choices import ChoiceFile
from tallyd.contract import Contract, parse_contract
from tallyd.contract.consent import Choice
from tallyd.contract.days import instant
from tallyd.errors import StateUnusable
from tallyd.files import replace_file

_VECTORS = ROOT / "tests" / "vectors"
_KTX = json.loads((_VECTORS / "ktx_identity.json").read_text())
_TOML = """\
# Mine.
telemetry_mode = "anonymous"  # for now
host = "https://posthog.example.invalid"
redact = [
  "prompt",
  "url",
]
user_id = "user-41"

[later]
key = 1
"""


def contract_of(name: str) -> Contract:
    file = CONTRACTS / f"{name}.toml"
    return parse_contract(file.read_bytes(), str(file))


def adopt(pipeline: Pipeline, path: str, content: str | bytes) -> Path:
    file = pipeline.home / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


def ktx(pipeline: Pipeline, **changes: Any) -> Path:
    whole = {key: value for key, value in {**_KTX, **changes}.items() if value is not None}
    return adopt(pipeline, ".ktx/telemetry.json", json.dumps(whole, indent=2) + "\n")


def read(pipeline: Pipeline, name: str) -> ChoiceFile:
    return choices.read_choice(contract_of(name), pipeline.around.paths, pipeline.environ)


def choose(pipeline: Pipeline, name: str, mode: str, now: float = NOON, **more: Any) -> ChoiceFile:
    return choices.write_choice(
        contract_of(name), pipeline.around.paths, pipeline.environ, mode=mode, now=now, **more
    )


# --- ktx: strict JSON without a date --------------------------------------------------------------


def test_an_id_that_is_there_is_kept(pipeline: Pipeline):
    ktx(pipeline)
    found = read(pipeline, "ktx-v2")

    assert (_KTX["installId"], Choice.NONE) == (found.machine_id, found.stored.choice)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"extra": 1}, "'extra'"),
        ({"machine_id": "x"}, "'machine_id'"),
        ({"enabled": "false"}, "neither true nor false"),
        ({"enabled": None}, "enabled is missing"),
        ({"installId": "host-17"}, "not a UUID"),
        ({"noticeShownAt": "yesterday"}, "not an instant"),
        ({"noticeShownVersion": "1"}, "wrong type"),
        ({"createdAt": 5}, "not an instant"),
    ],
)
def test_what_its_product_would_call_invalid_is_off_and_says_why(
    pipeline: Pipeline, changes: dict[str, Any], says: str
):
    """To ktx it would be a first run: a new id, and on."""
    ktx(pipeline, **changes)
    found = read(pipeline, "ktx-v2").stored

    assert (found.choice, says in found.problem) == (Choice.DAMAGED, True), found.problem


def test_off_leaves_a_file_that_its_product_reads_as_off_without_the_old_id(pipeline: Pipeline):
    file = ktx(pipeline)
    choose(pipeline, "ktx-v2", "off")
    after = json.loads(file.read_text())

    assert {**_KTX, "enabled": False, "installId": after["installId"]} == after
    assert (after["installId"] != _KTX["installId"], 4) == (
        True,
        uuid.UUID(after["installId"]).version,
    )
    assert file.stat().st_mode & 0o777 == 0o600
    assert Choice.OFF is read(pipeline, "ktx-v2").stored.choice


def test_on_after_off_is_another_id_than_the_one_that_stood_there_meanwhile(pipeline: Pipeline):
    ktx(pipeline)
    ids = [
        choose(pipeline, "ktx-v2", mode, now=NOON + place).machine_id
        for place, mode in enumerate(("off", "on", "off", "on"))
    ]

    assert len({*ids, _KTX["installId"]}) == 5


def test_a_choice_made_through_tallyd_has_a_date_beside_the_file(pipeline: Pipeline):
    ktx(pipeline)
    found = choose(pipeline, "ktx-v2", "on").stored

    assert (Choice.ON, instant(NOON)) == (found.choice, found.effective_from)
    assert set(json.loads((pipeline.home / ".ktx/telemetry.json").read_text())) == set(_KTX)


@pytest.mark.parametrize(("by_hand", "wanted"), [(True, Choice.NONE), (False, Choice.OFF)])
def test_what_stands_beside_a_file_counts_only_while_it_says_the_same(
    pipeline: Pipeline, by_hand: bool, wanted: Choice
):
    """An editor has the last word: beside it, the opposite was written earlier."""
    ktx(pipeline)
    choose(pipeline, "ktx-v2", "off" if by_hand else "on")
    ktx(pipeline, enabled=by_hand)
    found = read(pipeline, "ktx-v2").stored

    assert (wanted, None) == (found.choice, found.effective_from)


def test_deleting_the_file_resets_everything(pipeline: Pipeline):
    file = ktx(pipeline)
    choose(pipeline, "ktx-v2", "off")
    file.unlink()
    found = read(pipeline, "ktx-v2")

    assert (found.stored.choice, found.machine_id) == (Choice.NONE, None)


def test_a_first_id_is_written_with_every_key_that_its_product_expects(pipeline: Pipeline):
    contract = contract_of("ktx-v2")
    made = choices.ensure_id(contract, pipeline.around.paths, pipeline.environ, NOON)
    found = json.loads((pipeline.home / ".ktx/telemetry.json").read_text())

    assert found == {
        "enabled": True,
        "installId": made,
        "noticeShownAt": instant(NOON),
        "noticeShownVersion": 1,
        "createdAt": instant(NOON),
    }


def test_no_before_a_product_had_its_own_file_is_a_no_after(pipeline: Pipeline):
    """Tallyd's own file said off; then the product's contract names a file of its own."""
    own = pipeline.around.paths.choice("ktx")
    own.parent.mkdir(parents=True)
    own.write_text('{"enabled": false}')

    assert Choice.OFF is read(pipeline, "ktx-v2").stored.choice


# --- Pipelex: flat TOML with modes ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "choice", "mode"),
    [
        ('telemetry_mode = "off"', Choice.OFF, "on"),
        ('telemetry_mode = "anonymous"', Choice.ON, "anonymous"),
        ('telemetry_mode = "identified"\nuser_id = "user-41"', Choice.ON, "identified"),
        ('telemetry_mode = "identified"\nuser_id = "  "', Choice.ON, "anonymous"),
        ('telemetry_mode = "identified"', Choice.ON, "anonymous"),
        ('user_id = "user-41"', Choice.NONE, "on"),
        ("", Choice.NONE, "on"),
        ('telemetry_mode = "loud"', Choice.DAMAGED, "on"),
        ("telemetry_mode = true", Choice.DAMAGED, "on"),
        ('telemetry_mode = "off', Choice.DAMAGED, "on"),
        ("user_id = 41", Choice.DAMAGED, "on"),
    ],
)
def test_a_mode_is_read_from_toml_and_identified_needs_an_id(
    pipeline: Pipeline, line: str, choice: Choice, mode: str
):
    adopt(pipeline, ".pipelex/telemetry.toml", f"{line}\nrespect_dnt = true\n")
    found = read(pipeline, "pipelex").stored

    assert (choice, mode) == (found.choice, found.mode)


@pytest.mark.parametrize(
    ("mode", "user", "wanted"),
    [("off", "", ""), ("anonymous", "", ""), ("identified", "someone", "someone")],
)
def test_a_choice_changes_its_own_lines_of_a_toml_file_and_no_other(
    pipeline: Pipeline, mode: str, user: str, wanted: str
):
    file = adopt(pipeline, ".pipelex/telemetry.toml", _TOML)
    choose(pipeline, "pipelex", mode, user=user)

    assert file.read_text() == _TOML.replace('"anonymous"', f'"{mode}"').replace(
        '"user-41"', f'"{wanted}"'
    )
    assert tomllib.loads(file.read_text())["later"] == {"key": 1}
    assert file.stat().st_mode & 0o777 == 0o600


def test_the_date_of_a_mode_stands_beside_its_file(pipeline: Pipeline):
    adopt(pipeline, ".pipelex/telemetry.toml", _TOML)
    dated = choose(pipeline, "pipelex", "anonymous").stored.effective_from
    adopt(pipeline, ".pipelex/telemetry.toml", _TOML.replace("anonymous", "identified"))

    assert (instant(NOON), None) == (dated, read(pipeline, "pipelex").stored.effective_from)


@pytest.mark.parametrize(
    ("first", "then"), [("anonymous", "identified"), ("identified", "anonymous")]
)
def test_what_was_counted_in_one_mode_never_travels_in_the_other(
    pipeline: Pipeline, first: str, then: str
):
    pipeline.register("pipelex")
    event = ["telemetry_just_enabled", instant(NOON + 60), {"telemetry_mode": "anonymous"}]
    choose(pipeline, "pipelex", first, user="user-41")
    pipeline.clock.pass_s(120)
    from support.deltas import delta

    pipeline.drop(
        delta("pipelex", counts=[], events=[event], envelope={"pipelex_version": "1"}),
        product="pipelex",
    )
    pipeline.intake("pipelex")
    before = pipeline.read(_count_events)
    adopt(
        pipeline,
        ".pipelex/telemetry.toml",
        f'telemetry_mode = "{then}"\nuser_id = "user-41"\n',
    )
    pipeline.intake("pipelex")

    assert (before, pipeline.read(_count_events)) == (1, 0)


def _count_events(sql: Any) -> int:
    return int(sql.execute("SELECT count(*) FROM event WHERE product = 'pipelex'").fetchone()[0])


# --- whatever the format --------------------------------------------------------------------------


def test_a_damaged_file_is_kept_beside_the_choice_that_replaces_it(pipeline: Pipeline):
    file = adopt(pipeline, ".pipelex/telemetry.toml", "host = [\n")
    choose(pipeline, "pipelex", "off")

    assert (
        read(pipeline, "pipelex").stored.choice,
        file.with_name("telemetry.toml.damaged").read_text(),
    ) == (Choice.OFF, "host = [\n")


def test_a_file_that_changed_while_a_choice_was_written_is_not_undone(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
):
    file = ktx(pipeline)
    right = choices.changed

    def slow(*arguments: Any) -> bytes:
        ktx(pipeline, enabled=False)
        return right(*arguments)

    monkeypatch.setattr(choices, "changed", slow)
    with pytest.raises(StateUnusable):
        choose(pipeline, "ktx-v2", "on")

    assert json.loads(file.read_text())["enabled"] is False


def test_a_reset_makes_another_id_and_leaves_the_choice(pipeline: Pipeline):
    file = ktx(pipeline)
    contract = contract_of("ktx-v2")
    made = choices.reset_id(contract, pipeline.around.paths, pipeline.environ, NOON + DAY_S)
    after = json.loads(file.read_text())

    assert {**_KTX, "installId": made, "createdAt": instant(NOON + DAY_S)} == after
    assert made not in (None, _KTX["installId"])


def test_where_two_keys_disagree_the_stricter_one_wins(pipeline: Pipeline):
    text = (CONTRACTS / "pipelex.toml").read_text()
    start, end = text.index("[state]"), text.index("[identity]")
    contract = parse_contract((text[:start] + text[end:]).encode(), "x.toml")
    own = pipeline.around.paths.choice("pipelex")
    own.parent.mkdir(parents=True)
    own.write_text('{"enabled": false, "mode": "anonymous"}')

    found = choices.read_choice(contract, pipeline.around.paths, pipeline.environ).stored
    assert Choice.OFF is found.choice


def test_an_indent_is_kept(pipeline: Pipeline):
    file = adopt(
        pipeline,
        ".codegraph/telemetry.json",
        json.dumps({"enabled": True, "consent_source": "cli", "more": [1]}, indent=4),
    )
    choose(pipeline, "codegraph", "off")

    assert file.read_text().splitlines()[1].startswith('    "enabled": false')
    assert json.loads(file.read_text())["more"] == [1]


def test_a_first_state_file_never_takes_the_place_of_one_that_was_made_meanwhile(tmp_path):
    """A "no" between the last look and the rename was undone by the id of a first send."""
    file = tmp_path / "choice.json"

    def says_no() -> bool:
        file.write_bytes(b"no")
        return True

    with pytest.raises(StateUnusable, match="made by another program"):
        replace_file(file, b"an id", only_if=says_no, is_new=True)

    assert ([one.name for one in tmp_path.iterdir()], file.read_bytes()) == (["choice.json"], b"no")

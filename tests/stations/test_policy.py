"""Policy files: they may forbid, never permit, and what nobody understands forbids everything."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.deltas import delta
from support.pipeline import Pipeline
from tallyd import paths as paths_of
from tallyd import policy


@pytest.fixture
def machine(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the machine's policy lies; /etc is not the test's to write."""
    file = pipeline.home / "etc" / "policy.toml"
    file.parent.mkdir()
    monkeypatch.setattr(paths_of, "_MACHINE_POLICY", file)
    return file


def decided(pipeline: Pipeline) -> tuple[bool, str]:
    consent = pipeline.view().consent
    return consent.is_on, consent.decided_by


def test_the_machines_policy_lies_in_etc():
    assert Path("/etc/tallyd/policy.toml") == paths_of._MACHINE_POLICY


@pytest.mark.parametrize(
    ("text", "is_on"),
    [
        ("", True),
        ("off = false", True),
        ("off = true", False),
        ("off = []", True),
        ('off = ["codegraph"]', True),
        ('off = ["codegraph", "tallyd-demo"]', False),
        ('off = true\nexcept = ["tallyd-demo"]', True),
        ('off = true\nexcept = ["codegraph"]', False),
        ("off = true # because", False),
        ('off = ["tallyd-demo"]\nexcept = ["tallyd-demo"]', False),
    ],
)
def test_a_policy_says_off_to_all_or_to_some(pipeline: Pipeline, machine: Path, text, is_on):
    machine.write_text(text)

    assert (is_on, "default" if is_on else "machine policy") == decided(pipeline)


@pytest.mark.parametrize(
    "text",
    [b'off = "yes"', b"of = true", b"Off = true", b"[policy]\noff = true", b"off = 1", b"off = [1]", b"off =", b"\xff", b"off = true\noff = false",
     b'except = "all"', b"# " + b"x" * 70_000],
)  # fmt: skip
def test_a_policy_that_cannot_be_understood_forbids_everything_and_deletes_nothing(
    pipeline: Pipeline, machine: Path, text: bytes
):
    pipeline.drop(delta())
    machine.write_bytes(text)
    view = pipeline.view()
    pipeline.intake()

    assert (view.consent.is_on, view.consent.is_wish, pipeline.tally().new) == (False, False, 1)
    assert str(machine) in view.consent.decided_by


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo], ids=["directory", "pipe"])
def test_a_policy_that_is_no_file_forbids_everything_and_keeps_nobody_waiting(
    pipeline: Pipeline, machine: Path, make
):
    make(machine)

    assert not pipeline.view().consent.is_on


def test_an_administrators_policy_may_be_a_link(pipeline: Pipeline, machine: Path):
    (machine.parent / "fleet.toml").write_text("off = false")
    machine.symlink_to("fleet.toml")

    assert pipeline.view().consent.is_on


def test_a_link_to_nothing_and_a_place_relative_to_nobody_knows_what_forbid_everything(
    pipeline: Pipeline, machine: Path
):
    found = [pipeline.view().consent.is_on]
    pipeline.environ["TALLYD_POLICY_FILE"] = "policy.toml"
    found.append(pipeline.view().consent.is_on)
    del pipeline.environ["TALLYD_POLICY_FILE"]
    machine.symlink_to("nowhere.toml")
    found.append(pipeline.view().consent.is_on)

    assert found == [True, False, False]


def test_no_choice_and_no_variable_overrules_a_policy(pipeline: Pipeline, machine: Path):
    machine.write_text("off = true")
    pipeline.environ["TALLYD_DEMO_TELEMETRY"] = "1"
    file = pipeline.home / "state" / "consent" / "tallyd-demo.json"
    file.parent.mkdir(parents=True)
    file.write_text('{"enabled": true, "consent_source": "cli"}')

    assert decided(pipeline) == (False, "machine policy")


def test_a_file_named_by_the_environment_comes_on_top_and_replaces_none(
    pipeline: Pipeline, machine: Path
):
    """Or a user could point away from the administrator's."""
    more = pipeline.home / "more.toml"
    found = []
    for ours, theirs in (("off = true", "off = false"), ("off = false", "off = true")):
        more.write_text(ours)
        machine.write_text(theirs)
        pipeline.environ["TALLYD_POLICY_FILE"] = str(more)
        found.append(decided(pipeline))

    assert found == [(False, "policy file"), (False, "machine policy")]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("off = true", "off = true\nexcept = ['tallyd-demo']"),
        ("off = true\nexcept = ['a']", "off = true\nexcept = ['a', 'tallyd-demo']"),
        ("off = ['a', 'tallyd-demo']", "off = ['a']"),
        ("off = ['tallyd-demo']", None),
        ("off = false", "off = false"),
    ],
)
def test_a_yes_to_one_product_excepts_it_and_leaves_the_others_forbidden(
    pipeline: Pipeline, before: str, after: str
):
    paths = pipeline.around.paths
    paths.user_policy.parent.mkdir(parents=True, exist_ok=True)
    paths.user_policy.write_text(before)
    policy.permit("tallyd-demo", paths)

    kept = paths.user_policy.read_text() if paths.user_policy.exists() else None
    assert kept == (after if after is None else after.replace("'", '"') + "\n" * (before != after))
    assert ((), ("user policy",) if "true" in before else ()) == (
        policy.bans_on("tallyd-demo", paths, {}).wishes,
        policy.bans_on("b", paths, {}).wishes,
    )


def test_a_ban_by_name_and_one_on_all_keep_each_others_comments(pipeline: Pipeline):
    paths = pipeline.around.paths
    paths.user_policy.parent.mkdir(parents=True, exist_ok=True)
    paths.user_policy.write_text("# Mine.\noff = ['a'] # that one\n")
    policy.forbid("b", paths)
    by_name = [policy.bans_on(one, paths, {}).wishes for one in ("a", "b", "c")]
    policy.forbid_all(paths)
    all_of_them = [policy.bans_on(one, paths, {}).wishes for one in ("a", "c")]
    policy.permit_all(paths)

    rule = ("user policy",)
    assert ([rule, rule, ()], [rule, rule]) == (by_name, all_of_them)
    assert paths.user_policy.read_text().startswith("# Mine.\n")
    assert policy.bans_on("c", paths, {}).wishes == ()


def test_a_file_that_nobody_understands_goes_on_to_forbid_everything(pipeline: Pipeline):
    """A list of one in its place would let all others count again."""
    paths = pipeline.around.paths
    paths.user_policy.parent.mkdir(parents=True, exist_ok=True)
    paths.user_policy.write_text("of = true\n")
    policy.forbid("a", paths)
    after_one = [bool(policy.bans_on(one, paths, {}).damaged) for one in "ab"]
    policy.forbid_all(paths)

    assert (after_one, policy.bans_on("b", paths, {}).wishes) == ([True, True], ("user policy",))
    assert paths.user_policy.with_name("policy.toml.damaged").read_text() == "of = true\n"

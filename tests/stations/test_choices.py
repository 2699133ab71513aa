"""State files: adopted as they are, replaced whole, and never trusted when damaged."""

from __future__ import annotations

import json
import os
import uuid

import pytest
from support.pipeline import Pipeline
from support.processes import ROOT
from tallyd import choices
from tallyd.contract.consent import Choice
from tallyd.errors import StateUnusable

_VECTORS = ROOT / "tests" / "vectors"


def _adopt(pipeline: Pipeline, text: str | bytes) -> choices.ChoiceFile:
    contract = pipeline.register("codegraph")
    file = pipeline.home / ".codegraph" / "telemetry.json"
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return choices.read_choice(contract, pipeline.around.paths, pipeline.environ)


def test_a_file_that_the_product_already_has_keeps_its_id_and_choice(pipeline: Pipeline):
    choice = _adopt(pipeline, (_VECTORS / "codegraph_config.json").read_text())

    # "default-notice": nobody chose, so the default decides.
    assert (choice.stored.choice, choice.machine_id) == (
        Choice.NONE,
        "5d0c7a16-2f0e-4c1b-9b58-7e41d2aa9f03",
    )


def test_a_file_that_says_off_means_off_since_its_date(pipeline: Pipeline):
    choice = _adopt(pipeline, (_VECTORS / "codegraph_config_off.json").read_text())

    assert (
        choice.stored.choice,
        choice.stored.effective_from,
        choice.machine_id,
    ) == (Choice.OFF, "2026-09-22T17:03:11.004Z", None)


def test_making_an_id_keeps_unknown_keys_and_is_for_the_user_alone(pipeline: Pipeline):
    _adopt(pipeline, '{"enabled": true, "consent_source": "cli", "future": [1, 2]}')
    contract = pipeline.view("codegraph").contract

    made = choices.ensure_id(
        contract, pipeline.around.paths, pipeline.environ, pipeline.clock.now()
    )
    again = choices.ensure_id(
        contract, pipeline.around.paths, pipeline.environ, pipeline.clock.now()
    )

    file = pipeline.home / ".codegraph" / "telemetry.json"
    assert {
        "enabled": True,
        "consent_source": "cli",
        "future": [1, 2],
        "machine_id": made,
    } == json.loads(file.read_text())
    assert (made, 4, 0o600) == (again, uuid.UUID(made).version, file.stat().st_mode & 0o777)


def test_off_removes_the_id_and_on_makes_another(pipeline: Pipeline):
    contract = pipeline.view().contract
    ids = []
    for is_on in (True, False, True):
        choice = choices.write_choice(
            contract,
            pipeline.around.paths,
            pipeline.environ,
            mode="on" if is_on else "off",
            now=pipeline.clock.now(),
        )
        ids.append(choice.machine_id)

    assert (ids[1], len({ids[0], ids[2]})) == (None, 2)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"enabled": "false"}',
        b'{"enabled": 1}',
        b'{"enabled": true, "machine_id": "host-17"}',
        b'{"enabled": true, "machine_id": 5}',
        b"[" * 50_000,
        '{"enabled": true}'.encode("utf-16"),
        '{"enabled": true}'.encode("utf-32-le"),
        b'{"enabled": true}' + b" " * (64 * 1024),
    ],
)
def test_a_damaged_file_means_off_and_is_never_overwritten(pipeline: Pipeline, text):
    choice = _adopt(pipeline, text)
    view = pipeline.view("codegraph")

    with pytest.raises(StateUnusable):
        choices.ensure_id(view.contract, pipeline.around.paths, pipeline.environ, 0)

    assert (Choice.DAMAGED, False, text) == (
        choice.stored.choice,
        view.consent.is_on,
        choice.file.read_bytes(),
    )


def _link(path: str) -> None:
    os.symlink("/etc/hostname", path)


@pytest.mark.parametrize("make", [_link, os.mkdir, os.mkfifo], ids=["link", "directory", "pipe"])
def test_what_is_no_plain_file_means_off(pipeline: Pipeline, make):
    _adopt(pipeline, b"")
    file = pipeline.home / ".codegraph" / "telemetry.json"
    file.unlink()
    make(str(file))

    consent = pipeline.view("codegraph").consent

    assert (consent.is_on, consent.decided_by.startswith("stored choice (telemetry.json")) == (
        False,
        True,
    )

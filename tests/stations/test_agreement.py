"""A wider contract needs a new notice: until it was shown, only what both list is kept and sent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.clock import DAY_S, TODAY
from support.deltas import delta
from support.pipeline import Pipeline
from support.recorder import Recorder, recording
from tallyd import choices, notices
from tallyd.contract.days import shift_day

YESTERDAY = shift_day(TODAY, -1)
# What makes CodeGraph's contract wider: one more kind of use, and one more event.
_HOOK = (b'"cli_command"]', b'"cli_command", "hook"]')
_EVENT = b'\n[events.crash]\nkind = "event"\nabout = "It crashed."\n'


def _wider(text: bytes) -> bytes:
    assert text.count(_HOOK[0]) == 1
    return text.replace(*_HOOK) + _EVENT


def _agreed(pipeline: Pipeline, recorder: Recorder) -> bytes:
    """CodeGraph's contract after its notice and grace, with one delivery behind it."""
    pipeline.environ["CODEGRAPH_TELEMETRY_ENDPOINT"] = recorder.url
    contract = pipeline.register("codegraph")
    pipeline.clock.pass_s(DAY_S + 1)
    _use(pipeline, "mcp_tool")
    pipeline.deliver("codegraph")
    return contract.text


def _use(pipeline: Pipeline, *kinds: str, events: tuple[str, ...] = ()) -> None:
    """Drop one use of each kind and merge."""
    counts = [["usage_rollup", {"kind": kind, "name": "explore"}, {"count": 2}] for kind in kinds]
    told = [[name, f"{YESTERDAY}T10:00:00.000Z", {}] for name in events]
    pipeline.drop(
        delta("codegraph", day=YESTERDAY, counts=counts, events=told, envelope={}),
        product="codegraph",
    )
    pipeline.intake("codegraph")


def _arrived(recorder: Recorder) -> list[str]:
    """The kinds and events of the last batch."""
    return sorted(one["props"].get("kind", one["event"]) for one in recorder.batches[-1]["events"])


def test_until_its_notice_only_what_both_list_is_kept_and_sent(pipeline: Pipeline):
    with recording() as recorder:
        text = _agreed(pipeline, recorder)
        contract = pipeline.register("codegraph", text=_wider(text), notice=False)
        found = []
        for step in (
            lambda: None,
            lambda: notices.mark_shown(contract, pipeline.around.paths, pipeline.clock.now()),
            lambda: pipeline.clock.pass_s(DAY_S - 10),
            lambda: pipeline.clock.pass_s(20),
        ):
            step()
            _use(pipeline, "mcp_tool", "hook", events=("crash",))
            pipeline.deliver("codegraph")
            pending = pipeline.view("codegraph").pending
            found.append((_arrived(recorder), pending.reason if pending else ""))

    grace = "the grace since the notice has not passed"
    assert found == [
        (["mcp_tool"], "the notice for this contract was not shown yet"),
        (["mcp_tool"], grace),
        (["mcp_tool"], grace),
        (["crash", "hook", "mcp_tool"], ""),
    ]


def test_what_was_not_agreed_to_is_not_even_stored(pipeline: Pipeline):
    with recording() as recorder:
        text = _agreed(pipeline, recorder)
        pipeline.register("codegraph", text=_wider(text), notice=False)
        _use(pipeline, "hook", events=("crash",))

    everything = b"".join(
        file.read_bytes() for file in (pipeline.home / "state").glob("tallyd.db*")
    )
    assert (pipeline.rows("codegraph"), b'"hook"' in everything) == ([], False)


def test_what_was_counted_while_it_waited_stays_out_also_when_nobody_merged_it_then(
    pipeline: Pipeline,
):
    """No daemon ran during the grace: what lies in the spool is as old as it was."""
    with recording() as recorder:
        text = _agreed(pipeline, recorder)
        pipeline.register("codegraph", text=_wider(text))
        pipeline.clock.pass_s(DAY_S - 60)
        for kind, events in (("mcp_tool", ["crash"]), ("hook", [])):
            counts = [["usage_rollup", {"kind": kind, "name": "explore"}, {"count": 2}]]
            told = [[one, f"{YESTERDAY}T10:00:00.000Z", {}] for one in events]
            whole = delta("codegraph", day=YESTERDAY, counts=counts, events=told, envelope={})
            pipeline.drop(whole, product="codegraph")
            pipeline.clock.pass_s(120)
        between = pipeline.view("codegraph").earlier is not None
        pipeline.intake("codegraph")
        pipeline.deliver("codegraph")

        assert _arrived(recorder) == ["hook", "mcp_tool"]
        assert (between, pipeline.view("codegraph").earlier) == (True, None)


def test_a_narrower_contract_takes_effect_at_once_and_needs_no_notice(pipeline: Pipeline):
    with recording() as recorder:
        text = _agreed(pipeline, recorder)
        narrower = text.replace(b'["mcp_tool", "cli_command"]', b'["mcp_tool"]')
        assert narrower != text
        _use(pipeline, "mcp_tool", "cli_command")
        pipeline.register("codegraph", text=narrower, notice=False)
        pipeline.deliver("codegraph")

        assert (_arrived(recorder), pipeline.view("codegraph").pending) == (["mcp_tool"], None)


@pytest.mark.parametrize("is_shown", [False, True])
def test_the_endpoint_host_is_pinned_until_the_notice_for_another(pipeline: Pipeline, is_shown):
    with recording() as recorder:
        text = _agreed(pipeline, recorder)
    del pipeline.environ["CODEGRAPH_TELEMETRY_ENDPOINT"]
    moved = text.replace(b"telemetry.getcodegraph.com", b"elsewhere.example")
    contract = pipeline.register("codegraph", text=moved, notice=False)
    if is_shown:
        notices.mark_shown(contract, pipeline.around.paths, pipeline.clock.now())
        pipeline.clock.pass_s(DAY_S + 1)

    host = "elsewhere.example" if is_shown else "telemetry.getcodegraph.com"
    assert f"https://{host}/v1/events" == pipeline.view("codegraph").endpoint


def test_a_switch_that_a_new_contract_forgets_goes_on_to_count(pipeline: Pipeline):
    with recording() as recorder:
        text = _agreed(pipeline, recorder)
    forgetful = text.replace(b'do_not_track = "set"', b'do_not_track = "ignore"')
    pipeline.register("codegraph", text=forgetful, notice=False)
    pipeline.environ["DO_NOT_TRACK"] = "1"
    consent = pipeline.view("codegraph").consent

    assert (consent.is_on, consent.decided_by) == (False, "DO_NOT_TRACK")


def test_a_state_file_that_a_new_contract_moves_goes_on_to_count(pipeline: Pipeline):
    """Or a "no" would be lost with the file's name."""
    with recording() as recorder:
        text = _agreed(pipeline, recorder)
    file = pipeline.home / ".codegraph" / "telemetry.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text('{"enabled": false}')
    moved = _wider(text).replace(b"~/.codegraph/telemetry.json", b"~/.codegraph/other.json")
    pipeline.register("codegraph", text=moved, notice=False)

    assert not pipeline.view("codegraph").consent.is_on


def test_a_yes_is_a_yes_to_the_contract_that_is_registered_then(pipeline: Pipeline):
    with recording() as recorder:
        text = _agreed(pipeline, recorder)
        contract = pipeline.register("codegraph", text=_wider(text), notice=False)
        choices.write_choice(
            contract,
            pipeline.around.paths,
            pipeline.environ,
            mode="on",
            now=pipeline.clock.now(),
        )
        pipeline.around.registry.agree(contract)
        pipeline.clock.pass_s(1)
        _use(pipeline, "hook")
        pipeline.deliver("codegraph")

        assert _arrived(recorder) == ["hook"]


def test_off_forgets_the_agreement(pipeline: Pipeline):
    with recording() as recorder:
        _agreed(pipeline, recorder)
    kept = pipeline.around.paths.agreed("codegraph")
    assert kept.exists()
    choices.write_choice(
        pipeline.view("codegraph").registered,
        pipeline.around.paths,
        pipeline.environ,
        mode="off",
        now=pipeline.clock.now(),
    )
    pipeline.intake("codegraph")

    assert not kept.exists()


@pytest.mark.parametrize("damage", [b"", b"contract = 2", b"\xff"])
def test_an_agreement_that_cannot_be_read_counts_as_none(pipeline: Pipeline, damage: bytes):
    """Then the registered contract needs its own notice, an explicit choice notwithstanding."""
    file = pipeline.home / ".codegraph" / "telemetry.json"
    file.parent.mkdir()
    file.write_text(json.dumps({"enabled": True, "consent_source": "cli"}))
    pipeline.register("codegraph", notice=False)
    before = pipeline.view("codegraph").gate.is_open
    kept = pipeline.around.paths.agreed("codegraph")
    kept.parent.mkdir(parents=True)
    kept.write_bytes(damage)

    assert (before, pipeline.view("codegraph").gate.is_open) == (True, False)


def test_a_batch_that_waits_is_made_narrower_by_what_is_in_force(pipeline: Pipeline):
    """Frozen under the wider contract, which somebody then takes back to the agreed one's host."""
    with recording() as recorder:
        text = _agreed(pipeline, recorder)
        contract = pipeline.register("codegraph", text=_wider(text))
        pipeline.clock.pass_s(DAY_S + 1)
        _use(pipeline, "mcp_tool", "hook")
        pipeline.seal("codegraph")
        other = contract.text.replace(b'"hook"]', b'"plugin"]')
        pipeline.around.registry.agree(contract)
        pipeline.register("codegraph", text=other, notice=False)
        pipeline.deliver("codegraph")

        assert _arrived(recorder) == ["mcp_tool"]


def test_status_says_what_waits(pipeline: Pipeline):
    from tallyd.status import gather
    from tallyd.status_text import status_text

    with recording() as recorder:
        text = _agreed(pipeline, recorder)
    pipeline.register("codegraph", text=_wider(text), notice=False)
    report, _ = gather(pipeline.around, pipeline.clock.now())
    found: Any = report["products"]

    assert (
        found["codegraph"]["contract"]["in_force"],
        found["codegraph"]["contract"]["waits_for"],
    ) == (False, "the notice for this contract was not shown yet")
    assert "what is new in it waits" in "\n".join(status_text(report))


def test_where_the_notice_comes_before_the_first_send_it_is_asked_for_once_there_is_one(
    pipeline: Pipeline,
):
    """Counting alone is silent; the next host shows it, when something would leave."""
    contract = pipeline.register("codegraph", notice=False)
    wanted = Path(pipeline.around.paths.notices("codegraph"), f"{contract.short_digest}.wanted")
    found = []
    for day in (TODAY, YESTERDAY):
        counts = [["usage_rollup", {"kind": "mcp_tool", "name": "explore"}, {"count": 2}]]
        pipeline.drop(delta("codegraph", day=day, counts=counts, envelope={}), product="codegraph")
        pipeline.intake("codegraph")
        pipeline.deliver("codegraph")
        found.append(wanted.exists())

    assert found == [False, True]

"""The status for people: one screen, in the order of their questions, whatever the state."""

from __future__ import annotations

import json
import re

import pytest
from support.clock import NOON
from support.deltas import delta, name_of
from support.pipeline import Pipeline
from support.processes import DEMO_CONTRACT
from tallyd import choices, ledger, lock, outbox
from tallyd.status import gather
from tallyd.status_text import status_text
from tallyd.terminal import Screen
from tallyd.troubles import Problem

_SCREEN = Screen(width=80, height=24)
# Process 1 is no daemon of ours, so nothing is told of its memory.
_HOLDER = lock.Holder(1, "daemon", "0.1.0", NOON - 12345, way=lock.SERVICE)


def _text(
    pipeline: Pipeline, screen: Screen = _SCREEN, *, product: str = "", now=NOON
) -> list[str]:
    report, _ = gather(pipeline.around, now, product)
    # As long a path on every machine, so that lines break where they did.
    told = json.loads(json.dumps(report).replace(str(pipeline.home), "/home/me"))
    return status_text(told, screen, product=product)


def _beside_a_daemon(pipeline: Pipeline, problems=(), **how) -> list[str]:
    with lock.hold_lock(pipeline.around.paths, _HOLDER) as held:
        held.beat(NOON, 12345.0)
        held.post(problems)
        return _text(pipeline, **how)


def _sent(pipeline: Pipeline, verdict: ledger.Verdict, detail: str = "HTTP 204") -> None:
    """Yesterday's batch, two hours ago; what was not delivered stays."""
    pipeline.drop(delta(day="2026-11-19"))
    pipeline.intake()
    pipeline.clock.pass_s(-7200)
    pipeline.seal()
    pipeline.clock.pass_s(7200)
    with pipeline.store.transaction() as sql:
        batch = outbox.oldest(sql, "tallyd-demo")
        assert batch is not None
        ledger.record(
            sql,
            batch,
            at=NOON - 7100,
            endpoint="https://t.example/v1",
            verdict=verdict,
            detail=detail,
        )
        if verdict is ledger.Verdict.DELIVERED:
            outbox.remove(sql, batch.batch_id)
        ledger.set_next_send(sql, "tallyd-demo", NOON + 9000)


def _many(pipeline: Pipeline, count: int) -> None:
    text = DEMO_CONTRACT.read_bytes()
    for number in range(count):
        name = f"tool-{number:03}"
        pipeline.register(name, text=text.replace(b"tallyd-demo", name.encode()))


def test_two_products_that_are_well_fill_one_screen(pipeline: Pipeline):
    """With a line for the shell's prompt."""
    pipeline.register("pipelex")
    _sent(pipeline, ledger.Verdict.DELIVERED)
    pipeline.drop()
    pipeline.intake()
    pipeline.drop(name=name_of(NOON - 12))

    told = _beside_a_daemon(pipeline)

    assert told == [
        "tallyd: all is well. It sends counts of tool use, unless you say off.",
        "daemon       0.1.0 as a service, up 3 h 25 min; process 1",
        "service      none is installed: tallyd service install",
        "",
        "pipelex: off, decided by default (nobody was asked yet); you were told 0 s ago",
        "  knows      nothing; no id, unless you are identified",
        "  may leave  no: consent is off (default (nobody was asked yet))",
        "  last talk  never",
        "",
        "tallyd-demo: on, decided by default; you were told 0 s ago",
        f"  knows      1 row of 1 day, 1 new file; id {_id(pipeline)[:13]}…",
        "  may leave  yes, to 127.0.0.1:8787; next: in 2 h 30 min",
        "  last talk  1 h ago to t.example: delivered",
        "",
        "waiting, by age    <1 min  <1 h  <1 d  <7 d  7 d+  oldest",
        "spool (dropped)         1     -     -     -     -    12 s",
        "buckets (counted)       -     -     1     -     -    12 h",
        "",
        "files        /home/me/state  /home/me/config",
        "look         tallyd status PRODUCT, what would be sent: tallyd preview PRODUCT",
        "turn off     tallyd off PRODUCT, or every tool for good: tallyd off --all",
    ]


def _id(pipeline: Pipeline) -> str:
    return str(pipeline.view().machine_id)


def test_a_machine_on_which_nothing_was_set_up_is_told_what_this_is(pipeline: Pipeline):
    pipeline.around.paths.contracts.joinpath("tallyd-demo.toml").unlink()
    pipeline.store.close()
    for part in ("", "-wal", "-shm"):
        pipeline.around.paths.database.with_name(f"tallyd.db{part}").unlink(missing_ok=True)

    assert _text(pipeline) == [
        "tallyd: not set up yet. It sends counts of tool use, unless you say off.",
        "daemon       not running",
        "service      none is installed: tallyd service install",
        "",
        "No tool has registered itself yet. A tool that uses tallyd does so at its first",
        "use, and tells you before anything leaves. To see how it works: tallyd demo",
        "",
        "files        /home/me/state  /home/me/config",
        "turn off     tallyd off --all (every tool, those to come too)",
    ]


def test_what_is_wrong_comes_right_after_the_first_line_with_what_to_do(pipeline: Pipeline):
    (pipeline.home / "config/contracts/broken.toml").write_text("contract = 2\n")
    problem = Problem("intake", "tallyd-demo", "the disk is full; free space", NOON - 600, 3)

    # The daemon met that contract as well: it is told once.
    met = Problem("contract", "broken", "is a version", NOON, 9)

    told = _beside_a_daemon(pipeline, [problem, met])

    assert told[:9] == [
        "tallyd: 2 things are wrong. It sends counts of tool use, unless you say off.",
        "",
        "WRONG: intake of tallyd-demo, for 10 min, 3 times",
        "  the disk is full; free space",
        "",
        "WRONG: the contract of broken cannot be used, so it stands still",
        "  /home/me/config/contracts/broken.toml:1: contract: is a version that this",
        '  tallyd does not know; write contract = 1; mend it, or run "tallyd contract add',
        '  FILE"',
    ]
    assert (told[-1].split()[0], max(map(len, told)) <= 80) == ("turn", True)


def test_of_a_product_that_is_asked_for_everything_is_told(pipeline: Pipeline):
    _many(pipeline, 3)
    _sent(pipeline, ledger.Verdict.TRY_LATER, "no answer")
    pipeline.drop(b"{")
    pipeline.drop(delta(lost={"cap": 2}, envelope={"host_version": "1", "secret": "x"}))
    pipeline.intake()

    told = _text(pipeline, product="tallyd-demo")

    assert told[4:-8] == [
        "tallyd-demo: on, decided by default; you were told 0 s ago",
        "  knows      1 row of 1 day, 1 batch to send",
        "  may leave  yes, to 127.0.0.1:8787; next: when tallyd runs",
        "  last talk  1 h ago to t.example: kept for later, no answer; none was delivered",
        "             yet",
        "  set aside  1 malformed file in /home/me/state/spool/tallyd-demo/bad",
        "  lost       2 cap, 1 malformed",
        f"  sent under id {_id(pipeline)}",
        f"  contract   tallyd demo: {pipeline.view().registered.short_digest}, schema 1",
        "  endpoint   http://127.0.0.1:8787/v1/events",
        "  choice in  /home/me/state/consent/tallyd-demo.json",
        "  stripped   1 field that the contract does not list",
        "",
    ]
    assert told[-2:] == [
        "look         what would be sent: tallyd preview tallyd-demo",
        "turn off     tallyd off tallyd-demo, or every tool for good: tallyd off --all",
    ]


def test_many_products_have_a_row_each_and_those_that_need_a_look_come_first(pipeline: Pipeline):
    _many(pipeline, 20)
    _sent(pipeline, ledger.Verdict.REFUSED, "HTTP 400")
    pipeline.drop(b"{", product="tool-007")
    pipeline.intake()
    contract = pipeline.view("tool-003").registered
    choices.write_choice(contract, pipeline.around.paths, pipeline.environ, mode="off", now=NOON)

    told = _text(pipeline)

    assert told[4:10] == [
        "product      is                  waiting  last talk        next",
        "tallyd-demo  on: default               1  refused 1 h ago  when tallyd runs",
        "tool-007     on: default               0  never, 1 bad     when tallyd runs",
        "tool-000     on: default               0  never            when tallyd runs",
        "tool-001     on: default               0  never            when tallyd runs",
        "tool-002     on: default               0  never            when tallyd runs",
    ]
    assert (len(told), "and 12 more: tallyd status | less" in told) == (23, True)


def test_a_pipe_gets_all_of_it_and_a_low_screen_what_it_has_room_for(pipeline: Pipeline):
    _many(pipeline, 50)
    whole = _text(pipeline, Screen())
    low = _text(pipeline, Screen(width=80, height=10))

    assert sum(one.startswith("tool-") for one in whole) == 50
    assert [one[:8] for one in low] == [
        *(
            "tallyd: ",
            "daemon  ",
            "service ",
            "",
            "product ",
            "tallyd-d",
            "tool-000",
            "tool-001",
            "and 48 m",
            "",
        ),
        *("files   ", "look    ", "turn off"),
    ]


def test_more_problems_than_a_screen_holds_are_counted_and_a_pipe_gets_all(pipeline: Pipeline):
    for number in range(30):
        (pipeline.home / f"config/contracts/broken-{number:02}.toml").write_text("contract = 2\n")
    told = _text(pipeline)

    assert (told[0].split(".")[0], told[-1].split()[0]) == ("tallyd: 30 things are wrong", "turn")
    assert "  and 26 more problems: tallyd status | less" in told
    assert sum(one.startswith("WRONG") for one in _text(pipeline, Screen())) == 30


def test_when_everything_is_off_it_says_so_and_how_to_turn_it_on(pipeline: Pipeline):
    pipeline.environ["DO_NOT_TRACK"] = "1"

    told = _text(pipeline)

    assert [told[4], told[6], told[-1]] == [
        "tallyd-demo: off, decided by DO_NOT_TRACK; you were told 0 s ago",
        "  may leave  no: consent is off (DO_NOT_TRACK)",
        "turn off     it is off; on again: tallyd on tallyd-demo",
    ]


def test_a_clock_that_was_set_back_makes_ages_of_the_future_and_no_nonsense(pipeline: Pipeline):
    _sent(pipeline, ledger.Verdict.DELIVERED)
    pipeline.drop()

    told = _text(pipeline, now=NOON - 3 * 3600 - 7100)

    assert [one for one in told if "ahead" in one or "future" in one] == [
        "tallyd-demo: on, decided by default; you were told 4 h ahead of this clock",
        "  last talk  3 h ahead of this clock to t.example: delivered",
        "waiting, by age  <1 min  <1 h  <1 d  <7 d  7 d+  future     oldest",
        "spool (dropped)       -     -     -     -     -       1  4 h ahead",
    ]


def test_until_the_grace_has_passed_it_says_from_when_it_may_leave(pipeline: Pipeline):
    pipeline.register("codegraph")

    told = _text(pipeline)

    assert told[5:8] == [
        "  knows      nothing; no id yet",
        "  may leave  not yet: in 1 d 0 h at the earliest, to telemetry.getcodegraph.com;",
        "             until then nothing",
    ]


def test_colour_says_nothing_that_the_words_do_not(pipeline: Pipeline):
    (pipeline.home / "config/contracts/broken.toml").write_text("contract = 2\n")
    plain = _text(pipeline)
    coloured = _text(pipeline, Screen(width=80, height=24, has_colour=True))

    assert coloured != plain
    assert [re.sub(r"\x1b\[[0-9;]*m", "", one).rstrip() for one in coloured] == plain


@pytest.mark.parametrize("seconds", [0, 59, 60, 3600, 86400, 86400 * 400])
def test_the_uptime_is_told_in_words(pipeline: Pipeline, seconds):
    with lock.hold_lock(pipeline.around.paths, _HOLDER) as held:
        held.beat(NOON, float(seconds))
        told = _text(pipeline)

    expected = {0: "0.0 s", 59: "59.0 s", 60: "1 min", 3600: "1 h 0 min", 86400: "1 d 0 h"}
    assert told[1].endswith(f"as a service, up {expected.get(seconds, '400 d 0 h')}; process 1")

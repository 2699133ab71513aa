"""What is wrong now stands on the lock's file until it is over, whatever state the disk is in."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.clock import NOON, FakeClock
from support.pipeline import Pipeline
from tallyd import lock, spool
from tallyd.errors import StateDamaged, StateUnusable
from tallyd.limits import BOARD_BYTES, BOARD_PROBLEMS
from tallyd.paths import Paths
from tallyd.status import gather
from tallyd.status_text import status_text
from tallyd.troubles import Problem, Troubles

_HOLDER = lock.Holder(os.getpid(), "daemon", "0.1.0", NOON)


@pytest.fixture
def paths(home: Path) -> Paths:
    return Paths.locate({"TALLYD_HOME": str(home)})


def test_a_problem_stands_from_its_first_round_to_the_first_good_one(clock: FakeClock, caplog):
    """Posted at each change, logged at its begin and its end alone."""
    caplog.set_level("INFO")
    posted: list[list[Problem]] = []
    troubles = Troubles(clock, lambda now: posted.append(list(now)))
    troubles.over("intake", "tool")
    for why in ("disk full", "disk still full"):
        troubles.met("intake", "tool", why)
        clock.pass_s(60)
    troubles.met("retention", "", "locked")
    for _ in range(2):
        troubles.over("intake", "tool")

    first, again = (
        Problem("intake", "tool", "disk full", NOON, 1),
        Problem("intake", "tool", "disk still full", NOON, 2),
    )
    other = Problem("retention", "", "locked", NOON + 120, 1)
    assert posted == [[first], [again], [again, other], [other]]
    assert [one.message for one in caplog.records] == [
        'action=failing duty=intake product=tool why="disk full"',
        "action=failing duty=retention why=locked",
        "action=recovered duty=intake product=tool times=2",
    ]


def test_nothing_is_wrong_any_more_with_a_product_that_is_gone(clock: FakeClock):
    """No round of it will ever succeed."""
    posted: list[list[Problem]] = []
    troubles = Troubles(clock, lambda now: posted.append(list(now)))
    for product in ("gone", "there", ""):
        troubles.met("intake", product, "why")

    troubles.forget_others(["there"])
    troubles.forget_others(["there"])

    assert [[one.product for one in now] for now in posted[-2:]] == [
        ["gone", "there", ""],
        ["there", ""],
    ]


def test_what_is_posted_is_what_another_process_reads(paths: Paths):
    """Posted in place: neither length nor file changes, so a full disk does not mind."""
    problem = Problem("intake", "tool", "the disk is full; free space", NOON, 3)
    with lock.hold_lock(paths, _HOLDER) as held:
        seen = [lock.current_holder(paths)]
        before = os.stat(paths.lock)
        held.post([problem])
        seen.append(lock.current_holder(paths))
        held.post([])
        seen.append(lock.current_holder(paths))
        after = os.stat(paths.lock)

    told = lock.Holder(_HOLDER.pid, "daemon", "0.1.0", NOON, (problem,))
    assert seen == [_HOLDER, told, _HOLDER]
    assert [(one.st_ino, one.st_size) for one in (before, after)] == [
        (before.st_ino, BOARD_BYTES)
    ] * 2


@pytest.mark.parametrize("sign", ["x", '"', "\0", "é", "🙂"])
def test_however_much_is_wrong_it_fits_and_says_how_much_is_left_out(paths: Paths, sign: str):
    problems = [Problem("intake", f"p{one}", sign * 5000, NOON, 1) for one in range(100)]
    with lock.hold_lock(paths, _HOLDER) as held:
        held.post(problems)
        holder = lock.current_holder(paths)

    assert holder is not None
    assert paths.lock.stat().st_size == BOARD_BYTES
    assert (len(holder.problems), holder.more_problems) == (BOARD_PROBLEMS, 100 - BOARD_PROBLEMS)
    assert {one.why[0] for one in holder.problems} == {sign}


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\xff" * 99,
        b'{"pid": 1',
        b"[]",
        b'{"pid": Infinity, "problems": []}',
        b'{"pid": 1, "problems": [3]}',
        b"[" * 4000,
    ],
)
def test_a_text_that_is_no_text_is_a_holder_that_nobody_knows(paths: Paths, text: bytes):
    with lock.hold_lock(paths, _HOLDER):
        paths.lock.write_bytes(text)

        assert lock.current_holder(paths) == lock.Holder(0, "unknown", "unknown", 0.0)


def test_a_longer_text_of_an_earlier_holder_leaves_nothing_behind(paths: Paths):
    paths.state.mkdir(parents=True)
    paths.lock.write_bytes(b"x" * 9999)

    with lock.hold_lock(paths, _HOLDER):
        assert lock.current_holder(paths) == _HOLDER


def test_status_says_what_is_wrong_since_when_and_what_to_do(pipeline: Pipeline):
    """In both forms; and nothing once it is over."""
    problem = Problem("intake", "tallyd-demo", "the disk is full; free space", NOON, 3)
    with lock.hold_lock(pipeline.around.paths, _HOLDER) as held:
        held.post([problem, *([Problem("retention", "", "locked", NOON, 1)] * BOARD_PROBLEMS)])
        report, code = gather(pipeline.around, NOON + 600)
        text = "\n".join(status_text(report))
        held.post([])
        well, _ = gather(pipeline.around, NOON)

    assert (code, report["daemon"]["problems"][0], report["daemon"]["more_problems"]) == (
        0,
        {
            "duty": "intake",
            "product": "tallyd-demo",
            "why": "the disk is full; free space",
            "since": "2026-11-20T12:00:00.000Z",
            "times": 3,
        },
        1,
    )
    assert (
        "WRONG: intake of tallyd-demo, for 10 min, 3 times\n  the disk is full; free space\n"
    ) in text
    assert "WRONG: retention, for 10 min\n  locked\n  and 1 more problem" in text
    assert (well["daemon"]["problems"], well["daemon"]["more_problems"]) == ([], 0)


def test_a_daemon_that_gives_no_sign_is_named(pipeline: Pipeline):
    """Where the disk refuses even its heartbeat, it can say nothing by itself."""
    told = []
    with lock.hold_lock(pipeline.around.paths, _HOLDER) as held:
        for silent_s in (299, 301):
            held.beat(NOON - silent_s, 0.0)
            told.append([one["place"] for one in gather(pipeline.around, NOON)[0]["problems"]])

    assert told == [[], ["daemon"]]


def test_a_round_that_fails_is_told_until_one_succeeds(pipeline: Pipeline, monkeypatch):
    """One product's intake alone: its next good round ends it."""
    told = []
    with monkeypatch.context() as broken:
        for error in (StateUnusable("no", "do"), OSError(24, "Too many open files"), KeyError("x")):
            broken.setattr(spool, "list_new", _raising(error))
            merged = pipeline._run(pipeline.passes.merge_all)["tallyd-demo"]
            told.append((merged.problem, pipeline.passes.troubles.now))
    pipeline.intake()

    assert [(why, [(one.why, one.times) for one in now]) for why, now in told] == [
        ("no; do", [("no; do", 1)]),
        (
            "Too many open files; raise the limit of open files (ulimit -n), or look who holds so many",
            [
                (
                    "Too many open files; raise the limit of open files (ulimit -n), or look who holds so many",
                    2,
                )
            ],
        ),
        (
            "a bug in tallyd (KeyError); its log has the details",
            [("a bug in tallyd (KeyError); its log has the details", 3)],
        ),
    ]
    assert pipeline.passes.troubles.now == []


def test_a_damaged_database_is_no_products_own_problem(pipeline: Pipeline, monkeypatch):
    """Whoever holds the lock has to set it aside."""
    monkeypatch.setattr(spool, "list_new", _raising(StateDamaged("broken")))

    with pytest.raises(StateDamaged):
        pipeline._run(pipeline.passes.merge_all)


def test_consent_that_cannot_be_told_is_a_problem_until_it_can(pipeline: Pipeline):
    """By a word as well as by a yes; the round itself did what it could."""
    file = pipeline.view().choice_file
    file.parent.mkdir(parents=True, exist_ok=True)
    told = []
    for text in ("{", '{"enabled": false}', "{", None):
        file.write_text(text) if text else file.unlink()
        pipeline.intake()
        told.append([(one.duty, one.product) for one in pipeline.passes.troubles.now])

    assert told == [[("consent", "tallyd-demo")], [], [("consent", "tallyd-demo")], []]


def test_contracts_that_cannot_be_listed_are_not_taken_for_none(pipeline: Pipeline):
    """Or everything would seem to be well while nothing is merged."""
    directory = pipeline.around.paths.contracts
    directory.rename(directory.with_suffix(".away"))
    directory.symlink_to(directory)

    with pytest.raises(StateUnusable, match="cannot be listed"):
        pipeline.passes.views()
    assert [one["place"] for one in gather(pipeline.around, NOON)[0]["problems"]] == ["contracts"]


def _raising(error: Exception):
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail

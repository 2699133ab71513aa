"""The sender: the verdict table row by row, against a real HTTP server on loopback."""

from __future__ import annotations

import json
from dataclasses import asdict

import anyio
import pytest
from support.clock import DAY_S, TODAY
from support.deltas import delta, tool_calls
from support.pipeline import Pipeline, Tally
from support.recorder import Recorder, recording
from tallyd import __version__, choices, ledger, notices, seal
from tallyd.contract.days import instant, shift_day
from tallyd.errors import StateUnusable
from tallyd.ledger import Verdict


def _ready(pipeline: Pipeline, recorder: Recorder, *, days: int = 1, **policy: str) -> None:
    """Have one finished batch per day wait for `recorder`; `policy` changes the contract."""
    text = pipeline.view().contract.text
    for key, value in policy.items():
        lines = [one for one in text.split(b"\n") if not one.startswith(f"{key} =".encode())]
        at = lines.index(b"[endpoint]") + 1
        text = b"\n".join([*lines[:at], f"{key} = {value}".encode(), *lines[at:]])
    pipeline.register("tallyd-demo", text=text)
    pipeline.environ["TALLYD_DEMO_ENDPOINT"] = recorder.url
    for back in range(days, 0, -1):
        pipeline.drop(delta(day=shift_day(TODAY, -back), counts=[tool_calls(count=3)]))
        pipeline.intake()
        pipeline.seal()


def _last(pipeline: Pipeline) -> ledger.Attempt | None:
    return pipeline.read(lambda sql: ledger.last(sql, "tallyd-demo"))


KEPT = Tally(batches=1)
GONE = Tally()
REFUSED = Tally(lost={"refused": 3})


@pytest.mark.parametrize(
    ("status", "policy", "verdict", "after"),
    [
        (200, {}, Verdict.DELIVERED, GONE),
        (204, {}, Verdict.DELIVERED, GONE),
        (301, {}, Verdict.REFUSED, REFUSED),
        (307, {}, Verdict.REFUSED, REFUSED),
        (400, {}, Verdict.REFUSED, REFUSED),
        (401, {}, Verdict.REFUSED, REFUSED),
        (404, {}, Verdict.REFUSED, REFUSED),
        (413, {}, Verdict.REFUSED, REFUSED),
        (500, {}, Verdict.REFUSED, REFUSED),
        (502, {}, Verdict.REFUSED, REFUSED),
        (429, {"busy": '"later"'}, Verdict.TRY_LATER, KEPT),
        (503, {"busy": '"later"'}, Verdict.TRY_LATER, KEPT),
        (429, {"busy": '"final"'}, Verdict.REFUSED, REFUSED),
        (503, {"busy": '"final"'}, Verdict.REFUSED, REFUSED),
        (0, {"unanswered": '"keep"', "timeout": '"1s"'}, Verdict.TRY_LATER, KEPT),
        (
            0,
            {"unanswered": '"drop"', "timeout": '"1s"'},
            Verdict.DROPPED,
            Tally(lost={"unanswered": 3}),
        ),
    ],
)
def test_an_answer_means_what_the_contract_says(pipeline: Pipeline, status, policy, verdict, after):
    with recording(status, headers={"location": "/elsewhere"}) as recorder:
        _ready(pipeline, recorder, **policy)
        pipeline.deliver()

        attempt = _last(pipeline)
        assert attempt is not None
        # One request and no second one: nothing is retried, no redirect is followed.
        assert (verdict, 1, after) == (attempt.verdict, len(recorder.bodies), pipeline.tally())


def test_a_batch_without_an_answer_is_sent_again_with_the_same_bytes(pipeline: Pipeline):
    with recording(0, 204) as recorder:
        _ready(pipeline, recorder, timeout='"1s"')
        pipeline.deliver()
        pipeline.clock.pass_s(6 * 3600)
        pipeline.deliver()

        assert (2, recorder.bodies[0]) == (len(recorder.bodies), recorder.bodies[1])
        assert pipeline.tally() == GONE


def test_a_refused_connection_keeps_the_batch(pipeline: Pipeline):
    with recording() as recorder:
        pass
    _ready(pipeline, recorder)

    pipeline.deliver()

    assert pipeline.tally() == KEPT


def test_a_pass_ends_at_the_first_batch_that_got_no_answer(pipeline: Pipeline):
    with recording(0) as recorder:
        _ready(pipeline, recorder, days=3, timeout='"1s"')
        pipeline.deliver()

        assert (len(recorder.bodies), pipeline.tally().batches) == (1, 3)


def test_a_backlog_keeps_under_the_contracts_rate_and_goes_on_a_minute_later(pipeline: Pipeline):
    with recording() as recorder:
        _ready(pipeline, recorder, days=8)
        sent = []
        for _ in range(3):
            pipeline.deliver()
            sent.append(len(recorder.bodies))
            pipeline.clock.pass_s(61)

        assert sent == [6, 8, 8]


def test_what_a_refused_batch_reported_lost_is_reported_by_the_next_one(pipeline: Pipeline):
    with recording(400, 204) as recorder:
        pipeline.drop(delta(day=shift_day(TODAY, -2), counts=[], lost={"cap": 5}))
        _ready(pipeline, recorder)
        pipeline.deliver()
        pipeline.clock.pass_s(DAY_S)
        pipeline.drop(delta(day=TODAY))
        pipeline.intake()
        pipeline.deliver()

        assert [one.get("lost") for one in recorder.batches] == [
            {"cap": 5},
            {"cap": 5, "refused": 3},
        ]


def test_the_request_carries_what_the_wire_says_and_nothing_of_the_user(pipeline: Pipeline):
    with recording() as recorder:
        _ready(pipeline, recorder)
        pipeline.deliver()

        (headers,) = recorder.requests
        assert {"content-type", "user-agent", "content-length", "host"} <= set(headers)
        assert {"accept", "accept-encoding", "connection"} >= set(headers) - {
            "content-type",
            "user-agent",
            "content-length",
            "host",
        }
        assert (headers["content-type"], headers["user-agent"]) == (
            "application/json",
            f"tallyd/{__version__}",
        )


def _off(pipeline: Pipeline) -> None:
    view = pipeline.view()
    choices.write_choice(
        view.contract,
        pipeline.around.paths,
        pipeline.environ,
        mode="off",
        now=pipeline.clock.now(),
    )


def _do_not_track(pipeline: Pipeline) -> None:
    pipeline.environ["DO_NOT_TRACK"] = "1"


def _damage(pipeline: Pipeline) -> None:
    file = pipeline.view().choice_file
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("{")


@pytest.mark.parametrize("turn_off", [_off, _do_not_track, _damage])
def test_consent_is_checked_last_before_every_socket(pipeline: Pipeline, turn_off):
    """Turned off after the seal, before the send: the batch must not leave."""
    with recording() as recorder:
        _ready(pipeline, recorder)
        turn_off(pipeline)
        pipeline.deliver()

        assert recorder.bodies == []


def test_a_no_that_comes_while_the_database_is_asked_is_heard(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
):
    """After the last view of the product, before the socket: the second time it is asked."""
    asked = ledger.requests_since
    times = []

    def slow(*arguments):
        times.append(len(times))
        if len(times) == 2:
            _off(pipeline)
        return asked(*arguments)

    with recording() as recorder:
        _ready(pipeline, recorder)
        monkeypatch.setattr(ledger, "requests_since", slow)
        pipeline.deliver()

        assert (recorder.bodies, times) == ([], [0, 1])


@pytest.mark.parametrize("turn_off", [_off, _do_not_track])
def test_off_deletes_everything_unsent(pipeline: Pipeline, turn_off):
    with recording() as recorder:
        _ready(pipeline, recorder)
        pipeline.drop()
        pipeline.intake()
        pipeline.drop()
        pipeline.drop(b"{")
        turn_off(pipeline)
        pipeline.intake()

        assert Tally() == pipeline.tally()
        assert {
            table: found
            for table in ("bucket", "event", "envelope", "outbox", "loss", "schedule")
            if (
                found := pipeline.read(
                    lambda sql, table=table: sql.execute(f"SELECT * FROM {table}").fetchall()
                )
            )
        } == {}


def test_damage_sends_nothing_and_deletes_nothing(pipeline: Pipeline):
    """A disk's passing fault is not a wish: when the file is whole again, nothing was lost."""
    with recording() as recorder:
        _ready(pipeline, recorder)
        _damage(pipeline)
        pipeline.intake()
        pipeline.deliver()

        assert (recorder.bodies, pipeline.tally()) == ([], KEPT)


def test_nothing_leaves_before_the_notice_and_its_grace(pipeline: Pipeline, home):
    """CodeGraph's contract: default on, a day between the notice and the first byte."""
    contract = pipeline.register("codegraph", notice=False)
    yesterday = shift_day(TODAY, -1)
    counts = [["usage_rollup", {"kind": "mcp_tool", "name": "explore"}, {"count": 2}]]
    with recording() as recorder:
        pipeline.environ["CODEGRAPH_TELEMETRY_ENDPOINT"] = recorder.url
        pipeline.drop(
            delta("codegraph", day=yesterday, counts=counts, envelope={}), product="codegraph"
        )
        pipeline.intake("codegraph")
        sent = []
        for step in (
            lambda: None,
            lambda: notices.mark_shown(contract, pipeline.around.paths, pipeline.clock.now()),
            lambda: pipeline.clock.pass_s(DAY_S - 1),
            lambda: pipeline.clock.pass_s(2),
        ):
            step()
            reason = pipeline.deliver("codegraph").blocked
            sent.append((len(recorder.bodies), reason))

        not_passed = "the grace since the notice has not passed"
        assert [
            (0, "the notice for this contract was not shown yet"),
            (0, not_passed),
            (0, not_passed),
            (1, ""),
        ] == sent


def test_a_delta_from_before_the_consent_is_never_merged(pipeline: Pipeline):
    pipeline.drop()
    pipeline.clock.pass_s(10)
    view = pipeline.view()
    choices.write_choice(
        view.contract, pipeline.around.paths, pipeline.environ, mode="on", now=pipeline.clock.now()
    )
    pipeline.clock.pass_s(10)
    pipeline.drop(delta(counts=[tool_calls(count=5)]))

    done = pipeline.intake()

    assert (done.merged, done.predating, pipeline.tally().counted) == (1, 1, {"search": 5})


def test_an_endpoint_that_is_no_https_and_not_this_machine_is_not_used(pipeline: Pipeline):
    pipeline.environ["TALLYD_DEMO_ENDPOINT"] = "http://telemetry.example.com/v1/events"

    assert pipeline.view().endpoint == "http://127.0.0.1:8787/v1/events"


def test_the_next_send_is_planned_within_the_jittered_interval(pipeline: Pipeline):
    with recording() as recorder:
        _ready(pipeline, recorder)
        pipeline.deliver()

    planned = pipeline.read(lambda sql: ledger.next_send(sql, "tallyd-demo"))
    assert planned is not None
    assert 0.8 * 6 * 3600 <= planned - pipeline.clock.now() <= 1.2 * 6 * 3600


def test_a_retry_after_longer_than_the_interval_is_honoured(pipeline: Pipeline):
    with recording(503, headers={"retry-after": "80000"}) as recorder:
        _ready(pipeline, recorder, busy='"later"')
        done = pipeline.deliver()

    planned = pipeline.read(lambda sql: ledger.next_send(sql, "tallyd-demo"))
    assert (80000.0, pipeline.clock.now() + 80000) == (asdict(done.sent)["again_in_s"], planned)


def test_the_ledger_keeps_what_left_and_forgets_old_bodies(pipeline: Pipeline):
    with recording() as recorder:
        _ready(pipeline, recorder)
        for _ in range(35):
            pipeline.deliver()
            pipeline.clock.pass_s(61)
            pipeline.drop(delta(day=shift_day(TODAY, -1)))
            pipeline.intake()
    pipeline.keep_bounds()

    attempts = pipeline.read(lambda sql: ledger.attempts(sql, "tallyd-demo"))
    assert [one.body is not None for one in attempts] == [False] * 5 + [True] * 30


def _choose(pipeline: Pipeline, **values: object) -> None:
    """Write the state file by hand, as a user would."""
    file = pipeline.view().choice_file
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(values))


_FIRST_ID, _SECOND_ID = (
    "11111111-1111-4111-8111-111111111111",
    "22222222-2222-4222-8222-222222222222",
)


def test_nothing_counted_before_an_off_leaves_after_the_on_that_followed(pipeline: Pipeline):
    """Off and on again between two looks of the daemon: it saw neither, and still must not mix them."""
    with recording(0, 204) as recorder:
        _choose(pipeline, enabled=True, machine_id=_FIRST_ID, updated_at="2026-11-20T11:00:00.000Z")
        _ready(pipeline, recorder, timeout='"1s"')
        pipeline.deliver()
        pipeline.drop(delta(counts=[tool_calls(count=5)]))
        pipeline.intake()

        pipeline.clock.pass_s(10)
        since = instant(pipeline.clock.now())
        _choose(pipeline, enabled=True, machine_id=_SECOND_ID, updated_at=since)
        pipeline.clock.pass_s(10)
        pipeline.drop(delta(counts=[tool_calls(count=1)]))
        pipeline.intake()
        pipeline.clock.pass_s(DAY_S)
        pipeline.deliver()

        old, new = recorder.batches
        assert (old["machine_id"], new["machine_id"]) == (_FIRST_ID, _SECOND_ID)
        assert [one["props"]["count"] for one in new["events"]] == [1]


def test_another_id_in_the_file_empties_what_was_counted_under_the_first(pipeline: Pipeline):
    with recording() as recorder:
        _ready(pipeline, recorder)
        _choose(pipeline, machine_id=_SECOND_ID)
        pipeline.deliver()

        assert ([], Tally()) == (recorder.bodies, pipeline.tally())


def test_off_written_by_hand_removes_the_id_and_keeps_the_rest_of_the_file(pipeline: Pipeline):
    _choose(pipeline, enabled=False, machine_id=_FIRST_ID, future=[1])

    pipeline.intake()

    said = json.loads(pipeline.view().choice_file.read_text())
    assert said == {"enabled": False, "machine_id": None, "future": [1]}


def test_a_no_that_is_written_while_the_id_is_made_is_not_overwritten(
    pipeline: Pipeline, monkeypatch
):
    """The daemon reads the file, makes an id, and writes: the user's "no" may fall in between."""
    contract = pipeline.view().contract
    right = choices.json.dumps

    def write_no_first(values: object, **how: object) -> str:
        monkeypatch.setattr(choices.json, "dumps", right)
        _choose(pipeline, enabled=False)
        return right(values, **how)

    monkeypatch.setattr(choices.json, "dumps", write_no_first)
    with pytest.raises(StateUnusable, match="changed by another program"):
        choices.ensure_id(contract, pipeline.around.paths, pipeline.environ, pipeline.clock.now())

    assert json.loads(pipeline.view().choice_file.read_text()) == {"enabled": False}


def test_an_explicit_choice_is_for_the_contract_under_which_it_was_made(pipeline: Pipeline):
    """Chosen once, a contract may not grow or move to another host in silence."""
    with recording() as recorder:
        pipeline.environ["CODEGRAPH_TELEMETRY_ENDPOINT"] = recorder.url
        contract = pipeline.register("codegraph", notice=False)
        file = pipeline.home / ".codegraph" / "telemetry.json"
        file.parent.mkdir()
        file.write_text(json.dumps({"enabled": True, "consent_source": "cli"}))
        sent = []
        wider = contract.text.replace(b'"cli_command"]', b'"cli_command", "hook"]')
        for text in (contract.text, wider):
            pipeline.register("codegraph", text=text, notice=False)
            counts = [
                ["usage_rollup", {"kind": kind, "name": "explore"}, {"count": 2}]
                for kind in ("mcp_tool", "hook")
            ]
            pipeline.drop(
                delta("codegraph", day=shift_day(TODAY, -1), counts=counts, envelope={}),
                product="codegraph",
            )
            pipeline.intake("codegraph")
            blocked = pipeline.deliver("codegraph").blocked
            kinds = [one["props"]["kind"] for one in recorder.batches[-1]["events"]]
            sent.append((blocked, len(recorder.bodies), kinds))

        assert sent == [("", 1, ["mcp_tool"]), ("", 2, ["mcp_tool"])]


def test_a_batch_of_a_wider_contract_leaves_with_what_the_present_one_lists(pipeline: Pipeline):
    with recording() as recorder:
        event = ["server_started", f"{TODAY}T10:00:00.000Z", {"transport": "stdio"}]
        pipeline.drop(delta(events=[event], counts=[tool_calls(count=4)], day=shift_day(TODAY, -1)))
        pipeline.intake()
        pipeline.seal()
        pipeline.environ["TALLYD_DEMO_ENDPOINT"] = recorder.url
        text = pipeline.view().contract.text.decode()
        narrower = text.replace('values = ["stdio", "http"]', 'values = ["http"]').replace(
            'os = { type = "token"', 'system = { type = "token"'
        )
        pipeline.register("tallyd-demo", text=narrower.encode())
        shown = seal.preview(pipeline.store, pipeline.view(), pipeline.clock.now())
        pipeline.deliver()

        (sent,) = recorder.batches
        assert (recorder.bodies[0], True) == shown
        assert [one["event"] for one in sent["events"]] == ["tool_calls"]
        assert ("os" in sent, sent["contract"]) == (False, pipeline.view().contract.short_digest)
        assert Tally(lost={"screened": 1}) == pipeline.tally()


def test_a_batch_that_became_too_old_is_lost_where_it_is_counted(pipeline: Pipeline):
    """The gateway would drop it behind a 204."""
    with recording(0, 204) as recorder:
        _ready(pipeline, recorder, timeout='"1s"')
        pipeline.deliver()
        pipeline.clock.pass_s(29 * DAY_S + 1)
        pipeline.deliver()

        assert (1, Tally(lost={"age": 3})) == (len(recorder.bodies), pipeline.tally())


def test_a_busy_gateway_is_left_alone_as_long_as_it_asked(pipeline: Pipeline):
    """Also by a flush, which comes long before the interval."""
    with recording(503, 204, headers={"retry-after": "3600"}) as recorder:
        _ready(pipeline, recorder, busy='"later"', interval='"10s"')
        sent = []
        for _ in range(4):
            pipeline.deliver()
            due, _ = anyio.run(lambda: pipeline.passes.due(at_start=False))
            sent.append((len(recorder.bodies), due))
            pipeline.clock.pass_s(1300)

        assert sent == [(1, []), (1, []), (1, []), (2, [])]


@pytest.mark.parametrize(
    "proxies",
    [
        {"HTTP_PROXY": "http://127.0.0.1:9"},
        {"ALL_PROXY": "socks5://127.0.0.1:1080"},
        {"HTTP_PROXY": "foo://x"},
        {"HTTP_PROXY": "http://[::1"},
    ],
    ids=str,
)
def test_no_proxy_stands_between_us_and_this_machine(pipeline: Pipeline, monkeypatch, proxies):
    for name, value in proxies.items():
        monkeypatch.setenv(name, value)
    with recording() as recorder:
        _ready(pipeline, recorder)
        pipeline.deliver()

        assert len(recorder.bodies) == 1


@pytest.mark.parametrize(
    "proxy", ["socks5://127.0.0.1:1080", "foo://x", "http://[::1", "http://127.0.0.1:9"]
)
def test_a_proxy_that_cannot_be_used_is_no_answer_and_no_crash(
    pipeline: Pipeline, monkeypatch, proxy
):
    monkeypatch.setenv("ALL_PROXY", proxy)
    with recording() as recorder:
        _ready(pipeline, recorder)
        pipeline.environ["TALLYD_DEMO_ENDPOINT"] = "https://telemetry.invalid/v1/events"
        delivery = pipeline.deliver()

    assert (delivery.problem, delivery.sent.later, pipeline.tally()) == ("", 1, KEPT)

"""The protocol posthog-batch: what a body says, and what it never says."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest
from tallyd import posthog
from tallyd.body import Body, WireEvent
from tallyd.contract import Contract, parse_contract
from tallyd.wire import narrow_body, render_body, rollup_events

BATCH = "6ed7a1c4-0f26-4b6e-9d9c-3f5a0a9f7a11"
ID = "c1b0f2d8-6a3e-4f27-8a44-0d9e6b5f1c72"
HASH = "718bce836a239174535ee1c975836e97d03d1dcaf5a35cf7ed3626174908023b"
AT = "2026-11-20T10:00:00.000Z"

TEXT = """
contract = 1
[product]
name = "tool"
title = "Tool"
details = "TELEMETRY.md"
[endpoint]
url = "https://us.i.posthog.com"
protocol = "posthog-batch"
key = "phc_EXAMPLE"
[consent]
notice = "Tool counts."
{consent}
[envelope]
version = { type = "version", as = "toolVersion", from = "version" }
[groups]
project = { type = "hash" }
[events.command]
kind = "event"
about = "One command."
groups = ["project"]
properties.path = { type = "token", as = "commandPath" }
properties.ok = { type = "boolean", optional = true }
[events.calls]
kind = "rollup"
about = "Calls."
dimensions.tool = { type = "token" }
measures = [{ name = "count", max = 1000 }, "errors"]
[identity]
{identity}
"""


def contract_with(consent: str = "", identity: str = "") -> Contract:
    text = TEXT.replace("{consent}", consent).replace("{identity}", identity)
    return parse_contract(text.encode(), "tool.toml")


USER = contract_with('default = "ask"\nmodes = ["off", "anonymous", "identified"]', 'kind = "user"')


def body(machine_id: str = ID, *events: WireEvent) -> Body:
    told = WireEvent("command", AT, {"path": "run", "ok": True, "project": HASH})
    return Body(machine_id, BATCH, AT, {"version": "1.2"}, events or (told,), {})


def sent(contract: Contract, said: Body) -> dict[str, Any]:
    whole: dict[str, Any] = json.loads(render_body(contract, said))
    return whole


def test_an_event_carries_its_own_fields_the_envelope_and_three_flags():
    found = sent(contract_with(), body())

    assert found == {
        "api_key": "phc_EXAMPLE",
        "sent_at": AT,
        "batch": [
            {
                "event": "command",
                "distinct_id": ID,
                "uuid": str(uuid.uuid5(uuid.UUID(BATCH), "0")),
                "timestamp": AT,
                "properties": {
                    "commandPath": "run",
                    "ok": True,
                    "toolVersion": "1.2",
                    "$groups": {"project": HASH},
                    "$process_person_profile": False,
                    "$geoip_disable": True,
                    "$lib": "tallyd",
                },
            }
        ],
    }


def test_two_events_of_a_batch_have_two_uuids_and_a_repeat_has_the_same():
    """PostHog drops a repeat only where uuid, event, timestamp and distinct_id agree."""
    said = body(ID, *[WireEvent("command", AT, {"path": "run"})] * 2)
    first, again = (sent(contract_with(), said)["batch"] for _ in range(2))

    assert (first, 2) == (again, len({one["uuid"] for one in first}))


def test_without_an_id_every_event_is_its_own_stranger():
    said = body("", *[WireEvent("command", AT, {"path": "run"})] * 2)
    found = sent(USER, said)["batch"]

    assert [one["uuid"] for one in found] == [one["distinct_id"] for one in found]
    assert len({one["distinct_id"] for one in found}) == 2
    assert [one["properties"]["$process_person_profile"] for one in found] == [False, False]


def test_only_who_gave_an_id_may_become_a_person():
    found = sent(USER, body("user-41"))["batch"][0]

    assert (
        found["distinct_id"],
        "$process_person_profile" in found["properties"],
    ) == ("user-41", False)


@pytest.mark.parametrize("machine_id", [ID, ""])
def test_reading_a_body_gives_what_was_rendered(machine_id: str):
    said = body(machine_id)
    again = posthog.read(USER, render_body(USER, said))

    assert (said.machine_id, said.envelope, AT) == (again.machine_id, again.envelope, again.sent_at)
    assert [(one.event, one.props, one.ts) for one in said.events] == [
        (one.event, one.props, one.ts) for one in again.events
    ]


def test_a_narrower_contract_leaves_ids_as_they_were_and_takes_the_rest_out():
    wide, said = contract_with(), body(ID, WireEvent("command", AT, {"path": "run", "ok": True}))
    narrow = parse_contract(
        wide.text.replace(b'properties.ok = { type = "boolean", optional = true }\n', b""), "x"
    )
    before = sent(wide, said)["batch"][0]
    content, events, dropped = narrow_body(narrow, render_body(wide, said))
    after = json.loads(content)["batch"][0]

    assert (events, dropped) == (1, 0)
    assert before | {"properties": {**after["properties"], "ok": True}} == after | {
        "properties": {**after["properties"], "ok": True}
    }
    assert "ok" not in after["properties"]


def test_a_batch_of_another_protocol_is_not_made_into_one():
    other = parse_contract(
        TEXT.replace("{consent}", "")
        .replace("{identity}", "")
        .replace('protocol = "posthog-batch"\nkey = "phc_EXAMPLE"', "")
        .encode(),
        "x",
    )

    assert narrow_body(contract_with(), render_body(other, body())) == (b"", 0, 0)


@pytest.mark.parametrize(
    ("count", "errors", "rows"),
    [
        (5, 1, [(5, 1)]),
        (1000, 0, [(1000, 0)]),
        (1001, 0, [(1000, 0), (1, 0)]),
        (2500, 1700, [(1000, 1700), (1000, 0), (500, 0)]),
        (0, 3, [(0, 3)]),
    ],
)
def test_a_sum_past_its_maximum_leaves_as_several_rows_and_is_never_cut(
    count: int, errors: int, rows: list[tuple[int, int]]
):
    rollup = contract_with().events["calls"]
    found = list(
        rollup_events(rollup, "2026-11-19", {"tool": "a"}, {"count": count, "errors": errors})
    )

    assert rows == [(one.props["count"], one.props["errors"]) for one in found]
    assert {(one.ts, one.props["tool"]) for one in found} == {("2026-11-19T12:00:00.000Z", "a")}
    assert count == sum(one.counted for one in found)


def test_a_sum_that_nobody_can_have_counted_does_not_become_a_million_rows():
    rollup = contract_with().events["calls"]

    assert (
        len(list(rollup_events(rollup, "2026-11-19", {}, {"count": 2**53 - 1, "errors": 0})))
        == 1000
    )

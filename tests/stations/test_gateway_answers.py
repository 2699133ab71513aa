"""The gateway's answers: every row of the answer table, in the order of its checks."""

from __future__ import annotations

import gzip
import os
import signal
import sqlite3
import sys
import time
import zlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.clock import DAY_S, NOON, FakeClock
from support.gateway import (
    BATCH,
    MACHINE,
    YESTERDAY,
    Answer,
    Gateway,
    Stored,
    batch,
    encoded,
    kept,
    request_bytes,
    rollup,
    row,
    single,
    speak,
    vector,
)
from support.processes import CONTRACTS, background, environ_of, export
from support.processes import gateway as gateway_process
from tallyd.contract.days import instant, unix_of

ACCEPTED = Answer(204)
CAP = 65_536


@pytest.fixture
def gateway(home: Path, clock: FakeClock) -> Iterator[Gateway]:
    with Gateway.open(home / "gateway.db", clock=clock) as opened:
        yield opened


def padded(size: int, *events: object) -> bytes:
    """A good body of exactly `size` bytes."""
    return encoded(batch(*(events or (rollup(),)))).ljust(size)


async def pieces(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


# --- paths and methods ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "answer"),
    [
        ("GET", "/v1/events", Answer(405, {"allow": "POST"})),
        ("HEAD", "/v1/events", Answer(405, {"allow": "POST"})),
        ("PUT", "/v1/events", Answer(405, {"allow": "POST"})),
        ("DELETE", "/v1/events", Answer(405, {"allow": "POST"})),
        ("OPTIONS", "/v1/events", Answer(405, {"allow": "POST"})),
        ("GET", "/v2/events", Answer(404)),
        ("POST", "/v2/events", Answer(404)),
        ("DELETE", "/v2/events", Answer(404)),
        ("POST", "/v1/events/", Answer(404)),
        ("POST", "/V1/EVENTS", Answer(404)),
        ("POST", "/v1", Answer(404)),
        ("GET", "/healthz/", Answer(404)),
        ("GET", "/favicon.ico", Answer(404)),
    ],
)
def test_another_path_is_404_and_another_method_405(
    gateway: Gateway, method: str, path: str, answer: Answer
):
    """A redirect would not do: it reads the host header and sends it back."""
    assert answer == gateway.ask(method, path, encoded(batch()))


@pytest.mark.parametrize("path", ["/", "/healthz", "/metrics"])
def test_a_page_is_read_and_not_written(gateway: Gateway, path: str):
    answer = gateway.ask("POST", path)

    assert (405, {"GET", "HEAD"}) == (answer.status, set(answer.headers["allow"].split(", ")))


def test_the_front_page_says_what_is_stored_and_how_to_turn_it_off(home: Path):
    with Gateway.open(home / "gateway.db", "codegraph", "tallyd-demo") as gateway:
        answer = gateway.ask("GET", "/")

    said = {
        text: text in answer.text
        for text in (
            "never reads, stores or forwards your address",
            "CodeGraph (codegraph)",
            "usage_rollup: How often a tool or command ran on one day, and how often it failed.",
            "codegraph telemetry off",
            "https://github.com/colbymchenry/codegraph/blob/main/TELEMETRY.md",
            "tallyd demo (tallyd-demo)",
            "TALLYD_DEMO_TELEMETRY=0",
            "DO_NOT_TRACK=1",
        )
    }
    assert (200, dict.fromkeys(said, True)) == (answer.status, said)


def test_health_is_one_word(gateway: Gateway):
    assert Answer(200, text="ok\n") == gateway.ask("GET", "/healthz")


# --- length and size ------------------------------------------------------------------------------


def test_a_chunked_body_without_a_length_is_411(gateway: Gateway):
    answer = gateway.ask(content=pieces(encoded(batch(rollup()))))

    assert (Answer(411), Stored()) == (answer, gateway.stored())


@pytest.mark.parametrize(
    ("length", "status"),
    [
        ("", 411),
        ("0", 411),
        ("00", 411),
        ("-1", 411),
        ("+90", 411),
        ("1e3", 411),
        ("12.5", 411),
        ("many", 411),
        ("90, 90", 411),
        ("\N{SUPERSCRIPT TWO}", 411),
        ("65537", 413),
        ("9" * 5000, 413),
        ("0" * 30 + "65537", 413),
    ],
)
def test_a_length_that_is_none_is_411_and_one_over_the_cap_413(
    gateway: Gateway, length: str, status: int
):
    content = encoded(batch(rollup()))

    answer = gateway.ask(content=content, content_length=length)

    assert (Answer(status), Stored()) == (answer, gateway.stored())


@pytest.mark.parametrize("off_by", [-1, 1, 1000])
def test_a_body_that_is_not_as_long_as_it_says_is_400(gateway: Gateway, off_by: int):
    content = encoded(batch(rollup()))

    answer = gateway.ask(content=content, content_length=str(len(content) + off_by))

    assert (Answer(400), Stored()) == (answer, gateway.stored())


def test_a_body_is_read_no_further_than_the_cap_whatever_it_says(gateway: Gateway):
    """Chunked, a body may go on for ever beside a small content-length."""
    served = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal served
        while True:
            served += 1
            assert served < 100, "it goes on reading"
            yield bytes(8192)

    assert Answer(413) == gateway.ask(content=endless(), content_length="10")


@pytest.mark.parametrize(("size", "answer"), [(CAP, ACCEPTED), (CAP + 1, Answer(413))])
def test_a_body_of_64_kib_is_taken_and_one_byte_more_is_not(
    gateway: Gateway, size: int, answer: Answer
):
    said = gateway.post(padded(size))

    assert (answer, [row()] * (answer == ACCEPTED)) == (said, gateway.stored().rows)


@pytest.mark.parametrize(("size", "answer"), [(CAP, ACCEPTED), (CAP + 1, Answer(413))])
def test_the_cap_holds_again_after_decompression(gateway: Gateway, size: int, answer: Answer):
    said = gateway.post(gzip.compress(padded(size)), content_encoding="gzip")

    assert (answer, [row()] * (answer == ACCEPTED)) == (said, gateway.stored().rows)


def test_a_client_that_trickles_its_body_is_let_go(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("tallyd_ingest.app.BODY_PATIENCE_S", 0.01)

    async def stalled() -> AsyncIterator[bytes]:
        import anyio

        yield b"{"
        await anyio.sleep_forever()

    answer = gateway.ask(content=stalled(), content_length="100")

    assert (Answer(408), Stored()) == (answer, gateway.stored())


# --- content-encoding -----------------------------------------------------------------------------

GOOD = encoded(batch(rollup()))
ZIPPED = gzip.compress(GOOD, mtime=0)


@pytest.mark.parametrize(
    ("content", "encoding", "status"),
    [
        (GOOD, "identity", 204),
        (ZIPPED, "gzip", 204),
        (ZIPPED, " GZip ", 204),
        (GOOD, "gzip", 400),
        (ZIPPED, "", 400),
        (ZIPPED[:-1], "gzip", 400),
        (ZIPPED[: len(ZIPPED) // 2], "gzip", 400),
        (ZIPPED[:-8] + bytes(8), "gzip", 400),
        (ZIPPED + b"more", "gzip", 400),
        (ZIPPED + ZIPPED, "gzip", 400),
        (zlib.compress(GOOD), "gzip", 400),
        (zlib.compress(GOOD), "deflate", 400),
        (GOOD, "br", 400),
        (gzip.compress(ZIPPED, mtime=0), "gzip, gzip", 400),
        (gzip.compress(bytes(30 * 1024 * 1024), 9, mtime=0), "gzip", 413),
        (gzip.compress(b" " * (CAP + 1), mtime=0), "gzip", 413),
    ],
    ids=[
        *("identity", "gzip", "gzip in capitals", "no gzip", "gzip untold", "a byte short"),
        *("half", "wrong checksum", "trailing bytes", "two members", "zlib as gzip", "deflate"),
        *("brotli", "gzip twice", "a bomb", "too large and no JSON"),
    ],
)
def test_a_body_is_decompressed_whole_or_refused(
    gateway: Gateway, content: bytes, encoding: str, status: int
):
    assert len(content) <= CAP
    answer = gateway.post(content, content_encoding=encoding)

    assert (Answer(status), [row()] * (status == 204)) == (answer, gateway.stored().rows)


# --- JSON and machine_id --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        b"{oops",
        b" ",
        b"null",
        b"true",
        b"17",
        b'"text"',
        b"[]",
        b"[" + GOOD + b"]",
        GOOD + GOOD,
        GOOD + b"x",
        b"\xef\xbb\xbf" + GOOD,
        GOOD.decode().encode("utf-16"),
        b"\xff" + GOOD,
        GOOD.replace(b'"count": 1', b'"count": NaN'),
        GOOD.replace(b'"count": 1', b'"count": Infinity'),
        GOOD.replace(b'"count": 1', b'"count": -Infinity'),
        GOOD.replace(b'"count": 1', b'"count": 1, "count": 2'),
        b'{"machine_id": "x", ' + GOOD[1:],
        GOOD.replace(b'"count": 1', b'"count": ' + b"9" * 5000),
        b"[" * 60_000,
        b'{"a":' * 12_000,
        GOOD.replace(b'"props"', b'"deep": ' + b"[" * 20_000 + b"]" * 20_000 + b', "props"'),
    ],
    ids=lambda content: repr(content[:24]),
)
def test_what_is_no_json_object_is_400(gateway: Gateway, content: bytes):
    assert (Answer(400), Stored()) == (gateway.post(content), gateway.stored())


@pytest.mark.parametrize(
    ("machine_id", "status"),
    [
        (None, 400),
        ("", 400),
        ("host-17", 400),
        (17, 400),
        ([MACHINE], 400),
        (MACHINE.replace("-", ""), 400),
        ("{" + MACHINE + "}", 400),
        (f"urn:uuid:{MACHINE}", 400),
        (MACHINE + "\n", 400),
        (" " + MACHINE, 400),
        (MACHINE.replace("5", "\N{FULLWIDTH DIGIT FIVE}"), 400),
        (MACHINE.replace("a", "g"), 400),
        (MACHINE, 204),
        (MACHINE.upper(), 204),
    ],
)
def test_a_machine_id_is_a_uuid_in_its_usual_form(
    gateway: Gateway, machine_id: object, status: int
):
    """Upper case is the same machine, so it is the same row."""
    answer = gateway.post(batch(rollup(), machine_id=machine_id))

    assert (Answer(status), [row()] * (status == 204)) == (answer, gateway.stored().rows)


@pytest.mark.parametrize(
    "machine_id",
    ["6ba7b810-9dad-11d1-80b4-00c04fd430c8", "00000000-0000-0000-0000-000000000000"],
)
def test_a_uuid_of_another_version_is_a_uuid(gateway: Gateway, machine_id: str):
    """A product that derives its id from a value has no version 4."""
    answer = gateway.post(batch(rollup(), machine_id=machine_id))

    assert (ACCEPTED, [row(machine_id=machine_id)]) == (answer, gateway.stored().rows)


# --- the order of the checks ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "content", "headers", "status"),
    [
        ("PUT", "/v2/events", b"", {}, 404),
        ("POST", "/v2/events", bytes(CAP + 1), {}, 404),
        ("PUT", "/v1/events", b"", {}, 405),
        ("PUT", "/v1/events", bytes(CAP + 1), {}, 405),
        ("POST", "/v1/events", b"", {}, 411),
        ("POST", "/v1/events", bytes(CAP + 1), {"content_length": "x"}, 411),
        ("POST", "/v1/events", bytes(CAP + 1), {}, 413),
        ("POST", "/v1/events", bytes(CAP + 1), {"content_encoding": "br"}, 413),
        (
            "POST",
            "/v1/events",
            gzip.compress(bytes(CAP + 1), mtime=0),
            {"content_encoding": "gzip"},
            413,
        ),
        ("POST", "/v1/events", encoded(batch(machine_id="x", batch_id=BATCH)), {}, 400),
        ("POST", "/v1/events", encoded(batch(machine_id="x", product="unknown")), {}, 400),
    ],
)
def test_the_first_check_that_fails_gives_the_answer(
    gateway: Gateway, method: str, path: str, content: bytes, headers: dict[str, str], status: int
):
    gateway.post(batch(batch_id=BATCH))

    assert status == gateway.ask(method, path, content, **headers).status


def test_a_batch_seen_before_is_204_also_when_it_says_something_else_now(gateway: Gateway):
    gateway.post(batch(rollup(count=3), batch_id=BATCH))

    again = gateway.post(batch(rollup(count=40), batch_id=BATCH))

    assert (again, gateway.counted()) == (ACCEPTED, {"explore": 3})


# --- what is kept ---------------------------------------------------------------------------------


def test_the_reference_batch_is_stored_field_by_field(home: Path):
    sent = vector("codegraph_batch.json")
    clock = FakeClock(unix_of("2026-09-21T12:00:00Z") or 0)
    with Gateway.open(home / "gateway.db", clock=clock) as gateway:
        answer = gateway.post(sent)
        stored = gateway.stored()

    install, index, explored, affected, uninstall = sent["events"]
    assert (
        ACCEPTED,
        Stored(
            rows=[
                as_row(explored, client_name="Claude Code", client_version="2.1.7"),
                as_row(affected),
            ],
            events=[
                kept("install", install["props"], install["ts"]),
                kept("index", index["props"], index["ts"]),
                kept("uninstall", uninstall["props"], uninstall["ts"]),
            ],
        ),
    ) == (answer, stored)


def as_row(sent: dict[str, Any], **client: str) -> dict[str, Any]:
    """The stored row of a rollup in the reference batch."""
    props = sent["props"]
    name, count, errors = props["name"], props["count"], props["error_count"]
    return row(name, count, errors, kind=props["kind"], day="2026-09-20", **client)


def test_the_batch_of_the_older_schema_keeps_what_is_still_listed(home: Path):
    """`sqlite_backend` went with schema 1: what the contract no longer lists is stripped."""
    sent = vector("codegraph_batch_schema_v1.json")
    clock = FakeClock(unix_of("2026-06-14T12:00:00Z") or 0)
    with Gateway.open(home / "gateway.db", clock=clock) as gateway:
        answer = gateway.post(sent)
        events = gateway.stored().events

    older = {
        "codegraph_version": "0.9.12",
        "os": "linux",
        "arch": "x64",
        "node_major": 22,
        "ci": False,
    }
    listed = [
        {name: value for name, value in event["props"].items() if name != "sqlite_backend"}
        for event in sent["events"]
    ]
    assert (
        ACCEPTED,
        [
            {**kept("install", listed[0], "2026-06-14T10:00:00.000Z"), "envelope": older},
            {**kept("index", listed[1], "2026-06-14T10:00:42.000Z"), "envelope": older},
        ],
    ) == (answer, events)


# Left out, for they belong to a later change: "seventh request in a minute for a machine" and
# "rate limiter itself fails". "upstream down" is a forwarding sink's case; this store has none.
LATER = (
    "seventh request in a minute for a machine",
    "rate limiter itself fails",
    "upstream down",
)
CASES = {case["name"]: case for case in vector("codegraph_gateway_cases.json")["cases"]}
# Where wire-v1 has the better rule: a list keeps its good items.
BETTER = {"one bad array item strips the whole array": {"languages": ["python"]}}


@pytest.mark.parametrize(
    "name", [name for name, case in CASES.items() if "body" in case or "raw" in case]
)
def test_a_body_of_the_reference_cases_gets_its_answer_and_keeps_its_events(
    gateway: Gateway, name: str
):
    """Its rollups carry no time; with one they are refused for what the case is about."""
    case = CASES[name]
    body = case.get("raw", "").encode() or case["body"]
    for event in body.get("events", ()) if isinstance(body, dict) else ():
        event["ts"] = f"{YESTERDAY}T12:00:00.000Z"

    answer = gateway.post(body)

    stored = gateway.stored()
    kept_count = len(stored.rows) + len(stored.events)
    assert (case["status"], case.get("forwarded_events", 0)) == (answer.status, kept_count)
    if "kept_props" in case:
        given = body["events"][0]["props"]
        wanted = BETTER.get(name, {prop: given[prop] for prop in case["kept_props"]})
        assert wanted == stored.events[0]["properties"]


@pytest.mark.parametrize(
    ("offset_s", "is_kept"),
    [(-2_592_000, True), (-2_592_001, False), (600, True), (601, False)],
)
def test_outside_its_window_an_event_loses_its_time_and_a_rollup_is_dropped(
    gateway: Gateway, offset_s: int, is_kept: bool
):
    """A rollup without its day would be added to another day's sums."""
    at = instant(NOON + offset_s)
    event, counts = single("uninstall", at), {**rollup(), "ts": at}

    answer = gateway.post(batch(event, counts))

    assert (
        ACCEPTED,
        Stored(
            rows=[row(day=at[:10])] if is_kept else [],
            events=[kept("uninstall", {}, at if is_kept else None)],
        ),
    ) == (answer, gateway.stored())


@pytest.mark.parametrize(
    "ts",
    [
        None,
        "",
        "yesterday",
        "2026-11-19",
        "2026-11-19T12:00:00",
        1795176000,
        "2026-11-31T12:00:00Z",
    ],
)
def test_a_time_that_is_none_is_no_time(gateway: Gateway, ts: object):
    event, counts = {**single("uninstall"), "ts": ts}, {**rollup(), "ts": ts}

    gateway.post(batch(event, counts))

    assert Stored(events=[kept("uninstall", {})]) == gateway.stored()


def test_of_101_events_the_first_100_are_kept(gateway: Gateway):
    answer = gateway.post(batch(*(rollup(f"tool{number}") for number in range(101))))

    assert (ACCEPTED, {f"tool{number}": 1 for number in range(100)}, "1") == (
        answer,
        gateway.counted(),
        gateway.metrics()['events_dropped_total{reason="too_many"}'],
    )


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (17, "malformed"),
        ([], "malformed"),
        ({}, "malformed"),
        ({"event": ["usage_rollup"]}, "malformed"),
        ({**rollup(), "props": None}, "malformed"),
        ({**rollup(), "props": []}, "malformed"),
        (single("keystroke"), "unknown_event"),
        (single("USAGE_ROLLUP"), "unknown_event"),
        ({"event": "usage_rollup", "props": {}}, "outside_window"),
        (rollup(count=True), "screened"),
        (rollup(count=1.0), "screened"),
        (rollup(count="1"), "screened"),
        (rollup(count=-1), "screened"),
        (rollup(count=2**53), "screened"),
        (rollup(count=10**400), "screened"),
        (rollup(count=None), "screened"),
        (rollup(kind="other"), "screened"),
        (rollup(name="with space"), "screened"),
        (rollup(name="\ud800"), "screened"),
        (rollup(name=""), "screened"),
        (rollup(name=["x"]), "screened"),
        (single("install", kind="fresh"), "screened"),
        (single("install", kind="fresh", scope="LOCAL"), "screened"),
    ],
)
def test_a_bad_event_is_dropped_and_counted_and_never_costs_its_neighbour(
    gateway: Gateway, event: object, reason: str
):
    answer = gateway.post(batch(event, rollup("neighbour")))

    assert (ACCEPTED, Stored(rows=[row("neighbour")]), "1") == (
        answer,
        gateway.stored(),
        gateway.metrics()[f'events_dropped_total{{reason="{reason}"}}'],
    )


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (rollup(errors=True), row()),
        (rollup(errors=-1), row()),
        (rollup(errors=5), row(errors=5)),
        (rollup(cwd="/home/x"), row()),
        (rollup(client_name="Claude Code"), row(client_name="Claude Code")),
        (rollup(client_name="Claude\u202eCode"), row()),
        (rollup(client_name=""), row()),
        (rollup(client_name="x" * 65), row(client_name="x" * 64)),
        (rollup(name="y" * 65), row(name="y" * 64)),
    ],
)
def test_a_bad_optional_part_is_stripped_and_text_is_cut_where_the_contract_says_so(
    gateway: Gateway, given: dict[str, Any], wanted: dict[str, Any]
):
    gateway.post(batch(given))

    assert Stored(rows=[wanted]) == gateway.stored()


@pytest.mark.parametrize("events", [None, {}, "events", 3, [], True])
def test_a_request_without_events_is_accepted_and_stores_none(gateway: Gateway, events: object):
    assert (ACCEPTED, Stored()) == (gateway.post(batch() | {"events": events}), gateway.stored())


def test_a_bad_envelope_field_is_stripped_and_never_costs_the_counts(gateway: Gateway):
    wrong = batch(rollup(), os="lin ux", node_major="22", ci=0, hostname="ada", arch="x64")

    gateway.post(wrong)

    envelope = {"codegraph_version": "1.6.2", "arch": "x64"}
    assert Stored(rows=[row(envelope=envelope)]) == gateway.stored()


@pytest.mark.parametrize(
    ("lost", "wanted"),
    [
        ({"cap": 3, "age": 1}, {"cap": 3, "age": 1}),
        ({"cap": True, "age": -1, "error": 0, "Not A Cause": 5, "x" * 33: 1, "wide": 2**53}, {}),
        ({"cap": 1.0, "age": "2", "ok": 2**53 - 1}, {"ok": 2**53 - 1}),
        (
            {f"cause_{letter}": 1 for letter in "abcdefghijklmnopqrstuvwxyz"},
            {f"cause_{letter}": 1 for letter in "abcdefghijklmnop"},
        ),
        ([["cap", 3]], {}),
        (3, {}),
    ],
)
def test_what_a_client_lost_is_kept_by_cause_and_bounded(
    gateway: Gateway, lost: object, wanted: dict[str, int]
):
    gateway.post(batch(lost=lost))

    assert Stored(lost=wanted) == gateway.stored()


@pytest.mark.parametrize("batch_id", ["", "x", 5, None, ["a"], BATCH[:-1]])
def test_a_batch_id_that_is_no_uuid_is_no_batch_id(gateway: Gateway, batch_id: object):
    for _ in range(2):
        gateway.post(batch(rollup()) | {"batch_id": batch_id})

    assert Stored(rows=[row(count=2)]) == gateway.stored()


# --- products -------------------------------------------------------------------------------------


@pytest.mark.parametrize("product", ["other", "", "CodeGraph", 5, [], {}])
def test_an_unknown_product_is_accepted_counted_and_not_stored(gateway: Gateway, product: object):
    answer = gateway.post(batch(rollup(), product=product, batch_id=BATCH))

    assert (
        ACCEPTED,
        Stored(),
        {
            "requests_accepted_total": "1",
            'events_dropped_total{reason="unknown_product"}': "1",
            "last_success_age_seconds": "NaN",
        },
    ) == (answer, gateway.stored(), gateway.metrics())


# --- the store refuses ----------------------------------------------------------------------------

REFUSED = Answer(503, {"retry-after": "300"})


def test_while_another_process_holds_the_database_nothing_is_acknowledged(gateway: Gateway):
    gateway.store._sql.execute("PRAGMA busy_timeout = 0")
    other = sqlite3.connect(gateway.file, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")

    refused = gateway.post(batch(rollup(), batch_id=BATCH))
    between = gateway.metrics()
    other.close()
    accepted = gateway.post(batch(rollup(), batch_id=BATCH))

    assert (
        REFUSED,
        {"store_failures_total": "1", "last_success_age_seconds": "NaN"},
        ACCEPTED,
        Stored(rows=[row()], batches=1),
    ) == (refused, between, accepted, gateway.stored())


def test_a_full_database_keeps_nothing_of_a_batch_and_takes_it_whole_when_there_is_room(
    gateway: Gateway,
):
    """The batch's id is written first; kept alone, it would turn the retry away."""
    (pages,) = gateway.store._sql.execute("PRAGMA page_count").fetchone()
    gateway.store._sql.execute(f"PRAGMA max_page_count = {pages}")
    many = batch(*(rollup(f"tool{number:02d}" + "x" * 50) for number in range(100)), batch_id=BATCH)

    refused = gateway.post(many)
    between = gateway.stored()
    gateway.store._sql.execute("PRAGMA max_page_count = 1000000")
    accepted = gateway.post(many)

    assert (REFUSED, Stored(), ACCEPTED, 100, 1) == (
        refused,
        between,
        accepted,
        len(gateway.stored().rows),
        gateway.stored().batches,
    )


@pytest.mark.parametrize("is_replaced", [False, True], ids=["gone", "replaced"])
def test_a_database_that_was_moved_away_is_not_written_to(gateway: Gateway, is_replaced: bool):
    """SQLite would go on writing to the old file, and every 204 would be a lie."""
    aside = gateway.file.with_suffix(".aside")
    gateway.file.rename(aside)
    if is_replaced:
        gateway.file.write_bytes(b"")

    refused = gateway.post(batch(rollup(), batch_id=BATCH))
    os.replace(aside, gateway.file)
    accepted = gateway.post(batch(rollup(), batch_id=BATCH))

    assert (REFUSED, ACCEPTED, Stored(rows=[row()], batches=1)) == (
        refused,
        accepted,
        gateway.stored(),
    )


def test_a_database_that_became_read_only_refuses(gateway: Gateway):
    gateway.store._sql.execute("PRAGMA query_only = ON")

    refused = gateway.post(batch(rollup()))

    assert (REFUSED, Stored()) == (refused, gateway.stored())


# --- metrics --------------------------------------------------------------------------------------


def test_metrics_tell_what_was_accepted_dropped_and_deduplicated(
    gateway: Gateway, clock: FakeClock
):
    gateway.post(batch(rollup(), rollup("b"), single("keystroke"), batch_id=BATCH))
    gateway.post(batch(rollup(), single("keystroke"), batch_id=BATCH))
    gateway.post(b"{oops")
    clock.pass_s(DAY_S / 2)

    assert gateway.metrics() == {
        "requests_accepted_total": "2",
        "events_accepted_total": "2",
        "batches_deduplicated_total": "1",
        'events_dropped_total{reason="unknown_event"}': "1",
        "last_success_age_seconds": "43200.000",
    }


def test_every_metric_is_named_and_typed_before_anything_happened(gateway: Gateway):
    typed = [line for line in gateway.ask("GET", "/metrics").text.splitlines() if "# TYPE" in line]

    assert typed == [
        "# TYPE tallyd_ingest_requests_accepted_total counter",
        "# TYPE tallyd_ingest_events_accepted_total counter",
        "# TYPE tallyd_ingest_batches_deduplicated_total counter",
        "# TYPE tallyd_ingest_rate_limited_total counter",
        "# TYPE tallyd_ingest_store_failures_total counter",
        "# TYPE tallyd_ingest_forward_failures_total counter",
        "# TYPE tallyd_ingest_events_dropped_total counter",
        "# TYPE tallyd_ingest_last_success_age_seconds gauge",
    ]


# --- what only a socket can show ------------------------------------------------------------------


@pytest.mark.slow
def test_a_real_server_gives_the_same_answers_and_survives_nonsense(home: Path):
    """What is no HTTP at all (a negative length among it) the server itself answers with 400."""
    chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(GOOD), GOOD)
    # Not one byte further than the gateway reads, so that no reset overtakes the answer.
    over_the_cap = (b"2000\r\n" + bytes(8192) + b"\r\n") * 8 + b"1\r\nx\r\n"
    new = encoded(batch(rollup(day=yesterday())))
    good = f"content-length: {len(GOOD)}"
    asked = {
        "good": (request_bytes(new, f"content-length: {len(new)}"), b"204"),
        "wrong method, unknown path": (request_bytes(b"", line="PUT /nowhere HTTP/1.1"), b"404"),
        "wrong method": (request_bytes(b"", line="GET /v1/events HTTP/1.1"), b"405"),
        "no length": (request_bytes(b""), b"411"),
        "zero": (request_bytes(b"", "content-length: 0"), b"411"),
        "chunked": (request_bytes(chunked, "transfer-encoding: chunked"), b"411"),
        "huge, and not sent": (request_bytes(b"", "content-length: 99999999"), b"413"),
        "one too many, and not sent": (request_bytes(b"", f"content-length: {CAP + 1}"), b"413"),
        "chunked, with a small length": (
            request_bytes(over_the_cap, "content-length: 10", "transfer-encoding: chunked"),
            b"413",
        ),
        "chunked, with a wrong length": (
            request_bytes(chunked, "content-length: 10", "transfer-encoding: chunked"),
            b"400",
        ),
        "negative": (request_bytes(GOOD, "content-length: -5"), b"400"),
        "text": (request_bytes(GOOD, "content-length: many"), b"400"),
        "two lengths": (request_bytes(GOOD, good, "content-length: 5"), b"400"),
        "no HTTP": (b"\x16\x03\x01 hello\r\n\r\n", b"400"),
        "no JSON": (request_bytes(b"{oops", "content-length: 5"), b"400"),
        "wait for me": (
            request_bytes(b"{oops", "content-length: 5", "expect: 100-continue"),
            b"400",
        ),
    }
    with gateway_process(home, CONTRACTS / "codegraph.toml") as url:
        answers = {name: last_status(speak(url, request)) for name, (request, _) in asked.items()}
        cut_short = speak(url, request_bytes(b"{", "content-length: 100"), half_close=True)
        alive = last_status(speak(url, request_bytes(b"", line="GET /healthz HTTP/1.1")))

    assert {name: status for name, (_, status) in asked.items()} == answers
    assert (cut_short, alive, len(export(home))) == (b"", b"200", 1)


def last_status(said: bytes) -> bytes:
    """The status of the last answer: 100 Continue may stand before it."""
    lines = [line for line in said.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")]
    return lines[-1].split()[1]


def yesterday() -> str:
    """The day before, for a gateway that runs by the wall clock."""
    return instant(time.time() - DAY_S)[:10]


@pytest.mark.slow
def test_what_was_answered_204_is_on_the_disk_when_the_server_is_killed(home: Path):
    body = encoded(batch(rollup(count=7, day=yesterday())))
    log = home / "gateway.log"
    with background(
        *(sys.executable, "-m", "tallyd_ingest", "serve", "--port", "0"),
        *("--db", str(home / "gateway.db"), "--contract", str(CONTRACTS / "codegraph.toml")),
        environ=environ_of(home),
        log=log,
        until="listens on",
    ) as process:
        url = log.read_text().split("listens on ")[1].split()[0]
        said = speak(url, request_bytes(body, f"content-length: {len(body)}"))
        process.kill()
        process.wait()

    counts = [one["measures"]["count"] for one in export(home)]
    assert (last_status(said), process.returncode, counts) == (b"204", -signal.SIGKILL, [7])

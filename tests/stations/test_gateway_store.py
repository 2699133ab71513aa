"""The gateway's store: counters add, a batch is stored once, and the export says what is there."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest
from support.clock import NOON, TODAY, FakeClock
from support.gateway import (
    BATCH,
    ENVELOPE,
    MACHINE,
    YESTERDAY,
    Answer,
    Gateway,
    Stored,
    batch,
    days_ahead,
    encoded,
    kept,
    rollup,
    row,
    single,
)
from support.processes import CONTRACTS, environ_of, export, run
from tallyd_ingest.body import Batch
from tallyd_ingest.store import Store, StoreUnusable

OTHER_MACHINE = "11111111-2222-4333-8444-555555555555"
MAX = 2**53 - 1


@pytest.fixture
def gateway(home: Path, clock: FakeClock) -> Iterator[Gateway]:
    with Gateway.open(home / "gateway.db", clock=clock) as opened:
        yield opened


# --- counters add ---------------------------------------------------------------------------------


def test_counters_add_over_batches_and_within_one(gateway: Gateway):
    gateway.post(batch(rollup(count=3, errors=1), rollup(count=4)))
    gateway.post(batch(rollup(count=5, errors=2)))

    assert Stored(rows=[row(count=12, errors=3)]) == gateway.stored()


def test_a_row_is_one_product_day_machine_event_envelope_and_dimensions(gateway: Gateway):
    """Rows follow what differs, never the number of requests."""
    for _ in range(3):
        gateway.post(batch(rollup(), rollup(day=TODAY[:-2] + "18"), rollup("other")))
        gateway.post(batch(rollup(), machine_id=OTHER_MACHINE))
        gateway.post(batch(rollup(), os="darwin"))
        gateway.post(batch(rollup(client_name="Claude Code")))

    assert [
        row(count=3, day="2026-11-18"),
        row(count=3, machine_id=OTHER_MACHINE),
        row(count=3, envelope={**ENVELOPE, "os": "darwin"}),
        row(count=3, client_name="Claude Code"),
        row(count=3),
        row("other", count=3),
    ] == gateway.stored().rows


def test_the_order_of_keys_on_the_wire_makes_no_other_row(gateway: Gateway):
    plain = batch(rollup(client_name="x"))
    turned = dict(reversed(plain.items()))
    turned["events"] = [
        {**rollup(), "props": dict(reversed(rollup(client_name="x")["props"].items()))}
    ]

    gateway.post(plain)
    gateway.post(turned)

    assert Stored(rows=[row(count=2, client_name="x")]) == gateway.stored()


def test_sums_saturate_and_never_fail(gateway: Gateway):
    """The largest integer that every JSON reader holds exactly."""
    for _ in range(3):
        gateway.post(batch(rollup(count=MAX, errors=MAX - 1), lost={"cap": MAX}))

    assert Stored(rows=[row(count=MAX, errors=MAX)], lost={"cap": MAX}) == gateway.stored()


def test_late_data_for_a_day_adds_to_it(gateway: Gateway, clock: FakeClock):
    gateway.post(batch(rollup(count=2)))
    clock.time = days_ahead(20)
    gateway.post(batch(rollup(count=3)))

    assert Stored(rows=[row(count=5)]) == gateway.stored()


def test_single_events_are_kept_one_by_one_in_the_order_of_arrival(gateway: Gateway):
    event = single("uninstall", f"{TODAY}T01:00:00.123Z", targets=["claude"])
    for _ in range(2):
        gateway.post(batch(event, single("index")))

    told = kept("uninstall", {"targets": ["claude"]}, f"{TODAY}T01:00:00.123Z")
    assert Stored(events=[told, kept("index", {})] * 2) == gateway.stored()


# --- a batch is stored once -----------------------------------------------------------------------


def test_a_batch_id_seen_before_writes_nothing_in_any_table(gateway: Gateway):
    sent = batch(rollup(), single("uninstall"), lost={"cap": 1}, batch_id=BATCH)
    gateway.post(sent)
    once = gateway.stored()

    again = [gateway.post(sent), gateway.post(sent | {"batch_id": BATCH.upper()})]

    assert ([Answer(204)] * 2, once) == (again, gateway.stored())


def test_a_batch_id_is_remembered_over_a_restart(home: Path):
    for _ in range(2):
        with Gateway.open(home / "gateway.db") as gateway:
            gateway.post(batch(rollup(), batch_id=BATCH))
            stored = gateway.stored()

    assert Stored(rows=[row()], batches=1) == stored


def test_two_requests_with_one_batch_id_at_once_are_stored_once(gateway: Gateway):
    """A daemon that got no answer sends again while the first request is still on its way."""
    content = encoded(batch(rollup(), batch_id=BATCH))
    answers: list[Answer] = []

    async def post_all() -> None:
        async def post() -> None:
            answers.append(await gateway.ask_now(content=content))

        async with anyio.create_task_group() as posts:
            for _ in range(8):
                posts.start_soon(post)

    anyio.run(post_all)

    deduplicated = gateway.metrics()["batches_deduplicated_total"]
    assert ([Answer(204)] * 8, Stored(rows=[row()], batches=1), "7") == (
        answers,
        gateway.stored(),
        deduplicated,
    )


def test_two_gateways_on_one_file_store_a_batch_once(home: Path):
    said: list[bool] = []
    start = threading.Barrier(2)

    def accept() -> None:
        store = Store(home / "gateway.db")
        start.wait()
        for number in range(20):
            one = Batch("p", MACHINE, f"id-{number}", "{}", [(TODAY, "e", "{}", {"count": 1})])
            said.append(store.accept(one, TODAY))
        store.close()

    Store(home / "gateway.db").close()
    both = [threading.Thread(target=accept) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join()

    with Gateway.open(home / "gateway.db") as gateway:
        stored = gateway.stored()
    assert (
        said.count(True),
        stored.batches,
        [one["measures"] for one in stored.rows],
    ) == (20, 20, [{"count": 20}])


@pytest.mark.parametrize(("days", "count"), [(31, 1), (32, 1), (33, 2)])
def test_a_batch_id_is_remembered_for_32_days(
    gateway: Gateway, clock: FakeClock, days: int, count: int
):
    """A daemon keeps an unanswered batch for 30. An event carries no day, so it is taken again."""
    sent = batch(single("uninstall"), batch_id=BATCH)
    gateway.post(sent)
    clock.time = days_ahead(days)
    gateway.post(batch(batch_id=BATCH[:-1] + "2"))

    gateway.post(sent)

    assert Stored(events=[kept("uninstall", {})] * count, batches=2) == gateway.stored()


def test_a_repeated_batch_does_not_put_off_the_pruning(gateway: Gateway, clock: FakeClock):
    """It writes nothing, so it prunes nothing, and the next batch of the day has to."""
    first, second, third = (BATCH[:-1] + digit for digit in "123")
    gateway.post(batch(batch_id=first))
    clock.time = days_ahead(20)
    gateway.post(batch(batch_id=second))
    clock.time = days_ahead(40)
    gateway.post(batch(batch_id=second))

    gateway.post(batch(batch_id=third))

    sql = sqlite3.connect(gateway.file)
    remembered = [found for (found,) in sql.execute("SELECT batch_id FROM batch ORDER BY batch_id")]
    sql.close()
    assert [second, third] == remembered


# --- products -------------------------------------------------------------------------------------


def test_two_contracts_share_a_gateway_and_nothing_else(home: Path):
    """Without a product's name a request belongs to neither."""
    demo = {
        "machine_id": MACHINE,
        "product": "tallyd-demo",
        "os": "linux",
        "codegraph_version": "1",
        "events": [
            rollup(),
            {
                "event": "tool_calls",
                "ts": f"{YESTERDAY}T12:00:00.000Z",
                "props": {"tool": "now", "count": 2},
            },
        ],
    }
    with Gateway.open(home / "gateway.db", "codegraph", "tallyd-demo") as gateway:
        gateway.post(demo)
        gateway.post(batch(rollup(), product="codegraph"))
        gateway.post(batch(rollup("nobody's")))
        stored, metrics = gateway.stored(), gateway.metrics()

    calls = {
        **row(product="tallyd-demo", event="tool_calls", envelope={"os": "linux"}),
        "dimensions": {"tool": "now"},
        "measures": {"count": 2, "error_count": 0},
    }
    dropped = {name: value for name, value in metrics.items() if "dropped" in name}
    assert (
        Stored(rows=[row(), calls]),
        {
            'events_dropped_total{reason="unknown_event"}': "1",
            'events_dropped_total{reason="unknown_product"}': "1",
        },
    ) == (stored, dropped)


# --- what lies in the file ------------------------------------------------------------------------


def test_the_schema_has_no_column_for_an_address_or_a_time_finer_than_a_day(gateway: Gateway):
    """An event's own `ts` is the one exception: it is listed, and the client's to send."""
    sql = sqlite3.connect(gateway.file)
    tables = [
        name for (name,) in sql.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
    ]
    columns = {
        table: [column[1] for column in sql.execute(f"PRAGMA table_info({table})")]
        for table in tables
    }
    sql.close()

    assert {
        "rollup": [
            *("product", "day", "machine_id", "event"),
            *("envelope", "dimensions", "measure", "value"),
        ],
        "event": [
            *("id", "product", "received_day", "machine_id"),
            *("event", "ts", "envelope", "properties"),
        ],
        "lost": ["product", "day", "machine_id", "cause", "value"],
        "batch": ["batch_id", "seen_day"],
    } == columns


def test_every_day_in_the_store_is_a_day_and_nothing_finer(gateway: Gateway, clock: FakeClock):
    clock.time = NOON + 12345.678
    gateway.post(batch(rollup(), single("uninstall"), lost={"cap": 1}, batch_id=BATCH))

    sql = sqlite3.connect(gateway.file)
    days = [
        sql.execute(f"SELECT {column} FROM {table}").fetchall()
        for table, column in (
            ("rollup", "DISTINCT day"),
            ("event", "received_day"),
            ("lost", "day"),
            ("batch", "seen_day"),
        )
    ]
    sql.close()

    assert days == [[(YESTERDAY,)], [(TODAY,)], [(TODAY,)], [(TODAY,)]]


def test_the_database_is_its_owners_alone(gateway: Gateway):
    gateway.post(batch(rollup()))

    assert {0o600} == {
        file.stat().st_mode & 0o777 for file in gateway.file.parent.glob("gateway.db*")
    }


# --- a file that is not ours ----------------------------------------------------------------------


def spoilt(home: Path, how: str) -> Path:
    """A database that the gateway cannot use."""
    file = home / "gateway.db"
    if how == "newer":
        Store(file).close()
        statement = "PRAGMA user_version = 2"
    elif how == "foreign":
        statement = "CREATE TABLE bookmarks (url TEXT)"
    if how in ("newer", "foreign"):
        sql = sqlite3.connect(file, isolation_level=None)
        sql.execute(statement)
        sql.close()
    elif how == "text":
        file.write_text("this is a letter to my aunt, and no database at all\n" * 100)
    elif how == "directory":
        file.mkdir()
    return file


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("newer", "was written by a newer tallyd-ingest; upgrade this one"),
        ("foreign", "is another program's database; give another file"),
        ("text", "cannot be opened: file is not a database"),
        ("directory", "cannot be opened: [Errno 21] Is a directory"),
    ],
)
def test_a_file_that_is_not_ours_is_left_as_it_is(home: Path, how: str, says: str):
    file = spoilt(home, how)
    before = file.read_bytes() if file.is_file() else b""

    with pytest.raises(StoreUnusable) as raised:
        Store(file)

    assert (True, before) == (
        says in str(raised.value),
        file.read_bytes() if file.is_file() else b"",
    )


@pytest.mark.slow
def test_the_commands_say_what_is_wrong_with_their_files_and_exit_by_it(home: Path):
    newer = spoilt(home, "newer")
    contract, twin = CONTRACTS / "codegraph.toml", home / "twin.toml"
    twin.write_bytes(contract.read_bytes() + b"\n")
    bad = home / "bad.toml"
    bad.write_text("contract = 2\n")
    fresh = str(home / "fresh.db")
    damaged = home / "damaged.db"
    with Gateway.open(damaged) as gateway:
        gateway.post(batch(*(rollup(f"tool{n}") for n in range(100))))
    content = damaged.read_bytes()
    damaged.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))

    def ended(*arguments: str) -> tuple[int, str]:
        done = run("tallyd_ingest", *arguments, environ=environ_of(home), check=False)
        return done.returncode, done.stderr.splitlines()[-1]

    serve = ("serve", "--db", fresh, "--contract")
    assert [
        (73, f"tallyd-ingest: {newer} was written by a newer tallyd-ingest; upgrade this one"),
        (73, f"tallyd-ingest: {home}/none.db is not there; give the file that serve --db names"),
        (73, f"tallyd-ingest: {damaged} cannot be read: database disk image is malformed"),
        (
            78,
            f"tallyd-ingest: {twin}: product.name: names the product of another file; give one for each",
        ),
        (
            78,
            f"tallyd-ingest: {bad}:1: contract: is a version that this tallyd does not know; write contract = 1",
        ),
        (78, f"tallyd-ingest: {home}/no.toml: cannot be read: No such file or directory"),
        (
            64,
            "tallyd-ingest serve: argument --port: '70000' is no port; write a number from 0 to 65535",
        ),
    ] == [
        ended("export", "--db", str(newer)),
        ended("export", "--db", str(home / "none.db")),
        ended("export", "--db", str(damaged)),
        ended(*serve, str(contract), str(twin)),
        ended(*serve, str(bad)),
        ended(*serve, str(home / "no.toml")),
        ended(*serve, str(contract), "--port", "70000"),
    ]


# --- export ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_export_prints_rows_and_events_as_text_and_as_json(home: Path):
    with Gateway.open(home / "gateway.db") as gateway:
        gateway.post(batch(rollup(count=2, client_name="Claude Code"), single("index")))
        stored = gateway.stored()

    def printed(*more: str) -> str:
        arguments = ("export", "--db", str(home / "gateway.db"), *more)
        return run("tallyd_ingest", *arguments, environ=environ_of(home)).stdout

    envelope = json.dumps(stored.rows[0]["envelope"], separators=(",", ":"))
    shape = {"day", "event", "envelope", "dimensions", "measures", "product", "machine_id"}
    assert (
        stored.rows,
        shape,
        stored.events,
        f"product=codegraph machine_id={MACHINE} day={YESTERDAY} event=usage_rollup"
        f' envelope={envelope} dimensions={{"client_name":"Claude Code","kind":"mcp_tool",'
        f'"name":"explore"}} measures={{"count":2,"error_count":0}}\n',
        f"product=codegraph machine_id={MACHINE} event=index ts=null"
        f" envelope={envelope} properties={{}}\n",
    ) == (
        export(home),
        set(export(home)[0]),
        export(home, "--events"),
        printed(),
        printed("--events"),
    )

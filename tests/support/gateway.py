"""The gateway in the test's own process: the real application and store, a clock by hand, and raw sockets."""

from __future__ import annotations

import json
import socket
import sqlite3
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio
import httpx
from starlette.applications import Starlette
from tallyd.contract import Contract, parse_contract
from tallyd_ingest.app import make_app
from tallyd_ingest.store import Store

from support.clock import DAY_S, NOON, FakeClock
from support.processes import CONTRACTS, ROOT

VECTORS = ROOT / "tests" / "vectors"
MACHINE = "5d0c7a16-2f0e-4c1b-9b58-7e41d2aa9f03"
BATCH = "00000000-0000-4000-8000-000000000001"
YESTERDAY = "2026-11-19"
ENVELOPE = {
    "codegraph_version": "1.6.2",
    "os": "linux",
    "arch": "x64",
    "node_major": 22,
    "ci": False,
}


@dataclass(frozen=True)
class Answer:
    """What a client sees of an answer; `headers` are those that the answer table names."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    text: str = ""


@dataclass(frozen=True)
class Stored:
    """Everything that a request can have left behind, as one value to compare."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    lost: dict[str, int] = field(default_factory=dict)
    batches: int = 0


@dataclass
class Gateway:
    """One gateway over one database file."""

    file: Path
    clock: FakeClock
    store: Store
    app: Starlette

    @classmethod
    @contextmanager
    def open(cls, file: Path, *products: str, clock: FakeClock | None = None) -> Iterator[Gateway]:
        clock = clock or FakeClock()
        store = Store(file)
        try:
            contracts = {name: contract_of(name) for name in products or ("codegraph",)}
            yield cls(file, clock, store, make_app(contracts, store, clock.now))
        finally:
            store.close()

    def ask(
        self,
        method: str = "POST",
        path: str = "/v1/events",
        content: bytes | AsyncIterator[bytes] | None = None,
        **headers: str,
    ) -> Answer:
        """One request; underscores in the names of headers stand for hyphens."""
        return anyio.run(lambda: self.ask_now(method, path, content, **headers))

    async def ask_now(
        self,
        method: str = "POST",
        path: str = "/v1/events",
        content: bytes | AsyncIterator[bytes] | None = None,
        **headers: str,
    ) -> Answer:
        transport = httpx.ASGITransport(self.app)
        named = {
            name.replace("_", "-").encode(): text.encode("latin-1")
            for name, text in headers.items()
        }
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
            answer = await client.request(method, path, content=content, headers=named)
        told = {name: answer.headers.get(name) for name in ("allow", "retry-after", "location")}
        kept = {name: text for name, text in told.items() if text is not None}
        return Answer(answer.status_code, kept, answer.text if answer.is_success else "")

    def post(self, body: object, **headers: str) -> Answer:
        """POST `body` (bytes as they are, anything else as JSON) to /v1/events."""
        return self.ask(content=body if isinstance(body, bytes) else encoded(body), **headers)

    def stored(self) -> Stored:
        """What is in the database now, read by another connection."""
        sql = sqlite3.connect(self.file)
        try:
            lost = dict(sql.execute("SELECT cause, sum(value) FROM lost GROUP BY cause"))
            (batches,) = sql.execute("SELECT count(*) FROM batch").fetchone()
        finally:
            sql.close()
        return Stored(list(self.store.rows()), list(self.store.events()), lost, batches)

    def counted(self) -> dict[str, int]:
        """The stored counts by the name of the tool."""
        return {
            str(row["dimensions"]["name"]): row["measures"]["count"] for row in self.stored().rows
        }

    def metrics(self) -> dict[str, str]:
        """GET /metrics as {name: value}, without what is zero."""
        lines = self.ask("GET", "/metrics").text.splitlines()
        pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        return {name.removeprefix("tallyd_ingest_"): value for name, value in pairs if value != "0"}


def contract_of(product: str) -> Contract:
    """One of our contracts."""
    file = CONTRACTS / f"{product}.toml"
    return parse_contract(file.read_bytes(), str(file))


def vector(name: str) -> Any:
    """A test vector."""
    return json.loads((VECTORS / name).read_bytes())


def encoded(body: object) -> bytes:
    return json.dumps(body).encode()


def batch(*events: object, **changes: object) -> dict[str, object]:
    """A good request of CodeGraph's; `changes` replace top-level keys, None removes one."""
    whole = {"machine_id": MACHINE, **ENVELOPE, "schema_version": 2, "events": list(events)}
    return {name: value for name, value in {**whole, **changes}.items() if value is not None}


def rollup(
    name: str = "explore",
    count: object = 1,
    errors: object = 0,
    day: str = YESTERDAY,
    **more: object,
) -> dict[str, object]:
    """One usage rollup on the wire; `more` are further props."""
    props = {"kind": "mcp_tool", "name": name, "count": count, "error_count": errors, **more}
    return {"event": "usage_rollup", "ts": f"{day}T12:00:00.000Z", "props": props}


def single(event: str, ts: str | None = None, **props: object) -> dict[str, object]:
    """One single event on the wire."""
    return {"event": event, **({"ts": ts} if ts else {}), "props": props}


def row(name: str = "explore", count: int = 1, errors: int = 0, **more: Any) -> dict[str, Any]:
    """The stored row that `rollup` becomes; `more` replaces top-level keys or adds dimensions."""
    whole = {
        "product": "codegraph",
        "machine_id": MACHINE,
        "day": YESTERDAY,
        "event": "usage_rollup",
        "envelope": ENVELOPE,
    }
    known = {key: more.pop(key) for key in tuple(more) if key in whole}
    return {
        **whole,
        **known,
        "dimensions": {"kind": "mcp_tool", "name": name, **more},
        "measures": {"count": count, "error_count": errors},
    }


def kept(event: str, properties: Mapping[str, object], ts: str | None = None) -> dict[str, Any]:
    """The stored form of a single event."""
    return {
        "product": "codegraph",
        "machine_id": MACHINE,
        "event": event,
        "ts": ts,
        "envelope": ENVELOPE,
        "properties": dict(properties),
    }


def days_ahead(days: float) -> float:
    """Unix seconds of the suite's noon, moved by `days`."""
    return NOON + days * DAY_S


def speak(
    url: str, request: bytes, *, source: str = "127.0.0.1", half_close: bool = False
) -> bytes:
    """Send raw bytes to a running gateway and read until it closes; `half_close` says no more comes."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    with socket.create_connection(
        (parts.hostname, parts.port or 0), timeout=20, source_address=(source, 0)
    ) as connection:
        connection.sendall(request)
        if half_close:
            connection.shutdown(socket.SHUT_WR)
        said = b""
        while piece := connection.recv(65536):
            said += piece
    return said


def request_bytes(content: bytes, *headers: str, line: str = "POST /v1/events HTTP/1.1") -> bytes:
    """A request as it travels, asking the server to close afterwards."""
    lines = [line, "host: gateway", "connection: close", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1") + content

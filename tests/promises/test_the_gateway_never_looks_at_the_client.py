"""The promise that the gateway never reads, stores, logs or shows who sent a request."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import anyio
import pytest
from support.gateway import Gateway, batch, encoded, request_bytes, rollup, single, speak
from support.processes import CONTRACTS, export
from support.processes import gateway as gateway_process

# Any address in 127.0.0.0/8 is this machine; no other test and no part of the gateway uses this one.
ADDRESS = "127.0.0.77"
MARKS = {
    "x-forwarded-for": "203.0.113.77",
    "x-real-ip": "203.0.113.78",
    "forwarded": "for=203.0.113.79;by=markforwarded",
    "via": "1.1 markvia",
    "user-agent": "markagent/1.0",
    "cookie": "session=markcookie",
    "referer": "https://markreferer.example/",
    "authorization": "Bearer marktoken",
    "origin": "https://markorigin.example",
    "accept-language": "markish",
    "x-request-id": "markrequest",
    "host": "markhost.example",
}
# What a body says beyond the contract is as little kept as a header.
UNLISTED = {"hostname": "markmachine", "ip": "203.0.113.80", "sent_at": "2026-11-20T01:02:03.456Z"}
TRACES = [ADDRESS, "203.0.113.", "mark", "01:02:03"]


def traces_in(content: bytes) -> list[str]:
    """Which marks can be read out of `content`, in any case."""
    return [trace for trace in TRACES if trace.encode() in content.lower()]


@pytest.mark.slow
@pytest.mark.skipif(
    not Path("/proc").exists(), reason="only Linux gives every 127.x.y.z an address"
)
def test_no_table_log_line_metric_or_byte_of_the_database_holds_a_trace_of_the_client(home: Path):
    """Answers of every kind are provoked, for it is the failures that servers log."""
    headers = [f"{name}: {text}" for name, text in MARKS.items() if name != "host"]

    def request(content: bytes, *more: str, line: str = "POST /v1/events HTTP/1.1") -> bytes:
        length = f"content-length: {len(content)}"
        plain = request_bytes(content, *headers, length, *more, line=line)
        return plain.replace(b"host: gateway", f"host: {MARKS['host']}".encode())

    good = batch(
        {**single("uninstall", targets=["claude"], cwd="/home/markuser"), "ip": "203.0.113.81"},
        **UNLISTED,
    )
    zipped = gzip.compress(encoded(batch(rollup(), **UNLISTED)))
    with gateway_process(home, CONTRACTS / "codegraph.toml") as url:
        requests = [
            request(encoded(good)),
            request(zipped, "content-encoding: gzip"),
            request(b"{markoops"),
            request(encoded(good | {"machine_id": "markmachine"})),
            request(encoded(good | {"product": "markproduct"})),
            request(encoded(batch(single("markevent")))),
            request(b"", line="GET /markpath?q=markquery HTTP/1.1"),
            request(b"", line="POST /v1/events/ HTTP/1.1"),
            request(b"", line="MARK /v1/events HTTP/1.1"),
            request(encoded(good), "content-length: 1"),
            request(encoded(good), "upgrade: markprotocol"),
            b"markgarbage\r\n\r\n",
        ]
        answers = [speak(url, content, source=ADDRESS) for content in requests]
        metrics = speak(url, request_bytes(b"", line="GET /metrics HTTP/1.1"))
        # The write-ahead log is part of what lies on the disk, so the server still runs.
        files = {file.name: file.read_bytes() for file in home.rglob("*") if file.is_file()}
    logs = [content for name, content in files.items() if name.endswith(".log")]

    statuses = [answer.split(b" ")[1].decode() for answer in answers]
    assert (
        ["204", "204", "400", "400", "204", "204", "404", "404", "405", "400", "204", "400"],
        2,
        {name: [] for name in files} | {"metrics": [], "answers": []},
    ) == (
        statuses,
        len(export(home, "--events")),
        {name: traces_in(content) for name, content in files.items()}
        | {"metrics": traces_in(metrics), "answers": traces_in(b"".join(answers))},
    )
    assert (len(logs) == 1, {"gateway.db", "gateway.db-wal"} <= set(files)) == (True, True)


class Unread:
    """Stands where a server puts the client's address; whoever looks at it fails."""

    def _fail(self, *_: Any) -> NoReturn:
        raise AssertionError("somebody looked at the client's address")

    __iter__ = __getitem__ = __len__ = __bool__ = __str__ = __repr__ = __eq__ = _fail  # type: ignore[assignment]
    __hash__ = None  # type: ignore[assignment]


class Watched(bytes):
    """The value of a header that notes when somebody reads it."""

    name: str
    read: set[str]


def watched(name: str, text: str, read: set[str]) -> Watched:
    made = Watched(text.encode("latin-1"))
    made.name, made.read = name, read
    return made


def noting(method: str) -> Callable[..., Any]:
    def note(self: Watched, *arguments: Any) -> Any:
        self.read.add(self.name)
        return getattr(bytes, method)(self, *arguments)

    return note


for _method in ("decode", "lower", "split", "strip", "startswith", "__iter__", "__getitem__"):
    setattr(Watched, _method, noting(_method))
for _method in ("__len__", "__eq__", "__contains__", "__add__", "__str__", "__repr__", "__hash__"):
    setattr(Watched, _method, noting(_method))


def ask(gateway: Gateway, method: str, path: str, content: bytes) -> tuple[int, set[str]]:
    """The status of one answer, and the names of the headers that were read for it."""
    read: set[str] = set()
    told = {**MARKS, "content-length": str(len(content)), "content-type": "application/json"}
    told["content-encoding"] = "identity"
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(name.encode(), watched(name, text, read)) for name, text in told.items()],
        "client": Unread(),
        "server": ("127.0.0.1", 80),
    }
    statuses: list[int] = []

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": content, "more_body": False}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    anyio.run(gateway.app, scope, receive, send)
    return statuses[0], read


@pytest.fixture
def gateway(home: Path) -> Iterator[Gateway]:
    with Gateway.open(home / "gateway.db") as opened:
        yield opened


@pytest.mark.parametrize(
    ("method", "path", "content", "wanted"),
    [
        (
            "POST",
            "/v1/events",
            encoded(batch(rollup())),
            (204, {"content-length", "content-encoding"}),
        ),
        ("POST", "/v1/events", b"{oops", (400, {"content-length", "content-encoding"})),
        ("POST", "/v1/events", b"", (411, {"content-length"})),
        ("POST", "/v1/events", bytes(65537), (413, {"content-length"})),
        ("PUT", "/v1/events", b"", (405, set())),
        ("POST", "/v1/events/", b"", (404, set())),
        ("GET", "/nowhere", b"", (404, set())),
        ("GET", "/", b"", (200, set())),
        ("GET", "/healthz", b"", (200, set())),
        ("GET", "/metrics", b"", (200, set())),
    ],
)
def test_of_all_headers_only_length_and_encoding_are_read(
    gateway: Gateway, method: str, path: str, content: bytes, wanted: tuple[int, set[str]]
):
    assert wanted == ask(gateway, method, path, content)


def test_a_store_that_refuses_makes_nobody_look_either(gateway: Gateway):
    gateway.store._sql.execute("PRAGMA query_only = ON")

    assert (503, {"content-length", "content-encoding"}) == ask(
        gateway, "POST", "/v1/events", encoded(batch(rollup()))
    )

"""A gateway whose every answer is chosen: it stores each batch once, by its id, or says otherwise.

A real HTTP server on loopback. `answers` holds one word per request, the last one for ever: "stored"
(204), "lost reply" (stored, and closed before the answer), "refused" (400), "busy" (503), "silent"
(closed, nothing stored).
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ANSWERS = ("stored", "lost reply", "refused", "busy", "silent")
_STATUS = {"stored": 204, "refused": 400, "busy": 503}


class Answering:
    """What is stored by batch id, and what arrived since the last look."""

    def __init__(self, url: str = "") -> None:
        self.url = url
        self.begin()

    def begin(self) -> None:
        """Forget everything: another test begins."""
        self.stored: dict[str, bytes] = {}
        self.answers: list[str] = ["stored"]
        self._arrived: list[tuple[bytes, str]] = []

    def say(self, answers: list[str]) -> None:
        """Answer the next requests so."""
        self.answers = answers
        self._arrived = []

    def take(self) -> list[tuple[bytes, str]]:
        """(body, answer) of every request since `say`."""
        arrived, self._arrived = self._arrived, []
        return arrived

    def arrive(self, body: bytes) -> int | None:
        """The status to answer with; None: close without a word."""
        answer = self.answers[min(len(self._arrived), len(self.answers) - 1)]
        if answer in ("stored", "lost reply"):
            self.stored.setdefault(json.loads(body)["batch_id"], body)
        self._arrived.append((body, answer))
        return _STATUS.get(answer)


@contextmanager
def answering() -> Iterator[Answering]:
    """Such a gateway, until it is left."""
    gateway = Answering()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            status = gateway.arrive(self.rfile.read(int(self.headers["content-length"])))
            if status is None:
                return
            self.send_response(status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    gateway.url = f"http://127.0.0.1:{server.server_address[1]}/v1/events"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield gateway
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

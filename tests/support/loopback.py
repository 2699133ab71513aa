"""A real HTTP server on loopback, in a thread of the test's process, for as long as a block lasts."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    """Hands each POST to `posted`, and says nothing on stderr."""

    def do_POST(self) -> None:
        self.posted()

    def posted(self) -> None:
        """Take the request; without an answer the connection is closed without a word."""
        raise NotImplementedError

    def log_message(self, *_: object) -> None:
        return

    def body(self) -> bytes:
        """What was sent."""
        return self.rfile.read(int(self.headers["content-length"]))

    def answer(self, status: int, headers: dict[str, str] | None = None) -> None:
        """An answer without a body."""
        self.send_response(status)
        for name, text in (headers or {}).items():
            self.send_header(name, text)
        self.send_header("content-length", "0")
        self.end_headers()


class Server(ThreadingHTTPServer):
    """Survives whoever hangs up, or was killed, in the middle of a request."""

    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: object, client_address: object) -> None:
        return


@contextmanager
def serving(handler: type[Handler]) -> Iterator[str]:
    """The server's address, without a slash at its end; it ends with the block."""
    server = Server(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

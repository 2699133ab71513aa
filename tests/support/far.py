"""Far ends on loopback for whoever looks at the way to a gateway: TLS with made-up certificates, proxies."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import trustme

_WELL = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


@contextmanager
def listening(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """A port on loopback; each connection is handed to `answer` in a thread, and closed after it."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                threading.Thread(target=one, args=(connection,), daemon=True).start()

        def one(connection: socket.socket) -> None:
            with connection, suppress(OSError):
                answer(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


@contextmanager
def speaking_tls(certificate: trustme.LeafCert, said: bytes = _WELL) -> Iterator[int]:
    """A server behind this certificate that answers every request with `said`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)

    def answer(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as wrapped:
            if _head(wrapped):
                wrapped.sendall(said)

    with listening(answer) as port:
        yield port


@contextmanager
def proxying(verdict: bytes, to_port: int = 0) -> Iterator[tuple[int, list[bytes]]]:
    """A proxy that answers CONNECT with `verdict`, and then leads to `to_port`; gives its port and what was asked."""
    asked: list[bytes] = []

    def answer(connection: socket.socket) -> None:
        asked.append(_head(connection))
        connection.sendall(b"HTTP/1.1 " + verdict + b"\r\n\r\n")
        if verdict.startswith(b"2"):
            with socket.create_connection(("127.0.0.1", to_port)) as far:
                there = threading.Thread(target=_pump, args=(connection, far), daemon=True)
                there.start()
                _pump(far, connection)
                there.join()

    with listening(answer) as port:
        yield port, asked


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while piece := source.recv(65536):
            sink.sendall(piece)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def _head(connection: socket.socket) -> bytes:
    said = b""
    while b"\r\n\r\n" not in said and (piece := connection.recv(4096)):
        said += piece
    return said


def authority(file: Path) -> trustme.CA:
    """A certificate authority of the test's own, whose certificate stands in `file`."""
    made = trustme.CA(organization_name="A test")
    made.cert_pem.write_to_path(str(file))
    return made

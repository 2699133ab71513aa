"""What the service manager hears: real datagrams on a real socket."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from tallyd.notify import Notifier


@contextmanager
def _listening(address: str) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(address.replace("@", "\0", 1) if address.startswith("@") else address)
        heard.settimeout(10)
        yield heard


def _heard(listening: socket.socket) -> list[str]:
    listening.setblocking(False)
    found = []
    while True:
        try:
            found.append(listening.recv(4096).decode())
        except BlockingIOError:
            return found


@pytest.mark.parametrize("kind", ["a path", "an abstract name"])
def test_each_message_is_one_datagram(tmp_path, kind):
    address = str(tmp_path / "s") if kind == "a path" else f"@tallyd-test-{os.getpid()}"
    with _listening(address) as listening:
        notifier = Notifier({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "3000000"})
        notifier.ready("well\nand good")
        notifier.status("well\nand good")
        notifier.status("busy")
        notifier.alive()
        notifier.extend_start(90)
        notifier.reloading(12.5)
        notifier.stopping("SIGTERM")

        assert (notifier.is_heard, notifier.watchdog_s, _heard(listening)) == (
            True,
            3.0,
            [
                "READY=1\nSTATUS=well and good",
                "STATUS=busy",
                "WATCHDOG=1",
                "EXTEND_TIMEOUT_USEC=90000000",
                "RELOADING=1\nMONOTONIC_USEC=12500000",
                "STOPPING=1\nSTATUS=SIGTERM",
            ],
        )


@pytest.mark.parametrize(
    ("environ", "told"),
    [
        ({}, (False, 0.0)),
        ({"WATCHDOG_USEC": "1000000"}, (False, 0.0)),
        ({"NOTIFY_SOCKET": "vsock:2:1"}, (False, 0.0)),
        ({"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "soon"}, (True, 0.0)),
        # The variables of a parent that passed them on.
        ({"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"}, (True, 0.0)),
        (
            {"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "1000000", "WATCHDOG_PID": str(os.getpid())},
            (True, 1.0),
        ),
    ],
)
def test_who_listens_is_taken_from_the_environment(environ, told):
    notifier = Notifier(environ)

    assert (notifier.is_heard, notifier.watchdog_s) == told


def test_nobody_at_the_other_end_holds_and_harms_nothing(tmp_path):
    address = str(tmp_path / "s")
    gone = Notifier({"NOTIFY_SOCKET": address})
    gone.ready("")
    with _listening(address):
        full = Notifier({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1"})
        # More than the socket's buffer takes, and nobody reads.
        for _ in range(2000):
            full.alive()

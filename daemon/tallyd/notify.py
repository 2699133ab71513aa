"""What the service manager that started us is told: the datagrams of sd_notify(3).

It owns the socket named in NOTIFY_SOCKET, and is silent where there is none. A message that cannot
be sent is dropped: systemd then does what it does with a service that is silent, and nothing here
may hold the daemon up. Ten lines of our own, since no kept library does it without compiled code.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class Notifier:
    """Speaks for this process; `watchdog_s` is how long it may be silent, 0 where nobody minds."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        # systemd's two forms: a path, and "@…" for a name without one. A vsock is for machines.
        self._address = address if address[:1] in ("/", "@") else ""
        self.watchdog_s = _watchdog_s(environ) if self._address else 0.0
        self._status = ""

    @property
    def is_heard(self) -> bool:
        """Whether somebody listens."""
        return bool(self._address)

    def ready(self, status: str) -> None:
        """The service is up, or up again after a reload."""
        self._status = status
        self._send("READY=1", f"STATUS={_line(status)}")

    def status(self, status: str) -> None:
        """One line for `systemctl status`; said when it is another than before."""
        if status != self._status:
            self._status = status
            self._send(f"STATUS={_line(status)}")

    def reloading(self, monotonic_s: float) -> None:
        """The settings are read anew; `ready` ends it."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={int(monotonic_s * 1e6)}")

    def stopping(self, why: str) -> None:
        """The service is on its way out."""
        self._send("STOPPING=1", f"STATUS={_line(why)}")

    def extend_start(self, seconds: float) -> None:
        """The start goes on for up to so long from now."""
        self._send(f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}")

    def alive(self) -> None:
        """Pat the watchdog. Call only after progress."""
        if self.watchdog_s:
            self._send("WATCHDOG=1")

    def _send(self, *fields: str) -> None:
        if not self._address:
            return
        address = self._address
        if address.startswith("@"):
            address = f"\0{address[1:]}"
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as speaking:
                speaking.setblocking(False)
                speaking.sendto("\n".join(fields).encode(), address)
        except OSError:
            return


def _watchdog_s(environ: Mapping[str, str]) -> float:
    # The variables are inherited: they may be meant for a parent of ours.
    if environ.get("WATCHDOG_PID", "") not in ("", str(os.getpid())):
        return 0.0
    try:
        return max(0.0, int(environ.get("WATCHDOG_USEC", "0")) / 1e6)
    except ValueError:
        return 0.0


def _line(text: str) -> str:
    return " ".join(text.split())

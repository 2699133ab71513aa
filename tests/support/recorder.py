"""A gateway that a test scripts: a real HTTP server on loopback that keeps every request."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from support.loopback import Handler, serving


@dataclass
class Recorder:
    """What came, and what is answered: one status per request, the last one for ever.

    A status of 0 is no answer at all: the request is held open until the recorder closes.
    """

    statuses: list[int]
    headers: dict[str, str] = field(default_factory=dict)
    url: str = ""
    bodies: list[bytes] = field(default_factory=list)
    # Where each request went, and when it came (monotonic seconds, the same clock for all processes).
    paths: list[str] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    requests: list[dict[str, str]] = field(default_factory=list)
    arrived: threading.Event = field(default_factory=threading.Event)
    closing: threading.Event = field(default_factory=threading.Event)

    @property
    def batches(self) -> list[dict[str, Any]]:
        return [json.loads(body) for body in self.bodies]


@contextmanager
def recording(*statuses: int, headers: dict[str, str] | None = None) -> Iterator[Recorder]:
    """A recorder that answers `statuses` in turn (204 when none are given)."""
    recorder = Recorder(list(statuses or (204,)), headers or {})

    class Record(Handler):
        def posted(self) -> None:
            recorder.paths.append(self.path)
            recorder.times.append(time.monotonic())
            recorder.bodies.append(self.body())
            recorder.requests.append({name.lower(): text for name, text in self.headers.items()})
            status = recorder.statuses[min(len(recorder.bodies), len(recorder.statuses)) - 1]
            recorder.arrived.set()
            if status == 0:
                recorder.closing.wait()
                return
            self.answer(status, recorder.headers)

    with serving(Record) as url:
        recorder.url = f"{url}/v1/events"
        try:
            yield recorder
        finally:
            recorder.closing.set()

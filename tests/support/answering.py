"""A gateway whose every answer is chosen: it stores each batch once, by its id, or says otherwise.

A real HTTP server on loopback. `answers` holds one word per request, the last one for ever: "stored"
(204), "lost reply" (stored, and closed before the answer), "refused" (400), "busy" (503), "silent"
(closed, nothing stored).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

from support.loopback import Handler, serving

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

    class Answer(Handler):
        def posted(self) -> None:
            status = gateway.arrive(self.body())
            if status is not None:
                self.answer(status)

    with serving(Answer) as url:
        gateway.url = f"{url}/v1/events"
        yield gateway

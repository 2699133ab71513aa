"""The far end of every killed process: a real HTTP server that keeps what it was sent, by home.

A home's name stands in the path, so one server serves all of them at once. What it answers is told per
home: `204` and `lost` keep the batch (and `lost` never says so), the others keep nothing.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from support.loopback import Handler, serving

# What a home's gateway can do with each request, one after another; the last one for ever.
ANSWERS = ("204", "503", "400", "lost", "none")


@dataclass
class Heard:
    """What came from one home: every body, and those of them that were kept."""

    answers: tuple[str, ...] = ("204",)
    bodies: list[bytes] = field(default_factory=list)
    kept: list[bytes] = field(default_factory=list)


@dataclass
class Gateway:
    """What came, by home."""

    url: str = ""
    homes: defaultdict[str, Heard] = field(default_factory=lambda: defaultdict(Heard))
    # How long a request is held after it was kept, in seconds: the longer, the likelier a kill in it.
    delay_s: Callable[[], float] = float

    def url_of(self, home: str) -> str:
        return f"{self.url}/{home}"


@contextmanager
def listening() -> Iterator[Gateway]:
    """A gateway for any number of homes."""
    gateway = Gateway()

    class Heard(Handler):
        def posted(self) -> None:
            heard = gateway.homes[self.path.strip("/")]
            body = self.body()
            if len(body) < int(self.headers["content-length"]):
                return  # killed in the middle of it
            heard.bodies.append(body)
            answer = heard.answers[min(len(heard.bodies), len(heard.answers)) - 1]
            if answer in ("204", "lost"):
                heard.kept.append(body)
            time.sleep(gateway.delay_s())
            if answer in ("lost", "none"):
                return  # the connection is closed without a word
            with suppress(OSError):
                self.answer(int(answer))

    with serving(Heard) as gateway.url:
        yield gateway

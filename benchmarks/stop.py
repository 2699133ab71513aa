"""How long a stop takes: at rest, and in the middle of a request that is never answered."""

from __future__ import annotations

import signal
import time
from functools import partial
from itertools import count
from pathlib import Path

from support.deltas import delta, drop
from support.processes import DEMO_CONTRACT, daemon, tallyd, wait_for
from support.recorder import recording

from benchmarks.measure import Figure, interleaved, made, median, progress


def measure(root: Path, *, quick: bool) -> list[Figure]:
    """From SIGTERM until the process is gone, a fresh daemon each time."""
    progress("stopping")
    rounds = 3 if quick else 7
    numbers = count()

    def stopped(*, during_a_request: bool) -> float:
        return _stop_ms(made(root / f"stop-{next(numbers)}"), during_a_request=during_a_request)

    samples = interleaved(
        rounds,
        {
            "stop": partial(stopped, during_a_request=False),
            "stop_in_request": partial(stopped, during_a_request=True),
        },
        warm_up=0,
    )
    return [
        Figure(
            budget, median(taken), f"{median(taken):.0f} ms (worst {max(taken):.0f})", rounds=rounds
        )
        for budget, taken in samples.items()
    ]


def _stop_ms(home: Path, *, during_a_request: bool) -> float:
    # The contract lets a request take 30 s, so what ends it is the stop.
    text = DEMO_CONTRACT.read_text().replace('"1500ms"', '"30s"')
    (home / "demo.toml").write_text(text)
    tallyd(home, "contract", "add", str(home / "demo.toml"))
    yesterday = time.strftime("%Y-%m-%d", time.gmtime(time.time() - 86400))
    drop(home / "state", delta(day=yesterday), at=time.time())
    with recording(0) as recorder, daemon(home, TALLYD_DEMO_ENDPOINT=recorder.url) as process:
        if during_a_request:
            wait_for((home / "state" / "flush").is_dir)
            (home / "state" / "flush" / "request").touch()
            if not recorder.arrived.wait(60):
                raise RuntimeError("no request came")
        else:
            time.sleep(1.5)
        began = time.perf_counter()
        process.send_signal(signal.SIGTERM)
        # Without a time limit: with one, Python looks again only every 50 ms.
        process.wait()
        return (time.perf_counter() - began) * 1000

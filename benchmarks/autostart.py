"""What an exit costs a host that may start the daemon: with one running, and where it starts one.

    python -m benchmarks.autostart     (`make bench-autostart`)

Exits as in `processes`: from a process's last statement until `wait` returns, medians of interleaved
rounds. Where a daemon is started it is a program that ends at once, and its claim is removed between
the rounds; the machine's own idle daemons would disturb the others. Prints a table for
docs/performance.md.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

from support.hosts import built, environ_of_host
from support.on_demand import script
from support.processes import daemon

from benchmarks.measure import INSIDE, exit_s, interleaved, made, median, scratch

_ROUNDS = 61
_KINDS = {
    "plain": "no client",
    "off": "one count, without autostart",
    "running": "the same with autostart, a daemon running",
    "claimed": "the same, where another host starts one just then",
    "starts": "the same, where it starts one",
}


def main() -> None:
    with scratch() as root:
        running, alone = made(root / "running"), made(root / "alone")
        program = str(script(root / "bin" / "tallyd", "#!/bin/sh\n"))
        (root / "contract.json").write_text(json.dumps(built()))
        claim = alone / "state" / "starting"

        def ms(
            home: Path, *autostart: str, before: Callable[[], object] = int
        ) -> Callable[[], float]:
            kind = "count" if autostart else "plain"
            command = [sys.executable, str(INSIDE / "leave.py"), kind, "0"]
            command += [str(root / "contract.json"), *autostart]
            environ = environ_of_host(home)
            environ.pop("PYTHONDONTWRITEBYTECODE", None)

            def take() -> float:
                before()
                return exit_s(command, environ)[0] * 1000

            return take

        work = {
            "plain": ms(alone),
            "off": ms(alone, ""),
            "running": ms(running, program),
            "claimed": ms(alone, program),
            "starts": ms(alone, program, before=lambda: claim.unlink(missing_ok=True)),
        }
        with daemon(running):
            samples = interleaved(_ROUNDS, work, warm_up=2)
    floor = median(samples["plain"])
    print("| exit of a process that counted once | median | over a plain exit |")
    print("| --- | --- | --- |")
    for kind, what in _KINDS.items():
        ours = median(samples[kind])
        print(f"| {what} | {ours:.2f} ms, n = {_ROUNDS} | × {ours / floor:.2f} |")


if __name__ == "__main__":
    main()

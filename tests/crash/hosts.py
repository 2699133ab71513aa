"""Hosts to be killed: one that drops a few times, and one that drops until it is told to stop.

The first runs in a forked child (see `zygote`). The second is a process of its own: `python -m
crash.hosts TOOL DAYS` counts and drops until its stdin ends, with a clock that is DAYS ahead, and says on
stdout how much it has counted, before each drop, and how much of that lies in the spool, after it.
"""

from __future__ import annotations

import os
import random
import sys
import time
from functools import cache
from typing import Any

from support.processes import DEMO_CONTRACT

PRODUCT = "tallyd-demo"
# What the first one counts before each of its drops: any subset has a sum of its own.
DROPS = (1, 2, 4)


# The demo's contract, with as many requests as a contract may allow.
TEXT = DEMO_CONTRACT.read_bytes().replace(
    b"[consent]", b"max_requests_per_minute = 60\n\n[consent]", 1
)


@cache
def contract() -> dict[str, Any]:
    """The contract as a host has it: built."""
    from tallyd_client._load import constants_of

    return constants_of(TEXT)


def drop_some(looks_at_cap: bool) -> None:
    """Count and drop, three times."""
    from tallyd_client import Client, _drop

    if looks_at_cap:
        # One drop in 64 looks, by chance; here each of them.
        _drop._LOOK_ONE_IN = 1
    client = Client(PRODUCT, "1.0.0", contract=contract())
    count = client.rollup("tool_calls", "tool")
    for times in DROPS:
        for _ in range(times):
            count("host")
        client.drain()


def main() -> None:
    """Count and drop until stdin ends."""
    import select

    from tallyd_client import Client

    tool, days = sys.argv[1], float(sys.argv[2])
    # The fake clock: yesterday's counts are sealed and sent, tomorrow's stay in buckets.
    right = time.time
    time.time = lambda: right() + days * 86400
    chance = random.Random(tool)
    client = Client(PRODUCT, "1.0.0", contract=contract())
    count = client.rollup("tool_calls", "tool")
    counted = 0
    while not select.select([0], [], [], chance.random() * 0.02)[0]:
        times = chance.randint(1, 5)
        counted += times
        # Said before it is counted: a kill in between makes it too much, never too little.
        os.write(1, b"counted %d\n" % counted)
        for _ in range(times):
            count(tool)
        client.drain()
        os.write(1, b"dropped %d\n" % counted)
    client.close()
    os.write(1, b"ended %d\n" % counted)


if __name__ == "__main__":
    main()

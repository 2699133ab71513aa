"""Runs in any Python: how long a process takes from its last statement to its end.

    leave.py plain|count IDLE_S CONTRACT.json [TALLYD]

`count` makes a client and one count, `plain` loads the same modules of the standard library and
neither client nor count. TALLYD is the program that the client may start, if any. Prints the instant of its last statement (monotonic ns, one clock for all
processes of a machine) without buffering; whoever started it subtracts.
"""

import _thread  # noqa: F401
import atexit  # noqa: F401
import itertools  # noqa: F401
import json
import os
import sys
import time


def main():
    kind, idle_s = sys.argv[1], float(sys.argv[2])
    with open(sys.argv[3]) as file:
        contract = json.load(file)
    if kind == "count":
        from tallyd_client import Client

        more = {"autostart": sys.argv[4]} if sys.argv[4:] and sys.argv[4] else {}
        client = Client(version="1.0.0", contract=contract, **more)
        count = client.counter("tool_calls", tool="search")
    time.sleep(0.02)
    if kind == "count":
        count()
    if idle_s:
        time.sleep(idle_s)
    os.write(1, b"%d\n" % time.monotonic_ns())


main()

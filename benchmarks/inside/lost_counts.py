"""Runs in any Python with the stub on its path: how many of 2,000,000 counts never reach the spool.

    lost_counts.py CONTRACT.json

Eight threads count, half by a bound counter and half by a rollup, while a ninth drains without a
pause; then the client is closed and every file in the spool is added up.
"""

import glob
import json
import os
import sys
import threading
import time

_THREADS = 8
_EACH = 250_000
# A thread pauses after so many, or eight of them would leave no turn to the drains.
_BREATH = 5_000


def main():
    from tallyd_client import Client

    with open(sys.argv[1]) as file:
        client = Client(version="1.0.0", contract=json.load(file))
    bound = client.counter("tool_calls", tool="bound")
    count = client.rollup("tool_calls", "tool")
    over = threading.Event()

    def counting(number):
        if number % 2:
            for one in range(_EACH):
                bound()
                if not one % _BREATH:
                    time.sleep(0.002)
        else:
            for one in range(_EACH):
                count("rollup")
                if not one % _BREATH:
                    time.sleep(0.002)

    drains = 0

    def draining():
        nonlocal drains
        # Well below the writer's cap of 2,048 files: what it would remove is no lost increment.
        while not over.wait(0.002) and drains < 1000:
            client.drain()
            drains += 1

    sys.setswitchinterval(1e-5)
    threads = [threading.Thread(target=counting, args=(one,)) for one in range(_THREADS)]
    drainer = threading.Thread(target=draining)
    for one in (*threads, drainer):
        one.start()
    for one in threads:
        one.join()
    over.set()
    drainer.join()
    client.close()
    found = files = 0
    for name in glob.glob(os.path.join(os.environ["TALLYD_HOME"], "state/spool/*/new/*.json")):
        files += 1
        with open(name) as file:
            found += sum(measures["count"] for _, _, measures in json.load(file)["counts"])
    has_gil = getattr(sys, "_is_gil_enabled", lambda: True)()
    print(
        json.dumps(
            {"lost": _THREADS * _EACH - found, "files": files, "drains": drains, "gil": has_gil}
        )
    )


if __name__ == "__main__":
    main()

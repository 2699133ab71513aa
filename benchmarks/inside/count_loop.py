"""Runs in any Python with the stub on its path: what a count costs beside a dict increment.

    count_loop.py ROUNDS CONTRACT.json

Prints seconds per count as JSON, one list a name, a sample a round. A statement is ten calls, so that
the loop around them does not show. Four threads: each makes a quarter of the calls, and the wall time
is of all of them.
"""

import json
import sys
import threading
import time
import timeit

_CALLS = 10
_LOOPS = 20_000


def of_one_thread(call, statement="call()"):
    loop = timeit.Timer(";".join([statement] * _CALLS), globals={"call": call})
    return min(loop.repeat(3, _LOOPS)) / _LOOPS / _CALLS


def of_four_threads(call, statement="call()"):
    body = ";".join([statement] * _CALLS)
    code = "def work():\n for _ in range(%d): %s" % (_LOOPS // 2, body)
    space = {"call": call}
    exec(code, space)
    threads = [threading.Thread(target=space["work"]) for _ in range(4)]
    began = time.perf_counter()
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    return (time.perf_counter() - began) / (4 * (_LOOPS // 2) * _CALLS)


def measure(rounds, calls):
    """Samples of each (name, call, statement), in rounds that do all of them."""
    samples = {}
    for number in range(rounds + 1):
        for name, call, statement in calls:
            for suffix, how in (("_1", of_one_thread), ("_4", of_four_threads)):
                sample = how(call, statement)
                if number:
                    samples.setdefault(name + suffix, []).append(sample)
    return samples


def dict_increment():
    counts = {"key": 0}

    def floor():
        counts["key"] += 1

    return floor


def main():
    from tallyd_client import Client

    with open(sys.argv[2]) as file:
        contract = json.load(file)
    client = Client(version="1.0.0", contract=contract)
    off = Client(version="1.0.0", contract=contract, off=True)
    bound, when_off = (
        client.counter("tool_calls", tool="search"),
        off.counter("tool_calls", tool="x"),
    )
    bound(), when_off()
    calls = [
        ("floor", dict_increment(), "call()"),
        ("empty", lambda kind, name, ok: None, "call('search', 'agent', True)"),
        ("bound", bound, "call()"),
        (
            "rollup",
            client.rollup("tool_calls", "tool", "client_name"),
            "call('search', 'agent', ok=True)",
        ),
        ("off", when_off, "call()"),
    ]
    print(json.dumps(measure(int(sys.argv[1]), calls)))


if __name__ == "__main__":
    main()

"""A host as the reference systems have them: a process of its own that counts through the stub.

Run as `reference_host.py PLAN`: a JSON file with what `Client` is given, the names that the host
registers, and the steps, each at a pretended time (the one thing that is a fake here).
"""

from __future__ import annotations

import json
import sys
import time

_now = [0.0]
time.time = lambda: _now[0]


def main() -> None:
    with open(sys.argv[1], encoding="utf-8") as opened:
        plan = json.load(opened)
    from tallyd_client import Client

    _now[0] = plan["at"]
    client = Client(contract=plan["contract"], **plan["client"])
    for field, names in plan.get("register", {}).items():
        client.register(field, names)
    for step in plan["steps"]:
        _now[0] = step["at"]
        props = dict(step["props"])
        if "project" in step:
            props["project"] = client.project(step["project"])
        if "count" not in step:
            client.event(step["event"], **props)
            continue
        count = client.rollup(step["event"], *props)
        for place in range(step["count"]):
            count(*props.values(), ok=place >= step["errors"])
    # What was counted belongs to the day on which it was.
    client.drain()
    _now[0] = plan["ends"]
    client.close()
    if client.problem:
        sys.exit(client.problem)


main()

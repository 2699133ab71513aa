"""The commands that show and change nothing: `status`, `show`, `preview`."""

from __future__ import annotations

import gc
import json
import os
import sys
from typing import TYPE_CHECKING

from tallyd.cli.here import locate, open_product, time_now
from tallyd.cli.output import print_bytes, print_json, print_lines, print_typeset, say

if TYPE_CHECKING:
    import argparse

    from tallyd.product import ProductView


def status(arguments: argparse.Namespace) -> int:
    """What is, from the durable state alone; once, or again and again."""
    if arguments.watch is None:
        # One report makes no garbage worth a look for it: 6 % of the time that it takes.
        gc.disable()
    from tallyd.status import gather

    around, product = locate(), arguments.product or ""
    if arguments.watch is not None:
        from tallyd.cli import watch

        show_once = watch.Watch(arguments.watch, product, is_json=arguments.json)
        return show_once.run(lambda: gather(around, time_now(), product)[0])
    report, code = gather(around, time_now(), product)
    if arguments.json:
        print_json(report)
    else:
        from tallyd.status_text import status_text
        from tallyd.terminal import screen_of

        screen = screen_of(sys.stdout, os.environ)
        print_typeset("\n".join(status_text(report, screen, product=product)))
    return code


def show(arguments: argparse.Namespace) -> int:
    """The buckets that are not sealed yet."""
    from tallyd import buckets, render

    view, store = open_product(arguments.product)
    rows = []
    if store is not None:
        with store.reading() as sql:
            rows = list(buckets.rows(sql, arguments.product))
        store.close()
    if arguments.json:
        print_json([render.row_json(row) for row in rows])
    elif rows:
        print_lines(render.buckets_table(rows))
    else:
        say(f"{arguments.product}: no bucket waits")
    _tell_of_spool(view)
    return 0


def _tell_of_spool(view: ProductView) -> None:
    """What hosts dropped and nobody merged yet is in no bucket and no body."""
    from tallyd import spool

    files = spool.measure(view.spool).files
    if files and view.consent.is_on:
        say(f'not in here yet: {files} in the spool ("tallyd flush" merges them)')


def preview(arguments: argparse.Namespace) -> int:
    """The exact body that would be sent next."""
    from tallyd import seal

    view, store = open_product(arguments.product)
    found = seal.preview(store, view, time_now()) if store is not None else None
    if store is not None:
        store.close()
    body, is_final = found or (None, False)
    if arguments.json:
        print_json(
            {
                "body": json.loads(body) if body is not None else None,
                "final": is_final,
                "endpoint": view.endpoint,
                "may_leave": view.gate.is_open,
                "reason": view.gate.reason,
            }
        )
        return 0
    if body is None:
        say(f"{view.name}: nothing would be sent")
        _tell_of_spool(view)
        return 0
    print_bytes(body)
    say("")
    if not is_final:
        say("not sealed yet: sent_at and ids of zeros are filled in when it is")
    why = "" if view.gate.is_open else f", but nothing may leave now: {view.gate.reason}"
    say(f"goes to {view.endpoint}{why}")
    _tell_of_spool(view)
    return 0

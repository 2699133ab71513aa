"""The command `tallyd`: the only module that prints.

Data goes to stdout, everything else to stderr. Each command imports what it needs when it runs, so
that `status` stays cheap. Exit codes: 0 done; `status`: 0 running, 3 not running, 4 never set up;
64 usage, 69 something is not installed, 70 a bug, 73 the state cannot be used, 74 the output
cannot be written, 75 try again (another
tallyd runs), 78 a contract or setting is wrong, 130 interrupted.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import TYPE_CHECKING, NoReturn

from tallyd.contract import ContractError
from tallyd.errors import AlreadyRunning, StateMoved, TallydError
from tallyd.usage import parser

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence
    from typing import Any

    from tallyd.product import ProductView, Surroundings
    from tallyd.store import Store

_BEGAN = time.monotonic()
EXIT_BUG, EXIT_STATE, EXIT_OUTPUT, EXIT_CONFIG, EXIT_INTERRUPTED = 70, 73, 74, 78, 130


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit with its code."""
    arguments = parser().parse_args(argv)
    try:
        code = _COMMANDS[arguments.command](arguments)
        sys.stdout.flush()
    except TallydError as error:
        _say(f"tallyd: {error}")
        code = error.exit_code
    except ContractError as error:
        _say(f"tallyd: {error}")
        code = EXIT_CONFIG
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED
    except BrokenPipeError:
        # `tallyd show … | head`: the reader has seen enough. Nothing more may be written at exit.
        _drop_output()
        code = 0
    except OSError as error:
        # Not a file of ours, those are told by name: what was printed could not be written.
        _drop_output()
        _say(f"tallyd: the output cannot be written: {error.strerror}")
        code = EXIT_OUTPUT
    sys.exit(code)


def _drop_output() -> None:
    """Let nothing more be written at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(_arguments: argparse.Namespace) -> int:
    import logging

    import anyio

    from tallyd import logs, service, settings
    from tallyd.clock import SystemClock

    around = _around()
    chosen = settings.read_settings(around.paths)
    logs.set_up(chosen.log_level)
    os.umask(0o077)

    async def serve_and_leave() -> None:
        await service.serve(around, chosen, SystemClock(), _BEGAN)
        _leave(0)

    try:
        anyio.run(serve_and_leave)
    except (TallydError, KeyboardInterrupt):
        # Before anything was started.
        raise
    except BaseException as crash:
        moved = crash.subgroup(StateMoved) if isinstance(crash, BaseExceptionGroup) else None
        if moved is None:
            logging.getLogger("tallyd").critical("action=crashed", exc_info=True)
            _leave(EXIT_BUG)
        why = f"its state in {around.paths.state} was removed or replaced"
        logging.getLogger("tallyd").critical(logs.line("ended", why=why))
        _leave(StateMoved.exit_code)
    return 0


def _leave(code: int) -> NoReturn:
    """End the process at once; everything is recorded.

    Not sys.exit: that would wait for the watcher's thread, which looks up once a step (1.5 s), and for
    a name look-up that nobody answers (10 s), and a stop takes at most 100 ms.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _status(arguments: argparse.Namespace) -> int:
    from tallyd import render, status

    report, code = status.gather(_around(), _now())
    _print(report) if arguments.json else _print_lines(render.status_text(report))
    return code


def _flush(arguments: argparse.Namespace) -> int:
    from tallyd import lock, render

    def tell(result: Mapping[str, Any]) -> int:
        _print(result) if arguments.json else _print_lines(render.flush_text(result))
        return EXIT_STATE if any(one.get("problem") for one in result.values()) else 0

    around = _around()
    if lock.is_daemon_running(around.paths):
        return tell(_ask_daemon(around))
    import anyio

    from tallyd import logs, service
    from tallyd.clock import SystemClock

    async def flush_and_leave() -> None:
        _leave(tell(await service.flush(around, SystemClock())))

    logs.set_up("warning")
    os.umask(0o077)
    anyio.run(flush_and_leave)
    return 0


def _ask_daemon(around: Surroundings) -> Mapping[str, Any]:
    """Let the running daemon do a round, and wait for its result."""
    from tallyd import lock, requests
    from tallyd.limits import FLUSH_PATIENCE_S

    _say("asking the running daemon …")
    request = requests.ask(around.paths)
    result = requests.wait(request, FLUSH_PATIENCE_S, lambda: lock.is_daemon_running(around.paths))
    if result is None:
        raise AlreadyRunning("the daemon did not answer", 'try again, or see "tallyd status"')
    return result


def _off(arguments: argparse.Namespace) -> int:
    from tallyd import lock, service
    from tallyd.clock import SystemClock

    around = _choose(arguments.product, is_on=False)
    # From here on nothing of it is merged or sent; what is left is to delete what waits.
    if lock.is_daemon_running(around.paths):
        _ask_daemon(around)
    else:
        service.forget(around, SystemClock(), arguments.product)
    _print_lines([f"{arguments.product} is off: what was not sent and the id are deleted"])
    return 0


def _on(arguments: argparse.Namespace) -> int:
    from tallyd.product import look_at

    around = _choose(arguments.product, is_on=True)
    view = look_at(arguments.product, around, _now())
    _print_lines(
        [
            f"{arguments.product} is on, under the new id {view.machine_id}",
            f'what it may count: "tallyd preview {arguments.product}" shows each body before it is sent',
        ]
    )
    return 0


def _choose(product: str, *, is_on: bool) -> Surroundings:
    """Store the choice, and say where the environment of this shell disagrees with it."""
    from tallyd import choices
    from tallyd.contract.consent import resolve

    around = _around()
    contract = around.registry.get(product)
    choice = choices.write_choice(contract, around.paths, around.environ, is_on=is_on, now=_now())
    here = resolve(contract.consent, around.environ, choice.stored)
    if here.is_on != is_on:
        _say(
            f"note: in this shell {here.decided_by} says {here.state}, and decides before the stored choice"
        )
    return around


def _show(arguments: argparse.Namespace) -> int:
    from tallyd import buckets, render

    _, store = _open(arguments.product)
    rows = []
    if store is not None:
        with store.reading() as sql:
            rows = list(buckets.rows(sql, arguments.product))
        store.close()
    if arguments.json:
        _print([render.row_json(row) for row in rows])
    elif rows:
        _print_lines(render.buckets_table(rows))
    else:
        _say(f"{arguments.product}: no bucket waits")
    return 0


def _preview(arguments: argparse.Namespace) -> int:
    from tallyd import seal

    view, store = _open(arguments.product)
    found = seal.preview(store, view, _now()) if store is not None else None
    if store is not None:
        store.close()
    body, is_final = found or (None, False)
    if arguments.json:
        _print(
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
        _say(f"{view.name}: nothing would be sent")
        return 0
    sys.stdout.buffer.write(body)
    sys.stdout.flush()
    _say("")
    if not is_final:
        _say("not sealed yet: sent_at and ids of zeros are filled in when it is")
    why = "" if view.gate.is_open else f", but nothing may leave now: {view.gate.reason}"
    _say(f"goes to {view.endpoint}{why}")
    return 0


def _contract_add(arguments: argparse.Namespace) -> int:
    from tallyd import choices
    from tallyd.contract import parse_contract
    from tallyd.contract.parse import CONTRACT_MAX_BYTES
    from tallyd.product import look_at

    try:
        with open(arguments.file, "rb") as file:
            text = file.read(CONTRACT_MAX_BYTES + 1)
    except OSError as error:
        raise ContractError(arguments.file, 0, "", f"cannot be read: {error.strerror}") from None
    contract = parse_contract(text, arguments.file)
    around = _around()
    around.registry.add(contract)
    view = look_at(contract.product, around, _now())
    _print_lines(
        [
            f"registered {contract.product}: contract {contract.short_digest}, schema"
            f" {contract.schema_version}, {len(contract.events)} events, to {view.endpoint}",
            f"consent is {view.consent.state}, decided by {view.consent.decided_by}",
        ]
    )
    if view.consent.is_on and not view.consent.is_explicit and view.notice_shown_at is None:
        _say(contract.notice)
        choices.mark_notice_shown(contract, around.paths, _now())
    return 0


def _demo(arguments: argparse.Namespace) -> int:
    from tallyd.demo import run_demo

    return run_demo(lambda text: print(text, flush=True), keep=arguments.keep)  # noqa: T201


def _around() -> Surroundings:
    from tallyd.paths import Paths
    from tallyd.product import Surroundings
    from tallyd.registry import Registry

    paths = Paths.locate(os.environ)
    return Surroundings(paths, Registry(paths), os.environ)


def _open(product: str) -> tuple[ProductView, Store | None]:
    from tallyd.product import look_at
    from tallyd.store import open_store_for_reading

    around = _around()
    return look_at(product, around, _now()), open_store_for_reading(around.paths)


def _now() -> float:
    from tallyd.clock import SystemClock

    return SystemClock().now()


def _print(result: object) -> None:
    print(json.dumps(result, indent=2))  # noqa: T201 - the one module that prints


def _print_lines(lines: Sequence[str]) -> None:
    print("\n".join(lines))  # noqa: T201


def _say(text: str) -> None:
    print(text, file=sys.stderr)  # noqa: T201


_COMMANDS = {
    "run": _run,
    "status": _status,
    "flush": _flush,
    "off": _off,
    "on": _on,
    "show": _show,
    "preview": _preview,
    "contract add": _contract_add,
    "demo": _demo,
}

"""The command `tallyd`: the only module that prints.

Data goes to stdout, everything else to stderr. Each command imports what it needs when it runs, so
that `status` stays cheap. Exit codes: 0 done; `status`: 0 running, 3 not running, 4 never set up;
64 usage, 69 something is not installed, 70 a bug, 73 the state cannot be used, 75 try again (another
tallyd runs), 78 a contract or setting is wrong, 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from typing import TYPE_CHECKING, NoReturn

from tallyd import __version__
from tallyd.contract import ContractError
from tallyd.errors import AlreadyRunning, TallydError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tallyd.product import ProductView, Surroundings
    from tallyd.store import Store

_BEGAN = time.monotonic()
EXIT_USAGE, EXIT_BUG, EXIT_CONFIG, EXIT_INTERRUPTED = 64, 70, 78, 130


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit with its code."""
    arguments = _parser().parse_args(argv)
    try:
        code = arguments.run(arguments)
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
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    sys.exit(code)


def _run(_arguments: argparse.Namespace) -> int:
    import logging

    import anyio

    from tallyd import logs, service, settings
    from tallyd.clock import SystemClock

    around = _around()
    chosen = settings.read_settings(around.paths)
    logs.set_up(chosen.log_level)
    os.umask(0o077)
    code = 0
    try:
        anyio.run(service.serve, around, chosen, SystemClock(), _BEGAN)
    except (TallydError, KeyboardInterrupt):
        # Before anything was started.
        raise
    except BaseException:
        logging.getLogger("tallyd").critical("action=crashed", exc_info=True)
        code = EXIT_BUG
    # All is recorded. Not sys.exit: it would wait for the watcher's thread, which looks up only once
    # a step (1.5 s), and a stop takes at most 100 ms.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _status(arguments: argparse.Namespace) -> int:
    from tallyd import render, status

    report, code = status.gather(_around(), _now())
    _print(report) if arguments.json else _print_lines(render.status_text(report))
    return code


def _flush(arguments: argparse.Namespace) -> int:
    from tallyd import lock, render, requests
    from tallyd.limits import FLUSH_PATIENCE_S

    around = _around()

    def is_served() -> bool:
        holder = lock.current_holder(around.paths)
        return holder is not None and holder.role == "daemon"

    if is_served():
        _say("asking the running daemon …")
        result = requests.wait(requests.ask(around.paths), FLUSH_PATIENCE_S, is_served)
        if result is None:
            raise AlreadyRunning("the daemon did not answer", 'try again, or see "tallyd status"')
    else:
        import anyio

        from tallyd import logs, service
        from tallyd.clock import SystemClock

        logs.set_up("warning")
        os.umask(0o077)
        result = dict(anyio.run(service.flush, around, SystemClock()))
    _print(result) if arguments.json else _print_lines(render.flush_text(result))
    return 0


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


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(EXIT_USAGE, f"{self.prog}: {message}\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="tallyd",
        description="Merges the counter deltas of short-lived processes exactly once and sends one"
        " finished day at a time.",
        epilog="examples:\n"
        "  tallyd demo                     see the whole flow on this machine, in a minute\n"
        "  tallyd status                   what runs, who decided, what waits, what left\n"
        "  tallyd preview codegraph        the exact body that would be sent next\n"
        "  DO_NOT_TRACK=1 your-tool        counts nothing, whatever else is set\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"tallyd {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(
        name: str, run: object, summary: str, example: str, to: object = commands
    ) -> argparse.ArgumentParser:
        made = to.add_parser(  # type: ignore[attr-defined]  # argparse's own type is private
            name,
            help=summary,
            description=summary[0].upper() + summary[1:] + ".",
            epilog=f"example:\n  {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        made.set_defaults(run=run)
        assert isinstance(made, argparse.ArgumentParser)
        return made

    def with_json(made: argparse.ArgumentParser) -> argparse.ArgumentParser:
        made.add_argument("--json", action="store_true", help="print JSON")
        return made

    command("run", _run, "run the daemon in the foreground until a signal", "tallyd run")
    with_json(
        command(
            "status",
            _status,
            "say what runs, who decided, what waits and what left",
            "tallyd status --json",
        )
    )
    with_json(
        command("flush", _flush, "merge what was dropped and send what is due, now", "tallyd flush")
    )
    show = command(
        "show", _show, "print the buckets that are not sealed yet", "tallyd show codegraph"
    )
    show.add_argument("product", metavar="PRODUCT")
    with_json(show)
    preview = command(
        "preview",
        _preview,
        "print the exact body that would be sent next",
        "tallyd preview codegraph",
    )
    preview.add_argument("product", metavar="PRODUCT")
    with_json(preview)
    contract = commands.add_parser("contract", help="work with contracts")
    below = contract.add_subparsers(title="commands", metavar="COMMAND", required=True)
    add = command(
        "add",
        _contract_add,
        "register a product's contract",
        "tallyd contract add telemetry.toml",
        below,
    )
    add.add_argument("file", metavar="FILE", help="the contract, a TOML file")
    demo = command(
        "demo", _demo, "walk one counter from a real MCP server to a gateway's store", "tallyd demo"
    )
    demo.add_argument("--keep", action="store_true", help="keep the temporary home, and say where")
    return parser

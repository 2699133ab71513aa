"""The command `tallyd-ingest`: serve the gateway, export its rows. The only module that prints.

Exit codes: 0 done, 64 usage, 69 not installed or the port is taken, 73 the store cannot be used, 74 the output
cannot be written,
78 a contract is wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys
import time
from importlib.metadata import version
from typing import TYPE_CHECKING, NoReturn

from tallyd.contract import Contract, ContractError, parse_contract

from tallyd_ingest.store import Store, StoreUnusable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# The daemon's, said again: the gateway imports nothing of it but the contract, and a test compares them.
EXIT_USAGE, EXIT_UNAVAILABLE, EXIT_STATE, EXIT_OUTPUT, EXIT_CONFIG = 64, 69, 73, 74, 78
EXIT_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit with its code."""
    arguments = _parser().parse_args(argv)
    try:
        code = arguments.run(arguments)
        sys.stdout.flush()
    except ContractError as error:
        _say(f"tallyd-ingest: {error}")
        code = EXIT_CONFIG
    except StoreUnusable as error:
        _say(f"tallyd-ingest: {error}")
        code = EXIT_STATE
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED
    except OSError as error:
        # What was printed could not be written; nothing more may be tried at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
        if not isinstance(error, BrokenPipeError):
            _say(f"tallyd-ingest: the output cannot be written: {error.strerror}")
            code = EXIT_OUTPUT
    sys.exit(code)


def _serve(arguments: argparse.Namespace) -> int:
    try:
        import uvicorn  # noqa: PLC0415 - behind the extra

        from tallyd_ingest.app import make_app  # noqa: PLC0415
    except ImportError as error:
        _say(f"tallyd-ingest: {error.name} is not installed; run: pip install 'tallyd[ingest]'")
        return EXIT_UNAVAILABLE
    contracts: dict[str, Contract] = {}
    for file in arguments.contract:
        contract = _read_contract(file)
        if contracts.setdefault(contract.product, contract) is not contract:
            raise ContractError(
                file, 0, "product.name", "names the product of another file", "give one for each"
            )
    store = Store(arguments.db)
    try:
        listener = socket.create_server(
            (arguments.host, arguments.port),
            family=socket.AF_INET6 if ":" in arguments.host else socket.AF_INET,
        )
    except OSError as error:
        _say(
            f"tallyd-ingest: {arguments.host}:{arguments.port} cannot be listened on: {error.strerror}"
        )
        return EXIT_UNAVAILABLE
    host, port = listener.getsockname()[:2]
    _say(f"tallyd-ingest listens on http://{f'[{host}]' if ':' in host else host}:{port}")
    config = uvicorn.Config(
        make_app(contracts, store, _clock()),
        log_config=None,
        # The address of a client is never read: no access log, no proxy's headers.
        access_log=False,
        proxy_headers=False,
        server_header=False,
    )
    uvicorn.Server(config).run(sockets=[listener])
    store.close()
    return 0


def _export(arguments: argparse.Namespace) -> int:
    if not os.path.exists(arguments.db):
        raise StoreUnusable(f"{arguments.db} is not there; give the file that serve --db names")
    store = Store(arguments.db)
    rows = list(store.events() if arguments.events else store.rows())
    store.close()
    if arguments.json:
        print(json.dumps(rows, indent=2))  # noqa: T201 - the one module that prints
    else:
        for row in rows:
            print(" ".join(f"{name}={_word(value)}" for name, value in row.items()))  # noqa: T201
    return 0


def _word(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def _read_contract(file: str) -> Contract:
    try:
        with open(file, "rb") as opened:
            return parse_contract(opened.read(1 << 20), file)
    except OSError as error:
        raise ContractError(file, 0, "", f"cannot be read: {error.strerror}") from None


def _clock() -> Callable[[], float]:
    """Unix seconds; set forward by TALLYD_CLOCK_AHEAD, for the demo and tests with real processes."""
    try:
        ahead_s = float(os.environ.get("TALLYD_CLOCK_AHEAD", "0"))
    except ValueError:
        ahead_s = 0.0
    return lambda: time.time() + ahead_s


def _port(text: str) -> int:
    port = int(text) if text.isascii() and text.isdigit() else -1
    if not 0 <= port <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port; write a number from 0 to 65535")
    return port


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(EXIT_USAGE, f"{self.prog}: {message}\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="tallyd-ingest",
        description="The gateway of tallyd: keeps what a contract lists, adds it up, never looks at"
        " who sent it.",
        epilog="examples:\n"
        "  tallyd-ingest serve --contract telemetry.toml --db counts.db --port 8787\n"
        "  tallyd-ingest export --db counts.db --json\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"tallyd-ingest {version('tallyd')}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    serve = commands.add_parser("serve", help="answer POST /v1/events until a signal")
    serve.add_argument(
        "--contract",
        metavar="FILE",
        nargs="+",
        action="extend",
        required=True,
        help="contracts to accept, one or more",
    )
    serve.add_argument(
        "--db", metavar="PATH", required=True, help="the SQLite file to keep rows in"
    )
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
    serve.add_argument("--port", type=_port, default=8787, help="port to listen on (8787; 0: any)")
    serve.set_defaults(run=_serve)
    export = commands.add_parser("export", help="print what is stored")
    export.add_argument("--db", metavar="PATH", required=True, help="the SQLite file")
    export.add_argument(
        "--events", action="store_true", help="the single events instead of the rows"
    )
    export.add_argument("--json", action="store_true", help="print JSON")
    export.set_defaults(run=_export)
    return parser

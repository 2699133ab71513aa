"""The command `tallyd`: the only package that prints.

Data goes to stdout, everything else to stderr. Each command imports what it needs when it runs, so
that `status` stays cheap. The exit codes are in `tallyd.exits`.
"""

from __future__ import annotations

import os
import sys
import time
from importlib import import_module
from typing import TYPE_CHECKING, NoReturn

from tallyd import exits
from tallyd.cli.output import say_error
from tallyd.contract.errors import ContractError
from tallyd.errors import TallydError
from tallyd.usage import parser

if TYPE_CHECKING:
    from collections.abc import Sequence

_BEGAN = time.monotonic()

# Each command's words, and the function in this package that does it.
_COMMANDS = {
    "run": "run.run",
    "flush": "run.flush",
    "demo": "run.demo",
    "completion": "completion.completion",
    "status": "look.status",
    "doctor": "examine.doctor",
    "show": "look.show",
    "preview": "look.preview",
    "off": "choose.off",
    "on": "choose.on",
    "reset": "choose.reset",
    "choose": "choose.choose",
    "service install": "service.install",
    "service uninstall": "service.uninstall",
    "service start": "service.start",
    "service stop": "service.stop",
    "service restart": "service.restart",
    "service status": "service_show.status",
    "service logs": "service_show.logs",
    "service print": "service_show.print_files",
    "contract check": "contracts.check",
    "contract docs": "contracts.docs",
    "contract diff": "contracts.diff",
    "contract schema": "contracts.schema",
    "contract build": "contracts.build",
    "contract add": "contracts.add",
    "contract list": "contracts.list_all",
}


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit with its code."""
    argv = sys.argv[1:] if argv is None else list(argv)
    arguments = parser(argv).parse_args(argv)
    arguments.began = _BEGAN
    module, _, name = _COMMANDS[arguments.command].partition(".")
    try:
        code = getattr(import_module(f"tallyd.cli.{module}"), name)(arguments)
        sys.stdout.flush()
    except TallydError as error:
        say_error(error)
        code = error.exit_code
    except ContractError as error:
        say_error(error)
        code = exits.CONFIG
    except KeyboardInterrupt:
        code = exits.INTERRUPTED
    except BrokenPipeError:
        # `tallyd show … | head`: the reader has seen enough. Nothing more may be written at exit.
        _drop_output()
        code = 0
    except OSError as error:
        # Not a file of ours, those are told by name: what was printed could not be written.
        _drop_output()
        say_error(f"the output cannot be written: {error.strerror}")
        code = exits.OUTPUT
    sys.exit(code)


def _drop_output() -> None:
    """Let nothing more be written at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

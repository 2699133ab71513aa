"""`tallyd demo`: one counter walks from a real MCP server to the gateway's store.

Everything is real and on this machine: gateway, daemon, MCP server and client are processes of
their own under a temporary home, which goes when the demo ends. Only the clock is helped: daemon and
gateway run a day ahead for the last part, so that today is over. It succeeds only when the rows in
the gateway's store equal the calls that were made.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tallyd import exits

if TYPE_CHECKING:
    from collections.abc import Callable

_NEEDED = {
    "uvicorn": "'tallyd[demo]'",
    "starlette": "'tallyd[demo]'",
    "mcp": "'tallyd[demo]'",
    "mcp_server_time": "'tallyd[demo]'",
    "tallyd_client": "tallyd-client",
}


def _how_to_install(wanted: list[str]) -> str:
    """How whoever installed this tallyd adds to it: a tool's environment is no pip's."""
    parts = Path(sys.prefix).parts
    if parts[-3:-1] == ("uv", "tools"):
        return "uv tool install --force --with tallyd-client 'tallyd[demo]'"
    if "pipx" in parts and parts[-2] == "venvs":
        return "pipx install --force 'tallyd[demo]' && pipx inject tallyd tallyd-client"
    return f"pip install {' '.join(wanted)}"


def run_demo(say: Callable[[str], None], *, keep: bool) -> int:
    """Walk the whole flow, telling each step through `say`; returns the exit code."""
    missing = [module for module in _NEEDED if importlib.util.find_spec(module) is None]
    if missing:
        wanted = sorted({_NEEDED[module] for module in missing})
        say(f"The demo needs {', '.join(missing)}. Run: {_how_to_install(wanted)}")
        say('From a checkout, "make demo" installs them by itself.')
        return exits.UNAVAILABLE
    from tallyd.demo.walk import walk  # noqa: PLC0415 - needs what was just looked for

    return walk(say, keep=keep)

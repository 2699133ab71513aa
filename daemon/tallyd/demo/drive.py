"""The demo's client: calls tools of a real MCP server over stdio, with the MCP SDK's own client.

It owns the list of calls, so that the demo can compare what arrived with what was done. Some of
them fail on purpose: a time zone that is none, an hour that is none, a tool that is none.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from mcp import Client, MCPError, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.types import Implementation

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TextIO

CLIENT_NAME: Final = "tallyd-demo-agent"

_NOW = "get_current_time"
_CONVERT = "convert_time"
_NOON = {"source_timezone": "Europe/Paris", "time": "12:00", "target_timezone": "Asia/Tokyo"}

# One list per server process: twelve calls in all.
SESSIONS: Final[tuple[tuple[tuple[str, Mapping[str, str]], ...], ...]] = (
    (
        (_NOW, {"timezone": "Europe/Paris"}),
        (_NOW, {"timezone": "Asia/Tokyo"}),
        (_NOW, {"timezone": "Mars/Olympus_Mons"}),
        (_CONVERT, _NOON),
    ),
    (
        (_NOW, {"timezone": "America/New_York"}),
        (_CONVERT, _NOON),
        (_CONVERT, {**_NOON, "time": "noonish"}),
        (_CONVERT, {**_NOON, "target_timezone": "America/Lima"}),
    ),
    (
        (_NOW, {"timezone": "UTC"}),
        (_NOW, {"timezone": "Africa/Cairo"}),
        (_NOW, {"timezone": "Nowhere/At_All"}),
        ("tell_me_a_secret", {"about": "you"}),
    ),
)


async def call_tools(
    command: list[str],
    environ: Mapping[str, str],
    calls: tuple[tuple[str, Mapping[str, str]], ...],
    errors: TextIO,
) -> Counter[tuple[str, str]]:
    """Start one server, make these calls, end it; its stderr goes to `errors`.

    Returns how often each (tool, "ok" or "error") came back.
    """
    seen: Counter[tuple[str, str]] = Counter()
    server = StdioServerParameters(command=command[0], args=command[1:], env=dict(environ))
    who = Implementation(name=CLIENT_NAME, version="1.0")
    async with Client(stdio_client(server, errlog=errors), client_info=who) as client:
        known = {tool.name for tool in (await client.list_tools()).tools}
        for tool, arguments in calls:
            try:
                failed = (await client.call_tool(tool, dict(arguments))).is_error
            except MCPError:
                failed = True
            seen[tool if tool in known else "_unknown", "error" if failed else "ok"] += 1
    return seen

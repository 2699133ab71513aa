"""A host for the demo: somebody else's MCP server, unedited, with counting put around it.

Run as a program of its own: `python host.py CONTRACT`. It starts `mcp-server-time` from the package
index after wrapping `MCPServer.__init__`, so that every server made gets one middleware that counts
tool calls. This file is host code: it is the only one here that imports the stub, and the daemon
never imports it. stdout belongs to the MCP protocol; nothing is printed.
"""

from __future__ import annotations

import sys
from importlib.metadata import version
from typing import Any

import mcp_server_time
from mcp.server.mcpserver import MCPServer
from tallyd_client import Client

client = Client("tallyd-demo", version("mcp-server-time"), contract=sys.argv.pop(1))
count = client.rollup("tool_calls", "tool", "client_name")
_plain_init = MCPServer.__init__


def _instrumented_init(server: MCPServer, *args: Any, **kwargs: Any) -> None:
    _plain_init(server, *args, **kwargs)

    async def count_calls(ctx: Any, call_next: Any) -> Any:
        if ctx.method != "tools/call":
            return await call_next(ctx)
        registered = {tool.name for tool in await server.list_tools()}
        asked = (ctx.params or {}).get("name")
        # A name that the server did not register is a text of the client's choosing.
        tool = asked if asked in registered else "_unknown"
        ok = False
        try:
            result = await call_next(ctx)
            said = (
                result.get("isError")
                if isinstance(result, dict)
                else getattr(result, "is_error", None)
            )
            ok = not said
            return result
        finally:
            count(tool, _client_name(ctx), ok=ok)

    server.middleware.append(count_calls)


def _client_name(context: Any) -> str:
    params = context.session.client_params
    return params.client_info.name if params is not None else "unknown"


if __name__ == "__main__":
    MCPServer.__init__ = _instrumented_init  # type: ignore[assignment, method-assign]  # the point of this file
    client.event("server_started", transport="stdio")
    mcp_server_time.main()

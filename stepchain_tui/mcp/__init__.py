"""MCP servers: one owner for each, over stdio and streamable HTTP, and calls of their tools.

May import tools, sandbox, resilience, run, plan and core. Names load on first use, and the SDK with the first
connection: it takes most of a second.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stepchain_tui.mcp.arguments import McpArgumentError, check_arguments
    from stepchain_tui.mcp.results import value_of
    from stepchain_tui.mcp.server import McpServer
    from stepchain_tui.mcp.servers import McpServers
    from stepchain_tui.mcp.spec import ServerSpec
    from stepchain_tui.mcp.tools import McpTool

_MODULES = {
    "McpArgumentError": "arguments",
    "McpServer": "server",
    "McpServers": "servers",
    "McpTool": "tools",
    "ServerSpec": "spec",
    "check_arguments": "arguments",
    "value_of": "results",
}

__all__ = (
    "McpArgumentError",
    "McpServer",
    "McpServers",
    "McpTool",
    "ServerSpec",
    "check_arguments",
    "value_of",
)


def __getattr__(name: str) -> Any:
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module 'stepchain_tui.mcp' has no attribute '{name}'")
    return getattr(import_module(f"stepchain_tui.mcp.{module}"), name)

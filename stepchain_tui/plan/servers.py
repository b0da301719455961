"""MCP servers as plans and settings name them: which server's tool a step calls, and what is written about it."""

from __future__ import annotations

from typing import Any, NamedTuple

from stepchain_tui.core.errors import UsageError
from stepchain_tui.core.paths import settings_path
from stepchain_tui.core.settings import load_settings
from stepchain_tui.plan.models import DEFAULT_SERVER_TIMEOUT, Defaults, Plan, Step

FROM_PLAN = "plan"
FROM_SETTINGS = "settings"


class ServerTool(NamedTuple):
    """A tool of an MCP server, as a step names it: `server.tool`."""

    server: str
    tool: str


def server_tool(name: Any, entry: Any = None) -> ServerTool | None:
    """Return the server's tool that a name stands for; None where it is no server's.

    Args:
        name: What a step writes under `tool`.
        entry: What the plan's `tools` writes under that name; it may be another name for a server's tool.
    """
    written = name if entry is None else entry
    if not isinstance(written, str) or ":" in written or "/" in written:
        return None
    server, dot, tool = written.partition(".")
    return ServerTool(server, tool) if server and dot and tool else None


def called_server_tool(step: Step, plan: Plan) -> ServerTool | None:
    """Return the server's tool that a step calls, None where it calls something else."""
    return server_tool(step.tool, plan.tools.get(step.tool)) if step.tool is not None else None


def server_entry(name: str, plan: Plan) -> dict[str, Any] | None:
    """Return what the plan writes about a server, None where it writes nothing."""
    spec = plan.mcp_servers.get(name)
    return None if spec is None else spec.model_dump(mode="json", exclude_unset=True)


def settings_servers() -> dict[str, dict[str, Any]]:
    """Return what the user's settings write about servers, by name; nothing where the settings cannot be read."""
    try:
        return load_settings(settings_path()).mcp_servers
    except UsageError:
        return {}


def server_timeout(step: Step, entry: dict[str, Any] | None, defaults: Defaults) -> float:
    """Return the seconds that a step which calls a server's tool may take.

    Its own first, then the server's, the plan's, and 30.
    """
    written = (entry or {}).get("timeout")
    for seconds in (step.timeout, written, defaults.timeout):
        if seconds is not None:
            return float(seconds)
    return DEFAULT_SERVER_TIMEOUT

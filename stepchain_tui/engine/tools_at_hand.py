"""The tools that a model may plan with: their names as plans write them, what they are for and what they take."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from stepchain_tui.core.errors import UsageError, did_you_mean
from stepchain_tui.core.settings import Settings
from stepchain_tui.engine.engine import Engine
from stepchain_tui.engine.toolbox import server_spec
from stepchain_tui.plan import Plan, function_reference
from stepchain_tui.plan.prompt_tools import HOSTED_TOOLS
from stepchain_tui.tools.registry import Tool, shared_tools, tool_of_entry

ToolName = str | Callable[..., Any] | Mapping[str, Any]
_HOSTED = {
    "web_search": "searches the web",
    "code_interpreter": "runs Python at the model's provider",
    "file_search": "searches files that were uploaded to the model's provider",
}


def tools_at_hand(names: Iterable[ToolName], folder: Path, settings: Settings) -> list[dict[str, Any]]:
    """Return the tools that a model may plan with, as `question` takes them; no server is started for it.

    Args:
        names: A hosted tool's name, a built-in or registered tool's, a server of the settings or one of its tools
            (`server.tool`), a function as in `function:`, or a function itself.
        folder: What `./` is relative to.
        settings: The user's settings.

    Raises:
        UsageError: There is no such tool.
        AttemptError: A function cannot be loaded.
    """
    return [_tool(name, folder, settings) for name in names]


async def told_tools(
    engine: Engine, names: Iterable[ToolName], folder: Path, settings: Settings, *, connect: bool
) -> list[dict[str, Any]]:
    """Return `tools_at_hand` with what the servers among them tell of their tools.

    Args:
        engine: Connects to the servers.
        names: The tools.
        folder: What `./` is relative to.
        settings: The user's settings.
        connect: Ask the servers; else only their names are told.

    Raises:
        UsageError: There is no such tool.
        AttemptError: A server cannot be reached, or a function cannot be loaded.
    """
    rows = await asyncio.to_thread(tools_at_hand, list(names), folder, settings)
    found: list[dict[str, Any]] = []
    for row in rows:
        server, _, tool = str(row["name"]).partition(".")
        if connect and ":" not in row["name"] and server in settings.mcp_servers:
            found += await _server_rows(engine, server, tool, folder, settings)
        else:
            found.append(row)
    return found


async def _server_rows(
    engine: Engine, server: str, tool: str, folder: Path, settings: Settings
) -> list[dict[str, Any]]:
    spec = server_spec(server, Plan(steps=()), folder, settings)
    listed = [one for one in await engine.core.executors.servers.get(spec).tools() if spec.allows(one.name)]
    if tool and tool not in (known := [one.name for one in listed]):
        hint = did_you_mean(tool, known) or f"It has: {', '.join(known[:20])}."
        raise UsageError(f"the MCP server '{server}' has no tool '{tool}'", hint=hint)
    return [
        {
            "name": f"{server}.{one.name}",
            "use": f"`tool: {server}.{one.name}`, or under a prompt's `tools`",
            "description": spec.redactor.text(one.description),
            "arguments": spec.redactor.value(one.input_schema),
        }
        for one in listed
        if not tool or one.name == tool
    ]


def usual_tools(settings: Settings) -> list[str]:
    """Return the names of the tools that are at hand where none are named."""
    return [*(tool.name for tool in shared_tools()), "web_search", *settings.mcp_servers]


def _tool(name: ToolName, folder: Path, settings: Settings) -> dict[str, Any]:
    if isinstance(name, Mapping):
        if "type" in name and name["type"] != "function":
            return {"name": str(name["type"]), "use": "under a prompt's tools", "description": "hosted by the provider"}
        name = name.get("function", "")
    written = function_reference(name) if callable(name) else str(name)
    if written in HOSTED_TOOLS:
        return {"name": written, "use": "only under a prompt's `tools`", "description": _HOSTED.get(written, "")}
    if ":" in written:
        found = Tool("it", name, folder=folder) if callable(name) else tool_of_entry("it", written, folder)
        use = f"`function: {written}`, or under a prompt's `tools`"
        return _function(written, found, use)
    shared = shared_tools()
    if written in shared:
        use = f"`tool: {written}`, or under a prompt's `tools`"
        return _function(written, shared.get(written), use)
    server, _, of_server = written.partition(".")
    if server in settings.mcp_servers:
        what = f"`tool: {written}`" if of_server else f"`tool: {server}.NAME`"
        return {"name": written, "use": f"MCP: {what}, or under a prompt's `tools`", "description": ""}
    known = [*HOSTED_TOOLS, *(tool.name for tool in shared), *settings.mcp_servers]
    hint = did_you_mean(written, known) or f"There are: {', '.join(known)}; a function is written ./file.py:name."
    raise UsageError(f"there is no tool '{written}'", hint=hint)


def _function(name: str, tool: Tool, use: str) -> dict[str, Any]:
    schema = tool.schema
    return {
        "name": name,
        "use": use,
        "description": tool.description or schema.description,
        "arguments": schema.parameters,
    }

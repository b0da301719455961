"""Where the tools of a step come from, in a few words, for whoever has to allow a call of one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from typing import Any

from stepchain_tui.core.errors import StepChainError


def origin_of(plan: Mapping[str, Any], step_id: str, tool_name: str) -> str:
    """Return where a tool that a step wants to call comes from; empty where that is not known. Blocking.

    Args:
        plan: The run's plan.
        step_id: The step.
        tool_name: The tool, as the plan calls it.
    """
    from stepchain_tui.plan import Plan
    from stepchain_tui.plan.prompt_tools import bound_tools

    with contextlib.suppress(StepChainError, ValueError, LookupError, TypeError, AttributeError):
        found = Plan.model_validate(plan)
        own = [entry for step in found.steps if step.id == step_id for entry in step.tools or ()]
        entries = [*own, *(entry for agent in found.agents.values() for entry in _tools_of(agent))]
        for tool in bound_tools(entries, found):
            if words := _told(tool, tool_name):
                return words
        server = tool_name.partition(".")[0]
        return f"a tool of the MCP server {server}" if server in found.mcp_servers else ""
    return ""


def _tools_of(agent: Any) -> Iterable[Any]:
    return getattr(agent, "tools", None) or ()


def _told(tool: Mapping[str, Any], name: str) -> str:
    kind = tool["kind"]
    if kind == "server":
        server = str(tool["server"])
        is_it = tool["name"] == name if tool["name"] else name.partition(".")[0] == server
        return f"a tool of the MCP server {server}" if is_it else ""
    if tool["name"] != name:
        return ""
    if kind == "hosted":
        return "a tool that the model's provider carries out"
    entry = tool["entry"]
    reference = entry.get("function") if isinstance(entry, Mapping) else entry
    return f"the function {reference}" if reference else "a tool of StepChain"

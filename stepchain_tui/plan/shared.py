"""What the steps of a plan share by name: the plan's entry of the tool or the agent that a step calls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stepchain_tui.plan.expressions import compile_template
from stepchain_tui.plan.models import AgentSpec, Plan, Step
from stepchain_tui.plan.prompt_tools import reach_of, references_in, tools_in
from stepchain_tui.plan.servers import called_server_tool, server_entry


def called_entry(step: Step, plan: Plan) -> Any:
    """Return what the plan writes under the name that a tool or agent step calls; None where it writes nothing.

    Of a server's tool that is what it writes about the server: `{"server": name, "tool": name, "entry": mapping}`. An
    agent that is written in the step itself (`./file.py:Agent`) is its own entry. Of a prompt, and of an agent that the
    plan describes, it is all that its model can reach, see `prompt_tools.reach_of`.
    """
    if step.prompt is not None:
        return reach_of(step, plan)
    if step.tool is not None:
        if (named := called_server_tool(step, plan)) is not None:
            return {"server": named.server, "tool": named.tool, "entry": server_entry(named.server, plan)}
        return plan.tools.get(step.tool)
    if step.agent is not None:
        entry = plan.agents.get(step.agent)
        if isinstance(entry, AgentSpec):
            return reach_of(step, plan)
        return entry if entry is not None or ":" not in step.agent else step.agent
    return None


def functions_behind(entry: Any) -> tuple[str, ...]:
    """Return the references of the code behind what `called_entry` gave, each once, in order."""
    if isinstance(entry, dict) and not isinstance(entry.get("function"), str):
        return tuple(dict.fromkeys(references_in(entry)))
    found = entry.get("function") if isinstance(entry, dict) else entry
    return (found,) if isinstance(found, str) and ":" in found else ()


def secrets_of_servers(plan: Plan, servers: Mapping[str, Mapping[str, Any]]) -> frozenset[str]:
    """Return the variables, `secrets.NAME`, that servers of the settings read whose tools a plan, or a model, calls.

    Args:
        plan: The plan.
        servers: What the settings write about servers, by name.
    """
    called = {named.server for step in plan.steps if (named := called_server_tool(step, plan)) is not None}
    for step in plan.steps:
        if step.prompt is not None or step.agent is not None:
            called |= {tool["server"] for tool in tools_in(reach_of(step, plan)) if tool["kind"] == "server"}
    entries = [dict(servers[name]) for name in called - plan.mcp_servers.keys() if name in servers]
    return compile_template(entries).secrets if entries else frozenset()

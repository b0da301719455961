"""What a model may call: the entries of `tools:` of prompts and agents, each bound to what it stands for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

from stepchain_tui.core.values import to_json_value
from stepchain_tui.plan.models import AgentSpec, Plan, Step
from stepchain_tui.plan.servers import server_entry, server_tool
from stepchain_tui.plan.tool_names import known_tools

HOSTED_TOOLS = ("web_search", "code_interpreter", "file_search")
"""Tools that a model's provider carries out and that a plain name stands for."""
HOSTED_TYPES = (*HOSTED_TOOLS, "mcp", "image_generation")
"""The same as the `type` of a mapping; those of the last two, and `file_search`, need further keys."""
TOOL_KEYS = ("function", "description", "mode", "timeout", "fallback")
"""The keys of a tool that a plan describes under its `tools`."""
FUNCTION_KEYS = (*TOOL_KEYS, "name")
"""The keys of a function as a tool, written as a mapping where a model may call it."""

BoundTool = dict[str, Any]
"""One entry, bound; plain JSON. By `kind`:

`hosted`: `tool` is what the API gets, `{"type": "web_search", ...}`.
`function`: `name`, and `entry`, what the plan writes about it (a reference `./file.py:name`, or a mapping with the key
`function`); None for a tool that is built in or was registered.
`server`: `server`, the name of an MCP server, and `tool`, one of its tools, or None for all that it allows; `name` is
what the plan calls that one tool, where it does.
"""


def bound_tools(entries: Iterable[Any], plan: Plan) -> list[BoundTool]:
    """Return what the entries of a `tools:` stand for, in their order."""
    return [bound_tool(entry, plan) for entry in entries]


def bound_tool(entry: Any, plan: Plan) -> BoundTool:
    """Return what one entry stands for; one that no plan may have is bound as a function of that name."""
    if isinstance(entry, Mapping):
        if "type" in entry and entry["type"] != "function":
            return {"kind": "hosted", "name": str(entry["type"]), "tool": to_json_value(dict(entry))}
        return {"kind": "function", "name": tool_name(entry), "entry": to_json_value(dict(entry))}
    name = str(entry)
    written = plan.tools.get(name)
    if written is None:
        if name in HOSTED_TOOLS:
            return {"kind": "hosted", "name": name, "tool": hosted(name)}
        if name in plan.mcp_servers or kind_of_name(name) == "server":
            found = server_tool(name)
            server, tool = (name, None) if found is None else found
            return {"kind": "server", "server": server, "tool": tool, "name": ""}
        is_reference = ":" in name
        return {"kind": "function", "name": tool_name(name), "entry": name if is_reference else None}
    if isinstance(written, str) and written in HOSTED_TOOLS:
        return {"kind": "hosted", "name": written, "tool": hosted(written)}
    if (found := server_tool(name, written)) is not None:
        return {"kind": "server", "server": found.server, "tool": found.tool, "name": name}
    if isinstance(written, Mapping) and "type" in written and written["type"] != "function":
        return {"kind": "hosted", "name": name, "tool": to_json_value(dict(written))}
    if isinstance(written, str) and written in known_tools():
        return {"kind": "function", "name": written, "entry": None}
    return {"kind": "function", "name": name, "entry": to_json_value(written)}


def kind_of_name(name: str) -> Literal["hosted", "function", "server"]:
    """Return what a plain name under `tools` stands for where the plan's own `tools` do not have it."""
    if name in HOSTED_TOOLS:
        return "hosted"
    if ":" in name or name in known_tools():
        return "function"
    return "server"


def hosted(name: str) -> dict[str, Any]:
    """Return what the API gets for a hosted tool that is written by name (document 000)."""
    return {"type": name, "container": {"type": "auto"}} if name == "code_interpreter" else {"type": name}


def tool_name(entry: Any) -> str:
    """Return the name under which a model knows a function: the one that is written, else the function's own."""
    if isinstance(entry, Mapping):
        if isinstance(entry.get("name"), str):
            return str(entry["name"])
        entry = entry.get("function", "")
    return str(entry).rpartition(":")[2].rpartition(".")[2]


# --- all that a step's model can reach


def described_agents(name: str, plan: Plan) -> dict[str, AgentSpec]:
    """Return the agents that an agent step can reach by hand-offs, itself first; nothing where it is code."""
    found: dict[str, AgentSpec] = {}
    waiting = [name]
    while waiting:
        spec = plan.agents.get(current := waiting.pop(0))
        if current not in found and isinstance(spec, AgentSpec):
            found[current] = spec
            waiting.extend(spec.handoffs)
    return found


def reach_of(step: Step, plan: Plan) -> dict[str, Any] | None:
    """Return all that the model of a prompt or of a described agent can reach; None where that is nothing.

    Returns:
        `{"tools": [BoundTool], "agents": {name: agent}, "servers": {name: entry or None}, "model": entry}`, each where
        there is some: `agents` with their own bound `tools`, `servers` as the plan writes them (None for one of the
        settings), `model` as the plan's `models` write the one that the step names.
    """
    found: dict[str, Any] = {}
    if step.prompt is not None and step.tools:
        found["tools"] = bound_tools(step.tools, plan)
    if step.agent is not None and (agents := described_agents(step.agent, plan)):
        found["agents"] = {
            name: {**spec.model_dump(mode="json", exclude_unset=True), "tools": bound_tools(spec.tools, plan)}
            for name, spec in agents.items()
        }
    servers = {
        tool["server"]: server_entry(tool["server"], plan) for tool in tools_in(found) if tool["kind"] == "server"
    }
    if servers:
        found["servers"] = servers
    named = [step.model or plan.defaults.model, *(agent.get("model") for agent in found.get("agents", {}).values())]
    if places := {
        name: plan.models[name].model_dump(mode="json", exclude_unset=True) for name in named if name in plan.models
    }:
        found["models"] = places
    return found or None


def tools_in(reach: Mapping[str, Any] | None) -> Iterator[BoundTool]:
    """Yield every bound tool of what `reach_of` gave."""
    if reach is not None:
        yield from reach.get("tools", ())
        for agent in reach.get("agents", {}).values():
            yield from agent["tools"]


def references_in(reach: Mapping[str, Any] | None) -> Iterator[str]:
    """Yield the references of the functions, `./file.py:name`, that a model can reach."""
    for tool in tools_in(reach):
        entry = tool.get("entry")
        reference = entry.get("function") if isinstance(entry, Mapping) else entry
        if isinstance(reference, str) and ":" in reference:
            yield reference

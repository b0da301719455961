"""What the steps of a plan share by name: the plan's entry of the tool or the agent that a step calls."""

from __future__ import annotations

from typing import Any

from stepchain_tui.plan.models import Plan, Step
from stepchain_tui.plan.servers import called_server_tool, server_entry


def called_entry(step: Step, plan: Plan) -> Any:
    """Return what the plan writes under the name that a tool or agent step calls; None where it writes nothing.

    Of a server's tool that is what it writes about the server: `{"server": name, "tool": name, "entry": mapping}`. An
    agent that is written in the step itself (`./file.py:Agent`) is its own entry.
    """
    if step.tool is not None:
        if (named := called_server_tool(step, plan)) is not None:
            return {"server": named.server, "tool": named.tool, "entry": server_entry(named.server, plan)}
        return plan.tools.get(step.tool)
    if step.agent is not None:
        entry = plan.agents.get(step.agent)
        return entry if entry is not None or ":" not in step.agent else step.agent
    return None


def function_behind(entry: Any) -> str | None:
    """Return the reference of the code behind an entry of `tools` or `agents`, None where there is none."""
    found = entry.get("function") if isinstance(entry, dict) else entry
    return found if isinstance(found, str) and ":" in found else None

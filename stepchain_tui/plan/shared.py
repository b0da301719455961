"""What the steps of a plan share by name: the plan's entry of the tool or the agent that a step calls."""

from __future__ import annotations

from typing import Any

from stepchain_tui.plan.models import Plan, Step


def called_entry(step: Step, plan: Plan) -> Any:
    """Return what the plan writes under the name that a tool or agent step calls; None where it writes nothing.

    An agent that is written in the step itself (`./file.py:Agent`) is its own entry.
    """
    if step.tool is not None:
        return plan.tools.get(step.tool)
    if step.agent is not None:
        entry = plan.agents.get(step.agent)
        return entry if entry is not None or ":" not in step.agent else step.agent
    return None


def function_behind(entry: Any) -> str | None:
    """Return the reference of the code behind an entry of `tools` or `agents`, None where there is none."""
    found = entry.get("function") if isinstance(entry, dict) else entry
    return found if isinstance(found, str) and ":" in found else None

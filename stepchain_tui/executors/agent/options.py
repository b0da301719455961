"""How the models of agents that a plan describes are asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

AGENTS = "agents"
"""The option of a call that holds the described agents that it can reach, the one that begins first."""
_OF_MODEL = ("model", "temperature", "max_output_tokens", "reasoning")
"""What an agent says of its model; what it leaves open is the step's, then the plan's defaults'."""
_OF_STEP = ("replies", "models")


def model_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of the model that speaks first, as those of a prompt; a plan's code has none."""
    agents = options.get(AGENTS)
    if not agents:
        return {}
    return voice_args(next(iter(agents.values())), options)


def voice_args(agent: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return how an agent's model is asked.

    Args:
        agent: What the plan says of it.
        options: What the step and the plan's defaults say.
    """
    found = {key: agent[key] if agent.get(key) is not None else options.get(key) for key in _OF_MODEL}
    found.update({key: options.get(key) for key in _OF_STEP})
    return {key: value for key, value in found.items() if value is not None}

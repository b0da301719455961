"""One turn of one agent: what it gets to remember, how it is called, and what its answer becomes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stepchain_tui.agents.calling import call_function
from stepchain_tui.agents.errors import ValidationError
from stepchain_tui.agents.messages import AgentMemory, Message, isolated
from stepchain_tui.tools.context import StepContext
from stepchain_tui.tools.functions import call_shape
from stepchain_tui.tools.threads import ThreadPool

_METADATA_NAMES = ("metadata", "context")
"""Parameters of `run_step` that get the call's metadata."""


def prepare_memory(base_memory: AgentMemory, request: Any, metadata: Mapping[str, Any]) -> AgentMemory:
    """Return what an agent remembers in this turn: a copy, with what the metadata adds to it.

    Args:
        base_memory: Never changed.
        request: What the agent is asked.
        metadata: `from_agent` adds `Request from X: request` as a message of role `system`; each of `tool_results` is
            added in order.
    """
    memory = base_memory.copy()
    if metadata.get("from_agent"):
        text = request if isinstance(request, str) else str(request)
        memory.add_message(Message("system", f"Request from {metadata['from_agent']}: {text}"))
    for result in metadata.get("tool_results") or ():
        memory.add_tool_result(result)
    return memory


async def take_turn(
    agent: Any,
    name: str,
    request: Any,
    memory: AgentMemory,
    metadata: Mapping[str, Any],
    *,
    threads: ThreadPool,
    limit: float | None,
) -> Any:
    """Return what the agent's `run_step` gives.

    Args:
        agent: Its `run_step` is async and runs on the loop, or sync and runs in a thread.
        name: What the agent is called, for messages.
        request: Is copied, so that the agent may change it.
        memory: The agent's own from here on.
        metadata: Handed on, as a copy, to a parameter `metadata` or `context`.
        threads: Where a sync agent runs.
        limit: Seconds the turn may take.

    Raises:
        TimeoutError: It took longer.
        Exception: What the agent raised.
    """
    context = StepContext(run_id=str(metadata.get("run_id", "")), step_id=str(metadata.get("step_id", "")))
    return await call_function(
        agent.run_step,
        (isolated(request), memory),
        extra_arguments(agent, metadata, context),
        threads=threads,
        limit=limit,
        what=f"Agent '{name}'",
        on_cancel=context.cancel,
    )


def extra_arguments(agent: Any, metadata: Mapping[str, Any], context: StepContext) -> dict[str, Any]:
    """Return what `run_step` gets beside the request and the memory: what it has parameters for."""
    shape = call_shape(agent.run_step)
    given = {name: isolated(dict(metadata)) for name in _METADATA_NAMES if name in shape.names}
    return {**given, shape.context: context} if shape.context else given


def takes_metadata(agent: Any) -> bool:
    """Return whether what the agent answers may depend on the call's metadata."""
    return not call_shape(agent.run_step).names.isdisjoint(_METADATA_NAMES)


def extract_response(agent_result: Any) -> dict[str, Any]:
    """Return an agent's answer as a mapping.

    A dict is returned as it is. A message gives its content, role and metadata, a model (`model_dump()` or `dict()`)
    its fields, and anything else `{"content": str(answer)}`.
    """
    if isinstance(agent_result, dict):
        return agent_result
    if isinstance(agent_result, Message):
        return {
            "content": agent_result.content,
            "role": agent_result.role,
            "metadata": agent_result.metadata,
        }
    if not isinstance(agent_result, type):
        for name in ("model_dump", "dict"):
            dump = getattr(agent_result, name, None)
            if callable(dump) and isinstance(found := dump(), dict):
                return found
    return {"content": str(agent_result)}


def check_memory(memory: Any) -> AgentMemory:
    """Return the memory of a call; None is an empty one.

    Raises:
        ValidationError: It is no memory.
    """
    if memory is None:
        return AgentMemory()
    if isinstance(memory, AgentMemory):
        return memory
    raise ValidationError(
        f"memory: is {type(memory).__name__}, not an AgentMemory",
        hint="Pass AgentMemory(), or a list of messages to it.",
    )

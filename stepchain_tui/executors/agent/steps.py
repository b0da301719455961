"""From an agent step to a turn of its agent."""

from __future__ import annotations

from typing import Any, ClassVar

from stepchain_tui.executors.agent.base import BaseAgentExecutor
from stepchain_tui.executors.agent.described import DescribedAgents
from stepchain_tui.executors.agent.factory import AgentExecutorFactory
from stepchain_tui.executors.agent.options import AGENTS, model_options
from stepchain_tui.executors.base import IExecutor
from stepchain_tui.executors.prompt.binding import ToolBinder
from stepchain_tui.executors.prompt.models import PromptModels
from stepchain_tui.executors.registry import ExecutorFactory
from stepchain_tui.executors.spec import ToolSpec
from stepchain_tui.executors.steps import KindSteps
from stepchain_tui.executors.types import StepCall
from stepchain_tui.mcp import McpServers
from stepchain_tui.tools.pools import Pools

ENTRY = "entry"
"""The option of a call that holds what the plan writes under the agent's name in `agents:`."""
HISTORY = "history"
"""The option of a call that holds the agent's turns in the steps that come before this one."""
MEMORY = "memory"
"""The key of a step's args that says what its agent remembers: false for nothing, or messages before its turns."""


_OPTIONS = (
    "agents",
    "servers",
    "models",
    "model",
    "temperature",
    "max_output_tokens",
    "reasoning",
    "replies",
    "require_approval",
    "max_turns",
    "expects",
)
"""The options of a call of a described agent that its executor reads as they are."""


class AgentSteps(KindSteps):
    """Carries out agent steps.

    Args:
        pools: The pools of this engine process.
        models: Chooses the models of agents that a plan describes; each executor's own where none is given.
        servers: The MCP servers of this engine process; each executor's own where none are given.
    """

    factory: ClassVar[type[ExecutorFactory]] = AgentExecutorFactory

    def __init__(self, pools: Pools, models: PromptModels | None = None, servers: McpServers | None = None) -> None:
        super().__init__()
        self._pools = pools
        self._models = models
        self._servers = servers

    def args_of(self, call: StepCall) -> dict[str, Any]:
        """Return what the agent is asked; the step's args are the metadata of the turn, but for `memory`."""
        metadata = dict(call.args)
        memory = metadata.pop(MEMORY, None)
        name = str(call.step.agent)
        return {
            **{key: call.options[key] for key in _OPTIONS if call.options.get(key) is not None},
            "agent": name,
            "entry": call.options.get(ENTRY) or name,
            "request": call.options.get("request"),
            "metadata": {**metadata, "run_id": call.run_id, "step_id": call.step.id},
            MEMORY: None if isinstance(memory, bool) else memory,
            HISTORY: None if memory is False else call.options.get(HISTORY),
        }

    def spec_of(self, call: StepCall) -> ToolSpec:
        """Return the spec of the agent that the step names."""
        return ToolSpec(tool_name=str(call.step.agent), timeout=call.timeout)

    def make(self, executor_type: type[Any], spec: ToolSpec, call: StepCall) -> IExecutor:
        """Return a new executor for the step's agent."""
        if not issubclass(executor_type, BaseAgentExecutor):
            return super().make(executor_type, spec, call)
        made: IExecutor = executor_type(spec, None, self._pools)
        if isinstance(made, BaseAgentExecutor) and self._models is not None and self._servers is not None:
            made.described = DescribedAgents(self._models, ToolBinder(self._pools, self._servers))
        return made

    def provider(self, call: StepCall) -> str:
        """Return what a call goes to, as its circuit breaker is called: the agent, or the model of a described one."""
        if call.options.get(AGENTS) and self._models is not None:
            return self._models.provider(model_options(call.options), call.secrets)
        return f"agent {call.step.agent}"

"""The types of agent executors."""

from __future__ import annotations

from typing import Any, ClassVar

from stepchain_tui.executors.agent.executor import AgentStepExecutor
from stepchain_tui.executors.agent.interface import IAgentExecutor
from stepchain_tui.executors.registry import ExecutorFactory, ExecutorRegistry
from stepchain_tui.executors.spec import ToolSpec
from stepchain_tui.tools.pools import Pools


class AgentExecutorFactory(ExecutorFactory):
    """Makes agent executors by type."""

    registry: ClassVar[ExecutorRegistry[Any]] = ExecutorRegistry(
        "agent", IAgentExecutor, {"standard": AgentStepExecutor, "default": AgentStepExecutor}
    )

    @classmethod
    def create_executor(
        cls, spec: ToolSpec, executor_type: str = "standard", *, agent: Any = None, pools: Pools | None = None
    ) -> IAgentExecutor:
        """Return a new executor of a type.

        Args:
            spec: What is called; `tool_name` is the agent's name.
            executor_type: The type.
            agent: The agent; None where the args of a call say where it is written.
            pools: Where the agent runs; the executor's own where none are given.

        Raises:
            UsageError: There is no such type.
        """
        made: IAgentExecutor = cls.get_executor_class(executor_type)(spec, agent, pools)
        return made

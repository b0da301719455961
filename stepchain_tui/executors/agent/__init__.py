"""Steps that let an agent written in Python take one turn. May import agents and what lies below."""

from stepchain_tui.executors.agent.base import BaseAgentExecutor
from stepchain_tui.executors.agent.executor import AgentStepExecutor
from stepchain_tui.executors.agent.factory import AgentExecutorFactory
from stepchain_tui.executors.agent.interface import IAgentExecutor
from stepchain_tui.executors.agent.steps import AgentSteps
from stepchain_tui.executors.spec import ToolSpec

__all__ = (
    "AgentExecutorFactory",
    "AgentStepExecutor",
    "AgentSteps",
    "BaseAgentExecutor",
    "IAgentExecutor",
    "ToolSpec",
)

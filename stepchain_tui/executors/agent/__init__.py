"""Steps that let an agent take one turn: one that is written in Python, or one that the plan describes.

May import the executors of prompts and tools, agents and what lies below.
"""

from stepchain_tui.executors.agent.base import BaseAgentExecutor
from stepchain_tui.executors.agent.executor import AgentStepExecutor
from stepchain_tui.executors.agent.factory import AgentExecutorFactory
from stepchain_tui.executors.agent.interface import IAgentExecutor
from stepchain_tui.executors.agent.options import model_options
from stepchain_tui.executors.agent.steps import AgentSteps
from stepchain_tui.executors.spec import ToolSpec

__all__ = (
    "AgentExecutorFactory",
    "AgentStepExecutor",
    "AgentSteps",
    "BaseAgentExecutor",
    "IAgentExecutor",
    "ToolSpec",
    "model_options",
)

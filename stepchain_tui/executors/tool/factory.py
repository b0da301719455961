"""The types of tool executors."""

from __future__ import annotations

from typing import Any, ClassVar

from stepchain_tui.executors.registry import ExecutorFactory, ExecutorRegistry
from stepchain_tui.executors.spec import ToolSpec
from stepchain_tui.executors.tool.executor import ToolStepExecutor
from stepchain_tui.executors.tool.interface import IToolExecutor
from stepchain_tui.tools.pools import Pools
from stepchain_tui.tools.registry import Tool


class ToolExecutorFactory(ExecutorFactory):
    """Makes tool executors by type."""

    registry: ClassVar[ExecutorRegistry[Any]] = ExecutorRegistry(
        "tool", IToolExecutor, {"standard": ToolStepExecutor, "default": ToolStepExecutor}
    )

    @classmethod
    def create_executor(
        cls, spec: ToolSpec, executor_type: str = "standard", *, tool: Tool | None = None, pools: Pools | None = None
    ) -> IToolExecutor:
        """Return a new executor of a type.

        Args:
            spec: What is called; `tool_name` names a shared tool where no tool is given.
            executor_type: The type.
            tool: The tool.
            pools: Where functions run; the executor's own where none are given.

        Raises:
            UsageError: There is no such type.
            UnknownToolError: No tool is given and none has the name.
        """
        made: IToolExecutor = cls.get_executor_class(executor_type)(spec, tool, pools)
        return made

"""From a tool step to a call of its tool."""

from __future__ import annotations

from typing import Any, ClassVar

from stepchain_tui.core.errors import UsageError
from stepchain_tui.executors.base import IExecutor
from stepchain_tui.executors.registry import ExecutorFactory
from stepchain_tui.executors.spec import ToolSpec
from stepchain_tui.executors.steps import KindSteps
from stepchain_tui.executors.tool.base import BaseToolExecutor
from stepchain_tui.executors.tool.factory import ToolExecutorFactory
from stepchain_tui.executors.types import StepCall
from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.status import ErrorType
from stepchain_tui.tools.pools import Pools
from stepchain_tui.tools.registry import Tool, UnknownToolError, shared_tools, tool_of_entry

ENTRY = "entry"
"""The option of a call that holds what the plan writes under the tool's name in `tools:`."""


class ToolSteps(KindSteps):
    """Carries out tool steps.

    Args:
        pools: The pools of this engine process.
    """

    factory: ClassVar[type[ExecutorFactory]] = ToolExecutorFactory

    def __init__(self, pools: Pools) -> None:
        super().__init__()
        self._pools = pools

    def args_of(self, call: StepCall) -> dict[str, Any]:
        """Return the step's args: they are the tool's arguments."""
        return dict(call.args)

    def spec_of(self, call: StepCall) -> ToolSpec:
        """Return the spec of the tool that the step names."""
        return ToolSpec(tool_name=str(call.step.tool), timeout=call.timeout)

    def key_of(self, call: StepCall) -> Any:
        """Return the tool: a plan that was edited, or a registry that changed, makes a new executor."""
        tool = self._tool(call)
        return tool if isinstance(tool.function, str) else id(tool)

    def make(self, executor_type: type[Any], spec: ToolSpec, call: StepCall) -> IExecutor:
        """Return a new executor for the step's tool."""
        if not issubclass(executor_type, BaseToolExecutor):
            return super().make(executor_type, spec, call)
        made: IExecutor = executor_type(spec, self._tool(call), self._pools)
        return made

    def provider(self, call: StepCall) -> str:
        """Return the tool, as its circuit breaker is called."""
        return f"tool {call.step.tool}"

    def _tool(self, call: StepCall) -> Tool:
        """Return the tool that the step names: the plan's own, else a shared one.

        Raises:
            AttemptError: There is none, or its entry is wrong, as a `user_error`.
        """
        name, entry = str(call.step.tool), call.options.get(ENTRY)
        try:
            return shared_tools().get(name) if entry is None else tool_of_entry(name, entry, str(call.plan_folder))
        except (UnknownToolError, UsageError) as error:
            raise AttemptError(
                f"step '{call.step.id}': {error}",
                error_type=ErrorType.USER_ERROR,
                hint=error.hint,
                exception=type(error).__name__,
            ) from error

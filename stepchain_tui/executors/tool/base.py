"""What all tool executors share."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from typing import Any, ClassVar

from stepchain_tui.executors.context import CallContext
from stepchain_tui.executors.pooled import PooledExecutor
from stepchain_tui.executors.spec import ToolSpec
from stepchain_tui.executors.threads import call_threads
from stepchain_tui.executors.tool.calls import approved, with_step
from stepchain_tui.executors.types import ApprovalNeeded
from stepchain_tui.run.failures import AttemptError
from stepchain_tui.tools.pools import Pools
from stepchain_tui.tools.registry import Tool, shared_tools


class BaseToolExecutor(PooledExecutor):
    """Calls one tool; an implementation overrides `_execute_tool`.

    Args:
        spec: What is called; `tool_name` is looked up among the shared tools where no tool is given.
        tool: The tool.
        pools: Where functions run; pools of its own, which end with `close`, where none are given.

    Attributes:
        tool: The tool.

    Raises:
        UnknownToolError: No tool is given and none has the name.
    """

    kind: ClassVar[str] = "tool"

    def __init__(self, spec: ToolSpec, tool: Tool | None = None, pools: Pools | None = None) -> None:
        super().__init__(spec, pools)
        self.tool = tool if tool is not None else shared_tools().get(spec.tool_name)

    async def _hook(self, args: dict[str, Any], ctx: CallContext, timeout: float | None) -> Any:
        try:
            args = approved(args, ctx, self.tool.name)
        except ApprovalNeeded:
            await self._refuse_wrong_arguments(args, ctx)
            raise
        result = self._execute_tool(args, ctx, timeout)
        return await result if inspect.isawaitable(result) else result

    async def _refuse_wrong_arguments(self, args: dict[str, Any], ctx: CallContext) -> None:
        """Fail where the arguments are wrong: nobody is asked about a call that cannot be made."""
        tool = self.tool
        try:
            # An import may take seconds, which the loop does not have.
            await call_threads().submit(lambda _: tool.schema.validate(args, f"tool '{tool.name}'")).result
        except AttemptError as error:
            raise with_step(error, ctx) from error

    @abstractmethod
    def _execute_tool(self, args: dict[str, Any], ctx: CallContext, timeout: float | None) -> Any:
        """Call the tool with `args` and return its value; `timeout` is in seconds and counted by the caller."""

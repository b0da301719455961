"""The executor of a tool of an MCP server."""

from __future__ import annotations

from typing import Any, ClassVar

from stepchain_tui.executors.base import BaseExecutor
from stepchain_tui.executors.context import CallContext
from stepchain_tui.executors.spec import ToolSpec
from stepchain_tui.executors.tool.calls import approved, with_step
from stepchain_tui.executors.tool.server_calls import call_server_tool, refuse_unknown_names
from stepchain_tui.executors.types import ApprovalNeeded
from stepchain_tui.mcp import McpServer, ServerSpec, check_arguments
from stepchain_tui.mcp.failures import not_allowed
from stepchain_tui.run.failures import AttemptError


class McpToolExecutor(BaseExecutor):
    """Calls one tool of one server.

    The arguments are checked against what the server declares before anything is sent. The server's progress and log
    messages go to the step's log; what a person has to allow is not begun before.

    Args:
        spec: What is called; its `tool_name` is the tool's name at the server.
        server: The server.
        server_spec: What the plan or the settings allow of it; the server's own where it is shared.
    """

    kind: ClassVar[str] = "tool"

    def __init__(self, spec: ToolSpec, server: McpServer, server_spec: ServerSpec | None = None) -> None:
        super().__init__(spec)
        self.server = server
        self.server_spec = server_spec or server.spec

    async def _hook(self, args: dict[str, Any], ctx: CallContext, timeout: float | None) -> Any:
        name, spec = self.spec.tool_name, self.server_spec
        if not spec.allows(name):
            raise not_allowed(spec, name)
        try:
            args = approved(args, ctx, self._full_name, needed=spec.needs_approval(name))
        except ApprovalNeeded:
            await self._refuse_wrong_arguments(name, args, ctx)
            raise
        await refuse_unknown_names(self.server, spec)
        return await self._execute_tool(args, ctx, timeout)

    @property
    def _full_name(self) -> str:
        return f"{self.server_spec.name}.{self.spec.tool_name}"

    async def _execute_tool(self, args: dict[str, Any], ctx: CallContext, timeout: float | None) -> Any:
        """Call the tool with `args` and return its value, see `mcp.value_of`; `timeout` is counted by the caller.

        It may be called, and whoever is to be asked was asked.

        Raises:
            AttemptError: See `McpServer.call`; as a `user_error`, wrong arguments.
        """
        return await call_server_tool(self.server, self.spec.tool_name, args, ctx, shown=self._full_name)

    async def _refuse_wrong_arguments(self, name: str, args: dict[str, Any], ctx: CallContext) -> None:
        """Fail where the arguments are wrong: nobody is asked about a call that cannot be made."""
        tool = await self.server.tool(name)
        try:
            check_arguments(tool, args)
        except AttemptError as error:
            raise with_step(error, ctx) from error

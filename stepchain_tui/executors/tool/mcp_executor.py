"""The executor of a tool of an MCP server."""

from __future__ import annotations

from typing import Any, ClassVar

from stepchain_tui.executors.base import BaseExecutor
from stepchain_tui.executors.context import CallContext
from stepchain_tui.executors.spec import ToolSpec
from stepchain_tui.executors.tool.calls import ToldCall, approved, with_step
from stepchain_tui.executors.types import ApprovalNeeded
from stepchain_tui.mcp import McpArgumentError, McpServer, ServerSpec, check_arguments, value_of
from stepchain_tui.mcp.failures import not_allowed
from stepchain_tui.run.failures import AttemptError
from stepchain_tui.tools.context import StepContext

IDEMPOTENCY_KEY = "stepchain/idempotency_key"
"""Where in `_meta` a server finds the key that stays the same over retries and resumes of a step."""
_LOG = "server"
"""The stream of the log that gets what the server says meanwhile."""


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

    def _hook(self, args: dict[str, Any], ctx: CallContext, timeout: float | None) -> Any:
        return self._execute_tool(args, ctx, timeout)

    async def _execute_tool(self, args: dict[str, Any], ctx: CallContext, timeout: float | None) -> Any:
        """Call the tool with `args` and return its value, see `mcp.value_of`; `timeout` is counted by the caller.

        Raises:
            AttemptError: See `McpServer.call`; as a `user_error`, a tool that is not allowed, or wrong arguments.
            ApprovalNeeded: A person has to be asked first.
        """
        name, tool_name = self.spec.tool_name, f"{self.server_spec.name}.{self.spec.tool_name}"
        if not self.server_spec.allows(name):
            raise not_allowed(self.server_spec, name)
        try:
            args = approved(args, ctx, tool_name, needed=self.server_spec.needs_approval(name))
        except ApprovalNeeded:
            await self._refuse_wrong_arguments(name, args, ctx)
            raise
        told = ToldCall(tool_name, args, ctx)
        try:
            value = await self._call(name, args, ctx)
        except BaseException as error:
            raised = with_step(error, ctx)
            told.ended(error=raised)
            if raised is error:
                raise
            raise raised from error
        told.ended(result=value)
        return value

    async def _refuse_wrong_arguments(self, name: str, args: dict[str, Any], ctx: CallContext) -> None:
        """Fail where the arguments are wrong: nobody is asked about a call that cannot be made."""
        tool = await self.server.tool(name)
        try:
            check_arguments(tool, args)
        except AttemptError as error:
            raise with_step(error, ctx) from error

    async def _call(self, name: str, args: dict[str, Any], ctx: CallContext) -> Any:
        ports = ctx.ports

        def progress(done: float, total: float | None, message: str | None) -> None:
            # A step's own words for progress, with the server's behind them.
            words = StepContext(write=lambda text: ports.log("stdout", text.rstrip() + said + "\n"))
            said = f": {' '.join(message.split())}" if message else ""
            words.progress(done, total)

        tool = await self.server.tool(name)
        try:
            warning = check_arguments(tool, args)
        except McpArgumentError:
            tool = await self.server.tool(name, anew=True)  # the server may have changed it since it was listed
            warning = check_arguments(tool, args)
        if warning:
            ports.warn(warning)
        result = await self.server.call(
            name,
            args,
            on_progress=progress,
            on_log=lambda level, text: ports.log(_LOG, f"{level}: {text}\n"),
            meta={IDEMPOTENCY_KEY: ctx.idempotency_key} if ctx.idempotency_key else None,
        )
        return value_of(result, tool, ports.keep_file, ports.warn)

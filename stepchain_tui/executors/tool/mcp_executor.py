"""The executor of a tool of an MCP server."""

from __future__ import annotations

from typing import Any, ClassVar

from stepchain_tui.executors.base import BaseExecutor
from stepchain_tui.executors.context import CallContext
from stepchain_tui.executors.spec import ToolSpec
from stepchain_tui.executors.tool.calls import ToldCall, approved, with_step
from stepchain_tui.executors.types import ApprovalNeeded
from stepchain_tui.mcp import McpArgumentError, McpServer, ServerSpec, check_arguments, value_of
from stepchain_tui.mcp.failures import not_allowed, unknown_approval
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

    async def _hook(self, args: dict[str, Any], ctx: CallContext, timeout: float | None) -> Any:
        name, spec = self.spec.tool_name, self.server_spec
        if not spec.allows(name):
            raise not_allowed(spec, name)
        try:
            args = approved(args, ctx, self._full_name, needed=spec.needs_approval(name))
        except ApprovalNeeded:
            await self._refuse_wrong_arguments(name, args, ctx)
            raise
        await self._refuse_unknown_names()
        return await self._execute_tool(args, ctx, timeout)

    @property
    def _full_name(self) -> str:
        return f"{self.server_spec.name}.{self.spec.tool_name}"

    async def _refuse_unknown_names(self) -> None:
        """Fail where somebody is to be asked before a tool that the server does not have: a slip lets calls pass."""
        asked = self.server_spec.require_approval
        if isinstance(asked, str):
            return
        known = [tool.name for tool in await self.server.tools()]
        for name in asked:
            if name not in known:
                raise unknown_approval(self.server_spec, name, known)

    async def _execute_tool(self, args: dict[str, Any], ctx: CallContext, timeout: float | None) -> Any:
        """Call the tool with `args` and return its value, see `mcp.value_of`; `timeout` is counted by the caller.

        It may be called, and whoever is to be asked was asked.

        Raises:
            AttemptError: See `McpServer.call`; as a `user_error`, wrong arguments.
        """
        name = self.spec.tool_name
        told = ToldCall(self._full_name, args, ctx)
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

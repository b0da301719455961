"""From a tool step to a call of its tool."""

from __future__ import annotations

from typing import Any, ClassVar

from stepchain_tui.core.errors import StepChainError, UsageError
from stepchain_tui.executors.base import IExecutor
from stepchain_tui.executors.registry import ExecutorFactory
from stepchain_tui.executors.spec import ToolSpec
from stepchain_tui.executors.steps import KindSteps
from stepchain_tui.executors.tool.base import BaseToolExecutor
from stepchain_tui.executors.tool.executor import ToolStepExecutor
from stepchain_tui.executors.tool.factory import ToolExecutorFactory
from stepchain_tui.executors.tool.mcp_executor import McpToolExecutor
from stepchain_tui.executors.types import StepCall
from stepchain_tui.mcp import McpServers, ServerSpec
from stepchain_tui.plan.servers import FROM_SETTINGS
from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.status import ErrorType
from stepchain_tui.tools.pools import Pools
from stepchain_tui.tools.registry import Tool, UnknownToolError, shared_tools, tool_of_entry

ENTRY = "entry"
"""The option of a call that holds what the plan writes under the tool's name in `tools:`."""
SERVER = "server"
"""The option of a call of an MCP server's tool: the server's entry, with its `name`, the `tool`, and who wrote it."""


class ToolSteps(KindSteps):
    """Carries out tool steps.

    Args:
        pools: The pools of this engine process.
        servers: The MCP servers of this engine process; ones of its own, which end with `close`, where none are given.
    """

    factory: ClassVar[type[ExecutorFactory]] = ToolExecutorFactory

    def __init__(self, pools: Pools, servers: McpServers | None = None) -> None:
        super().__init__()
        self._pools = pools
        self._servers = servers or McpServers(None)
        self._owns_servers = servers is None

    def args_of(self, call: StepCall) -> dict[str, Any]:
        """Return the step's args: they are the tool's arguments."""
        return dict(call.args)

    def spec_of(self, call: StepCall) -> ToolSpec:
        """Return the spec of the tool that the step names."""
        server = call.options.get(SERVER)
        return ToolSpec(tool_name=str(call.step.tool if server is None else server["tool"]), timeout=call.timeout)

    def key_of(self, call: StepCall) -> Any:
        """Return the tool: a plan that was edited, or a registry that changed, makes a new executor."""
        if SERVER in call.options:
            # What may be called and who is asked belong to the plan, not to the connection.
            spec = self._server(call)
            return spec.key, spec.allowed_tools, spec.require_approval
        tool = self._tool(call)
        return tool if isinstance(tool.function, str) else id(tool)

    def make(self, executor_type: type[Any], spec: ToolSpec, call: StepCall) -> IExecutor:
        """Return a new executor for the step's tool.

        A type of the user's own calls tools of servers where it derives from `McpToolExecutor`.
        """
        if SERVER in call.options:
            if issubclass(executor_type, ToolStepExecutor):
                executor_type = McpToolExecutor
            if not issubclass(executor_type, McpToolExecutor):
                raise AttemptError(
                    f"step '{call.step.id}': executor '{call.step.executor}' cannot call tools of MCP servers",
                    error_type=ErrorType.USER_ERROR,
                    hint="Derive its class from McpToolExecutor, or leave out 'executor'.",
                )
            server_spec = self._server(call)
            return executor_type(spec, self._servers.get(server_spec), server_spec)
        if not issubclass(executor_type, BaseToolExecutor):
            return super().make(executor_type, spec, call)
        made: IExecutor = executor_type(spec, self._tool(call), self._pools)
        return made

    def provider(self, call: StepCall) -> str:
        """Return the tool, or the server whose tool it is, as its circuit breaker is called."""
        if SERVER in call.options:
            # Two plans may mean different servers by one name.
            try:
                key = self._server(call).key[:6]
            except AttemptError:
                return ""  # it is written wrong: nobody is called
            return f"mcp {call.options[SERVER]['name']} ({key})"
        return f"tool {call.step.tool}"

    async def close(self) -> None:
        """Let go of all executors, and end the servers that are its own; may be called twice."""
        await super().close()
        if self._owns_servers:
            await self._servers.close()

    def _server(self, call: StepCall) -> ServerSpec:
        """Return the spec of the server whose tool the step names.

        Raises:
            AttemptError: Its entry is wrong, as a `user_error`.
        """
        entry = call.options[SERVER]
        if "command" not in entry and "url" not in entry:
            raise AttemptError(
                f"step '{call.step.id}': there is no MCP server '{entry['name']}'",
                error_type=ErrorType.USER_ERROR,
                hint="Name it under mcp_servers, in the plan or in the settings.",
            )
        try:
            return ServerSpec.of_entry(
                entry["name"],
                entry,
                call.plan_folder,
                "settings" if entry.get("from") == FROM_SETTINGS else "plan",
                secrets=call.secrets,
            )
        except UsageError as error:
            raise _user_error(call, error) from error

    def _tool(self, call: StepCall) -> Tool:
        """Return the tool that the step names: the plan's own, else a shared one.

        Raises:
            AttemptError: There is none, or its entry is wrong, as a `user_error`.
        """
        name, entry = str(call.step.tool), call.options.get(ENTRY)
        try:
            return shared_tools().get(name) if entry is None else tool_of_entry(name, entry, str(call.plan_folder))
        except (UnknownToolError, UsageError) as error:
            raise _user_error(call, error) from error


def _user_error(call: StepCall, error: StepChainError) -> AttemptError:
    return AttemptError(
        f"step '{call.step.id}': {error}",
        error_type=ErrorType.USER_ERROR,
        hint=error.hint,
        exception=type(error).__name__,
    )

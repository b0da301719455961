"""From the `tools:` of a prompt or an agent to what its model may call."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from stepchain_tui.core.errors import StepChainError, UsageError
from stepchain_tui.core.values import encode_json
from stepchain_tui.executors.context import CallContext
from stepchain_tui.executors.prompt.threads import in_thread
from stepchain_tui.executors.prompt.toolset import (
    MOST_TOOLS,
    NO_TOOLS,
    FunctionTool,
    ModelTool,
    ServerTool,
    ToolSet,
    name_for_model,
)
from stepchain_tui.executors.tool.server_calls import refuse_unknown_names
from stepchain_tui.mcp import McpServer, McpServers, McpTool, ServerSpec
from stepchain_tui.mcp.failures import not_allowed
from stepchain_tui.plan import FileHashes, Plan
from stepchain_tui.plan.prompt_tools import BoundTool, bound_tool
from stepchain_tui.plan.servers import FROM_SETTINGS
from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.status import ErrorType
from stepchain_tui.tools.pools import Pools
from stepchain_tui.tools.registry import Tool, shared_tools, tool_of_entry

_NOT_OF_A_TOOL = ("name", "type")
"""Keys of a function among a step's tools that an entry of the plan's `tools` does not have."""
_KEY_LENGTH = 32
_NO_PLAN = Plan(goal="", steps=())


class ToolBinder:
    """Makes the tool sets of conversations.

    Args:
        pools: Where functions run.
        servers: The MCP servers of this process.
    """

    def __init__(self, pools: Pools, servers: McpServers) -> None:
        self._pools = pools
        self._servers = servers

    async def bind(
        self, entries: Sequence[Any], servers: Mapping[str, Mapping[str, Any]] | None, ctx: CallContext
    ) -> ToolSet:
        """Return what a model may call: functions are imported, servers asked for their tools.

        Args:
            entries: Bound tools, see `plan.prompt_tools`; outside of a plan as a plan writes them.
            servers: What is written about the MCP servers among them, by name, with `name` and `from`.
            ctx: The context of the attempt.

        Raises:
            AttemptError: A function cannot be imported, a server cannot be reached, an entry is wrong, or two tools
                have one name; names the step and the tool.
        """
        if not entries:
            return NO_TOOLS
        bound = [entry if _is_bound(entry) else bound_tool(entry, _NO_PLAN) for entry in entries]
        jobs = (self._tools_of(one, servers or {}, ctx) for one in bound)
        tools: list[ModelTool] = []
        for found in await asyncio.gather(*jobs, return_exceptions=True):  # none is left behind where one fails
            if isinstance(found, BaseException):
                raise found
            tools += found
        tools = _without_doubles(tools, ctx)
        made = ToolSet(tools, [one["tool"] for one in bound if one["kind"] == "hosted"])
        if len(made) > MOST_TOOLS:
            raise _of_step(
                ctx,
                f"its model would get {len(made)} tools, and {MOST_TOOLS} is the most that providers take",
                ErrorType.USER_ERROR,
                "Name single tools (server.tool), or write allowed_tools for the server.",
            )
        return made

    async def _tools_of(
        self, bound: BoundTool, servers: Mapping[str, Mapping[str, Any]], ctx: CallContext
    ) -> Sequence[ModelTool]:
        match bound["kind"]:
            case "function":
                # An import may take seconds, which the loop does not have.
                return [await in_thread(lambda: self._function(bound, ctx), ctx)]
            case "server":
                return await self._server_tools(bound, servers, ctx)
        return ()

    # --- functions

    def _function(self, bound: BoundTool, ctx: CallContext) -> ModelTool:
        name = str(bound["name"])
        try:
            tool = _tool_of(name, bound["entry"], ctx.plan_folder)
            schema = {**tool.for_model(), "name": name_for_model(name)}
        except StepChainError as error:
            raise _named(error, ctx, f"tool '{name}'") from error
        code = FileHashes().of_function(tool.function, Path(tool.folder))
        reference = tool.function if isinstance(tool.function, str) else ""
        return FunctionTool(
            name=name_for_model(name),
            shown=name,
            schema=schema,
            key=_key("function", name, reference, code),
            named=frozenset((name,)),
            tool=tool,
            pools=self._pools,
        )

    # --- MCP servers

    async def _server_tools(
        self, bound: BoundTool, servers: Mapping[str, Mapping[str, Any]], ctx: CallContext
    ) -> Sequence[ModelTool]:
        name, wanted = str(bound["server"]), bound["tool"]
        try:
            spec = _server_spec(name, servers.get(name, {}), ctx)
            server = self._servers.get(spec)
            if wanted is None:
                listed = [tool for tool in await server.tools() if spec.allows(tool.name)]
            elif spec.allows(wanted):
                listed = [await server.tool(wanted)]
            else:
                raise not_allowed(spec, wanted)
            await refuse_unknown_names(server, spec)
        except StepChainError as error:
            raise _named(error, ctx, "") from error
        return [_server_tool(tool, server, spec, bound) for tool in listed]


def _is_bound(entry: Any) -> bool:
    return isinstance(entry, Mapping) and entry.get("kind") in ("hosted", "function", "server")


def _tool_of(name: str, entry: Any, folder: Path) -> Tool:
    if entry is None:
        return shared_tools().get(name)
    if isinstance(entry, Mapping):
        entry = {key: value for key, value in entry.items() if key not in _NOT_OF_A_TOOL}
    return tool_of_entry(name, entry, str(folder))


def _server_spec(name: str, entry: Mapping[str, Any], ctx: CallContext) -> ServerSpec:
    if "command" not in entry and "url" not in entry:
        raise UsageError(
            f"there is no MCP server '{name}'", hint="Name it under mcp_servers, in the plan or in the settings."
        )
    source = "settings" if entry.get("from") == FROM_SETTINGS else "plan"
    return ServerSpec.of_entry(
        name, entry, ctx.plan_folder, "settings" if source == "settings" else "plan", secrets=ctx.secrets
    )


def _server_tool(tool: McpTool, server: McpServer, spec: ServerSpec, bound: BoundTool) -> ServerTool:
    full_name = f"{spec.name}.{tool.name}"
    alias = str(bound.get("name") or "")
    name = name_for_model(alias or full_name)
    schema = {
        "type": "function",
        "name": name,
        "description": tool.description,
        # The server checks the arguments itself, and its schema says which may be left out.
        "parameters": {"type": "object", "properties": {}, **tool.input_schema},
        "strict": False,
    }
    return ServerTool(
        name=name,
        shown=full_name,
        schema=schema,
        key=_key("server", spec.key, tool.name),
        named=frozenset((full_name, spec.name, tool.name, *filter(None, (alias,)))),
        asks=spec.needs_approval(tool.name),
        server=server,
        spec=spec,
        tool_name=tool.name,
    )


def _without_doubles(tools: Iterable[ModelTool], ctx: CallContext) -> list[ModelTool]:
    found: dict[str, ModelTool] = {}
    for tool in tools:
        other = found.setdefault(tool.name, tool)
        if other.key != tool.key:
            raise _of_step(
                ctx,
                f"'{other.shown}' and '{tool.shown}' are both '{tool.name}' for its model",
                ErrorType.USER_ERROR,
                "Give one of them another name under the plan's `tools`.",
            )
    return list(found.values())


def _key(*facts: str) -> str:
    return hashlib.sha256(encode_json(facts)).hexdigest()[:_KEY_LENGTH]


def _named(error: StepChainError, ctx: CallContext, tool: str) -> AttemptError:
    """Return an error with the step and the tool named; what class it is of stays."""
    said = str(error)
    if tool and tool not in said:
        said = f"{tool}: {said}"
    if not isinstance(error, AttemptError):
        return _of_step(ctx, said, ErrorType.USER_ERROR, error.hint, exception=type(error).__name__)
    return _of_step(
        ctx,
        said,
        error.error_type,
        error.hint,
        retry_after=error.retry_after,
        remote_traceback=error.remote_traceback,
        exception=error.exception,
        details=error.details,
    )


def _of_step(ctx: CallContext, what: str, error_type: ErrorType, hint: str, **facts: Any) -> AttemptError:
    said = f"step '{ctx.step_id}': {what}" if ctx.step_id else what
    return AttemptError(said, error_type=error_type, hint=hint, **facts)

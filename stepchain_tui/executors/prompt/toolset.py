"""What a model may call: each tool by the name that the model knows, with its schema and how it is called."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from stepchain_tui.core.errors import did_you_mean
from stepchain_tui.executors.context import CallContext
from stepchain_tui.executors.prompt.items import LONGEST_NAME
from stepchain_tui.executors.prompt.threads import in_thread
from stepchain_tui.executors.tool.executor import call_function
from stepchain_tui.executors.tool.server_calls import call_server_tool
from stepchain_tui.mcp import McpServer, ServerSpec, check_arguments
from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.status import ErrorType
from stepchain_tui.tools.function_calls import FunctionCall
from stepchain_tui.tools.pools import Pools
from stepchain_tui.tools.registry import Tool

MOST_TOOLS = 128
"""Tools that a model's provider takes."""
_NO_NAME = re.compile(r"[^a-zA-Z0-9_-]")


def name_for_model(name: str) -> str:
    """Return a tool's name as providers take it: `server.tool` is `server__tool`."""
    return _NO_NAME.sub("_", name.replace(".", "__"))[:LONGEST_NAME]


@dataclass(frozen=True, kw_only=True)
class ModelTool(ABC):
    """A tool that we call for a model.

    Attributes:
        name: What the model calls it.
        shown: What the plan calls it, and so events and screens.
        schema: The tool as the Responses API takes it.
        key: Which tool it is, beyond its name, see `executors.types.ApprovalNeeded`.
        named: The names under which `require_approval` may list it.
        asks: Whether a person is asked before each call, whatever the step says.
    """

    name: str
    shown: str
    schema: Mapping[str, Any]
    key: str
    named: frozenset[str]
    asks: bool = False

    @abstractmethod
    async def check(self, args: Mapping[str, Any], ctx: CallContext) -> None:
        """Make sure that the tool takes these arguments, before a person is asked.

        Raises:
            AttemptError: It does not.
        """

    @abstractmethod
    async def call(self, args: Mapping[str, Any], call_id: str, ctx: CallContext) -> Any:
        """Make a call, tell the engine of it, and return its value.

        Raises:
            Exception: Whatever the tool raises, also told to the engine.
        """


@dataclass(frozen=True, kw_only=True)
class FunctionTool(ModelTool):
    """A function: of the plan, registered, or built in.

    Attributes:
        tool: The function.
        pools: Where it runs.
    """

    tool: Tool
    pools: Pools

    async def check(self, args: Mapping[str, Any], ctx: CallContext) -> None:
        """Hold the arguments against the function's schema; its file may have to be imported again."""
        await in_thread(lambda: self.tool.schema.validate(args, f"tool '{self.shown}'"), ctx)

    async def call(self, args: Mapping[str, Any], call_id: str, ctx: CallContext) -> Any:
        """Call the function in the mode that its entry says, else in a thread."""
        tool = self.tool
        call = FunctionCall(
            function=tool.function,
            args=args,
            mode=tool.mode or "thread",
            folder=tool.folder,
            label=f"tool '{self.shown}'",
            fallback=tool.fallback is not False,
            validate=True,
            timeout=tool.timeout,
            facts={**ctx.facts(), "idempotency_key": _key_of_call(call_id, ctx)},
            log=ctx.ports.log,
            warn=ctx.ports.warn,
        )
        return await call_function(call, self.shown, ctx, self.pools, call_id)


@dataclass(frozen=True, kw_only=True)
class ServerTool(ModelTool):
    """A tool of an MCP server.

    Attributes:
        server: The server.
        spec: What the plan or the settings say of it.
        tool_name: The tool's name at the server.
    """

    server: McpServer
    spec: ServerSpec
    tool_name: str

    async def check(self, args: Mapping[str, Any], ctx: CallContext) -> None:
        """Hold the arguments against what the server declares."""
        check_arguments(await self.server.tool(self.tool_name), args)

    async def call(self, args: Mapping[str, Any], call_id: str, ctx: CallContext) -> Any:
        """Call the server, for as long as its entry allows."""
        return await call_server_tool(
            self.server,
            self.tool_name,
            args,
            ctx,
            shown=self.shown,
            call_id=call_id,
            timeout=self.spec.timeout,
            idempotency_key=_key_of_call(call_id, ctx),
        )


class ToolSet:
    """The tools of one voice of a conversation.

    Args:
        tools: Those that we call.
        hosted: Those that the provider carries out, as the API takes them.

    Attributes:
        schemas: All of them, as the API takes them.
    """

    def __init__(self, tools: Iterable[ModelTool] = (), hosted: Iterable[Mapping[str, Any]] = ()) -> None:
        self._tools = {tool.name: tool for tool in tools}
        self.hosted = tuple(hosted)
        self.schemas = (*(tool.schema for tool in self._tools.values()), *self.hosted)

    def __len__(self) -> int:
        return len(self.schemas)

    def __contains__(self, name: object) -> bool:
        return name in self._tools

    def get(self, name: str) -> ModelTool:
        """Return the tool that a model means.

        Raises:
            AttemptError: There is none of that name, as a `user_error` that lists those that there are.
        """
        found = self._tools.get(name)
        if found is None:
            known = list(self._tools)
            listed = f"There are: {', '.join(known[:50])}." if known else "There is none to call."
            raise AttemptError(
                f"there is no tool '{name}'",
                error_type=ErrorType.USER_ERROR,
                hint=did_you_mean(name, known) or listed,
                exception="UnknownToolError",
            )
        return found


NO_TOOLS = ToolSet()


def _key_of_call(call_id: str, ctx: CallContext) -> str:
    """Return the idempotency key of one call: the step's own is the same for all calls of its conversation."""
    return f"{ctx.idempotency_key}-{call_id}" if ctx.idempotency_key else ""

"""One call of a tool of an MCP server: the same for tool steps and for models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stepchain_tui.executors.context import CallContext
from stepchain_tui.executors.tool.calls import ONLY_CALL, ToldCall, with_step
from stepchain_tui.mcp import McpArgumentError, McpServer, ServerSpec, check_arguments, value_of
from stepchain_tui.mcp.failures import unknown_approval
from stepchain_tui.tools.context import StepContext

IDEMPOTENCY_KEY = "stepchain/idempotency_key"
"""Where in `_meta` a server finds the key that stays the same over retries and resumes of a step."""
_LOG = "server"
"""The stream of the log that gets what the server says meanwhile."""


async def call_server_tool(
    server: McpServer,
    name: str,
    args: Mapping[str, Any],
    ctx: CallContext,
    *,
    shown: str,
    call_id: str = ONLY_CALL,
    timeout: float | None = None,
    idempotency_key: str | None = None,
) -> Any:
    """Call a server's tool, tell the engine of it, and return its value, see `mcp.value_of`.

    The arguments are checked against what the server declares before anything is sent. The server's progress and log
    messages go to the step's log.

    Args:
        server: The server.
        name: The tool's name at the server.
        args: The arguments; whoever is to be asked was asked.
        ctx: The context of the attempt.
        shown: The tool, as the events name it.
        call_id: Tells the calls of one attempt apart.
        timeout: Seconds that it may take; None where the engine counts.
        idempotency_key: What the server is told; the step's where it is None.

    Raises:
        AttemptError: See `McpServer.call`; as a `user_error`, wrong arguments; its value cannot be kept.
    """
    told = ToldCall(shown, args, ctx, call_id)
    key = ctx.idempotency_key if idempotency_key is None else idempotency_key
    try:
        value = await _call(server, name, args, ctx, timeout, {IDEMPOTENCY_KEY: key} if key else None)
        told.ended(result=value)
    except BaseException as error:
        raised = with_step(error, ctx)
        told.ended(error=raised)
        if raised is error:
            raise
        raise raised from error
    return value


async def refuse_unknown_names(server: McpServer, spec: ServerSpec) -> None:
    """Fail where somebody is to be asked before a tool that the server does not have: a slip lets calls pass.

    Raises:
        AttemptError: There is such a name, as a `user_error`, or the server cannot be asked.
    """
    asked = spec.require_approval
    if isinstance(asked, str):
        return
    known = [tool.name for tool in await server.tools()]
    for name in asked:
        if name not in known:
            raise unknown_approval(spec, name, known)


async def _call(
    server: McpServer,
    name: str,
    args: Mapping[str, Any],
    ctx: CallContext,
    timeout: float | None,
    meta: Mapping[str, Any] | None,
) -> Any:
    ports = ctx.ports

    def progress(done: float, total: float | None, message: str | None) -> None:
        # A step's own words for progress, with the server's behind them.
        words = StepContext(write=lambda text: ports.log("stdout", text.rstrip() + said + "\n"))
        said = f": {' '.join(message.split())}" if message else ""
        words.progress(done, total)

    tool = await server.tool(name)
    try:
        warning = check_arguments(tool, args)
    except McpArgumentError:
        tool = await server.tool(name, anew=True)  # the server may have changed it since it was listed
        warning = check_arguments(tool, args)
    if warning:
        ports.warn(warning)
    result = await server.call(
        name,
        args,
        timeout=timeout,
        on_progress=progress,
        on_log=lambda level, text: ports.log(_LOG, f"{level}: {text}\n"),
        meta=meta,
    )
    return value_of(result, tool, ports.keep_file, ports.warn)

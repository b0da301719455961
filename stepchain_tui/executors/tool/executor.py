"""The standard tool executor: checks the arguments, tells that the tool is called, and calls its function."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stepchain_tui.executors.context import CallContext
from stepchain_tui.executors.tool.base import BaseToolExecutor
from stepchain_tui.executors.tool.calls import ONLY_CALL, ToldCall, with_step
from stepchain_tui.executors.types import StepCall
from stepchain_tui.plan import Mode
from stepchain_tui.tools.function_calls import FunctionCall, FunctionCaller
from stepchain_tui.tools.pools import Pools


class ToolStepExecutor(BaseToolExecutor):
    """Calls the tool's function as function steps do: inline, in a thread or in a process.

    The arguments are checked against the function's schema first: a wrong one is told with the step, the tool and the
    field, and nothing is called. Nothing is begun before a person allowed it, where the step wants one to be asked.
    """

    async def _execute_tool(self, args: dict[str, Any], ctx: CallContext, timeout: float | None) -> Any:
        return await call_function(self._function_call(args, ctx), self.tool.name, ctx, self.pools)

    def _function_call(self, args: Mapping[str, Any], ctx: CallContext) -> FunctionCall:
        tool, step = self.tool, ctx.call.step if ctx.call is not None else None
        # The engine counts what the step or the plan's entry of the tool says; of other tools it knows nothing.
        engine_counts = step is not None and (step.timeout is not None or ctx.timeout == tool.timeout)
        mode = tool.mode or "thread"
        if ctx.call is not None and (tool.mode is None or ctx.call.step.mode is not None):
            mode = ctx.call.mode or mode
        return FunctionCall(
            function=tool.function,
            args=args,
            mode=mode,
            folder=tool.folder,
            label=f"tool '{tool.name}'",
            fallback=tool.fallback is not False and (step is None or step.fallback),
            validate=True,
            timeout=None if engine_counts else tool.timeout,
            environment=ctx.environment,
            cwd=ctx.cwd,
            facts=ctx.facts(),
            log=ctx.ports.log,
            begun=ctx.ports.begun,
            warn=ctx.ports.warn,
            **_for_cluster(ctx.call),
        )


async def call_function(
    call: FunctionCall, tool_name: str, ctx: CallContext, pools: Pools, call_id: str = ONLY_CALL
) -> Any:
    """Make the call of a tool's function, tell the engine of it, and return its value.

    Args:
        call: The call.
        tool_name: The tool, as the events name it.
        ctx: The context of the attempt.
        pools: Where the function runs.
        call_id: Tells the calls of one attempt apart.

    Raises:
        AttemptError: See `FunctionCaller.run`; its value cannot be kept.
    """
    told, record = ToldCall(tool_name, call.args, ctx, call_id), call.record
    try:
        value = await FunctionCaller(pools).run(call)
        told.ended(result=value, seconds=record.seconds, cpu_seconds=record.cpu_seconds)
    except BaseException as error:
        raised = with_step(error, ctx)
        told.ended(error=raised, seconds=record.seconds, cpu_seconds=record.cpu_seconds)
        if raised is error:
            raise
        raise raised from error
    finally:
        ctx.linger(call.lingering)
    return value


def _for_cluster(call: StepCall | None) -> dict[str, Any]:
    """Return what a call needs besides, where it goes to a cluster."""
    if call is None or call.mode != Mode.CLUSTER:
        return {}
    step = call.step
    return {
        "cluster": call.cluster,
        "cwd_needed": step.cwd is not None,
        "secret_names": (*step.secrets, *(step.env or ())),
    }

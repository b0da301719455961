"""The standard tool executor: checks the arguments, tells that the tool is called, and calls its function."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stepchain_tui.executors.context import CallContext
from stepchain_tui.executors.tool.base import BaseToolExecutor
from stepchain_tui.executors.tool.calls import ToldCall, with_step
from stepchain_tui.executors.types import StepCall
from stepchain_tui.plan import Mode
from stepchain_tui.tools.function_calls import FunctionCall, FunctionCaller


class ToolStepExecutor(BaseToolExecutor):
    """Calls the tool's function as function steps do: inline, in a thread or in a process.

    The arguments are checked against the function's schema first: a wrong one is told with the step, the tool and the
    field, and nothing is called. Nothing is begun before a person allowed it, where the step wants one to be asked.
    """

    async def _execute_tool(self, args: dict[str, Any], ctx: CallContext, timeout: float | None) -> Any:
        call = self._function_call(args, ctx)
        told = ToldCall(self.tool.name, args, ctx)
        try:
            value = await FunctionCaller(self.pools).run(call)
        except BaseException as error:
            raised = with_step(error, ctx)
            told.ended(error=raised, seconds=call.record.seconds, cpu_seconds=call.record.cpu_seconds)
            if raised is error:
                raise
            raise raised from error
        finally:
            ctx.linger(call.lingering)
        told.ended(result=value, seconds=call.record.seconds, cpu_seconds=call.record.cpu_seconds)
        return value

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

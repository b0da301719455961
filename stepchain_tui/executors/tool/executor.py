"""The standard tool executor: checks the arguments, tells that the tool is called, and calls its function."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from stepchain_tui.executors.context import CallContext
from stepchain_tui.executors.tool.base import BaseToolExecutor
from stepchain_tui.resilience.classify import classify
from stepchain_tui.run.failures import AttemptError, Failure
from stepchain_tui.run.status import ErrorType
from stepchain_tui.tools.function_calls import FunctionCall, FunctionCaller
from stepchain_tui.tools.process_worker import CallRecord

_ONLY_CALL = "call_1"
"""The id of the one call that a tool step makes in an attempt."""
_OF_THE_CALL = frozenset(("ToolArgumentError", "ToolSchemaError"))
"""Failures whose text names the tool and the field, and should name the step too."""


class ToolStepExecutor(BaseToolExecutor):
    """Calls the tool's function as function steps do: inline, in a thread or in a process.

    The arguments are checked against the function's schema first: a wrong one is told with the step, the tool and the
    field, and nothing is called.
    """

    async def _execute_tool(self, args: dict[str, Any], ctx: CallContext, timeout: float | None) -> Any:
        call = self._function_call(args, ctx)
        ctx.ports.tool_started(call_id=_ONLY_CALL, tool_name=self.tool.name, arguments=args)
        began = time.monotonic()
        try:
            value = await FunctionCaller(self.pools).run(call)
        except BaseException as error:
            raised = _with_step(error, ctx)
            self._tell(args, ctx, call.record, began, error=raised)
            if raised is error:
                raise
            raise raised from error
        finally:
            ctx.linger(call.lingering)
        self._tell(args, ctx, call.record, began, result=value)
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
        )

    def _tell(
        self,
        args: Mapping[str, Any],
        ctx: CallContext,
        record: CallRecord,
        began: float,
        *,
        result: Any = None,
        error: BaseException | None = None,
    ) -> None:
        failure = None
        if isinstance(error, asyncio.CancelledError):
            failure = Failure(error_type=ErrorType.UNKNOWN, message="the call was ended before it was done")
        elif error is not None:
            failure = Failure.of(error, classify(error, "tool"))
        ctx.ports.tool_finished(
            call_id=_ONLY_CALL,
            tool_name=self.tool.name,
            arguments=args,
            execution_time=time.monotonic() - began if record.seconds is None else record.seconds,
            result=result,
            error=failure,
            cpu_time=record.cpu_seconds,
        )


def _with_step(error: BaseException, ctx: CallContext) -> BaseException:
    """Return the error, with the step named where its text is about what the step wrote."""
    if not ctx.step_id or not isinstance(error, AttemptError) or error.exception not in _OF_THE_CALL:
        return error
    return AttemptError(
        f"step '{ctx.step_id}': {error}",
        error_type=error.error_type,
        hint=error.hint,
        exception=error.exception,
        details=error.details,
    )

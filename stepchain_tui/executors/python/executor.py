"""The standard executor of sandboxed code."""

from __future__ import annotations

from typing import Any

from stepchain_tui.executors.context import CallContext
from stepchain_tui.executors.function.calls import function_call_of
from stepchain_tui.executors.python.base import BasePythonExecutor
from stepchain_tui.executors.python.remote import NO_SANDBOX, REFERENCE
from stepchain_tui.executors.types import SkipStep, StepCall
from stepchain_tui.plan import PythonEngine
from stepchain_tui.run import AttemptError
from stepchain_tui.sandbox import SANDBOX_BUSY, find_bubblewrap
from stepchain_tui.tools.function_calls import FunctionCaller


class PythonToolExecutor(BasePythonExecutor):
    """Runs code in the sandbox monty or bwrap and returns the value of its last expression."""

    async def _execute_python(self, args: dict[str, Any], ctx: CallContext, timeout: float | None) -> Any:
        """Run the code.

        Raises:
            AttemptError: See `MontyRunner.run` and `BwrapRunner.run`.
            SkipStep: The step is optional and its engine is not there.
        """
        code, names = str(args.get("code", "")), args.get("args") or {}
        name = self.spec.tool_name if ctx.call is None else ctx.call.step.id
        engine = str(args.get("engine") or PythonEngine.MONTY)
        if ctx.call is not None and ctx.call.mode == "cluster":
            remote = {"code": code, "names": dict(names), "engine": engine, "name": name, "timeout": timeout}
            return await self._on_cluster(remote, ctx.call)
        if engine != PythonEngine.BWRAP:
            return await self.sandboxes.monty.run(
                code, names, name=name, timeout=timeout, on_print=ctx.ports.log_from_thread
            )
        try:
            await find_bubblewrap()
        except AttemptError as error:
            if ctx.call is not None and ctx.call.step.optional and error.exception != SANDBOX_BUSY:
                raise SkipStep(error.message) from error
            raise
        return await self.sandboxes.bwrap.run(
            code, names, name=name, timeout=timeout, on_print=ctx.ports.log, on_spawned=ctx.ports.spawned
        )

    async def _on_cluster(self, args: dict[str, Any], call: StepCall) -> Any:
        """Run the code on a worker of the step's cluster; the output is the same as here."""
        try:
            return await FunctionCaller(self.pools).run(function_call_of(call, REFERENCE, args))
        except AttemptError as error:
            if error.exception == NO_SANDBOX and call.step.optional:
                raise SkipStep(error.message) from error
            raise

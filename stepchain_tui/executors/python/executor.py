"""The standard executor of sandboxed code."""

from __future__ import annotations

from typing import Any

from stepchain_tui.executors.context import CallContext
from stepchain_tui.executors.python.base import BasePythonExecutor
from stepchain_tui.executors.types import SkipStep
from stepchain_tui.plan import PythonEngine
from stepchain_tui.run import AttemptError
from stepchain_tui.sandbox import find_bubblewrap


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
        if (args.get("engine") or PythonEngine.MONTY) != PythonEngine.BWRAP:
            return await self.sandboxes.monty.run(
                code, names, name=name, timeout=timeout, on_print=ctx.ports.log_from_thread
            )
        try:
            await find_bubblewrap()
        except AttemptError as error:
            if ctx.call is not None and ctx.call.step.optional:
                raise SkipStep(error.message) from error
            raise
        return await self.sandboxes.bwrap.run(
            code, names, name=name, timeout=timeout, on_print=ctx.ports.log, on_spawned=ctx.ports.spawned
        )

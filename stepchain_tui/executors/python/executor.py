"""The executor of `python:` steps."""

from __future__ import annotations

from typing import Any

from stepchain_tui.executors.types import Outcome, SkipStep, StepCall
from stepchain_tui.plan import PythonEngine
from stepchain_tui.run import AttemptError
from stepchain_tui.sandbox import BwrapRunner, MontyRunner, find_bubblewrap


class PythonExecutor:
    """Runs the code of a step in a sandbox; the output is the value of its last expression.

    Args:
        runner: The engine's sandbox monty; a new one where none is given. `close` ends it either way.
        bwrap: The engine's sandbox bwrap; the same holds.
    """

    def __init__(self, runner: MontyRunner | None = None, bwrap: BwrapRunner | None = None) -> None:
        self.runner = runner or MontyRunner()
        self.bwrap = bwrap or BwrapRunner()

    async def execute(self, call: StepCall) -> Outcome:
        """Run `call.value` with `call.args` as names.

        Raises:
            AttemptError: See `MontyRunner.run` and `BwrapRunner.run`.
            SkipStep: The step is optional and its engine is not there.
        """
        engine = call.options.get("engine") or call.step.engine or PythonEngine.MONTY
        if engine == PythonEngine.BWRAP:
            return Outcome(await self._in_bwrap(call))
        output = await self.runner.run(
            str(call.value),
            call.args,
            name=call.step.id,
            timeout=call.timeout,
            on_print=call.ports.log_from_thread,
        )
        return Outcome(output)

    async def _in_bwrap(self, call: StepCall) -> Any:
        try:
            await find_bubblewrap()
        except AttemptError as error:
            if call.step.optional:
                raise SkipStep(error.message) from error
            raise
        return await self.bwrap.run(
            str(call.value),
            call.args,
            name=call.step.id,
            timeout=call.timeout,
            on_print=call.ports.log,
            on_spawned=call.ports.spawned,
        )

    async def close(self) -> None:
        """End the sandboxes' processes."""
        await self.bwrap.close()
        await self.runner.close()

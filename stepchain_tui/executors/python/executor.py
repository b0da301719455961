"""The executor of `python:` steps."""

from __future__ import annotations

from stepchain_tui.executors.types import Outcome, SkipStep, StepCall
from stepchain_tui.plan import PythonEngine
from stepchain_tui.run import AttemptError, ErrorType
from stepchain_tui.sandbox import MontyRunner


class PythonExecutor:
    """Runs the code of a step in the sandbox; the output is the value of its last expression.

    Args:
        runner: The engine's sandbox; a new one where none is given. `close` ends it either way.
    """

    def __init__(self, runner: MontyRunner | None = None) -> None:
        self.runner = runner or MontyRunner()

    async def execute(self, call: StepCall) -> Outcome:
        """Run `call.value` with `call.args` as names.

        Raises:
            AttemptError: See `MontyRunner.run`.
            SkipStep: The step is optional and its engine is not there.
        """
        engine = call.options.get("engine") or call.step.engine or PythonEngine.MONTY
        if engine != PythonEngine.MONTY:
            reason = f"step '{call.step.id}': this version has no sandbox '{engine}'"
            if call.step.optional:
                raise SkipStep(reason)
            raise AttemptError(reason, error_type=ErrorType.USER_ERROR, hint="Leave `engine` out, or write monty.")
        output = await self.runner.run(
            str(call.value),
            call.args,
            name=call.step.id,
            timeout=call.timeout,
            on_print=call.ports.log_from_thread,
        )
        return Outcome(output)

    async def close(self) -> None:
        """End the sandbox's processes."""
        await self.runner.close()

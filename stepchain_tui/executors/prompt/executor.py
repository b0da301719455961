"""The standard prompt executor."""

from __future__ import annotations

import asyncio
from typing import Any

from stepchain_tui.executors.context import CallContext
from stepchain_tui.executors.prompt.base import BasePromptExecutor
from stepchain_tui.executors.prompt.options import LATER_KEYS, request_of
from stepchain_tui.llm import ClientModel, ModelAnswer, ModelRequest
from stepchain_tui.run import AttemptError, ErrorType


class PromptToolExecutor(BasePromptExecutor):
    """Asks a model once and returns its text, which streams into the log as it comes."""

    async def _execute_prompt(self, args: dict[str, Any], ctx: CallContext, timeout: float | None) -> Any:
        """Ask with `args["prompt"]`.

        `args` may hold `system model temperature max_output_tokens reasoning replies`, `models` (the plan's) and any
        further key for the API.

        Raises:
            AttemptError: No model can be asked, or what the model's `answer` raises.
            SkipStep: No model can be asked and the step is optional.
        """
        step = ctx.call.step if ctx.call is not None else None
        name = self.spec.tool_name if step is None else step.id
        later = [key for key in LATER_KEYS if args.get(key)]
        if later:
            raise AttemptError(
                f"step '{name}': this version asks a model once, without `{later[0]}`",
                error_type=ErrorType.USER_ERROR,
                hint=f"Leave `{later[0]}` out.",
            )
        optional = step is not None and step.optional
        model, model_name = self.models.choose(args, ctx.secrets, asked_by=name, optional=optional)
        request = request_of(args, model_name, ctx.attempt)
        started = self.models.clock.monotonic()
        try:
            answer = await model.answer(request, lambda text: ctx.ports.log("text", text))
        except asyncio.CancelledError:
            if isinstance(model, ClientModel):
                ctx.linger(model.lingering)
            raise
        except AttemptError as error:
            if "input_tokens" in error.details or "output_tokens" in error.details:
                self._report_failed(ctx, request, error, started)
            raise
        self._report(ctx, answer, started)
        if answer.refused:
            ctx.ports.warn("the model refused to answer; the output is what it said")
        return answer.text

    def _report(self, ctx: CallContext, answer: ModelAnswer, started: float) -> None:
        ctx.ports.model_turn(
            model=answer.model,
            response_id=answer.response_id,
            input_tokens=answer.input_tokens,
            output_tokens=answer.output_tokens,
            duration=self.models.clock.monotonic() - started,
        )

    def _report_failed(self, ctx: CallContext, request: ModelRequest, error: AttemptError, started: float) -> None:
        """Keep what an answer that failed has cost."""
        ctx.ports.model_turn(
            model=request.model,
            response_id=error.details.get("response_id", ""),
            input_tokens=error.details.get("input_tokens"),
            output_tokens=error.details.get("output_tokens"),
            duration=self.models.clock.monotonic() - started,
        )

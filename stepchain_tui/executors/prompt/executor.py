"""The standard prompt executor."""

from __future__ import annotations

from typing import Any

from stepchain_tui.executors.context import CallContext
from stepchain_tui.executors.prompt.base import BasePromptExecutor
from stepchain_tui.executors.prompt.conversation import Conversation, expected_answer
from stepchain_tui.executors.prompt.voices import Spoken, Voice
from stepchain_tui.llm.history import compose
from stepchain_tui.llm.types import user_message
from stepchain_tui.plan.history import CONTINUE


class PromptToolExecutor(BasePromptExecutor):
    """Asks a model, which may call tools, and returns its answer; the text streams into the log as it comes."""

    async def _execute_prompt(self, args: dict[str, Any], ctx: CallContext, timeout: float | None) -> Any:
        """Ask with `args["prompt"]`.

        `args` may hold `system model temperature max_output_tokens reasoning replies tools require_approval max_turns
        history expects`, `models` and `servers` (the plan's) and any further key for the API.

        Returns:
            The answer's text; with `expects`, its value.

        Raises:
            AttemptError: No model can be asked, a tool cannot be had, or see `Conversation.talk`.
            ApprovalNeeded: A tool call waits for a person.
            BudgetReached: The next question waits for a person.
            SkipStep: No model can be asked and the step is optional.
        """
        step = ctx.call.step if ctx.call is not None else None
        name = self.spec.tool_name if step is None else step.id
        tools = await self.binder.bind(args.get("tools") or (), args.get("servers"), ctx)
        system = args.get("system")
        conversation = Conversation(
            ctx,
            self.models,
            [Voice(system=None if system is None else str(system), args=args, tools=tools)],
            asked_by=name,
            optional=step is not None and step.optional,
            max_turns=args.get("max_turns"),
            require_approval=args.get("require_approval"),
            expected=await expected_answer(args.get("expects"), ctx),
        )
        spoken = await self._talk(conversation, args, ctx)
        if spoken.refused:
            ctx.ports.warn("the model refused to answer; the output is what it said")
        return spoken.value

    async def _talk(self, conversation: Conversation, args: dict[str, Any], ctx: CallContext) -> Spoken:
        prompt, continued = str(args.get("prompt", "")), args.get("continued") or {}
        facts: dict[str, Any] = {}
        is_stored = conversation.goes_on and "earlier" in args  # what came before was put in front of it
        if "earlier" in args and not is_stored:
            wanted = args["compression"] if args.get("history") is None else args["history"]
            model = str(args.get("model") or "")
            composed = await compose(prompt, args["earlier"], wanted, conversation.ask, model=model)
            prompt = composed.text
            for warning in composed.warnings:
                ctx.ports.warn(warning)
            if composed.told:
                ctx.ports.log("engine", f"{composed.told}\n")
                facts = {"history_tokens": composed.tokens, "history_tokens_before": composed.tokens_before}
        if args.get("history") == CONTINUE and not continued and not conversation.goes_on:
            ctx.ports.warn("there is no conversation of an earlier prompt to continue: it begins anew")
        return await conversation.talk(
            () if is_stored else [user_message(prompt)],
            before=continued.get("items") or (),
            response_id=str(continued.get("response_id") or ""),
            provider=str(continued.get("provider") or ""),
            facts=facts,
        )

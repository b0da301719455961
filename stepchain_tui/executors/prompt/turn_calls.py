"""The tool calls of one turn of a conversation: which may be made, which wait for a person, and what each came to."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stepchain_tui.core.errors import StepChainError
from stepchain_tui.core.secrets import Redactor
from stepchain_tui.core.values import encode_json
from stepchain_tui.executors.context import CallContext
from stepchain_tui.executors.prompt.items import Wanted, arguments_in, text_of_error, text_of_result
from stepchain_tui.executors.prompt.toolset import ModelTool, name_for_model
from stepchain_tui.executors.prompt.voices import Voice
from stepchain_tui.executors.tool.calls import ToldCall, failure_of_call, was_cut_off
from stepchain_tui.executors.types import ApprovalNeeded, ToolAnswer, ToolResult
from stepchain_tui.llm.types import Item
from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.status import ErrorType

AT_ONCE = 8
"""Calls of one turn that run at the same time."""
HANDOFF = "transfer_to_"
"""What the tools are called by which an agent hands the conversation to another, before the agent's name."""
_HASH_LENGTH = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A call that is over.

    Attributes:
        wanted: The call.
        item: What the model is told of it.
        text: The same as text: calls with the same text came to the same.
        handoff: Who takes the conversation over by it; empty for nobody.
    """

    wanted: Wanted
    item: Item
    text: str
    handoff: str = ""


def handoff_name(agent: str) -> str:
    """Return the name of the tool that hands the conversation to an agent."""
    return name_for_model(f"{HANDOFF}{agent}")


def handoff_schema(voice: Voice) -> dict[str, Any]:
    """Return the tool that hands the conversation to a voice, as the Responses API takes it."""
    about = f": {voice.description}" if voice.description else "."
    return {
        "type": "function",
        "name": handoff_name(voice.name),
        "description": f"Hand the conversation over to {voice.name}{about}",
        "parameters": {"type": "object", "properties": {}, "required": [], "additionalProperties": False},
        "strict": True,
    }


class TurnCalls:
    """Carries out the calls of the turns of one conversation.

    Args:
        ctx: The context of the attempt.
        asks: The step's `require_approval`: `always`, `never`, or names of tools.
        redactor: Takes secrets out of what models are told.
    """

    def __init__(self, ctx: CallContext, asks: Any, redactor: Redactor) -> None:
        self._ctx = ctx
        self._asks = asks
        self._redactor = redactor
        self._room = asyncio.Semaphore(AT_ONCE)

    async def carry_out(self, wanted: Sequence[Wanted], voice: Voice, known: Mapping[str, ToolResult]) -> list[Ended]:
        """Make the calls and return how they ended, in order; those that ended in an earlier attempt are not made.

        Args:
            wanted: The calls.
            voice: Who asks for them.
            known: What came of calls in an earlier attempt, by call id.

        Raises:
            ApprovalNeeded: One of them waits for a person; those that do not are done by then.
        """
        ended: dict[str, Ended] = {}
        jobs: list[tuple[Wanted, Callable[[], Awaitable[Ended]]]] = []
        waiting: list[ApprovalNeeded] = []
        for one in wanted:
            result = known.get(one.call_id)
            if result is not None and not (result.error is not None and was_cut_off(result.error)):
                ended[one.call_id] = self.ended_before(one, known, voice)
                continue
            taken_over = next((other.handoff for other in ended.values() if other.handoff), "")
            try:
                decided = await self._decide(one, voice, taken_over)
            except ApprovalNeeded as needed:
                waiting.append(needed)
                continue
            if isinstance(decided, Ended):
                ended[one.call_id] = decided
            else:
                jobs.append((one, decided))
        async with asyncio.TaskGroup() as group:
            tasks = {one.call_id: group.create_task(self._in_turn(job), name=one.call_id) for one, job in jobs}
        ended |= {call_id: task.result() for call_id, task in tasks.items()}
        if waiting:
            raise waiting[0]
        return [ended[one.call_id] for one in wanted]

    async def _in_turn(self, job: Callable[[], Awaitable[Ended]]) -> Ended:
        async with self._room:
            return await job()

    async def _decide(self, one: Wanted, voice: Voice, taken_over: str) -> Ended | Callable[[], Awaitable[Ended]]:
        """Return how a call ended that nothing has to be done for, else what makes it.

        Raises:
            ApprovalNeeded: A person is to be asked first.
        """
        if one.by_provider:
            return self._by_provider(one)
        target = next((name for name in voice.handoffs if handoff_name(name) == one.name), "")
        if target:
            return self._hand_over(one, target, taken_over)
        arguments: Any = one.arguments
        try:
            tool = voice.tools.get(one.name)
        except AttemptError as error:
            return self._refused(one, one.name, arguments, error)
        try:
            arguments = arguments_in(one.arguments, tool.shown)
            if not self._needs_word(tool):
                return lambda: self._call(one, tool, arguments)
            if self._ctx.call is None:
                return self._refused(one, tool.shown, arguments, _nobody_to_ask(tool.shown))
            answer = self._answer(one, tool.shown, arguments)
            if answer is None:
                await tool.check(arguments, self._ctx)
                key = self._approval_id(one, arguments)
                raise ApprovalNeeded(key, tool.shown, arguments, tool.key)
        except StepChainError as error:
            return self._refused(one, tool.shown, arguments, error)
        if not answer.approved:
            return self._refused(one, tool.shown, arguments, _denied(tool.shown, answer))
        changed = self._changed(answer, arguments)
        if changed is None:
            return lambda: self._call(one, tool, arguments)
        return lambda: self._call(one, tool, changed, note=self._told_of_change(answer))

    # --- who is asked

    def cannot_ask(self, hosted: Mapping[str, Any]) -> bool:
        """Return whether the step wants a person to be asked before a tool that its provider calls without a word."""
        kind, asks = hosted.get("type"), self._asks
        if kind == "mcp" and hosted.get("require_approval") != "never":
            return False  # the provider asks by itself
        return kind in asks if isinstance(asks, list | tuple) else asks in ("always", True)

    def _needs_word(self, tool: ModelTool) -> bool:
        call = self._ctx.call
        if call is not None and tool.key and tool.key in call.allowed_tools:
            return False
        asks = self._asks
        if isinstance(asks, str):
            return tool.asks or asks == "always"
        if isinstance(asks, list | tuple):
            return tool.asks or bool(tool.named & set(asks))
        return tool.asks or bool(asks)

    def _answer(self, one: Wanted, shown: str, arguments: Any) -> ToolAnswer | None:
        call = self._ctx.call
        return None if call is None else call.answers.get(self._approval_id(one, arguments))

    def _approval_id(self, one: Wanted, arguments: Any) -> str:
        """Return what a person's word is for: this call with these arguments, whatever ids a model makes up."""
        what = encode_json([one.name, one.server, self._redactor.value(arguments)])
        return f"{one.call_id}#{hashlib.sha256(what).hexdigest()[:_HASH_LENGTH]}"

    def _changed(self, answer: ToolAnswer, arguments: Any) -> dict[str, Any] | None:
        """Return the arguments as a person left them; None where that is as the model wrote them."""
        if answer.arguments is None:
            return None
        return dict(self._redactor.restored(answer.arguments, arguments))

    def _told_of_change(self, answer: ToolAnswer) -> str:
        return f"A person changed the arguments of this call to {text_of_result(answer.arguments, self._redactor)}"

    # --- calls

    async def _call(self, one: Wanted, tool: ModelTool, arguments: dict[str, Any], note: str = "") -> Ended:
        try:
            text = text_of_result(await tool.call(arguments, one.call_id, self._ctx), self._redactor)
        except Exception as error:  # noqa: BLE001 - a tool's failure is told to the model, which goes on
            text = self._text_of_error(error)
        return self._told(one, text, note)

    def _text_of_error(self, error: BaseException) -> str:
        return text_of_error(failure_of_call(error), self._ctx.step_id, self._redactor)

    def _told(self, one: Wanted, text: str, note: str = "", handoff: str = "") -> Ended:
        text = f"{note}\n{text}" if note else text
        return Ended(wanted=one, item=one.output(text), text=text, handoff=handoff)

    def _refused(self, one: Wanted, shown: str, arguments: Any, error: StepChainError) -> Ended:
        """Return the end of a call that is not made, and tell the engine of it."""
        ToldCall(shown, arguments, self._ctx, one.call_id).ended(error=error, seconds=0.0)
        return self._told(one, self._text_of_error(error))

    def _hand_over(self, one: Wanted, target: str, taken_over: str) -> Ended:
        told = ToldCall(one.name, {}, self._ctx, one.call_id)
        if taken_over:
            error = AttemptError(
                f"{taken_over} has taken over already", error_type=ErrorType.USER_ERROR, hint="Hand over once a turn."
            )
            told.ended(error=error, seconds=0.0)
            return self._told(one, self._text_of_error(error))
        value = {"agent": target}
        told.ended(result=value, seconds=0.0)
        return self._told(one, text_of_result(value, self._redactor), handoff=target)

    def _by_provider(self, one: Wanted) -> Ended:
        """Return what the provider is told of a call that it wants to make itself; a person is asked first."""
        shown = f"{one.server}.{one.name}"
        try:
            arguments: Any = arguments_in(one.arguments, shown)
        except AttemptError as error:
            return self._refused_by_us(one, shown, one.arguments, error)
        key = hashlib.sha256(encode_json(["hosted", one.server, one.name])).hexdigest()[:32]
        call = self._ctx.call
        answer = self._answer(one, shown, arguments)
        if answer is None:
            if call is not None and key in call.allowed_tools:
                return self._told_provider(one, approved=True)
            if call is None:
                return self._refused_by_us(one, shown, arguments, _nobody_to_ask(shown))
            raise ApprovalNeeded(self._approval_id(one, arguments), shown, arguments, key)
        if not answer.approved:
            return self._refused_by_us(one, shown, arguments, _denied(shown, answer))
        if answer.arguments is not None:
            # The provider makes the call as the model wrote it, so other arguments are a no with a wish.
            return self._refused_by_us(one, shown, arguments, _changed(self._told_of_change(answer)))
        return self._told_provider(one, approved=True)

    def _refused_by_us(self, one: Wanted, shown: str, arguments: Any, error: AttemptError) -> Ended:
        """Return the end of a call that the provider may not make, and tell the engine of it."""
        ToldCall(shown, arguments, self._ctx, one.call_id).ended(error=error, seconds=0.0)
        return self._told_provider(one, approved=False, reason=str(error))

    @staticmethod
    def _told_provider(one: Wanted, *, approved: bool, reason: str = "") -> Ended:
        item = {"type": "mcp_approval_response", "approval_request_id": one.sent_id, "approve": approved}
        if reason:
            item["reason"] = reason
        return Ended(wanted=one, item=item, text=f"{approved} {reason}")

    def ended_before(self, one: Wanted, known: Mapping[str, ToolResult], voice: Voice) -> Ended:
        """Return the end of a call that an earlier attempt made.

        Args:
            one: The call.
            known: What came of the calls of its turn.
            voice: Who asked for it.
        """
        result = known.get(one.call_id)
        if one.by_provider or result is None:
            error = None if result is None else result.error
            reason = "" if error is None else error.beside(self._ctx.step_id)
            return self._told_provider(one, approved=result is None, reason=reason)
        target = ""
        if result.error is not None:
            text = text_of_error(result.error, self._ctx.step_id, self._redactor)
        else:
            text = text_of_result(result.value, self._redactor)
            target = next((name for name in voice.handoffs if handoff_name(name) == one.name), "")
        return self._told(one, text, self._note_of(one, voice), target)

    def _note_of(self, one: Wanted, voice: Voice) -> str:
        """Return what is said of a call whose arguments a person had changed."""
        if one.name not in voice.tools:
            return ""
        try:
            arguments = arguments_in(one.arguments, one.name)
        except AttemptError:
            return ""
        answer = self._answer(one, one.name, arguments)
        return "" if answer is None or answer.arguments is None else self._told_of_change(answer)


def _nobody_to_ask(shown: str) -> AttemptError:
    return AttemptError(
        f"the call of '{shown}' needs a person's word, and there is nobody to be asked",
        error_type=ErrorType.USER_ERROR,
        hint="Let a step of a plan make it, or take it out of `require_approval`.",
        exception="DeniedError",
    )


def _changed(said: str) -> AttemptError:
    return AttemptError(
        said,
        error_type=ErrorType.USER_ERROR,
        hint="The provider makes the call itself, as the model wrote it: the model may ask for it once more.",
        exception="DeniedError",
    )


def _denied(shown: str, answer: ToolAnswer) -> AttemptError:
    return AttemptError(
        f"the call of '{shown}' was denied by {answer.by or 'a person'}",
        error_type=ErrorType.USER_ERROR,
        hint="Go on without it; the step can be rerun to be asked again.",
        exception="DeniedError",
    )

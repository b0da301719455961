"""Questions to models: what is sent, who is asked, and what the engine is told of the answer."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from stepchain_tui.core.values import encode_json, to_json_value
from stepchain_tui.executors.context import CallContext
from stepchain_tui.executors.prompt.hosted import tell_hosted
from stepchain_tui.executors.prompt.items import items_of
from stepchain_tui.executors.prompt.models import Chosen, PromptModels
from stepchain_tui.executors.prompt.options import request_of
from stepchain_tui.executors.prompt.voices import Voice
from stepchain_tui.llm import ClientModel, ModelAnswer, ModelRequest, OpenAIResponses
from stepchain_tui.llm.tokens import estimated_tokens
from stepchain_tui.llm.types import Item
from stepchain_tui.run.failures import AttemptError

_COUNTS = ("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens")
_OF_A_FAILURE = ("response_id", *_COUNTS, "request_id", "first_text_after")
"""Details of a failure that are facts of the answer that failed."""


class Thread:
    """The items of a conversation, and how far its provider knows them.

    Attributes:
        size: Characters of all items, as JSON.
    """

    def __init__(self) -> None:
        self._items: list[Item] = []
        self._answered_by = ""
        self._new_from = 0
        self._previous = ""
        self.size = 0

    @property
    def items(self) -> tuple[Item, ...]:
        """All of them."""
        return tuple(self._items)

    @property
    def new(self) -> Sequence[Item]:
        """Those that no answer was given to yet, and that no event holds."""
        return self._items[self._new_from :]

    def begin(self, before: Sequence[Item], response_id: str, provider: str) -> None:
        """Go on from another conversation.

        Args:
            before: Its items.
            response_id: The id of its last answer; empty where that is not known.
            provider: Who gave that answer.
        """
        self.answered(before, response_id, provider)

    def add(self, items: Sequence[Item]) -> None:
        """Put items behind the others."""
        self._items.extend(items)
        self.size += sum(len(encode_json(item)) for item in items)

    def answered(self, items: Sequence[Item], response_id: str, provider: str) -> None:
        """Put an answer behind the others."""
        self.add(items)
        self._new_from, self._previous, self._answered_by = len(self._items), response_id, provider

    def sent_to(self, provider: str) -> dict[str, Any]:
        """Return what a request to a provider holds: one that gave the last answer may know all before it.

        What another provider's model thought stays with that: it is sealed, and refused elsewhere.
        """
        if self._answered_by and provider != self._answered_by:
            return {"items": tuple(item for item in self.items if item.get("type") != "reasoning")}
        if not self._previous:
            return {"items": self.items}
        return {"items": self.items, "previous_response_id": self._previous, "new_from": self._new_from}


class Questions:
    """Asks the models of one attempt.

    Args:
        ctx: The context of the attempt.
        models: Chooses who is asked.
        asked_by: What errors name.
        optional: Whether the step is skipped where there is no model.
    """

    def __init__(self, ctx: CallContext, models: PromptModels, *, asked_by: str, optional: bool = False) -> None:
        self._ctx = ctx
        self._models = models
        self._asked_by = asked_by
        self._optional = optional
        self._line_is_open = False
        self._thought_is_open = False

    async def ask(
        self,
        voice: Voice,
        thread: Thread,
        *,
        turn: int,
        handoffs: Sequence[Mapping[str, Any]] = (),
        expects: Mapping[str, Any] | None = None,
        shown: bool = True,
        **facts: Any,
    ) -> ModelAnswer:
        """Ask for the next answer, put it behind the thread, and tell the engine of it.

        Args:
            voice: Who is to answer.
            thread: The conversation so far.
            turn: The number of the answer.
            handoffs: Tools by which it may hand over.
            expects: The form that the answer is to have, as the API takes it.
            shown: Whether its text is the step's, and streams into the log.
            **facts: Further facts for the event.

        Raises:
            BudgetReached: It waits for a person.
            AttemptError: See `Model.answer`.
            SkipStep: No model can be asked and the step is optional.
        """
        tools = (*voice.tools.schemas, *handoffs)
        chosen = self._choose(voice, thread.size + len(voice.system or "") + (len(encode_json(tools)) if tools else 0))
        call = self._ctx.call
        request = request_of(
            voice.args,
            model=chosen.name,
            system=voice.system,
            attempt=call.tries if call is not None else 1,
            turn=max(turn, 1),
            tools=tools,
            expects=expects,
            **thread.sent_to(chosen.provider),
        )
        about = {"turn": turn, "agent": voice.name, "provider": chosen.provider, "sent": thread.new, **facts}
        started = self._models.clock.monotonic()
        try:
            answer = await self._answer(chosen, request, shown=shown)
        except AttemptError as error:
            if any(name in error.details for name in _COUNTS):
                self._tell_failed(request, error, started, about)
            raise
        items = items_of(answer)
        self.end_line()  # the text belongs before the event that it was answered
        self._ctx.ports.model_turn(
            model=answer.model,
            response_id=answer.response_id,
            input_tokens=answer.input_tokens,
            output_tokens=answer.output_tokens,
            duration=self._models.clock.monotonic() - started,
            cached_tokens=answer.cached_tokens,
            reasoning_tokens=answer.reasoning_tokens,
            finish_reason=answer.finish_reason,
            request_id=answer.request_id,
            first_text_after=answer.first_text_after,
            output=items,
            **about,
        )
        tell_hosted(items, self._ctx.ports, turn)
        thread.answered(items, answer.response_id, chosen.provider)
        return answer if answer.items else replace(answer, items=items)

    def end_line(self) -> None:
        """End the log's last lines of text and of reasoning: what is logged from now on stands behind them."""
        self._end_thought()
        if self._line_is_open and self._ctx.call is not None:  # outside of runs it is no log
            self._ctx.ports.log("text", "\n")
        self._line_is_open = False

    def _end_thought(self) -> None:
        if self._thought_is_open:
            self._ctx.ports.log("reasoning", "\n")
            self._thought_is_open = False

    def _choose(self, voice: Voice, characters: int) -> Chosen:
        """Return who is asked: a budget may have a word in it."""
        choose = partial(self._models.choose, secrets=self._ctx.secrets, asked_by=self._asked_by)
        chosen = choose(voice.args, optional=self._optional)
        name = self._before_turn(chosen, voice, characters)
        if name == chosen.name:
            return chosen
        other = choose(voice.args, optional=self._optional, instead=name)
        if _most_tokens(other, voice) != _most_tokens(chosen, voice):
            self._before_turn(other, voice, characters)  # it may answer at greater length than the one it stands for
        return other

    def _before_turn(self, chosen: Chosen, voice: Voice, characters: int) -> str:
        """Return the model that the budgets let us ask."""
        return self._ctx.ports.before_turn(
            model=chosen.name,
            provider=chosen.provider,
            input_tokens=estimated_tokens(characters),
            output_tokens=_most_tokens(chosen, voice),
        )

    async def _answer(self, chosen: Chosen, request: ModelRequest, *, shown: bool) -> ModelAnswer:
        log = self._ctx.ports.log
        if shown:
            self.end_line()

        def on_text(text: str) -> None:
            self._end_thought()  # it belongs before what came of it
            if shown:
                log("text", _fit(text))
                self._line_is_open = not text.endswith("\n")

        def on_reasoning(text: str) -> None:
            log("reasoning", _fit(text))
            self._thought_is_open = not text.endswith("\n")

        try:
            answer = await chosen.model.answer(request, on_text, on_reasoning)
            return replace(
                answer, text=_fit(answer.text), model=_fit(answer.model), response_id=_fit(answer.response_id)
            )
        except asyncio.CancelledError:
            if isinstance(chosen.model, ClientModel):
                self._ctx.linger(chosen.model.lingering)
            raise

    def _tell_failed(
        self, request: ModelRequest, error: AttemptError, started: float, about: Mapping[str, Any]
    ) -> None:
        """Keep what an answer that failed has cost."""
        self.end_line()
        known = {name: error.details[name] for name in _OF_A_FAILURE if error.details.get(name) is not None}
        self._ctx.ports.model_turn(
            model=request.model,
            duration=self._models.clock.monotonic() - started,
            finish_reason=str(error.details.get("finish_reason") or "error"),
            **known,
            **about,
        )


def _most_tokens(chosen: Chosen, voice: Voice) -> int | None:
    """Return how many tokens an answer may have: as the step says it, else as the plan's `models` do."""
    most = voice.args.get("max_output_tokens")
    if most is None and isinstance(chosen.model, OpenAIResponses):
        most = chosen.model.choice.options.get("max_output_tokens")
    return most if isinstance(most, int) and not isinstance(most, bool) else None


def _fit(text: str) -> str:
    """Return text as it can be kept: a client of the user may give halves of characters."""
    return str(to_json_value(text))

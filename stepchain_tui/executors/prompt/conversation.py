"""A conversation with a model: question, tool calls, results, next question, until there is an answer without calls.

Every answer is a `model.turn` and every call a pair of tool events, so that an attempt which comes after a crash, a
retry or a person's word goes on where this one ended. Nothing is tried again here and no time is counted: the engine
does both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stepchain_tui.executors.context import CallContext
from stepchain_tui.executors.prompt.earlier_turns import (
    BEFORE_FIRST,
    FIRST_TURN,
    earlier_turns,
    summary_before,
    with_secrets,
)
from stepchain_tui.executors.prompt.items import Wanted, answer_of, source_lines, wanted_in
from stepchain_tui.executors.prompt.models import PromptModels
from stepchain_tui.executors.prompt.questions import Questions, Thread
from stepchain_tui.executors.prompt.threads import in_thread
from stepchain_tui.executors.prompt.turn_calls import Ended, TurnCalls, handoff_name, handoff_schema
from stepchain_tui.executors.prompt.voices import Spoken, Voice
from stepchain_tui.llm import ModelAnswer
from stepchain_tui.llm.answers import ExpectedAnswer
from stepchain_tui.llm.differences import AnswerMismatch
from stepchain_tui.llm.openai_answer import text_of
from stepchain_tui.llm.types import Item, user_message
from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.status import ErrorType

MOST_TURNS = 20
"""Answers of a conversation where the step says nothing else (`max_turns`)."""
CALLS_A_TURN = 5
"""Tool calls of a conversation for each turn that it may have."""
LEAST_CALLS = 100
"""Tool calls that every conversation may have."""
SAME_TURNS = 5
"""Turns in a row with the same calls and the same results after which a model is told; one more, and it failed."""
LOOPING = (
    f"You have made the same calls {SAME_TURNS} times in a row, and their results were the same each time. "
    "Do something else, or give your answer."
)


class Conversation:
    """One conversation of one attempt.

    Args:
        ctx: The context of the attempt.
        models: Chooses who is asked.
        voices: Who may speak; the first one begins.
        asked_by: What errors name.
        optional: Whether the step is skipped where there is no model.
        max_turns: How many answers there may be; `MOST_TURNS` where it is None.
        require_approval: Before which calls a person is asked: `always`, `never`, or names of tools.
        expected: The form that the last answer is to have.
    """

    def __init__(
        self,
        ctx: CallContext,
        models: PromptModels,
        voices: Sequence[Voice],
        *,
        asked_by: str,
        optional: bool = False,
        max_turns: int | None = None,
        require_approval: Any = None,
        expected: ExpectedAnswer | None = None,
    ) -> None:
        self._ctx = ctx
        self._voices = {voice.name: voice for voice in voices}
        self._voice = voices[0]
        self._max_turns = max_turns or MOST_TURNS
        self._expected = expected
        self._questions = Questions(ctx, models, asked_by=asked_by, optional=optional)
        own = ctx.call.redactor if ctx.call is not None else None
        self._redactor = own or models.redactor(ctx.secrets)
        self._calls = TurnCalls(ctx, require_approval, self._redactor)
        self._earlier = earlier_turns(ctx.call, self._voices)
        self._thread = Thread()
        self._turn = 0
        self._seen: set[str] = set()
        self._call_count = 0
        self._loops = LoopWatch()
        self._mismatch: AnswerMismatch | None = None
        self._facts: Mapping[str, Any] = {}

    @property
    def goes_on(self) -> bool:
        """Whether an earlier attempt left something to go on from: how it began need not be worked out again."""
        return bool(self._earlier)

    async def ask(self, text: str) -> str:
        """Ask the first voice's model one question that is no part of the conversation, and return its answer.

        An answer that an earlier attempt got just before it ended is not asked for again.

        Raises:
            BudgetReached: It waits for a person.
            AttemptError: See `Model.answer`.
        """
        found = summary_before(self._ctx.call)
        if found is not None:
            return text_of(found.output)
        thread = Thread()
        thread.add([user_message(text)])
        voice = self._voice
        answer = await self._questions.ask(
            Voice(name=voice.name, args=voice.args), thread, turn=BEFORE_FIRST, shown=False
        )
        return answer.text

    async def talk(
        self,
        first: Sequence[Item],
        *,
        before: Sequence[Item] = (),
        response_id: str = "",
        provider: str = "",
        facts: Mapping[str, Any] | None = None,
    ) -> Spoken:
        """Hold the conversation and return how it ended.

        Args:
            first: What begins it, usually one message of the user. Where the conversation goes on it may be left out:
                then it is as it was stored, with what is secret in it masked where the plan's `secrets` do not know it.
            before: A conversation that it goes on from, as it was stored: secrets are put back that this one tells too.
            response_id: The provider's id of the last answer of that.
            provider: Who gave that answer.
            facts: Further facts for the event of the first answer, such as `history_tokens`.

        Raises:
            ApprovalNeeded: A tool call waits for a person.
            BudgetReached: The next question waits for a person.
            AttemptError: A model's failure; as a `user_error`, a conversation without an end, or an answer that has not
                the form that is expected.
            SkipStep: No model can be asked and the step is optional.
        """
        self._facts = facts or {}
        self._look_over_voices()
        self._thread.begin(with_secrets(before, self._said(), self._redactor), response_id, provider)
        answer = await self._take_up(first)
        while True:
            if answer is None:
                answer = await self._ask_on()
            wanted = wanted_in(answer.items, self._turn, self._seen)
            if wanted:
                self._thread.add(await self._carry_out(wanted))
            elif (spoken := await self._end(answer)) is not None:
                return spoken
            answer = None

    def _look_over_voices(self) -> None:
        """Refuse voices whose tools hide a hand-over, and say of which tools nobody can be asked."""
        for voice in self._voices.values():
            hidden = next((name for name in voice.handoffs if handoff_name(name) in voice.tools), None)
            if hidden is not None:
                raise self._failure(
                    f"'{voice.name}' has a tool '{handoff_name(hidden)}', which is how it hands over to '{hidden}'",
                    "Give the tool another name.",
                )
            for tool in voice.tools.hosted:
                if not self._earlier and self._calls.cannot_ask(tool):
                    self._ctx.ports.warn(
                        f"nobody is asked before '{tool.get('type')}': the model's provider carries it out itself"
                    )

    async def _take_up(self, first: Sequence[Item]) -> ModelAnswer | None:
        """Go on from earlier attempts, and return their last answer: what comes of it is not known yet."""
        if not self._earlier:
            self._thread.add(first)
            return None
        said = self._said()
        for turn in self._earlier:
            begins = turn.turn == FIRST_TURN and first
            self._thread.add(first if begins else with_secrets(turn.sent, said, self._redactor))
            self._voice, self._turn = self._voices[turn.agent], turn.turn
            output = with_secrets(turn.output, said, self._redactor)
            answer = answer_of(output, model=turn.model, response_id=turn.response_id)
            self._thread.answered(answer.items, turn.response_id, turn.provider)
            if turn is self._earlier[-1]:
                break
            wanted = wanted_in(output, self._turn, self._seen)
            self._call_count += len(wanted)
            if not wanted:
                await self._value_of(answer)
            elif all(one.call_id in turn.results for one in wanted if not one.by_provider):
                ended = [self._calls.ended_before(one, turn.results, self._voice) for one in wanted]
                self._loops.look(ended)
        self._ctx.ports.log("engine", f"goes on after answer {self._turn} of the model\n")
        return answer

    async def _ask_on(self) -> ModelAnswer:
        """Ask the model for its next answer."""
        if self._turn >= self._max_turns:
            raise self._out_of_turns(asked_again=True)
        self._turn += 1
        voice, expected = self._voice, self._expected
        form = None if expected is None else expected.format
        handoffs = tuple(handoff_schema(self._voices[name]) for name in voice.handoffs)
        facts = self._facts if self._turn == FIRST_TURN else {}
        return await self._questions.ask(voice, self._thread, turn=self._turn, handoffs=handoffs, expects=form, **facts)

    async def _carry_out(self, wanted: Sequence[Wanted]) -> list[Item]:
        """Make the calls of an answer and return what the model is told of them."""
        most = max(CALLS_A_TURN * self._max_turns, LEAST_CALLS)
        self._call_count += len(wanted)
        if self._call_count > most:
            raise self._failure(
                f"the model wants {self._call_count} tool calls, and {most} is the most",
                f"Raise `max_turns`, which is {self._max_turns} and allows {CALLS_A_TURN} calls each, or ask for less.",
            )
        last = self._earlier[-1] if self._earlier else None
        known = last.results if last is not None and last.turn == self._turn else {}
        ended = await self._calls.carry_out(wanted, self._voice, known)
        for one in ended:
            if one.handoff:
                self._voice = self._voices[one.handoff]
        told = [one.item for one in ended]
        times = self._loops.look(ended)
        if times > SAME_TURNS:
            names = ", ".join(sorted({one.wanted.name for one in ended}))
            raise self._failure(
                f"the model goes round in circles: {times} times it made the same calls with the same results: {names}",
                "Say in the prompt what to do with such a result, or give the tool an error that tells more.",
            )
        if times == SAME_TURNS:
            told.append(user_message(LOOPING))
        return told

    # --- the end

    async def _end(self, answer: ModelAnswer) -> Spoken | None:
        """Return how the conversation ended; None where the model has to mend its answer."""
        before, log = self._mismatch, self._ctx.ports.log
        if answer.refused and self._expected is not None:
            raise self._failure(
                f"the model refused to answer: {answer.text[:500]}", "Ask otherwise, or ask another model."
            )
        value = await self._value_of(answer)
        if self._mismatch is not before:
            assert self._mismatch is not None
            if before is not None:
                raise self._mismatch.failure(self._ctx.step_id, answer.text)
            if self._turn >= self._max_turns:
                raise self._out_of_turns(asked_again=False)
            self._questions.end_line()
            log("engine", "".join(f"{line}\n" for line in self._mismatch.lines))
            log("engine", "the answer does not have the form that is expected: the model is asked once more\n")
            self._thread.add([user_message(self._mismatch.repair_text())])
            return None
        if before is not None:
            self._ctx.ports.warn(before.warning())
        if answer.citations:
            self._questions.end_line()
            log("sources", "".join(source_lines(answer.citations)))
        return Spoken(
            text=answer.text,
            value=value,
            items=self._thread.items,
            turns=self._turn,
            calls=self._call_count,
            citations=answer.citations,
            agent=self._voice.name,
            model=answer.model,
            refused=answer.refused,
        )

    async def _value_of(self, answer: ModelAnswer) -> Any:
        """Return what an answer stands for; one that has the wrong form is kept in mind."""
        expected = self._expected
        if expected is None:
            return answer.text
        try:
            value = await in_thread(lambda: expected.check(answer.text), self._ctx)
        except AnswerMismatch as mismatch:
            self._mismatch = mismatch
            return None
        if note := expected.note(answer.text):
            self._ctx.ports.warn(note)
        return value

    def _said(self) -> list[Any]:
        """Return what the step itself tells models, secrets in it included."""
        call = self._ctx.call
        asked = [] if call is None else [call.value, call.options.get("request")]
        return [*asked, *(voice.system for voice in self._voices.values())]

    def _out_of_turns(self, *, asked_again: bool) -> AttemptError:
        """Return why the model is not asked again: an answer of the wrong form says more than that turns are over."""
        hint = f"Raise `max_turns`, which is {self._max_turns}, or ask for less."
        if self._mismatch is None:
            return self._failure(f"the model was asked {self._turn} times and wants to go on", hint)
        failure = self._mismatch.failure(self._ctx.step_id, asked_again=asked_again)
        failure.hint = f"Raise `max_turns`, which is {self._max_turns}: no turn is left to mend it in. {failure.hint}"
        return failure

    def _failure(self, what: str, hint: str) -> AttemptError:
        step = self._ctx.step_id
        return AttemptError(f"step '{step}': {what}" if step else what, error_type=ErrorType.USER_ERROR, hint=hint)


class LoopWatch:
    """Notices a model that makes the same calls turn after turn and gets the same results."""

    def __init__(self) -> None:
        self._last: Any = None
        self._times = 0

    def look(self, ended: Sequence[Ended]) -> int:
        """Return how many turns in a row, with this one, had these calls with these results."""
        done = sorted((one.wanted.name, one.wanted.arguments, one.text) for one in ended)
        self._times = self._times + 1 if done == self._last else 1
        self._last = done
        return self._times


async def expected_answer(expects: Any, ctx: CallContext) -> ExpectedAnswer | None:
    """Return the form that a step's answer is to have; what it names may have to be imported, which takes its time.

    Raises:
        AttemptError: It is no form, as a `user_error` that names the step.
    """
    if expects is None:
        return None
    return await in_thread(lambda: ExpectedAnswer.of(expects, ctx.plan_folder, ctx.step_id), ctx)

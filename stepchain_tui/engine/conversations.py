"""What came before a prompt: the results of earlier steps, or the conversation of an earlier prompt that goes on.

A run's events hold every turn. The state only knows where the turns of a step's last conversation are, so they are read
from the store when another step goes on from there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from stepchain_tui.core.values import encode_json
from stepchain_tui.engine.agent_memory import steps_before
from stepchain_tui.plan import ActionKind
from stepchain_tui.plan.history import CONTINUE, NONE, history_choice
from stepchain_tui.run.events import ModelTurn
from stepchain_tui.run.status import AttemptStatus
from stepchain_tui.run.step_state import StepState
from stepchain_tui.run.values import Kept

if TYPE_CHECKING:
    from stepchain_tui.engine.driver import Driver
    from stepchain_tui.engine.prepared import PreparedStep
    from stepchain_tui.engine.source import Definition

CACHED_TALKS = 32
"""Conversations of one run above which those that are not wanted now are let go of."""


class Turns(NamedTuple):
    """Where the turns of a step's last conversation are among the events of its run."""

    step_id: str
    first_seq: int
    last_seq: int


class Histories:
    """Gives the prompts of one run what came before them.

    Args:
        driver: The run.
        value_of: Gives a kept value that was loaded before.
        definition_of: Gives what a step of the run is to do.
    """

    def __init__(
        self, driver: Driver, value_of: Callable[[Kept | None], Any], definition_of: Callable[[str], Definition]
    ) -> None:
        self._core = driver.core
        self._state = driver.state
        self._value_of = value_of
        self._definition_of = definition_of
        self._talks: dict[Turns, list[ModelTurn]] = {}

    def unread(self, prepared: PreparedStep) -> list[Turns]:
        """Return the conversations that must be read before a prompt's history can be given."""
        if not _goes_on(prepared):
            return []
        wanted = [turns for step in self._conversation(prepared.id) if (turns := _turns_of(step)) is not None]
        if len(self._talks) > CACHED_TALKS:
            self._talks = {turns: said for turns, said in self._talks.items() if turns in wanted}
        return [turns for turns in wanted if turns not in self._talks]

    async def read(self, turns: Turns) -> None:
        """Read the turns of a conversation from the store."""
        recorder = self._core.recorder
        await recorder.settle()  # the last turn may be of this very moment
        size = turns.last_seq - turns.first_seq + 1
        events = await recorder.store.read_events(self._state.run_id, after=turns.first_seq - 1, limit=size)
        found: list[ModelTurn] = []
        for event in events:
            if isinstance(event, ModelTurn) and event.step_id == turns.step_id and event.item is None:
                if event.turn == 1:
                    found.clear()
                if event.turn and event.output is not None:
                    found.append(event)
        self._talks[turns] = found

    def values(self, prepared: PreparedStep) -> Iterator[Kept | None]:
        """Yield the kept values that a prompt's history is made of."""
        if _goes_on(prepared):
            for step in self._conversation(prepared.id):
                yield from (step.output, step.last.input if step.last is not None else None)
                if (turns := _turns_of(step)) is not None:
                    for turn in self._talks.get(turns, ()):
                        yield from (turn.sent, turn.output)
        elif self._wanted(prepared.fixed_options):
            for name in steps_before(prepared.id, self._state):
                step = self._state.steps[name]
                if step.done:
                    yield from (step.output, step.last.input if step.last is not None else None)

    def options(self, prepared: PreparedStep, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return what came before a prompt, as options of its call.

        Returns:
            Nothing where nothing is wanted. `earlier`, a list of `{step_id, kind, asked, output, referred}`, with
            `compression`, the engine's strategy. Or `continued`: `{items, response_id, provider, model}` of the prompt
            that this one goes on from; without items only a provider that keeps its answers knows what it said.
        """
        written = options.get("history")
        if written == CONTINUE:
            return self._continued(prepared, with_items=True)
        if not self._wanted(options):
            return {}
        found = {"earlier": self._earlier(prepared), "compression": self._core.compression}
        return found if written is not None else {**found, **self._continued(prepared, with_items=False)}

    def _wanted(self, options: Mapping[str, Any]) -> bool:
        written = options.get("history")
        return self._core.compression is not None if written is None else history_choice(written).word != NONE

    # --- earlier results

    def _earlier(self, prepared: PreparedStep) -> list[dict[str, Any]]:
        """Return the results of the steps that a prompt waits for, however far, those that come first first."""
        named = {f"{prepared.scope}{name}" for name in prepared.references}
        found = []
        for name in steps_before(prepared.id, self._state):
            step = self._state.steps[name]
            if step.done and step.output is not None:
                found.append(
                    {
                        "step_id": name,
                        "kind": step.outline.kind,
                        "asked": self._asked(step),
                        "output": self._value_of(step.output),
                        "referred": name in named,
                    }
                )
        return found

    def _asked(self, step: StepState) -> Any:
        asked = self._value_of(step.last.input) if step.last is not None else None
        return asked.get("prompt", asked.get("request")) if isinstance(asked, dict) else None

    # --- a conversation that goes on

    def _prompt_before(self, step_id: str) -> StepState | None:
        """Return the last prompt that a step waits for, however far; a map is no conversation."""
        found = None
        for name in steps_before(step_id, self._state):
            step = self._state.steps[name]
            is_one = step.outline.kind == ActionKind.PROMPT and not step.outline.is_map
            if is_one and step.done and step.output is not None:
                found = step
        return found

    def _conversation(self, step_id: str) -> list[StepState]:
        """Return the prompts whose conversation a step goes on with, the one that began it first."""
        found: list[StepState] = []
        before = self._prompt_before(step_id)
        while before is not None:
            found.append(before)
            goes_on = self._definition_of(before.id).step.history == CONTINUE
            before = self._prompt_before(before.id) if goes_on else None
        return found[::-1]

    def _continued(self, prepared: PreparedStep, *, with_items: bool) -> dict[str, Any]:
        before = self._prompt_before(prepared.id)
        if before is None:
            return {}
        answered = before.answered if _turns_of(before) is not None else None
        items: list[Any] = []
        if with_items:
            for step in self._conversation(prepared.id):
                items += self._items(step)
        found = {
            "items": items,
            "response_id": answered.response_id if answered is not None else "",
            "provider": answered.provider if answered is not None else "",
            "model": answered.model if answered is not None else "",
        }
        return {"continued": found} if items or found["response_id"] else {}

    def _items(self, step: StepState) -> list[Any]:
        """Return what a prompt said and heard; its text and its output, where its turns are not in this run."""
        if (turns := _turns_of(step)) is not None:
            said = self._talks[turns]
            return [item for turn in said for part in (turn.sent, turn.output) for item in self._value_of(part) or ()]
        asked, answer = self._asked(step), self._value_of(step.output)
        text = answer if isinstance(answer, str) else encode_json(answer).decode()
        question = [{"role": "user", "content": asked}] if isinstance(asked, str) else []
        return [*question, {"role": "assistant", "content": text}]


def _goes_on(prepared: PreparedStep) -> bool:
    return prepared.fixed_options.get("history") == CONTINUE


def _turns_of(step: StepState) -> Turns | None:
    """Return where the conversation is that gave a step its output; None where none of this run did."""
    answered, last = step.answered, step.last
    if answered is None or last is None or last.output != step.output:
        return None
    if last.n != answered.attempt:  # all was said, and then it was cut off: the last attempt only gave the result
        said = step.attempts.get((None, answered.attempt))
        if said is None or said.status is AttemptStatus.SUCCEEDED or last.origin:
            return None
    return Turns(step.id, answered.first_seq, answered.seq)

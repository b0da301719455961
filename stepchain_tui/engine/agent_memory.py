"""What an agent remembers within a run: its turns in the steps that come before this one.

Nothing is kept beside the run for it: the turns are read off the results, so an agent remembers the same after a pause,
a crash or a rerun. Only steps that this one waits for count, in the order in which they wait for each other: what other
branches do at the same time is not seen, so the memory does not depend on who was faster.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import msgspec

from stepchain_tui.plan.history import NONE
from stepchain_tui.plan.models import AgentSpec
from stepchain_tui.plan.prompt_tools import described_agents
from stepchain_tui.run.state import RunState
from stepchain_tui.run.step_state import StepState
from stepchain_tui.run.values import Kept

if TYPE_CHECKING:
    from stepchain_tui.engine.source import Definition


class Turn(msgspec.Struct, frozen=True):
    """What an agent was asked in an earlier step and what it answered, as kept values.

    Attributes:
        step_id: The step.
        asked: The step's input, whose `request` it was; None where the result was taken over or given by hand.
        answered: Its output.
    """

    step_id: str
    asked: Kept | None
    answered: Kept


def turns_before(step_id: str, state: RunState, definition_of: Callable[[str], Definition]) -> list[Turn]:
    """Return the turns of a step's agent in the steps that it waits for, however far, the first one first.

    A turn counts where the step is the agent's own, and where the conversation was handed over to it and it answered.

    Args:
        step_id: The agent step.
        state: The run.
        definition_of: Gives what a step of the run is to do.
    """
    own = definition_of(step_id)
    agent = str(own.step.agent)
    found: list[Turn] = []
    if _forgets(own):
        return found
    for earlier in steps_before(step_id, state):
        step = state.steps[earlier]
        if step.outline.kind == "agent":
            definition = definition_of(earlier)
            of_step = str(definition.step.agent)
            if of_step == agent:
                found.extend(_turns_of(step))
            elif agent in described_agents(of_step, definition.plan):
                found.extend(turn for turn in _turns_of(step) if _answered_by(turn.answered) == agent)
    return found


def steps_before(step_id: str, state: RunState) -> Iterator[str]:
    """Yield the steps that a step waits for, however far: each after those that it waits for itself."""
    seen = {step_id}
    waiting = [(step_id, iter(state.steps[step_id].outline.parents))]
    while waiting:
        current, parents = waiting[-1]
        for parent in parents:
            if parent not in seen and parent in state.steps:
                seen.add(parent)
                waiting.append((parent, iter(state.steps[parent].outline.parents)))
                break
        else:
            waiting.pop()
            if current != step_id:
                yield current


def _forgets(definition: Definition) -> bool:
    """Return whether a step's agent is to remember nothing, so that nothing has to be looked for."""
    spec = definition.plan.agents.get(str(definition.step.agent))
    described_without = isinstance(spec, AgentSpec) and spec.memory in (False, NONE)
    return described_without or (definition.step.args or {}).get("memory") is False


def _answered_by(answered: Kept) -> str:
    """Return the described agent that gave an answer; one that is kept in a file is nobody's."""
    value = answered.value if answered.blob is None else None
    return str(value.get("agent", "")) if isinstance(value, dict) else ""


def _turns_of(step: StepState) -> Iterator[Turn]:
    if step.items is not None:
        for item in step.items:
            if item.output is not None:
                attempt = step.attempts.get((item.index, item.attempt))
                yield Turn(step.id, attempt.input if attempt is not None else None, item.output)
    elif step.done and step.output is not None:
        yield Turn(step.id, step.last.input if step.last is not None else None, step.output)

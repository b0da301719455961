"""Asking a model for something that is checked: a run that asks, checks the answer, and has it mended once.

The run is as any other: kept, counted, tried again, cancelled and replayed as runs are.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from stepchain_tui.core.errors import UsageError
from stepchain_tui.core.settings import Settings
from stepchain_tui.llm import choose_model
from stepchain_tui.plan import ModelSpec, Plan
from stepchain_tui.plan.literals import literal
from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.state import RunState
from stepchain_tui.run.status import ErrorType, RunStatus

if TYPE_CHECKING:
    from stepchain_tui.store.base import AbstractStore

_MODEL_SECONDS = 300


def require_model(
    model: str | None,
    settings: Settings,
    environment: Mapping[str, str] | None = None,
    models: Mapping[str, ModelSpec] | None = None,
) -> str:
    """Return the name of the model that is asked, as screens show it.

    Args:
        model: The model that is named, or None.
        settings: The user's settings.
        environment: Where keys and addresses are looked up; that of this process if None.
        models: Where named models are reached.

    Raises:
        UsageError: None can be asked: there is no key and no address.
    """
    known = os.environ if environment is None else environment
    choice = choose_model(model, None, settings.model or None, known, models)
    if not choice.available:
        raise UsageError(
            f"no model can be asked: {choice.key_variable} is not set",
            hint=f"Set {choice.key_variable}, or OPENAI_BASE_URL for a local server.",
        )
    return choice.label


def _asking_keys(model: str | None, replies: Sequence[Any] | None, temperature: float | None = None) -> dict[str, Any]:
    """Return the keys of a prompt step that say which model is asked, and how."""
    given = list(replies) if replies is not None else None
    keys = {"model": model or None, "temperature": temperature, "timeout": _MODEL_SECONDS, "replies": given}
    return {key: value for key, value in keys.items() if value is not None}


def asking_plan(
    goal: str,
    inputs: Mapping[str, Any],
    system: str,
    schema: Mapping[str, Any],
    review: tuple[str, str],
    finish: tuple[str, str],
    further: Mapping[str, Any],
    *,
    model: str | None = None,
    models: Mapping[str, ModelSpec] | None = None,
    replies: Sequence[Any] | None = None,
    temperature: float | None = None,
) -> Plan:
    """Return a plan that asks a model `inputs.question`, has the answer checked, and has it mended once.

    Args:
        goal: What the run is called.
        inputs: The values of its inputs, `question` among them.
        system: What the model is told before the question.
        schema: The JSON schema of an answer.
        review: Id and function of the step that gives `{"problems", "question"}` for an answer.
        finish: Id and function of the step that makes the result of all answers.
        further: Arguments of both functions besides the answers.
        model: The model; the user's if None.
        models: Where named models are reached.
        replies: The answers of `model: scripted`.
        temperature: Of the model.
    """
    places = {name: place.model_dump(mode="json", exclude_unset=True) for name, place in (models or {}).items()}
    again = list(replies)[1:] or list(replies)[:1] if replies else None
    asked = {"system": literal(system), "expects": dict(schema)}
    first, second = _asking_keys(model, replies[:1] if replies else None, temperature), _asking_keys(model, again)
    (check, checker), (end, finisher) = review, finish
    return Plan.model_validate(
        {
            "goal": goal,
            "inputs": {name: {"type": "text"} for name in inputs},
            "models": places,
            "steps": [
                {"id": "draft", "prompt": "{{ inputs.question }}", **asked, **first},
                {"id": check, "function": checker, "args": {"answer": "{{ steps.draft.output }}", **further}},
                {
                    "id": "mend",
                    "when": f"{{{{ steps.{check}.output.problems | length > 0 }}}}",
                    "prompt": f"{{{{ inputs.question }}}}\n\n{{{{ steps.{check}.output.question }}}}",
                    "on_failure": "continue",  # a draft with problems is better than none
                    **asked,
                    **second,
                },
                {
                    "id": end,
                    "function": finisher,
                    "args": {"answers": ["{{ steps.draft.output }}", "{{ steps.mend.output }}"], **further},
                    "when": "{{ steps.draft.status == 'succeeded' }}",
                    "trigger_rule": "all_done",
                },
            ],
        }
    )


async def result_of_asking(store: AbstractStore, state: RunState, end: str, what: str) -> dict[str, Any]:
    """Return the output of the last step of a run that asked a model.

    Raises:
        AttemptError: The run did not come to one.
        UsageError: The run has no such step.
    """
    if end not in state.steps or "draft" not in state.steps:
        raise UsageError(f"run '{state.run_id}' asked no model for a {what}")
    last = state.steps[end]
    if last.done and last.output is not None:
        found: dict[str, Any] = await store.load_value(last.output)
        return found
    for step_id in ("draft", end):
        step = state.steps[step_id]
        if (error := step.error) is not None and step.ended:
            raise AttemptError(
                f"no {what} was made: {error.beside(step_id)}",
                error_type=error.error_type,
                hint=error.hint,
                details={"run_id": state.run_id},
            )
    stopped = state.status in (RunStatus.WAITING, RunStatus.PAUSED, RunStatus.INTERRUPTED)
    raise AttemptError(
        f"no {what} was made: the run {state.run_id} is {state.status}",
        error_type=ErrorType.UNKNOWN,
        hint=f"`stepchain resume {state.run_id}` goes on with it." if stopped else "Ask again.",
        details={"run_id": state.run_id},
    )


def model_of(state: RunState) -> str:
    """Return the model that a run asked last, as it calls itself."""
    asked = [last.model for step in state.steps.values() if (last := step.last) is not None and last.model]
    return asked[-1] if asked else ""

"""A try of a repair: the patched step carried out once, really, in a run of its own, on what the other run recorded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from stepchain_tui.core.errors import UnknownStepError
from stepchain_tui.core.values import encode_json
from stepchain_tui.engine.repairing import FAILED
from stepchain_tui.engine.revival import source_of
from stepchain_tui.engine.source import RunSource
from stepchain_tui.plan import Plan, PlanGraph, parse_plan
from stepchain_tui.plan.literals import literal
from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.status import ErrorType
from stepchain_tui.run.step_state import StepState
from stepchain_tui.store.imports import require_trust

if TYPE_CHECKING:
    from stepchain_tui.store.base import AbstractStore

_RECORDED = "stepchain_tui.engine.repair_tries:recorded"


def recorded(value: Any = None, error: Mapping[str, Any] | None = None) -> Any:
    """Return what a step of another run gave, or fail as it did: it stands for that step where another one is tried.

    Args:
        value: The recorded output.
        error: The recorded error: `message`, `error_type` and `hint`.

    Raises:
        AttemptError: There is an error.
    """
    if error is not None:
        raise AttemptError(
            str(error.get("message", "")), error_type=ErrorType(error["error_type"]), hint=str(error.get("hint", ""))
        )
    return value


async def try_source(
    store: AbstractStore, run_id: str, step_id: str, text: str, inputs: Mapping[str, Any] | None = None
) -> RunSource:
    """Return what a run is made from that carries a patched step out once, really, on what its run recorded.

    The steps that it stands on are there as they ended; of a map only the failed items are carried out.

    Args:
        store: Holds the run.
        run_id: The run whose step failed.
        step_id: The step.
        text: The text of the patched plan.
        inputs: Values of the run's secret inputs, which are never stored.

    Raises:
        PlanError: The patched plan has mistakes.
        UnknownStepError: It, or the run, has no such step.
        UntrustedRunError: The run was imported, and nobody has said yet that they trust it.
        InputError: A secret input is missing.
    """
    summary = await store.get_run(run_id)
    require_trust(summary.run_id, summary.imported)
    state = await store.load_state(summary.run_id)
    before = source_of(state, dict(inputs or {}))
    plan = parse_plan(text, "the patched plan", before.folder).plan
    if (step := plan.step(step_id)) is None:
        raise UnknownStepError(step_id, [one.id for one in plan.steps])
    parents = PlanGraph.of(plan).parents[step_id]
    steps = [await _as_recorded(store, state.step(parent)) for parent in parents if parent in state.steps]
    written = {**step.model_dump(mode="json", exclude_unset=True, by_alias=True), "breakpoint": None}
    if (items := await _failed_items(store, state.step(step_id))) is not None:
        written["for_each"] = items
    keys = plan.model_dump(mode="json", exclude_unset=True, by_alias=True, exclude={"steps", "goal"})
    tried = Plan.model_validate_json(
        encode_json(
            {
                **keys,
                "goal": f"try: {step_id} of run {state.run_id}, repaired",
                "steps": [*steps, {key: value for key, value in written.items() if value is not None}],
            }
        )
    )
    return RunSource(
        plan=tried,
        folder=before.folder,
        working_folder=before.working_folder,
        inputs={name: value for name, value in before.inputs.items() if name in tried.inputs},
    )


async def _as_recorded(store: AbstractStore, step: StepState) -> dict[str, Any]:
    """Return the step that stands for one that has ended: it gives what that gave, or fails as that did."""
    made: dict[str, Any] = {"id": step.id, "description": "as it was recorded", "function": _RECORDED, "mode": "inline"}
    if step.done and step.output is not None:
        return {**made, "args": {"value": literal(await store.load_value(step.output))}}
    if step.error is not None and step.status in FAILED:
        error = {"message": step.error.message, "error_type": str(step.error.error_type), "hint": step.error.hint}
        return {**made, "args": {"error": literal(error)}, "on_failure": "continue", "retry": {"max_attempts": 1}}
    return {**made, "when": False}


async def _failed_items(store: AbstractStore, step: StepState) -> list[Any] | None:
    """Return the items of a map that failed, None where it is no map or was not expanded."""
    failed = [item for item in step.items or () if item.error is not None and item.status in FAILED]
    return [literal(await store.load_value(item.value)) for item in failed] or None


async def outcome_of_try(store: AbstractStore, run_id: str, step_id: str) -> dict[str, Any]:
    """Return how a try ended: `{"run_id", "status", "output", "error", "hint"}`."""
    state = await store.load_state(run_id)
    step = state.step(step_id)
    return {
        "run_id": state.run_id,
        "status": str(step.status),
        "output": None if step.output is None else await store.load_value(step.output),
        "error": step.error.message if step.error is not None else None,
        "hint": step.error.hint if step.error is not None else "",
    }

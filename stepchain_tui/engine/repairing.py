"""Repair of a failed step: a proposal, a try of it on what the step was given, and its way into the run's plan.

A proposal comes of the rules (`repair_rules`) at once, or of a model, which is asked in a run of its own. Nothing is
changed by it. A try really carries the step out, once, in a run of its own, on the outputs that the other run recorded.
Accepting it is the `edit` command with the edited text, as a person's own edit is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from stepchain_tui.core.errors import CommandRefusedError, UsageError
from stepchain_tui.core.values import encode_json
from stepchain_tui.engine.asking import asking_plan, model_of, result_of_asking
from stepchain_tui.engine.repair_rules import Case, advise
from stepchain_tui.engine.source import RunSource
from stepchain_tui.llm import SCRIPTED
from stepchain_tui.llm.plan_repair import ANSWER_SCHEMA, Edit, Patch, patch_of, question, system_text
from stepchain_tui.llm.plan_yaml import plan_yaml
from stepchain_tui.plan import (
    FunctionLocation,
    ModelSpec,
    Plan,
    Step,
    function_location,
    plan_from_json,
)
from stepchain_tui.run.failures import Failure
from stepchain_tui.run.ids import parent_path, split_id
from stepchain_tui.run.state import RunState
from stepchain_tui.run.status import StepStatus
from stepchain_tui.run.step_state import StepState, Usage
from stepchain_tui.run.values import Kept
from stepchain_tui.store.imports import require_trust

if TYPE_CHECKING:
    from stepchain_tui.store.base import AbstractStore

PROPOSAL_STEP = "repair"
"""The step whose output is the proposal."""
BY_MODEL, BY_RULE = "model", "rule"
FAILED = (StepStatus.FAILED, StepStatus.TIMED_OUT)
"""How a step stands that can be repaired."""
_SHOWN_TRIES = 5
_SHOWN_ERROR = 500
_SHOWN_INPUT = 2_000


@dataclass(frozen=True, slots=True)
class Proposal:
    """A patch of a run's plan that may mend a failed step. Nothing is changed by it.

    Attributes:
        run_id: The run.
        step_id: The step.
        revision: The revision of the run's plan that it is a patch of.
        source: `model` or `rule`.
        patch: The edits, the text with them, the difference and what is wrong with it.
        asked: The run that asked the model, or empty.
        model: The model, or empty.
        usage: What asking took.
    """

    run_id: str
    step_id: str
    revision: int
    source: str
    patch: Patch
    asked: str = ""
    model: str = ""
    usage: Usage | None = None

    @property
    def can_be_applied(self) -> bool:
        """Whether there is anything to apply, and nothing is wrong with it."""
        return bool(self.patch.difference) and not self.patch.problems

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data; `usage` has the fields of `Usage`, or is None."""
        return {
            "run_id": self.run_id,
            "step": self.step_id,
            "revision": self.revision,
            "source": self.source,
            "explanation": self.patch.explanation,
            "edits": [msgspec.to_builtins(edit) for edit in self.patch.edits],
            "diff": list(self.patch.difference),
            "problems": list(self.patch.problems),
            "text": self.patch.text,
            "asked": self.asked,
            "model": self.model,
            "usage": None if self.usage is None else asdict(self.usage),
        }


@dataclass(frozen=True, slots=True)
class _Failed:
    """A failed step with what a repair looks at."""

    run: RunState
    step: StepState
    plan: Plan
    written: Step
    text: str
    folder: Path
    error: Failure


# --- proposals


async def propose_by_rules(store: AbstractStore, run_id: str, step_id: str) -> Proposal:
    """Return what the rules propose for a failed step; its patch has no edits where no rule fits.

    Raises:
        UnknownRunError: The store does not hold the run.
        UnknownStepError: The run has no such step.
        CommandRefusedError: The step did not fail, or stands in a plan of its own.
    """
    failed = _failed(await store.load_state(run_id), step_id)
    advice = advise(Case(failed.written, failed.plan, failed.step, failed.error, failed.folder))
    return _proposal(failed, BY_RULE, advice.edits, advice.explanation)


async def asking_source(
    store: AbstractStore,
    run_id: str,
    step_id: str,
    *,
    model: str | None = None,
    replies: Sequence[Any] | None = None,
) -> RunSource:
    """Return what the run is made from that asks a model for a repair.

    Args:
        store: Holds the failed run.
        run_id: The failed run.
        step_id: The step.
        model: The model; the user's if None.
        replies: The answers of `model: scripted`.

    Raises:
        UnknownRunError: The store does not hold the run.
        UnknownStepError: The run has no such step.
        UntrustedRunError: The run was imported, and nobody has said yet that they trust it.
        CommandRefusedError: The step did not fail, or stands in a plan of its own.
    """
    summary = await store.get_run(run_id)
    require_trust(summary.run_id, summary.imported)
    failed = _failed(await store.load_state(summary.run_id), step_id)
    model, models = model_for(failed.plan, model)
    inputs = {
        "question": question(_step_text(failed), await _facts(store, failed), _names(failed)),
        "plan_text": failed.text,
        "run": failed.run.run_id,
        "step": step_id,
        "revision": str(failed.run.revision),
        "folder": str(failed.folder),
    }
    further = {"text": "{{ inputs.plan_text }}", "step_id": "{{ inputs.step }}", "folder": "{{ inputs.folder }}"}
    place = "stepchain_tui.llm.plan_repair"
    plan = asking_plan(
        f"repair: {step_id} of run {failed.run.run_id}",
        inputs,
        system_text(),
        ANSWER_SCHEMA,
        ("check", f"{place}:review"),
        (PROPOSAL_STEP, f"{place}:finish"),
        further,
        model=model,
        models=models,
        replies=replies,
    )
    return RunSource(plan=plan, folder=failed.folder, working_folder=failed.folder, inputs=inputs, checked=True)


def model_for(plan: Plan, model: str | None) -> tuple[str | None, Mapping[str, ModelSpec]]:
    """Return whom to ask about a plan's step, and where: who is named, else who answers the plan's own prompts."""
    named = model or (plan.defaults.model if plan.defaults.model != SCRIPTED else None)
    return named, ({named: plan.models[named]} if named in plan.models else {})


async def proposal_of(store: AbstractStore, asked: str) -> Proposal:
    """Return what a model proposed in a run that has ended.

    Raises:
        AttemptError: It came to no proposal; says why, and what to do.
        CommandRefusedError: The failed run got another plan meanwhile.
    """
    asking = await store.load_state(asked)
    found = await result_of_asking(store, asking, PROPOSAL_STEP, "repair")
    about = asking.inputs
    failed = _failed(await store.load_state(str(about["run"])), str(about["step"]))
    if str(failed.run.revision) != about["revision"]:
        raise CommandRefusedError(
            f"run '{failed.run.run_id}' got another plan while the model was asked", hint="Ask again."
        )
    edits = msgspec.convert(found["edits"], list[Edit])
    made = _proposal(failed, BY_MODEL, edits, str(found["explanation"]))
    return Proposal(
        made.run_id,
        made.step_id,
        made.revision,
        made.source,
        made.patch,
        asked=asking.run_id,
        model=model_of(asking),
        usage=asking.usage,
    )


def _proposal(failed: _Failed, source: str, edits: Sequence[Edit], explanation: str) -> Proposal:
    patch = patch_of(failed.text, failed.step.id, edits, explanation, failed.folder)
    return Proposal(failed.run.run_id, failed.step.id, failed.run.revision, source, patch)


def edit_arguments(proposal: Proposal, name: str, folder: Path) -> dict[str, Any]:
    """Return the arguments of the `edit` command that applies a proposal; see `service.revision_arguments`.

    Raises:
        CommandRefusedError: There is nothing to apply.
        PlanError: The patched plan has mistakes.
    """
    from stepchain_tui.engine.service import revision_arguments

    if not proposal.patch.difference:
        raise CommandRefusedError("the proposal changes nothing", hint=proposal.patch.explanation)
    if proposal.patch.problems:
        raise CommandRefusedError("the proposal cannot be applied", hint="; ".join(proposal.patch.problems))
    made = revision_arguments(proposal.patch.text, name, folder)
    return made | {"revision": proposal.revision, "reason": f"repair of {proposal.step_id}, by a {proposal.source}"}


def _failed(run: RunState, step_id: str) -> _Failed:
    """Return a failed step of a run.

    Raises:
        UnknownStepError: The run has no such step.
        CommandRefusedError: It did not fail, stands in a plan of its own, or the run is a replay.
    """
    step = run.step(step_id)
    if (outer := parent_path(step_id)) != "":
        raise CommandRefusedError(
            f"'{step_id}' stands in the plan that '{split_id(outer)[0]}' runs",
            hint="Mend that plan's file, then rerun the step.",
        )
    if run.replay_of:
        raise CommandRefusedError(
            f"run '{run.run_id}' is a replay, which is never carried out",
            hint=f"Repair run '{run.replay_of}', which it replays.",
        )
    if step.status not in FAILED or step.error is None:
        raise CommandRefusedError(
            f"step '{step_id}' is {step.status}: only what failed or timed out is repaired",
            hint=f"`stepchain why {run.run_id} {step_id}` tells how it came to that.",
        )
    plan = plan_from_json(encode_json(run.plan))
    written = plan.step(step_id)
    assert written is not None, "a run has the steps of its plan"
    error = next((item.error for item in step.items or () if item.error is not None), None) or step.error
    text = run.plan_text or plan_yaml(run.plan)
    return _Failed(run, step, plan, written, text, Path(run.plan_folder), error)


# --- what a model is told


def _step_text(failed: _Failed) -> str:
    steps = failed.run.plan.get("steps") or ()
    data: Mapping[str, Any] = next((step for step in steps if step.get("id") == failed.step.id), {})
    return plan_yaml({"steps": [data]}).partition("\n")[2]


async def _facts(store: AbstractStore, failed: _Failed) -> dict[str, Any]:
    """Return what happened to the step: as it is stored, so that no secret is among it."""
    error, step = failed.error, failed.step
    tries = [
        f"{attempt.status}{f', item {attempt.item}' if attempt.item is not None else ''}: "
        f"{attempt.error.message[:_SHOWN_ERROR] if attempt.error else ''}"
        for attempt in list(step.attempts.values())[-_SHOWN_TRIES:]
    ]
    given = next((one.input for one in reversed(step.attempts.values()) if one.input is not None), None)
    return {
        "class of the error": f"{error.error_type}{f' ({error.exception})' if error.exception else ''}",
        "error": error.message,
        "hint": error.hint,
        "traceback": error.traceback[-_SHOWN_INPUT:],
        "details": error.details,
        "tries": tries,
        "input of the last try, expressions resolved": None if given is None else await _preview(store, given),
        "code that it calls": _code(failed),
    }


async def _preview(store: AbstractStore, kept: Kept) -> Any:
    if kept.blob is not None:
        return kept.blob.preview[:_SHOWN_INPUT]
    text = encode_json(kept.value).decode()
    return kept.value if len(text) <= _SHOWN_INPUT else text[:_SHOWN_INPUT]


def _code(failed: _Failed) -> str:
    """Return the first line of the function that the step calls, where it is in a file beside the plan."""
    function = failed.written.function
    if not isinstance(function, str):
        return ""
    try:
        found: FunctionLocation = function_location(function, failed.folder)
        path = Path(found.source).resolve()
        if found.kind != "file" or not path.is_relative_to(failed.folder.resolve()):
            return ""
        lines = path.read_text(encoding="utf-8").splitlines()
    except (UsageError, OSError, ValueError):
        return ""
    name = found.qualname.rpartition(".")[2]
    return next(
        (line.strip() for line in lines if line.lstrip().startswith((f"def {name}(", f"async def {name}("))), ""
    )


def _names(failed: _Failed) -> dict[str, Sequence[str]]:
    return {
        "Inputs of the plan": list(failed.plan.inputs),
        "Steps of the plan": [f"{step.id} ({step.kind.value})" for step in failed.plan.steps],
    }

"""The JSON shapes of `show` and `runs`, which other programs rely on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from stepchain_tui.cli.revisions import revision_records
from stepchain_tui.run import Kept, RunState, StepState
from stepchain_tui.run.budgets import RUN, BudgetAnswers, run_limits
from stepchain_tui.run.spending import usage_record
from stepchain_tui.run.step_state import AttemptState
from stepchain_tui.store import RunSummary, SQLiteStore
from stepchain_tui.store.blobs import FileBlobs

Record = dict[str, Any]


async def outputs_of(store: SQLiteStore, state: RunState, *, whole: bool) -> Record:
    """Return step id -> output; a large one as `{"file", "sha256", "bytes", "preview"}` unless `whole`."""
    outputs: Record = {}
    files = FileBlobs(store.folder, sync=False) if store.folder is not None else None
    for step in state.steps.values():
        kept = step.output
        if kept is None or kept.blob is None:
            outputs[step.id] = None if kept is None else kept.value
        elif whole or files is None:
            outputs[step.id] = await store.load_value(kept)
        else:
            blob = kept.blob
            outputs[step.id] = {
                "file": str(files.path(blob.sha256)),
                "sha256": blob.sha256,
                "bytes": blob.bytes,
                "preview": blob.preview,
            }
    return outputs


def run_record(
    state: RunState, summary: RunSummary, outputs: Mapping[str, Any], children: Iterable[RunSummary]
) -> Record:
    """Return a run as `show --json` prints it."""
    return {
        "run_id": state.run_id,
        "status": summary.shown_status,
        "goal": state.goal,
        "plan_path": state.plan_path,
        "revision": state.revision,
        "revisions": revision_records(state),
        "parent_run_id": state.parent_run_id,
        "parent_step_id": state.parent_step_id,
        "replay_of": state.replay_of or None,
        "children": [child.run_id for child in children],
        "reason": state.reason,
        "inputs": state.inputs,
        "created_at": state.created_at,
        "started_at": state.started_at,
        "finished_at": state.finished_at,
        "steps": [step_record(step, outputs.get(step.id)) for step in state.steps.values()],
        "usage": usage_record(state.usage),
        "budget": _budget_record(state),
    }


def _budget_record(state: RunState) -> Record | None:
    """Return what the run may spend as it holds now, with what persons added; None where it has no budget."""
    if not state.plan.get("budget"):
        return None
    limits, said = run_limits(state), state.budgets.get(RUN, BudgetAnswers())
    return {"usd": limits.usd, "tokens": limits.tokens, "lifted": said.lifted, "model": said.model or None}


def step_record(step: StepState, output: Any) -> Record:
    """Return a step as `show --json` prints it; `error` is also why it was skipped, blocked or cancelled."""
    return {
        "id": step.id,
        "name": step.outline.name or None,
        "kind": step.outline.kind,
        "status": step.status,
        "marks": sorted(step.marks),
        "breakpoint": step.breakpoint or None,
        "origin": step.origin or None,
        "part_of": step.outline.part_of or None,
        "waiting": _waiting_record(step),
        "attempts": [attempt_record(attempt) for attempt in step.attempts.values()],
        "output": output,
        "error": _error_of(step),
        "error_type": step.error.error_type if step.error else None,
        "started_at": step.started_at,
        "finished_at": step.finished_at,
        "usage": usage_record(step.usage) if step.usage is not None else None,
    }


def _waiting_record(step: StepState) -> Record | None:
    waiting = step.waiting
    if waiting is None:
        return None
    return {
        "reason": waiting.reason,
        "question": waiting.question,
        "place": waiting.place or None,
        "input": _shown(waiting.input),
        "fields": waiting.fields,
        "deadline": waiting.deadline,
    }


def _shown(kept: Kept | None) -> Any:
    """Return a value, or of a large one what is known without its file."""
    if kept is None or kept.blob is None:
        return None if kept is None else kept.value
    return {"sha256": kept.blob.sha256, "bytes": kept.blob.bytes, "preview": kept.blob.preview}


def _error_of(step: StepState) -> str | None:
    if step.error is not None:
        return step.error.message
    return (step.reason or None) if step.ended and step.status != "succeeded" else None


def attempt_record(attempt: AttemptState) -> Record:
    """Return an attempt as `show --json` prints it."""
    return {
        "n": attempt.n,
        "item": attempt.item,
        "status": attempt.status,
        "error": attempt.error.message if attempt.error else attempt.reason or None,
        "error_type": attempt.error.error_type if attempt.error else None,
        "started_at": attempt.started_at,
        "finished_at": attempt.finished_at,
        "usage": usage_record(attempt.usage) if attempt.usage is not None else None,
    }


def summary_record(run: RunSummary) -> Record:
    """Return a run as `runs --json` prints it."""
    return {
        "run_id": run.run_id,
        "status": run.shown_status,
        "goal": run.goal,
        "plan_path": run.plan_path,
        "parent_run_id": run.parent_run_id,
        "parent_step_id": run.parent_step_id,
        "created_at": run.created_at,
        "finished_at": run.finished_at,
        "steps_total": run.steps_total,
        "steps_done": run.steps_done,
        "steps_failed": run.steps_failed,
        "usage": {
            "turns": run.turns,
            "input_tokens": run.input_tokens or None,
            "output_tokens": run.output_tokens or None,
            "cost": round(run.cost, 10) if run.cost_is_known else None,
            "unpriced_turns": run.unpriced_turns,
        },
    }

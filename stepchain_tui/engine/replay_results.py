"""Results of a recording that no attempt of a replay would give: they are taken over before anything runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stepchain_tui.engine.graph import graph_of
from stepchain_tui.engine.readiness import Verdict, decide
from stepchain_tui.engine.recorder import Journal
from stepchain_tui.engine.recording import Recorded, Recording
from stepchain_tui.engine.replay_definitions import definition_changes
from stepchain_tui.engine.revision import close_parts
from stepchain_tui.engine.source import RunSource
from stepchain_tui.plan import TriggerRule
from stepchain_tui.run import events as e


def take_over_results(journal: Journal, source: RunSource) -> None:
    """Take over, into a new replay, the results that carrying the plan out would not come to again.

    They were set by hand, pinned or taken over, or the steps before them got another result since. It is done before
    anything runs, as such a result may stand where the steps before it have none.
    """
    recording, state = source.recording, journal.state
    assert recording is not None
    rules = graph_of(recording.source, recording.state).rules
    for step_id in list(state.steps):
        recorded = recording.step(step_id)
        if recorded is None or recorded.end is None or definition_changes(recording, source.definition(step_id)):
            continue
        if recorded.by_hand or not _follows_from_its_parents(recording, step_id, recorded, rules):
            _take_over(journal, recording, recorded.end)
    close_parts(journal, graph_of(source, state), "was taken over without it")


def _follows_from_its_parents(
    recording: Recording, step_id: str, recorded: Recorded, rules: Mapping[str, TriggerRule]
) -> bool:
    """Return whether a step ran, or did not, as the results of the steps before it say now."""
    steps = recording.state.steps
    parents = [steps[parent] for parent in steps[step_id].outline.parents if parent in steps]
    verdict = decide(rules.get(step_id, TriggerRule.ALL_SUCCESS), parents).verdict
    match recorded.end:
        case e.StepBlocked():
            return verdict is Verdict.BLOCK
        case e.StepSkipped(cause=cause) if cause:
            return verdict is Verdict.SKIP
        case _:
            return verdict is Verdict.READY


def _take_over(journal: Journal, recording: Recording, end: Any) -> None:
    """Record a result of the recording as one that no attempt of this run gave."""
    step_id = end.step_id
    match end:
        case e.StepSucceeded():
            made_here = f"{recording.run_id}/{step_id}" if end.attempt else ""
            facts = {"by": end.by, "origin": end.origin or made_here, "content_hash": end.content_hash}
            journal.emit(e.StepSucceeded, step_id=step_id, attempt=0, output=end.output, **facts)
        case e.StepFailed() | e.StepTimedOut():
            output = end.output if isinstance(end, e.StepFailed) else None
            journal.emit(e.StepFailed, step_id=step_id, attempt=0, error=end.error, output=output)
        case e.StepSkipped():
            journal.emit(e.StepSkipped, step_id=step_id, reason=end.reason, cause=end.cause)
        case e.StepBlocked():
            journal.emit(e.StepBlocked, step_id=step_id, reason=end.reason, cause=end.cause)
        case e.StepCancelled():
            journal.emit(e.StepCancelled, step_id=step_id, reason=end.reason)

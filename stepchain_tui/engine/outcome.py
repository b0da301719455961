"""How a run ended, from how its steps did (rule 6)."""

from __future__ import annotations

from stepchain_tui.engine.readiness import UNSUCCESSFUL, is_failure
from stepchain_tui.run.state import RunState
from stepchain_tui.run.status import RunStatus, StepStatus


def run_outcome(state: RunState, cancelled: str | None = None) -> tuple[RunStatus, str]:
    """Return the status of a run whose steps have all ended, and the reason a person reads.

    It succeeded when every step of its plan succeeded, was skipped, or failed with `on_failure: continue`. The parts of
    a sub-plan count through the step that runs it: that may go on without them, or have a result by hand.

    Args:
        state: The run.
        cancelled: Why it was called off, or None.
    """
    if cancelled is not None:
        return RunStatus.CANCELLED, cancelled
    if not any(state.counts.get(status) for status in UNSUCCESSFUL):
        return RunStatus.SUCCEEDED, ""
    bad: dict[str, None] = {}
    for step in state.steps.values():  # a sub-plan's step comes before its parts
        counts = not step.outline.part_of or step.outline.part_of in bad
        if counts and is_failure(step):
            bad[step.id] = None
    if not bad:
        return RunStatus.SUCCEEDED, ""
    first = [step_id for step_id in bad if state.steps[step_id].status is not StepStatus.BLOCKED] or list(bad)
    words = {step_id: state.steps[step_id].status.value.replace("_", " ") for step_id in first}
    return RunStatus.FAILED, ", ".join(f"{step_id} {words[step_id]}" for step_id in first[:5])

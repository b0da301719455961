"""How a run ended, from how its steps did (rule 6)."""

from __future__ import annotations

from stepchain_tui.run.state import RunState
from stepchain_tui.run.status import RunStatus, StepStatus

_UNSUCCESSFUL = (StepStatus.FAILED, StepStatus.TIMED_OUT, StepStatus.CANCELLED, StepStatus.BLOCKED)


def run_outcome(state: RunState, cancelled: str | None = None) -> tuple[RunStatus, str]:
    """Return the status of a run whose steps have all ended, and the reason a person reads.

    It succeeded when every step succeeded, was skipped, or failed with `on_failure: continue`.

    Args:
        state: The run.
        cancelled: Why it was called off, or None.
    """
    if cancelled is not None:
        return RunStatus.CANCELLED, cancelled
    if not any(state.counts.get(status) for status in _UNSUCCESSFUL):
        return RunStatus.SUCCEEDED, ""
    bad = [
        step.id
        for step in state.steps.values()
        if step.status in _UNSUCCESSFUL
        and not (step.outline.continues and step.status in (StepStatus.FAILED, StepStatus.TIMED_OUT))
    ]
    if not bad:
        return RunStatus.SUCCEEDED, ""
    first = [step_id for step_id in bad if state.steps[step_id].status is not StepStatus.BLOCKED] or bad
    words = {step_id: state.steps[step_id].status.value.replace("_", " ") for step_id in first}
    return RunStatus.FAILED, ", ".join(f"{step_id} {words[step_id]}" for step_id in first[:5])

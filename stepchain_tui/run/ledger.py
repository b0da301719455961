"""The ledger of effects: a key for what a step does, the same as long as it is the same that is wanted.

Who makes an effect passes the key on (`ctx.idempotency_key`, `STEPCHAIN_IDEMPOTENCY_KEY`), so that the other side can
tell a second try from a second wish. It is the same over retries, interruptions and resumes, and another one after a
rerun, an edit or a fresh start: then the effect is wanted again.
"""

from __future__ import annotations

from stepchain_tui.run.step_state import StepState

KEY_LENGTH = 8
"""Hex digits of an item's content in its key: an item that moves within its list is another one."""


def idempotency_key(run_id: str, step: StepState, item: int | None = None) -> str:
    """Return the key of what a step, or one item of it, does: `RUN:STEP`, `RUN:STEP:2-1f0e9c3a`, `RUN:STEP#1`.

    Args:
        run_id: The run.
        step: The step.
        item: Index of the map's item, or None.
    """
    key = f"{run_id}:{step.outline.id}"
    if item is not None:
        content = step.items[item].key[:KEY_LENGTH] if step.items else ""
        key = f"{key}:{item}-{content}"
    return f"{key}#{step.generation}" if step.generation else key

"""Whether steps say the same of what they do as when they were recorded."""

from __future__ import annotations

from typing import Any

from pydantic_core import to_jsonable_python

from stepchain_tui.core.values import to_json_value
from stepchain_tui.engine.recording import Recording
from stepchain_tui.engine.replay_differences import Change, value_changes
from stepchain_tui.engine.source import Definition
from stepchain_tui.plan import ActionKind
from stepchain_tui.plan.hashing import HASHED_KEYS
from stepchain_tui.plan.models import ACTION_KEYS
from stepchain_tui.plan.shared import called_entry

_EVALUATED = frozenset(("when", "for_each", "batch", *ACTION_KEYS, "args", "system", "model", "request", "env"))
"""Keys that say what a step does and that are really evaluated: what comes of them is compared."""
_COMPARED = frozenset(HASHED_KEYS) - _EVALUATED
"""Keys that say what a step does and that must be as they were."""
_MODEL_DEFAULTS = ("temperature", "max_output_tokens", "reasoning")
_TALKS = (ActionKind.PROMPT, ActionKind.AGENT)


def definition_changes(recording: Recording, definition: Definition) -> list[Change]:
    """Return where a step says otherwise what it does than it was recorded, besides what its input shows."""
    then = definition_then(recording, definition.step.id)
    return [] if then is None else value_changes(_said(then), _said(definition))


def definition_then(recording: Recording, step_id: str) -> Definition | None:
    """Return what a step of the recorded run was to do, None where that has no such step."""
    try:
        return recording.source.definition(step_id)
    except KeyError:
        return None


def _said(definition: Definition) -> dict[str, Any]:
    """Return what a step says of what it does besides what its input shows, as a JSON value."""
    step, plan = definition.step, definition.plan
    found: dict[str, Any] = step.model_dump(
        mode="json",
        include=set(_COMPARED),
        exclude_unset=True,
        exclude_none=True,
        by_alias=True,
        fallback=to_json_value,
    )
    if step.kind in _TALKS:
        for key in _MODEL_DEFAULTS:
            if found.get(key) is None and (value := getattr(plan.defaults, key, None)) is not None:
                found[key] = to_json_value(value)
    entry = called_entry(step, plan)
    if entry is not None:
        found["entry"] = to_jsonable_python(entry, by_alias=True, exclude_none=True, fallback=to_json_value)
    return found

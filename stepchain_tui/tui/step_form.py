"""The form of one step: its keys as typed fields, and what was filled in as an edit of the plan's text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stepchain_tui.plan import InputSpec, Step

HELP = "An empty field leaves its key out. Lists, mappings and long texts are edited in the plan's text."
_OFFERED = ("name", "when", "timeout", "priority", "on_failure", "breakpoint")
"""Keys that have a field also where they are not written."""
_OFFERED_OF_KIND: Mapping[str, tuple[str, ...]] = {
    "function": ("mode",),
    "tool": ("mode",),
    "agent": ("request",),
    "python": ("engine",),
    "http": ("http.url", "http.method", "http.body", "http.expect_status", "http.save_to"),
    "db": ("db.url", "db.sql", "db.dynamodb"),
}
"""Keys that steps of one kind are offered too; those of a request are written `http.url`."""
_REQUESTS = ("http", "db")
"""Actions that are mappings: their keys are fields of their own."""
_NUMBERS = ("timeout", "temperature")
_WHOLE_NUMBERS = ("priority", "max_concurrent", "batch", "max_output_tokens", "max_turns", "http.expect_status")
_SWITCHES = ("optional", "fallback")
_LONGEST = 500
"""Characters of a text that is edited in one line."""


def fields_of(step: Step, folder: Path | None = None) -> tuple[dict[str, InputSpec], dict[str, Any]]:
    """Return the fields of a step and what stands in them: keys that are written, and those that often are. Blocking.

    Args:
        step: The step.
        folder: The plan's, whose files may add types of executors.
    """
    from stepchain_tui.plan import InputSpec

    written = _written(step)
    shown = [key for key, value in written.items() if _fits(key, value)]
    types = _executor_types(step, folder)
    offered = (*_OFFERED_OF_KIND.get(step.kind, ()), *(("executor",) if types else ()), *_OFFERED)
    specs = {}
    for key in dict.fromkeys((*shown, *(key for key in offered if key not in written))):
        specs[key] = InputSpec.model_validate({**_type_of(key, types), "default": None})
    return specs, {key: written[key] for key in shown}


def _written(step: Step) -> dict[str, Any]:
    """Return the keys of a step that are written, those of a request as `http.url`."""
    found: dict[str, Any] = step.model_dump(
        mode="json", exclude_unset=True, by_alias=True, exclude={"id"}, fallback=str
    )
    written: dict[str, Any] = {}
    for key, value in found.items():
        parts = value if key in _REQUESTS and isinstance(value, dict) else None
        written.update({key: value} if parts is None else {f"{key}.{name}": part for name, part in parts.items()})
    return written


def _executor_types(step: Step, folder: Path | None) -> list[str]:
    """Return what `executor:` may name for a step; what is written is there also where nobody knows it."""
    from stepchain_tui.plan import ActionKind
    from stepchain_tui.plan.executor_types import known_executor_types

    if step.kind in (ActionKind.PLAN, ActionKind.APPROVE):
        return []
    return list(dict.fromkeys((*known_executor_types(step.kind, folder), step.executor)))


def _fits(key: str, value: Any) -> bool:
    if key in _NUMBERS or key in _WHOLE_NUMBERS:
        return isinstance(value, int | float)
    if isinstance(value, bool):
        return key in _SWITCHES
    return isinstance(value, str) and "\n" not in value and len(value) <= _LONGEST


def _type_of(key: str, executor_types: Sequence[str]) -> dict[str, Any]:
    from stepchain_tui.plan import BreakpointPlace, Mode, OnFailure, OnInterrupt, OnTimeout, PythonEngine, TriggerRule

    choices = {
        "on_failure": OnFailure,
        "breakpoint": BreakpointPlace,
        "trigger_rule": TriggerRule,
        "on_interrupt": OnInterrupt,
        "on_timeout": OnTimeout,
        "mode": Mode,
        "engine": PythonEngine,
    }
    if key == "executor":
        return {"type": "choice", "choices": list(executor_types)}
    if key in choices:
        return {"type": "choice", "choices": [choice.value for choice in choices[key]]}
    kinds = {**dict.fromkeys(_NUMBERS, "number"), **dict.fromkeys(_WHOLE_NUMBERS, "integer")}
    return {"type": "boolean" if key in _SWITCHES else kinds.get(key, "text")}


def fill_in(text: str, step: Step, given: Mapping[str, Any]) -> str:
    """Return a plan's text with the fields of a step as they were filled in; blocking.

    Raises:
        UsageError: The text cannot be read.
    """
    specs, before = fields_of(step)
    for key in specs:
        value = given.get(key)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if value is None and key in before:
            text = _without(text, step.id, key)
        elif value is not None and value != before.get(key):
            text = _with(text, step.id, key, value)
    return text


def _with(text: str, step_id: str, key: str, value: Any) -> str:
    from stepchain_tui.plan import edit_text, set_step_key

    action, _, name = key.partition(".")
    if not name:
        return set_step_key(text, step_id, key, value)
    return edit_text(text, step_id, lambda step: step[action].__setitem__(name, value))


def _without(text: str, step_id: str, key: str) -> str:
    from stepchain_tui.plan import edit_text, remove_step_key

    action, _, name = key.partition(".")
    if not name:
        return remove_step_key(text, step_id, key)
    return edit_text(text, step_id, lambda step: step[action].pop(name, None))

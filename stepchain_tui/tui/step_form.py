"""The form of one step: its keys as typed fields, and what was filled in as an edit of the plan's text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stepchain_tui.plan import InputSpec, Step

HELP = "An empty field leaves its key out. Lists, mappings and long texts are edited in the plan's text."
_OFFERED = ("name", "when", "timeout", "priority", "on_failure", "breakpoint")
"""Keys that have a field also where they are not written."""
_NUMBERS = ("timeout", "temperature")
_WHOLE_NUMBERS = ("priority", "max_concurrent", "batch", "max_output_tokens", "max_turns")
_SWITCHES = ("optional", "fallback")
_LONGEST = 500
"""Characters of a text that is edited in one line."""


def fields_of(step: Step) -> tuple[dict[str, InputSpec], dict[str, Any]]:
    """Return the fields of a step and what stands in them: keys that are written, and those that often are."""
    from stepchain_tui.plan import InputSpec

    written = _written(step)
    shown = [key for key, value in written.items() if _fits(key, value)]
    specs = {}
    for key in dict.fromkeys((*shown, *(key for key in _OFFERED if key not in written))):
        specs[key] = InputSpec.model_validate({**_type_of(key), "default": None})
    return specs, {key: written[key] for key in shown}


def _written(step: Step) -> dict[str, Any]:
    found: dict[str, Any] = step.model_dump(
        mode="json", exclude_unset=True, by_alias=True, exclude={"id"}, fallback=str
    )
    return found


def _fits(key: str, value: Any) -> bool:
    if key in _NUMBERS or key in _WHOLE_NUMBERS:
        return isinstance(value, int | float)
    if isinstance(value, bool):
        return key in _SWITCHES
    return isinstance(value, str) and "\n" not in value and len(value) <= _LONGEST


def _type_of(key: str) -> dict[str, Any]:
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
    if key in choices:
        return {"type": "choice", "choices": [choice.value for choice in choices[key]]}
    kinds = {**dict.fromkeys(_NUMBERS, "number"), **dict.fromkeys(_WHOLE_NUMBERS, "integer")}
    return {"type": "boolean" if key in _SWITCHES else kinds.get(key, "text")}


def fill_in(text: str, step: Step, given: Mapping[str, Any]) -> str:
    """Return a plan's text with the fields of a step as they were filled in; blocking.

    Raises:
        UsageError: The text cannot be read.
    """
    from stepchain_tui.plan import remove_step_key, set_step_key

    specs, before = fields_of(step)
    for key in specs:
        value = given.get(key)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if value is None and key in before:
            text = remove_step_key(text, step.id, key)
        elif value is not None and value != before.get(key):
            text = set_step_key(text, step.id, key, value)
    return text

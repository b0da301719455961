"""What can be wrong with one step by itself: keys that do not fit its action, places it cannot run in, files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stepchain_tui.plan.expression_values import suggest
from stepchain_tui.plan.functions import function_mistake
from stepchain_tui.plan.input_values import spec_mistakes
from stepchain_tui.plan.kinds import ActionKind, Mode
from stepchain_tui.plan.models import ACTION_KEYS, MODES, Step, action_problem
from stepchain_tui.plan.problems import Mistake

_FITS: dict[str, tuple[str, ...]] = {
    "args": ("function", "tool", "python", "agent", "plan"),
    **dict.fromkeys(("system", "tools", "history"), ("prompt",)),
    **dict.fromkeys(("model", "temperature", "max_output_tokens", "reasoning", "replies"), ("prompt", "agent")),
    **dict.fromkeys(("max_turns", "expects", "budget"), ("prompt", "agent")),
    "require_approval": ("prompt", "agent", "tool"),
    "engine": ("python",),
    "request": ("agent",),
    "fields": ("approve",),
    "on_timeout": ("approve",),
    "fallback": ("function", "tool"),
    "env": ("shell", "function", "tool"),
    "cwd": ("shell", "function", "tool"),
    "secrets": ("shell", "function", "tool"),
    **dict.fromkeys(("executor", "retry", "limit"), tuple(key for key in ACTION_KEYS if key != "plan")),
    **dict.fromkeys(("cache", "on_interrupt"), tuple(key for key in ACTION_KEYS if key not in ("plan", "approve"))),
}
"""Keys that only some actions have."""
_PLAN_REASONS = {
    "retry": "its own steps are tried again, each by its own rule",
    "limit": "its own steps take the slots, each by its own rule",
}
_PROCESS_KEYS = ("env", "cwd", "secrets")
_ITEM_KEYS = ("max_concurrent", "batch")
_PYTHON_TEMPLATE = re.compile(r"\{\{\s*(?:steps|inputs|item|index|secrets|run)\b[^{}]*\}\}")


def action_of(step: dict[str, Any]) -> str | None:
    """Return the one action of a step in plain data, or None where it has none or several."""
    found = [key for key in ACTION_KEYS if step.get(key) is not None]
    return found[0] if len(found) == 1 else None


def step_mistakes(place: int, step: dict[str, Any], defaults: dict[str, Any], folder: Path | None) -> Iterator[Mistake]:
    """Yield the mistakes of one step in plain data; files are looked at where `folder` is given."""
    here = ("steps", place)
    found = [key for key in ACTION_KEYS if step.get(key) is not None]
    if len(found) != 1:
        if not found and any(suggest(key, ACTION_KEYS) for key in step if key not in Step.model_fields):
            return  # The key that was meant to be the action is reported, with the right word for it.
        yield Mistake(here, action_problem(found))
        return
    action = found[0]
    yield from _fit_mistakes(here, step, action)
    if step.get("for_each") is None:
        for key in _ITEM_KEYS:
            if step.get(key) is not None:
                yield Mistake((*here, key), f"'{key}' of a step needs 'for_each'", on_key=True)
    yield from _mode_mistakes(here, step, action, defaults)
    if action == "approve":
        yield from _approve_mistakes(here, step)
    elif action == "prompt":
        yield from _prompt_mistakes(here, step, defaults)
    elif action == "python" and isinstance(step["python"], str) and _PYTHON_TEMPLATE.search(step["python"]):
        yield Mistake(
            (*here, "python"), "python code is taken as it is: pass values through 'args' and use their names"
        )
    elif action == "plan" and isinstance(step["plan"], str) and not is_literal(step["plan"]):
        yield Mistake((*here, "plan"), "the file of a plan is written as it is: expressions are not read here")
    if folder is not None:
        yield from _file_mistakes(here, step, action, folder)


def is_literal(path: str) -> bool:
    """Return whether a path is written as it is, without expressions."""
    return "{{" not in path and "{%" not in path


def _fit_mistakes(here: tuple[str | int, ...], step: dict[str, Any], action: str) -> Iterator[Mistake]:
    for key, value in step.items():
        if value is None or key not in _FITS or action in _FITS[key] or (key == "cache" and value is False):
            continue
        if action == "plan" and key in _PLAN_REASONS:
            yield Mistake((*here, key), f"'{key}' is not for plan: {_PLAN_REASONS[key]}", on_key=True)
        else:
            fits = ", ".join(_FITS[key])
            yield Mistake((*here, key), f"'{key}' is for these steps: {fits}; not for {action}", on_key=True)


def _mode_mistakes(
    here: tuple[str | int, ...], step: dict[str, Any], action: str, defaults: dict[str, Any]
) -> Iterator[Mistake]:
    modes = MODES.get(ActionKind(action), ())
    mode, words = step.get("mode"), [known.value for known in modes]
    if mode is not None and mode in list(Mode) and mode not in modes:
        allowed = f"only: {', '.join(words)}" if words else "none"
        yield Mistake((*here, "mode"), f"mode '{mode}' does not fit {action} steps; they have {allowed}")
        return
    running = mode or (defaults.get("mode") if defaults.get("mode") in modes else None) or (words[0] if words else None)
    if running in ("thread", "inline"):
        for key in _PROCESS_KEYS:
            if step.get(key) and action in _FITS[key]:
                message = f"'{key}' needs a process of its own: write 'mode: process' (this step's mode is {running})"
                yield Mistake((*here, key), message, on_key=True)


def _approve_mistakes(here: tuple[str | int, ...], step: dict[str, Any]) -> Iterator[Mistake]:
    if step.get("on_timeout") is not None and step.get("timeout") is None:
        yield Mistake((*here, "on_timeout"), "'on_timeout' needs a 'timeout': without one a question waits for ever")
    fields = step.get("fields")
    for name, spec in fields.items() if isinstance(fields, dict) else ():
        yield from spec_mistakes((*here, "fields", name), spec)


def _prompt_mistakes(here: tuple[str | int, ...], step: dict[str, Any], defaults: dict[str, Any]) -> Iterator[Mistake]:
    model = step.get("model") or defaults.get("model")
    if step.get("replies") is not None and isinstance(model, str) and model != "scripted" and "{{" not in model:
        yield Mistake(
            (*here, "replies"), f"'replies' are the answers of 'model: scripted', not of '{model}'", on_key=True
        )


def _file_mistakes(here: tuple[str | int, ...], step: dict[str, Any], action: str, folder: Path) -> Iterator[Mistake]:
    if action == "function" and isinstance(step["function"], str):
        mistake = function_mistake((*here, "function"), step["function"], folder)
        if mistake is not None:
            yield mistake
    cwd = step.get("cwd")
    if isinstance(cwd, str) and cwd and "{{" not in cwd and not _is_folder(folder, cwd):
        yield Mistake((*here, "cwd"), f"there is no folder '{cwd}'")


def _is_folder(folder: Path, cwd: str) -> bool:
    try:
        return (folder / Path(cwd).expanduser()).is_dir()
    except (OSError, ValueError, RuntimeError):
        return False

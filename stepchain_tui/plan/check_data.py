"""What can be wrong within one plan as plain data, beyond the shape of its parts.

The data need not be a valid plan, so that all mistakes of a file are found at once. What lies between plan files is
checked by `check_subplans`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stepchain_tui.plan.check_calls import CallChecker
from stepchain_tui.plan.check_names import NameChecker
from stepchain_tui.plan.check_steps import step_mistakes
from stepchain_tui.plan.input_values import spec_mistakes
from stepchain_tui.plan.problems import Mistake


def find_mistakes(data: dict[str, Any], folder: Path | None) -> list[Mistake]:
    """Return every mistake in a plan as plain data, which need not have the shape of one."""
    return list(dict.fromkeys(_all(data, folder)))


def _all(data: dict[str, Any], folder: Path | None) -> Iterator[Mistake]:
    inputs, steps, defaults = data.get("inputs"), data.get("steps"), data.get("defaults")
    if isinstance(steps, list | tuple) and not steps:
        yield Mistake(("steps",), "a plan needs at least one step")
    for name, spec in inputs.items() if isinstance(inputs, dict) else ():
        yield from spec_mistakes(("inputs", name), spec)
    for place, step in enumerate(steps if isinstance(steps, list | tuple) else ()):
        if isinstance(step, dict):
            yield from step_mistakes(place, step, defaults if isinstance(defaults, dict) else {}, folder)
    yield from NameChecker(data).mistakes()
    yield from CallChecker(data, folder).mistakes()

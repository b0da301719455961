"""The inputs of a plan: what was given, checked and completed from the defaults."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stepchain_tui.core.errors import InputError, did_you_mean
from stepchain_tui.plan.input_values import coerce_input
from stepchain_tui.plan.kinds import InputType
from stepchain_tui.plan.models import InputSpec, Plan


def resolve_inputs(plan: Plan, given: Mapping[str, Any], base: Path, plan_folder: Path | None = None) -> dict[str, Any]:
    """Return the value of every input of `plan`, in the order of the plan.

    Args:
        plan: The plan whose inputs are asked for.
        given: Name to value, as typed (`--input k=v`) or as Python values.
        base: Where the command was typed; a path is relative to it.
        plan_folder: The folder of the plan's file; a default path that begins with `./` or `../` is relative to it.

    Raises:
        InputError: Names are unknown, values do not fit, or inputs without a default are missing; all of them named.
    """
    complaints, values, missing = [], {}, []
    for name in given:
        if name not in plan.inputs:
            known = ", ".join(plan.inputs) or "none"
            complaints.append(f"unknown input '{name}' ({did_you_mean(name, plan.inputs) or f'its inputs: {known}'})")
    for name, spec in plan.inputs.items():
        try:
            if name in given:
                values[name] = coerce_input(spec, given[name], base)
            elif spec.has_default:
                values[name] = _default_value(spec, base, plan_folder)
            else:
                missing.append(name)
        except ValueError as error:
            complaints.append(f"input '{name}': {error}")
    if missing:
        complaints.append(f"missing input{'s' if len(missing) > 1 else ''}: {', '.join(missing)}")
    if complaints:
        hint = " ".join(f"--input {name}={_example(plan.inputs[name])}" for name in missing)
        raise InputError("; ".join(complaints), hint=f"Give {hint}" if hint else "Give inputs as --input NAME=VALUE.")
    return values


def secret_inputs(plan: Plan) -> tuple[str, ...]:
    """Return the names of the inputs that are never stored."""
    return tuple(name for name, spec in plan.inputs.items() if spec.type is InputType.SECRET)


def _default_value(spec: InputSpec, base: Path, plan_folder: Path | None) -> Any:
    if spec.default is None:
        return None
    written_here = isinstance(spec.default, str) and spec.default.startswith(("./", "../"))
    return coerce_input(spec, spec.default, plan_folder if written_here and plan_folder is not None else base)


def _example(spec: InputSpec) -> str:
    if spec.type is InputType.CHOICE and spec.choices:
        return str(spec.choices[0])
    return spec.type.value.upper()

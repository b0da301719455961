"""Whether plain data has the shape of a plan: what pydantic finds, in our words and at our places."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ValidationError

from stepchain_tui.plan.expression_values import suggest
from stepchain_tui.plan.models import (
    AgentSpec,
    Budget,
    Defaults,
    HttpRequest,
    InputSpec,
    McpServerSpec,
    ModelSpec,
    Plan,
    RetrySettings,
    Step,
)
from stepchain_tui.plan.problems import Location, Mistake, shown

_EXPECTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "finite_number": "a finite number",
    "function_type": "a function, such as './file.py:name' or 'package.module:name'",
}
_OWNERS: dict[str, type[BaseModel]] = {
    "retry": RetrySettings,
    "defaults": Defaults,
    "budget": Budget,
    "http": HttpRequest,
}
_MEMBERS: dict[str, type[BaseModel]] = {
    "steps": Step,
    "inputs": InputSpec,
    "fields": InputSpec,
    "mcp_servers": McpServerSpec,
    "agents": AgentSpec,
    "models": ModelSpec,
}


def validate(data: Any) -> tuple[Plan | None, list[Mistake]]:
    """Return the plan in `data`, or None and every way in which its shape is not a plan's."""
    if not isinstance(data, dict):
        return None, [Mistake((), f"a plan is a mapping with the key 'steps', not {shown(data)}")]
    try:
        return Plan.model_validate(data), []
    except ValidationError as error:
        return None, list(_mistakes(data, error))


def known_keys(location: Location) -> list[str]:
    """Return the keys that a mapping at `location` may have."""
    model: type[BaseModel] = Plan
    if location and isinstance(location[-1], str) and location[-1] in _OWNERS:
        model = _OWNERS[location[-1]]
    elif len(location) > 1 and str(location[-2]) in _MEMBERS:
        model = _MEMBERS[str(location[-2])]
    return [field.alias or name for name, field in model.model_fields.items()]


def _mistakes(data: Any, error: ValidationError) -> Iterator[Mistake]:
    expected: dict[Location, tuple[list[str], Any]] = {}
    for detail in error.errors(include_url=False, include_context=True):
        kind, found = detail["type"], detail["input"]
        if kind == "actions":
            continue
        if kind == "extra_forbidden":
            location = _real(data, detail["loc"])
            yield Mistake(location, f"unknown key '{location[-1]}'", _closest_key(location), on_key=True)
        elif kind == "missing":
            yield Mistake(_real(data, detail["loc"][:-1]), f"key '{detail['loc'][-1]}' is missing")
        elif kind in _EXPECTED:
            location = _real(data, detail["loc"])
            words, _ = expected.setdefault(location, ([], found))
            if _EXPECTED[kind] not in words:
                words.append(_EXPECTED[kind])
        else:
            yield _other(_real(data, detail["loc"]), kind, found, detail, on_key=detail["loc"][-1:] == ("[key]",))
    for location, (words, found) in expected.items():
        yield Mistake(location, f"expected {' or '.join(words)}, got {shown(found)}")


def _other(location: Location, kind: str, found: Any, detail: Any, *, on_key: bool) -> Mistake:
    context = detail.get("ctx", {})
    if kind == "enum":
        words = str(context.get("expected", "")).replace("'", "").replace(" or ", ", ").split(", ")
        message = f"unknown word {shown(found)}, expected one of: {', '.join(words)}"
        return Mistake(location, message, suggest(str(found), words))
    if kind == "string_pattern_mismatch":
        message = f"{shown(found)} is not a name: use letters, digits and _, not a digit first"
        return Mistake(location, message, on_key=on_key)
    if kind in ("string_too_short", "too_short"):
        return Mistake(location, "must not be empty")
    if kind.startswith(("greater_than", "less_than")):
        word = {"greater_than": "more than", "greater_than_equal": "at least", "less_than": "less than"}
        limit = context.get("ge", context.get("gt", context.get("le", context.get("lt"))))
        return Mistake(location, f"must be {word.get(kind, 'at most')} {limit:g}, got {shown(found)}")
    return Mistake(location, str(detail["msg"]))


def _closest_key(location: Location) -> str:
    return suggest(str(location[-1]), known_keys(location[:-1]))


def _real(data: Any, location: Location) -> Location:
    """Return `location` without the names that pydantic gives to the members of a union."""
    node, real = data, list[str | int]()
    for part in location:
        if isinstance(node, dict):
            inside = part in node
        else:
            inside = isinstance(node, list | tuple) and isinstance(part, int) and part < len(node)
        if inside:
            node = node[part]
            real.append(part)
    return tuple(real)

"""The JSON schema of plan files, for editors and for models that write plans."""

from __future__ import annotations

import json
from typing import Any

from stepchain_tui.plan.models import ACTION_KEYS, Plan


def plan_schema() -> dict[str, Any]:
    """Return the JSON schema (2020-12) of a plan file."""
    schema = Plan.model_json_schema(mode="validation")
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "StepChain plan",
        "description": "A graph of steps, in YAML or JSON.",
        **{key: value for key, value in schema.items() if key not in ("title", "description")},
    }
    step = schema["$defs"]["Step"]
    step["oneOf"] = [{"required": [key]} for key in ACTION_KEYS]
    _describe(step["properties"]["require_approval"], "Whether a person is asked before a tool is called.")
    cleaned: dict[str, Any] = _without_titles(schema, is_names=False)
    return cleaned


def schema_text() -> str:
    """Return the schema as the text of `docs/plan-schema.json`."""
    return json.dumps(plan_schema(), indent=2, ensure_ascii=False) + "\n"


def _describe(entry: dict[str, Any], text: str) -> None:
    known = entry.get("description")
    entry["description"] = f"{known} {text}" if known else text


def _without_titles(value: Any, *, is_names: bool) -> Any:
    """Return the schema without pydantic's titles, which only repeat the keys; `is_names`: the keys are the user's."""
    if isinstance(value, dict):
        return {
            key: _without_titles(item, is_names=not is_names and key in ("properties", "$defs"))
            for key, item in value.items()
            if is_names or key != "title" or item == "StepChain plan"
        }
    return [_without_titles(item, is_names=False) for item in value] if isinstance(value, list) else value

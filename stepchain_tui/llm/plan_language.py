"""The language of plans as a model is told it: made from the plan room's own models, so that it cannot drift.

Only a part of the language is told, so that the question stays short; the rest stays valid. What is in `FORBIDDEN_*`
is never for a model to write: it starts programs, names secrets, or says where keys and contents are sent.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

from stepchain_tui.plan import ACTION_KEYS, ActionKind, plan_schema
from stepchain_tui.plan.expression_filters import FILTER_NAMES

FORBIDDEN_PLAN_KEYS = frozenset(("mcp_servers", "models", "secrets", "cluster", "trace", "tools"))
FORBIDDEN_STEP_KEYS = frozenset(("executor", "secrets", "env", "replies", "model"))
_UNTOLD_PLAN_KEYS = frozenset(("agents", "budget", "limits", "max_concurrent"))
_UNTOLD_STEP_KEYS = frozenset(
    (
        "agent",
        "request",
        "name",
        "tags",
        "priority",
        "mode",
        "limit",
        "batch",
        "cache",
        "optional",
        "breakpoint",
        "budget",
        "fallback",
        "on_interrupt",
        "system",
        "temperature",
        "max_output_tokens",
        "reasoning",
        "max_turns",
        "history",
        "engine",
        "on_timeout",
        "cwd",
        "trigger_rule",
        "max_concurrent",
    )
)
MEANINGS: Mapping[str, str] = {
    "goal": "what the plan is for, one line",
    "inputs": "values a person is asked for before the start; read as {{ inputs.NAME }}",
    "defaults": "timeout and retry for all steps",
    "steps": "the steps",
    "id": "letters, digits, _; not beginning with a digit",
    "description": "one line: what the step is for",
    "dependencies": "ids of steps that come first; steps used in expressions are added by themselves",
    "prompt": "asks a model; may hold expressions",
    "function": "./file.py:name or package.module:name of code that EXISTS; with `args`",
    "tool": "the name of a listed tool, or server.tool; with `args`",
    "python": "a few lines of sandboxed Python without imports; its value is the last expression; `args` become names",
    "shell": "a command line; write {{ value | quote }} for values in it",
    "http": "a request",
    "db": "a statement: {url, sql, params}; values only by :name in params",
    "plan": "another plan's file that EXISTS; with `args` as its inputs",
    "approve": "a question to a person; the run waits for the answer",
    "args": "arguments by name, for function, tool, python, plan",
    "when": "an expression; the step is skipped where it is not true",
    "on_failure": "continue: what follows goes on although the step failed",
    "retry": "how often to try",
    "timeout": "seconds for one try",
    "for_each": "an expression that gives a list: the action is done for each, as {{ item }} and {{ index }}",
    "expects": "JSON schema of a prompt's answer: its output is then that value, not text",
    "tools": "for prompt: names of listed tools that the model may call",
    "require_approval": "true: a person is asked before a tool is called",
    "fields": "for approve: name -> as an input; the answers",
}
"""What the keys mean that a model is told of."""
OUTPUTS: Mapping[ActionKind, str] = {
    ActionKind.PROMPT: "text, or the value of `expects`",
    ActionKind.FUNCTION: "what it returns",
    ActionKind.TOOL: "what it returns",
    ActionKind.PYTHON: "the value of the last expression",
    ActionKind.SHELL: "{stdout, stderr, exit_code}",
    ActionKind.HTTP: "{status, headers, body}",
    ActionKind.DB: "{rows, rowcount}",
    ActionKind.PLAN: "{step id: output}",
    ActionKind.APPROVE: "{approved, fields}",
}
"""What `steps.ID.output` is, by kind."""
EXAMPLE: Mapping[str, Any] = {
    "goal": "Tell how large the Python files of a folder are",
    "inputs": {"folder": {"type": "path", "default": ".", "description": "the folder"}},
    "steps": [
        {"id": "list", "description": "the files", "shell": "find {{ inputs.folder | quote }} -name '*.py'"},
        {
            "id": "measure",
            "description": "lines of each file",
            "for_each": "{{ steps.list.output.stdout | lines }}",
            "shell": "wc -l < {{ item | quote }}",
        },
        {
            "id": "report",
            "description": "what stands out",
            "prompt": "Say in three sentences what stands out: {{ steps.measure.output }}",
        },
    ],
    "notes": ["find and wc are taken to be there"],
}
"""A plan as a model is shown one."""


@cache
def language() -> str:
    """Return the language of plans in about 900 words: keys with their types, expressions, outputs, an example."""
    schema = plan_schema()
    definitions = schema["$defs"]
    step = definitions["Step"]["properties"]
    told = {key: step[key] for key in step if key not in _UNTOLD_STEP_KEYS | FORBIDDEN_STEP_KEYS}
    actions = {key: told.pop(key) for key in ACTION_KEYS if key in told}
    own = {key: one for key, one in schema["properties"].items() if key not in _UNTOLD_PLAN_KEYS | FORBIDDEN_PLAN_KEYS}
    lines = ["Keys of a plan:", *_lines(own, definitions)]
    lines += ["", "A step has an id and exactly one of these actions:", *_lines(actions, definitions)]
    lines += ["", "Further keys of a step:", *_lines(told, definitions)]
    lines += ["", "Output of a step, read by others as {{ steps.ID.output }}:"]
    lines += [f"- {kind.value}: {text}" for kind, text in OUTPUTS.items()]
    lines += [
        "",
        "Expressions stand in {{ }}: names, .key, [index], comparison, and/or/not, + - * / on numbers, ~ to join "
        "texts, `a if b else c`, literals, and filters by |. No calls, no methods, no {% %}. Alone in a text an "
        "expression keeps its type. A step that reads another's output waits for it.",
        f"Filters: {' '.join(sorted(FILTER_NAMES))}.",
        "",
        "Example of a whole answer:",
        json.dumps(EXAMPLE),
    ]
    return "\n".join(lines)


def _lines(properties: Mapping[str, Any], definitions: Mapping[str, Any]) -> list[str]:
    return [f"- {key} ({_type(one, definitions)}): {MEANINGS[key]}" for key, one in properties.items()]


def _type(schema: Mapping[str, Any], definitions: Mapping[str, Any], depth: int = 0) -> str:
    """Return what a value may be, in a few words."""
    if "$ref" in schema:
        return _type(definitions[str(schema["$ref"]).rpartition("/")[2]], definitions, depth)
    if "enum" in schema:
        return " | ".join(str(choice) for choice in schema["enum"])
    if "anyOf" in schema:
        return " | ".join(
            dict.fromkeys(_type(one, definitions, depth) for one in schema["anyOf"] if one.get("type") != "null")
        )
    kind = schema.get("type")
    if kind == "array":
        item = _type(schema.get("items", {}), definitions, depth + 1)
        return f"list of ({item})" if " | " in item else f"list of {item}"
    if kind == "object":
        return _mapping(schema, definitions, depth)
    if isinstance(kind, list):
        return " | ".join(_WORDS.get(str(one), str(one)) for one in kind)
    return _WORDS.get(str(kind), "any value")


def _mapping(schema: Mapping[str, Any], definitions: Mapping[str, Any], depth: int) -> str:
    if (keys := schema.get("properties")) is not None:
        if "id" in keys:
            return "step"
        return "{" + ", ".join(_key(key, one, definitions) for key, one in keys.items()) + "}"
    values = next(iter(schema.get("patternProperties", {}).values()), schema.get("additionalProperties"))
    if isinstance(values, Mapping) and not depth:
        return f"mapping of name to {_type(values, definitions, depth + 1)}"
    return "mapping"


def _key(key: str, schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """Return a key of a mapping, with its values where there are only a few."""
    target = definitions[str(schema["$ref"]).rpartition("/")[2]] if "$ref" in schema else schema
    return f"{key}: {_type(target, definitions, 1)}" if "enum" in target else key


_WORDS = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true | false"}

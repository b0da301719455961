"""What a step does, as a hash: equal hashes mean that a kept result is still the step's own.

Covers the action, its arguments as written, the conditions and the file of a function or of a plan in the plan; not
what a step is called, when it is tried again or how long it may take. The engine adds what the inputs and parents gave.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from pathlib import Path
from types import CodeType
from typing import Any

import msgspec

from stepchain_tui.core.errors import UsageError
from stepchain_tui.core.values import to_json_value
from stepchain_tui.plan.expressions import CHAIN_RESULT, walk_text
from stepchain_tui.plan.functions import function_location, module_file
from stepchain_tui.plan.models import ACTION_KEYS, Defaults, Plan, PlanModel, Step, function_reference
from stepchain_tui.plan.shared import called_entry, functions_behind
from stepchain_tui.plan.subplans import subplan_key

HASHED_KEYS = (
    *ACTION_KEYS,
    "args",
    "when",
    "for_each",
    "batch",
    "executor",
    "env",
    "cwd",
    "secrets",
    "system",
    "model",
    "temperature",
    "max_output_tokens",
    "reasoning",
    "tools",
    "history",
    "replies",
    "request",
    "engine",
    "fields",
    "expects",
)
"""The keys that say what a step does."""
_MODEL_KEYS = ("model", "temperature", "max_output_tokens", "reasoning")
_HASHED = frozenset(HASHED_KEYS)
_sorted_encoder = msgspec.json.Encoder(order="sorted")
_encoder = msgspec.json.Encoder(order="sorted")


class FileHashes:
    """Hashes of files and functions, each made once; keep one for all steps of one plan."""

    def __init__(self) -> None:
        self._files: dict[tuple[str, int, int], str] = {}
        self._references: dict[tuple[str, Path], str] = {}
        self._callables: dict[int, tuple[Callable[..., Any], str]] = {}

    def of_function(self, function: str | Callable[..., Any], folder: Path) -> str:
        """Return the hash of the code behind a function: its file's bytes, or a callable's compiled code.

        Where there is no such file the hash says so, and changes when the file appears.
        """
        if not isinstance(function, str):
            known = self._callables.get(id(function))
            if known is None:
                known = self._callables[id(function)] = (function, _callable_hash(function))
            return known[1]
        key = (function.rpartition(":")[0], folder)
        if key not in self._references:
            self._references[key] = self._of_reference(function, folder)
        return self._references[key]

    def of_subplan(self, step: Step, folder: Path) -> str:
        """Return the hash of the file that a `plan` step names."""
        try:
            return self.of_file(Path(subplan_key(step, folder)))
        except UsageError:
            return "not a path"

    def of_file(self, path: Path) -> str:
        """Return the hash of a file's bytes, or a word that no hash equals where it cannot be read."""
        try:
            status = path.stat()
            key = (str(path), status.st_mtime_ns, status.st_size)
            if key not in self._files:
                self._files[key] = hashlib.sha256(path.read_bytes()).hexdigest()
            return self._files[key]
        except (OSError, ValueError) as error:
            return f"unreadable: {type(error).__name__}"

    def _of_reference(self, reference: str, folder: Path) -> str:
        try:
            location = function_location(reference, folder)
        except UsageError:
            return "not a function"
        if location.kind == "file":
            return self.of_file(Path(location.source))
        path = module_file(location.source)
        return self.of_file(path) if path is not None else "no file"


def content_hash(
    step: Step,
    plan_folder: Path,
    *,
    defaults: Defaults | None = None,
    entry: Any = None,
    files: FileHashes | None = None,
) -> str:
    """Return the hash of what `step` does, 64 hex digits.

    Args:
        step: The step.
        plan_folder: What `./` in it is relative to.
        defaults: The plan's defaults, whose model settings a prompt step takes.
        entry: What the plan writes under the name of the tool or agent that the step calls, see `called_entry`.
        files: Hashes made before, for many steps of one plan; a fresh look at the files where it is not given.
    """
    values = step.__dict__
    facts = {key: values[key] for key in _HASHED & step.model_fields_set if values[key] is not None}
    if step.function is not None:
        facts["function"] = function_reference(step.function)
        facts["code"] = (files or FileHashes()).of_function(step.function, plan_folder)
    if entry is not None:
        facts["entry"] = entry
        if references := functions_behind(entry):
            looked_at = files or FileHashes()
            facts["code"] = "".join([looked_at.of_function(reference, plan_folder) for reference in references])
    if step.plan is not None:
        facts["code"] = (files or FileHashes()).of_subplan(step, plan_folder)
    if step.prompt is not None and defaults is not None:
        for key in _MODEL_KEYS:
            if facts.get(key) is None and (value := getattr(defaults, key)) is not None:
                facts[key] = value
    if step.dependencies and (step.args or step.request) and _uses_chain_result(step):
        facts["chain"] = step.dependencies[-1]
    plain = {key: _plain(value) for key, value in facts.items()}
    return hashlib.sha256(_sorted_encoder.encode(plain)).hexdigest()


def _uses_chain_result(step: Step) -> bool:
    return any(CHAIN_RESULT in text for _, text in walk_text([step.args, step.request]))


def _plain(value: Any) -> Any:
    return value if type(value) is str else to_json_value(_as_written(value))


def content_hashes(plan: Plan, plan_folder: Path) -> dict[str, str]:
    """Return the hash of every step of `plan` by id; each file is read once."""
    files = FileHashes()
    return {
        step.id: content_hash(step, plan_folder, defaults=plan.defaults, entry=called_entry(step, plan), files=files)
        for step in plan.steps
    }


def _as_written(value: Any) -> Any:
    """Return a part of a plan with the keys that were written, so that a key of a later release changes no hash."""
    if isinstance(value, dict):
        return {key: _as_written(item) for key, item in value.items()}
    return value.model_dump(exclude_unset=True, by_alias=True) if isinstance(value, PlanModel) else value


def _callable_hash(function: Callable[..., Any]) -> str:
    target = inspect.unwrap(getattr(function, "func", function))
    code = getattr(target, "__code__", None)
    text = repr(_code_facts(code)) if isinstance(code, CodeType) else function_reference(function)
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def _code_facts(code: CodeType) -> tuple[Any, ...]:
    constants = tuple(_code_facts(part) if isinstance(part, CodeType) else repr(part) for part in code.co_consts)
    return (code.co_code, code.co_names, code.co_varnames, constants)

"""Tools by name: registered from Python, described in a plan, or built in."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stepchain_tui.core.errors import UsageError, did_you_mean
from stepchain_tui.plan.tool_names import forget_tool, learn_tool
from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.status import ErrorType
from stepchain_tui.tools.functions import Function, load_function
from stepchain_tui.tools.types import CALL_MODES

if TYPE_CHECKING:
    from stepchain_tui.tools.schema import ToolSchema

BUILT_IN: Mapping[str, str] = {"python_code": "stepchain_tui.tools.python_code:python_code"}
"""The tools that are always there, by the references of their functions."""
TOOL_MODES = ("inline", *CALL_MODES)
_ENTRY_KEYS = ("function", "description", "mode", "timeout", "fallback")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")


class UnknownToolError(AttemptError, KeyError):
    """Signals a tool that nobody registered.

    Args:
        name: What was asked for.
        known: The names that there are.
    """

    def __init__(self, name: str, known: list[str]) -> None:
        if "." in name:
            message = f"there is no MCP server '{name.partition('.')[0]}' for the tool '{name}'"
            hint = "Name it under mcp_servers, in the plan or in the settings."
        else:
            message = f"there is no tool '{name}'"
            listed = f"There are: {', '.join(known[:20])}." if known else "Register it first."
            hint = did_you_mean(name, known) or listed
        super().__init__(message, error_type=ErrorType.USER_ERROR, hint=hint, exception="UnknownToolError")


@dataclass(frozen=True)
class Tool:
    """A function that a model or a step may call by name.

    Attributes:
        name: What it is called by.
        function: The function, or a reference to it: `./file.py:name` or `package.module:name`.
        description: What a model is told; the function's docstring where it is empty.
        mode: inline, thread or process; None for what the call says.
        timeout: Seconds that a call may run, None for what the call says.
        fallback: Whether a function that cannot be sent to a process runs in a thread instead; None for what the
            call says.
        folder: What `./` in a reference is relative to.
    """

    name: str
    function: Function | str
    description: str = ""
    mode: str | None = None
    timeout: float | None = None
    fallback: bool | None = None
    folder: Path | str = "/"

    def __post_init__(self) -> None:
        for field, (is_right, what, hint) in _CHECKS.items():
            value = getattr(self, field)
            if not is_right(value):
                meant = did_you_mean(str(value), TOOL_MODES) if field == "mode" else ""
                raise _wrong(self.name, field, what.format(value), meant or hint)

    def load(self) -> Function:
        """Return the function; a reference is loaded anew where its file changed.

        Raises:
            AttemptError: There is no such function, as a `user_error`.
        """
        return load_function(self.function, self.folder) if isinstance(self.function, str) else self.function

    @property
    def schema(self) -> ToolSchema:
        """What the function takes; raises `ToolSchemaError` where nobody could tell, and as `load` does."""
        from stepchain_tui.tools.schema import schema_of

        return schema_of(self.load())

    def for_model(self, *, strict: bool = True) -> dict[str, Any]:
        """Return the tool as the Responses API takes it; see `ToolSchema.for_model`."""
        return self.schema.for_model(name=self.name, description=self.description, strict=strict)


class ToolRegistry:
    """Tools by name. Safe from any thread.

    Args:
        built_in: Whether the tools that StepChain brings are there from the beginning.
        for_plans: Whether every plan of this process may call its tools; see `shared_tools`.
    """

    def __init__(self, *, built_in: bool = True, for_plans: bool = False) -> None:
        self._lock = threading.Lock()
        self._for_plans = for_plans
        self._tools: dict[str, Tool] = {}
        if built_in:
            self._tools = {name: Tool(name, reference) for name, reference in BUILT_IN.items()}

    @classmethod
    def of_plan(cls, entries: Mapping[str, Any], folder: Path | str) -> ToolRegistry:
        """Return the tools of a plan's `tools:` with those that are built in.

        Args:
            entries: Each a reference, the name of a shared tool, or a mapping of function, description, mode, timeout
                and fallback.
            folder: The plan's.

        Raises:
            UsageError: An entry is wrong; names the tool and the field.
        """
        registry = cls()
        for name, entry in entries.items():
            registry.add(tool_of_entry(name, entry, folder), replace=name in BUILT_IN)
        return registry

    def register(
        self,
        function: Function | str,
        *,
        name: str = "",
        description: str = "",
        mode: str | None = None,
        timeout: float | None = None,
        fallback: bool | None = None,
        folder: Path | str = "/",
        replace: bool = False,
    ) -> Tool:
        """Add a function as a tool and return the tool.

        Args:
            function: As `Tool.function`, and so the other arguments.
            name: What it is called by; the function's name if empty.
            description: What a model is told.
            mode: Where it runs.
            timeout: Seconds that a call may run.
            fallback: Whether it may run in a thread instead of a process.
            folder: What `./` in a reference is relative to.
            replace: Whether a tool of that name may be there already.

        Raises:
            UsageError: An argument is wrong, a tool of that name is there, or nobody could tell what the function
                takes (`ToolSchemaError`; a reference is looked at when it is first called).
        """
        found = name or (function.rpartition(":")[2] if isinstance(function, str) else _name_of(function))
        tool = Tool(found, function, description, mode, timeout, fallback, folder)
        if not isinstance(function, str):
            _ = tool.schema
        self.add(tool, replace=replace)
        return tool

    def add(self, tool: Tool, *, replace: bool = False) -> None:
        """Add a tool.

        Raises:
            UsageError: A tool of that name is there already and is not to be replaced.
        """
        with self._lock:
            if tool.name in self._tools and not replace:
                raise UsageError(f"there is a tool '{tool.name}' already", hint="Give another name, or replace=True.")
            self._tools[tool.name] = tool
            if self._for_plans:
                learn_tool(tool.name)

    def unregister(self, name: str) -> Tool:
        """Take a tool away and return it; calls of it that run go on, and a built-in one that it replaced is back.

        Raises:
            UnknownToolError: There is none of that name.
            UsageError: It is built in, and plans count on it.
        """
        with self._lock:
            tool = self._tools.get(name)
            if tool is None:
                raise self.unknown(name)
            if self._for_plans and name in BUILT_IN:
                if tool.function == BUILT_IN[name]:
                    raise UsageError(f"the tool '{name}' is built in and stays", hint="Nothing to do.")
                self._tools[name] = Tool(name, BUILT_IN[name])
                return tool
            del self._tools[name]
            if self._for_plans:
                forget_tool(name)
        return tool

    def get(self, name: str) -> Tool:
        """Return a tool.

        Raises:
            UnknownToolError: There is none of that name.
        """
        tool = self._tools.get(name)
        if tool is None:
            raise self.unknown(name)
        return tool

    def get_callable(self, name: str) -> Function | None:
        """Return the function of a tool, or None where there is no such tool: a resolver for `Executor`."""
        tool = self._tools.get(name)
        return None if tool is None else tool.load()

    def list(self) -> Sequence[Tool]:
        """Return all tools, by name."""
        with self._lock:
            return sorted(self._tools.values(), key=lambda tool: tool.name)

    def unknown(self, name: str) -> UnknownToolError:
        """Return the error for a name that no tool has, with what may have been meant."""
        return UnknownToolError(name, sorted(self._tools))

    def for_model(self, *, strict: bool = True) -> Sequence[dict[str, Any]]:
        """Return all tools as the Responses API takes them; see `ToolSchema.for_model`."""
        return [tool.for_model(strict=strict) for tool in self.list()]

    def __contains__(self, name: object) -> bool:
        return name in self._tools

    def __len__(self) -> int:
        return len(self._tools)

    def __iter__(self) -> Iterator[Tool]:
        return iter(self.list())


@cache
def shared_tools() -> ToolRegistry:
    """Return the tools that every plan of this process may call: those that are built in and those added here."""
    return ToolRegistry(for_plans=True)


def tool_of_entry(name: str, entry: Any, folder: Path | str) -> Tool:
    """Return the tool that an entry of a plan's `tools:` describes.

    Raises:
        UsageError: The entry is wrong; names the tool and the field.
    """
    if isinstance(entry, str):
        known = shared_tools()
        return replace(known.get(entry), name=name) if entry in known else Tool(name, entry, folder=folder)
    if not isinstance(entry, Mapping):
        hint = "Write './file.py:name', or a mapping with `function`."
        raise _wrong(name, "function", "is missing", hint)
    for key in entry:
        if key not in _ENTRY_KEYS:
            hint = did_you_mean(str(key), _ENTRY_KEYS) or f"It has: {', '.join(_ENTRY_KEYS)}."
            raise _wrong(name, str(key), "is no field of a tool", hint)
    function = entry.get("function")
    if not isinstance(function, str):
        raise _wrong(name, "function", "must be './file.py:name' or 'package.module:name'", "Name a function.")
    description = entry.get("description", "")
    if not isinstance(description, str):
        raise _wrong(name, "description", "must be text", "Say in a sentence what the tool does.")
    return Tool(
        name,
        function,
        description,
        mode=entry.get("mode"),
        timeout=entry.get("timeout"),
        fallback=entry.get("fallback"),
        folder=folder,
    )


def _is_timeout(value: Any) -> bool:
    return value is None or (type(value) in (int, float) and 0 < value < float("inf"))


_CHECKS: dict[str, tuple[Callable[[Any], bool], str, str]] = {
    "name": (
        lambda value: isinstance(value, str) and _NAME.fullmatch(value) is not None,
        "is no name for a tool",
        "Use up to 64 letters, digits, `_` and `-`.",
    ),
    "function": (
        lambda value: ":" in value if isinstance(value, str) else callable(value),
        "is no function",
        "Give a function, './file.py:name' or 'package.module:name'.",
    ),
    "mode": (
        lambda value: value is None or value in TOOL_MODES,
        "cannot be '{}'",
        f"Use one of: {', '.join(TOOL_MODES)}.",
    ),
    "timeout": (_is_timeout, "must be a number of seconds over 0", "Write timeout: 30."),
    "fallback": (
        lambda value: value is None or isinstance(value, bool),
        "must be true or false",
        "Write fallback: false to forbid it.",
    ),
}
"""For each field of a tool: what is right, what is said where it is not, and what to do."""


def _name_of(function: Any) -> str:
    found = getattr(function, "__name__", None) or type(function).__name__
    if not _NAME.fullmatch(found):
        raise UsageError(f"{found} needs a name to be a tool", hint="Write register(function, name='...').")
    return str(found)


def _wrong(name: Any, field: str, what: str, hint: str) -> UsageError:
    return UsageError(f"tool '{name}': {field} {what}", hint=hint)

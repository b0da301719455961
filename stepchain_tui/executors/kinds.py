"""The factories of all kinds of steps, each loaded when it is asked for."""

from __future__ import annotations

from importlib import import_module
from typing import cast

from stepchain_tui.core.errors import UsageError, did_you_mean
from stepchain_tui.executors.registry import ExecutorFactory
from stepchain_tui.plan.kinds import ActionKind

_FACTORIES: dict[str, str] = {
    ActionKind.FUNCTION: "FunctionExecutorFactory",
    ActionKind.TOOL: "ToolExecutorFactory",
    ActionKind.AGENT: "AgentExecutorFactory",
    ActionKind.PROMPT: "PromptExecutorFactory",
    ActionKind.PYTHON: "PythonExecutorFactory",
    ActionKind.SHELL: "ShellExecutorFactory",
    ActionKind.HTTP: "HttpExecutorFactory",
    ActionKind.DB: "DbExecutorFactory",
}


def kinds_with_executors() -> tuple[str, ...]:
    """Return the kinds of steps that executors carry out."""
    return tuple(str(kind) for kind in _FACTORIES)


def executor_factory(kind: str) -> type[ExecutorFactory]:
    """Return the factory of a kind of step.

    Raises:
        UsageError: No executor carries out such steps.
    """
    name = _FACTORIES.get(kind)
    if name is None:
        known = kinds_with_executors()
        hint = did_you_mean(kind, known) or f"There are: {', '.join(known)}."
        raise UsageError(f"no executor carries out '{kind}' steps", hint=hint)
    return cast("type[ExecutorFactory]", getattr(import_module(f"stepchain_tui.executors.{kind}"), name))

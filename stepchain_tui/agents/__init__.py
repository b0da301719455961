"""Agents written in Python: known by name, given a memory of their own, asked one turn at a time (document 001).

May import llm, tools, sandbox, resilience, run, plan and core. Names load on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stepchain_tui.agents.errors import AgentNotFoundError, HTTPError, SecurityError, ValidationError
    from stepchain_tui.agents.executor import StepExecutor
    from stepchain_tui.agents.formats import ResponseValidator, ValidationResult, validate_against_schema
    from stepchain_tui.agents.messages import AgentMemory, Message
    from stepchain_tui.agents.registry import AgentRegistry
    from stepchain_tui.agents.retry_config import RetryConfig
    from stepchain_tui.agents.steps import ErrorResult, ExecutionStep, StepType
    from stepchain_tui.agents.variants import CachedStepExecutor, MetricsStepExecutor, PooledStepExecutor
    from stepchain_tui.sandbox import Sandbox

_ROOM = "stepchain_tui.agents."
_MODULES = {
    "AgentMemory": _ROOM + "messages",
    "AgentNotFoundError": _ROOM + "errors",
    "AgentRegistry": _ROOM + "registry",
    "CachedStepExecutor": _ROOM + "variants",
    "ErrorResult": _ROOM + "steps",
    "ExecutionStep": _ROOM + "steps",
    "HTTPError": _ROOM + "errors",
    "Message": _ROOM + "messages",
    "MetricsStepExecutor": _ROOM + "variants",
    "PooledStepExecutor": _ROOM + "variants",
    "ResponseValidator": _ROOM + "formats",
    "RetryConfig": _ROOM + "retry_config",
    "Sandbox": "stepchain_tui.sandbox",
    "SecurityError": _ROOM + "errors",
    "StepExecutor": _ROOM + "executor",
    "StepType": _ROOM + "steps",
    "ValidationError": _ROOM + "errors",
    "ValidationResult": _ROOM + "formats",
    "validate_against_schema": _ROOM + "formats",
}

__all__ = (
    "AgentMemory",
    "AgentNotFoundError",
    "AgentRegistry",
    "CachedStepExecutor",
    "ErrorResult",
    "ExecutionStep",
    "HTTPError",
    "Message",
    "MetricsStepExecutor",
    "PooledStepExecutor",
    "ResponseValidator",
    "RetryConfig",
    "Sandbox",
    "SecurityError",
    "StepExecutor",
    "StepType",
    "ValidationError",
    "ValidationResult",
    "validate_against_schema",
)


def __getattr__(name: str) -> Any:
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module 'stepchain_tui.agents' has no attribute '{name}'")
    return getattr(import_module(module), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULES])

"""Steps that are carried out side by side: what each one asks for, and what stands in its place when it fails."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from stepchain_tui.agents.errors import ValidationError


class StepType(StrEnum):
    """What a step asks for."""

    AGENT = "agent"
    """One turn of an agent."""
    TOOL = "tool"
    """Calls of tools."""


@dataclass
class ExecutionStep:
    """One of several steps that are carried out side by side.

    Attributes:
        step_type: A `StepType`, or its text. Any other word gives an error as this step's result.
        agent_name: The agent of an agent step.
        request: What the agent is asked.
        tool_calls: The calls of a tool step.
        metadata: See `StepExecutor.execute_agent_step`.
    """

    step_type: StepType | str
    agent_name: str | None = None
    request: Any = None
    tool_calls: list[Any] = field(default_factory=list)
    metadata: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.step_type in tuple(StepType):
            self.step_type = StepType(self.step_type)

    def to_dict(self) -> dict[str, Any]:
        """Return the step as a mapping with the same keys, which `from_dict` takes."""
        return {
            "step_type": str(self.step_type),
            "agent_name": self.agent_name,
            "request": self.request,
            "tool_calls": list(self.tool_calls),
            "metadata": self.metadata,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ExecutionStep:
        """Return the step in a mapping.

        Raises:
            ValidationError: A key is unknown, or `step_type` is missing.
        """
        known = tuple(cls.__dataclass_fields__)
        unknown = [str(key) for key in data if key not in known]
        if unknown or "step_type" not in data:
            wrong = f"unknown key '{unknown[0]}'" if unknown else "needs step_type"
            raise ValidationError(f"execution step: {wrong}", hint=f"Its keys are {', '.join(known)}.")
        return cls(**data)


class ErrorResult(dict[str, Any]):
    """What stands in for a response that did not come: document 001's error mapping, equal to a plain one.

    Args:
        fields: `error`, `error_type` and what belongs to the type.
        exception: What was raised; with `attempts`, the failed tries, where there were several.
    """

    def __init__(self, fields: Mapping[str, Any], exception: BaseException | None = None) -> None:
        super().__init__(fields)
        self.exception = exception

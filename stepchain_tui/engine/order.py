"""A command on its way: `accept` is the point after which nothing may be refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stepchain_tui.core.errors import CommandRefusedError, UsageError
from stepchain_tui.core.values import to_json_value
from stepchain_tui.run import events as e
from stepchain_tui.run.status import RunStatus, StepStatus
from stepchain_tui.run.step_state import StepState
from stepchain_tui.run.values import Kept
from stepchain_tui.store.base import Command

if TYPE_CHECKING:
    from stepchain_tui.engine.driver import Driver

_NOT_KEPT = frozenset(("plan", "plans", "text", "inputs"))
"""Arguments that the command's own effect keeps, and its event need not; inputs may be secret."""


class Order:
    """One command to one run.

    Attributes:
        told: More that the answer tells besides its message.
    """

    def __init__(self, driver: Driver, command: Command) -> None:
        self.driver = driver
        self.command = command
        self.arguments = command.arguments
        self.state = driver.state
        self.told: dict[str, Any] = {}

    @property
    def kept_arguments(self) -> dict[str, Any]:
        """The arguments as the command's event keeps them."""
        return {name: value for name, value in self.arguments.items() if name not in _NOT_KEPT}

    @property
    def by(self) -> str:
        """Who sent it."""
        return self.command.sender or "a person"

    def accept(self) -> None:
        """Record that the command takes effect."""
        self.driver.emit(
            e.CommandApplied,
            command_id=self.command.id,
            command=self.command.command,
            arguments=self.kept_arguments,
            by=self.command.sender,
        )

    def step(self) -> StepState:
        """Return the step that the command names.

        Raises:
            UsageError: It names none.
            UnknownStepError: The run has no such step.
        """
        step_id = self.arguments.get("step")
        if not isinstance(step_id, str):
            raise UsageError(f"'{self.command.command}' needs a step")
        return self.state.step(step_id)

    def keep(self, name: str) -> Kept:
        """Return a value that came with the command, as events carry it.

        Raises:
            AttemptError: It is over 10 MB.
        """
        return self.keep_value(self.arguments[name])

    def keep_value(self, value: Any) -> Kept:
        """Return a value as events carry it. Raises as `keep`."""
        return self.driver.core.store.keep(to_json_value(value), self.driver.source.redactor)

    def refuse_while_cancelling(self) -> None:
        """Raise if the run is being called off."""
        if self.driver.cancelling is not None:
            raise CommandRefusedError("the run is being cancelled")


def as_told(status: RunStatus | StepStatus) -> str:
    """Return a status as it follows "it" in a sentence."""
    words = status.value.replace("_", " ")
    return f"has {words}" if status.value in ("succeeded", "failed", "timed_out") else f"is {words}"

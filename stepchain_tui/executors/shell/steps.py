"""Shell steps: the plan's command, behind the executor that the step names."""

from __future__ import annotations

from typing import Any, ClassVar

from stepchain_tui.executors.registry import ExecutorFactory
from stepchain_tui.executors.shell.factory import ShellExecutorFactory
from stepchain_tui.executors.steps import KindSteps
from stepchain_tui.executors.types import StepCall


class ShellExecutor(KindSteps):
    """Runs a step's command and returns `{stdout, stderr, exit_code}`."""

    factory: ClassVar[type[ExecutorFactory]] = ShellExecutorFactory

    def args_of(self, call: StepCall) -> dict[str, Any]:
        """Return the command."""
        return {"command": call.value}

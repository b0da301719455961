"""Shell steps: the plan's command, behind the executor that the step names."""

from __future__ import annotations

from typing import Any, ClassVar

from stepchain_tui.executors.base import IExecutor
from stepchain_tui.executors.function.calls import check_goes_to_cluster
from stepchain_tui.executors.registry import ExecutorFactory
from stepchain_tui.executors.shell.base import BaseShellExecutor
from stepchain_tui.executors.shell.executor import ShellToolExecutor
from stepchain_tui.executors.shell.factory import ShellExecutorFactory
from stepchain_tui.executors.spec import ToolSpec
from stepchain_tui.executors.steps import KindSteps
from stepchain_tui.executors.types import StepCall
from stepchain_tui.tools.pools import Pools


class ShellExecutor(KindSteps):
    """Runs a step's command and returns `{stdout, stderr, exit_code}`.

    Args:
        pools: The pools of this engine process, which lead to the clusters of steps in mode cluster.
    """

    factory: ClassVar[type[ExecutorFactory]] = ShellExecutorFactory

    def __init__(self, pools: Pools | None = None) -> None:
        super().__init__()
        self._pools = pools

    def key_of(self, call: StepCall) -> Any:
        """Return the mode: not every executor can carry out what is for a cluster."""
        return call.mode

    def make(self, executor_type: type[Any], spec: ToolSpec, call: StepCall) -> IExecutor:
        """Return a new executor on the engine's pools.

        Raises:
            AttemptError: The step is for a cluster and its executor runs here, as a `user_error`.
        """
        check_goes_to_cluster(call, executor_type, ShellToolExecutor)
        made = super().make(executor_type, spec, call)
        if isinstance(made, BaseShellExecutor):
            made._pools = self._pools
        return made

    def args_of(self, call: StepCall) -> dict[str, Any]:
        """Return the command."""
        return {"command": call.value}

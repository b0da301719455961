"""Python steps: the plan's code, behind the executor that the step names."""

from __future__ import annotations

from typing import Any, ClassVar

from stepchain_tui.executors.base import IExecutor
from stepchain_tui.executors.function.calls import check_goes_to_cluster
from stepchain_tui.executors.python.base import BasePythonExecutor
from stepchain_tui.executors.python.executor import PythonToolExecutor
from stepchain_tui.executors.python.factory import PythonExecutorFactory
from stepchain_tui.executors.python.sandboxes import Sandboxes
from stepchain_tui.executors.registry import ExecutorFactory
from stepchain_tui.executors.spec import ToolSpec
from stepchain_tui.executors.steps import KindSteps
from stepchain_tui.executors.types import StepCall
from stepchain_tui.sandbox import BwrapRunner, MontyRunner
from stepchain_tui.tools.pools import Pools


class PythonExecutor(KindSteps):
    """Runs the code of a step in a sandbox; the output is the value of its last expression.

    Args:
        runner: The engine's sandbox monty; a new one where none is given. `close` ends it either way.
        bwrap: The engine's sandbox bwrap; the same holds.
        pools: The pools of this engine process, which lead to the clusters of steps in mode cluster.
    """

    factory: ClassVar[type[ExecutorFactory]] = PythonExecutorFactory

    def __init__(
        self, runner: MontyRunner | None = None, bwrap: BwrapRunner | None = None, pools: Pools | None = None
    ) -> None:
        super().__init__()
        self._pools = pools
        self._sandboxes = Sandboxes(runner, bwrap)

    @property
    def runner(self) -> MontyRunner:
        """The sandbox monty."""
        return self._sandboxes.monty

    @property
    def bwrap(self) -> BwrapRunner:
        """The sandbox bwrap."""
        return self._sandboxes.bwrap

    def args_of(self, call: StepCall) -> dict[str, Any]:
        """Return the code, its names and its sandbox."""
        engine = call.options.get("engine") or call.step.engine
        return {"code": str(call.value), "args": dict(call.args), "engine": engine}

    def key_of(self, call: StepCall) -> Any:
        """Return the mode: not every executor can carry out what is for a cluster."""
        return call.mode

    def make(self, executor_type: type[Any], spec: ToolSpec, call: StepCall) -> IExecutor:
        """Return a new executor that runs code in the engine's sandboxes.

        Raises:
            AttemptError: The step is for a cluster and its executor runs here, as a `user_error`.
        """
        check_goes_to_cluster(call, executor_type, PythonToolExecutor)
        made = super().make(executor_type, spec, call)
        if isinstance(made, BasePythonExecutor):
            made.sandboxes = self._sandboxes
            made._pools = self._pools
        return made

    async def close(self) -> None:
        """End the sandboxes' processes; may be called twice."""
        await super().close()
        await self._sandboxes.close()

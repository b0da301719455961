"""What all executors of sandboxed code share."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

from stepchain_tui.executors.context import CallContext
from stepchain_tui.executors.pooled import PooledExecutor
from stepchain_tui.executors.python.sandboxes import Sandboxes
from stepchain_tui.executors.spec import ToolSpec
from stepchain_tui.tools.pools import Pools


class BasePythonExecutor(PooledExecutor):
    """Runs code in a sandbox; an implementation overrides `_execute_python`."""

    kind: ClassVar[str] = "python"

    def __init__(self, spec: ToolSpec, pools: Pools | None = None) -> None:
        super().__init__(spec, pools)
        self._sandboxes: Sandboxes | None = None
        self._owns_sandboxes = False

    @property
    def sandboxes(self) -> Sandboxes:
        """Where the code runs: the engine's sandboxes in a plan, else its own."""
        if self._sandboxes is None:
            self._sandboxes, self._owns_sandboxes = Sandboxes(), True
        return self._sandboxes

    @sandboxes.setter
    def sandboxes(self, sandboxes: Sandboxes) -> None:
        self._sandboxes, self._owns_sandboxes = sandboxes, False

    async def close(self) -> None:
        """End the sandboxes' processes, where they are its own; may be called twice."""
        await super().close()
        if self._owns_sandboxes:
            await self.sandboxes.close()

    def _hook(self, args: dict[str, Any], ctx: CallContext, timeout: float | None) -> Any:
        return self._execute_python(args, ctx, timeout)

    @abstractmethod
    def _execute_python(self, args: dict[str, Any], ctx: CallContext, timeout: float | None) -> Any:
        """Run `args["code"]` with `args["args"]` as names in the sandbox `args["engine"]`; `timeout` is in seconds."""

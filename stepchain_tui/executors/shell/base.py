"""What all shell executors share."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

from stepchain_tui.executors.context import CallContext
from stepchain_tui.executors.pooled import PooledExecutor


class BaseShellExecutor(PooledExecutor):
    """Runs commands; an implementation overrides `_execute_shell`.

    Args:
        spec: What is called.
        pools: What leads to the clusters of steps in mode cluster; pools of its own, which end with `close`, where none
            are given.
    """

    kind: ClassVar[str] = "shell"

    def _hook(self, args: dict[str, Any], ctx: CallContext, timeout: float | None) -> Any:
        return self._execute_shell(args, ctx, timeout)

    @abstractmethod
    def _execute_shell(self, args: dict[str, Any], ctx: CallContext, timeout: float | None) -> Any:
        """Run `args["command"]`, text or a list, in `ctx.cwd` with the variables of `ctx.environment`.

        `args` may also have `env` and `cwd`, where the caller is no plan; `timeout` is in seconds.
        """

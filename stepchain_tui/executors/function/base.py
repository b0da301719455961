"""What all function executors share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

from stepchain_tui.core.errors import UsageError
from stepchain_tui.executors.base import BaseExecutor
from stepchain_tui.executors.context import CallContext
from stepchain_tui.executors.function.awaitable import awaitable_function
from stepchain_tui.executors.spec import ToolSpec


class BaseFunctionExecutor(BaseExecutor):
    """Calls one function; an implementation overrides `_execute_function`.

    Args:
        spec: What is called.
        func: The function: async, an async generator, plain or a plain generator.

    Attributes:
        func: Gives an awaitable or an async iterator when it is called with `(args, ctx)`. An async function is kept as
            it was given. A plain one is run in a thread; it equals what was given, which is its `__wrapped__`.
    """

    kind: ClassVar[str] = "function"

    def __init__(self, spec: ToolSpec, func: Callable[..., Any]) -> None:
        super().__init__(spec)
        if not callable(func):
            raise UsageError(
                f"{spec.tool_name}: func must be a function, this is {type(func).__name__}",
                hint="Pass the function itself, without calling it.",
            )
        self.func = awaitable_function(func)

    def _hook(self, args: dict[str, Any], ctx: CallContext, timeout: float | None) -> Any:
        return self._execute_function(args, ctx.given, timeout)

    @abstractmethod
    def _execute_function(self, args: dict[str, Any], ctx: Any, timeout: float | None) -> Any:
        """Call `self.func(args, ctx)` and return its value, or yield its chunks; `timeout` is in seconds.

        May be async, an async generator or plain. `ctx` is what the caller handed over, or a `CallContext`.
        """

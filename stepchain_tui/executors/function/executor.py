"""The standard function executor, and the one whose chunks can be read while they come."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

from stepchain_tui.executors.context import CallContext
from stepchain_tui.executors.function.awaitable import chunks_of
from stepchain_tui.executors.function.base import BaseFunctionExecutor


class FunctionToolExecutor(BaseFunctionExecutor):
    """Calls the function and returns what it returns.

    An async function runs on the loop, a plain one in a thread. A generator is read to its end, each chunk going to the
    log as it comes; texts are joined, other chunks become a list.
    """

    async def _execute_function(self, args: dict[str, Any], ctx: Any, timeout: float | None) -> Any:
        result = self.func(args, ctx)
        return result if isinstance(result, AsyncIterator) else await result


class StreamingFunctionExecutor(FunctionToolExecutor):
    """Calls a function that yields, and gives its chunks while they come.

    In a plan, and by `execute`, the chunks go to the log one by one and are joined in the end; `stream` gives each to
    the caller. A function that yields nothing but returns a value has that as its only chunk.
    """

    async def stream(self, args: Mapping[str, Any], ctx: Any = None) -> AsyncIterator[Any]:
        """Yield the function's chunks as they come; nothing is kept or joined, and no timeout counts.

        Args:
            args: What the function gets.
            ctx: As in `execute`.
        """
        async for chunk in chunks_of(self.func(dict(args), CallContext.alone(ctx).given)):
            yield chunk

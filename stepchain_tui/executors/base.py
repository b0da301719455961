"""What all executors of document 004 share: one verb, one way to time out, to be counted and to be streamed."""

from __future__ import annotations

import asyncio
import inspect
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Generator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

from stepchain_tui.core.errors import UsageError
from stepchain_tui.executors.context import CallContext
from stepchain_tui.executors.spec import ToolSpec
from stepchain_tui.executors.threads import chunks_in_thread
from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.status import ErrorType
from stepchain_tui.tools.chunks import Chunks, chunk_text, is_stream


@runtime_checkable
class IExecutor(Protocol):
    """The contract of every executor (document 004)."""

    async def execute(self, args: Mapping[str, Any], ctx: Any = None) -> Any:
        """Carry out one call and return what came of it."""


class CallTimeoutError(AttemptError, TimeoutError):
    """Signals that a call took longer than it may and was stopped."""

    def __init__(self, what: str, timeout: float) -> None:
        super().__init__(
            f"{what} ran longer than its timeout of {timeout:g} s and was stopped",
            error_type=ErrorType.TIMEOUT,
            hint="Raise the timeout, or make it do less.",
            details={"timeout": timeout},
        )


@dataclass
class CallMetrics:
    """How the calls of one executor went; seconds are added up."""

    calls: int = 0
    succeeded: int = 0
    failed: int = 0
    seconds: float = 0.0


class BaseExecutor(ABC):
    """Carries out calls; a kind's base class names the hook that its implementations override.

    Attributes:
        spec: What is called.
        metrics: How its calls went so far.
    """

    kind: ClassVar[str] = "step"
    """The kind of step that it carries out."""

    def __init__(self, spec: ToolSpec) -> None:
        self.spec = spec
        self.metrics = CallMetrics()

    async def execute(self, args: Mapping[str, Any], ctx: Any = None) -> Any:
        """Carry out one call.

        What the hook returns is returned; an async generator is read to its end, each chunk told to the context as it
        comes: texts are joined, other chunks come back as a list.

        Args:
            args: What is to be done.
            ctx: The context; None outside of plans.

        Raises:
            UsageError: `args` are no mapping.
            CallTimeoutError: It took longer than `spec.timeout`; inside a plan the engine counts the time.
            AttemptError: It failed in a way that is known; anything else comes as it was raised.
        """
        if not isinstance(args, Mapping):
            raise UsageError(
                f"{self.spec.tool_name}: args must be a mapping, this is {type(args).__name__}",
                hint="Write execute({'name': value}, ctx).",
            )
        context = CallContext.alone(ctx)
        timeout = context.timeout if context.is_attempt else self.spec.timeout
        begin = time.monotonic()
        self.metrics.calls += 1
        succeeded = False
        try:
            result = await self._in_time(dict(args), context, timeout)
            succeeded = True
            return result
        finally:
            self.metrics.seconds += time.monotonic() - begin
            if succeeded:
                self.metrics.succeeded += 1
            else:
                self.metrics.failed += 1

    async def close(self) -> None:  # noqa: B027 - most have nothing to let go
        """Let go of what is held between calls; may be called twice."""

    @abstractmethod
    def _hook(self, args: dict[str, Any], ctx: CallContext, timeout: float | None) -> Any:
        """Call the hook of this kind and return what it gives: an awaitable, an async generator or a value."""

    async def _in_time(self, args: dict[str, Any], ctx: CallContext, timeout: float | None) -> Any:
        if ctx.is_attempt or timeout is None:
            return await self._result(args, ctx, timeout)
        limit = asyncio.timeout(timeout)
        try:
            async with limit:
                return await self._result(args, ctx, timeout)
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise CallTimeoutError(self.spec.tool_name, timeout) from error

    async def _result(self, args: dict[str, Any], ctx: CallContext, timeout: float | None) -> Any:
        result = self._hook(args, ctx, timeout)
        if inspect.isawaitable(result):
            result = await result
        if is_stream(result):
            return await join_chunks(result, ctx)
        return result


async def join_chunks(chunks: AsyncIterator[Any] | Generator[Any, Any, Any], ctx: CallContext) -> Any:
    """Return all chunks as one value, each told to the context when it came: texts joined, others as a list.

    Args:
        chunks: An async iterator; a plain generator is read in a thread.
        ctx: Its log gets each chunk, a text as it is and another value on a line of its own.

    Raises:
        AttemptError: They are more than a step may return, as a `user_error`.
    """
    if isinstance(chunks, Generator):
        chunks = chunks_in_thread(chunks)
    return await Chunks(lambda chunk: ctx.ports.log("text", chunk_text(chunk))).read_async(chunks)

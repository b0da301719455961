"""Functions of every make behind one face: called, they give something to await, or to read chunk by chunk."""

from __future__ import annotations

import functools
import inspect
from abc import ABC, abstractmethod
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Generator
from typing import Any

from stepchain_tui.executors.context import CallContext
from stepchain_tui.executors.threads import call_threads, chunks_in_thread


class Calling(Coroutine[Any, Any, Any]):
    """One call of a function that is to be awaited for its value, or read by `async for` chunk by chunk.

    Nothing happens before the one or the other. A call whose function gives no chunks has its value as the only one.

    Args:
        value: Carries the call out and returns its value, all chunks joined.
        chunks: Carries the call out and yields its chunks.
    """

    def __init__(self, value: Callable[[], Coroutine[Any, Any, Any]], chunks: Callable[[], AsyncIterator[Any]]) -> None:
        self._value = value
        self._chunks = chunks
        self._coroutine: Coroutine[Any, Any, Any] | None = None

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._awaited().__await__()

    def __aiter__(self) -> AsyncIterator[Any]:
        return self._chunks()

    def send(self, value: Any) -> Any:
        """Go on with the call, as a task does."""
        return self._awaited().send(value)

    def throw(self, *error: Any) -> Any:
        """Raise an error inside the call, as a task does to cancel it."""
        return self._awaited().throw(*error)

    def close(self) -> None:
        """Give the call up."""
        if self._coroutine is not None:
            self._coroutine.close()

    def _awaited(self) -> Coroutine[Any, Any, Any]:
        if self._coroutine is None:
            self._coroutine = self._value()
        return self._coroutine


class AwaitableFunction(ABC):
    """A function whose calls are `Calling`s."""

    @abstractmethod
    def __call__(self, args: Any, ctx: Any = None) -> Calling:
        """Return the call, which begins when it is awaited or read."""


class PlainFunction(AwaitableFunction):
    """A function that is not async, as one that is: it runs in a thread, never on the loop.

    Equals the function that it stands for, which is its `__wrapped__`.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        functools.update_wrapper(self, function)
        self.__wrapped__ = function

    def __call__(self, args: Any, ctx: Any = None) -> Calling:
        """Return the call, which begins when it is awaited or read."""
        return Calling(lambda: self._value(args, ctx), lambda: self._chunks(args, ctx))

    def __eq__(self, other: object) -> bool:
        return self.__wrapped__ == (other.__wrapped__ if isinstance(other, PlainFunction) else other)

    def __hash__(self) -> int:
        return hash(self.__wrapped__)

    async def _value(self, args: Any, ctx: Any) -> Any:
        result = await self._begun(args, ctx)
        return await result if inspect.isawaitable(result) else result

    async def _chunks(self, args: Any, ctx: Any) -> AsyncIterator[Any]:
        async for chunk in chunks_of(self._value(args, ctx)):
            yield chunk

    async def _begun(self, args: Any, ctx: Any) -> Any:
        """Return what the function returns at once: a value, a generator, or something to await."""

        def ask_to_stop() -> None:
            if isinstance(ctx, CallContext) and not ctx.is_attempt:
                ctx.cancel()

        in_thread = call_threads().submit(lambda _: self.__wrapped__(args, ctx), ask_to_stop)
        try:
            return await in_thread.result
        finally:
            if in_thread.result.cancelled():
                in_thread.cancel()


async def chunks_of(result: Any) -> AsyncIterator[Any]:
    """Yield the chunks of what a call of a function gave: a value that is no stream is its only chunk.

    Args:
        result: A value, an awaitable of one, a `Calling`, a generator or an async iterator.
    """
    if inspect.isawaitable(result) and not isinstance(result, Calling):
        result = await result
    if inspect.isgenerator(result):
        result = chunks_in_thread(result)
    if not isinstance(result, AsyncIterable):
        yield result
        return
    async for chunk in result:
        yield chunk


def awaitable_function(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that gives an awaitable or an async iterator: itself where it does so already."""
    called = getattr(function, "__call__", None)  # noqa: B004 - the bound method, to look into it
    makes = (inspect.iscoroutinefunction, inspect.isasyncgenfunction)
    if isinstance(function, AwaitableFunction) or any(make(each) for make in makes for each in (function, called)):
        return function
    return PlainFunction(function)

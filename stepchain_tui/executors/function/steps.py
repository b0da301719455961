"""Function steps: the plan's function in its mode, behind the executor that the step names."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextvars import ContextVar
from typing import Any, ClassVar

from stepchain_tui.core.errors import UsageError
from stepchain_tui.executors.base import IExecutor
from stepchain_tui.executors.context import CallContext
from stepchain_tui.executors.function.awaitable import AwaitableFunction, Calling
from stepchain_tui.executors.function.cached import CachedFunctionExecutor
from stepchain_tui.executors.function.calls import function_call_of
from stepchain_tui.executors.function.executor import FunctionToolExecutor
from stepchain_tui.executors.function.factory import FunctionExecutorFactory
from stepchain_tui.executors.registry import ExecutorFactory
from stepchain_tui.executors.spec import ToolSpec
from stepchain_tui.executors.steps import KindSteps
from stepchain_tui.executors.types import Outcome, StepCall
from stepchain_tui.plan.executor_types import FIXED_TYPES
from stepchain_tui.tools.chunks import OnChunk
from stepchain_tui.tools.function_calls import FunctionCaller
from stepchain_tui.tools.pools import Pools
from stepchain_tui.tools.process_pool import finish

_END = object()
_carried_out: ContextVar[StepCall] = ContextVar("stepchain_function_step")


class FunctionExecutor(KindSteps):
    """Calls a step's function with its args and returns what it returns.

    What a function raises becomes an `AttemptError` that is the same in every mode: the name of its class, its
    message, the traceback of its own frames and its class by the retry table.

    Args:
        pools: The pools of this engine process.
    """

    factory: ClassVar[type[ExecutorFactory]] = FunctionExecutorFactory

    def __init__(self, pools: Pools) -> None:
        super().__init__()
        self._function = StepFunction(pools)

    async def execute(self, call: StepCall) -> Outcome:
        """Call the function. See `executors.types` for the duties.

        Raises:
            AttemptError: The function raised, cannot be loaded, does not take these args, or its process died; or
                there is no such executor.
        """
        name = call.step.executor
        if name in FIXED_TYPES and self.factory.registry.is_shipped(name):
            return Outcome(await self._function.value(call, call.args))
        token = _carried_out.set(call)
        try:
            return await super().execute(call)
        finally:
            _carried_out.reset(token)

    def args_of(self, call: StepCall) -> dict[str, Any]:
        """Return the step's arguments by name."""
        return dict(call.args)

    def spec_of(self, call: StepCall) -> ToolSpec:
        """Return the step's name, and the size of its groups where it says one."""
        sizes = {} if call.step.batch is None else {"batch_size": call.step.batch}
        return ToolSpec(tool_name=call.step.id, description=call.step.description or "", timeout=call.timeout, **sizes)

    def key_of(self, call: StepCall) -> Any:
        """Return which function is called where: calls of others are never in one group."""
        return call.step.function, call.mode, str(call.plan_folder), str(call.cwd)

    def make(self, executor_type: type[Any], spec: ToolSpec, call: StepCall) -> IExecutor:
        """Return a new executor that calls the plan's function; for `cached` the engine keeps the results."""
        if executor_type is CachedFunctionExecutor:
            executor_type = FunctionToolExecutor
        made: IExecutor = executor_type(spec, self._function)
        return made


class StepFunction(AwaitableFunction):
    """What an executor has as `func` in a plan: called with `(args, ctx)`, it calls the step's function in its mode.

    Args:
        pools: The pools of this engine process.
    """

    def __init__(self, pools: Pools) -> None:
        self._caller = FunctionCaller(pools)

    def __call__(self, args: Any, ctx: Any = None) -> Calling:
        """Return the call of the step's function, which begins when it is awaited or read.

        Args:
            args: Its arguments by name; a list is its argument `batch`.
            ctx: The context of the attempt, that of the call at work where it is something else.

        Raises:
            UsageError: `args` are neither.
        """
        given = ctx.call if isinstance(ctx, CallContext) else None
        call = given if given is not None else _carried_out.get()
        if isinstance(args, list | tuple):
            args = {"batch": list(args)}
        if not isinstance(args, Mapping):
            raise UsageError(
                f"step '{call.step.id}': its function needs args as a mapping, this is {type(args).__name__}",
                hint="Call self.func({'name': value}, ctx).",
            )
        return Calling(lambda: self.value(call, args), lambda: self.chunks(call, args))

    async def chunks(self, call: StepCall, args: Mapping[str, Any]) -> AsyncIterator[Any]:
        """Call the function of a step and yield its chunks as they come, which then are not in the log."""
        ready: asyncio.Queue[Any] = asyncio.Queue()
        seen: list[bool] = []

        def take(chunk: Any) -> None:
            seen.append(True)
            ready.put_nowait(chunk)

        work = asyncio.ensure_future(self.value(call, args, take))
        work.add_done_callback(lambda _: ready.put_nowait(_END))
        try:
            while (chunk := await ready.get()) is not _END:
                yield chunk
            value = await work
            if not seen and not (isinstance(value, str | list) and not value):
                yield value
        finally:
            if not work.done():
                work.cancel()
                await finish(_ended(work))

    async def value(self, call: StepCall, args: Mapping[str, Any], on_chunk: OnChunk | None = None) -> Any:
        """Call the function of a step and return its value, all chunks joined.

        Args:
            call: The attempt.
            args: What the function gets.
            on_chunk: Takes the chunks of a function that yields; without it they go to the log.
        """
        function = call.step.function
        assert function is not None
        made = function_call_of(call, function, args, on_chunk)
        try:
            return await self._caller.run(made)
        except asyncio.CancelledError:
            call.lingering = made.lingering
            raise


async def _ended(work: asyncio.Future[Any]) -> None:
    await asyncio.wait([work])

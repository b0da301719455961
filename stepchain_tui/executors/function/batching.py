"""The function executor that gathers calls into groups."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec

from stepchain_tui.core.errors import UsageError
from stepchain_tui.executors.context import CallContext
from stepchain_tui.executors.function.awaitable import chunks_of
from stepchain_tui.executors.function.base import BaseFunctionExecutor
from stepchain_tui.executors.function.group_ports import GroupPorts
from stepchain_tui.executors.spec import ToolSpec
from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.status import ErrorType
from stepchain_tui.tools.chunks import is_stream
from stepchain_tui.tools.process_pool import finish

BATCH_SIZE = 5
MAX_WAIT = 0.05


class BatchingFunctionExecutor(BaseFunctionExecutor):
    """Gathers calls that are made at the same time into groups, and calls the function once for each group.

    The function gets a list with the arguments of each call and returns a list with their results, in the same order. A
    function that fails, or returns another number of results, fails the calls of its group and no others. In a plan the
    list is the argument `batch`.

    Args:
        spec: What is called. `batch_size` (5) is how many calls a group has at most, `max_wait` (0.05) for how many
            seconds the first call of a group waits for others.
        func: The function.
    """

    def __init__(self, spec: ToolSpec, func: Callable[..., Any]) -> None:
        super().__init__(spec, func)
        self.batch_size = getattr(spec, "batch_size", BATCH_SIZE)
        self.max_wait = getattr(spec, "max_wait", MAX_WAIT)
        if isinstance(self.batch_size, bool) or not isinstance(self.batch_size, int) or self.batch_size < 1:
            raise UsageError(f"{spec.tool_name}: batch_size is {self.batch_size!r}", hint="Give a number from 1 up.")
        if isinstance(self.max_wait, bool) or not isinstance(self.max_wait, int | float) or not self.max_wait >= 0:
            raise UsageError(f"{spec.tool_name}: max_wait is {self.max_wait!r}", hint="Give seconds, from 0 up.")
        self._open: _Group | None = None
        self._running: set[_Group] = set()

    async def _execute_function(self, args: dict[str, Any], ctx: Any, timeout: float | None) -> Any:
        loop = asyncio.get_running_loop()
        group = self._open
        if group is None or group.loop is not loop:
            group = self._open = _Group(loop)
            group.timer = loop.call_later(self.max_wait, self._begin, group)
        member = _Member(args, ctx, loop.create_future())
        group.members.append(member)
        if len(group.members) >= self.batch_size:
            self._begin(group)
        try:
            return await member.result
        except asyncio.CancelledError:
            await self._leave(group, member)
            raise

    async def close(self) -> None:
        """Give up the groups that are open or run; may be called twice."""
        groups = [*self._running, *([self._open] if self._open is not None else [])]
        for group in groups:
            for member in group.members:
                member.result.cancel()
            group.end()
        await asyncio.gather(*(group.task for group in groups if group.task is not None), return_exceptions=True)
        self._open = None

    def _begin(self, group: _Group) -> None:
        if group.timer is not None:
            group.timer.cancel()
        if self._open is group:
            self._open = None
        self._running.add(group)
        group.task = group.loop.create_task(self._carry_out(group), name=f"batch of {self.spec.tool_name}")

    async def _leave(self, group: _Group, member: _Member) -> None:
        """Take a cancelled call out of its group; the last one ends the group's work for real."""
        if group.task is None:
            group.members.remove(member)
            if not group.members:
                group.end()
                if self._open is group:
                    self._open = None
        elif all(each.result.done() for each in group.members):
            group.end()
            await finish(_ended(group.task))
        if isinstance(member.ctx, CallContext) and isinstance(group.ctx, CallContext) and group.ctx.call is not None:
            member.ctx.linger(group.ctx.call.lingering)

    async def _carry_out(self, group: _Group) -> None:
        group.ctx = group.context()
        try:
            results = await self._results([member.args for member in group.members], group.ctx)
        except asyncio.CancelledError:
            for member in group.members:
                member.result.cancel()
            raise
        except BaseException as error:  # noqa: BLE001 - handed to the calls of this group as it is
            if not isinstance(error, AttemptError):
                error.add_note(f"in a batch of {len(group.members)} calls of {self.spec.tool_name}")
            for member in group.members:
                if not member.result.done():
                    member.result.set_exception(error)
        else:
            for member, value in zip(group.members, results, strict=True):
                if not member.result.done():
                    member.result.set_result(value)
        finally:
            self._running.discard(group)

    async def _results(self, batch: list[Any], ctx: Any) -> list[Any]:
        found = self.func(batch, ctx)
        if not is_stream(found):
            found = await found
        if is_stream(found):
            found = [chunk async for chunk in chunks_of(found)]
        if not isinstance(found, list | tuple) or len(found) != len(batch):
            told = f"{len(found)} results" if isinstance(found, list | tuple) else f"a {type(found).__name__}"
            raise AttemptError(
                f"{self.spec.tool_name} returned {told} for a batch of {len(batch)} calls",
                error_type=ErrorType.USER_ERROR,
                hint="A batching function returns a list with one result for each item of the list that it gets.",
            )
        return list(found)


class _Member(msgspec.Struct, eq=False):
    """One call of a group."""

    args: dict[str, Any]
    ctx: Any
    result: asyncio.Future[Any]


class _Group:
    """Calls that are carried out together."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.members: list[_Member] = []
        self.timer: asyncio.TimerHandle | None = None
        self.task: asyncio.Task[None] | None = None
        self.ctx: Any = None

    def context(self) -> Any:
        """Return the context that the function gets: the first call's, with the output going to all of them."""
        first = self.members[0].ctx
        if not isinstance(first, CallContext) or first.call is None:
            return first
        contexts = [(member.ctx, member.result) for member in self.members]
        ports = GroupPorts([(ctx.ports, result) for ctx, result in contexts])
        return CallContext(msgspec.structs.replace(first.call, ports=ports))

    def end(self) -> None:
        """Stop what runs or waits."""
        if self.timer is not None:
            self.timer.cancel()
        if self.task is not None:
            self.task.cancel()


async def _ended(task: asyncio.Task[None]) -> None:
    await asyncio.wait([task])

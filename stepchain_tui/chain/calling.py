"""The calls of a chain: by a function of the caller's own, or by the tools that StepChain knows."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from stepchain_tui.core.settings import Settings
from stepchain_tui.executors.factory import Executors
from stepchain_tui.executors.tool.calls import ONLY_CALL, failure_of_call
from stepchain_tui.executors.types import Outcome, StepCall, StepExecutor
from stepchain_tui.plan import ActionKind
from stepchain_tui.run.failures import Failure
from stepchain_tui.tools import Pools
from stepchain_tui.tools.remote import function_error

if TYPE_CHECKING:
    from stepchain_tui.mcp import McpServers

CallTool = Callable[[str, dict[str, Any]], Any]
"""`call_tool(name, parameters)`: returns what the tool returns, or an awaitable of it."""


class ScriptTools:
    """Carries out tool steps by a function of the caller's (`executors.types.StepExecutor`).

    An async function is awaited on the loop and really cancelled by a timeout. A plain one runs in a thread, which
    cannot be stopped: after a timeout it goes on, and holds its slot until it returns.

    Args:
        call_tool: Called as `call_tool(name, parameters)`.
        pools: Where plain functions run.
    """

    def __init__(self, call_tool: CallTool, pools: Pools) -> None:
        self._call_tool = call_tool
        self._pools = pools
        self._is_async = _gives_awaitables(call_tool)

    async def execute(self, call: StepCall) -> Outcome:
        """Call the tool, and tell that it is called and how that ended."""
        name, arguments = str(call.step.tool), _own(call.args)
        call.ports.tool_started(call_id=ONLY_CALL, tool_name=name, arguments=arguments)
        began = time.monotonic()
        try:
            value = await self._value(call, name, _own(arguments))
            self._tell(call, name, arguments, began, result=value)  # fails where the value is too large to be kept
        except BaseException as error:
            self._tell(call, name, arguments, began, error=failure_of_call(error))
            raise
        return Outcome(value)

    def provider(self, call: StepCall) -> str:
        """Return nothing: what the caller's function reaches is not known, so no breaker watches over it."""
        return ""

    async def _value(self, call: StepCall, name: str, arguments: dict[str, Any]) -> Any:
        """Return what the tool returns; what it raises is told as that of every other function."""
        try:
            found = self._call_tool(name, arguments) if self._is_async else await self._in_thread(call, name, arguments)
            return await found if inspect.isawaitable(found) else found
        except (asyncio.CancelledError, GeneratorExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            raise function_error(error) from error

    async def _in_thread(self, call: StepCall, name: str, arguments: dict[str, Any]) -> Any:
        in_thread = self._pools.threads.submit(lambda _: self._call_tool(name, arguments))
        try:
            return await in_thread.result
        except asyncio.CancelledError:
            in_thread.cancel()
            if not in_thread.finished.done():
                call.lingering = in_thread.finished
            raise
        except BaseException as error:  # a thread's KeyboardInterrupt is not the user's
            raise function_error(error) from error

    def _tell(
        self,
        call: StepCall,
        name: str,
        arguments: dict[str, Any],
        began: float,
        *,
        result: Any = None,
        error: Failure | None = None,
    ) -> None:
        call.ports.tool_finished(
            call_id=ONLY_CALL,
            tool_name=name,
            arguments=arguments,
            execution_time=time.monotonic() - began,
            result=result,
            error=error,
        )


class Threads:
    """The threads of calls that were given up: each holds its slot until it ends, or the chain needs no slot more.

    A thread cannot be stopped and may never end; what waits for the chain does not wait for that.
    """

    def __init__(self) -> None:
        self._held: set[asyncio.Future[None]] = set()
        self._over = False

    @property
    def held(self) -> int:
        """How many hold a slot."""
        return len(self._held)

    def hold(self, call: StepCall) -> None:
        """Let a call that has ended hold its slot while its thread goes on."""
        thread, call.lingering = call.lingering, None
        if thread is None or thread.done() or self._over:
            return
        held: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        held.add_done_callback(self._held.discard)
        self._held.add(held)
        thread.add_done_callback(lambda _: _set_done(held))
        call.lingering = held

    def let_go(self) -> None:
        """Give back the slots that are held now."""
        for held in list(self._held):
            _set_done(held)

    def close(self) -> None:
        """Give back all slots, and hold none from now on."""
        self._over = True
        self.let_go()


class ChainTools:
    """Carries out the tool steps of a chain, and watches over the threads that they leave (`StepExecutor`).

    Args:
        tools: What calls the tools.
        threads: Where threads that go on are held.
    """

    def __init__(self, tools: StepExecutor, threads: Threads) -> None:
        self._tools = tools
        self._threads = threads

    async def execute(self, call: StepCall) -> Outcome:
        """Call the tool."""
        try:
            return await self._tools.execute(call)
        finally:
            self._threads.hold(call)

    def provider(self, call: StepCall) -> str:
        """Return what the call goes to, empty for nobody's."""
        provider: str = self._tools.provider(call)  # type: ignore[attr-defined]
        return provider


class ChainExecutors(Executors):
    """The executors of an engine that carries a chain out.

    Args:
        others: The engine's own.
        call_tool: Called for every tool step, where one is given.

    Attributes:
        threads: What goes on after its call was given up.
    """

    def __init__(self, others: Executors, call_tool: CallTool | None) -> None:
        super().__init__(settings=Settings())
        self._others = others
        self.threads = Threads()
        tools = others.get(ActionKind.TOOL) if call_tool is None else ScriptTools(call_tool, others.pools)
        self._tools = ChainTools(tools, self.threads)

    @property
    def pools(self) -> Pools:
        """The engine's pools."""
        return self._others.pools

    @property
    def servers(self) -> McpServers:
        """The engine's servers."""
        return self._others.servers

    def get(self, kind: ActionKind) -> StepExecutor:
        """Return the executor of a kind of step."""
        return self._tools if kind is ActionKind.TOOL else self._others.get(kind)

    def workers(self) -> list[dict[str, Any]]:
        """Return the worker processes of the engine's pool."""
        return self._others.workers()

    async def close(self) -> None:
        """End all workers and connections; may be called twice."""
        await self._others.close()


def _set_done(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _own(value: Any) -> Any:
    """Return a value in containers of its own: what a tool changes in them is neither told nor met by a later attempt.

    What is no JSON value is handed on as it is: it need not be a thing that can be copied.
    """
    if isinstance(value, Mapping):
        return {key: _own(item) for key, item in value.items()}
    return [_own(item) for item in value] if isinstance(value, list | tuple) else value


def _gives_awaitables(function: Any) -> bool:
    called = getattr(function, "__call__", None)  # noqa: B004 - the bound method, to look into it
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(called)

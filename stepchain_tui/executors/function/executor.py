"""Carries out function steps in the mode the plan asks for."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from stepchain_tui.executors.types import Outcome, StepCall
from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.status import ErrorType
from stepchain_tui.tools.context import StepContext
from stepchain_tui.tools.functions import LoadedFunction, arguments_for, call_shape, shared_loader
from stepchain_tui.tools.output import CallOutput, current_output
from stepchain_tui.tools.pools import Pools
from stepchain_tui.tools.remote import NotPicklableError, function_error
from stepchain_tui.tools.threads import ThreadCall
from stepchain_tui.tools.travel import pack, reference_of

_output = current_output()
_loader = shared_loader()


class FunctionExecutor:
    """Calls a step's function with its args and returns what it returns.

    What a function raises becomes an `AttemptError` that is the same in every mode: the name of its class, its
    message, the traceback of its own frames and its class by the retry table.

    Args:
        pools: The pools of this engine process.
    """

    def __init__(self, pools: Pools) -> None:
        self._pools = pools
        self._stuck: dict[tuple[str, str, int, int | None], ThreadCall] = {}

    async def execute(self, call: StepCall) -> Outcome:
        """Call the function. See `executors.types` for the duties.

        Raises:
            AttemptError: The function raised, cannot be loaded, does not take these args, or its process died.
        """
        match call.mode:
            case "inline":
                return Outcome(await self._inline(call))
            case "process":
                return Outcome(await self._process(call))
            case "thread" | "":
                return Outcome(await self._thread(call))
        raise AttemptError(
            f"a function step cannot run in mode '{call.mode}'",
            error_type=ErrorType.USER_ERROR,
            hint="Use inline, thread or process.",
        )

    def unfinished(self, call: StepCall) -> asyncio.Future[None] | None:
        """Return what is done when the thread of a cancelled call is free again, or None when it is.

        A thread cannot be killed: ask this after `execute` was cancelled, and keep the slot until then.
        """
        stuck = self._stuck.get(_key(call))
        return stuck.finished if stuck is not None and not stuck.finished.done() else None

    async def _inline(self, call: StepCall) -> Any:
        self._pools.router.install()
        output = CallOutput(call.ports.log)
        token = _output.set(output)
        try:
            function, positional, keywords = _prepare(call, call.ports.log)
            value = function(*positional, **keywords)
            return await value if inspect.isawaitable(value) else value
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            raise function_error(error) from error
        finally:
            _output.reset(token)
            output.finish()

    async def _thread(self, call: StepCall) -> Any:
        self._pools.router.install()
        relay, log = self._pools.relay, call.ports.log
        output = CallOutput(log, relay)
        contexts: list[StepContext] = []

        def work() -> Any:
            function, positional, keywords = _prepare(
                call, lambda stream, text: relay.send(log, stream, text), contexts
            )
            value = function(*positional, **keywords)
            return thread_call.run_coroutine(_awaited(value)) if inspect.isawaitable(value) else value

        def ask_to_stop() -> None:
            for context in contexts:
                context.cancel()

        token = _output.set(output)
        try:
            thread_call = self._pools.threads.make(work, ask_to_stop)
        finally:
            _output.reset(token)
        self._pools.threads.enqueue(thread_call)
        try:
            return await thread_call.result
        except asyncio.CancelledError:
            self._abandon(_key(call), thread_call)
            raise
        except BaseException as error:
            raise function_error(error) from error
        finally:
            output.finish()

    def _abandon(self, key: tuple[str, str, int, int | None], thread_call: ThreadCall) -> None:
        thread_call.cancel()
        if not thread_call.finished.done():
            self._stuck[key] = thread_call
            thread_call.finished.add_done_callback(lambda _: self._stuck.pop(key, None))

    async def _process(self, call: StepCall) -> Any:
        function, folder = call.step.function, str(call.plan_folder)
        label = _label(function)
        if isinstance(function, str) and function.startswith("__main__:"):
            function = _loader.load(function, folder).function
        elif not isinstance(function, str) and function is not None:
            named = reference_of(function)
            if named is not None:
                function, folder = named
        reference = function if isinstance(function, str) else ""
        try:
            payload, by_value = pack(None if isinstance(function, str) else function, call.args, label)
        except NotPicklableError as error:
            if not call.step.fallback:
                raise
            call.ports.warn(f"ran in a thread: {error}")
            return await self._thread(call)
        return await self._pools.processes.run(
            {
                "call": 0,
                "reference": reference,
                "folder": folder,
                "payload": payload,
                "by_value": by_value,
                "context": _context(call, None).facts(),
                "environment": dict(call.environment),
                "cwd": str(call.cwd),
            },
            call.ports.log,
            label,
        )


def _prepare(
    call: StepCall, log: Callable[[str, str], None], contexts: list[StepContext] | None = None
) -> tuple[Callable[..., Any], list[Any], Mapping[str, Any]]:
    """Return the function with its arguments, loaded anew where its code changed."""
    function = call.step.function
    if isinstance(function, str):
        loaded = _loader.load(function, call.plan_folder)
    else:
        assert function is not None
        loaded = _known(function)
    context = None
    if loaded.shape.context:
        context = _context(call, log)
        if contexts is not None:
            contexts.append(context)
    positional, keywords = arguments_for(loaded.shape, call.args, context)
    return loaded.function, positional, keywords


def _known(function: Callable[..., Any]) -> LoadedFunction:
    """Return a callable with its shape, worked out once for each."""
    try:
        known = _shapes.get(function)
    except TypeError:  # an unhashable callable
        return LoadedFunction(function, call_shape(function), None, None)
    if known is None:
        if len(_shapes) >= _MOST_SHAPES:
            _shapes.clear()
        known = _shapes[function] = LoadedFunction(function, call_shape(function), None, None)
    return known


_MOST_SHAPES = 1_000
_shapes: dict[Callable[..., Any], LoadedFunction] = {}


def _context(call: StepCall, log: Callable[[str, str], None] | None) -> StepContext:
    return StepContext(
        run_id=call.run_id,
        step_id=call.step.id,
        attempt=call.attempt,
        item=call.item,
        idempotency_key=call.idempotency_key,
        secrets=call.secrets,
        write=None if log is None else lambda text: log("stdout", text),
    )


def _key(call: StepCall) -> tuple[str, str, int, int | None]:
    return call.run_id, call.step.id, call.attempt, call.item


def _label(function: Any) -> str:
    return function if isinstance(function, str) else getattr(function, "__qualname__", type(function).__name__)


async def _awaited(value: Any) -> Any:
    return await value

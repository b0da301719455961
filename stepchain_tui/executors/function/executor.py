"""Carries out function steps in the mode the plan asks for."""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any, cast

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

    async def _inline(self, call: StepCall) -> Any:
        self._pools.router.install()
        loaded = _ready(call) or await self._load_in_thread(call)
        output = CallOutput(call.ports.log)
        token = _output.set(output)
        try:
            positional, keywords = _bind(loaded, call, call.ports.log)
            value = loaded.function(*positional, **keywords)
            return await value if loaded.shape.is_async or inspect.isawaitable(value) else value
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise function_error(RuntimeError("the function cancelled itself")) from error
        except (AttemptError, KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:
            raise function_error(error) from error
        finally:
            _output.reset(token)
            output.flush()
            output.close()

    async def _load_in_thread(self, call: StepCall) -> LoadedFunction:
        """Load an inline function: an import may take seconds, which the loop does not have."""
        function = call.step.function
        assert isinstance(function, str)
        return cast(LoadedFunction, await self._in_thread(call, lambda _: _loader.load(function, call.plan_folder)))

    async def _thread(self, call: StepCall) -> Any:
        relay, log = self._pools.relay, call.ports.log
        contexts: list[StepContext] = []

        def work(thread_call: ThreadCall) -> Any:
            loaded = _ready(call) or _loader.load(str(call.step.function), call.plan_folder)
            positional, keywords = _bind(loaded, call, lambda stream, text: relay.send(log, stream, text), contexts)
            value = loaded.function(*positional, **keywords)
            return thread_call.run_coroutine(_awaited(value)) if inspect.isawaitable(value) else value

        def ask_to_stop() -> None:
            for context in contexts:
                context.cancel()

        return await self._in_thread(call, work, ask_to_stop)

    async def _in_thread(
        self, call: StepCall, work: Callable[[ThreadCall], Any], on_cancel: Callable[[], None] | None = None
    ) -> Any:
        """Return what `work` returns in a thread, with what it prints going to the step's log."""
        self._pools.router.install()
        output = CallOutput(call.ports.log, self._pools.relay)

        def with_output(thread_call: ThreadCall) -> Any:
            try:
                return work(thread_call)
            finally:
                output.flush()  # here and not on the loop: so it is there before the result

        token = _output.set(output)
        try:
            thread_call = self._pools.threads.submit(with_output, on_cancel)
        finally:
            _output.reset(token)
        try:
            return await thread_call.result
        except (asyncio.CancelledError, GeneratorExit):
            self._abandon(call, thread_call)
            raise
        except AttemptError:
            raise
        except BaseException as error:
            raise function_error(error) from error
        finally:
            output.close()

    def _abandon(self, call: StepCall, thread_call: ThreadCall) -> None:
        """Leave a thread that cannot be stopped to itself; the engine keeps its slot until it has ended."""
        thread_call.cancel()
        if not thread_call.finished.done():
            call.lingering = thread_call.finished

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
        if not call.cwd.is_dir():
            raise AttemptError(
                f"there is no folder {call.cwd} to work in",
                error_type=ErrorType.USER_ERROR,
                hint="Check the step's cwd.",
            )
        if not isinstance(function, str) and "dill" not in sys.modules:
            await self._pools.threads.submit(lambda _: import_module("dill")).result
        try:
            payload, by_value = pack(None if isinstance(function, str) else function, call.args, label)
        except NotPicklableError as error:
            if not call.step.fallback:
                raise
            call.ports.warn(f"ran in a thread: {error}")
            call.ports.begun()
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
                "sys_path": None,
            },
            call.ports.log,
            label,
            call.ports.begun,
        )


def _ready(call: StepCall) -> LoadedFunction | None:
    """Return the step's function if nothing must be imported for it."""
    function = call.step.function
    if isinstance(function, str):
        return _loader.current(function, call.plan_folder)
    assert function is not None
    return _known(function)


def _bind(
    loaded: LoadedFunction,
    call: StepCall,
    log: Callable[[str, str], None],
    contexts: list[StepContext] | None = None,
) -> tuple[list[Any], dict[str, Any]]:
    """Return the function's arguments; a context that was made for them is added to `contexts`."""
    context = None
    if loaded.shape.context:
        context = _context(call, log)
        if contexts is not None:
            contexts.append(context)
    return arguments_for(loaded.shape, call.args, context)


def _known(function: Callable[..., Any]) -> LoadedFunction:
    """Return a callable with its shape, worked out once for each."""
    known = _shapes.get(id(function))
    if known is None or known.function is not function:
        if len(_shapes) >= _MOST_SHAPES:
            _shapes.clear()
        known = _shapes[id(function)] = LoadedFunction(function, call_shape(function), None, None)
    return known


_MOST_SHAPES = 1_000
_shapes: dict[int, LoadedFunction] = {}


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


def _label(function: Any) -> str:
    return function if isinstance(function, str) else getattr(function, "__qualname__", type(function).__name__)


async def _awaited(value: Any) -> Any:
    return await value

"""From a step's attempt to a call of an executor: what the engine hands over becomes `execute(args, ctx)`."""

from __future__ import annotations

from abc import abstractmethod
from collections import OrderedDict
from pathlib import Path
from typing import Any, ClassVar, cast

from stepchain_tui.core.errors import UsageError
from stepchain_tui.executors.base import BaseExecutor, IExecutor
from stepchain_tui.executors.context import CallContext
from stepchain_tui.executors.registry import ExecutorFactory
from stepchain_tui.executors.sources import class_at_hand, executor_class
from stepchain_tui.executors.spec import ToolSpec
from stepchain_tui.executors.threads import call_threads
from stepchain_tui.executors.types import Outcome, StepCall
from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.status import ErrorType

_MOST_AT_REST = 256
"""Executors that are kept for the next call; those that were used longest ago go first."""


class KindSteps:
    """Carries out the steps of one kind by the executors of its factory (`executors.types.StepExecutor`).

    An executor is made when the first call needs it and is used again for calls of the same class and spec, so that
    what it holds (sessions, connections, batches) is shared.
    """

    factory: ClassVar[type[ExecutorFactory]]

    def __init__(self) -> None:
        self._made: OrderedDict[tuple[Any, ...], IExecutor] = OrderedDict()
        self._busy: dict[tuple[Any, ...], int] = {}

    @abstractmethod
    def args_of(self, call: StepCall) -> dict[str, Any]:
        """Return what the executor gets as `args`."""

    def spec_of(self, call: StepCall) -> ToolSpec:
        """Return what the executor gets as `spec`."""
        return ToolSpec(tool_name=call.step.id, timeout=call.timeout)

    def make(self, executor_type: type[Any], spec: ToolSpec, call: StepCall) -> IExecutor:
        """Return a new executor of a class."""
        made: IExecutor = executor_type(spec)
        return made

    def key_of(self, call: StepCall) -> Any:
        """Return what else than the spec must be the same for two calls to share an executor; hashable."""
        return None

    def provider(self, call: StepCall) -> str:
        """Return the name of the circuit breaker of what a call goes to, or an empty string where it has none."""
        return ""

    async def execute(self, call: StepCall) -> Outcome:
        """Carry out one attempt. See `executors.types` for the duties.

        Raises:
            AttemptError: There is no such type of executor, or the call failed in a way that is known.
        """
        found = await self._class_for(call)
        spec = self.spec_of(call)
        key = (found, call.run_id, spec.model_dump_json(), self.key_of(call))
        executor = self._made.get(key)
        if executor is None:
            executor = self._made[key] = self._made_for(found, spec, call)
        self._made.move_to_end(key)
        self._busy[key] = self._busy.get(key, 0) + 1
        try:
            return Outcome(await executor.execute(self.args_of(call), CallContext(call)))
        finally:
            self._busy[key] -= 1
            if not self._busy[key]:
                del self._busy[key]
            await self._let_go(_MOST_AT_REST)

    async def close(self) -> None:
        """Let go of all executors; may be called twice."""
        await self._let_go(0)

    async def _class_for(self, call: StepCall) -> type[Any]:
        name, folder = call.step.executor, Path(call.plan_folder)
        found = class_at_hand(self.factory, name, folder)
        if found is not None:
            return found
        try:
            # An import may take seconds, which the loop does not have.
            work = call_threads().submit(lambda _: executor_class(self.factory, name, folder))
            return cast("type[Any]", await work.result)
        except UsageError as error:
            raise AttemptError(
                f"step '{call.step.id}': executor '{name}': {error}", error_type=ErrorType.USER_ERROR, hint=error.hint
            ) from error

    def _made_for(self, found: type[Any], spec: ToolSpec, call: StepCall) -> IExecutor:
        try:
            return self.make(found, spec, call)
        except TypeError as error:
            raise AttemptError(
                f"step '{call.step.id}': executor '{call.step.executor}' cannot be made: {error}",
                error_type=ErrorType.USER_ERROR,
                hint=f"{found.__name__} takes what the base class of {self.factory.registry.kind} executors takes.",
            ) from error

    async def _let_go(self, most: int) -> None:
        if len(self._made) <= most:
            return
        at_rest = [key for key in self._made if key not in self._busy]
        leaving = [self._made.pop(key) for key in at_rest[: len(self._made) - most]]  # before anything is awaited
        for executor in leaving:
            if isinstance(executor, BaseExecutor) or hasattr(executor, "close"):
                await executor.close()

"""`Executor`: document 000's synchronous executor, a thin face of `AsyncExecutor`."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeVar

from stepchain_tui.core.clock import SystemClock
from stepchain_tui.core.ids import new_run_id
from stepchain_tui.core.settings import Settings
from stepchain_tui.core.telemetry import Telemetry
from stepchain_tui.engine.async_executor import AsyncExecutor
from stepchain_tui.engine.results import StepResult
from stepchain_tui.llm import AsyncLLMClient, LLMClient
from stepchain_tui.llm.history import CompressionStrategy
from stepchain_tui.plan import Plan
from stepchain_tui.store.base import AbstractStore

T = TypeVar("T")


class Executor:
    """Carries plans out and returns when they are done (document 000). Works inside a running loop too.

    Args:
        client: An `LLMClient` for prompt steps; OpenAI, as the environment describes it, if None.
        store: Where runs are kept; the user's SQLite store if None, so that the app's history has them.
        compression_strategy: Says how much of earlier outputs goes into prompts that say nothing of `history`: all,
            `FullHistory()`, if None.
        telemetry: Gets a span for each plan and step; see `Telemetry`.
    """

    def __init__(
        self,
        client: LLMClient | AsyncLLMClient | None = None,
        store: AbstractStore | None = None,
        compression_strategy: CompressionStrategy | None = None,
        telemetry: Telemetry | None = None,
        *,
        settings: Settings | None = None,
    ) -> None:
        self.client = client
        self._async = AsyncExecutor(
            store=store,
            client=client,
            compression_strategy=compression_strategy,
            settings=settings,
            telemetry=telemetry,
        )
        self.compression_strategy = self._async.compression_strategy
        self.telemetry = self._async.telemetry

    @property
    def store(self) -> AbstractStore:
        """Where runs are kept."""
        return self._async.store

    def execute_plan(
        self, plan: Plan, run_id: str, resume: bool = True, *, inputs: Mapping[str, Any] | None = None
    ) -> list[StepResult]:
        """Carry a plan out; see `AsyncExecutor.execute_plan`."""
        return result_of(lambda: self._async.execute_plan(plan, run_id, resume, inputs=inputs), f"run {run_id}")

    def get_results(self, run_id: str) -> list[StepResult]:
        """Return what became of the steps of a run so far; see `AsyncExecutor.get_results`."""
        return result_of(lambda: self._async.get_results(run_id), f"results of {run_id}")


def execute(
    plan: Plan,
    run_id: str | None = None,
    resume: bool = True,
    *,
    inputs: Mapping[str, Any] | None = None,
    client: LLMClient | AsyncLLMClient | None = None,
    store: AbstractStore | None = None,
    compression_strategy: CompressionStrategy | None = None,
    telemetry: Telemetry | None = None,
) -> list[StepResult]:
    """Carry a plan out and return the result of every step: an `Executor` for one call.

    Args:
        plan: The plan.
        run_id: Names the run; made if None, and then every call is a run of its own.
        resume: As for `Executor.execute_plan`.
        inputs: Values of the plan's inputs.
        client: As for `Executor`, like those that follow.
        store: See `Executor`.
        compression_strategy: See `Executor`.
        telemetry: See `Executor`.
    """
    executor = Executor(client, store, compression_strategy, telemetry)
    return executor.execute_plan(plan, run_id or new_run_id(SystemClock().now()), resume, inputs=inputs)


def result_of(make: Callable[[], Coroutine[Any, Any, T]], name: str) -> T:
    """Return what a coroutine gives, waiting for it here; in a thread of its own where this one runs a loop."""
    outcome: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(asyncio.run(make()))
        except BaseException as error:  # noqa: BLE001 - carried to the caller's thread, where it is raised
            errors.append(error)

    if _loop_is_running():
        thread = threading.Thread(target=run, name=name)
        thread.start()
        thread.join()
    else:
        run()
    if errors:
        raise errors[0]
    return outcome[0]


def _loop_is_running() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True

"""`AsyncExecutor`: document 000's executor inside the caller's event loop, a face of the engine."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stepchain_tui.core.errors import UsageError
from stepchain_tui.core.settings import Settings
from stepchain_tui.core.telemetry import Telemetry, telemetry_of
from stepchain_tui.engine.engine import Engine
from stepchain_tui.engine.results import StepResult, step_results
from stepchain_tui.engine.runs import RunHandle
from stepchain_tui.engine.scheduler import Scheduler
from stepchain_tui.engine.source import RunSource
from stepchain_tui.llm import AsyncLLMClient, LLMClient
from stepchain_tui.llm.history import CompressionStrategy, FullHistory
from stepchain_tui.plan import DEFAULT_MAX_CONCURRENT, Plan, resolve_inputs
from stepchain_tui.store.base import AbstractStore, Command

if TYPE_CHECKING:
    from stepchain_tui.engine.executor import Executor


class AsyncExecutor:
    """Carries plans out concurrently in the caller's event loop (document 000).

    Args:
        executor: A configured `Executor` whose client and store are used.
        scheduler: The order of ready steps.
        max_concurrent: How many steps may run at once; a plan that writes its own keeps it.
        telemetry: Gets a span for each plan and step, instead of the executor's; see `Telemetry`.
        store: Where runs are kept, instead of the executor's; the user's store if neither is given.
        client: An `LLMClient` for prompt steps, instead of the executor's.
        compression_strategy: Says how much of earlier outputs goes into prompts that say nothing of `history`, instead
            of the executor's; all of it if neither is given.
        settings: The user's settings; the built-in ones if None.
    """

    def __init__(
        self,
        executor: Executor | None = None,
        scheduler: Scheduler | None = None,
        max_concurrent: int = DEFAULT_MAX_CONCURRENT,
        telemetry: Telemetry | None = None,
        *,
        store: AbstractStore | None = None,
        client: LLMClient | AsyncLLMClient | None = None,
        compression_strategy: CompressionStrategy | None = None,
        settings: Settings | None = None,
    ) -> None:
        self.telemetry = telemetry_of(telemetry if telemetry is not None else getattr(executor, "telemetry", None))
        self.scheduler = scheduler or Scheduler()
        self.max_concurrent = max_concurrent
        self.client = client if client is not None else getattr(executor, "client", None)
        self.compression_strategy = checked_strategy(
            compression_strategy
            if compression_strategy is not None
            else getattr(executor, "compression_strategy", None)
        )
        self._store = store or getattr(executor, "store", None)
        self._settings = settings or Settings()

    @property
    def store(self) -> AbstractStore:
        """Where runs are kept."""
        if self._store is None:
            from stepchain_tui.store import SQLiteStore

            self._store = SQLiteStore(durability=self._settings.durability)
        return self._store

    async def execute_plan(
        self, plan: Plan, run_id: str, resume: bool = True, *, inputs: Mapping[str, Any] | None = None
    ) -> list[StepResult]:
        """Carry a plan out; a run id that is known goes on with that run.

        Args:
            plan: The plan.
            run_id: Names the run; the same id is the same run.
            resume: Go on from what a former call left; False starts over in the same run, old attempts stay.
            inputs: Values of the plan's inputs.

        Returns:
            The result of every step, in plan order. A plan that waits for a person's answer returns with that step
            waiting; answer it and call again.

        Raises:
            PlanError: The plan cannot run; nothing was run.
            RunLockedError: A living engine owns the run.
        """
        folder = Path.cwd()
        source = RunSource(
            plan=plan,
            folder=folder,
            inputs=resolve_inputs(plan, inputs or {}, folder),
            max_concurrent=self._slots_for(plan),
        )
        async with self._engine() as engine:
            handle = await engine.start(source, run_id=run_id, resume=resume, detach=True)
            try:
                await handle.wait()
            except asyncio.CancelledError:
                await asyncio.shield(_cancel(engine, handle))
                raise
            return await step_results(engine.store, handle.state)

    async def get_results(self, run_id: str) -> list[StepResult]:
        """Return what became of the steps of a run so far, in plan order; nothing is carried out.

        Raises:
            UnknownRunError: The store does not hold the run.
        """
        async with Engine(self.store, settings=self._settings) as engine:  # which shares the store with other engines
            return await step_results(engine.store, await engine.store.load_state(run_id))

    def _engine(self) -> Engine:
        return Engine(
            self.store,
            settings=self._settings,
            scheduler=self.scheduler,
            client=self.client,
            compression=self.compression_strategy,
            telemetry=self.telemetry,
        )

    def _slots_for(self, plan: Plan) -> int | None:
        if "max_concurrent" in plan.model_fields_set and self.max_concurrent == DEFAULT_MAX_CONCURRENT:
            return None
        return self.max_concurrent


def checked_strategy(given: Any) -> CompressionStrategy:
    """Return how much of earlier outputs goes into prompts: what is given, all of it if that is None.

    Raises:
        UsageError: It is an object that cannot say.
    """
    if given is None:
        return FullHistory()
    if isinstance(given, type) or not callable(getattr(given, "compress", None)):
        name = given.__name__ if isinstance(given, type) else type(given).__name__
        raise UsageError(
            f"compression_strategy: {name} is no object with a method compress(results)",
            hint="Give an object of a class made from stepchain_tui.CompressionStrategy, such as FullHistory().",
        )
    found: CompressionStrategy = given
    return found


async def _cancel(engine: Engine, handle: RunHandle) -> None:
    """Cancel a run whose caller was cancelled, and wait until its work has ended."""
    command = Command(
        id=f"cancel-{handle.run_id}",
        run_id=handle.run_id,
        command="cancel",
        sender="the caller",
        sent_at=engine.core.clock.now(),
    )
    if handle.live:
        await engine.apply(command)
        await handle.wait()

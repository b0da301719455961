"""The engine in a thread of the app's own process."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from stepchain_tui.core.errors import StepChainError
from stepchain_tui.core.settings import Settings
from stepchain_tui.tui.host import Answer, HostError, HowToEnd

if TYPE_CHECKING:
    from stepchain_tui.engine import Engine
    from stepchain_tui.engine.assistant import Assistant
    from stepchain_tui.engine.receipt import Receipt

T = TypeVar("T")


class ThreadHost:
    """The engine in a thread of this process, with its own event loop: for tests and for looking into it.

    Args:
        store_path: The store.
        settings: The user's settings.
    """

    can_outlive_app = False

    def __init__(self, store_path: Path, settings: Settings) -> None:
        self._store_path = store_path
        self._settings = settings
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="engine", daemon=True)
        self._engine: Engine | None = None
        self._opening = asyncio.Lock()
        self._assistant: Assistant | None = None

    @property
    def pid(self) -> int:
        """The id of this process."""
        return os.getpid()

    async def open(self) -> None:
        """Start the thread and open the engine in it."""
        async with self._opening:
            if self._engine is None:
                self._thread.start()
                self._engine = await self._submit(self._open())

    async def start(self, plan_path: str, *, inputs: Mapping[str, Any], run_id: str | None, working_folder: str) -> str:
        """Start a run; see `EngineHost`."""
        service = await self._service()
        handle = await self._submit(
            service.start(plan_path, inputs=inputs, run_id=run_id, working_folder=working_folder)
        )
        return str(handle.run_id)

    async def resume(self, run_id: str, *, inputs: Mapping[str, Any]) -> None:
        """Go on with a run; see `EngineHost`."""
        await self._submit((await self._service()).resume(run_id, inputs=inputs))

    async def rerun(
        self, run_id: str, step_id: str, *, downstream: bool, inputs: Mapping[str, Any], failed: bool = False
    ) -> None:
        """Run a step again; see `EngineHost`."""
        service = await self._service()
        await self._submit(service.rerun(run_id, step_id, downstream=downstream, failed=failed, inputs=inputs))

    async def fork(self, run_id: str, step_id: str, inputs: Mapping[str, Any]) -> str:
        """Begin a new run from a step; see `EngineHost`."""
        handle = await self._submit((await self._service()).fork(run_id, step_id, inputs=inputs))
        return str(handle.run_id)

    async def replay(self, run_id: str) -> str:
        """Begin a replay; see `EngineHost`."""
        handle = await self._submit((await self._service()).replay(run_id))
        return str(handle.run_id)

    async def trust(self, run_id: str) -> None:
        """Let an imported run be carried out; see `EngineHost`."""
        await self._submit((await self._service()).trust(run_id))

    async def receipt(
        self, run_id: str, command: str, arguments: Mapping[str, Any], plan_path: str | None = None
    ) -> Receipt:
        """Return what a command would do; see `EngineHost`."""
        found: Receipt = await self._submit(
            (await self._service()).receipt(run_id, command, arguments, plan_path=plan_path)
        )
        return found

    async def forecast(self, plan_path: str, working_folder: str) -> Answer:
        """Return what a run of a plan will probably take; see `EngineHost`."""
        service = await self._service()
        found: Answer = await self._submit(service.forecast(plan_path, working_folder=working_folder))
        return found

    async def steer(self, run_id: str, command: str, arguments: Mapping[str, Any]) -> Answer:
        """Give a command to a run; see `EngineHost`."""
        answer: Answer = await self._submit((await self._service()).steer(run_id, command, arguments))
        return answer

    async def tools(self, plan_path: str | None, connect: bool) -> Answer:
        """Return what can be known of tools; see `EngineHost`."""
        answer: Answer = await self._submit((await self._service()).tools(plan_path, connect=connect))
        return answer

    async def restart_server(self, name: str) -> Answer:
        """Start a server anew; see `EngineHost`."""
        answer: Answer = await self._submit((await self._service()).restart_server(name))
        return answer

    async def reset_breaker(self, name: str) -> None:
        """Close a circuit breaker; see `EngineHost`."""
        await self._submit((await self._service()).reset_breaker(name))

    async def assist(self, what: str, arguments: Mapping[str, Any]) -> Answer:
        """Ask for a plan or a repair; see `EngineHost`."""
        from stepchain_tui.engine.assistant import Assistant
        from stepchain_tui.engine.runs import RunHandle

        if self._assistant is None:
            self._assistant = Assistant(await self._service())
        found = await self._submit(self._assistant.carry_out(what, arguments))
        return {"run_id": found.run_id} if isinstance(found, RunHandle) else found

    async def live(self) -> list[str]:
        """Return the runs of this engine."""
        return list(self._engine.live_runs) if self._engine is not None else []

    async def end(self, how: HowToEnd) -> None:
        """Let the runs go and end the thread; runs that are to be kept are interrupted, as nothing is left of us."""
        engine = self._engine
        if engine is None:
            if not self._thread.is_alive():
                self._loop.close()
            return
        for run_id in list(engine.live_runs) if how != "keep" else ():
            try:
                await self.steer(run_id, how, {"now": True} if how == "pause" else {})
            except HostError:
                continue  # it ended meanwhile
        await self._submit(engine.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        await asyncio.to_thread(self._thread.join)
        await asyncio.to_thread(_close_loop, self._loop)

    async def _open(self) -> Engine:
        from stepchain_tui.engine.engine import Engine
        from stepchain_tui.store.sqlite import SQLiteStore

        engine = Engine(SQLiteStore(self._store_path, durability=self._settings.durability), settings=self._settings)
        await engine.open()
        return engine

    async def _service(self) -> Any:
        await self.open()
        # Only now: two threads that import parts of the engine at once would find half of it.
        from stepchain_tui.engine.service import EngineService

        assert self._engine is not None
        return EngineService(self._engine)

    async def _submit(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))
        except StepChainError as error:
            raise HostError(error.message, hint=error.hint, of_kind=error.kind) from error


def _close_loop(loop: asyncio.AbstractEventLoop) -> None:
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()

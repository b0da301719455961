"""The engine as the app sees it: a child process of its own session, or, for tests, a thread.

All runs go on there. The app asks, and reads in the store what came of it, so a slow frame, a crash of the app or a
closed terminal cannot hurt a run; and quitting can leave it running.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

from stepchain_tui.core.errors import StepChainError

if TYPE_CHECKING:
    from stepchain_tui.engine.receipt import Receipt

Answer = dict[str, Any]
T = TypeVar("T")
HowToEnd = Literal["keep", "pause", "cancel"]
END_SECONDS = 8.0
"""How long the engine may take to let its runs go when the app ends."""
_kept: list[subprocess.Popen[bytes]] = []
"""Engines that go on without us; they are not ours to wait for."""


class HostError(StepChainError):
    """Signals that the engine refused a request, or that it is gone.

    Args:
        of_kind: The kind of the engine's own error, such as `plan`, `input`, `run_locked`, or `gone`.
    """

    kind = "host"

    def __init__(self, message: str, *, hint: str = "", of_kind: str = "error") -> None:
        super().__init__(message, hint=hint)
        self.of_kind = of_kind


class EngineHost(Protocol):
    """What the app asks of an engine, wherever it is. Every method may raise `HostError`."""

    can_outlive_app: bool
    """Whether runs may go on when the app has ended."""

    @property
    def pid(self) -> int:
        """The engine's process id, 0 before it was started."""

    async def open(self) -> None:
        """Get warm; the other methods wait for it."""

    async def start(self, plan_path: str, *, inputs: Mapping[str, Any], run_id: str | None, working_folder: str) -> str:
        """Start a run of a plan's file and return the run's id."""

    async def resume(self, run_id: str, *, inputs: Mapping[str, Any]) -> None:
        """Go on with a run that nobody carries out."""

    async def rerun(
        self, run_id: str, step_id: str, *, downstream: bool, inputs: Mapping[str, Any], failed: bool = False
    ) -> None:
        """Run a step of a stopped run again; of a map `failed` items only."""

    async def fork(self, run_id: str, step_id: str, inputs: Mapping[str, Any]) -> str:
        """Begin a new run from a step of another and return the new run's id."""

    async def replay(self, run_id: str) -> str:
        """Begin a new run that replays another one and return the new run's id."""

    async def trust(self, run_id: str) -> None:
        """Let the steps of an imported run be carried out here from now on."""

    async def receipt(
        self, run_id: str, command: str, arguments: Mapping[str, Any], plan_path: str | None = None
    ) -> Receipt:
        """Return what a command would do to a run; nothing is changed. See `EngineService.receipt`."""

    async def forecast(self, plan_path: str, working_folder: str) -> Answer:
        """Return what a run of a plan will probably take. See `EngineService.forecast`."""

    async def steer(self, run_id: str, command: str, arguments: Mapping[str, Any]) -> Answer:
        """Give a command to a run, whoever carries it out, and return the answer, its words under `message`."""

    async def tools(self, plan_path: str | None, connect: bool) -> Answer:
        """Return what can be known of tools, servers, circuit breakers and pools. See `EngineService.tools`."""

    async def restart_server(self, name: str) -> Answer:
        """End an MCP server of this engine, start it anew and return its row."""

    async def reset_breaker(self, name: str) -> None:
        """Close a circuit breaker by hand."""

    async def assist(self, what: str, arguments: Mapping[str, Any]) -> Answer:
        """Ask for a plan of a goal or for a repair of a step: a request of `engine.assistant.Assistant`, by its name.

        What starts a run gives `{"run_id"}` at once.
        """

    async def live(self) -> list[str]:
        """Return the ids of the runs that this engine carries out."""

    async def end(self, how: HowToEnd) -> None:
        """Let the runs go as the person said, and the engine with them."""


class ChildHost:
    """The engine in a process of its own: `python -m stepchain_tui.engine.host`, JSON lines both ways.

    Args:
        store_path: The store.
        log_path: Where the engine's standard error goes.
        on_death: Called with a sentence when the engine died and was started anew.
    """

    can_outlive_app = True

    def __init__(self, store_path: Path, log_path: Path, on_death: Callable[[str], object]) -> None:
        self._store_path = store_path
        self._log_path = log_path
        self._on_death = on_death
        self._process: subprocess.Popen[bytes] | None = None
        self._writer: asyncio.WriteTransport | None = None
        self._reading: asyncio.Task[None] | None = None
        self._ready: asyncio.Future[None] | None = None
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._number = 0
        self._ending = False
        self._opening = asyncio.Lock()

    @property
    def pid(self) -> int:
        """The engine's process id, 0 before it was started."""
        return self._process.pid if self._process is not None else 0

    async def open(self) -> None:
        """Start the engine's process and return once it answers."""
        async with self._opening:
            if self._ready is None:
                self._ready = asyncio.get_running_loop().create_future()
                await self._spawn()
        await asyncio.shield(self._ready)

    async def start(self, plan_path: str, *, inputs: Mapping[str, Any], run_id: str | None, working_folder: str) -> str:
        """Start a run; see `EngineHost`."""
        answer = await self._call(
            "start", plan_path=plan_path, inputs=dict(inputs), run_id=run_id, working_folder=working_folder
        )
        return str(answer["run_id"])

    async def resume(self, run_id: str, *, inputs: Mapping[str, Any]) -> None:
        """Go on with a run; see `EngineHost`."""
        await self._call("resume", run_id=run_id, inputs=dict(inputs))

    async def rerun(
        self, run_id: str, step_id: str, *, downstream: bool, inputs: Mapping[str, Any], failed: bool = False
    ) -> None:
        """Run a step again; see `EngineHost`."""
        await self._call(
            "rerun", run_id=run_id, step=step_id, downstream=downstream, failed=failed, inputs=dict(inputs)
        )

    async def fork(self, run_id: str, step_id: str, inputs: Mapping[str, Any]) -> str:
        """Begin a new run from a step; see `EngineHost`."""
        return str((await self._call("fork", run_id=run_id, step=step_id, inputs=dict(inputs)))["run_id"])

    async def replay(self, run_id: str) -> str:
        """Begin a replay; see `EngineHost`."""
        return str((await self._call("replay", run_id=run_id))["run_id"])

    async def trust(self, run_id: str) -> None:
        """Let an imported run be carried out; see `EngineHost`."""
        await self._call("trust", run_id=run_id)

    async def receipt(
        self, run_id: str, command: str, arguments: Mapping[str, Any], plan_path: str | None = None
    ) -> Receipt:
        """Return what a command would do; see `EngineHost`."""
        from stepchain_tui.engine.receipt import Receipt

        found = await self._call(
            "receipt", run_id=run_id, command=command, arguments=dict(arguments), plan_path=plan_path
        )
        return Receipt.from_json(found)

    async def forecast(self, plan_path: str, working_folder: str) -> Answer:
        """Return what a run of a plan will probably take; see `EngineHost`."""
        found: Answer = await self._call("forecast", plan_path=plan_path, working_folder=working_folder)
        return found

    async def steer(self, run_id: str, command: str, arguments: Mapping[str, Any]) -> Answer:
        """Give a command to a run; see `EngineHost`."""
        answer: Answer = await self._call("steer", run_id=run_id, command=command, arguments=dict(arguments))
        return answer

    async def tools(self, plan_path: str | None, connect: bool) -> Answer:
        """Return what can be known of tools; see `EngineHost`."""
        answer: Answer = await self._call("tools", plan_path=plan_path, connect=connect)
        return answer

    async def restart_server(self, name: str) -> Answer:
        """Start a server anew; see `EngineHost`."""
        answer: Answer = await self._call("restart_server", name=name)
        return answer

    async def reset_breaker(self, name: str) -> None:
        """Close a circuit breaker; see `EngineHost`."""
        await self._call("reset_breaker", name=name)

    async def assist(self, what: str, arguments: Mapping[str, Any]) -> Answer:
        """Ask for a plan or a repair; see `EngineHost`."""
        answer: Answer = await self._call("assist", what=what, arguments=dict(arguments))
        return answer

    async def live(self) -> list[str]:
        """Return the runs of this engine; an engine that was never started, or is gone, has none."""
        if self._ready is None or not self._ready.done() or self._ready.exception() is not None:
            return []
        return [str(run_id) for run_id in await self._call("live")]

    async def end(self, how: HowToEnd) -> None:
        """Let the runs go, close the engine's input and wait for it to end, unless it is to be kept."""
        self._ending = True
        process = self._process
        if process is None:
            return
        keeping = False
        try:
            async with asyncio.timeout(END_SECONDS):
                live = await self.live()
                keeping = how == "keep" and bool(live)
                if live and not keeping:
                    await self._call("end", how=how)
        except (TimeoutError, HostError):
            keeping = how == "keep"
        if self._writer is not None:
            self._writer.close()
        if keeping:
            _kept.append(process)
        else:
            await asyncio.to_thread(_wait_or_end, process)
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)

    # --- the pipe

    async def _spawn(self) -> None:
        self._process = await asyncio.to_thread(_popen, self._store_path, self._log_path)
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=64 * 1024 * 1024)
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), self._process.stdout)
        transport, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, self._process.stdin)
        self._writer = transport
        self._reading = loop.create_task(self._read(reader), name="engine's answers")

    async def _call(self, name: str, /, **arguments: Any) -> Any:
        await self.open()
        self._number += 1
        number = self._number
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        from stepchain_tui.core.values import encode_json

        assert self._writer is not None
        self._writer.write(encode_json({"id": number, "call": name, **arguments}) + b"\n")
        try:
            return await future
        finally:
            self._waiting.pop(number, None)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        from stepchain_tui.core.values import decode_json

        while line := await reader.readline():
            self._take(decode_json(line))
        await self._died()

    def _take(self, answer: dict[str, Any]) -> None:
        number, error = answer.get("id"), answer.get("error")
        future = self._ready if number == 0 else self._waiting.get(number or -1)
        if future is None or future.done():
            return
        if error is None:
            future.set_result(answer.get("result"))
        else:
            future.set_exception(
                HostError(error.get("error", ""), hint=error.get("hint", ""), of_kind=error.get("kind", "error"))
            )

    async def _died(self) -> None:
        process, ready = self._process, self._ready
        gone = HostError(
            "the engine ended unexpectedly", hint=f"Its last words are in {self._log_path}", of_kind="gone"
        )
        for future in [*self._waiting.values(), *([ready] if ready is not None else [])]:
            if not future.done():
                future.set_exception(gone)
                future.exception()
        if process is not None and not self._ending:
            code = await asyncio.to_thread(process.wait)
            was_ready = ready is not None and ready.exception() is None
            self._ready, self._process = None, None
            if was_ready:
                self._on_death(f"The engine ended ({_how(code)}). Its runs are interrupted: p goes on with them.")


def _popen(store_path: Path, log_path: Path) -> subprocess.Popen[bytes]:
    log_path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with log_path.open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "stepchain_tui.engine.host", "--store", str(store_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        )


def _wait_or_end(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        process.terminate()
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _how(code: int) -> str:
    return f"killed by signal {-code}" if code < 0 else f"exit code {code}"

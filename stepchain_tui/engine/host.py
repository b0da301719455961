"""The engine in a process of its own: `python -m stepchain_tui.engine.host --store FILE`.

Requests come in as JSON lines on standard input, `{"id": 1, "call": "start", ...}`, answers go out as JSON lines on
standard output, `{"id": 1, "result": ...}` or `{"id": 1, "error": {...}}`. When standard input ends, the app has gone:
the process goes on until none of its runs is live. SIGTERM interrupts the runs and ends it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import os
import signal
import sys
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from stepchain_tui.core.errors import StepChainError, UsageError
from stepchain_tui.core.paths import settings_path
from stepchain_tui.core.settings import load_settings
from stepchain_tui.core.values import decode_json, encode_json
from stepchain_tui.engine.assistant import Assistant
from stepchain_tui.engine.engine import Engine
from stepchain_tui.engine.runs import RunHandle
from stepchain_tui.engine.service import EngineService, error_record
from stepchain_tui.store import SQLiteStore

Call = Callable[[dict[str, Any]], Awaitable[Any]]


class Host:
    """Serves requests until its app and its runs are gone."""

    def __init__(self, engine: Engine, write: Callable[[bytes], None]) -> None:
        self.engine = engine
        self.service = EngineService(engine)
        self.assistant = Assistant(self.service)
        self._write = write
        self._app_gone = asyncio.Event()
        self._ending = asyncio.Event()
        self._requests: set[asyncio.Task[None]] = set()
        self._runs: set[asyncio.Task[None]] = set()

    async def serve(self, lines: asyncio.StreamReader) -> None:
        """Answer requests; return when there is nothing left to do."""
        reading = asyncio.create_task(self._read(lines), name="requests")
        ending = asyncio.create_task(self._ending.wait(), name="ending")
        gone = asyncio.create_task(self._until_idle(), name="idle")
        await asyncio.wait({ending, gone}, return_when=asyncio.FIRST_COMPLETED)
        for task in (reading, ending, gone):
            task.cancel()
        await asyncio.gather(reading, ending, gone, return_exceptions=True)

    def end(self) -> None:
        """Stop serving: live runs are interrupted."""
        self._ending.set()

    async def _until_idle(self) -> None:
        await self._app_gone.wait()
        while self._requests:
            await asyncio.wait(self._requests)
        self.service.detach = True
        self.engine.detach()
        while self._runs:
            await asyncio.wait(self._runs, return_when=asyncio.FIRST_COMPLETED)

    async def _read(self, lines: asyncio.StreamReader) -> None:
        while line := await lines.readline():
            task = asyncio.create_task(self._answer(line), name="request")
            self._requests.add(task)
            task.add_done_callback(self._requests.discard)
        self._app_gone.set()

    async def _answer(self, line: bytes) -> None:
        request: dict[str, Any] = {}
        try:
            request = decode_json(line)
            calls: dict[str, Call] = {
                "start": self._start,
                "resume": self._resume,
                "rerun": self._rerun,
                "fork": self._fork,
                "replay": self._replay,
                "trust": self._trust,
                "receipt": self._receipt,
                "forecast": self._forecast,
                "steer": self._steer,
                "tools": self._tools,
                "restart_server": self._restart_server,
                "reset_breaker": self._reset_breaker,
                "assist": self._assist,
                "live": self._live,
                "end": self._end,
            }
            call = calls.get(str(request.get("call")))
            if call is None:
                raise UsageError(f"there is no request '{request.get('call')}'")
            answer = {"id": request["id"], "result": await call(request)}
        except StepChainError as error:
            answer = {"id": request.get("id"), "error": error_record(error)}
        except Exception as error:  # noqa: BLE001 - the border to the app: a bug of ours becomes an answer
            record = {"error": f"{type(error).__name__}: {error}", "kind": "internal", "hint": traceback.format_exc()}
            answer = {"id": request.get("id"), "error": record}
        self._write(encode_json(answer) + b"\n")

    async def _start(self, request: dict[str, Any]) -> dict[str, Any]:
        handle = await self.service.start(
            request["plan_path"],
            inputs=request.get("inputs"),
            run_id=request.get("run_id"),
            fresh=bool(request.get("fresh")),
            working_folder=request.get("working_folder"),
        )
        return self._watch(handle)

    async def _resume(self, request: dict[str, Any]) -> dict[str, Any]:
        return self._watch(await self.service.resume(request["run_id"], inputs=request.get("inputs")))

    async def _rerun(self, request: dict[str, Any]) -> dict[str, Any]:
        handle = await self.service.rerun(
            request["run_id"],
            request["step"],
            downstream=bool(request.get("downstream")),
            failed=bool(request.get("failed")),
            inputs=request.get("inputs"),
        )
        return self._watch(handle)

    async def _fork(self, request: dict[str, Any]) -> dict[str, Any]:
        handle = await self.service.fork(
            request["run_id"], request["step"], new_run_id=request.get("new_run_id"), inputs=request.get("inputs")
        )
        return self._watch(handle)

    async def _replay(self, request: dict[str, Any]) -> dict[str, Any]:
        return self._watch(await self.service.replay(request["run_id"]))

    async def _trust(self, request: dict[str, Any]) -> None:
        await self.service.trust(request["run_id"])

    async def _receipt(self, request: dict[str, Any]) -> dict[str, Any]:
        receipt = await self.service.receipt(
            request["run_id"], request["command"], request.get("arguments"), plan_path=request.get("plan_path")
        )
        return receipt.to_json()

    async def _forecast(self, request: dict[str, Any]) -> dict[str, Any]:
        return await self.service.forecast(request["plan_path"], working_folder=request.get("working_folder"))

    async def _steer(self, request: dict[str, Any]) -> dict[str, Any]:
        return await self.service.steer(request["run_id"], request["command"], request.get("arguments"))

    async def _tools(self, request: dict[str, Any]) -> dict[str, Any]:
        return await self.service.tools(request.get("plan_path"), connect=bool(request.get("connect")))

    async def _restart_server(self, request: dict[str, Any]) -> dict[str, Any]:
        return await self.service.restart_server(request["name"])

    async def _reset_breaker(self, request: dict[str, Any]) -> None:
        await self.service.reset_breaker(request["name"])

    async def _assist(self, request: dict[str, Any]) -> dict[str, Any]:
        found = await self.assistant.carry_out(request["what"], request.get("arguments") or {})
        return self._watch(found) if isinstance(found, RunHandle) else found

    async def _live(self, request: dict[str, Any]) -> list[str]:
        return list(self.engine.live_runs)

    async def _end(self, request: dict[str, Any]) -> None:
        """Let the runs go as the person said: `keep` them running, `pause` or `cancel` them."""
        how = request.get("how", "keep")
        if how in ("pause", "cancel"):
            arguments = {"now": True} if how == "pause" else {}
            for run_id in self.engine.live_runs:
                with contextlib.suppress(StepChainError):
                    await self.service.steer(run_id, how, arguments)

    def _watch(self, handle: Any) -> dict[str, Any]:
        task = asyncio.create_task(_until_left(handle), name=f"run {handle.run_id}")
        self._runs.add(task)
        task.add_done_callback(self._runs.discard)
        return {"run_id": handle.run_id, "status": handle.state.status}


async def _until_left(handle: Any) -> None:
    with contextlib.suppress(Exception):  # how the run ended is in the store; here only its end matters
        await handle.wait()


async def _main(store: Path) -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=64 * 1024 * 1024)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(os.dup(0), "rb"))
    answers = os.dup(1)
    _detach_from_terminal()

    def write(line: bytes) -> None:
        with contextlib.suppress(BrokenPipeError):
            os.write(answers, line)

    settings = load_settings(settings_path())
    engine = Engine(SQLiteStore(store, durability=settings.durability), settings=settings)
    try:
        await engine.open()
    except StepChainError as error:
        write(encode_json({"id": 0, "error": error_record(error)}) + b"\n")
        return
    host = Host(engine, write)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, host.end)
    write(encode_json({"id": 0, "result": {"pid": os.getpid()}}) + b"\n")
    try:
        await host.serve(reader)
    finally:
        await engine.close()


def _detach_from_terminal() -> None:
    """Point the standard streams at nothing: nobody reads them, and a child must not reach the terminal."""
    with open(os.devnull, "r+b") as nothing:  # noqa: PTH123 - a device
        os.dup2(nothing.fileno(), 0)
        os.dup2(nothing.fileno(), 1)
    sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - lives as long as the process


def main() -> None:
    """Run the host until its app and its runs are gone."""
    gc.freeze()  # what was imported lives as long as the process: no collection needs to look at it
    parser = argparse.ArgumentParser(prog="stepchain-engine")
    parser.add_argument("--store", required=True, type=Path)
    asyncio.run(_main(parser.parse_args().store))


if __name__ == "__main__":
    main()

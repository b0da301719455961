"""What a prompt step costs beside the bare openai package, against a server over loopback.

Prints the median time of one streamed answer of 200 words by `AsyncOpenAI` with its classes for events, by its plain
`post`, and by `PromptExecutor`, and what our own time is per call beside the server's and that of the plain `post` (to
hold: at most 3 ms). Time is that of the processor: all of it is in this process, and a busy machine does not count.
`--check` makes a miss a failure.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from openai import AsyncOpenAI, AsyncStream

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from stepchain_tui.executors.prompt import PromptExecutor
from stepchain_tui.executors.types import StepCall
from stepchain_tui.plan import Step

WORDS = 200
ROUNDS, EACH = 7, 40
HELD = 3.0
"""Milliseconds of our own time per call."""


class Ports:
    def log(self, stream: str, text: str) -> None: ...
    def log_from_thread(self, stream: str, text: str) -> None: ...
    async def spawned(self, pid: int, process_group: int, process_started_at: float) -> None: ...
    def model_turn(self, **turn: Any) -> None: ...
    def begun(self) -> None: ...

    def before_turn(self, *, model: str, **expected: Any) -> str:
        return model

    def warn(self, text: str) -> None: ...


def _body() -> bytes:
    text = "word " * WORDS
    events = [{"type": "response.output_text.delta", "delta": "word "} for _ in range(WORDS)]
    message = {"type": "message", "content": [{"type": "output_text", "text": text, "annotations": []}]}
    usage = {"input_tokens": 1, "output_tokens": WORDS, "total_tokens": WORDS + 1}
    final = {"id": "r", "model": "m", "status": "completed", "output": [message], "usage": usage}
    events.append({"type": "response.completed", "response": final})
    return b"".join(f"data: {json.dumps(event)}\n\n".encode() for event in events)


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    body = _body()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    try:
        while True:
            request = await reader.readuntil(b"\r\n\r\n")
            length = next(
                int(line.split(b":")[1])
                for line in request.split(b"\r\n")
                if line.lower().startswith(b"content-length")
            )
            await reader.readexactly(length)
            writer.write(head + body)
            await writer.drain()
    except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
        writer.close()


def _call() -> StepCall:
    here = Path.cwd()
    return StepCall(
        run_id="r", step=Step(id="a", prompt="x"), attempt=1, item=None, value="x", args={}, options={"model": "m"},
        mode="inline", timeout=60, environment={}, cwd=here, plan_folder=here, ports=Ports(),
    )  # fmt: skip


async def with_classes(client: AsyncOpenAI) -> None:
    """Ask by the openai package, as its documentation shows."""
    async with await client.responses.create(model="m", input="x", stream=True) as stream:
        async for _ in stream:
            pass


async def with_plain_events(client: AsyncOpenAI) -> None:
    """Ask by the openai package without its classes: the least that a request can cost."""
    body = {"model": "m", "input": [{"role": "user", "content": "x"}], "stream": True}
    stream = await client.post("/responses", cast_to=object, body=body, stream=True, stream_cls=AsyncStream[object])
    async with stream:
        async for _ in stream:
            pass


async def seconds_of(ask: Callable[[], Awaitable[Any]]) -> float:
    """Return the seconds of the processor that one call takes."""
    await ask()
    started = time.process_time()
    for _ in range(EACH):
        await ask()
    return (time.process_time() - started) / EACH


async def figures() -> list[tuple[float, float, float]]:
    """Return the seconds of a call by the package's classes, by its plain post, and of a prompt step, interleaved."""
    server = await asyncio.start_server(_serve, "127.0.0.1", 0)
    address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    executor = PromptExecutor({"OPENAI_BASE_URL": address})
    async with AsyncOpenAI(api_key="x", base_url=address, max_retries=0) as client:
        found = [
            (
                await seconds_of(lambda: with_classes(client)),
                await seconds_of(lambda: with_plain_events(client)),
                await seconds_of(lambda: executor.execute(_call())),
            )
            for _ in range(ROUNDS)
        ]
    await executor.close()
    server.close()
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()
    return found


def main() -> int:
    """Print the figures; with `--check`, 1 where our own time is not held."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        os.environ.pop(name, None)
        os.environ.pop(name.lower(), None)
    found = asyncio.run(figures())
    classes, plain, each = (statistics.median(one[place] for one in found) * 1e3 for place in range(3))
    own = statistics.median(one[2] - one[1] for one in found) * 1e3
    print(f"openai, its classes   {classes:8.2f} ms an answer of {WORDS} words")
    print(f"openai, plain events  {plain:8.2f} ms")
    print(f"PromptExecutor        {each:8.2f} ms")
    print(f"our own time          {own:8.2f} ms a call (to hold: at most {HELD:g})")
    return 1 if "--check" in sys.argv[1:] and own > HELD else 0


if __name__ == "__main__":
    sys.exit(main())

"""What a prompt step costs beside the bare openai package, against a server over loopback.

Prints the median time of one streamed answer of 200 words by `PromptExecutor` and by `AsyncOpenAI` alone, and
their ratio (held: under 2).
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from openai import AsyncOpenAI

from stepchain_tui.executors.prompt import PromptExecutor
from stepchain_tui.executors.types import StepCall
from stepchain_tui.plan import Step

WORDS = 200
ROUNDS, EACH = 5, 40
HELD = 2.0


class Ports:
    def log(self, stream: str, text: str) -> None: ...
    def log_from_thread(self, stream: str, text: str) -> None: ...
    async def spawned(self, pid: int, process_group: int, process_started_at: float) -> None: ...
    def model_turn(self, **turn: Any) -> None: ...
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


async def bare(address: str) -> float:
    """Return the seconds of one answer by the openai package alone."""
    async with AsyncOpenAI(api_key="x", base_url=address, max_retries=0) as client:

        async def ask() -> None:
            async with await client.responses.create(model="m", input="x", stream=True) as stream:
                async for _ in stream:
                    pass

        await ask()
        started = time.perf_counter()
        for _ in range(EACH):
            await ask()
        return (time.perf_counter() - started) / EACH


async def ours(address: str) -> float:
    """Return the seconds of one prompt step."""
    executor = PromptExecutor({"OPENAI_BASE_URL": address})
    await executor.execute(_call())
    started = time.perf_counter()
    for _ in range(EACH):
        await executor.execute(_call())
    each = (time.perf_counter() - started) / EACH
    await executor.close()
    return each


async def figures() -> list[tuple[float, float]]:
    """Return pairs of seconds, bare and ours, interleaved."""
    server = await asyncio.start_server(_serve, "127.0.0.1", 0)
    address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    pairs = [(await bare(address), await ours(address)) for _ in range(ROUNDS)]
    server.close()
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()
    return pairs


def main() -> int:
    """Print the figures; 1 where the ratio is not held."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        os.environ.pop(name, None)
        os.environ.pop(name.lower(), None)
    pairs = asyncio.run(figures())
    plain, each = (statistics.median(pair[place] for pair in pairs) for place in range(2))
    print(f"openai alone     {plain * 1e3:8.2f} ms an answer of {WORDS} words")
    print(f"PromptExecutor   {each * 1e3:8.2f} ms")
    print(f"ratio            {each / plain:8.2f} (held: under {HELD:g})")
    return 0 if each / plain < HELD else 1


if __name__ == "__main__":
    sys.exit(main())

"""What an HTTP call costs beside aiohttp's own session, against a server over loopback in a process of its own.

Prints the median time of one small JSON answer by an aiohttp session alone, by `HttpToolExecutor` and by an `http:`
step as the engine hands it over, and their ratios (held: under 3). Then the same for 5 MB that are saved to a file
with their hash (held: under 2).
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp

from stepchain_tui.executors.http import HttpSteps, HttpToolExecutor, ToolSpec
from stepchain_tui.executors.types import StepCall
from stepchain_tui.plan import Step

ROUNDS, EACH, LARGE_EACH = 7, 200, 8
HELD, HELD_SAVED = 3.0, 2.0
LARGE = 5_000_000
ENVIRONMENT = dict(os.environ)
SERVER = """
import asyncio, sys
small = b'{"name": "value", "numbers": [1, 2, 3], "nested": {"a": null, "b": true}}'
head = b"HTTP/1.1 200 OK\\r\\nContent-Type: application/json\\r\\nContent-Length: %d\\r\\n\\r\\n"
answers = {b"/": head % len(small) + small, b"/large": head % LARGE + b"x" * LARGE}

class Server(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
    def data_received(self, data):
        self.transport.write(answers[data.split(b" ", 2)[1]])

async def main():
    server = await asyncio.get_running_loop().create_server(Server, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()

asyncio.run(main())
"""


class Ports:
    def log(self, stream: str, text: str) -> None: ...
    def log_from_thread(self, stream: str, text: str) -> None: ...
    def warn(self, text: str) -> None: ...


def _call(step: Step, address: str, folder: Path) -> StepCall:
    return StepCall(
        run_id="r", step=step, attempt=1, item=None, value={"url": address}, args={}, options={}, mode="", timeout=60,
        environment=ENVIRONMENT, cwd=folder, plan_folder=folder, ports=Ports(),  # type: ignore[arg-type]
    )  # fmt: skip


async def timed(call: Callable[[], Awaitable[Any]], each: int) -> float:
    """Return the seconds of one call."""
    await call()
    started = time.perf_counter()
    for _ in range(each):
        await call()
    return (time.perf_counter() - started) / each


async def figures(address: str, folder: Path) -> tuple[list[tuple[float, ...]], list[tuple[float, ...]]]:
    """Return the seconds of a small and a large answer, each by aiohttp and by ours, interleaved."""
    executor, steps = HttpToolExecutor(ToolSpec(tool_name="t")), HttpSteps()
    step = Step(id="a", http={"url": address})  # type: ignore[arg-type]

    async with aiohttp.ClientSession() as session, executor:

        async def bare() -> Any:
            async with session.get(address) as response:
                return {"status": response.status, "headers": dict(response.headers), "body": await response.json()}

        async def by_executor() -> Any:
            return await executor.execute({"url": address})

        async def by_step() -> Any:
            return await steps.execute(_call(step, address, folder))

        async def bare_large() -> Any:
            async with session.get(f"{address}large") as response:
                digest = hashlib.sha256()
                with (folder / "bare").open("wb") as file:
                    async for chunk in response.content.iter_any():
                        file.write(chunk)
                        digest.update(chunk)
                return digest.hexdigest()

        async def saved() -> Any:
            return await executor.execute({"url": f"{address}large", "save_to": str(folder / "ours")})

        small = [
            (await timed(bare, EACH), await timed(by_executor, EACH), await timed(by_step, EACH)) for _ in range(ROUNDS)
        ]
        large = [(await timed(bare_large, LARGE_EACH), await timed(saved, LARGE_EACH)) for _ in range(ROUNDS)]
    await steps.close()
    return small, large


def main() -> int:
    """Print the figures; 1 where a ratio is not held."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        os.environ.pop(name, None)
        os.environ.pop(name.lower(), None)
        ENVIRONMENT.pop(name, None)
        ENVIRONMENT.pop(name.lower(), None)
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER.replace("LARGE", str(LARGE))], stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    try:
        address = f"http://127.0.0.1:{int(server.stdout.readline())}/"
        with tempfile.TemporaryDirectory() as folder:
            small, large = asyncio.run(figures(address, Path(folder)))
    finally:
        server.kill()
        server.wait()
    plain, executor, step = (statistics.median(one[place] for one in small) for place in range(3))
    plain_large, saved = (statistics.median(one[place] for one in large) for place in range(2))
    ratios = (
        ("HttpToolExecutor", executor, plain, HELD),
        ("http: step", step, plain, HELD),
        ("5 MB saved", saved, plain_large, HELD_SAVED),
    )
    print(f"{'aiohttp alone':18} {plain * 1e6:10.0f} us; 5 MB saved {plain_large * 1e6:.0f} us")
    for name, seconds, bound, held in ratios:
        print(f"{name:18} {seconds * 1e6:10.0f} us, {seconds / bound:.2f} times aiohttp (held: under {held:g})")
    return 0 if all(seconds / bound < held for _, seconds, bound, held in ratios) else 1


if __name__ == "__main__":
    sys.exit(main())

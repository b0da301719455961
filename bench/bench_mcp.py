"""What a call of an MCP server's tool costs against the SDK's own `call_tool`; run it by hand.

Both sides call the same tool of the same program, over stdio and over HTTP, in interleaved pairs; medians of pairs.
`--check` exits with 1 where a bound is not held.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from stepchain_tui.executors.tool import McpToolExecutor, ToolSpec
from stepchain_tui.mcp import McpServers, ServerSpec

SERVER = Path(__file__).parent.parent / "tests" / "support" / "mcp_server.py"
BOUND = 1.5
"""How much more than the SDK's own call ours may take."""
CHECK = "--check" in sys.argv
ROOM = 1.5 if CHECK else 1.0
"""What the bound is widened by where a busy machine is only to see that nothing has gone wrong."""
CALLS, WARM = 40, 40
ARGUMENTS = {"a": 1, "b": 2}

Work = Callable[[], Awaitable[Any]]


async def seconds(work: Work, times: int) -> float:
    """Return the seconds that one of several calls in a row takes."""
    started = time.perf_counter()
    for _ in range(times):
        await work()
    return (time.perf_counter() - started) / times


async def compare(ours: Work, theirs: Work, pairs_of: int) -> tuple[float, float]:
    """Return the medians of both sides, measured in turns."""
    await seconds(ours, WARM if pairs_of > 5 else 5)
    await seconds(theirs, WARM if pairs_of > 5 else 5)
    pairs = []
    for number in range(pairs_of):
        sides = (ours, theirs) if number % 2 else (theirs, ours)
        found = {side: await seconds(side, CALLS if pairs_of > 5 else 10) for side in sides}
        pairs.append((found[ours], found[theirs]))
    return statistics.median(one for one, _ in pairs), statistics.median(other for _, other in pairs)


async def measure(name: str, entry: dict[str, Any], their_server: Any, folder: Path) -> list[tuple[str, float, float]]:
    """Compare a call through `McpServer`, and one through the executor of steps, with the SDK's own."""
    from mcp import Client

    servers = McpServers(folder / "logs")
    pairs_of = 5 if CHECK and name == "http" else 15
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(Client(their_server))
        stack.push_async_callback(servers.close)
        server = servers.get(ServerSpec.of_entry(name, entry, folder))
        executor = McpToolExecutor(ToolSpec(tool_name="add"), server)
        rows = []
        for what, ours in (
            ("McpServer.call", lambda: server.call("add", ARGUMENTS)),
            ("McpToolExecutor", lambda: executor.execute(ARGUMENTS)),
        ):
            found = await compare(ours, lambda: client.call_tool("add", ARGUMENTS), pairs_of)
            rows.append((f"{name}: {what}", *found))
        return rows


@contextmanager
def over_http(port_file: Path) -> Iterator[str]:
    """Start the server over HTTP and give its address."""
    process = subprocess.Popen([sys.executable, str(SERVER), "http", "--port-file", str(port_file)])
    try:
        while not port_file.exists():
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port_file.read_text()}/mcp"
    finally:
        process.kill()
        process.wait()


async def measure_all() -> list[tuple[str, float, float]]:
    """Measure over both transports."""
    from mcp import StdioServerParameters

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        arguments = [str(SERVER), "stdio"]
        entry = {"command": sys.executable, "args": arguments}
        theirs = StdioServerParameters(command=sys.executable, args=arguments)
        rows = await measure("stdio", entry, theirs, folder)
        with over_http(folder / "port") as url:
            return rows + await measure("http", {"url": url}, url, folder)


def main() -> int:
    """Print what was measured."""
    worst = 0.0
    for what, ours, theirs in asyncio.run(measure_all()):
        worst = max(worst, ours / theirs)
        print(f"{what:<26} {ours * 1e3:7.3f} ms   SDK {theirs * 1e3:7.3f} ms   {ours / theirs:.2f}x")
    print(f"bound: {BOUND}x")
    return 1 if CHECK and worst > BOUND * ROOM else 0


if __name__ == "__main__":
    sys.exit(main())

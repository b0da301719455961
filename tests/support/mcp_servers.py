"""MCP servers for tests: started over stdio by the app's own code, or over HTTP as a process beside the test."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from stepchain_tui.mcp import McpServers, ServerSpec

PATIENCE = 20.0
"""Seconds after which a test stops waiting for what should long have happened."""
SERVER_FILE = Path(__file__).parent / "mcp_server.py"


def stdio_entry(*options: str, **keys: Any) -> dict[str, Any]:
    """Return the entry of a plan's `mcp_servers` that starts the server that misbehaves on request."""
    return {"command": sys.executable, "args": [str(SERVER_FILE), "stdio", *options], **keys}


def spec_of(entry: dict[str, Any], folder: Path, name: str = "odd", **keys: Any) -> ServerSpec:
    """Return the spec of an entry."""
    return ServerSpec.of_entry(name, entry, folder, **keys)


class HttpProcess:
    """The server over HTTP, a process of its own. Use it with `async with`.

    Args:
        folder: Where it says its port.
        options: See `mcp_server.py`.
    """

    def __init__(self, folder: Path, *options: str) -> None:
        self._folder = folder
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}/mcp"

    def entry(self, **keys: Any) -> dict[str, Any]:
        """Return the entry of a plan's `mcp_servers`."""
        return {"url": self.url, **keys}

    async def start(self, *options: str) -> None:
        """Start it, on the port that it had before."""
        port_file = self._folder / "port"
        port_file.unlink(missing_ok=True)
        arguments = [sys.executable, str(SERVER_FILE), "http", "--port-file", str(port_file), "--port", str(self.port)]
        self._process = subprocess.Popen([*arguments, *self._options, *options])
        await until(port_file.exists)
        self.port = int(port_file.read_text())

    async def kill(self) -> None:
        """End it without a word."""
        if self._process is not None:
            self._process.kill()
            await asyncio.to_thread(self._process.wait)
            self._process = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.kill()


async def until(condition: Any, patience: float = PATIENCE) -> None:
    """Wait for something outside of this process."""
    async with asyncio.timeout(patience):
        while not condition():
            await asyncio.sleep(0.01)


def is_gone(pid: int) -> bool:
    """Return whether there is no living process of that id."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@contextmanager
def no_orphans() -> Iterator[None]:
    """Hold that no server that is started meanwhile is left at the end."""
    before = set(_servers())
    yield
    left = {pid: words for pid, words in _servers().items() if pid not in before and not is_gone(pid)}
    assert not left, f"servers were left: {left}"


def _servers() -> dict[int, str]:
    """Return the processes that this process has started as servers, or that such processes started."""
    found = {}
    for process in psutil.process_iter():
        try:
            if process.environ().get("STEPCHAIN_OWNER") == str(os.getpid()):
                found[process.pid] = " ".join(process.cmdline())
        except psutil.Error:
            continue
    return found


def servers_in(folder: Path, **keys: Any) -> McpServers:
    """Return servers that keep their logs in a folder."""
    return McpServers(folder / "logs", **keys)

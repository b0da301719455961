"""Model servers over loopback: aimock, which is not this project's, and one that a test holds by the bytes.

`ModelServer` is aimock as a process: text, tool calls, errors, cut streams. `RawModelServer` sends exactly the events
that a test writes, for what aimock cannot do: hosted tools, broken streams, servers that keep answers. Both speak
plain HTTP, so that a test's own process and the processes that it starts can ask them. A test that uses the first is
marked `needs("llmock")`.
"""

from __future__ import annotations

import asyncio
import atexit
import json
import re
import shutil
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from tests.support.model_streams import (
    CUT,
    Answer,
    Chunk,
    answer,
    call_item,
    calls,
    delta,
    error_event,
    events_of,
    failed,
    frame,
    hosted_item,
    incomplete,
    json_answer,
    message_item,
    reasoning_item,
    status,
    text,
)
from tests.support.raw_model_server import RawModelServer, Request, StatefulModel

__all__ = (
    "CUT",
    "Answer",
    "Chunk",
    "ModelServer",
    "RawModelServer",
    "Request",
    "StatefulModel",
    "answer",
    "call_item",
    "calls",
    "delta",
    "error_event",
    "events_of",
    "failed",
    "frame",
    "hosted_item",
    "incomplete",
    "json_answer",
    "message_item",
    "model_server",
    "reasoning_item",
    "status",
    "text",
)

PATIENCE = 30.0
"""Seconds after which a test stops waiting for the server to come up."""
KEY = "sk-test-4711-do-not-show"
"""What a test gives as its key; the servers look at none."""
_LISTENS = re.compile(r"listening on (http://\S+)")
_NO_MATCH = {"fixtures": [{"match": {"userMessage": "\x00never"}, "response": {"content": ""}}]}


class ModelServer:
    """aimock, started once and ended by its process id; `with ModelServer() as server`.

    Attributes:
        key: A key to give.
    """

    key = KEY

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._folder = ""
        self._root = ""

    @property
    def url(self) -> str:
        """The API's address, for `OPENAI_BASE_URL`."""
        return f"{self._root}/v1"

    def environment(self) -> dict[str, str]:
        """Return the variables that lead to it."""
        return {"OPENAI_BASE_URL": self.url, "OPENAI_API_KEY": self.key}

    def start(self) -> None:
        """Start it and wait until it answers."""
        program = shutil.which("llmock")
        assert program is not None, "llmock is not on the path: mark the test needs('llmock')"
        self._folder = tempfile.mkdtemp(prefix="aimock-")
        fixtures, output = Path(self._folder, "fixtures.json"), Path(self._folder, "output")
        fixtures.write_text(json.dumps(_NO_MATCH))
        with output.open("wb") as file:
            arguments = [program, "-p", "0", "-f", str(fixtures), "--strict"]
            self._process = subprocess.Popen(arguments, stdout=file, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + PATIENCE
        while not (found := _LISTENS.search(output.read_text())):
            assert self._process.poll() is None, f"llmock ended: {output.read_text()}"
            assert time.monotonic() < deadline, f"llmock did not come up: {output.read_text()}"
            time.sleep(0.02)
        self._root = found[1]

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
            shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> ModelServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    async def fixtures(self, fixtures: Sequence[dict[str, Any]]) -> None:
        """Add answers, `{"match": {...}, "response": {...}}`; of several that match, the first is given."""
        await self._control("POST", "fixtures", {"fixtures": list(fixtures)})

    async def error(self, status: int, body: dict[str, Any]) -> None:
        """Answer the next request with a status and this `error`, whatever it asks."""
        await self._control("POST", "error", {"status": status, "body": body})

    async def journal(self) -> list[dict[str, Any]]:
        """Return the requests so far, each with its `body` as aimock read it: a list of chat `messages`."""
        found: list[dict[str, Any]] = await self._control("GET", "journal")
        return found

    async def reset(self) -> None:
        """Forget answers and requests."""
        await self._control("POST", "reset", {})

    async def _control(self, method: str, path: str, body: Any = None) -> Any:
        return await asyncio.to_thread(self.control, method, path, body)

    def control(self, method: str, path: str, body: Any = None) -> Any:
        """Send a request to its control API, blocking, for tests that are not async."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self._root}/__aimock/{path}", data, method=method)
        request.add_header("Content-Type", "application/json")
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=PATIENCE) as response:
            return json.loads(response.read() or b"null")


@contextmanager
def model_server() -> Iterator[ModelServer]:
    """Yield an aimock without answers; it is started once for all tests of this process."""
    server = _one()
    server.control("POST", "reset", {})
    yield server


@lru_cache(maxsize=1)
def _one() -> ModelServer:
    server = ModelServer()
    server.start()
    atexit.register(server.stop)
    return server

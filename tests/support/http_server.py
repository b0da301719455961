"""An HTTP server over loopback that a test holds by the bytes: what it saw, what it answers, and when it hangs up."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from email.parser import BytesParser
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

PATIENCE = 20.0
"""Seconds after which a test stops waiting for what should long have happened."""


@dataclass
class Seen:
    """One request as it came.

    Attributes:
        connection: Which connection brought it, from 0.
        headers: By name in small letters.
    """

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    connection: int

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> list[tuple[str, str]]:
        return parse_qsl(urlsplit(self.target).query, keep_blank_values=True)

    def parts(self) -> dict[str, tuple[str | None, str, bytes]]:
        """Return the parts of a multipart body: field -> (file name, type, content)."""
        head = f"Content-Type: {self.headers['content-type']}\r\n\r\n".encode()
        found = {}
        for part in BytesParser().parsebytes(head + self.body).get_payload():
            name = part.get_param("name", header="Content-Disposition")
            found[str(name)] = (part.get_filename(), part.get_content_type(), part.get_payload(decode=True))
        return found


@dataclass
class Exchange:
    """One request and the way to answer it.

    Attributes:
        hung_up: Set when the client closed its side.
    """

    seen: Seen
    writer: asyncio.StreamWriter
    hung_up: asyncio.Event

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()


Answer = Callable[[Exchange], Awaitable[None]]


def answer(
    body: bytes | str | Any = b"", *, status: str = "200 OK", headers: Mapping[str, str] | None = None, kind: str = ""
) -> Answer:
    """Return an answer with a body: bytes and text as they are, other values as JSON."""
    if not isinstance(body, bytes | str):
        body, kind = json.dumps(body), kind or "application/json"
    data = body.encode() if isinstance(body, str) else body
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(data)}"]
    lines += [f"Content-Type: {kind}"] if kind else []
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    head = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"

    async def give(exchange: Exchange) -> None:
        await exchange.send(head if exchange.seen.method == "HEAD" else head + data)

    return give


def raw(data: bytes, *, hang_up: bool = True) -> Answer:
    """Return an answer of exactly these bytes, after which the server hangs up or waits until the client does."""

    async def give(exchange: Exchange) -> None:
        await exchange.send(data)
        if hang_up:
            exchange.writer.close()
        else:
            await exchange.hung_up.wait()

    return give


def redirect(to: str, status: str = "302 Found", **headers: str) -> Answer:
    """Return an answer that sends the client on."""
    return answer(status=status, headers={"Location": to, **headers})


def endless(piece: bytes = b"x" * 65_536, head: bytes = b"HTTP/1.1 200 OK\r\n\r\n") -> Answer:
    """Return an answer whose body never ends."""

    async def give(exchange: Exchange) -> None:
        await exchange.send(head)
        while not exchange.hung_up.is_set():
            await exchange.send(piece)
            await asyncio.sleep(0)  # the client shares this loop

    return give


@dataclass
class HttpServer:
    """Answers by path; a path that has no answer is answered with what came, as JSON.

    Attributes:
        answers: Path -> answer, or a list of answers of which the last stays.
        seen: All requests, in order.
        exchanges: The same with their connections.
        connections: How many connections were made.
        tls: An `ssl.SSLContext` for https.
        reads_bodies: Whether more than the head of a request is read.
        greeting: Sent on each new connection before anything was asked.
    """

    answers: dict[str, Answer | list[Answer]] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)
    exchanges: list[Exchange] = field(default_factory=list)
    connections: int = 0
    arrived: asyncio.Condition = field(default_factory=asyncio.Condition)
    tls: Any = None
    reads_bodies: bool = True
    greeting: bytes = b""
    _server: asyncio.Server | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0, ssl=self.tls)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def port(self) -> int:
        assert self._server is not None
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def url(self, path: str = "/", host: str = "127.0.0.1") -> str:
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}{path}"

    async def exchange(self, number: int = 0) -> Exchange:
        """Return a request when it has come."""
        async with asyncio.timeout(PATIENCE), self.arrived:
            await self.arrived.wait_for(lambda: len(self.exchanges) > number)
        return self.exchanges[number]

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        number, self.connections = self.connections, self.connections + 1
        try:
            writer.write(self.greeting)
            while await self._one(reader, writer, number):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> bool:
        """Answer one request and return whether another may come."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.strip().split("\r\n")
        method, target, _ = first.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await self._body(reader, headers) if self.reads_bodies else b""
        exchange = Exchange(Seen(method, target, headers, body, number), writer, asyncio.Event())
        self.seen.append(exchange.seen)
        async with self.arrived:
            self.exchanges.append(exchange)
            self.arrived.notify_all()
        give = self.answers.get(exchange.seen.path)
        if isinstance(give, list):
            give = give.pop(0) if len(give) > 1 else give[0]
        if give is None:
            await _echo(exchange)
            return True
        if getattr(give, "__qualname__", "").startswith("answer"):
            await give(exchange)
            return True
        watch = asyncio.ensure_future(self._watch(reader, exchange.hung_up)) if self.reads_bodies else None
        try:
            await give(exchange)
        except ConnectionError:
            exchange.hung_up.set()
        finally:
            if watch is not None:
                watch.cancel()
        return False

    async def _watch(self, reader: asyncio.StreamReader, hung_up: asyncio.Event) -> None:
        """Notice that the client goes while an answer is being given."""
        try:
            while await reader.read(65_536):
                pass
        except ConnectionError:
            pass
        hung_up.set()

    async def _body(self, reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding") != "chunked":
            return await reader.readexactly(int(headers.get("content-length", "0")))
        found = b""
        while size := int(await reader.readline(), 16):
            found += await reader.readexactly(size)
            await reader.readline()
        await reader.readline()
        return found


async def _echo(exchange: Exchange) -> None:
    seen = exchange.seen
    said = {"method": seen.method, "query": seen.query, "headers": seen.headers, "body": seen.body.decode("latin-1")}
    await answer(said)(exchange)

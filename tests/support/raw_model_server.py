"""A server of the Responses API that sends exactly what a test writes."""

from __future__ import annotations

import json
import select
import socket
import struct
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.support.model_streams import Answer, Answering, Chunk, Cut, call_item, events_of, frame, message_item, status

PATIENCE = 30.0
"""Seconds after which an answer that waits for a test goes on."""


@dataclass(frozen=True)
class Request:
    """One request.

    Attributes:
        body: Its JSON.
        headers: By name in small letters.
        path: Its path.
        client: The address that it came from: one for each connection.
    """

    body: dict[str, Any]
    headers: dict[str, str]
    path: str
    client: tuple[str, int]


class RawModelServer:
    """Answers requests in their order with what `answers` was given; the last answer stays. Use it with `with`.

    Attributes:
        key: A key to give; it looks at none.
        requests: What came, in order.
        hung_up: Set when a client closed its side before its answer was over.
    """

    key = "sk-test-4711-do-not-show"

    def __init__(self, *answers: Answering) -> None:
        self.requests: list[Request] = []
        self.hung_up = threading.Event()
        self._answers = list(answers)
        self._lock = threading.Lock()
        self._server = _Server(self)
        self._thread = threading.Thread(target=lambda: self._server.serve_forever(0.02), daemon=True)

    @property
    def url(self) -> str:
        """The API's address, for `OPENAI_BASE_URL`."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    @property
    def bodies(self) -> list[dict[str, Any]]:
        """The bodies of the requests, in order."""
        return [request.body for request in self.requests]

    def environment(self) -> dict[str, str]:
        """Return the variables that lead to it."""
        return {"OPENAI_BASE_URL": self.url, "OPENAI_API_KEY": self.key}

    def answers(self, *answers: Answering) -> None:
        """Answer the next requests with these, and forget what is left of those before."""
        with self._lock:
            self._answers = list(answers)

    def reset(self) -> None:
        """Forget answers and requests."""
        self.answers()
        self.requests.clear()
        self.hung_up.clear()

    def __enter__(self) -> RawModelServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, request: Request) -> Answer:
        """Keep a request and return what it is answered."""
        with self._lock:
            self.requests.append(request)
            given = self._answers.pop(0) if len(self._answers) > 1 else (self._answers or [None])[0]
        if given is None:
            return status(500, "the test gave this server nothing to answer")
        return given if isinstance(given, Answer) else given(request.body)


class StatefulModel:
    """A server that keeps its answers: give it to `RawModelServer.answers`.

    Args:
        *replies: One for each request that it takes: a text, or a list of calls `(name, arguments)`.

    Attributes:
        conversations: All items that the model has seen when it answered, by the answer's id.
    """

    def __init__(self, *replies: str | list[tuple[str, Any]]) -> None:
        self.conversations: dict[str, list[Any]] = {}
        self._replies = list(replies)

    def __call__(self, body: dict[str, Any]) -> Answer:
        """Answer one request, or say that the answer before it is not known."""
        before = body.get("previous_response_id")
        if before is not None and before not in self.conversations:
            said = f"Previous response with id '{before}' not found."
            error = {"message": said, "type": "invalid_request_error", "param": "previous_response_id"}
            return status(400, {**error, "code": "previous_response_not_found"})
        given = body["input"] if isinstance(body["input"], list) else [{"role": "user", "content": body["input"]}]
        reply = self._replies.pop(0)
        items = [message_item(reply)] if isinstance(reply, str) else [call_item(*one) for one in reply]
        events = events_of(*items)
        name = events[-1]["response"]["id"]
        if body.get("store", True):
            self.conversations[name] = [*self.conversations.get(before or "", ()), *given, *items]
        return Answer(tuple(events))

    def forget(self) -> None:
        """Forget all answers, as a server does that was started anew."""
        self.conversations.clear()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, owner: RawModelServer) -> None:
        self.owner = owner
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients that hang up are what the tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", "0")))
        headers = {name.lower(): value for name, value in self.headers.items()}
        given = self.server.owner.answer(Request(json.loads(body or b"{}"), headers, self.path, self.client_address))
        self.send_response(given.status)
        self.send_header("Content-Type", given.kind)
        for name, value in given.headers.items():
            self.send_header(name, value)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            for chunk in given.chunks:
                self._send(chunk)
            self.wfile.write(b"0\r\n\r\n")
        except ConnectionError as error:
            if not isinstance(error, ConnectionAbortedError):
                self.server.owner.hung_up.set()
            self.close_connection = True

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def _send(self, chunk: Chunk) -> None:
        if isinstance(chunk, Cut):
            # Closing with nothing lingering sends a reset.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            raise ConnectionAbortedError
        if isinstance(chunk, threading.Event):
            self._wait(PATIENCE, chunk)
        elif isinstance(chunk, float | int):
            self._wait(chunk, None)
        else:
            data = frame(chunk) if isinstance(chunk, Mapping) else chunk.encode() if isinstance(chunk, str) else chunk
            self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def _wait(self, seconds: float, event: threading.Event | None) -> None:
        """Wait, and notice a client that hangs up meanwhile."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0 and not (event is not None and event.is_set()):
            readable, _, _ = select.select([self.connection], [], [], min(left, 0.01))
            if readable and not self.connection.recv(1, socket.MSG_PEEK):
                raise ConnectionResetError

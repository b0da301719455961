"""What travels between a pool and its workers.

To a worker: frames of `length, pickle`; the owner is trusted. From a worker: frames of `tag, call, length, bytes`
whose bytes are JSON or text, so that the owner never unpickles what came out of a function.
"""

from __future__ import annotations

import socket
import struct
from typing import Any, NotRequired, TypedDict

REQUEST_HEAD = struct.Struct(">Q")
REPLY_HEAD = struct.Struct(">cQQ")
RESULT, ERROR, LOG, COMPUTED, CHUNK = b"R", b"E", b"L", b"C", b"K"
SECONDS = struct.Struct(">dd")
"""The body of `COMPUTED`: seconds that the function ran and that it computed, sent before its result or error."""
OWNER_VARIABLE = "STEPCHAIN_OWNER"
"""In the environment of every child and what it starts: how leftovers of a dead owner are told from strangers."""
MAX_REPLY = 16_000_000
"""Bytes of JSON that a result may have: more than the store takes, and little enough for the loop to read."""


class Request(TypedDict):
    """One call, as a worker gets it.

    Attributes:
        call: Its number, given back with every reply.
        reference: `./file.py:name` or `package.module:name`; empty when the function is in `payload`.
        folder: What the reference is relative to.
        payload: What `travel.unpack` makes `{"function", "args"}` of; `function` is None where there is a reference.
        by_value: Whether the function is here for this call only.
        validate: What messages call the function whose arguments are checked against its schema and converted before
            the call; nothing is checked where it is empty or missing.
        context: The facts of the `StepContext`.
        environment: The whole environment for the call, or None for the worker's own.
        same_environment: Whether the environment is that of the last call instead.
        cwd: The folder to work in, or None for the worker's own.
        sys_path: Where to import from, or None when that has not changed since the last call.
    """

    call: int
    reference: str
    folder: str
    payload: bytes
    by_value: bool
    validate: NotRequired[str]
    context: dict[str, Any]
    environment: dict[str, str] | None
    same_environment: NotRequired[bool]
    cwd: str | None
    sys_path: list[str] | None


def read_exactly(connection: socket.socket, size: int) -> bytes | None:
    """Return `size` bytes, or None when the other side is gone."""
    data = bytearray(size)
    view, done = memoryview(data), 0
    while done < size:
        count = connection.recv_into(view[done:])
        if not count:
            return None
        done += count
    return bytes(data)

"""Messages as they come over a pipe: lines up to a limit, and what stands for those that cannot be taken in."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import msgspec

from stepchain_tui.core.errors import UsageError
from stepchain_tui.core.values import to_json_value

if TYPE_CHECKING:
    from mcp.shared.message import SessionMessage
    from mcp_types import JSONRPCMessage

MOST_OF_A_MESSAGE = 16 * 1024 * 1024
"""Bytes of one message at most: an output of 10 MB in base64, and some room."""
TOO_LARGE = "stepchain: the answer is too large"
"""The message of the error that stands for an answer that was not taken in."""
_EDGE = 256
"""Bytes kept of both ends of a message that is too long, to find out whose answer it is."""
_ID_FIRST = re.compile(rb'^\s*\{\s*"jsonrpc"\s*:\s*"2\.0"\s*,\s*"id"\s*:\s*(\d{1,15})\s*,')
_ID_LAST = re.compile(rb'"id"\s*:\s*(\d{1,15})\s*\}\s*$')


def failed(number: int | str, code: int, message: str) -> SessionMessage:
    """Return what fails the request of an id, in the place of an answer."""
    from mcp.shared.message import SessionMessage
    from mcp_types import ErrorData, JSONRPCError

    return SessionMessage(JSONRPCError(jsonrpc="2.0", id=number, error=ErrorData(code=code, message=message)))


def parsed(line: bytes) -> JSONRPCMessage:
    """Return a line as a message.

    An answer is taken as it is, since the session holds its result against the protocol anyway: to hold a large one
    against all kinds of messages first takes several times as long as to read it.

    Raises:
        ValueError: It is none.
    """
    from mcp_types import JSONRPCResponse, jsonrpc_message_adapter

    if not line.lstrip().startswith(b"{"):
        raise ValueError("no object")
    try:
        plain = msgspec.json.decode(line)
    except (ValueError, RecursionError):
        plain = _mended(line)
    if isinstance(plain, dict) and plain.get("jsonrpc") == "2.0" and "method" not in plain and "error" not in plain:
        number, result = plain.get("id"), plain.get("result")
        if isinstance(result, dict) and isinstance(number, int | str):
            return JSONRPCResponse.model_construct(jsonrpc="2.0", id=number, result=result)
    return jsonrpc_message_adapter.validate_python(plain, by_name=False)


def _mended(line: bytes) -> Any:
    """Return what JSON holds that is not quite right: NaN, half characters, bytes that are no UTF-8.

    Raises:
        ValueError: It is not even that.
    """
    try:
        return to_json_value(json.loads(line.decode("utf-8", "replace")))
    except UsageError as error:
        raise ValueError(error.message) from error


def failed_by(line: bytes | TooLong) -> SessionMessage | None:
    """Return what fails the request that a line answers which cannot be taken in; None where it says no id."""
    from mcp_types import INTERNAL_ERROR, PARSE_ERROR

    if isinstance(line, TooLong):
        return None if line.request_id is None else failed(line.request_id, INTERNAL_ERROR, TOO_LARGE)
    head, tail = line[:_EDGE], line[-_EDGE:]
    if b'"jsonrpc"' not in head + tail or b'"method"' in head:
        return None  # what a program prints, or no answer
    number = _request_id(head, tail)
    return None if number is None else failed(number, PARSE_ERROR, "its answer is no message of the protocol")


def _request_id(head: bytes, tail: bytes) -> int | None:
    found = _ID_FIRST.search(head) or _ID_LAST.search(tail)
    return int(found.group(1)) if found else None


class TooLong:
    """A line that was longer than a message may be.

    Attributes:
        request_id: Which request it answers, where its ends say so.
    """

    def __init__(self, head: bytes, tail: bytes) -> None:
        self.request_id = _request_id(head, tail)


class Lines:
    """Cuts what comes into lines; of one that is too long only its ends are kept."""

    def __init__(self) -> None:
        self._held = bytearray()
        self._head: bytes | None = None

    def take(self, data: bytes) -> list[bytes | TooLong]:
        """Return the lines that ended in this piece."""
        if b"\n" not in data:
            self._hold(data)
            return []
        first, *rest = data.split(b"\n")
        self._hold(first)
        ended: list[bytes | TooLong] = [self._line(), *rest[:-1]]
        self._hold(rest[-1])
        return ended

    def _hold(self, data: bytes) -> None:
        self._held += data
        if len(self._held) > MOST_OF_A_MESSAGE or self._head is not None:
            if self._head is None:
                self._head = bytes(self._held[:_EDGE])
            del self._held[:-_EDGE]

    def _line(self) -> bytes | TooLong:
        held, head = bytes(self._held), self._head
        self._held.clear()
        self._head = None
        return held if head is None else TooLong(head, held)

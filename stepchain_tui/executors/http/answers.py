"""What came back, as a JSON value: bodies are read up to a limit and told by their content type.

Sizes are those after decompression, so that a small answer cannot become a large one. What takes long to decode is
decoded in a thread.
"""

from __future__ import annotations

import asyncio
import base64
import codecs
import re
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import msgspec

from stepchain_tui.core.errors import UsageError
from stepchain_tui.core.values import MAX_DEPTH, decode_json, to_json_value
from stepchain_tui.executors.words import one_line
from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.status import ErrorType
from stepchain_tui.run.values import OUTPUT_LIMIT

if TYPE_CHECKING:
    import aiohttp

    from stepchain_tui.executors.http.request import Request

DECODE_IN_THREAD = 256 * 1024
"""Bytes above which a body is decoded in a thread."""
PIECE_BYTES = 16 * 1024
"""Bytes of a failed answer's body that are read."""
PIECE_SECONDS = 2.0
"""Seconds that a failed answer's body may take to come."""
MOST_UNPACKED = 1024**3
"""Bytes that may be saved however small they came."""
MOST_GROWTH = 100
"""How many times larger than it came an answer may become beyond that."""
_BASE64_GROWTH = 4 / 3
_JSON = re.compile(r"(application|text)/(x-)?json|[^/]+/[^/]+\+json")
_TEXT = re.compile(
    r"text/.*|[^/]+/[^/]+\+(xml|yaml)"
    r"|application/(xml|javascript|ecmascript|yaml|x-yaml|toml|sql|graphql|csv|ndjson|x-ndjson|jsonl|json-seq"
    r"|x-www-form-urlencoded|x-javascript|x-sh)"
)


async def read_body(response: aiohttp.ClientResponse, request: Request, limit: int) -> bytes:
    """Return an answer's whole body, decompressed.

    Raises:
        AttemptError: As a `user_error`: it is larger than `limit` bytes.
    """
    announced = response.content_length
    if announced is not None and announced > limit and request.method != "HEAD":
        raise too_large(request.name, announced, limit)
    found = bytearray()
    content = response.content
    while chunk := await content.readany():
        if len(found) + len(chunk) > limit:
            raise too_large(request.name, None, limit)
        found += chunk
    return bytes(found)


async def pieces(response: aiohttp.ClientResponse, name: str) -> AsyncIterator[bytes]:
    """Yield an answer's body as it comes, decompressed, to be saved.

    Raises:
        AttemptError: As a `user_error`: it grows so much in unpacking that it can only be meant to fill the disk.
    """
    content = response.content
    while chunk := await content.readany():
        if content.total_bytes > max(MOST_UNPACKED, MOST_GROWTH * content.total_raw_bytes):
            raise AttemptError(
                f"{name}: the answer's body unpacks to more than {MOST_GROWTH} times what was sent",
                error_type=ErrorType.USER_ERROR,
                hint="Write `headers: {Accept-Encoding: identity}` to get it as it is.",
            )
        yield chunk


async def read_piece(response: aiohttp.ClientResponse) -> str:
    """Return the beginning of a failed answer's body as text: what comes soon, and nothing where none can be read."""
    import aiohttp

    found = b""
    try:
        async with asyncio.timeout(PIECE_SECONDS):
            while len(found) < PIECE_BYTES and (chunk := await response.content.readany()):
                found += chunk
    except (TimeoutError, aiohttp.ClientError):
        pass  # the status says more than a body that does not come
    text = found[:PIECE_BYTES].decode(_codec(response.charset) or "utf-8", "replace")
    return "" if "\0" in text else text


async def value_of(data: bytes, response: aiohttp.ClientResponse, name: str) -> tuple[Any, str]:
    """Return a body as a JSON value, and a warning or an empty string.

    JSON becomes its value, text becomes text, other bytes become `{base64, bytes, type}`; no body becomes None.

    Raises:
        AttemptError: As a `user_error`: as base64 it is larger than an output may be.
    """
    if not data:
        return None, ""
    kind = response.content_type.lower() if "Content-Type" in response.headers else ""
    if len(data) <= DECODE_IN_THREAD:
        return _decode(data, kind, response.charset, name)
    return await asyncio.to_thread(_decode, data, kind, response.charset, name)


def too_large(name: str, size: int | None, limit: int) -> AttemptError:
    """Return the failure for a body that is larger than an output may be."""
    told = f"is {size:,} bytes, more than" if size is not None else "is larger than"
    return AttemptError(
        f"{name}: the answer's body {told} the {limit:,} bytes that an output may have",
        error_type=ErrorType.USER_ERROR,
        hint="Write `save_to: FILE` to save it as a file, or ask for less.",
    )


def _decode(data: bytes, kind: str, charset: str | None, name: str) -> tuple[Any, str]:
    if _JSON.fullmatch(kind):
        return _decode_json(data, charset)
    if _TEXT.fullmatch(kind) or charset:
        return _decode_text(data, charset)
    if not kind and b"\0" not in data:
        try:
            return data.decode(), ""
        except UnicodeDecodeError:
            pass
    if len(data) * _BASE64_GROWTH > OUTPUT_LIMIT:
        raise too_large(name, len(data), int(OUTPUT_LIMIT / _BASE64_GROWTH))
    return {"base64": base64.b64encode(data).decode(), "bytes": len(data), "type": one_line(kind, 100)}, ""


def _decode_json(data: bytes, charset: str | None) -> tuple[Any, str]:
    codec = _codec(charset) or "utf-8"
    try:
        source: bytes | str = data.removeprefix(codecs.BOM_UTF8) if codec == "utf-8" else data.decode(codec)
        value = decode_json(source)
        if data.count(b"[") + data.count(b"{") > MAX_DEPTH:
            to_json_value(value)
    except (msgspec.DecodeError, UnicodeError, RecursionError, UsageError) as error:
        text, _ = _decode_text(data, charset)
        return text, f"the answer says that it is JSON and is not ({one_line(str(error), 100)}): kept as text"
    return value, ""


def _decode_text(data: bytes, charset: str | None) -> tuple[str, str]:
    codec = _codec(charset)
    warning = ""
    if codec is None:
        if charset:
            warning = f"the answer's charset '{one_line(charset, 40)}' is not known: read as UTF-8"
        codec = "utf-8"
    if codec == "utf-8":
        data = data.removeprefix(codecs.BOM_UTF8)
    try:
        return data.decode(codec), warning
    except UnicodeError:
        return data.decode(codec, "replace"), warning or f"some characters of the answer are not {codec}: replaced"


_NO_CHARSETS = frozenset(("undefined", "idna", "punycode", "unicode-escape", "raw-unicode-escape", "utf-7"))
"""Encodings of Python's that no text of the web is in: some raise whatever comes, some take very long."""


def _codec(charset: str | None) -> str | None:
    """Return Python's name of a charset of text, None where it is not known."""
    try:
        found = codecs.lookup(charset or "utf-8")
    except (LookupError, ValueError):
        return None
    return found.name if getattr(found, "_is_text_encoding", True) and found.name not in _NO_CHARSETS else None

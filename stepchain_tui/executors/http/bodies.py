"""The body of a request: JSON, a form, text or files, made anew for each time that it is sent."""

from __future__ import annotations

import asyncio
import base64
import binascii
import io
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from stepchain_tui.core.values import to_json_value
from stepchain_tui.executors.context import CallContext
from stepchain_tui.executors.http.fields import UnusablePath, bad_request, pairs, path_problem
from stepchain_tui.executors.http.words import shown_path
from stepchain_tui.executors.words import one_line

_KINDS = ("json", "body", "form")
_INLINE_BYTES = 1_000_000
"""More than this is given to aiohttp as a file, which it sends in pieces."""
_INLINE_ITEMS = 2_000
"""A JSON value of more items or kilobytes of text than this is written in a thread."""
CheckPath = Callable[[Any, Path, str], None]
"""Gets a path as it is written, what came of it, and its field."""


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a multipart body: `content`, or what is in the file `path`."""

    field: str
    filename: str
    content_type: str
    content: bytes = b""
    path: Path | None = None


@dataclass(frozen=True, slots=True)
class Body:
    """What a request carries.

    Attributes:
        content: The bytes; unused where there are parts.
        content_type: What they are, where the user says nothing.
        fields: The plain fields of a multipart body.
        parts: The files of a multipart body.
    """

    content: bytes = b""
    content_type: str = ""
    fields: tuple[tuple[str, str], ...] = ()
    parts: tuple[Part, ...] = ()

    @property
    def is_multipart(self) -> bool:
        """Whether it is made of parts."""
        return bool(self.parts)

    def open(self, files: ExitStack) -> Any:
        """Return the body as aiohttp takes it; files that are opened for it are closed with `files`."""
        if not self.parts:
            return self.content if len(self.content) <= _INLINE_BYTES else io.BytesIO(self.content)
        import aiohttp

        form = aiohttp.FormData()
        for field, value in self.fields:
            form.add_field(field, value)
        for part in self.parts:
            source = io.BytesIO(part.content) if part.path is None else _SentFile.of(part.path, files)
            form.add_field(part.field, source, filename=part.filename, content_type=part.content_type)
        return form


class _SentFile(io.BufferedReader):
    """A file that is open until we close it.

    aiohttp closes a file as soon as an answer begins; a server that answers before it has the whole body would then
    wait for the rest of it for ever.
    """

    @classmethod
    def of(cls, path: Path, files: ExitStack) -> _SentFile:
        """Return the file at `path`, closed with `files`."""
        made = cls(io.FileIO(path))
        files.callback(made.end)
        return made

    def close(self) -> None:
        """Leave it open."""

    def end(self) -> None:
        """Close it."""
        super().close()


async def body_of(name: str, given: Mapping[str, Any], ctx: CallContext, check_path: CheckPath) -> Body | None:
    """Return the body that a request's fields describe, None where there is none.

    Args:
        name: The step or tool.
        given: The fields that are written.
        ctx: Where files are.
        check_path: Raises for a file that may not be sent.

    Raises:
        AttemptError: As a `user_error` that names the field.
    """
    found = [kind for kind in _KINDS if kind in given]
    if len(found) > 1 or (found and found[0] != "form" and "files" in given):
        both = [*found, *(["files"] if "files" in given else [])]
        raise bad_request(
            name, f"{' and '.join(both)}: only one of them can be sent", "Keep one; `form` and `files` go together."
        )
    if "files" in given:
        fields = tuple(pairs(name, "form", given.get("form", {})))
        parts = await asyncio.to_thread(lambda: tuple(_parts(name, given["files"], ctx, check_path)))
        return Body(fields=fields, parts=parts)
    if "json" in given:
        value = given["json"]
        write = asyncio.to_thread(_json, name, value) if _is_large(value) else None
        return Body(_json(name, value) if write is None else await write, "application/json")
    if "form" in given:
        return Body(urlencode(list(pairs(name, "form", given["form"]))).encode(), "application/x-www-form-urlencoded")
    if "body" in given:
        body = given["body"]
        if isinstance(body, bytes | bytearray):
            return Body(bytes(body), "application/octet-stream")
        if not isinstance(body, str):
            raise bad_request(
                name, f"body: must be text, this is {type(body).__name__}", "Write `json:` for values that are no text."
            )
        return Body(body.encode("utf-8", "replace"), "text/plain; charset=utf-8")
    return None


def _json(name: str, value: Any) -> bytes:
    try:
        return json.dumps(value, allow_nan=False, separators=(",", ":"), default=to_json_value).encode()
    except (ValueError, TypeError, RecursionError) as error:
        raise bad_request(
            name,
            f"json: cannot be written as JSON ({one_line(str(error), 100)})",
            "Send text, finite numbers, true, false, null, lists and mappings with text keys.",
        ) from None


def _is_large(value: Any) -> bool:
    """Return whether writing a value as JSON takes so long that the event loop should not wait for it."""
    left = _INLINE_ITEMS
    waiting = [value]
    while waiting and left > 0:
        item = waiting.pop()
        if isinstance(item, str):
            left -= len(item) // 1_000
        elif isinstance(item, Mapping):
            left -= len(item)
            waiting.extend(item.values() if left > 0 else ())
        elif isinstance(item, list | tuple):
            left -= len(item)
            waiting.extend(item if left > 0 else ())
    return left <= 0


def _parts(name: str, written: Any, ctx: CallContext, check_path: CheckPath) -> Iterator[Part]:
    if not isinstance(written, Mapping) or not written:
        raise bad_request(name, "files: must be a mapping of fields to files", "Write FIELD: ./file.csv.")
    step = None if ctx.call is None else ctx.call.step.http
    raw = (step.files if step is not None else None) or {}
    for field, value in written.items():
        for item in value if isinstance(value, list | tuple) else (value,):
            yield _part(name, str(field), item, raw.get(field), ctx, check_path)


def _part(name: str, field: str, item: Any, raw: Any, ctx: CallContext, check_path: CheckPath) -> Part:
    shown = f"files.{one_line(field, 60)}"
    hint = "Write the file's path, {path, name, type}, or {name, content, type}."
    options = {"path": item} if isinstance(item, str | Path) else item
    if not isinstance(options, Mapping) or not set(options) <= {"path", "name", "content", "type"}:
        raise bad_request(name, f"{shown}: is no file", hint)
    if ("path" in options) == ("content" in options):
        raise bad_request(name, f"{shown}: needs either `path` or `content`", hint)
    content_type = str(options.get("type") or "application/octet-stream")
    filename = str(options.get("name") or Path(str(options.get("path", field))).name)
    if any(not character.isprintable() for character in filename + content_type + field) or "/" not in content_type:
        raise bad_request(name, f"{shown}: its name or type has characters that cannot be sent", hint)
    if "content" in options:
        return Part(field, filename, content_type, content=_content(name, shown, options["content"]))
    path = ctx.plan_folder / str(options["path"])
    told = shown_path(path)
    try:
        check_path(raw.get("path") if isinstance(raw, Mapping) else raw, path, shown)
        if not path.is_file():
            problem = "is no file" if path.exists() else "is not there"
            hint = "Check the path; it is relative to the plan's folder."
            raise bad_request(name, f"{shown}: {told} {problem}", hint)
        path.open("rb").close()
    except UnusablePath as error:
        raise bad_request(
            name, f"{shown}: {told} cannot be read ({path_problem(error)})", "Check the path and its rights."
        ) from None
    return Part(field, filename, content_type, path=path)


def _content(name: str, shown: str, content: Any) -> bytes:
    """Return the bytes of a part that is written out; `{base64: ...}` is how binary answers are kept."""
    if isinstance(content, str):
        return content.encode("utf-8", "replace")
    if isinstance(content, bytes | bytearray):
        return bytes(content)
    if isinstance(content, Mapping) and isinstance(content.get("base64"), str):
        try:
            return base64.b64decode(content["base64"], validate=True)
        except binascii.Error:
            pass
    raise bad_request(name, f"{shown}: its content must be text or {{base64: ...}}", "Use `| tojson` for other values.")

"""From what a server answers to the JSON value that is a step's output."""

from __future__ import annotations

import base64
import binascii
import mimetypes
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from stepchain_tui.mcp.failures import tool_error
from stepchain_tui.mcp.schemas import BadSchemaError
from stepchain_tui.mcp.tools import McpTool

if TYPE_CHECKING:
    from mcp_types import CallToolResult

KeepFile = Callable[..., dict[str, Any]]
"""`keep_file(data, suffix=".png") -> {"file", "sha256", "bytes"}`."""
_FILES = ("image", "audio", "resource")


def value_of(result: CallToolResult, tool: McpTool, keep_file: KeepFile, warn: Callable[[str], None]) -> Any:
    """Return the value of an answer.

    Structured content where there is any, taken out of its `{"result": ...}` where the server only wrapped it; else
    the content: one text as text (never parsed), one other part as it is, several as a list, none as None. Images,
    audio and blobs become files, told as `{"type", "media_type", "file", "sha256", "bytes"}`; where there are some
    beside structured content the value is `{"structured_content", "content"}`.

    Args:
        result: The answer.
        tool: The tool, whose output schema is held against structured content.
        keep_file: Keeps bytes as a file.
        warn: Told what is wrong without being a failure.

    Raises:
        AttemptError: The structured content is not what the server declares, or a file's data cannot be read, as a
            `tool_error`.
    """
    if "structured_content" not in result.model_fields_set or _is_missing(result, tool):
        if tool.output_schema is not None:
            warn(f"'{tool.full_name}' declares structured content and sent none")
        return _content(result.content, tool, keep_file)
    value = result.structured_content
    _check(value, tool, warn)
    if tool.wraps_its_result and isinstance(value, dict) and list(value) == ["result"]:
        value = value["result"]
    files = [part for part in result.content if part.type in _FILES]
    if files:
        return {"structured_content": value, "content": [_part(part, tool, keep_file) for part in files]}
    return value


def text_of(result: CallToolResult) -> str:
    """Return all text of an answer, one part a line."""
    return "\n".join(part.text for part in result.content if part.type == "text").strip()


def _is_missing(result: CallToolResult, tool: McpTool) -> bool:
    """Return whether structured content that is null is none at all: a null that is meant would be declared."""
    return result.structured_content is None and tool.output_schema is None


def _check(value: Any, tool: McpTool, warn: Callable[[str], None]) -> None:
    if tool.output is None:
        return
    try:
        mistakes = tool.output.mistakes(value, most=1)
    except BadSchemaError as error:
        warn(f"the server declares a wrong output schema for '{tool.full_name}', it is not checked: {error}")
        return
    if mistakes:
        place = ".".join(str(part) for part in mistakes[0].absolute_path)
        raise tool_error(
            tool.full_name,
            f"sent structured content that does not fit what it declares: {place + ': ' if place else ''}"
            f"{str(mistakes[0].message)[:200]}",
            "This is a mistake of the server. Tell its author, or use another version of it.",
        )


def _content(parts: list[Any], tool: McpTool, keep_file: KeepFile) -> Any:
    values = [_part(part, tool, keep_file) for part in parts]
    if not values:
        return None
    return values[0] if len(values) == 1 else values


def _part(part: Any, tool: McpTool, keep_file: KeepFile) -> Any:
    match part.type:
        case "text":
            return part.text
        case "image" | "audio":
            return {
                "type": part.type,
                "media_type": part.mime_type,
                **_file(part.data, part.mime_type, tool, keep_file),
            }
        case "resource":
            return _resource(part.resource, tool, keep_file)
        case _:
            plain: dict[str, Any] = part.model_dump(mode="json", by_alias=True, exclude_none=True)
            return plain


def _resource(resource: Any, tool: McpTool, keep_file: KeepFile) -> dict[str, Any]:
    value: dict[str, Any] = {"type": "resource", "uri": str(resource.uri), "media_type": resource.mime_type or ""}
    text = getattr(resource, "text", None)
    if text is not None:
        return {**value, "text": text}
    return {**value, **_file(resource.blob, resource.mime_type or "", tool, keep_file)}


def _file(data: str, media_type: str, tool: McpTool, keep_file: KeepFile) -> dict[str, Any]:
    try:
        plain = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise tool_error(
            tool.full_name,
            f"sent a file ({media_type[:60]}) that is no base64: {error}",
            "This is the server's mistake.",
        ) from error
    return keep_file(plain, suffix=mimetypes.guess_extension(media_type.partition(";")[0].strip().lower()) or ".bin")

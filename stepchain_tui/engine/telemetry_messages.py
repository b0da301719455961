"""Contents of conversations in the form of OpenTelemetry's conventions: messages that have a role and parts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from stepchain_tui.core.values import encode_json
from stepchain_tui.run.values import Kept

LONGEST = 64 * 1024
"""Characters of one attribute; what is longer is cut."""
_OWN_KEYS = frozenset(("type", "id", "status"))


def messages(kept: Kept, finish_reason: str = "") -> str:
    """Return items in the form of the Responses API as messages, a JSON text.

    Args:
        kept: The items; of large ones there is only their beginning, as one text.
        finish_reason: How the answer ended, where the items are one.
    """
    if kept.blob is not None:
        found = [{"role": "unknown", "parts": [_text(f"{kept.blob.preview} ...")]}]
    else:
        found = [_message(item) for item in kept.value or () if isinstance(item, Mapping)]
    if finish_reason and found:
        found = [{**message, "finish_reason": finish_reason} for message in _joined(found)]
    return _cut(encode_json(found).decode())


def content(value: Any) -> str:
    """Return arguments or a result as a JSON text."""
    if isinstance(value, Kept):
        value = value.value if value.blob is None else f"{value.blob.preview} ..."
    return _cut(value if isinstance(value, str) else encode_json(value).decode())


def _message(item: Mapping[str, Any]) -> dict[str, Any]:
    kind = str(item.get("type") or "message")
    if kind == "message":
        return {"role": str(item.get("role") or "assistant"), "parts": list(_parts(item.get("content")))}
    if kind == "function_call_output":
        response = item.get("output")
        return {
            "role": "tool",
            "parts": [{"type": "tool_call_response", "id": item.get("call_id"), "response": response}],
        }
    if kind == "function_call":
        call = {"type": "tool_call", "id": item.get("call_id"), "name": item.get("name")}
        return {"role": "assistant", "parts": [{**call, "arguments": item.get("arguments")}]}
    if kind == "reasoning":
        summary = item.get("summary")
        texts = [part.get("text", "") for part in summary or () if isinstance(part, Mapping)]
        return {"role": "assistant", "parts": [{"type": "reasoning", "content": "\n".join(map(str, texts))}]}
    about = {name: value for name, value in item.items() if name not in _OWN_KEYS}
    return {"role": "assistant", "parts": [{"type": "server_tool_call", "id": item.get("id"), "name": kind, **about}]}


def _parts(given: Any) -> Iterable[dict[str, Any]]:
    if isinstance(given, str):
        yield _text(given)
    for part in given if isinstance(given, list | tuple) else ():
        if isinstance(part, Mapping):
            text = part.get("text", part.get("refusal"))
            yield _text(text) if isinstance(text, str) else {"type": str(part.get("type", "unknown"))}


def _joined(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the messages of one answer as one."""
    return [{"role": "assistant", "parts": [part for message in found for part in message["parts"]]}]


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "content": text}


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else text[:LONGEST] + " ..."

"""Items of a conversation, in the form of the Responses API, as what was said and what was called.

What a provider sends is not ours: whatever does not have the form that it should have is told as it is, or left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from stepchain_tui.core.values import decode_json, encode_json

_HOSTED = "_call"
"""What the type of a call ends with that the provider carries out: `web_search_call`."""
_WEB = ("http://", "https://")
_NOT_SHOWN = frozenset(("mcp_list_tools", "compaction", "item_reference"))


class Source(msgspec.Struct, frozen=True, omit_defaults=True):
    """A source that a text names: its title, its address, the name of its file."""

    title: str = ""
    url: str = ""
    file: str = ""


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """A message of a conversation; `role` may be `reasoning` and `refusal` too."""

    role: str
    text: str
    sources: tuple[Source, ...] = ()


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """A call of a tool, or, with `is_result`, what was answered to one.

    Attributes:
        status: How a call of the provider's own ended: `succeeded` or `failed`.
        hosted: The provider carries it out.
    """

    call_id: str
    name: str = ""
    arguments: Any = None
    result: Any = None
    status: str = "asked"
    hosted: bool = False
    is_result: bool = False


def read_items(items: Any) -> list[Message | Call]:
    """Return what a list of items tells, in order."""
    found: list[Message | Call] = []
    for place, item in enumerate(items if isinstance(items, list | tuple) else ()):
        if isinstance(item, Mapping):
            found += _read(item, place)
    return found


def _read(item: Mapping[str, Any], place: int) -> Iterable[Message | Call]:
    kind = _text(item.get("type")) or ("message" if "role" in item else "")
    match kind:
        case "message":
            return _messages(item)
        case "reasoning":
            text = "\n\n".join(_texts(item.get("summary")) or _texts(item.get("content")))
            return [Message(role="reasoning", text=text)] if text else []
        case "function_call":
            name, arguments = _text(item.get("name")), _arguments(item.get("arguments"))
            return [Call(call_id=_text(item.get("call_id")), name=name, arguments=arguments)]
        case "function_call_output":
            output = item.get("output")
            text = output if isinstance(output, str) else "\n".join(_texts(output))
            return [Call(call_id=_text(item.get("call_id")), result=text, is_result=True)]
        case "mcp_approval_response":
            return []
        case "mcp_approval_request":
            call_id = _text(item.get("id")) or f"approval {place}"
            return [Call(call_id=call_id, name=_mcp_name(item), arguments=_arguments(item.get("arguments")))]
        case _ if kind in _NOT_SHOWN:
            return []
        case _ if kind.endswith(_HOSTED):
            return [_hosted(item, kind, place)]
    return []


def _messages(item: Mapping[str, Any]) -> list[Message]:
    role, content = _text(item.get("role")) or "assistant", item.get("content")
    if isinstance(content, str):
        return [Message(role=_role(role), text=content)] if content else []
    texts: list[str] = []
    refusals: list[str] = []
    sources: dict[Source, None] = {}
    for part in content if isinstance(content, list | tuple) else ():
        if not isinstance(part, Mapping):
            continue
        if part.get("type") == "refusal":
            refusals.append(_text(part.get("refusal")))
        elif isinstance(part.get("text"), str):
            texts.append(part["text"])
            sources.update(dict.fromkeys(_sources(part.get("annotations"))))
        else:
            texts.append(f"[{_text(part.get('type')) or 'something else than text'}]")
    made = [Message(role=_role(role), text="\n".join(texts), sources=tuple(sources))] if texts else []
    return [*made, *(Message(role="refusal", text=text) for text in refusals if text)]


def _role(role: str) -> str:
    return "system" if role == "developer" else role


def _sources(annotations: Any) -> list[Source]:
    found = []
    for one in annotations if isinstance(annotations, list | tuple) else ():
        if not isinstance(one, Mapping):
            continue
        inner = one.get("url_citation")
        fields = inner if isinstance(inner, Mapping) else one
        file = _text(fields.get("filename") or fields.get("file_id"))
        source = Source(_text(fields.get("title")), _web(fields.get("url")), file)
        if source != Source():
            found.append(source)
    return found


def _web(url: Any) -> str:
    """Return an address of the web; one of another kind might do something when it is followed."""
    return url if isinstance(url, str) and url.lower().startswith(_WEB) else ""


def _hosted(item: Mapping[str, Any], kind: str, place: int) -> Call:
    """Return a call that the provider made: of a search, of its interpreter, of an MCP server."""
    error = item.get("error")
    failed = item.get("status") in ("failed", "incomplete") or error is not None
    name = kind.removesuffix(_HOSTED)
    arguments: Any = {key: item[key] for key in ("action", "queries", "code") if item.get(key) is not None}
    result: Any = next((item[key] for key in ("output", "outputs", "results") if item.get(key) is not None), None)
    if name == "mcp":
        name, arguments = _mcp_name(item), _arguments(item.get("arguments"))
    if isinstance(arguments, dict) and isinstance(arguments.get("action"), Mapping):
        arguments = dict(arguments["action"])
    return Call(
        call_id=_text(item.get("id")) or f"{kind} {place}",
        name=name,
        arguments=arguments or None,
        result=error if error is not None else result,
        status="failed" if failed else "succeeded",
        hosted=True,
    )


def _mcp_name(item: Mapping[str, Any]) -> str:
    server, name = _text(item.get("server_label")), _text(item.get("name"))
    return f"{server}.{name}" if server else name


def _arguments(written: Any) -> Any:
    """Return the arguments that a model wrote as JSON text; the text itself where it is no JSON."""
    if not isinstance(written, str):
        return written
    try:
        return decode_json(written.encode())
    except (ValueError, RecursionError):
        return written


def _texts(parts: Any) -> list[str]:
    if isinstance(parts, str):
        return [parts] if parts else []
    found = [part.get("text") for part in parts or () if isinstance(part, Mapping)] if _is_list(parts) else []
    return [text for text in found if isinstance(text, str) and text]


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else encode_json(value).decode()[:200]

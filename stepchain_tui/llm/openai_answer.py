"""From the last event of a stream to the answer: its items, the calls and citations in them, what it cost.

All of it is what a server sent, so any field may be missing or of a wrong type.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import count
from typing import Any, TypedDict

from stepchain_tui.core.values import to_json_value
from stepchain_tui.llm.types import CallRequest, Citation

BETWEEN_MESSAGES = "\n\n"
"""Stands between two messages of one answer, such as those before and after a search."""
_CITED = ("url_citation", "file_citation", "container_file_citation", "file_path")
_WEB = ("http://", "https://")
_NAME_LIMIT = 2_000


class TokenCounts(TypedDict):
    """What an answer took, by the names of `ModelAnswer`."""

    input_tokens: int | None
    output_tokens: int | None
    cached_tokens: int | None
    reasoning_tokens: int | None


def field_of(thing: Any, name: str) -> Any:
    """Return a field of a mapping, None where it has none or is none."""
    return thing.get(name) if isinstance(thing, Mapping) else None


def items_of(output: Any) -> list[dict[str, Any]]:
    """Return output items that can be kept and go back with the next question, each call with an id of its own.

    Raises:
        UsageError: They are nested deeper than a value may be.
    """
    found: list[dict[str, Any]] = to_json_value(
        [
            {name: value for name, value in item.items() if value is not None}
            for item in (output if isinstance(output, list) else ())
            if isinstance(item, Mapping) and isinstance(item.get("type"), str)
        ]
    )
    calls = [(place, item) for place, item in enumerate(found) if item["type"] == "function_call"]
    given = {_id_of(item) for _, item in calls}
    taken: set[str] = set()
    for place, item in calls:
        if not (call_id := _id_of(item)) or call_id in taken:
            names = (f"call_{number}" for number in count(place))
            call_id = next(name for name in names if name not in taken and name not in given)
        taken.add(call_id)
        arguments = item.get("arguments")
        item["call_id"] = call_id
        item["name"] = str(item.get("name") or "")
        item["arguments"] = arguments if isinstance(arguments, str) else json.dumps(arguments or {})
    return found


def _id_of(item: Mapping[str, Any]) -> str:
    call_id = item.get("call_id") or item.get("id")
    return call_id if isinstance(call_id, str) else ""


def calls_of(items: Iterable[Mapping[str, Any]]) -> tuple[CallRequest, ...]:
    """Return the calls of functions among items."""
    return tuple(
        CallRequest(call_id=item["call_id"], name=item["name"], arguments=item["arguments"])
        for item in items
        if item["type"] == "function_call"
    )


def text_of(items: Iterable[Mapping[str, Any]], kind: str = "output_text", key: str = "text") -> str:
    """Return the text of the messages among items, or their refusals."""
    return BETWEEN_MESSAGES.join(
        found
        for item in items
        if (found := "".join(part[key] for part in _parts(item) if part["type"] == kind and _is_text(part.get(key))))
    )


def citations_of(items: Iterable[Mapping[str, Any]]) -> tuple[Citation, ...]:
    """Return the sources that the messages among items name; places count in the whole text of `text_of`."""
    found: list[Citation] = []
    offset = 0
    for item in items:
        length = 0
        for part in _parts(item):
            if part["type"] != "output_text" or not _is_text(part.get("text")):
                continue
            notes = part.get("annotations")
            for note in notes if isinstance(notes, list) else ():
                if isinstance(note, Mapping) and note.get("type") in _CITED:
                    found.append(_citation(note, offset + length))
            length += len(part["text"])
        offset += length + len(BETWEEN_MESSAGES) if length else 0
    return tuple(found)


def usage_of(response: Any) -> TokenCounts:
    """Return what an answer took; None for what the server does not say."""
    usage = field_of(response, "usage")
    return {
        "input_tokens": _count(usage, "input_tokens"),
        "output_tokens": _count(usage, "output_tokens"),
        "cached_tokens": _detail(usage, "input_tokens_details", "cached_tokens"),
        "reasoning_tokens": _detail(usage, "output_tokens_details", "reasoning_tokens"),
    }


def _parts(item: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    content = item.get("content")
    if item["type"] == "message" and isinstance(content, list):
        yield from (part for part in content if isinstance(part, Mapping) and _is_text(part.get("type")))


def _citation(note: Mapping[str, Any], offset: int) -> Citation:
    url, start, end = note.get("url"), _count(note, "start_index"), _count(note, "end_index")
    return Citation(
        title=_name(note.get("title")),
        # Shown as a link: an address of another kind might do something when it is followed.
        url=_name(url) if isinstance(url, str) and url.lower().startswith(_WEB) else "",
        file=_name(note.get("filename") or note.get("file_id")),
        start=None if start is None else start + offset,
        end=None if end is None else end + offset,
    )


def _name(value: Any) -> str:
    return value[:_NAME_LIMIT] if isinstance(value, str) else ""


def _count(counts: Any, name: str) -> int | None:
    value = field_of(counts, name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _detail(usage: Any, inside: str, name: str) -> int | None:
    """Return a count that the API nests; whoever writes usage by hand writes it flat."""
    nested = _count(field_of(usage, inside), name)
    return _count(usage, name) if nested is None else nested


def _is_text(value: Any) -> bool:
    return isinstance(value, str)

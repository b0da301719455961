"""What kept values of events tell a transcript: items of a conversation, results, and what an attempt is given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stepchain_tui.core.values import encode_json
from stepchain_tui.run.transcript_items import Call, Message, read_items
from stepchain_tui.run.values import Kept


def parts(kept: Kept) -> tuple[list[Message | Call], int]:
    """Return what a kept list of items tells, and how large it is where only its beginning is at hand."""
    if kept.blob is None:
        return read_items(kept.value), 0
    return [Message(role="assistant", text=kept.blob.preview)], kept.blob.bytes


def beginning(kept: Kept | None) -> tuple[Any, int]:
    """Return a value, or the beginning of its JSON with the size of all of it."""
    if kept is None:
        return None, 0
    return (kept.value, 0) if kept.blob is None else (kept.blob.preview, kept.blob.bytes)


def question_of(kept: Kept | None) -> tuple[tuple[str, str, int], ...]:
    """Return what an attempt asks: role, text, and the size of all where this is only its beginning."""
    value, size = beginning(kept)
    if size:
        return (("user", str(value), size),)
    if not isinstance(value, dict):
        return ()
    asked = value.get("prompt", value.get("request"))
    asked = value.get("args") if asked is None else asked
    found = [("system", value["system"], 0)] if isinstance(value.get("system"), str) else []
    if asked is not None:
        found.append(("user", asked if isinstance(asked, str) else encode_json(asked).decode(), 0))
    return tuple(found)


def instructions_of(kept: Kept | None) -> Mapping[str, Any]:
    """Return what the agents of an attempt are told to do, by name."""
    value = kept.value if kept is not None else None
    found = value.get("instructions") if isinstance(value, dict) else None
    return found if isinstance(found, dict) else {}


def first_agent(kept: Kept | None) -> str:
    """Return the agent that an attempt begins with; empty where there is none."""
    value = kept.value if kept is not None else None
    found = value.get("agent") if isinstance(value, dict) else None
    return found if isinstance(found, str) else ""

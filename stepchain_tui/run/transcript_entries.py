"""What a transcript is made of: the things that are said and done in a conversation with a model."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from stepchain_tui.run.failures import Failure
from stepchain_tui.run.transcript_items import Source


class _Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", gc=False):
    """One thing that was said or done: when, in which attempt, at which item of a map."""

    at: datetime
    attempt: int
    item: int | None = None


class Began(_Entry, frozen=True, kw_only=True, omit_defaults=True, tag="attempt"):
    """An attempt began; `goes_on` tells that it takes up the conversation of an earlier one."""

    tries: int = 1
    max_attempts: int = 1
    model: str = ""
    goes_on: bool = False


class Said(_Entry, frozen=True, kw_only=True, omit_defaults=True, tag="message"):
    """Something was said.

    Attributes:
        role: `system`, `user`, `assistant`, `reasoning` (what the provider shows of it), `refusal`, or `summary` of
            earlier results, which the model made before it was asked.
        text: The words; empty where an agent says nothing before it calls tools.
        turn: The turn of the conversation, 0 before the first.
        agent: The agent that spoke.
        automatic: We wrote it, neither the plan nor the model: an answer that did not fit is asked for again.
        sources: What the text names as its sources.
        bytes: How large all of it is, where `text` is only its beginning.
        cut_off: It was never finished: the attempt ended while it was written.
    """

    role: str
    text: str
    turn: int = 0
    agent: str = ""
    automatic: bool = False
    sources: tuple[Source, ...] = ()
    bytes: int = 0
    cut_off: bool = False


class Called(_Entry, frozen=True, kw_only=True, omit_defaults=True, tag="call"):
    """A tool was called, or is to be.

    Attributes:
        status: `asked` (by the model, not begun), `waiting` (for a person), `allowed`, `denied`, `running`,
            `succeeded`, `failed`, `timed_out`, or how the attempt ended that never heard of it again.
        result: What it gave; with `result_bytes` only the beginning of its JSON.
        told: What the model was told instead of a result, where the tool was not called.
        answered_by: Who allowed or denied it.
        changed: The arguments as that person changed them.
        hosted: The model's provider carried it out.
    """

    call_id: str
    tool_name: str
    arguments: Any = None
    status: str = "asked"
    result: Any = None
    result_bytes: int = 0
    told: str = ""
    error: Failure | None = None
    execution_time: float | None = None
    hosted: bool = False
    answered_by: str = ""
    changed: Any = None
    agent: str = ""


class HandedOver(_Entry, frozen=True, kw_only=True, omit_defaults=True, tag="hand_off"):
    """One agent handed the conversation over to another."""

    from_agent: str
    to_agent: str


class Answered(_Entry, frozen=True, kw_only=True, omit_defaults=True, tag="turn"):
    """A turn ended; fields as in `model.turn`."""

    turn: int
    model: str
    provider: str = ""
    agent: str = ""
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    cost: float | None = None
    duration: float = 0.0
    first_text_after: float | None = None
    finish_reason: str = ""
    history_tokens: int | None = None
    history_tokens_before: int | None = None
    replayed: bool = False


class Waited(_Entry, frozen=True, kw_only=True, omit_defaults=True, tag="wait"):
    """A person was asked for something else than a tool call, such as a budget; `answer` is what they said."""

    reason: str
    question: str = ""
    answer: Any = None
    by: str = ""


class Ended(_Entry, frozen=True, kw_only=True, omit_defaults=True, tag="end"):
    """An attempt ended; `retry_after` are the seconds until the next, where there is one."""

    status: str
    error: Failure | None = None
    retry_after: float | None = None
    reason: str = ""


Entry = Began | Said | Called | HandedOver | Answered | Waited | Ended

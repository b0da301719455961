"""The events of a run: the list of types is a contract, each survives being written, and strangers are refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepchain_tui.core.errors import StoreError
from stepchain_tui.run import EVENT_TYPES, AttemptStatus, BlobReference, Event, Kept, RunStatus, decode_event
from stepchain_tui.run import encode_event as encode
from stepchain_tui.run import events as e
from stepchain_tui.run.failures import Failure
from stepchain_tui.run.status import ErrorType

CONTRACT = """
run.created run.started run.paused run.resumed run.waiting run.interrupted run.revised run.finished
step.queued step.started step.spawned step.expanded step.waiting step.resumed step.retry_scheduled step.succeeded
step.failed step.timed_out step.skipped step.blocked step.cancelled step.interrupted step.invalidated step.pinned
item.started item.retry_scheduled item.succeeded item.failed item.timed_out item.cancelled item.interrupted
tool.started tool.finished tool.approval_asked tool.approval_given model.turn command.applied command.refused
"""
AT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
FAILURE = Failure(
    error_type=ErrorType.RATE_LIMIT,
    message="slow down",
    exception="RateLimitError",
    hint="Wait.",
    traceback="Traceback ...",
    retry_after=2.5,
    details={"exit_code": 7, "ü": [1, None]},
)
KEPT = Kept({"rows": [1, 2.5, "ü", None, True]})
LARGE = Kept(blob=BlobReference(sha256="ab" * 32, bytes=70_000, preview='["x'))
OUTLINE = e.StepOutline(
    id="a",
    kind="shell",
    parents=("b",),
    name="A",
    continues=True,
    is_map=True,
    optional=True,
    breakpoint="after",
    part_of="o",
    part_of_item=2,
)

FULL: dict[str, dict[str, Any]] = {
    "run.created": {
        "goal": "g",
        "plan": {"steps": [{"id": "a"}]},
        "steps": (OUTLINE,),
        "plan_path": "/p/plan.yaml",
        "plan_text": "goal: g\n",
        "plan_folder": "/p",
        "working_folder": "/w",
        "inputs": {"n": 1},
        "secret_inputs": ("key",),
        "max_concurrent": 3,
        "parent_run_id": "r0",
        "parent_step_id": "a",
        "replay_of": "r0",
        "live": ("function",),
        "plans": {"/p/inner.yaml": {"plan": {"steps": []}, "text": "", "folder": "/p"}},
    },
    "run.started": {"owner": e.OwnerRecord(pid=7, process_started_at=1.25, host="h"), "version": "1"},
    "run.paused": {"reason": "p", "now": True},
    "run.resumed": {"reason": "r", "owner": e.OwnerRecord(pid=8, process_started_at=2.5)},
    "run.waiting": {"reason": "w", "steps": ("a", "b")},
    "run.interrupted": {"reason": "i"},
    "run.revised": {
        "revision": 2,
        "plan": {"steps": []},
        "steps": (OUTLINE,),
        "plan_text": "t",
        "max_concurrent": 9,
        "reason": "edit",
        "by": "Ada",
        "inputs": {"n": 2},
        "secret_inputs": ("key",),
        "plans": {"/p/inner.yaml": {}},
    },
    "run.finished": {"status": RunStatus.FAILED, "reason": "a failed"},
    "step.queued": {"reason": "limit 'x' is full"},
    "step.started": {
        "tries": 2,
        "max_attempts": 3,
        "input": KEPT,
        "content_hash": "ff",
        "mode": "process",
        "model": "m",
        "revision": 4,
        "cache": "hit",
    },
    "step.spawned": {"pid": 1, "process_group": 2, "process_started_at": 3.5, "item": 4},
    "step.expanded": {
        "items": (e.ItemOutline(key="k", value=KEPT, reuse=1), e.ItemOutline(key="l", value=LARGE)),
        "steps": (OUTLINE,),
    },
    "step.waiting": {
        "reason": "approval",
        "question": "go?",
        "fields": {"n": {"type": "integer"}},
        "deadline": AT,
        "on_timeout": "deny",
        "attempt": 1,
        "item": 0,
        "place": "before",
        "call_id": "call_1",
        "content_hash": "abc",
        "tool_key": "k",
        "input": KEPT,
    },
    "step.resumed": {"answer": {"approved": True}, "by": "Ada", "attempt": 1, "item": 2, "input": KEPT},
    "step.retry_scheduled": {
        "status": AttemptStatus.TIMED_OUT,
        "error": FAILURE,
        "delay": 2.5,
        "retry_at": AT,
        "tries": 1,
        "max_attempts": 3,
        "reason": "rate limit, Retry-After",
    },
    "step.succeeded": {
        "output": LARGE,
        "warnings": ("w",),
        "by": "Ada",
        "cached": True,
        "origin": "r0/a",
        "content_hash": "ff",
    },
    "step.failed": {"error": FAILURE, "output": KEPT},
    "step.timed_out": {"error": FAILURE},
    "step.skipped": {"reason": "when", "cause": "b", "attempt": 1},
    "step.blocked": {"cause": "b", "reason": "b failed"},
    "step.cancelled": {"reason": "c", "attempt": 1},
    "step.interrupted": {"reason": "i", "asked": True},
    "step.invalidated": {"reason": "rerun", "cause": "b", "stale": True, "keep_items": True, "again": True},
    "step.pinned": {"pinned": False, "output": KEPT, "by": "Ada"},
    "item.started": {"tries": 2, "max_attempts": 3, "input": KEPT, "cache": "hit"},
    "item.retry_scheduled": {
        "status": AttemptStatus.FAILED,
        "error": FAILURE,
        "delay": 0.0,
        "retry_at": AT,
        "tries": 2,
        "max_attempts": 3,
        "reason": "tool error",
    },
    "item.succeeded": {"output": KEPT, "warnings": ("w",), "cached": True, "origin": "r0/a"},
    "item.failed": {"error": FAILURE},
    "item.timed_out": {"error": FAILURE},
    "item.cancelled": {"reason": "c"},
    "item.interrupted": {"reason": "i"},
    "tool.started": {"call_id": "c", "tool_name": "t", "arguments": {"x": 1}, "item": 1},
    "tool.finished": {
        "call_id": "c",
        "tool_name": "t",
        "arguments": {"x": 1},
        "result": KEPT,
        "error": FAILURE,
        "execution_time": 0.5,
        "hosted": True,
        "replayed": True,
        "cpu_time": 0.25,
        "item": 1,
    },
    "tool.approval_asked": {"call_id": "c", "tool_name": "t", "arguments": {"x": 1}},
    "tool.approval_given": {
        "call_id": "c",
        "approved": False,
        "content_hash": "abc",
        "tool_key": "k",
        "remember": True,
        "asked": Kept({"tool": "t", "arguments": {"x": 1}}),
        "arguments": Kept({"tool": "t", "arguments": {"x": 2}}),
        "by": "Ada",
    },
    "model.turn": {
        "model": "m",
        "response_id": "r",
        "input_tokens": 1,
        "output_tokens": 2,
        "duration": 0.5,
        "item": 3,
        "turn": 2,
        "agent": "writer",
        "provider": "api.example.com",
        "cached_tokens": 1,
        "reasoning_tokens": 1,
        "cost": 0.25,
        "finish_reason": "stop",
        "request_id": "q",
        "first_text_after": 0.1,
        "sent": Kept([{"role": "user", "content": "hi"}]),
        "output": Kept([{"type": "message"}]),
        "content_hash": "abc",
        "history_tokens": 10,
        "history_tokens_before": 20,
        "replayed": True,
    },
    "command.applied": {"command_id": "c", "command": "pause", "arguments": {"now": True}, "by": "Ada"},
    "command.refused": {"command_id": "c", "command": "pause", "reason": "no", "arguments": {}, "by": "Ada"},
}
"""Every field of every type, none at its default where that can be."""


def fields_of(cls: type[Event]) -> set[str]:
    return {field.name for field in msgspec.structs.fields(cls)}


def make(name: str, **fields: Any) -> Event:
    cls = EVENT_TYPES[name]
    where = {"seq": 12, "run_id": "run-1", "at": AT, "step_id": "a", "attempt": 2, "item": 3}
    given = {key: value for key, value in where.items() if key in fields_of(cls)}
    return cls(**{**given, **fields})


def test_the_event_types_are_those_of_the_design_and_no_others() -> None:
    assert list(EVENT_TYPES) == CONTRACT.split()
    assert set(EVENT_TYPES.values()) == set(get_args(Event))


def test_every_type_is_tried_with_every_field() -> None:
    assert set(FULL) == set(EVENT_TYPES)
    for name, fields in FULL.items():
        own = fields_of(EVENT_TYPES[name]) - {"seq", "run_id", "at", "step_id", "attempt", "item"}
        assert own <= set(fields), name


@pytest.mark.parametrize("name", EVENT_TYPES)
def test_an_event_comes_back_from_json_as_it_was(name: str) -> None:
    event = make(name, **FULL[name])
    data = encode(event)
    assert decode_event(data) == event
    assert decode_event(data.decode()) == event
    assert encode(decode_event(data)) == data


@pytest.mark.parametrize("name", EVENT_TYPES)
def test_an_event_names_its_type_number_run_and_moment(name: str) -> None:
    plain = msgspec.json.decode(encode(make(name, **FULL[name])))
    assert next(iter(plain)) == "type"
    assert (plain["type"], plain["seq"], plain["run_id"]) == (name, 12, "run-1")
    assert plain["at"] == "2026-01-02T03:04:05.678901Z"
    group = name.partition(".")[0]
    assert ("step_id" in plain) == (group in ("step", "item", "tool", "model"))
    assert ("item" in plain) or group != "item"
    assert ("attempt" in plain) or group not in ("item", "tool", "model")


@pytest.mark.parametrize("name", EVENT_TYPES)
def test_an_event_never_changes(name: str) -> None:
    event = make(name, **FULL[name])
    with pytest.raises(AttributeError):
        event.seq = 13  # type: ignore[misc]


@pytest.mark.parametrize("name", EVENT_TYPES)
def test_an_event_says_what_it_signals(name: str) -> None:
    assert (EVENT_TYPES[name].__doc__ or "").startswith("Signals ")


@pytest.mark.parametrize(
    "line",
    [
        b'{"type":"step.teleported","seq":1,"run_id":"r","at":"2026-01-01T00:00:00Z","step_id":"a"}',
        b'{"seq":1,"run_id":"r","at":"2026-01-01T00:00:00Z"}',
        b'{"type":"step.failed","seq":1,"run_id":"r","at":"2026-01-01T00:00:00Z","step_id":"a","attempt":1}',
        b'{"type":"run.paused","seq":"one","run_id":"r","at":"2026-01-01T00:00:00Z"}',
        b'{"type":"run.paused","seq":1,"run_id":"r","at":"2026-01-01T00:00:00Z"',
        b'{"type":"run.finished","seq":1,"run_id":"r","at":"2026-01-01T00:00:00Z","status":"COMPLETED"}',
        b"[]",
        b"",
        b"\xff\xfe",
    ],
)
def test_a_line_that_is_no_event_of_this_version_is_an_error_with_a_hint_never_skipped(line: bytes) -> None:
    with pytest.raises(StoreError) as caught:
        decode_event(line)
    assert "newer version" in caught.value.hint


def test_a_field_of_a_later_version_does_not_make_an_event_unreadable() -> None:
    line = b'{"type":"run.paused","seq":1,"run_id":"r","at":"2026-01-01T00:00:00Z","mood":"calm"}'
    assert decode_event(line) == e.RunPaused(seq=1, run_id="r", at=datetime(2026, 1, 1, tzinfo=UTC))


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None, max_examples=60)
@given(output=JSON, text=st.text(), seconds=st.integers(0, 2**31))
def test_any_output_text_and_moment_survives(output: Any, text: str, seconds: int) -> None:
    at = AT + timedelta(seconds=seconds, microseconds=seconds % 1_000_000)
    for event in (
        e.StepSucceeded(seq=1, run_id="r", at=at, step_id="a", attempt=1, output=Kept(output)),
        e.StepFailed(
            seq=2,
            run_id="r",
            at=at,
            step_id="a",
            attempt=1,
            error=Failure(error_type=ErrorType.UNKNOWN, message=text, details={"x": output}),
        ),
        e.CommandApplied(seq=3, run_id="r", at=at, command_id=text, command="c", arguments={"x": output}),
    ):
        assert decode_event(encode(event)) == event

"""A batch of tool calls on its way: which loop carries out which call, and what is told of each in the end.

Calls in threads are carried out on the loop of whoever waits for them, calls in processes on the loop of the pools.
"""

from __future__ import annotations

import asyncio
import os
import time
from concurrent.futures import Future
from dataclasses import dataclass, field

from stepchain_tui.core.errors import StepChainError
from stepchain_tui.core.values import to_json_value
from stepchain_tui.resilience.classify import classify
from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.status import ErrorType
from stepchain_tui.tools.function_calls import FunctionCall, FunctionCaller
from stepchain_tui.tools.loop_thread import LoopThread
from stepchain_tui.tools.process_worker import CallRecord
from stepchain_tui.tools.types import CallStage, ToolCall, ToolResult, check_size, mode_hint, result_text

_STAGES = ("received", "resolved", "packed", "started", "ended", "rendered")
_NEVER_BEGAN = CallRecord()


@dataclass(eq=False, slots=True)
class BatchItem:
    """One call on its way through a batch.

    Attributes:
        call: What was asked for.
        received_at: When its batch came, by the monotonic clock.
        resolved_at: When its function was found, or not, by the monotonic clock.
        function_call: What is to be carried out; None where it could not be prepared.
        error: Why it could not be.
        warnings: What a person should know of a call that went well all the same.
    """

    call: ToolCall
    received_at: float
    resolved_at: float = 0.0
    function_call: FunctionCall | None = None
    error: Exception | None = None
    warnings: list[str] = field(default_factory=list)

    @property
    def is_near(self) -> bool:
        """Whether it needs no other loop than its caller's: no process, and nobody who takes its output."""
        return self.function_call is None or (self.function_call.mode == "thread" and self.function_call.log is None)


async def carry_out(thread: LoopThread, batch: list[BatchItem]) -> list[ToolResult]:
    """Carry out a batch on the running loop, and what it cannot on the loop of the pools; results are in order."""
    far = [item for item in batch if not item.is_near]
    if not far:
        return await _carry_out_here(thread, batch)
    if len(far) == len(batch):
        return await asyncio.wrap_future(begin_far(thread, batch))
    near = [item for item in batch if item.is_near]
    # `gather` would leave the one running when the other is cancelled.
    async with asyncio.TaskGroup() as group:
        apart = group.create_task(_awaited(begin_far(thread, far)))
        here = group.create_task(_carry_out_here(thread, near))
    results = {result.id: result for result in (*apart.result(), *here.result())}
    return [results[item.call.id] for item in batch]


def begin_far(thread: LoopThread, batch: list[BatchItem]) -> Future[list[ToolResult]]:
    """Have a batch carried out on the loop of the pools; it fails where somebody shut the executor down meanwhile."""
    try:
        return thread.submit(_carry_out_here(thread, batch))
    except RuntimeError:
        future: Future[list[ToolResult]] = Future()
        future.set_result([_failed(item, item.error or _shut_down(item.call.name)) for item in batch])
        return future


async def _awaited(future: Future[list[ToolResult]]) -> list[ToolResult]:
    return await asyncio.wrap_future(future)


async def _carry_out_here(thread: LoopThread, batch: list[BatchItem]) -> list[ToolResult]:
    caller = FunctionCaller(thread.pools)
    if len(batch) == 1:
        return [await _carry_out_one(thread, caller, batch[0])]
    return await asyncio.gather(*(_carry_out_one(thread, caller, item) for item in batch))


async def _carry_out_one(thread: LoopThread, caller: FunctionCaller, item: BatchItem) -> ToolResult:
    if item.function_call is None:
        return _failed(item, item.error or AttemptError("it could not be prepared"))
    try:
        value = to_json_value(await caller.run(item.function_call))
        text = result_text(value)
        check_size(text, item.call.name)
    except asyncio.CancelledError:
        if not thread.closing:
            raise
        return _failed(item, _shut_down(item.call.name))
    except Exception as error:  # noqa: BLE001 - one call's failure, whatever it is, is that call's result
        return _failed(item, _shut_down(item.call.name) if thread.closing else error)
    record = item.function_call.record
    seconds = _seconds(item)
    return ToolResult(
        id=item.call.id,
        name=item.call.name,
        text=text,
        result=value,
        execution_time=seconds,
        cpu_time=record.cpu_seconds,
        mode=record.mode,
        pid=record.pid or os.getpid(),
        warnings=tuple(item.warnings),
        hint=mode_hint(record.mode, record.cpu_seconds, seconds),
        events=_stages(item),
    )


def _failed(item: BatchItem, error: BaseException) -> ToolResult:
    exception = (error.exception if isinstance(error, AttemptError) else "") or type(error).__name__
    message = str(error) or exception
    hint = error.hint if isinstance(error, StepChainError) else ""
    told = f"{message} ({hint.rstrip('.')})" if hint else message
    record = None if item.function_call is None else item.function_call.record
    began = record is not None and record.started_at is not None
    return ToolResult(
        id=item.call.id,
        name=item.call.name,
        text=f"Error: {exception}: {told}",
        error=message,
        error_type=str(classify(error, "tool")),
        exception=exception,
        execution_time=_seconds(item),
        cpu_time=record.cpu_seconds if record is not None else None,
        mode=record.mode if record is not None and began else "",
        pid=(record.pid or os.getpid()) if record is not None and began else None,
        warnings=tuple(item.warnings),
        hint=hint,
        events=_stages(item),
    )


def _seconds(item: BatchItem) -> float:
    record = None if item.function_call is None else item.function_call.record
    if record is None or record.started_at is None:
        return 0.0
    if record.seconds is not None:
        return record.seconds
    return (record.ended_at or time.monotonic()) - record.started_at


def _stages(item: BatchItem) -> tuple[CallStage, ...]:
    record, begin = _NEVER_BEGAN if item.function_call is None else item.function_call.record, item.received_at
    times = (begin, item.resolved_at, record.packed_at, record.started_at, record.ended_at, time.monotonic())
    return tuple([CallStage(stage, at - begin) for stage, at in zip(_STAGES, times, strict=True) if at is not None])


def _shut_down(name: str) -> AttemptError:
    return AttemptError(
        f"the executor was shut down while it ran {name}",
        error_type=ErrorType.TOOL_ERROR,
        hint="Call it again: the executor starts new workers.",
        exception="ShutDownError",
    )

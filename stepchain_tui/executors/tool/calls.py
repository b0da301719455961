"""What all tool executors do around a call: tell that it is made and how it ended, and ask a person before it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from stepchain_tui.executors.context import CallContext
from stepchain_tui.executors.types import ApprovalNeeded
from stepchain_tui.resilience.classify import classify
from stepchain_tui.run.failures import AttemptError, Failure
from stepchain_tui.run.status import ErrorType
from stepchain_tui.store.tool_records import CUT_OFF

ONLY_CALL = "call_1"
"""The id of the one call that a tool step makes in an attempt."""
_OF_THE_CALL = frozenset(("ToolArgumentError", "ToolSchemaError"))
"""Failures whose text names the tool and the field, and should name the step too."""


class ToldCall:
    """A call that the engine is told of: when it is made, and how it ended.

    Args:
        tool_name: The tool.
        args: What it is called with.
        ctx: The context of the call.
        call_id: Tells the calls of one attempt apart.
    """

    def __init__(self, tool_name: str, args: Any, ctx: CallContext, call_id: str = ONLY_CALL) -> None:
        self._tool_name = tool_name
        self._args = args
        self._ports = ctx.ports
        self._call_id = call_id
        self._began = time.monotonic()
        ctx.ports.tool_started(call_id=call_id, tool_name=tool_name, arguments=args)

    def ended(
        self,
        *,
        result: Any = None,
        error: BaseException | None = None,
        seconds: float | None = None,
        cpu_seconds: float | None = None,
    ) -> None:
        """Tell the end.

        Args:
            result: What it returned.
            error: How it failed, None where it did not.
            seconds: How long it took; since this object was made where that is not known better.
            cpu_seconds: How much of that it computed, where that is known.
        """
        failure = None if error is None else failure_of_call(error)
        self._ports.tool_finished(
            call_id=self._call_id,
            tool_name=self._tool_name,
            arguments=self._args,
            execution_time=time.monotonic() - self._began if seconds is None else seconds,
            result=result,
            error=failure,
            cpu_time=cpu_seconds,
        )


def failure_of_call(error: BaseException) -> Failure:
    """Return how a call failed; a cancelled one was cut off, unless the engine knows that its time was over."""
    if isinstance(error, asyncio.CancelledError):
        return Failure(error_type=ErrorType.UNKNOWN, message=CUT_OFF)
    return Failure.of(error, classify(error, "tool"))


def was_cut_off(error: Failure) -> bool:
    """Return whether a call was ended together with its attempt: what it would have come to is not known."""
    of_attempt = error.error_type is ErrorType.TIMEOUT and error.message.startswith("ran longer than its timeout")
    return error.message == CUT_OFF or of_attempt


def approved(args: dict[str, Any], ctx: CallContext, tool_name: str, *, needed: bool = False) -> dict[str, Any]:
    """Return the arguments to call a tool with: the step's, or those that a person left when asked.

    Args:
        args: The step's arguments.
        ctx: The context of the call; outside of a plan nobody is asked.
        tool_name: The tool, as the person reads it.
        needed: Whether a person is asked, whatever the step says.

    Raises:
        ApprovalNeeded: A person has to be asked, and was not yet.
        AttemptError: What the person left is no mapping of arguments, as a `user_error`.
    """
    if ctx.call is None or not (needed or _step_asks(ctx, tool_name)):
        return args
    answer = ctx.call.answers.get(ONLY_CALL)
    if answer is None:
        raise ApprovalNeeded(ONLY_CALL, tool_name, args)
    if not answer.approved:
        raise AttemptError(
            f"step '{ctx.step_id}': the call of '{tool_name}' was not allowed",
            error_type=ErrorType.USER_ERROR,
            hint="Rerun the step to be asked again.",
        )
    if answer.arguments is None:
        return args
    if not isinstance(answer.arguments, Mapping):
        raise AttemptError(
            f"step '{ctx.step_id}': the arguments that were approved are no mapping",
            error_type=ErrorType.USER_ERROR,
            hint="Approve it with arguments as name: value.",
        )
    return dict(answer.arguments)


def with_step(error: BaseException, ctx: CallContext) -> BaseException:
    """Return the error, with the step named where its text is about what the step wrote."""
    if not ctx.step_id or not isinstance(error, AttemptError) or error.exception not in _OF_THE_CALL:
        return error
    return AttemptError(
        f"step '{ctx.step_id}': {error}",
        error_type=error.error_type,
        hint=error.hint,
        exception=error.exception,
        details=error.details,
    )


def _step_asks(ctx: CallContext, tool_name: str) -> bool:
    """Return whether the step's own `require_approval` wants a person to be asked."""
    assert ctx.call is not None
    wanted: Any = ctx.call.step.require_approval
    if isinstance(wanted, str):
        return wanted == "always"
    if isinstance(wanted, list | tuple):
        return bool({tool_name, tool_name.partition(".")[2], ctx.call.step.tool} & set(wanted))
    return bool(wanted)

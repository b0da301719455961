"""One attempt, carried out; every way it can end comes back as a value."""

from __future__ import annotations

import asyncio

from stepchain_tui.engine.budget_question import Reached
from stepchain_tui.engine.work import Ending, Result
from stepchain_tui.executors.types import ApprovalNeeded, SkipStep, StepCall, StepExecutor
from stepchain_tui.resilience.classify import classify
from stepchain_tui.run.failures import AttemptError, Failure
from stepchain_tui.run.status import ErrorType

_STOPPED = Result(Ending.STOPPED)


async def carry_out(executor: StepExecutor, call: StepCall, kind: str) -> Result:
    """Return how the attempt ended. Only a bug of ours raises from here.

    A cancellation of this task comes back as `STOPPED`: the executor has ended the work by then.
    """
    try:
        outcome = await executor.execute(call)
    except asyncio.CancelledError:
        return _STOPPED
    except (ApprovalNeeded, Reached) as asked:
        return Result(Ending.ASKS, asks=asked)
    except SkipStep as skip:
        return Result(Ending.SKIPPED, reason=skip.reason)
    except (Exception, SystemExit, GeneratorExit) as error:  # noqa: BLE001 - the border where a body's error becomes a record
        return failed(error, kind)
    return Result(Ending.SUCCEEDED, output=outcome.output)


def failed(error: BaseException, kind: str) -> Result:
    """Return the result of an attempt that raised."""
    error_type = classify(error, kind)
    failure = Failure.of(error, error_type)
    by_deadline = error_type is ErrorType.TIMEOUT and isinstance(error, AttemptError) and "deadline" in error.details
    return Result(Ending.TIMED_OUT if by_deadline else Ending.FAILED, failure=failure)


def timed_out(call: StepCall) -> Result:
    """Return the result of an attempt that was stopped because its time was over."""
    failure = Failure(
        error_type=ErrorType.TIMEOUT,
        message=f"ran longer than its timeout of {call.timeout:g} s and was stopped",
        exception="TimeoutError",
        hint="Raise `timeout:` of the step, or make it do less.",
    )
    return Result(Ending.TIMED_OUT, failure=failure)

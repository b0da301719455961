"""Tries for calls that are made outside the engine: the same policies, with the waiting done here.

The engine waits by itself, because its waits are stored and hold no slot. Whoever calls a tool, an agent or a server
directly waits here instead; tenacity carries the tries out, `RetryPolicy` says how long each wait is.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

from stepchain_tui.core.clock import Clock, SystemClock
from stepchain_tui.resilience.classify import classify
from stepchain_tui.resilience.retry import RetryPolicy
from stepchain_tui.run.status import ErrorType

if TYPE_CHECKING:
    from tenacity import RetryCallState

T = TypeVar("T")
ShouldRetry = Callable[[Exception, int], bool]
"""Gets what a try raised and the try's number, from 1; returns whether another one makes sense."""


@dataclass(frozen=True, slots=True)
class FailedCall:
    """One try that failed, as plain data: it keeps neither the exception nor its frames alive.

    Attributes:
        number: Which try it was, from 1.
        exception: The name of the class that was raised.
        message: What it said.
        delay: Seconds until the next try, None where there was none.
    """

    number: int
    exception: str
    message: str
    delay: float | None = None


async def call_with_retries(
    func: Callable[[], Awaitable[T]],
    policy: RetryPolicy,
    *,
    should_retry: ShouldRetry | None = None,
    kind: str = "tool",
    clock: Clock | None = None,
    on_retry: Callable[[FailedCall], None] | None = None,
) -> T:
    """Return what `func` returns, calling it again as long as the policy allows it.

    A wait that the other side asked for (`retry_after` on the exception, in seconds) is obeyed up to the policy's
    `max_delay`: somebody is waiting. Cancellation is never retried, and ends a wait at once.

    Args:
        func: Makes one call.
        policy: How many calls there are in all, and how long the waits are.
        should_retry: Decides about an exception; without it all are tried again but the caller's own mistakes.
        kind: What is called, for the class of an exception that says nothing by itself (see `classify`).
        clock: Waits; the machine's clock where it is left out.
        on_retry: Told each failed try that another one follows, before the wait.

    Raises:
        Exception: The last one that `func` raised, itself, with all failed tries as its `attempts`, a tuple of
            `FailedCall`.
    """
    from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt

    ticking = clock or SystemClock()
    failed: list[FailedCall] = []

    async def attempt() -> T:
        try:
            return await func()
        except Exception as error:
            failed.append(FailedCall(len(failed) + 1, type(error).__name__, str(error)))
            raise

    def again(error: BaseException) -> bool:
        if not isinstance(error, Exception):
            return False
        if should_retry is not None:
            return should_retry(error, len(failed))
        return classify(error, kind) is not ErrorType.USER_ERROR

    def announce(state: RetryCallState) -> None:
        assert state.next_action is not None
        failed[-1] = replace(failed[-1], delay=state.next_action.sleep)
        if on_retry is not None:
            on_retry(failed[-1])

    retrying = AsyncRetrying(
        sleep=lambda seconds: ticking.sleep_until(ticking.now() + timedelta(seconds=seconds)),
        stop=stop_after_attempt(policy.max_attempts),
        wait=lambda state: _wait(policy, state, kind),
        retry=retry_if_exception(again),
        before_sleep=announce,
        reraise=True,
    )
    try:
        result: T = await retrying(attempt)
    except Exception as error:
        with contextlib.suppress(AttributeError, TypeError):  # a class with slots has no room for it
            error.attempts = tuple(failed)  # type: ignore[attr-defined]
        raise
    return result


def attempts_of(error: BaseException) -> tuple[FailedCall, ...]:
    """Return the failed tries that led to `error`, as `call_with_retries` keeps them; empty where it made none."""
    found = getattr(error, "attempts", ())
    return found if isinstance(found, tuple) else ()


def backoff_delay(policy: RetryPolicy, number: int) -> float:
    """Return the seconds that a policy waits after failed try `number`, from 1, where the error says nothing of it."""
    from tenacity import RetryCallState

    state = RetryCallState(None, None, (), {})  # type: ignore[arg-type]
    state.attempt_number = max(1, number)
    return float(policy.wait_for(ErrorType.UNKNOWN)(state))


def _wait(policy: RetryPolicy, state: RetryCallState, kind: str) -> float:
    error = state.outcome.exception() if state.outcome is not None else None
    asked = getattr(error, "retry_after", None)
    if isinstance(asked, int | float) and not isinstance(asked, bool) and math.isfinite(asked) and asked >= 0:
        return min(float(asked), policy.max_delay)
    error_type = ErrorType.UNKNOWN if error is None else classify(error, kind)
    return float(policy.wait_for(error_type)(state))

"""Calls outside the engine: how often, how long between, what is raised in the end; on a clock that is set by hand."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest

from stepchain_tui.agents import AgentRegistry, HTTPError, RetryConfig, StepExecutor, ValidationError
from stepchain_tui.core.clock import FakeClock
from stepchain_tui.resilience.calls import FailedCall, attempts_of, call_with_retries
from stepchain_tui.resilience.retry import RetryPolicy
from stepchain_tui.run import AttemptError, ErrorType

T = TypeVar("T")


class Calls:
    """A function that fails with these errors, one after the other, and counts its calls."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.made = 0

    async def __call__(self) -> str:
        self.made += 1
        if self.errors:
            raise self.errors.pop(0)
        return "done"


async def on(clock: FakeClock, work: Coroutine[Any, Any, T]) -> tuple[T | BaseException, list[float]]:
    """Return what came of `work` and the seconds it waited."""
    task = asyncio.ensure_future(work)
    waits: list[float] = []
    while not task.done():
        await asyncio.sleep(0)
        if (moment := clock.next_wake) is not None:
            waits.append((moment - clock.now()).total_seconds())
            clock.advance(waits[-1])
    (result,) = await asyncio.gather(task, return_exceptions=True)
    return result, waits


def executor(clock: FakeClock | None = None, **config: Any) -> StepExecutor:
    return StepExecutor(AgentRegistry(), RetryConfig(**config), clock=clock or FakeClock())


# --- the document's configuration


def test_without_a_configuration_the_documents_defaults_hold() -> None:
    config = StepExecutor(AgentRegistry()).retry_config
    assert config == RetryConfig()
    assert config == RetryConfig(3, 1.0, 60.0, 2.0, True, (TimeoutError, ConnectionError, HTTPError))


async def test_a_function_that_always_fails_is_called_three_times_and_its_last_error_is_raised() -> None:
    clock, errors = FakeClock(), [ConnectionError(f"try {number}") for number in (1, 2, 3)]
    calls = Calls(*errors)
    result, waits = await on(clock, executor(clock, jitter=False)._execute_with_retry(calls))
    assert result is errors[2]
    assert (calls.made, waits) == (3, [1.0, 2.0])
    assert attempts_of(errors[2]) == (
        FailedCall(1, "ConnectionError", "try 1", 1.0),
        FailedCall(2, "ConnectionError", "try 2", 2.0),
        FailedCall(3, "ConnectionError", "try 3", None),
    )


def test_waits_double_from_the_first_delay_up_to_the_longest() -> None:
    quiet = executor(jitter=False)
    assert [quiet._calculate_backoff_delay(attempt) for attempt in range(1, 11)] == [1, 2, 4, 8, 16, 32, 60, 60, 60, 60]
    steep = executor(jitter=False, initial_delay=0.5, max_delay=9.0, exponential_base=3.0)
    assert [steep._calculate_backoff_delay(attempt) for attempt in range(1, 5)] == [0.5, 1.5, 4.5, 9.0]


def test_jitter_spreads_waits_within_one_first_delay_and_never_over_the_longest() -> None:
    random.seed(1)
    second = [executor()._calculate_backoff_delay(2) for _ in range(1000)]
    assert all(2.0 <= delay <= 3.0 for delay in second)
    assert len(set(second)) > 900
    assert all(executor()._calculate_backoff_delay(50) == 60.0 for _ in range(20))
    random.seed(1)
    assert executor()._calculate_backoff_delay(2) == second[0]


class Refused(ConnectionError):
    pass


@pytest.mark.parametrize(
    ("error", "made"),
    [
        (TimeoutError("x"), 3),
        (ConnectionError("x"), 3),
        (ConnectionResetError("x"), 3),
        (Refused("x"), 3),
        (HTTPError("x", status=503), 3),
        (ValueError("x"), 1),
        (KeyError("x"), 1),
        (TypeError("x"), 1),
        (AttributeError("x"), 1),
        (SyntaxError("x"), 1),
        (ValidationError("x"), 1),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
async def test_only_what_the_configuration_names_is_tried_again(error: Exception, made: int) -> None:
    clock, calls = FakeClock(), Calls(error, error, error)
    result, _ = await on(clock, executor(clock)._execute_with_retry(calls))
    assert (result, calls.made) == (error, made)
    assert len(attempts_of(error)) == made
    assert executor()._should_retry(error, 1) is (made > 1)


@pytest.mark.parametrize("kind", [TypeError, AttributeError, SyntaxError, ValidationError])
def test_mistakes_of_an_author_are_not_tried_again_even_where_they_are_named(kind: type[Exception]) -> None:
    assert not executor(retryable_exceptions=(Exception,))._should_retry(kind("x"), 1)


async def test_each_failed_try_that_is_followed_by_another_is_told_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = FakeClock()
    await on(clock, executor(clock)._execute_with_retry(Calls(ConnectionError("refused"), TimeoutError("late"))))
    records = [record for record in caplog.records if record.name == "stepchain_tui.agents"]
    assert [record.levelname for record in records] == ["WARNING", "WARNING"]
    assert re.fullmatch(r"Attempt 1 failed: refused\. Retrying in [12]\.\d\ds\.\.\.", records[0].getMessage())
    assert re.fullmatch(r"Attempt 2 failed: late\. Retrying in [23]\.\d\ds\.\.\.", records[1].getMessage())


async def test_a_secret_of_the_environment_does_not_reach_the_log(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVICE_TOKEN", "hunter2hunter2")
    clock = FakeClock()
    await on(clock, executor(clock)._execute_with_retry(Calls(ConnectionError("refused for hunter2hunter2"))))
    try:
        raise RuntimeError("hunter2hunter2")
    except RuntimeError as error:
        await executor(clock)._handle_execution_error(error, "a", {})
    assert "[secret SERVICE_TOKEN]" in caplog.text
    assert "Traceback" in caplog.text
    assert "RuntimeError: hunter2" not in caplog.text


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"max_attempts": 0}, "max_attempts is 0"),
        ({"max_attempts": 2.5}, "max_attempts is 2.5"),
        ({"initial_delay": -1}, "initial_delay is -1"),
        ({"max_delay": float("nan")}, "max_delay is nan"),
        ({"exponential_base": 0.5}, "exponential_base is 0.5"),
        ({"retryable_exceptions": ("TimeoutError",)}, "retryable_exceptions is 'TimeoutError'"),
    ],
)
def test_a_configuration_that_cannot_be_meant_names_its_field(keys: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        RetryConfig(**keys)


# --- the helper that all calls outside the engine share


async def test_without_a_rule_of_its_own_a_call_follows_the_classes_of_the_house() -> None:
    clock, policy = FakeClock(), RetryPolicy(max_attempts=4, jitter=False)
    slow = AttemptError("slow down", error_type=ErrorType.RATE_LIMIT)
    calls = Calls(ConnectionError("gone"), slow, RuntimeError("of a tool"))
    result, waits = await on(clock, call_with_retries(calls, policy, clock=clock))
    assert (result, waits) == ("done", [1.0, 2.0])
    assert calls.made == 4
    mistaken = Calls(TypeError("x"))
    failed, waits = await on(clock, call_with_retries(mistaken, policy, clock=clock))
    assert isinstance(failed, TypeError)
    assert (mistaken.made, waits) == (1, [])


@pytest.mark.parametrize(("asked", "waited"), [(7.5, 7.5), (3600.0, 60.0), (-1, 1.0), (float("nan"), 1.0), ("5", 1.0)])
async def test_a_wait_that_the_other_side_asks_for_is_obeyed_up_to_the_longest(asked: Any, waited: float) -> None:
    clock, error = FakeClock(), HTTPError(status=429)
    error.retry_after = asked
    policy = RetryPolicy(max_attempts=2, jitter=False)
    assert await on(clock, call_with_retries(Calls(error), policy, clock=clock)) == ("done", [waited])


async def test_cancelling_ends_the_wait_at_once() -> None:
    clock, calls = FakeClock(), Calls(ConnectionError("x"))
    task = asyncio.ensure_future(call_with_retries(calls, RetryPolicy(max_attempts=3), clock=clock))
    while clock.next_wake is None:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert calls.made == 1


async def test_an_error_without_room_for_its_tries_is_raised_all_the_same() -> None:
    class Narrow(Exception):
        def __setattr__(self, name: str, value: object) -> None:
            if name == "attempts":
                raise AttributeError(name)
            super().__setattr__(name, value)

    error = Narrow()
    with pytest.raises(Narrow) as raised:
        await call_with_retries(Calls(error), RetryPolicy(max_attempts=1))
    assert raised.value is error
    assert attempts_of(error) == ()


async def test_whoever_asks_is_told_each_failed_try_before_the_wait() -> None:
    clock, told = FakeClock(), list[FailedCall]()
    policy = RetryPolicy(max_attempts=3, jitter=False, delays_written=True)
    calls = Calls(OSError("a"), OSError("b"))
    await on(clock, call_with_retries(calls, policy, clock=clock, on_retry=told.append))
    assert told == [FailedCall(1, "OSError", "a", 1.0), FailedCall(2, "OSError", "b", 2.0)]

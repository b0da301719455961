"""Retry policies: how many calls there are for each class of error, and how long the waits between them are."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from stepchain_tui.plan import RetrySettings, Step
from stepchain_tui.resilience.classify import classify, classify_status
from stepchain_tui.resilience.retry import RetryPolicy
from stepchain_tui.resilience.retry_after import retry_after
from stepchain_tui.run import AttemptError, ErrorType, Failure

RATE, SERVER, TOOL, USER, TIMEOUT, UNKNOWN = ErrorType
QUIET = RetryPolicy(max_attempts=5, jitter=False)


def failure(error_type: ErrorType, retry_after: float | None = None) -> Failure:
    return Failure(error_type=error_type, message="m", retry_after=retry_after)


def delays(policy: RetryPolicy, error_type: ErrorType) -> list[float]:
    found = []
    for tries in range(1, 100):
        decision = policy.decide(tries, failure(error_type))
        if decision is None:
            break
        found.append(decision.delay)
    return found


def step(**keys: Any) -> Step:
    action = {} if {"prompt", "approve", "python", "function"} & set(keys) else {"shell": "true"}
    return Step.model_validate({"id": "a", **action, **keys})


@pytest.mark.parametrize(
    ("error_type", "expected"),
    [
        (RATE, [1, 2, 4, 8]),
        (UNKNOWN, [1, 2, 4, 8]),
        (SERVER, [1, 1, 1, 1]),
        (TIMEOUT, [1, 1, 1, 1]),
        (TOOL, [0, 0, 0, 0]),
        (USER, []),
    ],
)
def test_each_class_of_error_has_its_own_delays(error_type: ErrorType, expected: list[float]) -> None:
    assert delays(QUIET, error_type) == expected


@pytest.mark.parametrize("error_type", [RATE, UNKNOWN, SERVER, TIMEOUT, TOOL])
def test_written_delays_hold_for_every_class(error_type: ErrorType) -> None:
    written = step(retry={"max_attempts": 6, "initial_delay": 0.5, "max_delay": 9, "exponential_base": 3})
    quiet = RetryPolicy.of(written, RetrySettings(jitter=False))
    assert delays(quiet, error_type) == [0.5, 1.5, 4.5, 9, 9]


@pytest.mark.parametrize("keys", [{"initial_delay": 0.25}, {"max_delay": 7}])
def test_one_written_delay_is_enough_to_hold_for_every_class(keys: dict[str, float]) -> None:
    policy = RetryPolicy.of(step(retry={"max_attempts": 2, "jitter": False, **keys}))
    assert delays(policy, TOOL) == [keys.get("initial_delay", 1.0)]


def test_a_users_error_is_not_tried_again_even_with_written_delays() -> None:
    assert delays(RetryPolicy.of(step(retry={"max_attempts": 9, "initial_delay": 1})), USER) == []


def test_jitter_adds_up_to_the_initial_delay() -> None:
    policy = RetryPolicy(max_attempts=4)
    for _ in range(50):
        assert all(base <= delay <= base + 1 for base, delay in zip([1, 2, 4], delays(policy, RATE), strict=True))
    assert len({tuple(delays(policy, RATE)) for _ in range(5)}) > 1


def test_no_wait_of_ours_is_longer_than_max_delay() -> None:
    assert max(delays(RetryPolicy(max_attempts=30), RATE)) <= 60


@pytest.mark.parametrize("error_type", [RATE, SERVER, TOOL])
def test_what_the_other_side_asks_for_is_obeyed_also_beyond_max_delay(error_type: ErrorType) -> None:
    decision = QUIET.decide(1, failure(error_type, retry_after=600.0))
    assert decision is not None
    assert decision.delay == 600.0
    assert decision.reason.endswith(", Retry-After")


def test_the_reason_names_the_class_of_the_error() -> None:
    decision = QUIET.decide(1, failure(RATE))
    assert decision is not None
    assert decision.reason == "rate limit"


@pytest.mark.parametrize("most", [1, 2, 3, 10])
def test_max_attempts_is_the_number_of_calls(most: int) -> None:
    assert len(delays(RetryPolicy(max_attempts=most), TOOL)) == most - 1


@pytest.mark.parametrize(
    ("keys", "calls"),
    [
        ({"prompt": "p"}, 3),
        ({"shell": "true"}, 1),
        ({"python": "1"}, 1),
        ({"function": "m:f"}, 1),
        ({"approve": "?"}, 1),
    ],
)
def test_prompts_are_tried_three_times_and_what_may_have_effects_once(keys: dict[str, str], calls: int) -> None:
    assert RetryPolicy.of(step(**keys)).max_attempts == calls


def test_a_step_wins_over_the_plan_and_the_plan_over_the_settings() -> None:
    plan, user = RetrySettings(max_attempts=4, max_delay=10), RetrySettings(max_attempts=8, exponential_base=5)
    policy = RetryPolicy.of(step(retry={"initial_delay": 2}), plan, user)
    assert (policy.max_attempts, policy.initial_delay, policy.max_delay, policy.exponential_base) == (4, 2, 10, 5)
    assert RetryPolicy.of(step(retry={"max_attempts": 2}), plan, user).max_attempts == 2
    assert RetryPolicy.of(step(), None, user).max_attempts == 8


@pytest.mark.parametrize(
    ("status", "error_type"),
    [(429, RATE), (500, SERVER), (503, SERVER), (529, SERVER), (408, TIMEOUT), (504, SERVER), (404, USER), (200, None)],
)
def test_a_status_of_http_has_its_class(status: int, error_type: ErrorType | None) -> None:
    assert classify_status(status) is error_type


class RateLimitError(Exception):
    """Named as the SDK's."""


class GatewayError(Exception):
    status_code = 502


class Late(TimeoutError):
    pass


@pytest.mark.parametrize(
    ("error", "kind", "error_type"),
    [
        (AttemptError("m", error_type=RATE), "shell", RATE),
        (RateLimitError(), "prompt", RATE),
        (GatewayError(), "prompt", SERVER),
        (ConnectionResetError(), "function", SERVER),
        (Late(), "function", TIMEOUT),
        (RuntimeError(), "function", TOOL),
        (RuntimeError(), "prompt", UNKNOWN),
        (TypeError(), "function", USER),
        (AttributeError(), "function", USER),
        (SyntaxError(), "python", USER),
        (FileNotFoundError(), "function", USER),
        (ModuleNotFoundError(), "function", USER),
        (ValueError(), "function", TOOL),
    ],
)
def test_the_type_of_an_exception_decides_first_then_the_kind_of_step(
    error: BaseException, kind: str, error_type: ErrorType
) -> None:
    assert classify(error, kind) is error_type


NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": "Fri, 02 Jan 2026 03:04:35 GMT"}, 30.0),
        ({"retry-after": "Fri, 02 Jan 2026 03:00:00 GMT"}, 0.0),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "1e300"}, 365 * 86_400.0),
        ({"retry-after": "Fri, 31 Dec 9999 23:59:59 GMT"}, 365 * 86_400.0),
    ],
)
def test_retry_after_is_read_and_no_wish_is_without_end(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, NOW) == seconds

"""Failures as plain records."""

from __future__ import annotations

import pickle

import pytest

from stepchain_tui.core.errors import StoreError
from stepchain_tui.run import AttemptError, ErrorType, Failure
from stepchain_tui.run.failures import MESSAGE_LIMIT, TRACEBACK_LIMIT


def raised(error: Exception) -> Exception:
    try:
        raise error
    except Exception as caught:  # noqa: BLE001 - it is what the test asks for
        return caught


def test_a_record_has_the_message_the_class_and_the_traceback_of_any_exception() -> None:
    failure = Failure.of(raised(ZeroDivisionError("by zero")), ErrorType.TOOL_ERROR)
    assert (failure.error_type, failure.message, failure.exception) == ("tool_error", "by zero", "ZeroDivisionError")
    assert "in raised" in failure.traceback
    assert failure.retry_after is None


def test_an_exception_without_words_is_named_by_its_class() -> None:
    assert Failure.of(KeyError(), ErrorType.UNKNOWN).message == "KeyError"


def test_an_attempt_error_gives_its_hint_details_wait_and_remote_traceback() -> None:
    error = AttemptError(
        "slow down",
        error_type=ErrorType.RATE_LIMIT,
        hint="Wait.",
        retry_after=3.0,
        remote_traceback="Traceback of a worker",
        exception="RateLimitError",
        details={"status": 429},
    )
    failure = Failure.of(error, ErrorType.RATE_LIMIT)
    assert (failure.hint, failure.retry_after, failure.details) == ("Wait.", 3.0, {"status": 429})
    assert (failure.traceback, failure.exception) == ("Traceback of a worker", "RateLimitError")


def test_our_own_errors_keep_their_hint() -> None:
    assert Failure.of(StoreError("full", hint="Free some room."), ErrorType.UNKNOWN).hint == "Free some room."


def test_long_messages_lose_their_end_and_long_tracebacks_their_beginning() -> None:
    error = AttemptError("x" * 10_000, remote_traceback="begin" + "y" * 50_000 + "end")
    failure = Failure.of(error, ErrorType.UNKNOWN)
    assert len(failure.message) == MESSAGE_LIMIT + 4
    assert failure.message.endswith("x ...")
    assert failure.traceback.startswith("...\n")
    assert failure.traceback.endswith("yend")
    assert len(failure.traceback) == TRACEBACK_LIMIT + 4


@pytest.mark.parametrize("error_type", ErrorType)
def test_an_attempt_error_travels_between_processes_with_all_its_fields(error_type: ErrorType) -> None:
    error = AttemptError("m", error_type=error_type, hint="h", retry_after=1.0, exception="X", details={"a": 1})
    copy = pickle.loads(pickle.dumps(error))
    assert Failure.of(copy, copy.error_type) == Failure.of(error, error.error_type)

"""The table that decides the retry policy: rule 7 of the design, row by row."""

from __future__ import annotations

import concurrent.futures
import subprocess
from typing import Any

import pytest

from stepchain_tui.core.errors import InputError, StoreError
from stepchain_tui.resilience.classify import classify, classify_names, classify_status, names_along_mro
from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.status import ErrorType


def sdk_error(name: str, *bases: str, module: str = "openai", **attributes: Any) -> BaseException:
    """Return an error as an SDK makes it, without the SDK."""
    kind: type[BaseException] = Exception
    for base in (*reversed(bases), name):
        kind = type(base, (kind,), {"__module__": module})
    error = kind("slow down")
    for key, value in attributes.items():
        setattr(error, key, value)
    return error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ValueError("v"), ErrorType.TOOL_ERROR),
        (TypeError("t"), ErrorType.USER_ERROR),
        (AttributeError("a"), ErrorType.USER_ERROR),
        (IndentationError("i"), ErrorType.USER_ERROR),
        (ModuleNotFoundError("m"), ErrorType.USER_ERROR),
        (FileNotFoundError(2, "f"), ErrorType.USER_ERROR),
        (PermissionError(13, "p"), ErrorType.TOOL_ERROR),
        (TimeoutError("t"), ErrorType.TIMEOUT),
        (concurrent.futures.TimeoutError("t"), ErrorType.TIMEOUT),
        (subprocess.TimeoutExpired("x", 1), ErrorType.TIMEOUT),
        (BrokenPipeError("b"), ErrorType.SERVER_ERROR),
        (InputError("i", hint="h"), ErrorType.USER_ERROR),
        (StoreError("s", hint="h"), ErrorType.TOOL_ERROR),
        (AttemptError("a", error_type=ErrorType.RATE_LIMIT), ErrorType.RATE_LIMIT),
    ],
)
def test_the_exceptions_type_decides_first(error: BaseException, expected: ErrorType) -> None:
    assert classify(error, "function") is expected


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (sdk_error("RateLimitError", "APIStatusError", "APIError", "OpenAIError", status_code=429), "rate_limit"),
        (
            sdk_error("InternalServerError", "APIStatusError", "APIError", "OpenAIError", status_code=529),
            "server_error",
        ),
        (sdk_error("APITimeoutError", "APIConnectionError", "APIError", "OpenAIError"), "timeout"),
        (sdk_error("APIConnectionError", "APIError", "OpenAIError"), "server_error"),
        (sdk_error("BadRequestError", "APIStatusError", "APIError", "OpenAIError", status_code=400), "user_error"),
        (sdk_error("APIStatusError", "APIError", "OpenAIError", status_code=503), "server_error"),
        (sdk_error("APIStatusError", "APIError", "OpenAIError", status_code=418), "user_error"),
        (sdk_error("OpenAIError"), "unknown"),
        (sdk_error("NotFoundError", module="shop.stock"), "unknown"),
        (sdk_error("ClientResponseError", module="aiohttp", status=502), "server_error"),
        (sdk_error("HTTPError", module="urllib.error", code=429), "rate_limit"),
        (sdk_error("ValidationError", module="pydantic_core._pydantic_core"), "user_error"),
    ],
)
def test_errors_of_libraries_are_known_by_name_and_status(error: BaseException, expected: str) -> None:
    assert classify(error, "prompt") == expected


def test_a_status_on_the_errors_response_counts() -> None:
    response = type("Response", (), {"status_code": 500})()
    assert classify(sdk_error("Odd", module="requests", response=response), "http") is ErrorType.SERVER_ERROR


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("function", "tool_error"), ("shell", "tool_error"), ("tool", "tool_error"), ("prompt", "unknown")],
)
def test_what_nothing_else_decides_the_kind_of_step_decides(kind: str, expected: str) -> None:
    assert classify(RuntimeError("r"), kind) == expected


def test_names_alone_are_enough_for_an_exception_of_another_process() -> None:
    assert classify_names(names_along_mro(ConnectionRefusedError)) is ErrorType.SERVER_ERROR
    assert classify_names(["shop.Mine", "Exception", "BaseException", "object"]) is ErrorType.UNKNOWN
    assert classify_names([]) is ErrorType.UNKNOWN


@pytest.mark.parametrize(
    ("status", "expected"),
    [(429, "rate_limit"), (408, "timeout"), (404, "user_error"), (500, "server_error"), (529, "server_error")],
)
def test_each_failing_status_has_a_class(status: int, expected: str) -> None:
    assert classify_status(status) == expected


def test_a_status_that_is_no_failure_has_none() -> None:
    assert classify_status(204) is None

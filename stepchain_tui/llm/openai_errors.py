"""What went wrong with a model's API, as the error that the engine knows. No key ever appears in it."""

from __future__ import annotations

import traceback
from datetime import datetime
from typing import Any
from urllib.parse import urljoin

from stepchain_tui.core.errors import UsageError
from stepchain_tui.core.values import encode_json, to_json_value
from stepchain_tui.llm.choice import NO_KEY, ModelChoice
from stepchain_tui.llm.profiles import address_of, secrets_in
from stepchain_tui.resilience.retry_after import retry_after
from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.status import ErrorType

MESSAGE_LIMIT = 1_000
_SHORTEST_KEY = 4
_USER_CODES = (
    "invalid_",
    "previous_response",
    "unsupported_",
    "empty_",
    "image_",
    "failed_to_download_image",
    "unknown_parameter",
)
_USER_WORDS = ("context_length_exceeded", "model_not_found", "not_found_error", "content_policy", "policy_violation")
_KEY_WORDS = ("authentication_error", "permission_error", "invalid_api_key", "permission_denied")


def status_failure(error: Any, choice: ModelChoice, now: datetime) -> AttemptError:
    """Return the failure for an `openai.APIStatusError`: an answer with a status of 400 or more.

    Args:
        error: The error.
        choice: The model that was asked.
        now: The current moment, for a Retry-After that is a date.
    """
    status = int(error.status_code)
    if 300 <= status < 400:
        return _redirected(error, status, choice)
    said = _said(error)
    details: dict[str, Any] = {"status": status, "model": choice.name}
    for name, value in (("code", error.code), ("param", error.param), ("request_id", error.request_id)):
        if value:
            details[name] = str(value)
    if status == 429:
        quota = "quota" in f"{error.code} {error.type}"
        hint = "The account's quota is used up: look at its billing." if quota else "Lower `max_concurrent`, or wait."
        error_type = ErrorType.RATE_LIMIT
    elif status == 408:
        error_type, hint = ErrorType.TIMEOUT, "The provider gave up waiting; a later try may work."
    elif status >= 500:
        error_type, hint = ErrorType.SERVER_ERROR, "The provider has a problem; a later try may work."
    else:
        error_type, hint = ErrorType.USER_ERROR, _status_hint(status, choice)
    return build(
        f"{choice.name}: {status} {said}",
        error,
        choice,
        error_type=error_type,
        hint=hint,
        retry_after=retry_after(error.response.headers, now),
        details=details,
    )


def _redirected(error: Any, status: int, choice: ModelChoice) -> AttemptError:
    """Return the failure for an answer that sends us elsewhere: a prompt goes to nobody but whom the user named."""
    location = str(error.response.headers.get("location") or "")
    try:
        where = address_of(urljoin(choice.base_url, location)) if location else ""
    except ValueError:
        where = ""
    return build(
        f"{choice.name}: {choice.address} redirects to {where or 'no address'}, and prompts are not sent on",
        None,
        choice,
        error_type=ErrorType.USER_ERROR,
        hint=f"Where that is the right address, write it as {choice.address_from}, without `/responses`.",
        details={"status": status, "model": choice.name},
    )


def code_failure(code: Any, kind: Any, message: Any, choice: ModelChoice, error: Exception | None) -> AttemptError:
    """Return the failure for an error that came inside a stream.

    Args:
        code: The error's code, such as `rate_limit_exceeded`, a status as text, or None.
        kind: The error's type, such as `server_error`, or None.
        message: What the API says.
        choice: The model that was asked.
        error: The exception that carried it, if one did.
    """
    code = _words_of(code)
    words = f"{code} {_words_of(kind)}".strip().lower()
    error_type = _class_of(words)
    text = _words_of(message) or words or "the model's API reported an error"
    hint = {
        ErrorType.RATE_LIMIT: "Lower `max_concurrent`, or wait.",
        ErrorType.USER_ERROR: _status_hint(401, choice) if _is_key(words) else "Mend the step's prompt or options.",
    }.get(error_type, "The provider has a problem; a later try may work.")
    details = {"model": choice.name, **({"code": code} if code else {})}
    return build(f"{choice.name}: {text}", error, choice, error_type=error_type, hint=hint, details=details)


def forgot_the_answer(error: AttemptError) -> bool:
    """Return whether the provider does not know the answer that it was to go on from, or cannot go on from any."""
    said = str(error).lower()
    return error.error_type is ErrorType.USER_ERROR and (
        error.details.get("code") == "previous_response_not_found"
        or error.details.get("param") == "previous_response_id"
        or "previous_response_id" in said
        or ("previous response" in said and "not found" in said)
    )


def build(
    message: str,
    error: BaseException | None,
    choice: ModelChoice,
    *,
    error_type: ErrorType,
    hint: str,
    retry_after: float | None = None,
    details: dict[str, Any] | None = None,
) -> AttemptError:
    """Return the failure with the key, and what is secret in the address, taken out of every text.

    The traceback travels as text: to be raised `from None`.
    """
    text = "" if error is None else "".join(traceback.format_exception(error))
    message = _clean(message, choice)
    return AttemptError(
        message if len(message) <= MESSAGE_LIMIT else message[:MESSAGE_LIMIT] + " ...",
        error_type=error_type,
        hint=hint,
        retry_after=retry_after,
        remote_traceback=_clean(text, choice),
        exception="" if error is None else type(error).__name__,
        details={key: _clean(v, choice) if isinstance(v, str) else v for key, v in (details or {}).items()},
    )


def _class_of(words: str) -> ErrorType:
    first = words.split(" ")[0]
    if first.isdigit():
        status = int(first)
        if status == 429:
            return ErrorType.RATE_LIMIT
        return ErrorType.USER_ERROR if 400 <= status < 500 else ErrorType.SERVER_ERROR
    if "rate_limit" in words or "quota" in words or "too_many_requests" in words:
        return ErrorType.RATE_LIMIT
    if _is_key(words) or first.startswith(_USER_CODES) or any(word in words for word in _USER_WORDS):
        return ErrorType.USER_ERROR
    return ErrorType.USER_ERROR if "invalid_request" in words else ErrorType.SERVER_ERROR


def _is_key(words: str) -> bool:
    return any(word in words for word in _KEY_WORDS)


def _status_hint(status: int, choice: ModelChoice) -> str:
    if status in (401, 403):
        if choice.api_key == NO_KEY:
            return f"The server wants a key: set {choice.key_variable}."
        return f"Check the key in {choice.key_variable}, and that it may use the model '{choice.name}'."
    if status == 404:
        return f"Check the model's name '{choice.name}' and the address {choice.address}."
    return "Mend the step's prompt or options."


def _said(error: Any) -> str:
    """Return what the API says, without the package's own wrapping of it."""
    body = error.body
    if isinstance(body, dict):
        inner = body.get("error", body)
        message = inner.get("message") if isinstance(inner, dict) else inner
        if isinstance(message, str) and message:
            return message
    return str(getattr(error, "message", "") or error)


def _words_of(value: Any) -> str:
    """Return what a server said as text, whatever it is."""
    if isinstance(value, str) or not value:
        return value or ""
    try:
        return encode_json(to_json_value(value)).decode()
    except UsageError:
        return "an error that is nested too deep"


def _clean(text: str, choice: ModelChoice) -> str:
    """Return text that can be stored and shown: without secrets, and without halves of characters."""
    if len(choice.api_key) >= _SHORTEST_KEY and choice.api_key != NO_KEY:
        text = text.replace(choice.api_key, f"[secret {choice.key_variable}]")
    for secret in secrets_in(choice.base_url):
        text = text.replace(secret, f"[secret {choice.address_from}]")
    return str(to_json_value(text))

"""What went wrong with a request, as the error that the engine knows: one clear sentence each, no secret in it."""

from __future__ import annotations

import os
import ssl
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from stepchain_tui.executors.base import CallTimeoutError
from stepchain_tui.executors.words import one_line
from stepchain_tui.resilience.classify import classify_status
from stepchain_tui.resilience.retry_after import retry_after
from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.status import ErrorType

if TYPE_CHECKING:
    from datetime import datetime

    from stepchain_tui.core.secrets import Redactor

PIECE_LENGTH = 300
"""Characters of a failed answer's body that its message shows."""
KEPT_LENGTH = 4_000
"""Characters of a failed answer's body that its details keep."""
_REASON_LENGTH = 80
_SAID_LENGTH = 200


def connection_failure(error: BaseException, subject: str, redactor: Redactor, timeout: float | None) -> AttemptError:
    """Return the failure for what aiohttp raised: no whole answer came.

    Args:
        error: An `aiohttp.ClientError` or a `TimeoutError`.
        subject: Who asked for what, `fetch: GET http://host/path`.
        redactor: Takes secrets out.
        timeout: Seconds that the call had, for the message.
    """
    import aiohttp

    if isinstance(error, TimeoutError):
        if isinstance(error, aiohttp.ConnectionTimeoutError):
            return _failure(
                f"{subject}: the server did not take the connection in time",
                ErrorType.TIMEOUT,
                "Check the address and the port, and whether a firewall is in the way.",
            )
        if timeout is not None:
            failure = CallTimeoutError(subject, timeout)
            failure.details["deadline"] = timeout
            return failure
        return _failure(f"{subject}: no answer in time", ErrorType.TIMEOUT, "Raise the timeout.")
    problem, error_type, hint = _explain(error)
    return _failure(redactor.text(f"{subject}: {problem}"), error_type, hint)


def _explain(error: BaseException) -> tuple[str, ErrorType, str]:
    """Return what happened, its class and what to do."""
    import aiohttp

    down = "Check that the server runs; a later try may work."
    match error:
        case aiohttp.ClientConnectorDNSError():
            return (
                f"there is no host '{error.host}' (name not found)",
                ErrorType.SERVER_ERROR,
                "Check the name's spelling and the network.",
            )
        case aiohttp.ClientConnectorCertificateError():
            why = getattr(error.certificate_error, "verify_message", "") or str(error.certificate_error)
            return (
                f"the certificate of {error.host}:{error.port} is not trusted ({one_line(why, _SAID_LENGTH)})",
                ErrorType.SERVER_ERROR,
                "Mend the certificate, or name its authority in SSL_CERT_FILE.",
            )
        case aiohttp.ClientConnectorSSLError():
            return (
                f"{error.host}:{error.port} does not speak TLS with us ({_said(error.os_error)})",
                ErrorType.SERVER_ERROR,
                "Check whether the address begins with https:// or http://.",
            )
        case aiohttp.ClientProxyConnectionError():
            return (
                f"the proxy {error.host}:{error.port} cannot be reached ({_said(error.os_error)})",
                ErrorType.SERVER_ERROR,
                "Check HTTP_PROXY, HTTPS_PROXY and NO_PROXY.",
            )
        case aiohttp.ClientHttpProxyError():
            return (
                f"the proxy refused: {error.status} {one_line(error.message, _REASON_LENGTH)}",
                ErrorType.SERVER_ERROR,
                "Check HTTP_PROXY, HTTPS_PROXY and NO_PROXY.",
            )
        case aiohttp.ClientConnectorError():
            return (
                f"cannot connect to {error.host}:{error.port} ({_said(error.os_error)})",
                ErrorType.SERVER_ERROR,
                down,
            )
        case aiohttp.TooManyRedirects():
            return "too many redirects", ErrorType.USER_ERROR, "Write the address where it ends."
        case aiohttp.NonHttpUrlClientError() | aiohttp.InvalidURL():
            return (
                f"not an address that can be asked: {one_line(str(error), _SAID_LENGTH)}",
                ErrorType.USER_ERROR,
                "Write http://host/path or https://host/path.",
            )
        case aiohttp.ContentTypeError():
            return (
                f"the answer is no JSON: {one_line(error.message, _SAID_LENGTH)}",
                ErrorType.SERVER_ERROR,
                "Check what the address answers with.",
            )
        case aiohttp.ClientResponseError():
            # The parser's complaints come with status 400, which the server never sent.
            return (
                f"the answer is not HTTP as it should be ({one_line(error.message, _SAID_LENGTH)})",
                ErrorType.SERVER_ERROR,
                "Check that the address and the port belong to an HTTP server.",
            )
        case aiohttp.ClientPayloadError():
            if "content-encoding" in str(error).lower():
                return "the body is broken: it is not compressed as it says", ErrorType.SERVER_ERROR, down
            return "the connection was closed before the whole body had come", ErrorType.SERVER_ERROR, down
        case aiohttp.ServerDisconnectedError():
            return "the server closed the connection without an answer", ErrorType.SERVER_ERROR, down
        case ssl.SSLError():
            return f"TLS failed ({_said(error)})", ErrorType.SERVER_ERROR, down
        case aiohttp.ClientConnectionError():
            return f"the connection was lost ({_said(error)})", ErrorType.SERVER_ERROR, down
    return one_line(str(error), _SAID_LENGTH) or type(error).__name__, ErrorType.SERVER_ERROR, down


def status_failure(
    subject: str,
    status: int,
    reason: str | None,
    headers: Any,
    body: str,
    *,
    expected: str,
    redactor: Redactor,
    now: datetime,
) -> AttemptError:
    """Return the failure for an answer whose status is not what was wanted.

    Args:
        subject: Who asked for what.
        status: The answer's status.
        reason: The words that came with it.
        headers: The answer's headers.
        body: The beginning of its body as text.
        expected: What `expect_status` says, or an empty string.
        redactor: Takes secrets out of what the server says.
        now: The current moment, for a Retry-After that is a date.
    """
    told = one_line(reason or "", _REASON_LENGTH) or phrase_of(status)
    said = redactor.text(body)
    piece = one_line(said, PIECE_LENGTH)
    error_type = classify_status(status) or ErrorType.TOOL_ERROR
    wait = retry_after(headers, now) if status >= 300 else None
    return AttemptError(
        redactor.text(f"{subject}: {status} {told}".rstrip() + (f", expected {expected}" if expected else ""))
        + (f": {piece}" if piece else ""),
        error_type=error_type,
        hint=_status_hint(status, expected),
        retry_after=wait,
        details={"status": status, "reason": redactor.text(told), "body": said[:KEPT_LENGTH]},
    )


def phrase_of(status: int) -> str:
    """Return the usual words for a status, or an empty string."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def _status_hint(status: int, expected: str) -> str:
    if status == 429:
        return "The server wants fewer requests: lower `max_concurrent`, or wait."
    if status == 408 or status >= 500:
        return "The server has a problem; a later try may work."
    if status in (401, 403):
        return "Check the credentials in `headers`, and what they may do."
    if status == 407:
        return "Check the user and password in HTTP_PROXY or HTTPS_PROXY."
    if status in (404, 410):
        return "Check the address."
    if expected and status < 400:
        return "Add the status to `expect_status` where it is fine."
    return "Mend the request, or add the status to `expect_status` where it is fine."


def _said(error: BaseException | None) -> str:
    """Return an operating system's words for an error, without its number."""
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.lower().replace("_", " ")
    number = getattr(error, "errno", None)
    words = os.strerror(number) if isinstance(number, int) and number > 0 else str(error) or type(error).__name__
    return one_line(str(words), _SAID_LENGTH).lower()


def _failure(message: str, error_type: ErrorType, hint: str) -> AttemptError:
    return AttemptError(message, error_type=error_type, hint=hint)

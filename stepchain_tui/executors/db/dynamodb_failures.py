"""What went wrong with DynamoDB, as the error that the engine knows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from stepchain_tui.executors.words import one_line
from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.status import ErrorType

_THROTTLED = frozenset(
    {
        *(
            "ProvisionedThroughputExceededException",
            "ProvisionedThroughputExceeded",
            "ThrottlingException",
            "Throttling",
        ),
        *("ThrottlingError", "RequestLimitExceeded", "TooManyRequestsException", "LimitExceededException"),
    }
)
_LATER = frozenset(
    {
        *("InternalServerError", "InternalServerErrorException", "InternalFailure", "ServiceUnavailable"),
        *("ServiceUnavailableException", "TransactionConflict", "TransactionConflictException"),
        *("TransactionInProgressException", "ReplicatedWriteConflictException", "RequestTimeout"),
    }
)
_CREDENTIALS = frozenset(
    {
        *("ExpiredTokenException", "ExpiredToken", "UnrecognizedClientException", "InvalidClientTokenId"),
        *("InvalidSignatureException", "MissingAuthenticationTokenException", "IncompleteSignatureException"),
    }
)
_HINTS = {
    "ConditionalCheckFailedException": "The item is not as the condition says; nothing was changed.",
    "ResourceNotFoundException": "Check the table's name, the region and the endpoint.",
    "AccessDeniedException": "Whoever the credentials belong to lacks the right to do this.",
    "ValidationException": "Mend the request.",
}
_LONGEST = 600
_BUSY = "DynamoDB wants fewer requests: lower `max_concurrent`, or try again later (`retry:`)."
_UNAVAILABLE = "DynamoDB has a problem or cannot be reached; a later try may work (`retry:`)."
_CHECK_CREDENTIALS = "Check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, or the profile."
_CONFIGURED = {
    "NoCredentialsError": _CHECK_CREDENTIALS,
    "PartialCredentialsError": _CHECK_CREDENTIALS,
    "CredentialRetrievalError": _CHECK_CREDENTIALS,
    "ProfileNotFound": "Name a profile of your AWS configuration.",
    "NoRegionError": "Write region: eu-central-1, or set AWS_DEFAULT_REGION.",
    "ParamValidationError": "Mend the keys beside `dynamodb`; they are those of the service's own API.",
}


def dynamodb_failure(error: Exception, subject: str) -> AttemptError:
    """Return the failure for what botocore raised.

    Args:
        error: A `BotoCoreError`, or a `ClientError`, which carries the service's own code.
        subject: Who asked for what.
    """
    response: dict[str, Any] = getattr(error, "response", None) or {}
    told = response.get("Error") or {}
    if told:
        return _refused(told, response, subject)
    names = {kind.__name__ for kind in type(error).__mro__}
    message = f"{subject}: {one_line(str(error), _LONGEST)}"
    if known := names & _CONFIGURED.keys():
        return AttemptError(message, error_type=ErrorType.USER_ERROR, hint=_CONFIGURED[min(known)])
    if names & {"ReadTimeoutError"}:
        return AttemptError(message, error_type=ErrorType.TIMEOUT, hint=_UNAVAILABLE)
    if names & {"ConnectionError", "HTTPClientError", "EndpointConnectionError", "IncompleteReadError", "ClientError"}:
        return AttemptError(message, error_type=ErrorType.SERVER_ERROR, hint=_UNAVAILABLE)
    return AttemptError(message, error_type=ErrorType.USER_ERROR, hint="Check `region`, `endpoint_url` and `profile`.")


def unfinished(subject: str, count: int) -> AttemptError:
    """Return the failure of a batch of which DynamoDB took no more."""
    return AttemptError(
        f"{subject}: {count} of the batch were not carried out: DynamoDB is too busy",
        error_type=ErrorType.RATE_LIMIT,
        hint=_BUSY,
        details={"unprocessed": count},
    )


def unreadable(subject: str, error: Exception) -> AttemptError:
    """Return the failure for an answer that is not of DynamoDB's form.

    Args:
        subject: Who asked for what.
        error: What reading it raised.
    """
    return AttemptError(
        f"{subject}: the answer is not one of DynamoDB ({one_line(str(error), _LONGEST)})",
        error_type=ErrorType.SERVER_ERROR,
        hint="Check that `endpoint_url` is that of a DynamoDB.",
    )


def _refused(told: dict[str, Any], response: dict[str, Any], subject: str) -> AttemptError:
    code, said = str(told.get("Code", "")), one_line(str(told.get("Message", "")), _LONGEST)
    status = (response.get("ResponseMetadata") or {}).get("HTTPStatusCode")
    reasons = [str(each.get("Code", "None")) for each in response.get("CancellationReasons") or ()]
    details: dict[str, Any] = {"code": code, **({"status": status} if status else {})}
    if reasons:
        details["reasons"] = reasons
    error_type, hint = _class_of(code, status, reasons)
    return AttemptError(f"{subject}: {code}: {said}", error_type=error_type, hint=hint, details=details)


def _class_of(code: str, status: Any, reasons: Iterable[str]) -> tuple[ErrorType, str]:
    causes = {each for each in reasons if each != "None"}
    if causes:
        # A transaction that fails for several reasons is worth another try only where all of them pass.
        if causes <= _THROTTLED:
            return ErrorType.RATE_LIMIT, _BUSY
        if causes <= _THROTTLED | _LATER:
            return ErrorType.SERVER_ERROR, "Another transaction was in the way; try again (`retry:`)."
        return ErrorType.USER_ERROR, "Nothing was changed; `reasons` in the details has one entry for each item."
    if code in _THROTTLED:
        return ErrorType.RATE_LIMIT, _BUSY
    if code in _LATER or (isinstance(status, int) and status >= 500):
        return ErrorType.SERVER_ERROR, _UNAVAILABLE
    if code in _CREDENTIALS:
        return ErrorType.USER_ERROR, _CHECK_CREDENTIALS
    return ErrorType.USER_ERROR, _HINTS.get(code, "Mend the request.")

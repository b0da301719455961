"""Values on their way into and out of the sandbox."""

from __future__ import annotations

import keyword
from collections.abc import Mapping
from typing import Any

from stepchain_tui.core.errors import UsageError
from stepchain_tui.core.values import encode_json, to_json_value
from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.status import ErrorType
from stepchain_tui.run.values import OUTPUT_LIMIT


def inputs_for_sandbox(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return `inputs` as JSON values under their names.

    Raises:
        AttemptError: A name cannot be a name in Python, or a value is nested too deeply.
    """
    for name in inputs:
        if not name.isidentifier() or keyword.iskeyword(name):
            raise AttemptError(
                f"the argument '{name}' cannot be a name in the code",
                error_type=ErrorType.USER_ERROR,
                hint="Use letters, digits and _, not beginning with a digit, and no word of Python.",
            )
    try:
        return {name: to_json_value(value) for name, value in inputs.items()}
    except UsageError as error:
        raise AttemptError(str(error), error_type=ErrorType.USER_ERROR, hint=error.hint) from error


def result_from_sandbox(value: Any) -> Any:
    """Return what the code gave as a JSON value; objects of its own classes become dicts or text.

    Raises:
        AttemptError: The value is nested too deeply, has a key that is no text, or more than 10 MB as JSON.
    """
    try:
        result = to_json_value(_without_proxies(value))
    except (UsageError, RecursionError) as error:
        raise AttemptError(
            "the value of the last expression is nested deeper than 200 levels",
            error_type=ErrorType.USER_ERROR,
            hint="Give a flatter value.",
        ) from error
    if type(result) in (str, list, dict):
        size = len(encode_json(result))
        if size > OUTPUT_LIMIT:
            raise too_big(size)
    return result


def too_big(size: int) -> AttemptError:
    """Return the failure of code whose value has `size` bytes as JSON, or more."""
    return AttemptError(
        f"the value of the last expression has {size / 1024 / 1024:.1f} MB or more; "
        f"{OUTPUT_LIMIT / 1024 / 1024:g} MB are allowed",
        error_type=ErrorType.USER_ERROR,
        hint="Give a smaller value, such as a summary or a part.",
        exception="ResultLimit",
        details={"resource_limit": "result"},
    )


def _without_proxies(value: Any) -> Any:
    kind = type(value)
    if kind in (str, int, float, bool, type(None)):
        return value
    if kind is dict:
        return {key: _without_proxies(item) for key, item in value.items()}
    if kind in (list, tuple):
        return [_without_proxies(item) for item in value]
    if kind.__name__ == "MontyClassProxy":
        attributes = {str(key): _without_proxies(item) for key, item in value.attributes.items()}
        if value.is_dataclass:
            return attributes
        return {"text": f"{value.name}({', '.join(f'{k}={v!r}' for k, v in attributes.items())})", "type": value.name}
    if kind.__name__ in ("MontyStdTypeProxy", "MontyClassTypeProxy"):
        return {"text": value.name, "type": getattr(value, "kind", "type")}
    return value

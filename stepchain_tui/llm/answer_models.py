"""Answers that are written as Python: pydantic models, dataclasses, TypedDicts, and what else pydantic knows."""

from __future__ import annotations

from typing import Any

from pydantic import PydanticUserError, TypeAdapter, ValidationError

from stepchain_tui.core.errors import UsageError
from stepchain_tui.core.values import to_json_value
from stepchain_tui.llm.differences import (
    MOST_DIFFERENCES,
    AnswerMismatch,
    Difference,
    difference,
    difference_of,
    path_of,
    remark,
    shown,
)
from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.status import ErrorType
from stepchain_tui.tools.json_schemas import JsonSchema


class ModelForm:
    """A form that is a Python type.

    The type decides, by its own rules: what it takes and changes (`"3"` for a number, a default) is taken and changed.

    Args:
        model: The type.
        name: What it is called, for messages.

    Raises:
        UsageError: It is no such type.
    """

    def __init__(self, model: Any, name: str) -> None:
        hint = "Name a pydantic model, a dataclass or a TypedDict."
        if not isinstance(model, type) and not hasattr(model, "__origin__"):
            raise UsageError(f"'{name}' is a {type(model).__name__} and no model", hint=hint)
        try:
            self._adapter: TypeAdapter[Any] = TypeAdapter(model)
            self.schema = self._adapter.json_schema()
        except PydanticUserError as error:  # also where a field has a type that no JSON has
            raise UsageError(f"'{name}' is no model: {error.message.splitlines()[0][:200]}", hint=hint) from error
        self._name = name
        self._plain = JsonSchema(self.schema)

    def check(self, text: str, value: Any) -> Any:
        """Return the value as the type makes it, as JSON.

        Raises:
            AnswerMismatch: The type does not take it.
            AttemptError: A validator of the type raised something else than a validator may.
        """
        try:
            made = self._adapter.validate_json(text)
            return to_json_value(self._adapter.dump_python(made, mode="json", by_alias=True, warnings=False))
        except ValidationError as error:
            raise self._mismatch(value, error) from None  # pydantic's text shows values, which may be secret
        except (Exception, SystemExit, KeyboardInterrupt) as error:  # whatever a validator of the user raises
            raise AttemptError(
                f"{self._name} raised {type(error).__name__}: {error}",
                error_type=ErrorType.USER_ERROR,
                hint=f"Mend {self._name}: a validator raises ValueError for what it does not take.",
                exception=type(error).__name__,
            ) from error

    def _mismatch(self, value: Any, error: ValidationError) -> AnswerMismatch:
        """Return what is wrong: in the words of the schema where it says so, else in those of the type's validators."""
        faults = self._plain.faults(value, MOST_DIFFERENCES + 1)
        found = [difference_of(fault) for fault in faults] or _of_validators(error)
        return AnswerMismatch(found[:MOST_DIFFERENCES], more=len(found) > MOST_DIFFERENCES)


def _of_validators(error: ValidationError) -> list[Difference]:
    found = []
    for each in error.errors(include_url=False, include_context=False):
        path, got = path_of(each["loc"]), shown(each["input"])
        if each["type"] in ("value_error", "assertion_error"):
            found.append(remark(path, each["msg"].partition(", ")[2] or each["msg"], got))
        else:
            found.append(difference(path, each["msg"].removeprefix("Input should be "), got))
    return found

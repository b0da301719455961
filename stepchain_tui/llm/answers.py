"""What a model's answer has to be: `expects:` of prompts and agents, as a schema for the API and as a check of ours.

An endpoint may promise a strict format and not hold it, or know none at all: so every answer is checked here, whatever
was asked for. What does not fit is told in a few lines that both a person and the model can act on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from stepchain_tui.core.errors import UsageError
from stepchain_tui.core.values import decode_json, encode_json, to_json_value
from stepchain_tui.llm.answer_schemas import VALUE, strict_form, without_nulls
from stepchain_tui.llm.differences import (
    MOST_DIFFERENCES,
    AnswerMismatch,
    difference_of,
    not_json,
    shown_text,
    too_long,
)
from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.status import ErrorType
from stepchain_tui.tools.functions import shared_loader
from stepchain_tui.tools.json_schemas import JsonSchema, JsonSchemaError, hard_patterns
from stepchain_tui.tools.strict_schema import NotStrictError

MOST_CHARACTERS = 2_000_000
"""Characters of an answer that is read."""
_KEPT = 64
_NAME = re.compile(r"[^a-zA-Z0-9_-]+")
_FENCE = "```"


class _Form(Protocol):
    """What a value is checked by."""

    schema: dict[str, Any]

    def check(self, text: str, value: Any) -> Any:
        """Return the value in its JSON form.

        Raises:
            AnswerMismatch: It does not fit; the paths begin at the value.
        """


@dataclass(frozen=True, slots=True)
class ExpectedAnswer:
    """The form that a model's answer must have.

    Attributes:
        name: What it is called; letters, digits, `_` and `-`, 64 at most.
        schema: What the API is given: the strict form where there is one, the schema as it is written elsewhere.
        strict: Whether it is the strict form.
    """

    name: str
    schema: dict[str, Any]
    strict: bool
    _form: _Form = field(repr=False)
    _wrapped: bool = False

    @classmethod
    def of(cls, expects: Mapping[str, Any] | str, folder: Path | str, step_id: str = "") -> ExpectedAnswer:
        """Return what `expects:` says. It may import, which takes its time: call it on a thread.

        Args:
            expects: A JSON schema, or where a pydantic model, a dataclass or a TypedDict is written:
                `./file.py:Model`, `package.module:Model`.
            folder: What `./` is relative to.
            step_id: Named in the errors.

        Raises:
            AttemptError: It is none of these, cannot be imported, refers to another document, or has a pattern that
                could run for ever; as a `user_error`.
        """
        before = f"step '{step_id}': expects" if step_id else "expects"
        try:
            if isinstance(expects, str):
                return _of_model(expects, str(folder))
            return _of_schema(encode_json(expects))
        except (UsageError, AttemptError) as error:
            details = error.details if isinstance(error, AttemptError) else {}
            remote = error.remote_traceback if isinstance(error, AttemptError) else ""
            raise AttemptError(
                f"{before}: {error}",
                error_type=ErrorType.USER_ERROR,
                hint=error.hint,
                exception=type(error).__name__,
                details=details,
                remote_traceback=remote,
            ) from error

    @property
    def format(self) -> dict[str, Any]:
        """The `text.format` of the Responses API."""
        return {"type": "json_schema", "name": self.name, "schema": self.schema, "strict": self.strict}

    def check(self, text: str) -> Any:
        """Return the value in an answer, as JSON. It may take some seconds: call it on a thread.

        JSON in a code fence is taken out of it, see `note`.

        Raises:
            AnswerMismatch: It does not fit.
            AttemptError: It cannot be checked, as a `user_error`.
        """
        if len(text) > MOST_CHARACTERS:
            raise AnswerMismatch([too_long(len(text), MOST_CHARACTERS)], text=text)
        try:
            value, inner = _parsed(text)
            to_json_value(value)  # refuses what is nested too deep to be kept
        except (ValueError, RecursionError) as error:
            raise AnswerMismatch([not_json(text, error)], text=text) from None
        meant = self._meant(value)
        return self._checked(inner if meant is value else encode_json(meant).decode(), meant)

    def check_value(self, value: Any) -> Any:
        """Return a value that is no model's answer, such as what an agent in Python gave, as `check` does.

        Args:
            value: A JSON value.

        Raises:
            AnswerMismatch: It does not fit.
            AttemptError: It cannot be checked, as a `user_error`.
        """
        return self._checked(encode_json(value).decode(), value)

    def _checked(self, text: str, value: Any) -> Any:
        try:
            return self._form.check(text, value)
        except JsonSchemaError as error:
            raise AttemptError(
                f"the answer cannot be held against `expects`: {error}",
                error_type=ErrorType.USER_ERROR,
                hint=error.hint,
                exception="JsonSchemaError",
            ) from error
        except AnswerMismatch as error:
            error.details["text"] = shown_text(text)
            raise

    def note(self, text: str) -> str:
        """Return what is odd about an answer that fits, empty where nothing is."""
        try:
            decode_json(text)
        except (ValueError, RecursionError):
            return "the answer's JSON came in a code fence; it was taken out" if _fenced(text) is not None else ""
        return ""

    def _meant(self, value: Any) -> Any:
        """Return what a strict answer stands for; the value itself where that is the same."""
        if not self.strict:
            return value
        found = value[VALUE] if self._wrapped and isinstance(value, dict) and value.keys() == {VALUE} else value
        pruned = without_nulls(found, self._form.schema)
        return value if pruned == value else pruned


@lru_cache(maxsize=_KEPT)
def _of_schema(written: bytes) -> ExpectedAnswer:
    schema = decode_json(written)
    if not isinstance(schema, dict):
        raise UsageError("it is neither a schema nor where a model is written", hint="Write a JSON schema.")
    form = _SchemaForm(schema)
    return _made(str(schema.get("title") or "answer"), form)


def _of_model(reference: str, folder: str) -> ExpectedAnswer:
    model = shared_loader().load(reference, folder).function
    name = reference.rpartition(":")[2].rpartition(".")[2]
    try:
        return _kept_model(model, name)
    except TypeError:  # a form that is no key, such as a list of Annotated
        return _made(name, _model_form(model, name))


@lru_cache(maxsize=_KEPT)
def _kept_model(model: Any, name: str) -> ExpectedAnswer:
    return _made(name, _model_form(model, name))


def _model_form(model: Any, name: str) -> _Form:
    from stepchain_tui.llm.answer_models import ModelForm

    return ModelForm(model, name)


def _made(name: str, form: _Form) -> ExpectedAnswer:
    fitting = _NAME.sub("_", name).strip("_")[:64] or "answer"
    try:
        strict, wrapped = strict_form(form.schema)
    except NotStrictError:
        return ExpectedAnswer(fitting, form.schema, strict=False, _form=form)
    return ExpectedAnswer(fitting, strict, strict=True, _form=form, _wrapped=wrapped)


def _parsed(text: str) -> tuple[Any, str]:
    """Return the JSON value of an answer and its text: the whole of it, or the only code fence in it.

    Raises:
        ValueError: There is none.
    """
    try:
        return decode_json(text), text
    except ValueError:
        fenced = _fenced(text)
        if fenced is None:
            raise
        return decode_json(fenced), fenced


def _fenced(text: str) -> str | None:
    """Return what stands in the only code fence of an answer, None where there is none or more than one."""
    lines = text.split("\n")
    fences = [number for number, line in enumerate(lines) if line.lstrip().startswith(_FENCE)]
    return "\n".join(lines[fences[0] + 1 : fences[1]]) if len(fences) == 2 else None


class _SchemaForm:
    """A form that is written as a JSON schema."""

    def __init__(self, schema: dict[str, Any]) -> None:
        self.schema = schema
        self._checked = JsonSchema(schema)
        if hard := hard_patterns(schema):
            raise UsageError(
                f"the pattern '{hard[0][:80]}' could take for ever",
                hint="Write it without look-around and without references back.",
            )

    def check(self, text: str, value: Any) -> Any:
        """Return the value; see `_Form`."""
        faults = self._checked.faults(value, MOST_DIFFERENCES + 1)
        if faults:
            found = [difference_of(fault) for fault in faults[:MOST_DIFFERENCES]]
            raise AnswerMismatch(found, more=len(faults) > MOST_DIFFERENCES)
        return value

"""Where an answer does not have the form that was asked for, in words for a person and for the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from stepchain_tui.core.errors import UsageError
from stepchain_tui.core.values import encode_json
from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.status import ErrorType
from stepchain_tui.tools.json_schemas import SchemaFault

MOST_DIFFERENCES = 8
"""Differences that are told; a model that is told of fifty mends none."""
_SHOWN_TEXT = 4_000
"""Characters of the answer that a failure keeps."""
_SHOWN = 60
_LONGEST_PATH = 200
_KINDS = {
    "string": "text",
    "number": "a number",
    "integer": "a whole number",
    "boolean": "true or false",
    "array": "a list",
    "object": "an object",
    "null": "null",
}
_MISSING = "nothing"


@dataclass(frozen=True, slots=True)
class Difference:
    """One place where an answer is not what was asked for.

    Attributes:
        path: Where, such as `$.items[2].price`; `$` is the whole answer.
        expected: What should be there, in words.
        got: What is there, in words; `nothing` where a key is missing.
        message: All three as one line.
    """

    path: str
    expected: str
    got: str
    message: str

    def to_dict(self) -> dict[str, str]:
        """Return it as a JSON object."""
        return asdict(self)


class AnswerMismatch(AttemptError, ValueError):  # noqa: N818 - the name of the thing, as the plan's author meets it
    """Signals an answer that does not fit what is expected; told to the model once, then the step's failure.

    Args:
        differences: Where it does not fit, at most `MOST_DIFFERENCES`.
        more: Whether there are more of them.
        text: The answer.
    """

    def __init__(self, differences: list[Difference], *, more: bool = False, text: str = "") -> None:
        self.differences = [each.to_dict() for each in differences]
        self.lines = [each.message for each in differences]
        self.more = more
        self._told = f"fit `expects`: {'; '.join(self.lines)}{'; and more' if more else ''}"
        super().__init__(
            f"the answer does not {self._told}",
            error_type=ErrorType.USER_ERROR,
            hint="Say in the prompt what is wanted, ask for less in `expects`, or ask a model that keeps to schemas.",
            exception="AnswerMismatch",
            details={"differences": self.differences, "text": shown_text(text)},
        )

    def repair_text(self) -> str:
        """Return the message of the user by which the model is told, once."""
        lines = "\n".join(f"- {line}" for line in self.lines)
        more = "\n- and more like these" if self.more else ""
        return (
            f"Your answer does not have the form that was asked for:\n{lines}{more}\n"
            "Answer again, whole, with JSON of that form only: no other text and no code fence."
        )

    def warning(self) -> str:
        """Return what a person reads where the second answer did fit."""
        return f"the first answer did not {self._told}; it was asked for again"

    def failure(self, step_id: str, text: str = "", *, asked_again: bool = True) -> AttemptError:
        """Return the failure of a step.

        Args:
            step_id: The step; empty outside of plans.
            text: The answer, where the error does not hold it.
            asked_again: Whether this is the second wrong answer of a model that was told.
        """
        before = f"step '{step_id}': " if step_id else ""
        after = "; it was asked for again once" if asked_again else ""
        return AttemptError(
            f"{before}{self}{after}",
            error_type=self.error_type,
            hint=self.hint,
            exception=self.exception,
            details={**self.details, "text": self.details["text"] or shown_text(text)},
        )


def difference(path: str, expected: str, got: str) -> Difference:
    """Return a difference with its line."""
    if got == _MISSING:
        return Difference(path, expected, got, f"{path} is missing: {expected} was expected")
    return Difference(path, expected, got, f"{path}: {expected} was expected, got {got}")


def remark(path: str, text: str, got: str) -> Difference:
    """Return a difference that somebody's own check tells in its words."""
    return Difference(path, text, got, f"{path}: {text}")


def difference_of(fault: SchemaFault) -> Difference:
    """Return what a schema does not let through."""
    path = path_of(fault.path)
    if fault.missing:
        return difference(path, "a value", _MISSING)
    if fault.keyword == "additionalProperties":
        known = ", ".join(map(str, fault.limit[:10])) or "none"
        return Difference(path, f"no other keys than {known}", shown(fault.value), f"{path} is no key of it: {known}")
    words = _WORDS.get(fault.keyword)
    expected = f"{fault.keyword} {_short(fault.limit)}" if words is None else words(fault.limit)
    return difference(path, expected, shown(fault.value))


def not_json(text: str, error: Exception) -> Difference:
    """Return the difference of an answer that cannot be read."""
    if not text.strip():
        return difference("$", "JSON", "an empty answer")
    too_deep = isinstance(error, RecursionError | UsageError)
    why = "it is nested too deep" if too_deep else str(error)
    return difference("$", "JSON", f"{shown(text)} ({why[:120]})")


def too_long(length: int, most: int) -> Difference:
    """Return the difference of an answer that is not read at all."""
    return difference("$", f"an answer of at most {most:,} characters", f"{length:,}")


def path_of(parts: tuple[str | int, ...]) -> str:
    """Return a place in an answer, such as `$.items[2].price`."""
    found = "$"
    for part in parts:
        if isinstance(part, int):
            found += f"[{part}]"
        elif len(part) > _SHOWN:
            found += f"[a key of {len(part):,} characters]"
        else:
            found += f".{part}" if part.isidentifier() else f"[{_short(part)}]"
    return found if len(found) <= _LONGEST_PATH else f"{found[: _LONGEST_PATH // 2]} ... {found[-_LONGEST_PATH // 2 :]}"


def shown(value: Any) -> str:
    """Return what is there: short text whole, and no part of longer text, so that a secret in it is still found."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return f"the number {_short(value)}"
    if isinstance(value, str):
        is_plain = len(value) <= _SHOWN and value.isprintable() and not {"'", "\\"} & set(value)
        return f"text '{value}'" if is_plain else f"text of {len(value):,} characters"
    if isinstance(value, Mapping):
        return f"an object with {len(value):,} {'key' if len(value) == 1 else 'keys'}"
    if isinstance(value, list | tuple):
        return f"a list of {len(value):,}"
    return type(value).__name__


def shown_text(text: str) -> str:
    """Return an answer for a failure, cut between words: a part of a secret would not be found and masked."""
    text = text.encode("utf-8", "replace").decode()  # half characters cannot be kept
    if len(text) <= _SHOWN_TEXT:
        return text
    cut = text[:_SHOWN_TEXT].rpartition(" ")[0]
    return f"{cut} ... ({len(text):,} characters in all)" if cut else f"({len(text):,} characters)"


def _kinds(limit: Any) -> str:
    kinds = [limit] if isinstance(limit, str) else list(limit)
    return " or ".join(_KINDS.get(str(kind), str(kind)) for kind in kinds)


def _choices(limit: Any) -> str:
    return f"one of {', '.join(_short(choice) for choice in limit[:10])}{', ...' if len(limit) > 10 else ''}"


def _short(value: Any) -> str:
    text = encode_json(value).decode()
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 4]} ..."


_WORDS: dict[str, Callable[[Any], str]] = {
    "type": _kinds,
    "enum": _choices,
    "const": _short,
    "minimum": lambda limit: f"a number of at least {_short(limit)}",
    "maximum": lambda limit: f"a number of at most {_short(limit)}",
    "exclusiveMinimum": lambda limit: f"a number above {_short(limit)}",
    "exclusiveMaximum": lambda limit: f"a number below {_short(limit)}",
    "multipleOf": lambda limit: f"a multiple of {_short(limit)}",
    "minLength": lambda limit: f"text of at least {limit} characters",
    "maxLength": lambda limit: f"text of at most {limit} characters",
    "pattern": lambda limit: f"text that fits {_short(limit)}",
    "minItems": lambda limit: f"a list of at least {limit}",
    "maxItems": lambda limit: f"a list of at most {limit}",
    "uniqueItems": lambda limit: "a list with nothing in it twice",
    "minProperties": lambda limit: f"an object with at least {limit} keys",
    "maxProperties": lambda limit: f"an object with at most {limit} keys",
}

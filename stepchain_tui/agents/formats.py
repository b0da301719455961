"""What a request or a response must look like, and where it does not.

One form may be written in three ways: as types (`str`, `list[int]`, a pydantic model), as a mapping of names to forms
(`{"next_action": str, "plan": list}`), and as a JSON schema.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from pydantic import ConfigDict, PydanticSchemaGenerationError, PydanticUserError, TypeAdapter
from pydantic import ValidationError as TypeMismatch

from stepchain_tui.agents.errors import ValidationError
from stepchain_tui.core.values import encode_json
from stepchain_tui.tools.json_schemas import JsonSchema, JsonSchemaError

_SCHEMA_WORDS = frozenset(
    ("$schema", "$ref", "type", "properties", "items", "required", "enum", "const", "anyOf", "oneOf", "allOf", "not")
)
_SHOWN = 60
_MISSING = "nothing"


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One place where a value does not have its form.

    Attributes:
        path: Where, such as `plan[0].title`; empty for the whole value.
        expected: What should be there.
        found: What is there; `nothing` where the key is missing.
    """

    path: str
    expected: str
    found: str

    def __str__(self) -> str:
        where = f"{self.path}: " if self.path else ""
        if self.found == _MISSING:
            return f"{where}is missing, expected {self.expected}"
        return f"{where}expected {self.expected}, got {self.found}"


@dataclass(frozen=True, slots=True)
class ValidationResult:
    """What came of a validation; true where the value has its form.

    Attributes:
        mismatches: Where it has not.
    """

    mismatches: tuple[Mismatch, ...] = ()

    @property
    def valid(self) -> bool:
        """Whether the value has its form."""
        return not self.mismatches

    @property
    def problems(self) -> list[str]:
        """One line for each mismatch."""
        return [str(each) for each in self.mismatches]

    @property
    def diff(self) -> str:
        """What was expected (`-`) beside what is there (`+`), a pair of lines for each mismatch."""
        lines: list[str] = []
        for each in self.mismatches:
            where = f"{each.path}: " if each.path else ""
            lines.append(f"- {where}{each.expected}")
            lines.append(f"+ {where}{each.found}")
        return "\n".join(lines)

    def raise_if_invalid(self, what: str = "response") -> None:
        """Raise what is wrong, if anything is.

        Raises:
            ValidationError: With one line for each mismatch as `problems`.
        """
        if self.mismatches:
            text = "\n".join(f"{what}: {problem}" for problem in self.problems)
            raise ValidationError(text, hint=f"Expected and found:\n{self.diff}", problems=self.problems)

    def __bool__(self) -> bool:
        return self.valid


class ResponseValidator:
    """Holds responses against the form that was agreed on."""

    async def validate(self, result: Any, expected_format: Any) -> ValidationResult:
        """Return where `result` does not have its form; keys beyond it are no mistake.

        Args:
            result: What an agent gave.
            expected_format: See the module; `{"next_action": str, "plan": list}`, for example.

        Raises:
            ValidationError: `expected_format` is no form.
        """
        return ValidationResult(tuple(find_mismatches(result, expected_format)))


def validate_against_schema(request: Any, schema: Any, what: str = "request") -> None:
    """Hold a value against a form.

    Args:
        request: The value.
        schema: See the module.
        what: What the value is called in messages.

    Raises:
        ValidationError: It has not the form: each path is named. Or the form is none.
    """
    ValidationResult(tuple(find_mismatches(request, schema))).raise_if_invalid(what)


def find_mismatches(value: Any, expected: Any, path: str = "") -> Iterator[Mismatch]:
    """Yield the places where `value` does not have the form `expected`."""
    if isinstance(expected, Mapping):
        if _is_json_schema(expected):
            yield from _against_json_schema(value, expected, path)
        elif not isinstance(value, Mapping):
            yield Mismatch(path, "a mapping", _shown(value))
        else:
            for key, form in expected.items():
                place = f"{path}.{key}" if path else str(key)
                if key in value:
                    yield from find_mismatches(value[key], form, place)
                else:
                    yield Mismatch(place, _described(form), _MISSING)
    elif isinstance(expected, list) and len(expected) == 1:
        if not isinstance(value, list):
            yield Mismatch(path, _described(expected), _shown(value))
            return
        for number, item in enumerate(value):
            yield from find_mismatches(item, expected[0], f"{path}[{number}]")
    else:
        yield from _against_type(value, expected, path)


def _against_type(value: Any, expected: Any, path: str) -> Iterator[Mismatch]:
    adapter = _adapter(expected)
    try:
        adapter.validate_python(value, strict=True)
    except TypeMismatch as errors:
        for error in errors.errors(include_url=False, include_context=False):
            place = _joined(path, error["loc"])
            if error["type"] == "missing":
                yield Mismatch(place, "a value", _MISSING)
            elif not error["loc"]:
                yield Mismatch(place, _described(expected), _shown(error["input"]))
            else:
                yield Mismatch(place, error["msg"].removeprefix("Input should be "), _shown(error["input"]))


def _adapter(expected: Any) -> TypeAdapter[Any]:
    try:
        return _kept_adapter(expected)
    except TypeError:  # a form that cannot be hashed, such as Annotated with a list
        return _new_adapter(expected)


def _new_adapter(expected: Any) -> TypeAdapter[Any]:
    if isinstance(expected, str) or (expected is not None and not _is_type(expected)):
        raise ValidationError(
            f"expected format: {_shown(expected)} is no form",
            hint="Write a type such as str, a mapping of names to forms, or a JSON schema.",
        )
    try:
        return TypeAdapter(expected)
    except PydanticSchemaGenerationError:
        return TypeAdapter(expected, config=ConfigDict(arbitrary_types_allowed=True))
    except PydanticUserError as error:
        raise ValidationError(f"expected format: {error.message}", hint="Write another type.") from error


_kept_adapter = lru_cache(maxsize=256)(_new_adapter)


def _is_type(expected: Any) -> bool:
    return (
        isinstance(expected, type)
        or hasattr(expected, "__origin__")
        or type(expected).__module__
        in (
            "typing",
            "types",
            "typing_extensions",
        )
    )


def _is_json_schema(expected: Mapping[Any, Any]) -> bool:
    return bool(_SCHEMA_WORDS & expected.keys()) and _is_data(expected)


def _is_data(value: Any) -> bool:
    """Return whether a value is JSON all through, and so holds no type."""
    if isinstance(value, Mapping):
        return all(_is_data(item) for item in value.values())
    if isinstance(value, list | tuple):
        return all(map(_is_data, value))
    return value is None or isinstance(value, str | bool | int | float)


def _against_json_schema(value: Any, schema: Mapping[str, Any], path: str) -> Iterator[Mismatch]:
    try:
        faults = JsonSchema(schema).faults(value)
    except JsonSchemaError as error:
        raise ValidationError(f"JSON schema: {error}", hint=error.hint) from error
    for found in faults:
        place = _joined(path, found.path)
        if found.missing:
            yield Mismatch(place, "a value", _MISSING)
        elif found.keyword == "type":
            wanted = found.limit
            yield Mismatch(place, wanted if isinstance(wanted, str) else " or ".join(wanted), _shown(found.value))
        elif found.keyword == "additionalProperties":
            yield Mismatch(place, _MISSING, _shown(found.value))
        else:
            limit = encode_json(found.limit).decode()[:_SHOWN]
            yield Mismatch(place, f"{found.keyword} {limit}", _shown(found.value))


def _joined(path: str, location: tuple[str | int, ...]) -> str:
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
    return path


def _described(form: Any) -> str:
    if isinstance(form, Mapping):
        return str(form["type"]) if _is_json_schema(form) and isinstance(form.get("type"), str) else "a mapping"
    if isinstance(form, list) and len(form) == 1:
        return f"a list of {_described(form[0])}"
    return form.__name__ if isinstance(form, type) and not hasattr(form, "__origin__") else str(form)


def _shown(value: Any) -> str:
    """Return what is there instead: short text whole and no part of longer text, so that a secret is still found."""
    if value is None:
        return "null"
    name = type(value).__name__
    if isinstance(value, str):
        short = len(value) <= _SHOWN and value.isprintable() and not {"'", "\\"} & set(value)
        return f"{name} '{value}'" if short else f"{name} of {len(value)} characters"
    if isinstance(value, bool | int | float):
        return f"{name} {value!r}"
    return f"{name} of {len(value)}" if isinstance(value, list | tuple | Mapping) else name

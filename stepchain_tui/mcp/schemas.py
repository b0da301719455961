"""Values held against the JSON schema of a stranger: never over the network, and never for ever.

A schema that a server sends may be wrong, may refer to itself without end, and may hold a pattern that Python's
regular expressions never finish. So patterns are left to the server, references stay inside the schema, and a check
that takes too many steps is given up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

MOST_PARTS = 5_000
"""Values, at any depth, of a schema that anything is held against: to look through more takes seconds."""
MOST_CHARACTERS = 256 * 1024
"""Characters of all its texts."""
MOST_STEPS = 50_000
"""Keywords of a schema that are looked at for one value."""
_LEFT_OUT = ("pattern", "patternProperties", "propertyNames", "unevaluatedProperties", "unevaluatedItems", "format")


class BadSchemaError(Exception):
    """Signals a schema that nothing can be held against."""


class _TooManyStepsError(Exception):
    """Signals that a check takes too long."""


class Schema:
    """A schema that a server declares.

    Args:
        schema: The schema; True and False are schemas too.
    """

    def __init__(self, schema: Any) -> None:
        self._schema = schema
        self._validator: Any = None

    def mistakes(self, value: Any, most: int = 5) -> list[Any]:
        """Return what is wrong with a value, as `jsonschema.ValidationError`s; none where it took too long.

        Raises:
            BadSchemaError: It is no schema, or too large a one.
        """
        from referencing.exceptions import Unresolvable

        if self._validator is None:
            self._validator = _validator_of(self._schema)
        steps = _steps()
        steps.left = MOST_STEPS
        found: list[Any] = []
        try:
            for error in self._validator.iter_errors(value):
                found.append(error)
                if len(found) >= most:
                    break
        except _TooManyStepsError:
            return found
        except (Unresolvable, RecursionError, LookupError, TypeError, ValueError, AttributeError) as error:
            raise BadSchemaError(f"{type(error).__name__}: {error}"[:200]) from error
        return found


class _Steps:
    left = MOST_STEPS


@cache
def _steps() -> _Steps:
    return _Steps()


def _validator_of(schema: Any) -> Any:
    from jsonschema import SchemaError  # type: ignore[import-untyped, unused-ignore]
    from referencing import Registry

    _hold_small(schema)
    kind = _validator_class()
    try:
        kind.check_schema(schema)
    except (SchemaError, RecursionError, ValueError, TypeError) as error:
        raise BadSchemaError(str(getattr(error, "message", error))[:200]) from error
    return kind(schema, registry=Registry())


def _hold_small(schema: Any) -> None:
    parts, characters, left = 0, 0, [schema]
    while left:
        value = left.pop()
        parts += 1
        if isinstance(value, dict):
            left.extend(value.values())
            characters += sum(map(len, value))
        elif isinstance(value, list):
            left.extend(value)
        elif isinstance(value, str):
            characters += len(value)
        if parts + len(left) > MOST_PARTS or characters > MOST_CHARACTERS:
            raise BadSchemaError(f"it has more than {MOST_PARTS} parts or {MOST_CHARACTERS // 1024} KB")


@cache
def _validator_class() -> Any:
    from jsonschema import Draft202012Validator
    from jsonschema.validators import extend  # type: ignore[import-untyped, unused-ignore]

    return extend(
        Draft202012Validator, {name: _counted(name, check) for name, check in Draft202012Validator.VALIDATORS.items()}
    )


def _counted(name: str, check: Callable[..., Any]) -> Callable[..., Any]:
    """Return a keyword's check that counts its steps; those that run a stranger's pattern check nothing."""

    def counted(validator: Any, value: Any, instance: Any, schema: Mapping[str, Any]) -> Iterator[Any]:
        _count(name, value, instance)
        if name in _LEFT_OUT or (name == "additionalProperties" and "patternProperties" in schema):
            return
        yield from check(validator, value, instance, schema) or ()

    return counted


def _count(name: str, value: Any, instance: Any) -> None:
    steps = _steps()
    steps.left -= 1
    if name == "enum" and isinstance(value, list):
        steps.left -= len(value) // 10
    elif name == "uniqueItems" and isinstance(instance, list):
        steps.left -= min(len(instance) ** 2 // 1000, MOST_STEPS)
    if steps.left < 0:
        raise _TooManyStepsError

"""Values held against a JSON schema: nothing is fetched, no pattern runs for ever, and no check is without an end.

Patterns are matched by an engine that takes linear time (the one of pydantic's core). Those that it does not know, with
look-around or references back, are left to Python's; `hard_patterns` finds them where the schema is not to be trusted.
`unevaluatedProperties`, `unevaluatedItems` and `format` are not looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from functools import cache, lru_cache
from typing import Any, NamedTuple
from urllib.parse import unquote

from stepchain_tui.core.errors import NotAvailableError, UsageError
from stepchain_tui.core.values import to_json_value

MOST_PARTS = 5_000
"""Values, at any depth, that a schema may have: a check of the schema itself takes seconds beyond."""
MOST_STEPS = 300_000
"""Keywords of a schema that are looked at for one value; some seconds."""
_DATA = ("const", "enum", "default", "examples", "example")
"""Keywords whose value is data and no schema."""
_LEFT_OUT = ("unevaluatedProperties", "unevaluatedItems")
_AT_ROOT = ("type", "const", "enum", "required")
"""Keywords that tell whether a choice is the one that was meant."""
_left: ContextVar[list[int] | None] = ContextVar("stepchain_schema_steps", default=None)


class JsonSchemaError(UsageError):
    """Signals a schema that nothing can be held against."""


class EndlessCheckError(JsonSchemaError):
    """Signals a check that takes too many steps."""


class SchemaFault(NamedTuple):
    """One place where a value does not fit.

    Attributes:
        path: Where in the value, keys and indices.
        keyword: What of the schema is not met.
        limit: What the schema says there.
        value: What is there; for `required` the object that has no such key.
    """

    path: tuple[str | int, ...]
    keyword: str
    limit: Any
    value: Any

    @property
    def missing(self) -> bool:
        """Whether `path` is a key that is not there."""
        return self.keyword == "required"


class JsonSchema:
    """A schema that values are held against; safe from any thread.

    Args:
        schema: A JSON object; True and False are schemas too.
        leave_out: Keywords that are not looked at, besides those that never are.
        most_steps: Keywords of it that are looked at for one value.

    Raises:
        JsonSchemaError: It is no schema, too large, or refers to something that is not in it.
        NotAvailableError: The package for it is not installed.
    """

    def __init__(self, schema: Any, *, leave_out: frozenset[str] = frozenset(), most_steps: int = MOST_STEPS) -> None:
        try:
            from jsonschema import Draft202012Validator, SchemaError  # type: ignore[import-untyped, unused-ignore]
            from jsonschema.validators import validator_for  # type: ignore[import-untyped, unused-ignore]
            from referencing import Registry
        except ImportError as missing:
            raise NotAvailableError(
                "a JSON schema cannot be held against a value here", hint="Install jsonschema, or write types."
            ) from missing

        parts = sum(1 for _, _ in zip(_parts(schema), range(MOST_PARTS + 1), strict=False))
        if parts > MOST_PARTS:
            raise JsonSchemaError(f"it has more than {MOST_PARTS} parts", hint="Ask for less.")
        for reference in _references(schema):
            if not reference.startswith("#") or not _leads_somewhere(reference, schema):
                # what is relative is refused too: the rest of it is on a network or a disk
                raise JsonSchemaError(f"cannot resolve {reference}", hint="Write it out under $defs.")
        if not isinstance(schema, Mapping | bool):
            raise JsonSchemaError(f"a schema is an object, this is {type(schema).__name__}", hint="Mend the schema.")
        named = schema.get("$schema") if isinstance(schema, Mapping) else None
        if named is not None and not isinstance(named, str):
            raise JsonSchemaError("$.$schema: is no address", hint="Leave it out.")
        draft = Draft202012Validator if named is None else validator_for(schema, default=Draft202012Validator)
        try:
            draft.check_schema(schema)
        except SchemaError as error:
            raise JsonSchemaError(f"{error.json_path}: {error.message[:200]}", hint="Mend the schema.") from error
        except RecursionError as error:
            raise JsonSchemaError("it is nested too deep", hint="Ask for something flatter.") from error
        # An inner $schema would bring back the keywords as the library has them, without an end.
        plain = _without(schema, "$schema")
        self._validator = _bounded(draft, leave_out)(plain, registry=Registry())
        self._most_steps = most_steps

    def faults(self, value: Any, most: int = 1_000) -> list[SchemaFault]:
        """Return where a value does not fit, in the order of their places.

        Args:
            value: A JSON value.
            most: Not more than so many, as they are found.

        Raises:
            JsonSchemaError: As `errors` does.
        """
        found: list[SchemaFault] = []
        for error in self.errors(value):
            found.extend(_faults(error))
            if len(found) >= most:
                break
        return sorted(found[:most], key=lambda fault: [str(part) for part in fault.path])

    def errors(self, value: Any) -> Iterator[Any]:
        """Yield what is wrong with a value as the library tells it: `jsonschema.ValidationError`s.

        Raises:
            JsonSchemaError: It refers to something that it does not have, or to itself without end.
            EndlessCheckError: The check takes too many steps.
        """
        from referencing.exceptions import Unresolvable

        left, given = [self._most_steps], to_json_value(value)
        errors = self._validator.iter_errors(given)
        try:
            while True:
                # set for each step: who takes the errors may do other things in between
                token = _left.set(left)
                try:
                    error = next(errors, None)
                finally:
                    _left.reset(token)
                if error is None:
                    return
                yield error
        except Unresolvable as error:
            where = f"#{error.ref}" if error.ref.startswith("/") else error.ref
            raise JsonSchemaError(f"cannot resolve {where}", hint="Write it out under $defs.") from error
        except RecursionError as error:
            raise JsonSchemaError("it refers to itself without end", hint="Mend the schema.") from error


def hard_patterns(schema: Any) -> list[str]:
    """Return the patterns of a schema that cannot be matched in linear time."""
    written = [pattern for keyword, value in _parts(schema) for pattern in _patterns(keyword, value)]
    return [pattern for pattern in written if _matcher(pattern) is None]


def _patterns(keyword: str, value: Any) -> list[str]:
    if keyword == "pattern" and isinstance(value, str):
        return [value]
    return list(value) if keyword == "patternProperties" and isinstance(value, dict) else []


# --- schemas as data


def _parts(schema: Any) -> Iterator[tuple[str, Any]]:
    """Yield every value of a schema with the keyword it belongs to; data in it as one value, names are no keywords."""
    waiting: list[tuple[str, Any, bool]] = [("", schema, False)]
    while waiting:
        keyword, value, of_names = waiting.pop()
        yield keyword, value
        if isinstance(value, Mapping) and keyword not in _DATA:
            for key, inner in value.items():
                word = "" if of_names else str(key)
                waiting.append((word, inner, not of_names and word in _OF_NAMES))
        elif isinstance(value, list | tuple):
            waiting.extend(("" if keyword not in _DATA else keyword, inner, False) for inner in value)


_OF_NAMES = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
"""Keywords whose keys are names and no keywords."""


def _references(schema: Any) -> Iterator[str]:
    for keyword, value in _parts(schema):
        if keyword in ("$ref", "$dynamicRef", "$recursiveRef") and isinstance(value, str):
            yield value


def _leads_somewhere(reference: str, schema: Any) -> bool:
    """Return whether a pointer into a schema finds something; names of anchors are left to the check."""
    found = schema
    for part in reference[2:].split("/") if reference.startswith("#/") else ():
        word = unquote(part).replace("~1", "/").replace("~0", "~")
        if isinstance(found, list) and word.isdecimal() and int(word) < len(found):
            found = found[int(word)]
        elif isinstance(found, Mapping) and word in found:
            found = found[word]
        else:
            return False
    return True


def _without(schema: Any, word: str, *, of_names: bool = False) -> Any:
    """Return a schema without one of its keywords, wherever it stands."""
    if isinstance(schema, Mapping):
        return {
            key: value if key in _DATA and not of_names else _without(value, word, of_names=_names(key, of_names))
            for key, value in schema.items()
            if of_names or key != word
        }
    return [_without(each, word) for each in schema] if isinstance(schema, list | tuple) else schema


def _names(key: str, of_names: bool) -> bool:
    return not of_names and key in _OF_NAMES


# --- keywords with an end


@cache
def _bounded(draft: Any, leave_out: frozenset[str]) -> Any:
    """Return a draft's validator whose keywords count their steps and whose patterns take linear time."""
    from jsonschema.validators import extend

    own = {"pattern": _pattern, "patternProperties": _pattern_properties, "additionalProperties": _additional}
    checks = {**draft.VALIDATORS, **{name: check for name, check in own.items() if name in draft.VALIDATORS}}
    left_out = leave_out.union(_LEFT_OUT)
    return extend(draft, {name: _counted(name, check, name in left_out) for name, check in checks.items()})


def _counted(name: str, check: Callable[..., Any], left_out: bool) -> Callable[..., Any]:
    def counted(validator: Any, limit: Any, instance: Any, schema: Mapping[str, Any]) -> Iterator[Any]:
        _count(name, limit, instance)
        return iter(()) if left_out else iter(check(validator, limit, instance, schema) or ())

    return counted


def _count(name: str, limit: Any, instance: Any) -> None:
    left = _left.get()
    if left is None:
        return
    left[0] -= 1
    if name == "enum" and isinstance(limit, list):
        left[0] -= len(limit) // 10
    elif name == "uniqueItems" and isinstance(instance, list):
        left[0] -= len(instance) ** 2 // 1_000
    if left[0] < 0:
        raise EndlessCheckError("the check takes too long", hint="Ask for less, or write a simpler schema.")


def _pattern(validator: Any, pattern: str, instance: Any, schema: Any) -> Iterator[Any]:
    from jsonschema import ValidationError

    if validator.is_type(instance, "string") and not _fits(pattern, instance):
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


def _pattern_properties(validator: Any, patterns: Any, instance: Any, schema: Any) -> Iterator[Any]:
    if not validator.is_type(instance, "object"):
        return
    for pattern, inner in patterns.items():
        for key, value in instance.items():
            _count("", None, None)
            if _fits(pattern, key):
                yield from validator.descend(value, inner, path=key, schema_path=pattern)


def _additional(validator: Any, extra_schema: Any, instance: Any, schema: Mapping[str, Any]) -> Iterator[Any]:
    from jsonschema import ValidationError

    if not validator.is_type(instance, "object"):
        return
    known, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    extra = [key for key in instance if key not in known and not any(_fits(pattern, key) for pattern in patterns)]
    if extra_schema is False:
        for key in extra:
            yield ValidationError(f"{key!r} is not expected", path=(key,), instance=instance[key])
    elif isinstance(extra_schema, Mapping):
        for key in extra:
            yield from validator.descend(instance[key], extra_schema, path=key)


def _fits(pattern: str, text: str) -> bool:
    matcher = _matcher(pattern)
    if matcher is not None:
        return matcher(text)
    import re

    try:
        return re.search(pattern, text) is not None
    except re.error as error:
        raise JsonSchemaError(f"'{pattern[:80]}' is no pattern: {error}", hint="Mend the schema.") from error


@lru_cache(maxsize=256)
def _matcher(pattern: str) -> Callable[[str], bool] | None:
    """Return what finds a pattern in a text in linear time, None where it has look-around or references back."""
    from pydantic_core import SchemaError, SchemaValidator, core_schema

    try:
        return SchemaValidator(core_schema.str_schema(pattern=pattern)).isinstance_python
    except SchemaError:
        return None


# --- what is told of it


def _faults(error: Any) -> Iterator[SchemaFault]:
    path = tuple(error.absolute_path)
    if error.validator == "required":
        # the library has one error for each missing key and says which only in its message
        name = next((key for key in error.validator_value if error.message.startswith(repr(key))), None)
        yield SchemaFault(path if name is None else (*path, name), "required", error.validator_value, error.instance)
    elif error.validator in ("anyOf", "oneOf") and error.context:
        yield from _of_choices(error, path)
    elif error.validator == "additionalProperties":
        yield SchemaFault(path, error.validator, list(error.schema.get("properties", ())), error.instance)
    else:
        yield SchemaFault(path, str(error.validator), error.validator_value, error.instance)


def _of_choices(error: Any, path: tuple[str | int, ...]) -> Iterator[SchemaFault]:
    """Yield what is wrong with the choice that was meant: the one whose kind fits and that has the fewest faults."""
    choices: dict[int, list[Any]] = {}
    for inner in error.context:
        choices.setdefault(inner.relative_schema_path[0], []).append(inner)
    meant = [found for found in choices.values() if not any(_is_other_kind(inner) for inner in found)]
    if meant:
        for inner in min(meant, key=lambda found: (sum(map(_is_other_tag, found)), len(found))):
            yield from _faults(inner)
        return
    kinds = [kind for inner in error.context for kind in _kinds(inner)]
    if len(kinds) == len(error.context):
        yield SchemaFault(path, "type", list(dict.fromkeys(kinds)), error.instance)
    else:
        yield SchemaFault(path, str(error.validator), error.validator_value, error.instance)


def _is_other_kind(error: Any) -> bool:
    return not error.relative_path and error.validator in ("type", "const", "enum")


def _is_other_tag(error: Any) -> bool:
    return len(error.relative_path) <= 1 and error.validator in _AT_ROOT


def _kinds(error: Any) -> list[str]:
    if error.validator != "type" or error.relative_path:
        return []
    return [error.validator_value] if isinstance(error.validator_value, str) else list(error.validator_value)

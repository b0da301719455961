"""What a function takes, as a JSON schema for models and as a check of the arguments of a call.

Both come from the signature through one pydantic `TypeAdapter`: over a stand-in with the function's parameters, so that
arguments are checked and converted without calling the function, which then runs in its own mode. What the function
raises itself, a `ValidationError` too, can so never be taken for a mistake in its arguments. The parameter that gets
the `StepContext` is no argument: nobody who calls a tool can give it.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast
from weakref import WeakKeyDictionary

from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError
from pydantic.json_schema import GenerateJsonSchema

from stepchain_tui.core.errors import UsageError, did_you_mean
from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.status import ErrorType
from stepchain_tui.tools.docstrings import read_docstring
from stepchain_tui.tools.functions import CallShape, Function, call_shape
from stepchain_tui.tools.strict_schema import NotStrictError, strict_schema

_MOST_ERRORS = 10
_LONGEST_SHOWN = 60


class ToolSchemaError(UsageError):
    """Signals a function that cannot be a tool because nobody could tell what it takes; says why."""

    def __init__(self, label: str, reason: str, hint: str) -> None:
        super().__init__(f"{label} cannot be a tool: {reason}", hint=hint)


class ToolArgumentError(AttemptError, ValueError):
    """Signals arguments that a tool does not take; the message names each of them.

    Args:
        label: The function.
        problems: What is wrong, one sentence part for each argument.
        hint: What may have been meant, or what it takes.
    """

    def __init__(self, label: str, problems: list[str], hint: str) -> None:
        super().__init__(
            f"{label}: {'; '.join(problems)}",
            error_type=ErrorType.USER_ERROR,
            hint=hint,
            exception="ToolArgumentError",
            details={"problems": problems},
        )


@dataclass(frozen=True)
class ToolSchema:
    """What one function takes.

    Attributes:
        name: The function's name in messages and, where nothing else is said, for models.
        description: What the docstring says before its sections.
        parameters: JSON schema of the arguments: an object, defaults included.
        takes_any: Whether names beyond the parameters are taken by `**kwargs`.
    """

    name: str
    description: str
    parameters: dict[str, Any]
    takes_any: bool
    _adapter: TypeAdapter[dict[str, Any]] = field(repr=False)
    _defaults: Mapping[str, Any] = field(repr=False)

    @classmethod
    def of(cls, function: Function) -> ToolSchema:
        """Return the schema of a function, a method, a class or an object that can be called.

        Raises:
            ToolSchemaError: It has no signature, takes `*args`, or has a parameter of a type without a schema.
        """
        shape = call_shape(function)
        parameters = _parameters(function, shape)
        description, documented = read_docstring(inspect.getdoc(function) or "")
        adapter, schema = _adapter_of(parameters, shape)
        for name, text in documented.items():
            if name in schema["properties"] and "description" not in schema["properties"][name]:
                schema["properties"][name] = {**schema["properties"][name], "description": text}
        return cls(
            name=shape.label,
            description=description,
            parameters=schema,
            takes_any=shape.takes_any,
            _adapter=adapter,
            _defaults={p.name: p.default for p in parameters if p.default is not p.empty},
        )

    @functools.cached_property
    def strict_parameters(self) -> dict[str, Any] | None:
        """The schema in the strict form of model providers, or None where that is impossible: every property is
        required, and one that has a default may be null, which means the default.
        """
        try:
            return strict_schema(self.parameters)
        except NotStrictError:
            return None

    def for_model(self, *, name: str = "", description: str = "", strict: bool = True) -> dict[str, Any]:
        """Return the tool as the Responses API takes it: `{type, name, description, parameters, strict}`.

        Args:
            name: What the model calls it; the function's name if empty.
            description: What the model is told; the docstring's text if empty.
            strict: Whether the strict form is wanted; `strict` is False in what comes back where it is impossible.
        """
        found = self.strict_parameters if strict else None
        return {
            "type": "function",
            "name": name or self.name.rpartition(".")[2],
            "description": description or self.description,
            "parameters": self.parameters if found is None else found,
            "strict": found is not None,
        }

    def validate(self, args: Mapping[str, Any], label: str = "") -> dict[str, Any]:
        """Return the arguments converted to the parameters' types; those that were not given stay away.

        Null stands for the default where a parameter has one and does not take null itself.

        Args:
            args: The arguments by name.
            label: What the message calls the function, its own name if empty.

        Raises:
            ToolArgumentError: An argument is missing, unknown or has a wrong value.
        """
        given = {
            name: value
            for name, value in args.items()
            if value is not None or name not in self._defaults or self._takes_null(name)
        }
        try:
            values = self._adapter.validate_python(given)
        except ValidationError as error:
            raise self._argument_error(
                error, label or self.name
            ) from None  # pydantic's text shows values, which may be secret
        defaults = self._defaults
        return {
            name: value
            for name, value in values.items()
            if name in given or name not in defaults or value is not defaults[name]
        }

    def _takes_null(self, name: str) -> bool:
        schema = self.parameters["properties"].get(name, {})
        kinds = [schema, *schema.get("anyOf", ())]
        return not schema.keys() - {"title", "description", "default"} or any(
            kind.get("type") == "null" for kind in kinds
        )

    def _argument_error(self, error: ValidationError, label: str) -> ToolArgumentError:
        known = list(self.parameters["properties"])
        problems, hints = [], []
        errors = error.errors(include_url=False, include_context=False)
        for one in errors[:_MOST_ERRORS]:
            place = ".".join(str(part) for part in one["loc"])
            match one["type"]:
                case "missing_argument" | "missing_keyword_only_argument":
                    problems.append(f"needs '{place}'")
                case "unexpected_keyword_argument":
                    problems.append(f"has no parameter '{place}'")
                    hints.append(did_you_mean(place, known))
                case _:
                    problems.append(f"argument '{place}': {_lower(one['msg'])}{_shown(one['input'])}")
        if len(errors) > _MOST_ERRORS:
            problems.append(f"and {len(errors) - _MOST_ERRORS} more")
        takes = f"It takes: {', '.join(known) or 'nothing'}."
        return ToolArgumentError(label, problems, " ".join(filter(None, hints)) or takes)


def schema_of(function: Function) -> ToolSchema:
    """Return the schema of a function, worked out once for each as long as it lives; see `ToolSchema.of`."""
    behind = getattr(function, "__func__", function)  # a bound method is a new object each time
    schemas = _of_functions if behind is function else _of_methods
    try:
        known = schemas.get(behind)
    except TypeError:  # an object that can be called and cannot be a key
        return ToolSchema.of(function)
    if known is None:
        known = schemas[behind] = ToolSchema.of(function)
    return known


_of_functions: WeakKeyDictionary[Any, ToolSchema] = WeakKeyDictionary()
_of_methods: WeakKeyDictionary[Any, ToolSchema] = WeakKeyDictionary()


class _JsonSchema(GenerateJsonSchema):
    """Without titles made up from names, and without warnings for defaults that JSON does not have."""

    ignored_warning_kinds = frozenset(("skipped-choice", "non-serializable-default"))  # type: ignore[assignment]

    def get_title_from_name(self, name: str) -> str:
        return ""


def _parameters(function: Function, shape: CallShape) -> list[inspect.Parameter]:
    """Return the parameters that a caller gives, each by name and with its annotation resolved."""
    try:
        signature = inspect.signature(function)
    except (ValueError, TypeError):
        raise ToolSchemaError(shape.label, "it has no signature", "Wrap it in a function with parameters.") from None
    names = _names_for(function)
    found = []
    for parameter in signature.parameters.values():
        if parameter.name == shape.context:
            continue
        if parameter.kind is parameter.VAR_POSITIONAL:
            raise ToolSchemaError(
                shape.label, f"it takes *{parameter.name}", "Give each argument a name, or take one list."
            )
        if parameter.kind is parameter.POSITIONAL_ONLY:
            parameter = parameter.replace(kind=inspect.Parameter.POSITIONAL_OR_KEYWORD)
        found.append(parameter.replace(annotation=_resolved(parameter, names, shape.label)))
    return found


def _resolved(parameter: inspect.Parameter, names: Mapping[str, Any], label: str) -> Any:
    annotation = parameter.annotation
    if annotation is parameter.empty:
        return Any
    if not isinstance(annotation, str):
        return annotation
    try:
        return eval(annotation, dict(names))
    except Exception as error:
        raise ToolSchemaError(
            label,
            f"the type '{annotation}' of '{parameter.name}' cannot be found: {type(error).__name__}: {error}",
            "Import the type where the function is, outside of TYPE_CHECKING.",
        ) from error


def _names_for(function: Function) -> Mapping[str, Any]:
    """Return the names that a function's annotations are written in."""
    target: Any = getattr(function, "func", function)
    if inspect.isclass(target):
        target = target.__init__
    elif not inspect.isroutine(target):
        target = type(target).__call__
    target = inspect.unwrap(getattr(target, "__func__", target))
    found = getattr(target, "__globals__", None)
    return found if found is not None else vars(sys.modules.get(getattr(target, "__module__", ""), object))


def _adapter_of(
    parameters: list[inspect.Parameter], shape: CallShape
) -> tuple[TypeAdapter[dict[str, Any]], dict[str, Any]]:
    def stand_in(**given: Any) -> dict[str, Any]:
        return given

    # Python wants parameters with a default last; one that was positional-only may now stand after them all the same.
    stand_in.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [p.replace(kind=p.KEYWORD_ONLY) if p.kind is not p.VAR_KEYWORD else p for p in parameters]
    )
    stand_in.__annotations__ = {p.name: p.annotation for p in parameters}
    stand_in.__qualname__ = stand_in.__name__ = shape.label
    try:
        adapter: TypeAdapter[dict[str, Any]] = TypeAdapter(cast(Any, stand_in))
        schema = adapter.json_schema(schema_generator=_JsonSchema)
    except (PydanticUserError, TypeError, NameError) as error:
        reason = str(error).partition("\n")[0].partition(". Set ")[0]
        raise ToolSchemaError(
            shape.label, reason, "Use types that JSON has, dataclasses or pydantic models for its parameters."
        ) from error
    schema.setdefault("properties", {})
    return adapter, _without_empty_titles(schema)


def _without_empty_titles(schema: Any) -> Any:
    if isinstance(schema, dict):
        return {key: _without_empty_titles(value) for key, value in schema.items() if (key, value) != ("title", "")}
    return [_without_empty_titles(item) for item in schema] if isinstance(schema, list) else schema


def _lower(message: str) -> str:
    return message[:1].lower() + message[1:]


def _shown(value: Any) -> str:
    """Return a wrong value for a message: whole or not at all, so that a secret in it is still found and replaced."""
    text = value if isinstance(value, str) else str(value) if isinstance(value, int | float | None) else None
    if text is None:
        return f" (this is {type(value).__name__})"
    if len(text) > _LONGEST_SHOWN or not text.isprintable():
        return f" (this is a text of {len(text)} characters)"
    return (
        f" (this is {text!r})"
        if isinstance(value, str) and "'" not in text and "\\" not in text
        else f" (this is {text})"
    )

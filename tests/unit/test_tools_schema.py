"""What a function takes, as a schema for models and as a check of a call's arguments."""

from __future__ import annotations

import enum
import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from stepchain_tui.run.status import ErrorType
from stepchain_tui.tools import StepContext
from stepchain_tui.tools.schema import ToolArgumentError, ToolSchema, ToolSchemaError, schema_of

if TYPE_CHECKING:
    from decimal import Decimal


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Place(BaseModel):
    """Where it is."""

    title: str
    height: float = 1.5


@dataclass
class Point:
    x: int
    y: int = 0


def fetch(
    url: Annotated[str, Field(description="The address", min_length=3)],
    depth: int = 2,
    mode: Literal["a", "b"] = "a",
    headers: list[str] | None = None,
) -> None:
    """Fetch a page.

    And those that it links to.

    Args:
        url: Not said to the model: the field says more.
        depth (int): How many links
            deep.
        headers: Sent with it.

    Returns:
        Nothing.
    """


def test_the_schema_has_types_defaults_and_descriptions_of_field_and_docstring() -> None:
    schema = ToolSchema.of(fetch)
    assert (schema.name, schema.description) == ("fetch", "Fetch a page.\n\nAnd those that it links to.")
    assert schema.parameters == {
        "type": "object",
        "additionalProperties": False,
        "required": ["url"],
        "properties": {
            "url": {"type": "string", "minLength": 3, "description": "The address"},
            "depth": {"type": "integer", "default": 2, "description": "How many links deep."},
            "mode": {"type": "string", "enum": ["a", "b"], "default": "a"},
            "headers": {
                "anyOf": [{"type": "array", "items": {"type": "string"}}, {"type": "null"}],
                "default": None,
                "description": "Sent with it.",
            },
        },
    }


def test_the_strict_form_requires_everything_and_null_stands_for_a_default() -> None:
    schema = ToolSchema.of(fetch)
    model = schema.for_model()
    assert (model["type"], model["name"], model["strict"]) == ("function", "fetch", True)
    properties = model["parameters"]["properties"]
    assert model["parameters"]["required"] == list(properties)
    assert properties["depth"] == {
        "anyOf": [{"type": "integer"}, {"type": "null"}],
        "description": "How many links deep.",
    }
    assert "default" not in json.dumps(model)
    given = {"url": "http", "depth": None, "mode": None, "headers": None}
    assert schema.validate(given) == {"url": "http", "headers": None}


def test_models_inside_a_strict_schema_require_everything_and_take_no_null() -> None:
    def visit(place: Place, others: list[Place]) -> None: ...

    strict = ToolSchema.of(visit).strict_parameters
    assert strict is not None
    place = strict["$defs"]["Place"]
    assert place["required"] == ["title", "height"]
    assert place["properties"]["height"]["type"] == "number"
    assert place["additionalProperties"] is False
    assert strict["properties"]["place"] == {"$ref": "#/$defs/Place"}


def _anything(value: Any) -> None: ...
def _untyped(value) -> None: ...  # type: ignore[no-untyped-def]
def _mapping(values: dict[str, int]) -> None: ...
def _pair(pair: tuple[int, str]) -> None: ...
def _more(**more: int) -> None: ...


@pytest.mark.parametrize("function", [_anything, _untyped, _mapping, _pair, _more])
def test_what_has_no_strict_form_is_offered_without_it(function: Any) -> None:
    model = ToolSchema.of(function).for_model()
    assert model["strict"] is False
    assert model["parameters"]["type"] == "object"


def test_a_strict_schema_is_what_the_openai_sdk_makes_but_for_null() -> None:
    strict_of_sdk = pytest.importorskip("openai.lib._pydantic").to_strict_json_schema

    def visit(place: Place, colour: Colour, mode: Literal["a", "b"], tags: list[str]) -> None: ...

    ours = ToolSchema.of(visit).strict_parameters
    theirs = strict_of_sdk(TypeAdapter(visit))

    def without_titles(schema: Any) -> Any:
        if isinstance(schema, list):
            return [without_titles(item) for item in schema]
        if not isinstance(schema, dict):
            return schema
        return {
            k: without_titles(v)
            for k, v in schema.items()
            if not (k in ("title", "default") and not isinstance(v, dict))
        }

    assert without_titles(ours) == without_titles(theirs)


def test_values_are_converted_and_defaults_left_to_the_function() -> None:
    def take(number: int, path: Path, point: Point, colour: Colour, tags: set[str], when: int = 3) -> None: ...

    given = {"number": "4", "path": "/x", "point": {"x": "1"}, "colour": "red", "tags": ["a"]}
    assert ToolSchema.of(take).validate(given) == {
        "number": 4,
        "path": Path("/x"),
        "point": Point(1),
        "colour": Colour.RED,
        "tags": {"a"},
    }


def test_every_wrong_argument_is_named_in_one_message() -> None:
    with pytest.raises(ToolArgumentError) as caught:
        ToolSchema.of(fetch).validate({"urll": "http", "depth": "two", "mode": "c"}, "tool 'fetch'")
    error = caught.value
    assert str(error).startswith("tool 'fetch': ")
    assert "needs 'url'" in str(error)
    assert "argument 'depth': input should be a valid integer, unable to parse string as an integer" in str(error)
    assert "argument 'mode': input should be 'a' or 'b' (this is 'c')" in str(error)
    assert "has no parameter 'urll'" in str(error)
    assert error.hint == "did you mean 'url'?"
    assert error.error_type is ErrorType.USER_ERROR
    assert isinstance(error, ValueError)
    assert len(error.details["problems"]) == 4


def test_the_place_inside_an_argument_is_named() -> None:
    def take(points: list[Point]) -> None: ...

    with pytest.raises(ToolArgumentError, match=r"argument 'points\.1\.x'"):
        ToolSchema.of(take).validate({"points": [{"x": 1}, {"x": "z"}]})


def test_a_long_wrong_value_is_not_shown_by_halves() -> None:
    secret = "s3cret-" * 20
    with pytest.raises(ToolArgumentError) as caught:
        ToolSchema.of(fetch).validate({"url": "http", "depth": secret})
    assert "s3cret" not in str(caught.value)
    assert "a text of 140 characters" in str(caught.value)
    assert caught.value.__cause__ is None


def test_very_many_mistakes_are_counted() -> None:
    with pytest.raises(ToolArgumentError, match="and 90 more"):
        ToolSchema.of(fetch).validate({"url": "http", "headers": list(range(100))})


def test_the_function_is_not_called_and_its_own_validation_error_is_not_ours() -> None:
    called: list[int] = []

    def parse(value: int) -> None:
        called.append(value)
        TypeAdapter(int).validate_python("x")

    assert ToolSchema.of(parse).validate({"value": "3"}) == {"value": 3}
    assert not called
    with pytest.raises(ValidationError):
        parse(3)


def test_the_context_is_no_argument() -> None:
    def take(value: int, ctx: StepContext) -> None: ...

    schema = ToolSchema.of(take)
    assert list(schema.parameters["properties"]) == ["value"]
    with pytest.raises(ToolArgumentError, match="has no parameter 'ctx'"):
        schema.validate({"value": 1, "ctx": {}})


def test_positional_only_and_keyword_only_parameters_are_given_by_name() -> None:
    def take(a: int, b: int = 2, /, *, c: int) -> None: ...

    schema = ToolSchema.of(take)
    assert schema.parameters["required"] == ["a", "c"]
    assert schema.validate({"a": "1", "c": "3"}) == {"a": 1, "c": 3}


def test_names_beyond_the_parameters_are_taken_where_the_function_takes_them() -> None:
    def take(a: int, **more: int) -> None: ...

    schema = ToolSchema.of(take)
    assert schema.takes_any
    assert schema.validate({"a": 1, "b": "2"}) == {"a": 1, "b": 2}
    with pytest.raises(ToolArgumentError, match="argument 'b'"):
        schema.validate({"a": 1, "b": "x"})


class Box:
    """Keeps things."""

    def __init__(self, size: int) -> None:
        self.size = size

    def put(self, thing: str) -> None:
        """Put a thing in."""

    def __call__(self, count: int) -> None: ...


@pytest.mark.parametrize(
    ("function", "names"),
    [
        (Box, ["size"]),
        (Box(1).put, ["thing"]),
        (Box(1), ["count"]),
        (functools.partial(fetch, depth=3), ["url", "depth", "mode", "headers"]),
        (functools.wraps(fetch)(lambda *args, **more: fetch(*args, **more)), ["url", "depth", "mode", "headers"]),
    ],
)
def test_everything_that_can_be_called_has_a_schema(function: Any, names: list[str]) -> None:
    assert list(ToolSchema.of(function).parameters["properties"]) == names


class Unknown:
    """No type that JSON has."""


def _star(*rest: int) -> None: ...
def _unknown(thing: Unknown) -> None: ...
def _hidden(price: Decimal) -> None: ...


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (_star, "_star cannot be a tool: it takes [*]rest"),
        (max, "max cannot be a tool: it has no signature"),
        (_unknown, "Unable to generate pydantic-core schema for <class '.*Unknown'>"),
        (_hidden, "the type 'Decimal' of 'price' cannot be found: NameError"),
    ],
)
def test_a_function_that_cannot_be_a_tool_is_refused_with_the_reason(function: Any, reason: str) -> None:
    with pytest.raises(ToolSchemaError, match=reason) as caught:
        ToolSchema.of(function)
    assert caught.value.hint


def test_a_default_that_json_does_not_have_is_left_out_of_the_schema() -> None:
    missing = object()

    def take(value: Any = missing) -> None: ...

    schema = ToolSchema.of(take)
    assert schema.parameters["properties"] == {"value": {}}
    assert schema.validate({}) == {}
    assert schema.validate({"value": None}) == {"value": None}


def test_a_schema_is_worked_out_once_for_each_function() -> None:
    assert schema_of(fetch) is schema_of(fetch)


def test_sphinx_docstrings_are_read_too() -> None:
    def take(a: int, b: int) -> None:
        """Take two.

        :param a: the first
        :param int b: the second
            one
        :returns: nothing
        """

    schema = ToolSchema.of(take)
    assert schema.description == "Take two."
    found = {name: one["description"] for name, one in schema.parameters["properties"].items()}
    assert found == {"a": "the first", "b": "the second one"}


def test_methods_of_two_objects_and_objects_that_are_no_keys_have_their_schemas() -> None:
    class Unhashable:
        __hash__ = None  # type: ignore[assignment]

        def __call__(self, count: int) -> None: ...

    assert schema_of(Box(1).put) is schema_of(Box(2).put)
    assert list(schema_of(Unhashable()).parameters["properties"]) == ["count"]
    # the same function, once as a plain one with `self` and once bound
    assert list(schema_of(Box.put).parameters["properties"]) == ["self", "thing"]
    assert list(schema_of(Box(1).put).parameters["properties"]) == ["thing"]

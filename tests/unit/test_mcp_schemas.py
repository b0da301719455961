"""Arguments and results held against what a server declares: never for ever, never over the network."""

from __future__ import annotations

import time
from typing import Any

import pytest

from stepchain_tui.mcp import McpArgumentError, McpTool, check_arguments
from stepchain_tui.mcp.schemas import BadSchemaError, Schema

SCHEMA = {
    "type": "object",
    "properties": {
        "path": {"type": "string"},
        "depth": {"type": "integer", "minimum": 0},
        "mode": {"enum": ["fast", "deep"]},
        "filter": {
            "type": "object",
            "properties": {"names": {"type": "array", "items": {"type": "string"}}},
            "required": ["names"],
            "additionalProperties": False,
        },
    },
    "required": ["path"],
}


def tool(schema: Any = None, output: Any = None) -> McpTool:
    return McpTool("files", "search", "", SCHEMA if schema is None else schema, output)


@pytest.mark.parametrize(
    ("arguments", "words", "hint"),
    [
        ({}, "argument 'path' is missing", "It takes: path, depth, mode, filter."),
        ({"pth": "a"}, "'pth' is no argument of it; argument 'path' is missing", "did you mean 'path'?"),
        ({"path": "a", "dept": 1}, "'dept' is no argument of it", "did you mean 'depth'?"),
        ({"path": 1}, "argument 'path': 1 is not of type 'string'", "It takes: path, depth, mode, filter."),
        ({"path": "a", "depth": -1}, "argument 'depth': -1 is less than the minimum of 0", None),
        ({"path": "a", "mode": "slow"}, "argument 'mode': 'slow' is not one of ['fast', 'deep']", None),
        ({"path": "a", "filter": {"names": ["b", 2]}}, "argument 'filter.names[1]': 2 is not of type 'string'", None),
        ({"path": "a", "filter": {}}, "argument 'filter': 'names' is a required property", None),
        (
            {"path": "a", "filter": {"names": [], "x": 1}},
            "argument 'filter.x': 'x' is not expected",
            None,
        ),
    ],
)
def test_wrong_arguments_name_the_tool_and_the_field(arguments: dict[str, Any], words: str, hint: str | None) -> None:
    with pytest.raises(McpArgumentError) as caught:
        check_arguments(tool(), arguments)
    assert str(caught.value).startswith("tool 'files.search': ")
    assert words in str(caught.value)
    assert caught.value.hint == (hint or "It takes: path, depth, mode, filter.")


def test_right_arguments_are_right() -> None:
    assert check_arguments(tool(), {"path": "a", "depth": 0, "mode": "deep", "filter": {"names": []}}) == ""
    assert check_arguments(tool({"type": "object"}), {"anything": 1}) == ""
    assert check_arguments(tool({}), {"anything": 1}) == ""


def test_an_argument_that_is_not_declared_is_sent_with_a_warning_unless_the_schema_is_closed() -> None:
    assert "does not declare 'zzz'" in check_arguments(tool(), {"path": "a", "zzz": 1})
    with pytest.raises(McpArgumentError, match="'zzz' is no argument of it"):
        check_arguments(tool({**SCHEMA, "additionalProperties": False}), {"path": "a", "zzz": 1})
    with pytest.raises(McpArgumentError) as caught:
        check_arguments(tool({"type": "object", "additionalProperties": False}), {"zzz": 1})
    assert caught.value.hint == "It takes no arguments."
    assert str(caught.value) == "tool 'files.search': 'zzz' is no argument of it"


def test_a_long_value_is_cut_in_the_message() -> None:
    with pytest.raises(McpArgumentError) as caught:
        check_arguments(tool(), {"path": ["x" * 100_000]})
    assert len(str(caught.value)) < 400
    assert "is not of type 'string'" in str(caught.value)


def _doubling() -> dict[str, Any]:
    """Return a small schema whose check takes 2^40 steps."""
    doubled = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(40)}
    return {"$defs": {**doubled, "d40": {"type": "integer"}}, "$ref": "#/$defs/d0"}


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "string", "pattern": "^(a+)+$"}, "a" * 60 + "!"),
        ({"patternProperties": {"^(a+)+$": {}}, "additionalProperties": False}, {"a" * 60 + "!": 1}),
        ({"propertyNames": {"pattern": "^(a+)+$"}}, {"a" * 60 + "!": 1}),
        (
            {"properties": {"x": {"$schema": "https://json-schema.org/draft/2020-12/schema", "pattern": "^(a+)+$"}}},
            {"x": "a" * 60 + "!"},
        ),
        (_doubling(), 1),
        ({"type": "array", "uniqueItems": True}, [{"n": n} for n in range(20_000)]),
        ({"type": "array", "items": {"enum": [{"n": n} for n in range(2_000)]}}, [{"n": -1}] * 20_000),
    ],
)
def test_a_schema_that_would_take_for_ever_is_given_up(schema: Any, value: Any) -> None:
    before = time.process_time()
    Schema(schema).mistakes(value)
    assert time.process_time() - before < 3.0


@pytest.mark.parametrize(
    "properties",
    [
        {f"p{number:07d}": {"type": "string", "description": "x" * 20} for number in range(20_000)},
        {"p": {"enum": [{"n": [n]} for n in range(5_000)]}},
        {"p": {"description": "x" * 1_000_000}},
    ],
)
def test_a_huge_schema_is_not_checked_and_said_so_at_once(properties: dict[str, Any]) -> None:
    huge = tool({"type": "object", "properties": properties, "required": [*properties]})
    before = time.process_time()
    assert "not checked: it has more than 5000 parts or 256 KB" in check_arguments(huge, dict.fromkeys(properties, 1))
    check_arguments(huge, {f"x{number:07d}": 1 for number in range(1_000)})
    assert time.process_time() - before < 2.0


def test_a_large_schema_is_checked_and_told_in_few_words() -> None:
    large = {f"p{number:07d}": {"type": "integer"} for number in range(2_000)}
    before = time.process_time()
    with pytest.raises(McpArgumentError) as caught:
        check_arguments(tool({"properties": large, "additionalProperties": False}), {"p0000007": "x", "q": 1})
    assert "argument 'p0000007': 'x' is not of type 'integer'" in str(caught.value)
    assert "'q' is no argument of it" in str(caught.value)
    with pytest.raises(McpArgumentError):
        check_arguments(tool({"properties": large}), {f"x{number:07d}": 1 for number in range(1_000)})
    assert time.process_time() - before < 3.0
    assert len(str(caught.value)) < 500
    assert len(caught.value.hint) < 1_000


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "nonsense"},
        {"$ref": "https://127.0.0.1:1/schema.json"},
        {"$ref": "#/$defs/missing"},
        {"$ref": "#"},
        {"properties": []},
        {"$schema": "https://127.0.0.1:1/meta", "type": 3},
    ],
)
def test_a_schema_that_is_none_is_told_and_nothing_is_fetched(schema: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a schema was fetched")

    monkeypatch.setattr("socket.socket.connect", refuse)
    with pytest.raises(BadSchemaError):
        Schema(schema).mistakes({"a": 1})
    assert "declares a wrong schema for 'files.search'" in check_arguments(tool(schema), {"a": 1})


@pytest.mark.parametrize(
    ("output", "wraps"),
    [
        ({"type": "object", "x-fastmcp-wrap-result": True, "properties": {"result": {}}}, True),
        ({"type": "object", "properties": {"result": {}}, "required": ["result"], "title": "addOutput"}, True),
        ({"type": "object", "properties": {"result": {}}, "required": ["result"], "title": "Answer"}, False),
        (
            {"type": "object", "properties": {"result": {}, "more": {}}, "required": ["result"], "title": "xOutput"},
            False,
        ),
        (None, False),
        (True, False),
    ],
)
def test_only_what_the_server_wrapped_is_unwrapped(output: Any, wraps: bool) -> None:
    assert tool(output=output).wraps_its_result is wraps

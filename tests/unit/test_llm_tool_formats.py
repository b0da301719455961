"""Tools written by name become what the API takes."""

from __future__ import annotations

import pytest

from stepchain_tui.llm import tools_for_model
from stepchain_tui.run import AttemptError
from stepchain_tui.tools import ToolRegistry, UnknownToolError

GOLDEN = {
    "web_search": {"type": "web_search"},
    "code_interpreter": {"type": "code_interpreter", "container": {"type": "auto"}},
    "file_search": {"type": "file_search"},
    "python_code": {
        "type": "function",
        "name": "python_code",
        "parameters": {
            "type": "object",
            "properties": {
                "code": {
                    "type": "string",
                    "description": "Python source. The value of its last expression is the result; "
                    "print() goes to stdout.",
                }
            },
            "required": ["code"],
            "additionalProperties": False,
        },
        "strict": True,
    },
}


@pytest.mark.parametrize("name", GOLDEN)
def test_a_plain_name_becomes_the_tool_of_the_api(name):
    [made] = tools_for_model([name])
    description = made.pop("description", "")
    assert made == GOLDEN[name]
    assert description.startswith("Run a short piece of Python") == (name == "python_code")


@pytest.mark.parametrize(("name", "meant"), [("web_serch", "web_search"), ("pythoncode", "python_code")])
def test_an_unknown_name_is_an_error_with_a_suggestion(name, meant):
    with pytest.raises(UnknownToolError, match=f"there is no tool '{name}'") as caught:
        tools_for_model(["python_code", name])
    assert meant in caught.value.hint


def test_an_unknown_name_far_from_all_lists_what_there_is():
    with pytest.raises(UnknownToolError) as caught:
        tools_for_model(["xyz"])
    assert "code_interpreter" in caught.value.hint
    assert "python_code" in caught.value.hint


def test_mappings_are_passed_on_and_the_chat_apis_form_is_made_flat():
    flat = {"type": "function", "name": "add", "parameters": {"type": "object"}}
    nested = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
    assert tools_for_model([flat, nested, {"type": "mcp", "server_label": "x", "server_url": "y"}]) == [
        flat,
        flat,
        {"type": "mcp", "server_label": "x", "server_url": "y"},
    ]


def add(a: int, b: int = 2) -> int:
    """Add two numbers."""
    return a + b


def test_functions_references_and_registered_tools_get_their_schema():
    registry = ToolRegistry()
    registry.register(add, name="plus")
    by_function, by_reference, by_name = tools_for_model([add, f"{__name__}:add", "plus"], registry)
    assert (by_function["name"], by_reference["name"], by_name["name"]) == ("add", "add", "plus")
    assert by_function["description"] == "Add two numbers."
    assert by_function["parameters"]["required"] == ["a", "b"]
    assert by_function["parameters"] == by_reference["parameters"] == by_name["parameters"]


def test_what_is_no_tool_at_all_is_named():
    with pytest.raises(AttemptError, match="a tool is int"):
        tools_for_model([5])  # type: ignore[list-item]

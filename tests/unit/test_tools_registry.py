"""Tools by name: from Python, from a plan, and built in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stepchain_tui.core.errors import UsageError
from stepchain_tui.plan.tool_names import known_tools
from stepchain_tui.run.failures import AttemptError
from stepchain_tui.tools import Tool, ToolRegistry, ToolSchemaError, UnknownToolError
from stepchain_tui.tools.registry import BUILT_IN, shared_tools, tool_of_entry


def add(a: int, b: int = 1) -> int:
    """Add two numbers."""
    return a + b


@pytest.fixture
def registry() -> ToolRegistry:
    return ToolRegistry(built_in=False)


def test_a_function_is_registered_found_listed_and_taken_away(registry: ToolRegistry) -> None:
    tool = registry.register(add)
    other = registry.register(add, name="plus", mode="process", timeout=5, fallback=False, description="More.")
    assert "add" in registry
    assert registry.get("add") is tool
    assert registry.get_callable("plus") is add
    assert [each.name for each in registry.list()] == ["add", "plus"]
    assert [each["description"] for each in registry.for_model()] == ["Add two numbers.", "More."]
    assert (other.mode, other.timeout, other.fallback) == ("process", 5, False)
    assert registry.unregister("add") is tool
    assert "add" not in registry
    assert registry.get_callable("add") is None
    assert len(registry) == 1


def test_an_unknown_name_gets_a_suggestion(registry: ToolRegistry) -> None:
    registry.register(add)
    for ask in (registry.get, registry.unregister):
        with pytest.raises(UnknownToolError, match="there is no tool 'ad'") as caught:
            ask("ad")
        assert caught.value.hint == "did you mean 'add'?"
        assert isinstance(caught.value, KeyError)
    assert registry.unknown("zzz").hint == "There are: add."


def test_a_tool_of_a_server_that_nobody_named_is_not_there(registry: ToolRegistry) -> None:
    with pytest.raises(UnknownToolError, match=r"there is no MCP server 'files' for the tool 'files\.read'"):
        registry.get("files.read")


def test_a_name_is_taken_once(registry: ToolRegistry) -> None:
    registry.register(add)
    with pytest.raises(UsageError, match="there is a tool 'add' already"):
        registry.register(add)
    registry.register(add, description="Other.", replace=True)
    assert registry.get("add").description == "Other."


def test_a_function_that_cannot_be_a_tool_is_refused_when_it_is_registered(registry: ToolRegistry) -> None:
    def loose(*rest: Any) -> None: ...

    with pytest.raises(ToolSchemaError, match=r"it takes \*rest"):
        registry.register(loose)
    with pytest.raises(UsageError, match="<lambda> needs a name"):
        registry.register(lambda: None)


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("a b", {}, "tool 'a b': name is no name for a tool"),
        ("a.b", {}, "name is no name for a tool"),
        ("x" * 65, {}, "name is no name for a tool"),
        ("t", {"function": "code.py"}, "tool 't': function is no function"),
        ("t", {"function": 3}, "tool 't': function is no function"),
        ("t", {"mode": "proces"}, "tool 't': mode cannot be 'proces'"),
        ("t", {"mode": "cluster"}, "tool 't': mode cannot be 'cluster'"),
        ("t", {"timeout": 0}, "tool 't': timeout must be a number of seconds over 0"),
        ("t", {"timeout": True}, "timeout must be a number"),
        ("t", {"timeout": float("nan")}, "timeout must be a number"),
        ("t", {"fallback": "no"}, "tool 't': fallback must be true or false"),
    ],
)
def test_a_wrong_field_is_named(name: str, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        Tool(name, **{"function": add, **fields})
    assert isinstance(caught.value, UsageError)
    assert caught.value.hint


def test_a_plan_describes_its_tools_by_reference_or_by_fields(tmp_path: Path) -> None:
    (tmp_path / "code.py").write_text('def look(x: int):\n    """Look."""\n    return x\n')
    entries = {
        "look": "./code.py:look",
        "far": {"function": "./code.py:look", "description": "Look far.", "mode": "process", "timeout": 3},
        "compute": "python_code",
        "join": "os.path:join",
    }
    registry = ToolRegistry.of_plan(entries, tmp_path)
    assert [tool.name for tool in registry] == ["compute", "far", "join", "look", "python_code"]
    look = registry.get_callable("look")
    assert look is not None
    assert look(3) == 3
    assert registry.get("far").for_model()["description"] == "Look far."
    assert (registry.get("far").mode, registry.get("far").timeout) == ("process", 3)
    assert registry.get("compute").function == BUILT_IN["python_code"]
    assert registry.get("look").for_model()["parameters"]["required"] == ["x"]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (3, "tool 't': function is missing"),
        ({}, "tool 't': function must be"),
        ({"function": "./c.py:f", "tiemout": 3}, "tool 't': tiemout is no field of a tool"),
        ({"function": "./c.py:f", "description": 3}, "tool 't': description must be text"),
        ({"function": "./c.py:f", "timeout": "3"}, "tool 't': timeout must be a number"),
    ],
)
def test_a_wrong_entry_of_a_plan_is_told_with_tool_and_field(entry: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        tool_of_entry("t", entry, "/")


def test_a_reference_to_nothing_is_told_when_it_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(AttemptError, match="there is no file"):
        Tool("t", "./none.py:f", folder=tmp_path).load()


@pytest.fixture
def shared() -> Iterator[ToolRegistry]:
    yield shared_tools()
    for name in [tool.name for tool in shared_tools() if tool.name != "python_code"]:
        shared_tools().unregister(name)


def test_what_is_registered_for_plans_is_known_to_their_check(shared: ToolRegistry) -> None:
    assert shared is shared_tools()
    shared.register(add)
    assert "add" in known_tools()
    shared.unregister("add")
    assert "add" not in known_tools()


def test_a_built_in_tool_stays_and_comes_back_when_it_was_replaced(shared: ToolRegistry) -> None:
    with pytest.raises(UsageError, match="the tool 'python_code' is built in and stays"):
        shared.unregister("python_code")
    shared.register(add, name="python_code", replace=True)
    assert shared.get_callable("python_code") is add
    shared.unregister("python_code")
    assert shared.get("python_code").function == BUILT_IN["python_code"]


def test_the_built_in_tool_has_a_schema_for_models() -> None:
    model = ToolRegistry().get("python_code").for_model()
    assert model["name"] == "python_code"
    assert model["strict"] is True
    assert list(model["parameters"]["properties"]) == ["code"]
    assert model["description"]

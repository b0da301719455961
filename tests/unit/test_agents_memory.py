"""What agents remember: messages, copies that share nothing, and hashes that follow the content."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepchain_tui.agents import AgentMemory, Message, ValidationError
from stepchain_tui.agents.turn import prepare_memory
from stepchain_tui.resilience.lru import NoContentKeyError

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
facts = st.dictionaries(st.text(max_size=3), json_values, max_size=3)
messages = st.builds(Message, st.sampled_from(["user", "tool", "anything else"]), json_values, facts)


def memory_of(*contents: Any) -> AgentMemory:
    return AgentMemory([Message("user", content) for content in contents])


@given(st.lists(messages, max_size=4))
def test_a_copy_has_the_same_content_and_the_same_hash(said: list[Message]) -> None:
    memory = AgentMemory(said)
    assert memory.copy() == memory
    assert memory.copy().get_hash() == memory.get_hash()


@given(messages)
def test_a_message_comes_back_from_its_mapping(message: Message) -> None:
    assert Message.from_dict(message.to_dict()).to_dict() == message.to_dict()


CHANGES: dict[str, Callable[[AgentMemory], Any]] = {
    "one more": lambda memory: memory.add_message(Message("user", "more")),
    "one less": lambda memory: memory.messages.pop(),
    "the role": lambda memory: setattr(memory.messages[0], "role", "system"),
    "the content": lambda memory: setattr(memory.messages[0], "content", "b"),
    "the type of the content": lambda memory: setattr(memory.messages[1], "content", ["1"]),
    "metadata": lambda memory: memory.messages[0].metadata.update(key=None),
    "the order": lambda memory: memory.messages.reverse(),
    "deep inside": lambda memory: memory.messages[1].content.append(2),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_any_change_gives_another_hash_and_leaves_the_copied_memory_alone(change: Callable[[AgentMemory], Any]) -> None:
    memory = memory_of("a", [1])
    before = copy.deepcopy(memory.to_list())
    changed = memory.copy()
    change(changed)
    assert changed.get_hash() != memory.get_hash()
    assert memory.to_list() == before


PAIRS = [(1, "1"), (1, True), (1, 1.0), (["a", "b"], ["ab"]), ({"a": 1}, [["a", 1]]), (None, "")]


@pytest.mark.parametrize(("one", "two"), PAIRS)
def test_contents_that_look_alike_have_different_hashes(one: Any, two: Any) -> None:
    assert memory_of(one).get_hash() != memory_of(two).get_hash()


def test_the_order_of_a_mappings_keys_does_not_count() -> None:
    assert memory_of({"a": 1, 2: "b"}).get_hash() == memory_of({2: "b", "a": 1}).get_hash()


def test_content_that_cannot_be_compared_is_told_by_its_type() -> None:
    with pytest.raises(NoContentKeyError, match=r"_thread\.lock"):
        memory_of(threading.Lock()).get_hash()


def test_a_subclass_keeps_its_class_and_its_own_fields_in_a_copy() -> None:
    class Longer(AgentMemory):
        def __init__(self) -> None:
            super().__init__()
            self.notes = ["one"]

    memory = Longer()
    again = memory.copy()
    assert isinstance(again, Longer)
    again.notes.append("two")
    assert memory.notes == ["one"]


# --- what a call adds


def test_who_hands_over_is_told_in_a_system_message() -> None:
    memory = prepare_memory(AgentMemory(), "summarise", {"from_agent": "Planner"})
    assert memory.messages == [Message("system", "Request from Planner: summarise")]


def test_tool_results_are_remembered_in_their_order() -> None:
    results = [
        {"tool_name": "search", "result": {"hits": 2}, "error": None, "execution_time": 0.25},
        {"tool_name": "fetch", "result": None, "error": "gone", "execution_time": 0.5},
        "plain",
    ]
    memory = prepare_memory(AgentMemory(), "x", {"tool_results": results})
    assert memory.messages == [
        Message("tool", '{"hits":2}', {"tool_name": "search"}),
        Message("tool", "Error: gone", {"tool_name": "fetch", "error": "gone"}),
        Message("tool", "plain"),
    ]


def test_how_long_a_tool_took_does_not_change_what_is_remembered() -> None:
    memories = [AgentMemory() for _ in range(2)]
    for memory, seconds in zip(memories, (0.1, 0.2), strict=True):
        memory.add_tool_result({"tool_name": "t", "result": 1, "error": None, "execution_time": seconds})
    assert memories[0].get_hash() == memories[1].get_hash()


def test_the_base_memory_is_never_changed() -> None:
    base = memory_of({"deep": [1]})
    before = base.get_hash()
    prepared = prepare_memory(base, "x", {"from_agent": "A", "tool_results": ["r"]})
    prepared.messages[0].content["deep"].append(2)
    assert base.get_hash() == before
    assert len(prepared) == 3


def test_earlier_turns_are_remembered_as_what_was_asked_and_said() -> None:
    history = [{"request": {"topic": "tea"}, "response": {"content": "about tea", "role": "assistant"}}]
    assert AgentMemory.from_history(history, [Message("system", "be brief")]).messages == [
        Message("system", "be brief"),
        Message("user", '{"topic":"tea"}'),
        Message("assistant", "about tea"),
    ]


# --- what is no message


@pytest.mark.parametrize(
    ("given_value", "told"),
    [
        ({"content": "x"}, r"memory\[1\]\.role: needs a word"),
        ({"role": "user", "txt": "x"}, r"memory\[1\]\.txt: unknown key"),
        ({"role": "user", "metadata": [1]}, r"memory\[1\]\.metadata: is list"),
        ("hello", r"memory\[1\]: is str"),
        (Path("x"), r"memory\[1\]: is PosixPath"),
    ],
)
def test_what_is_no_message_is_told_with_its_place(given_value: Any, told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        AgentMemory([Message("user", "fine"), given_value])


def test_a_message_needs_a_role() -> None:
    with pytest.raises(ValueError, match="role"):
        Message("", "x")

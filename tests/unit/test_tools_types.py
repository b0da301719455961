"""Tool calls as models write them, and results as models read them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from stepchain_tui.core.errors import UsageError
from stepchain_tui.run.failures import AttemptError
from stepchain_tui.tools.types import ToolCall, check_size, cpu_share, mode_hint, result_text


@pytest.mark.parametrize(
    "value",
    [
        ToolCall("c", "f", '{"a": 1}'),
        {"id": "c", "function": {"name": "f", "arguments": '{"a": 1}'}},
        {"call_id": "c", "id": "fc", "name": "f", "arguments": {"a": 1}},
        {"id": "c", "name": "f", "arguments": '{"a": 1}'},
        SimpleNamespace(id="c", function=SimpleNamespace(name="f", arguments='{"a": 1}')),
        SimpleNamespace(call_id="c", id="fc", name="f", arguments='{"a": 1}'),
    ],
)
def test_every_usual_form_of_a_call_is_read(value: Any) -> None:
    call = ToolCall.of(value)
    assert (call.id, call.name, call.parsed_arguments()) == ("c", "f", {"a": 1})


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"id": "c"}, "no name"),
        ({"name": "f"}, "no id"),
        ({"id": 3, "name": "f"}, "no id"),
        (3, "no id"),
        ({}, "no id"),
    ],
)
def test_a_call_without_id_or_name_is_refused(value: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ToolCall.of(value)


@pytest.mark.parametrize("arguments", [None, "", "  ", "{}", {}])
def test_no_arguments_are_no_mistake(arguments: Any) -> None:
    assert ToolCall("c", "f", arguments).parsed_arguments() == {}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("{", "the arguments of f are no JSON"),
        ("[1]", "no JSON object but list"),
        ("3", "no JSON object but int"),
        ("null", "no JSON object but NoneType"),
        ("[" * 100_000, "are no JSON"),
    ],
)
def test_arguments_that_are_no_object_are_told(arguments: str, message: str) -> None:
    with pytest.raises(AttemptError, match=message) as caught:
        ToolCall("c", "f", arguments).parsed_arguments()
    assert caught.value.error_type == "user_error"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (8, "8"),
        ("8", "8"),
        (None, "null"),
        (True, "true"),
        ([1, "é"], '[1, "é"]'),
        ({"a": 1.5}, '{"a": 1.5}'),
        ("", ""),
    ],
)
def test_a_result_is_told_as_text(value: Any, text: str) -> None:
    assert result_text(value) == text


def test_a_result_over_ten_megabytes_is_refused() -> None:
    check_size("x" * 10_000_000, "f")
    with pytest.raises(AttemptError, match="the result of f has 11 MB, more than 10 MB") as caught:
        check_size("x" * 11_000_000, "f")
    assert caught.value.hint == "Write it to a file and return the file's path."


@pytest.mark.parametrize(
    ("mode", "computed", "seconds", "hint"),
    [
        ("thread", 0.9, 1.0, "It computed for 90% of its time: mode process would use another core."),
        ("thread", 0.1, 1.0, ""),
        ("process", 0.01, 1.0, "It waited for 99% of its time: mode thread would cost less."),
        ("process", 0.9, 1.0, ""),
        ("thread", 0.01, 0.01, ""),
        ("inline", None, 1.0, ""),
        ("thread", None, 1.0, ""),
    ],
)
def test_the_mode_that_suits_a_function_is_told_from_how_much_it_computed(
    mode: str, computed: float | None, seconds: float, hint: str
) -> None:
    assert mode_hint(mode, computed, seconds) == hint


def test_the_share_of_computing_is_never_more_than_all() -> None:
    assert cpu_share(1.1, 1.0) == 1.0
    assert cpu_share(0.5, 1.0) == 0.5
    assert cpu_share(0.5, 0.0) is None

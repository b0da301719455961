"""Functions as bytes are made anew when, and only when, something in them may have changed."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import FunctionType
from typing import Any

import dill
import pytest

from stepchain_tui.tools import by_value
from stepchain_tui.tools.by_value import function_bytes

factor = 2
words: list[str] = []


def times(value: int) -> int:
    return value * factor


def root(value: float, power: float = 0.5) -> float:
    return math.pow(times(int(value)), power)


def said() -> list[str]:
    return words


def factorial(value: int) -> int:
    return 1 if value < 2 else value * factorial(value - 1)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What dill was asked for, in order."""
    asked: list[Any] = []
    real = by_value.dilled

    def dilled(content: dict[str, Any]) -> bytes:
        asked.append(content["function"])
        return real(content)

    monkeypatch.setattr(by_value, "dilled", dilled)
    return asked


def fresh(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a copy that no other test has had made into bytes."""
    assert isinstance(function, FunctionType)
    copy = FunctionType(
        function.__code__, function.__globals__, function.__name__, function.__defaults__, function.__closure__
    )
    copy.__module__ = "__main__"
    return copy


def rebuilt(function: Callable[..., Any]) -> Callable[..., Any]:
    return dill.loads(function_bytes(function))["function"]  # type: ignore[no-any-return]


def test_a_function_that_stays_the_same_is_made_into_bytes_once(made: list[Any]) -> None:
    for function in (fresh(times), fresh(root), fresh(lambda value: value)):
        assert len({function_bytes(function) for _ in range(3)}) == 1
    assert len(made) == 3


def test_a_global_that_changed_is_seen(made: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    function = fresh(root)
    assert rebuilt(function)(8) == 4
    monkeypatch.setitem(globals(), "factor", 8)
    assert rebuilt(function)(8) == 8
    monkeypatch.setitem(globals(), "times", lambda value: 9)
    assert rebuilt(function)(8) == 3
    assert len(made) == 3


def test_a_default_that_changed_is_seen(made: list[Any]) -> None:
    function = fresh(root)
    function_bytes(function)
    function.__defaults__ = (2.0,)  # type: ignore[attr-defined]
    assert rebuilt(function)(1) == 4
    assert len(made) == 2


def test_what_a_closure_holds_is_seen_when_it_changed(made: list[Any]) -> None:
    n = 1

    def add(value: int) -> int:
        return value + n

    assert rebuilt(add)(1) == 2
    n = 5
    assert rebuilt(add)(1) == 6
    assert len(made) == 2


def test_code_that_was_replaced_is_seen(made: list[Any]) -> None:
    function = fresh(lambda: 1)
    assert rebuilt(function)() == 1
    function.__code__ = (lambda: 2).__code__
    assert rebuilt(function)() == 2


def test_a_function_with_something_that_may_change_is_made_into_bytes_for_every_call(made: list[Any]) -> None:
    function = fresh(said)
    assert rebuilt(function)() == []
    words.append("later")
    try:
        assert rebuilt(function)() == ["later"]
    finally:
        words.clear()

    class Box:
        size = 1

    sized = fresh(lambda box=Box: box.size)
    assert rebuilt(sized)() == 1
    Box.size = 2
    assert rebuilt(sized)() == 2
    marked = fresh(times)
    marked.note = [1]  # type: ignore[attr-defined]
    function_bytes(marked)
    function_bytes(marked)
    assert len(made) == 6


def test_a_function_that_calls_itself_has_an_end(made: list[Any]) -> None:
    function = fresh(factorial)
    assert rebuilt(function)(4) == 24
    assert rebuilt(function)(5) == 120
    assert len(made) == 1


def test_only_so_many_are_kept() -> None:
    for number in range(by_value._MOST_KEPT + 10):
        function_bytes(fresh(lambda number=number: number))
    assert len(by_value._kept) <= by_value._MOST_KEPT

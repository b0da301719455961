"""The memory cache of direct calls, and the keys it is asked by."""

from __future__ import annotations

import dataclasses
import enum
import subprocess
import sys
import threading
from typing import Any

import pytest

from stepchain_tui.core.clock import FakeClock
from stepchain_tui.core.errors import UsageError
from stepchain_tui.resilience.lru import NoContentKeyError, content_key, make_lru


def test_what_was_used_longest_ago_goes_first() -> None:
    cache = make_lru(2)
    cache["a"], cache["b"] = 1, 2
    assert cache["a"] == 1
    cache["c"] = 3
    assert sorted(cache) == ["a", "c"]


def test_an_entry_is_gone_when_its_time_is_over_however_often_it_is_used() -> None:
    clock = FakeClock()
    cache = make_lru(10, ttl=300, clock=clock)
    cache["a"] = 1
    clock.advance(299)
    assert cache["a"] == 1
    clock.advance(1)
    assert "a" not in cache


@pytest.mark.parametrize("keys", [{"maxsize": 0}, {"ttl": 0}, {"ttl": -1.0}, {"ttl": float("nan")}])
def test_sizes_and_ages_that_cannot_be_meant_are_refused(keys: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        make_lru(**keys)


@dataclasses.dataclass
class Point:
    x: int
    y: int


class Colour(enum.Enum):
    RED = 1


class Plain:
    def __init__(self, value: Any) -> None:
        self.value = value


class Other(Plain):
    pass


SAME = [
    ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
    ({1: "x", "1": "y"}, {"1": "y", 1: "x"}),
    ({3, "a", None}, {None, "a", 3}),
    (Point(1, 2), Point(1, 2)),
    (Plain([1, {"k": b"v"}]), Plain([1, {"k": b"v"}])),
    (Colour.RED, Colour.RED),
]
DIFFERENT = [
    (1, True),
    (1, 1.0),
    (1, "1"),
    (0.0, -0.0),
    (b"a", "a"),
    ([1, [2]], [[1], 2]),
    (["a", "b"], ["ab"]),
    ((1, 2), [1, 2]),
    ({1: "x", "1": "y"}, {1: "y", "1": "x"}),
    ({"a": None}, {}),
    (Point(1, 2), Point(2, 1)),
    (Plain(1), Other(1)),
    (Colour.RED, 1),
    (chr(0xD800), "?"),
]


@pytest.mark.parametrize(
    ("one", "two"), SAME, ids=[f"{place}-{type(one).__name__}" for place, (one, _) in enumerate(SAME)]
)
def test_equal_contents_have_one_key(one: Any, two: Any) -> None:
    assert content_key("agent", one) == content_key("agent", two)


@pytest.mark.parametrize("place", range(len(DIFFERENT)))
def test_different_contents_have_different_keys(place: int) -> None:
    one, two = DIFFERENT[place]
    assert content_key(one) != content_key(two)


@pytest.mark.parametrize(
    "value", [object(), threading.Lock(), len, Point, iter([1])], ids=lambda value: type(value).__name__
)
def test_what_has_no_content_has_no_key(value: Any) -> None:
    with pytest.raises(NoContentKeyError) as raised:
        content_key({"deep": [value]})
    assert raised.value.hint


def test_a_value_within_itself_has_no_key() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(NoContentKeyError, match="within itself"):
        content_key(loop)


def test_a_key_is_the_same_in_every_process() -> None:
    code = "from stepchain_tui.resilience.lru import content_key; print(content_key({'a': {1, 'x', None}}, [2.5]))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == content_key({"a": {1, "x", None}}, [2.5])

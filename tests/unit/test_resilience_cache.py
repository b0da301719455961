"""Cache keys: what they are made of, when a result is too old, and what is said when there is none."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from stepchain_tui.resilience.cache import CacheParts, expired_for, explain_miss

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
PARTS = CacheParts(action="a" * 32, input="b" * 32, code="c" * 32)


def test_each_part_makes_another_key() -> None:
    others = [
        CacheParts("x" * 32, PARTS.input, PARTS.code),
        CacheParts(PARTS.action, "x" * 32, PARTS.code),
        CacheParts(PARTS.action, PARTS.input, "x" * 32),
        CacheParts(PARTS.input, PARTS.action, PARTS.code),
    ]
    assert len({PARTS.key, *(other.key for other in others)}) == 5
    assert CacheParts("a" * 32, "b" * 32, "c" * 32).key == PARTS.key
    assert len(PARTS.key) == 32


def test_parts_do_not_run_into_each_other() -> None:
    assert CacheParts("ab", "c", "").key != CacheParts("a", "bc", "").key


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ("action", "the action changed"),
        ("input", "the input changed"),
        ("code", "the code changed"),
        ("input code", "the input and the code changed"),
        ("action code", "the action and the code changed"),
        ("action input code", "the action, the input and the code changed"),
        ("", "its result is no longer kept"),
    ],
)
def test_a_miss_names_the_parts_that_changed(changed: str, said: str) -> None:
    names = changed.split()
    wanted = CacheParts(
        **{name: "x" if name in names else getattr(PARTS, name) for name in ("action", "input", "code")}
    )
    assert explain_miss(wanted, PARTS) == said


def test_a_miss_without_anything_before_is_the_first_time() -> None:
    assert explain_miss(PARTS, None) == "first time"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.4, "0 s"), (20.9, "20 s"), (60, "1 min"), (7_300, "2 h"), (3 * 86_400 + 5, "3 d")],
)
def test_a_result_that_is_too_old_says_since_when(seconds: float, said: str) -> None:
    assert explain_miss(PARTS, PARTS, expired_for=seconds) == f"expired {said} ago"


def test_a_result_is_fresh_until_its_time_is_over() -> None:
    made = NOW - timedelta(seconds=300)
    assert expired_for(made, None, NOW) is None
    assert expired_for(made, 300.5, NOW) is None
    assert expired_for(made, 300.0, NOW) == 0.0
    assert expired_for(made, 280.0, NOW) == 20.0
    assert expired_for(NOW + timedelta(hours=1), 10.0, NOW) is None

"""What a person can know of tools in one engine process, and which of equal tools is preferred."""

from __future__ import annotations

from dataclasses import dataclass

from stepchain_tui.tools.health import healthier_first


@dataclass(frozen=True)
class _Record:
    name: str
    success_rate: float | None
    mean_seconds: float | None


def _names(*records: _Record) -> list[str]:
    return [record.name for record in healthier_first(records)]


def test_of_equal_tools_the_one_that_succeeds_more_often_is_preferred() -> None:
    assert _names(_Record("a.find", 0.5, 0.1), _Record("b.find", 0.9, 3.0)) == ["b.find", "a.find"]


def test_of_tools_that_succeed_alike_the_faster_is_preferred() -> None:
    assert _names(_Record("a.find", 1.0, 2.0), _Record("b.find", 1.0, 0.5), _Record("c.find", 1.0, None)) == [
        "b.find",
        "a.find",
        "c.find",
    ]


def test_a_tool_that_nobody_tried_comes_after_those_that_work_and_before_those_that_never_did() -> None:
    broken, untried, works = _Record("a.find", 0.0, 0.1), _Record("b.find", None, None), _Record("c.find", 0.1, 9.0)

    assert _names(broken, untried, works) == ["c.find", "b.find", "a.find"]


def test_the_name_decides_where_nothing_is_known() -> None:
    assert _names(_Record("b.find", None, None), _Record("a.find", None, None)) == ["a.find", "b.find"]

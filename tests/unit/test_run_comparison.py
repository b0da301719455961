"""Two runs side by side: what a person who asks "what is different this time?" is told."""

from __future__ import annotations

from typing import Any

import pytest

from stepchain_tui.run import BlobReference, Kept, RunStatus, compare_runs, output_lines
from stepchain_tui.run import events as e
from stepchain_tui.run.comparison import LINES_COMPARED, InputDifference, same_value
from tests.support.engines import Bench, plan_of
from tests.support.world import World
from tests.unit.test_run_why_story import BROKEN, Story


def blob(sha256: str) -> Kept:
    return Kept(blob=BlobReference(sha256=sha256, bytes=99_999, preview="..."))


def test_steps_are_compared_by_status_time_attempts_output_work_and_error() -> None:
    left = Story("a", "b", run_id="one").at(0).begin("a", content_hash="x").at(2).succeed("a", 1)
    left.ran("b", 2, 3, content_hash="same").add(e.RunFinished, status=RunStatus.SUCCEEDED)
    right = Story("a", "b", run_id="two").at(0).begin("a", content_hash="y").at(3).fail("a", BROKEN)
    right.step(e.StepInvalidated, "a", reason="resume").at(4).begin("a", content_hash="y").at(9).fail("a")
    right.ran("b", 9, 10, content_hash="same").add(e.RunFinished, status=RunStatus.FAILED)
    found = compare_runs(left.state, right.state)
    a, b = found.steps
    assert a.left is not None
    assert a.right is not None
    assert (str(a.left.status), str(a.right.status)) == ("succeeded", "failed")
    assert (a.left.seconds, a.right.seconds, a.ratio) == (2, 5, 2.5)
    assert (a.left.attempts, a.right.attempts) == (1, 2)
    assert (a.same_output, a.same_work, a.right.error, a.differs) == (False, False, "it broke", True)
    assert (b.same_work, b.differs) == (True, False)
    assert (found.left.seconds, found.right.seconds, found.ratio) == (3, 10, pytest.approx(10 / 3))
    assert found.lines() == [
        "left   one: succeeded after 3 s",
        "right  two: failed after 10 s (3.3 times as long)",
        "~ a: succeeded -> failed, 2 s -> 5 s (2.5 times as long), attempts 1 -> 2, work and output changed, "
        "error none -> it broke",
        "= b: succeeded, 1 s -> 1 s",
    ]


def test_the_order_is_that_of_the_right_plan_then_what_only_the_left_has() -> None:
    left = Story("gone", "a", "b").ran("gone", 0, 1)
    right = Story("b", "new", "a")
    found = compare_runs(left.state, right.state)
    assert [step.step_id for step in found.steps] == ["b", "new", "a", "gone"]
    assert found.lines()[-1] == "- gone: only left, succeeded after 1 s"
    assert "+ new: only right, pending" in found.lines()
    assert all(step.differs for step in found.steps if step.step_id in ("new", "gone"))


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        (None, None, None),
        (Kept(1), None, False),
        (Kept({"a": 1, "b": 2}), Kept({"b": 2, "a": 1}), True),
        (Kept([1]), Kept([2]), False),
        (Kept(True), Kept(1), False),
        (blob("x"), blob("x"), True),
        (blob("x"), blob("y"), False),
        (blob("x"), Kept(1), False),
    ],
)
def test_outputs_are_compared_by_value_or_by_hash(left: Kept | None, right: Kept | None, same: bool | None) -> None:
    assert same_value(left, right) is same


def test_work_that_is_not_known_on_one_side_is_not_called_changed() -> None:
    found = compare_runs(Story("a").ran("a", 0, 1, content_hash="x").state, Story("a").ran("a", 0, 1).state)
    assert found.steps[0].same_work is None


def test_only_inputs_that_differ_are_told_and_of_secret_ones_only_the_name() -> None:
    left = Story("a", inputs={"same": 1, "n": 1, "old": 2, "key": "hidden"}, secret_inputs=("token",))
    right = Story("a", inputs={"same": 1, "n": True}, secret_inputs=("token", "key"))
    found = compare_runs(left.state, right.state)
    assert found.inputs == (
        InputDifference("n", 1, True),
        InputDifference("key", secret=True),
        InputDifference("old", 2, None),
    )
    told = "\n".join(found.lines()) + str(found.to_json())
    assert "hidden" not in told
    assert "input n: 1 -> true" in told


def test_tokens_of_both_runs_are_told() -> None:
    left, right = Story("a").begin("a"), Story("a").begin("a")
    for story, tokens in ((left, 1_000), (right, None)):
        story.step(e.ModelTurn, "a", attempt=1, model="m", input_tokens=tokens, output_tokens=234)
    lines = compare_runs(left.state, right.state).lines()
    assert "1,234 tokens" in lines[0]
    assert "1 answer not counted" in lines[1]


def test_to_json_holds_both_sides() -> None:
    found: dict[str, Any] = compare_runs(
        Story("a").ran("a", 0, 2).state, Story("a", "b").ran("a", 0, 4).state
    ).to_json()
    assert list(found) == ["left", "right", "ratio", "inputs", "steps"]
    a, b = found["steps"]
    assert (a["id"], a["ratio"], a["same_output"], a["left"]["seconds"]) == ("a", 2, True, 2)
    assert (b["left"], b["right"]["status"], b["right"]["seconds"]) == (None, "pending", None)


def test_a_difference_of_outputs_is_a_unified_diff_of_their_json_and_of_texts_by_lines() -> None:
    told = output_lines({"b": [1, 2], "a": "x"}, {"a": "x", "b": [1, 3]})
    assert told[:2] == ["--- left", "+++ right"]
    assert [line for line in told[3:] if line[0] in "+-"] == ["-    2", "+    3"]
    assert output_lines({"a": 1, "b": 2}, {"b": 2, "a": 1}) == []
    assert [line for line in output_lines("one\ntwo", "one\nthree") if line[0] in "+-"][2:] == ["-two", "+three"]


def test_the_difference_of_huge_outputs_is_cut_and_says_so() -> None:
    told = output_lines(list(range(LINES_COMPARED)), list(range(LINES_COMPARED)))
    assert told == [f"... only the first {LINES_COMPARED:,} lines were compared"]


async def test_two_runs_of_an_engine_differ_in_what_was_made_different() -> None:
    world = World()
    world.will("b", "first", "second")
    plan = plan_of(world.step("a"), world.step("b", "a"), inputs={"n": {"type": "integer"}})
    async with Bench() as bench:
        one = await bench.run(plan, "one", inputs={"n": 1})
        two = await bench.run(plan, "two", inputs={"n": 2})
        found = compare_runs(one.state, two.state)
    assert [(step.step_id, step.same_output, step.same_work) for step in found.steps] == [
        ("a", True, True),
        ("b", False, True),
    ]
    assert found.inputs == (InputDifference("n", 1, 2),)
    assert "b: succeeded" in found.lines()[-1]
    assert "output changed" in found.lines()[-1]

"""How two plans differ."""

import time

import pytest

from stepchain_tui.plan import KeyChange, Plan, Step, compare_plans, text_difference


def plan(*steps, **keys):
    return Plan(steps=[Step(**({"shell": "x"} | step)) for step in steps], **keys)


def test_equal_plans_have_no_difference():
    one = plan({"id": "a"}, {"id": "b", "dependencies": ["a"]}, goal="x")
    found = compare_plans(one, one.model_copy(deep=True))
    assert not found
    assert found.lines() == []
    assert found.dependencies_changed == ()


def test_steps_come_and_go_in_the_order_of_their_plans():
    found = compare_plans(plan({"id": "z"}, {"id": "k"}, {"id": "b"}), plan({"id": "y"}, {"id": "k"}, {"id": "a"}))
    assert found.added == ("y", "a")
    assert found.removed == ("z", "b")
    assert found.changed == ()
    assert found.lines() == ["- z", "- b", "+ y", "+ a"]


def test_changed_keys_are_named_with_dots_and_shown_with_both_values():
    before = plan(
        {"id": "b", "retry": {"max_attempts": 3, "jitter": True}, "timeout": 5},
        {"id": "a", "shell": None, "function": "m:f", "args": {"x": {"y": [1]}}},
        {"id": "same", "retry": {"max_attempts": 2}},
    )
    after = plan(
        {"id": "a", "shell": None, "function": "m:f", "args": {"x": {"y": [1, 2], "z": "é"}}},
        {"id": "b", "shell": "y", "retry": {"max_attempts": 5, "jitter": True}, "env": {"A": "1"}},
        {"id": "same", "retry": {"max_attempts": 2}},
    )
    found = compare_plans(before, after)
    assert found.changed == ("a", "b")
    assert found.changes["b"] == (
        KeyChange("shell", "x", "y"),
        KeyChange("retry.max_attempts", 3, 5),
        KeyChange("timeout", 5.0, None),
        KeyChange("env", None, {"A": "1"}),
    )
    assert found.lines() == [
        "~ a: args.x.y: [1] -> [1, 2]",
        '~ a: args.x.z: nothing -> "é"',
        '~ b: shell: "x" -> "y"',
        "~ b: retry.max_attempts: 3 -> 5",
        "~ b: timeout: 5.0 -> nothing",
        '~ b: env: nothing -> {"A": "1"}',
        "~ plan.steps: in another order",
    ]


def test_another_action_and_a_default_that_is_written_are_changes():
    before = plan({"id": "a"}, {"id": "b"})
    after = plan({"id": "a", "shell": None, "prompt": "p"}, {"id": "b", "on_interrupt": "rerun"})
    assert compare_plans(before, after).lines() == [
        '~ a: prompt: nothing -> "p"',
        '~ a: shell: "x" -> nothing',
        '~ b: on_interrupt: nothing -> "rerun"',
    ]


def test_keys_of_the_plan_itself():
    before = plan({"id": "a"}, goal="x", limits={"api": 2}, inputs={"n": {"type": "integer", "default": 1}})
    after = plan({"id": "a"}, goal="y", limits={"api": 3, "disk": 1}, inputs={"n": {"type": "number", "default": 1}})
    found = compare_plans(before, after)
    assert [change.key for change in found.plan_changes] == ["goal", "inputs.n.type", "limits.api", "limits.disk"]
    assert found.lines()[0] == '~ plan.goal: "x" -> "y"'
    assert found


def test_a_default_of_null_is_not_the_same_as_none():
    with_null = {"id": "a", "shell": None, "approve": "?", "fields": {"f": {"default": None}}}
    without = {"id": "a", "shell": None, "approve": "?", "fields": {"f": {}}}
    assert [change.key for change in compare_plans(plan(without), plan(with_null)).changes["a"]] == ["fields.f.default"]


def test_dependencies_change_also_through_expressions_and_not_through_their_order():
    before = plan(
        {"id": "a"},
        {"id": "b"},
        {"id": "c", "dependencies": ["a", "b"]},
        {"id": "d", "dependencies": ["a"]},
        {"id": "e"},
    )
    after = plan(
        {"id": "a"},
        {"id": "b"},
        {"id": "c", "dependencies": ["b", "a"]},
        {"id": "d", "shell": "{{ steps.a.output }}"},
        {"id": "e", "shell": "{{ steps.b.output }}"},
    )
    found = compare_plans(before, after)
    assert found.changed == ("c", "d", "e")
    assert found.dependencies_changed == ("e",)


def test_text_of_several_lines_is_shown_as_a_difference():
    before = plan({"id": "a", "shell": "one\ntwo\nthree\n"}, {"id": "b", "shell": "one"})
    after = plan({"id": "a", "shell": "one\n2\nthree\n"}, {"id": "b", "shell": "one\n"})
    assert compare_plans(before, after).lines() == [
        "~ a: shell:",
        "    @@ -1,3 +1,3 @@",
        "     one",
        "    -two",
        "    +2",
        "     three",
        "~ b: shell:",
        "    @@ -1 +1 @@",
        "    -one",
        "    \\ No newline at end of text",
        "    +one",
    ]


@pytest.mark.parametrize("length", [10, 58, 59, 60, 100, 10_000])
def test_long_values_are_shortened_around_what_differs(length):
    (line,) = compare_plans(
        plan({"id": "a", "shell": "x" * length + "before" + "y" * length}),
        plan({"id": "a", "shell": "x" * length + "after" + "y" * length}),
    ).lines()
    assert "before" in line
    assert "after" in line
    assert len(line) <= len("~ a: shell:  -> ") + 2 * 60


def test_functions_given_in_python_are_shown_by_name():
    before, after = plan({"id": "a", "shell": None, "function": len}), plan({"id": "a", "shell": None, "function": max})
    assert compare_plans(before, after).lines() == ['~ a: function: "builtins:len" -> "builtins:max"']


def test_texts_are_compared_line_by_line():
    assert text_difference("a\nb\n", "a\nc\n", "one.yaml", "two.yaml") == [
        "--- one.yaml",
        "+++ two.yaml",
        "@@ -1,2 +1,2 @@",
        " a",
        "-b",
        "+c",
    ]
    assert text_difference("a\r\n", "a\r\n", "", "") == []


def test_plans_of_ten_thousand_steps_are_compared_within_a_second():
    def large(changed):
        return plan(
            *(
                {
                    "id": f"s{n}",
                    "shell": f"echo {{{{ steps.s{n - 1}.output }}}} {changed if n % 2 else ''}" if n else "x",
                    "env": {"A": str(n)},
                    "retry": {"max_attempts": 3},
                }
                for n in range(10_000)
            )
        )

    before, after = large("before"), large("after")
    started = time.process_time()
    found = compare_plans(before, after)
    took = time.process_time() - started
    assert len(found.changes) == 5_000
    assert took < 2, f"{took:.2f} s"

"""Steps that are put into the text of a plan and taken out of it."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stepchain_tui.core.errors import UnknownStepError, UsageError
from stepchain_tui.plan import add_step, parse_plan, remove_step, remove_step_key, set_step_key

calm = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])

TEXT = """\
# What this plan is for.
goal: x   # why

steps:
  # The first one.
  - id: a   # called a
    shell: "ls"   # list
    retry: {max_attempts: 2, jitter: true}  # twice

  # The second one.
  - id: b
    prompt: |
      # Say
      this.

    # about c
  - id: c
    plan: ./c.yaml
    args:
      x: 1  # one
# At the end.
limits:
  api: 2
"""


def ids(text, folder):
    return [step.id for step in parse_plan(text, "p.yaml", folder, check_files=False).plan.steps]


@pytest.mark.parametrize(
    ("key", "value", "before", "after"),
    [
        ("breakpoint", "before", "# twice\n", "# twice\n    breakpoint: before\n"),
        ("timeout", 9, "# twice\n", "# twice\n    timeout: 9\n"),
        ("cache", True, "# twice\n", "# twice\n    cache: true\n"),
    ],
)
def test_keys_of_a_step_are_set_in_their_line(key, value, before, after):
    assert set_step_key(TEXT, "a", key, value) == TEXT.replace(before, after)


def test_mappings_of_a_step_are_set_and_removed(tmp_path):
    changed = set_step_key(set_step_key(TEXT, "a", "retry", {"max_attempts": 5}), "c", "args", {"y": [1, "{{ 1 }}"]})
    steps = parse_plan(changed, "p.yaml", tmp_path, check_files=False).plan.steps
    assert steps[0].retry.max_attempts == 5
    assert steps[0].retry.jitter is None
    assert steps[2].args == {"y": [1, "{{ 1 }}"]}
    assert remove_step_key(TEXT, "c", "args") == TEXT.replace("    args:\n      x: 1  # one\n", "")
    assert remove_step_key(TEXT, "a", "retry") == TEXT.replace(
        "    retry: {max_attempts: 2, jitter: true}  # twice\n", ""
    )


def test_a_step_is_put_behind_another_and_nothing_else_changes(tmp_path):
    changed = add_step(TEXT, {"id": "n", "shell": "x", "dependencies": ["a"]}, "a")
    new = "  - id: n\n    shell: x\n    dependencies:\n      - a\n"
    assert changed == TEXT.replace("# twice\n", f"# twice\n\n{new}")
    assert ids(changed, tmp_path) == ["a", "n", "b", "c"]


def test_a_step_without_a_place_is_the_last_one(tmp_path):
    changed = add_step(TEXT, {"id": "n", "prompt": "One.\nTwo.\n"})
    assert changed == TEXT.replace("# one\n", "# one\n\n  - id: n\n    prompt: |\n      One.\n      Two.\n")
    assert add_step("steps:\n- id: a\n  shell: x", {"id": "b", "shell": "y"}) == (
        "steps:\n- id: a\n  shell: x\n- id: b\n  shell: y\n"
    )


def test_steps_that_stand_apart_stay_so():
    text = "steps:\n  - id: a\n    shell: x\n\n  - id: b\n    shell: y\n"
    assert add_step(text, {"id": "c", "shell": "z"}) == f"{text}\n  - id: c\n    shell: z\n"
    assert add_step(text, {"id": "c", "shell": "z"}, "a") == text.replace("x\n", "x\n\n  - id: c\n    shell: z\n")
    assert remove_step(text, "a") == "steps:\n  - id: b\n    shell: y\n"


def test_a_step_that_ends_in_what_looks_like_a_comment_stays_whole(tmp_path):
    text = "steps:\n  - id: a\n    shell: |\n      x\n      # not a comment\n\n  # about b\n  - id: b\n    shell: y\n"
    changed = add_step(text, {"id": "n", "shell": "z"}, "a")
    assert parse_plan(changed, "p", tmp_path).plan.step("a").shell == "x\n# not a comment\n"
    assert ids(changed, tmp_path) == ["a", "n", "b"]
    assert remove_step(text, "a") == "steps:\n  # about b\n  - id: b\n    shell: y\n"


def test_a_step_is_taken_out_with_the_comment_above_it_and_no_other():
    second = TEXT[TEXT.index("  # The second") : TEXT.index("    # about c")]
    assert remove_step(TEXT, "b") == TEXT.replace(second, "")
    assert remove_step(TEXT, "c") == TEXT[: TEXT.index("\n    # about c")] + TEXT[TEXT.index("# At the end") :]
    assert "# The first one." in remove_step(TEXT, "a")
    assert "# The second one." in remove_step(TEXT, "a")


def test_what_was_added_can_be_taken_out_again():
    for after in ("a", "b", "c", None):
        assert remove_step(add_step(TEXT, {"id": "n", "shell": "x"}, after), "n") == TEXT


def test_steps_in_one_line_and_in_json_too(tmp_path):
    line = "steps: [{id: a, shell: x}, {id: b, shell: y}] # both\n"
    assert ids(add_step(line, {"id": "c", "shell": "z"}, "a"), tmp_path) == ["a", "c", "b"]
    assert ids(remove_step(line, "a"), tmp_path) == ["b"]
    assert "# both" in remove_step(line, "a")
    text = json.dumps({"steps": [{"id": "a", "shell": "é"}]}, indent=4, ensure_ascii=False) + "\n"
    changed = add_step(text, {"id": "b", "shell": "y"})
    assert ids(changed, tmp_path) == ["a", "b"]
    assert remove_step(changed, "b") == text
    tabs = json.dumps({"steps": [{"id": "a", "shell": "x"}]}, indent="\t")
    assert remove_step_key(set_step_key(tabs, "a", "timeout", 3), "a", "timeout") == tabs
    assert remove_step(add_step(tabs, {"id": "b", "shell": "y"}), "b") == tabs


def test_the_ends_of_lines_and_a_byte_order_mark_are_kept():
    text = "\ufeff" + TEXT.replace("\n", "\r\n")
    changed = add_step(text, {"id": "n", "shell": "x"}, "a")
    assert changed == "\ufeff" + add_step(TEXT, {"id": "n", "shell": "x"}, "a").replace("\n", "\r\n")
    assert remove_step(changed, "n") == text


def test_what_others_repeat_stays_theirs_when_its_step_goes(tmp_path):
    text = "steps:\n  - id: a\n    shell: x\n    retry: &retry {max_attempts: 2}\n  - id: b\n    shell: y\n"
    text += "    retry: *retry\n"
    steps = parse_plan(remove_step(text, "a"), "p", tmp_path).plan.steps
    assert [(step.id, step.retry.max_attempts) for step in steps] == [("b", 2)]


def test_mistakes_change_nothing_and_say_why():
    with pytest.raises(UnknownStepError, match="no step 'x'"):
        add_step(TEXT, {"id": "n", "shell": "x"}, "x")
    with pytest.raises(UnknownStepError, match="no step 'x'"):
        remove_step(TEXT, "x")
    with pytest.raises(UsageError, match="a step 'a' already"):
        add_step(TEXT, {"id": "a", "shell": "x"})
    with pytest.raises(UsageError, match="no list of steps"):
        add_step("goal: x\n", {"id": "a", "shell": "x"})
    with pytest.raises(UsageError, match="cannot be read"):
        add_step("steps: [", {"id": "a", "shell": "x"})


texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=20)


@calm
@given(
    st.fixed_dictionaries(
        {"id": st.just("n"), "shell": texts | st.just("two\nlines\n") | st.just("# no comment")},
        optional={
            "name": texts,
            "tags": st.lists(texts, max_size=3),
            "env": st.dictionaries(texts, texts, max_size=3),
            "timeout": st.integers(1, 1000),
        },
    ),
    st.sampled_from(["a", "b", "c", None]),
    st.sampled_from(["a", "b", "c", "n"]),
)
def test_any_step_is_read_back_as_it_was_put_in(tmp_path, step, after, gone):
    changed = add_step(TEXT, step, after)
    before = parse_plan(TEXT, "p.yaml", tmp_path, check_files=False).plan
    plan = parse_plan(changed, "p.yaml", tmp_path, check_files=False).plan
    assert plan.step("n").model_dump(exclude_unset=True, mode="json") == step
    assert [other for other in plan.steps if other.id != "n"] == list(before.steps)
    assert [other.id for other in parse_plan(remove_step(changed, gone), "p", tmp_path, False).plan.steps] == [
        other.id for other in plan.steps if other.id != gone
    ]

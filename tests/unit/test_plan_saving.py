"""Saving and editing plan files."""

import json
import os
import stat

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stepchain_tui.core.errors import UnknownStepError, UsageError
from stepchain_tui.plan import (
    PlanFileChangedError,
    load_plan,
    parse_plan,
    remove_step_key,
    save_plan_text,
    set_step_key,
    text_hash,
)

calm = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

TEXT = """\
# What this plan is for.
goal: x   # why

steps:
  # The first one.
  - id: a   # called a
    shell: "ls"   # list

    env:
      A: '1'
  - id: b
    prompt: |
      Say
        this.
    timeout: 5  # short
    tags: [one, two]
"""
COMMENTS = ["# What this plan is for.", "# why", "# The first one.", "# called a", "# list", "# short"]


def read(text, folder):
    return {step.id: step for step in parse_plan(text, "p.yaml", folder).plan.steps}


def test_a_file_is_written_whole_with_its_permissions(tmp_path):
    path = tmp_path / "p.yaml"
    path.write_text(TEXT)
    path.chmod(0o640)
    save_plan_text(path, TEXT.replace("short", "kürzer"), text_hash(TEXT))
    assert path.read_text() == TEXT.replace("short", "kürzer")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert os.listdir(tmp_path) == ["p.yaml"]


def test_a_file_that_somebody_else_changed_is_not_written_over(tmp_path):
    path = tmp_path / "p.yaml"
    path.write_text("theirs")
    with pytest.raises(PlanFileChangedError, match="changed on disk"):
        save_plan_text(path, "mine", text_hash(TEXT))
    assert path.read_text() == "theirs"
    save_plan_text(path, "mine", None)
    assert path.read_text() == "mine"


def test_a_file_that_is_gone_counts_as_changed_and_a_new_one_needs_no_hash(tmp_path):
    path = tmp_path / "p.yaml"
    with pytest.raises(PlanFileChangedError):
        save_plan_text(path, "x", text_hash("x"))
    save_plan_text(path, "x", None)
    assert path.read_text() == "x"


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "real.yaml").write_text("a")
    (tmp_path / "link.yaml").symlink_to("real.yaml")
    save_plan_text(tmp_path / "link.yaml", "b", text_hash("a"))
    assert (tmp_path / "link.yaml").is_symlink()
    assert (tmp_path / "real.yaml").read_text() == "b"


def test_a_folder_that_is_not_there_is_a_clear_error(tmp_path):
    with pytest.raises(UsageError, match="cannot write"):
        save_plan_text(tmp_path / "no" / "p.yaml", "x", None)


def test_what_was_loaded_can_be_saved_again_also_with_a_byte_order_mark(tmp_path):
    path = tmp_path / "p.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + TEXT.replace("\n", "\r\n").encode())
    loaded = load_plan(path)
    save_plan_text(path, set_step_key(loaded.text, "b", "timeout", 9), text_hash(loaded.text))
    assert (
        path.read_bytes() == b"\xef\xbb\xbf" + TEXT.replace("timeout: 5 ", "timeout: 9 ").replace("\n", "\r\n").encode()
    )


def test_setting_a_key_changes_its_line_and_no_other():
    assert set_step_key(TEXT, "b", "timeout", 9) == TEXT.replace("timeout: 5 ", "timeout: 9 ")
    assert set_step_key(TEXT, "b", "timeout", 5) == TEXT


def test_a_new_key_stands_at_the_end_of_its_step(tmp_path):
    changed = set_step_key(TEXT, "b", "retry", {"max_attempts": 3})
    assert changed == TEXT + "    retry:\n      max_attempts: 3\n"
    assert read(changed, tmp_path)["b"].retry.max_attempts == 3


def test_removing_a_key_leaves_the_rest_and_removing_nothing_leaves_all():
    assert remove_step_key(TEXT, "b", "tags") == TEXT.replace("    tags: [one, two]\n", "")
    assert remove_step_key(TEXT, "b", "retry") == TEXT


def test_text_of_several_lines_is_written_as_a_block():
    assert "    prompt: |\n      One.\n      Two.\n" in set_step_key(TEXT, "b", "prompt", "One.\nTwo.\n")


def test_the_way_a_file_is_indented_is_kept():
    text = "steps:\n-   id: a\n    shell: x\n    env:\n        A: b\n"
    assert set_step_key(text, "a", "timeout", 3) == text + "    timeout: 3\n"


def test_the_layout_of_other_steps_is_not_touched():
    first = """\
goal:   wide
steps:
    - id:    a
      shell:  >-
          folded
          text
      env:  { A : b ,C: 'd' }


    # about b
    -  id: b
       shell: "x"
       args : {  }
max_concurrent:    3 # end
"""
    changed = set_step_key(first, "b", "shell", "y")
    above, _, _ = first.partition("    -  id: b")
    assert changed.startswith(above)
    assert changed.endswith("max_concurrent:    3 # end\n")
    assert 'shell: "y"\n' in changed
    assert "env:  { A : b ,C: 'd' }" in set_step_key(first, "b", "timeout", 3)
    assert "goal:   wide" in set_step_key(first, "a", "timeout", 3)
    assert "       args : {  }\nmax_concurrent:    3 # end" in set_step_key(first, "a", "timeout", 3)


def test_a_step_in_one_line_with_others_can_be_edited(tmp_path):
    text = "steps: [{id: a, shell: x}, {id: b, shell: y}] # both\n"
    assert set_step_key(text, "b", "shell", "z") == text.replace("y}", "z}")


def test_json_stays_json(tmp_path):
    text = json.dumps({"steps": [{"id": "a", "shell": "é"}]}, indent=4, ensure_ascii=False) + "\n"
    changed = set_step_key(text, "a", "timeout", 3)
    assert json.loads(changed)["steps"][0]["timeout"] == 3
    assert changed == text.replace('"é"', '"é",\n            "timeout": 3')
    assert remove_step_key(changed, "a", "timeout") == text


def test_an_unknown_step_and_a_broken_text_are_clear_errors():
    with pytest.raises(UnknownStepError, match="no step 'c'"):
        set_step_key(TEXT, "c", "timeout", 3)
    with pytest.raises(UsageError, match="cannot be read"):
        set_step_key("steps: [", "a", "timeout", 3)


texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=20)


@calm
@given(
    st.sampled_from(["a", "b"]),
    st.one_of(
        st.tuples(
            st.sampled_from(["name", "description", "prompt"]), texts | st.just("two\nlines\n") | st.just("{{ 1 }}")
        ),
        st.tuples(st.just("timeout"), st.integers(1, 10**6) | st.floats(0.1, 10**6)),
        st.tuples(st.just("tags"), st.lists(texts, max_size=3)),
        st.tuples(st.just("env"), st.dictionaries(texts, texts, max_size=3)),
        st.tuples(
            st.just("retry"), st.fixed_dictionaries({"max_attempts": st.integers(1, 9), "jitter": st.booleans()})
        ),
    ),
)
def test_an_edit_says_what_was_meant_and_keeps_comments_and_the_other_step(tmp_path_factory, step_id, change):
    key, value = change
    if key == "prompt" or (key == "env" and step_id == "b"):
        step_id = {"prompt": "b", "env": "a"}[key]
    changed = set_step_key(TEXT, step_id, key, value)
    folder = tmp_path_factory.getbasetemp()
    before, after = read(TEXT, folder), read(changed, folder)
    written = getattr(after[step_id], key)
    expected = type(after[step_id]).model_validate(
        {"id": "a", "shell": "x", "prompt": None, key: value} | ({"shell": None} if key == "prompt" else {})
    )
    assert written == getattr(expected, key)
    other = "b" if step_id == "a" else "a"
    assert after[other] == before[other]
    assert [comment for comment in COMMENTS if comment in changed] == COMMENTS

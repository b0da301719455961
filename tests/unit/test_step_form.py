"""The form of one step: which keys have fields, and what filling them in does to the text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stepchain_tui.plan import Step, parse_plan
from stepchain_tui.tui.step_form import fields_of, fill_in

TEXT = """# mine
steps:
  # greets
  - id: hello
    shell: echo hello  # the words
    timeout: 30
    retry: {max_attempts: 2}
    optional: true
  - id: long
    python: |
      a = 1
      a
"""


def step(step_id: str, text: str = TEXT) -> Step:
    return next(step for step in parse_plan(text, "plan.yaml", Path()).plan.steps if step.id == step_id)


def filled(given: dict[str, Any]) -> str:
    _, values = fields_of(step("hello"))
    return fill_in(TEXT, step("hello"), {**values, **given})


def test_keys_that_fit_in_a_line_have_fields_of_their_types() -> None:
    specs, values = fields_of(step("hello"))
    assert values == {"shell": "echo hello", "timeout": 30, "optional": True}
    assert [str(specs[key].type) for key in ("shell", "timeout", "optional", "priority", "on_failure")] == [
        "text", "number", "boolean", "integer", "choice",
    ]  # fmt: skip
    assert "python" not in fields_of(step("long"))[0]
    assert "id" not in specs


def test_only_what_was_changed_is_changed_in_the_text() -> None:
    assert filled({}) == TEXT
    assert filled({"timeout": 45.0}) == TEXT.replace("timeout: 30", "timeout: 45")
    assert "# the words" in filled({"when": "{{ 1 < 2 }}"})
    assert step("hello", filled({"when": "{{ 1 < 2 }}"})).when == "{{ 1 < 2 }}"
    assert step("hello", filled({"on_failure": "continue"})).on_failure == "continue"


def test_an_empty_field_leaves_its_key_out() -> None:
    assert filled({"timeout": None}) == TEXT.replace("    timeout: 30\n", "")

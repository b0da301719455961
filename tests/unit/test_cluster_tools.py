"""Where `mode: cluster` may be written for a tool: on the step that calls it."""

from __future__ import annotations

from pathlib import Path

import pytest

from stepchain_tui.core.errors import PlanError
from stepchain_tui.plan import MODES, ActionKind, Mode, load_plan
from stepchain_tui.tools.registry import TOOL_MODES

PLAN = """
goal: Call a tool elsewhere
tools: {double: {function: "./code.py:double", mode: ENTRY}}
steps:
  - {id: a, tool: double, mode: STEP}
"""


def load(folder: Path, *, entry: str, step: str) -> None:
    (folder / "code.py").write_text("def double():\n    return 2\n")
    file = folder / "plan.yaml"
    file.write_text(PLAN.replace("ENTRY", entry).replace("STEP", step))
    load_plan(file)


def test_a_tool_with_mode_cluster_is_a_mistake_that_says_where_it_belongs(tmp_path: Path) -> None:
    with pytest.raises(PlanError) as caught:
        load(tmp_path, entry="cluster", step="thread")
    assert ":3:" in str(caught.value)
    assert "'mode: cluster' is for steps: write it on the steps that call 'double'" in str(caught.value)


def test_the_step_may_have_it_and_the_tool_any_mode_that_it_can_run_in(tmp_path: Path) -> None:
    for mode in TOOL_MODES:
        load(tmp_path, entry=mode, step="cluster")
    assert {*TOOL_MODES, Mode.CLUSTER} == set(MODES[ActionKind.TOOL])

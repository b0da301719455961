"""The page about clusters: its plans are plans, and its numbers are those of the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from stepchain_tui.plan import load_plan
from stepchain_tui.tools import wire
from stepchain_tui.tools.cluster.client import IDLE_SECONDS
from stepchain_tui.tools.cluster.clusters import Clusters

PAGE = (Path(__file__).parents[2] / "docs" / "cluster.md").read_text(encoding="utf-8")
PLANS = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("text", PLANS, ids=["whole", "a step"])
def test_each_plan_of_the_page_is_valid(text: str, tmp_path: Path) -> None:
    whole = text if text.startswith("goal:") else f"goal: g\nsteps:\n{text}"
    (tmp_path / "parse.py").write_text("def parse(name):\n    return name\n")
    (tmp_path / "plan.yaml").write_text(whole)
    plan = load_plan(tmp_path / "plan.yaml").plan
    assert all(str(step.mode) == "cluster" for step in plan.steps)


def test_the_numbers_of_the_page_are_those_of_the_code() -> None:
    assert f"at most {wire.MAX_REPLY / 1e6:.0f} MB" in PAGE
    assert IDLE_SECONDS == 0.5
    assert "half a second later" in PAGE
    assert Clusters.__init__.__defaults__ == (60.0,)
    assert "no worker for a minute" in PAGE

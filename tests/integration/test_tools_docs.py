"""The page about tools: its examples run, and its plan is one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from stepchain_tui.plan import load_plan
from stepchain_tui.tools.executor import Executor
from stepchain_tui.tools.registry import shared_tools
from tests.support.engines import Bench

PAGE = (Path(__file__).parents[2] / "docs" / "tools.md").read_text()
CODE = """
def look(words):
    return [word.upper() for word in words]

def rank(words):
    return sorted(words)
"""


def test_the_examples_in_python_run() -> None:
    names: dict[str, object] = {}
    try:
        for example in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
            exec(example, names)
    finally:
        if "look" in shared_tools():
            shared_tools().unregister("look")
    assert names["results"] == {"call_1": "8"}
    names["executor"].close()  # type: ignore[attr-defined]


async def test_the_plan_runs(tmp_path: Path) -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "code.py").write_text(CODE)
    (tmp_path / "plan.yaml").write_text("inputs: {word: {type: text}}\n" + example)
    plan = load_plan(tmp_path / "plan.yaml").plan
    async with Bench(folder=tmp_path) as bench:
        run = await bench.run(plan, inputs={"word": "hello"})
    assert run.outputs["find"] == ["HELLO"]
    assert run.outputs["sum"]["result"] == 45


@pytest.mark.parametrize("name", ["execute_detailed", "aexecute", "execute_tool_calls", "set_execution_mode", "close"])
def test_what_the_page_names_is_there(name: str) -> None:
    assert name in PAGE
    assert callable(getattr(Executor, name))

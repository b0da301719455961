"""The page on executors: its examples run, and it names what there is."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

from stepchain_tui.executors import executor_factory, kinds_with_executors
from stepchain_tui.executors.base import BaseExecutor

PAGE = (Path(__file__).parents[2] / "docs" / "executors.md").read_text(encoding="utf-8")


async def test_the_examples_run_one_after_the_other() -> None:
    names: dict[str, Any] = {}
    examples = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    assert len(examples) >= 4
    for example in examples:
        code = compile(example, "docs/executors.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        running = eval(code, names)
        if inspect.isawaitable(running):
            await running


@pytest.mark.parametrize("kind", kinds_with_executors())
def test_every_kind_is_told_with_its_types_its_base_class_and_its_hook(kind: str) -> None:
    factory = executor_factory(kind)
    types, own = PAGE.split("## The types for functions")
    row = next(line for line in types.splitlines() if line.startswith("|") and f"`{kind}`" in line.split("|")[1])
    assert [name for name in factory.list_executor_types() if f"`{name}`" not in row] == ["default"]
    base = next(
        each
        for each in factory.get_executor_class("standard").__mro__
        if each.__name__.startswith("Base") and each is not BaseExecutor
    )
    hook = next(name for name in vars(base) if name.startswith("_execute_"))
    row = next(line for line in own.splitlines() if line.startswith(f"| `{kind}` |"))
    assert f"`{base.__name__}`" in row
    assert f"`{hook}(args, ctx, timeout)`" in row

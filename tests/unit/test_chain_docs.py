"""The page about chains says what is so: its examples run, one after the other, and give what they say."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

from stepchain_tui.chain import ExecutionStatus

PAGE = (Path(__file__).parents[2] / "docs" / "chains.md").read_text(encoding="utf-8")


async def test_the_examples_run_as_they_are_printed() -> None:
    names: dict[str, Any] = {}
    for example in re.findall(r"```python\n(.*?)```", PAGE, re.S):
        code = compile(example, "docs/chains.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        running = eval(code, names)
        if running is not None:
            await running

    state = names["state"]
    assert state.status is ExecutionStatus.SUCCESS
    assert state.results[3].output == "a summary of the text of https://example.com/1"
    assert names["discovery"].success_rate("search") == 1.0
    assert names["discovery"].rank(["a.search", "b.search"]) == ["a.search", "b.search"]
    assert [tool["name"] for tool in names["tools"]] == ["python_code"]


def test_the_page_has_every_status_and_every_public_name() -> None:
    import stepchain_tui.chain as room

    for name in (*(status.name for status in ExecutionStatus), *room.__all__):
        assert re.search(rf"\b{name}\b", PAGE), name

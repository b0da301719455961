"""What the state machine of `test_engine_machine` found, each in as few steps as show it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stepchain_tui.core.values import encode_json
from tests.support.engines import Bench, plan_of
from tests.support.world import World

ASK = {"approve": "go?"}


def inner(folder: Path, *steps: dict[str, Any], **keys: Any) -> str:
    """Write a sub-plan and return what a step calls it."""
    (folder / "inner.json").write_bytes(encode_json({"goal": "inner", "steps": list(steps), **keys}))
    return "./inner.json"


async def test_a_map_of_plans_that_wait_for_an_answer_is_called_off(tmp_path: Path) -> None:
    plan = inner(tmp_path, {"id": "ask", **ASK}, World().step("b"))
    async with Bench(folder=tmp_path) as bench:
        run = await bench.start(plan_of({"id": "outer", "plan": plan, "for_each": [0]}, max_concurrent=1))
        await run.until_status("outer[0]/ask", "waiting")
        answer = await run.tell("cancel")
        assert answer["ok"], answer
        assert await run.end() == "cancelled"
        assert run.statuses["outer"] == "cancelled"
        await run.check()

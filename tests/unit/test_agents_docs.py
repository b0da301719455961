"""The page on agents: its script and its plan run as printed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from stepchain_tui.plan import load_plan
from tests.support.engines import Bench

PAGE = Path(__file__).parents[2] / "docs" / "agents.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def test_the_script_runs_as_printed() -> None:
    script = blocks("python")[1]
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert (told.stdout, told.stderr) == ("('hello Ada, message 3', 3)\n", "")


async def test_the_plan_runs_with_the_agents_of_the_page(tmp_path: Path) -> None:
    (tmp_path / "team.py").write_text(blocks("python")[0])
    (tmp_path / "plan.yaml").write_text(blocks("yaml")[0])
    async with Bench(folder=tmp_path) as bench:
        run = await bench.run(load_plan(tmp_path / "plan.yaml").plan)
        assert run.outputs["write"] == {
            "content": "about Tea in three paragraphs",
            "heard": ["Request from planner: {'topic': 'Tea in three paragraphs'}"],
            "from": "planner",
        }


async def test_the_agents_that_the_page_describes_hand_over_and_wait_for_a_person(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text("def invoices_of(customer: str) -> list[int]:\n    return [311, 312]\n")
    (tmp_path / "plan.yaml").write_text(blocks("yaml")[1])
    async with Bench(folder=tmp_path) as bench:
        run = await bench.start(load_plan(tmp_path / "plan.yaml").plan)
        await run.until_status("answer", "waiting")
        assert (await run.tell("approve", step="answer"))["ok"]
        await run.end()
        assert run.outputs["answer"] == {"response": "Yes, 311 and 312 are the same order.", "agent": "invoices"}

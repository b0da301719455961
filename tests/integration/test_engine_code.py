"""Rule 11: mend `parse.py`, run the step again, and the new code runs, in every mode."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stepchain_tui.plan import load_plan
from tests.support.engines import Bench, plan_of

MODES = ["inline", "thread", "process"]


def write(folder: Path, body: str, name: str = "parse.py") -> None:
    (folder / name).write_text(f"def parse(n=0):\n    {body}\n")


def step(mode: str, **keys: Any) -> dict[str, Any]:
    return {"id": "parse", "function": "./parse.py:parse", "mode": mode, **keys}


@pytest.mark.parametrize("mode", MODES)
async def test_a_mended_function_runs_with_its_new_code_on_resume(mode: str, tmp_path: Path) -> None:
    async with Bench(folder=tmp_path) as bench:
        write(tmp_path, "raise ValueError('old code')")
        run = await bench.run(plan_of(step(mode), {"id": "end", "shell": "true", "dependencies": ["parse"]}), "r")
        assert run.state.steps["parse"].error.message == "old code"
        write(tmp_path, "return 'new code'")
        run = await bench.resume("r")
        assert (run.state.status, run.outputs["parse"]) == ("succeeded", "new code")
        hashes = [attempt.content_hash for attempt in run.state.steps["parse"].attempts.values()]
        assert len(set(hashes)) == 2


@pytest.mark.parametrize("mode", MODES)
async def test_each_rerun_takes_the_code_as_it_is_now(mode: str, tmp_path: Path) -> None:
    async with Bench(folder=tmp_path) as bench:
        write(tmp_path, "return 0")
        run = await bench.run(plan_of(step(mode)), "r")
        for n in range(1, 4):
            write(tmp_path, f"return {n}")
            run = await bench.rerun("r", "parse")
            assert run.outputs["parse"] == n
        assert [attempt.output.value for attempt in run.state.steps["parse"].attempts.values()] == [0, 1, 2, 3]


@pytest.mark.parametrize("mode", MODES)
async def test_a_helper_beside_the_function_is_looked_at_too(mode: str, tmp_path: Path) -> None:
    (tmp_path / "engine_helper_of_test.py").write_text("WORD = 'old'\n")
    (tmp_path / "parse.py").write_text("import engine_helper_of_test as h\ndef parse():\n    return h.WORD\n")
    async with Bench(folder=tmp_path) as bench:
        run = await bench.run(plan_of(step(mode)), "r")
        assert run.outputs["parse"] == "old"
        (tmp_path / "engine_helper_of_test.py").write_text("WORD = 'mended'\n")
        run = await bench.rerun("r", "parse")
        assert run.outputs["parse"] == "mended"


@pytest.mark.parametrize("mode", MODES)
async def test_a_function_whose_file_is_gone_fails_as_the_users_error_and_comes_back_with_it(
    mode: str, tmp_path: Path
) -> None:
    async with Bench(folder=tmp_path) as bench:
        write(tmp_path, "return 1")
        await bench.run(plan_of(step(mode)), "r")
        (tmp_path / "parse.py").unlink()
        run = await bench.rerun("r", "parse")
        error = run.state.steps["parse"].error
        assert (run.state.status, error.error_type) == ("failed", "user_error")
        assert "parse.py" in error.message
        write(tmp_path, "return 2")
        assert (await bench.resume("r")).outputs["parse"] == 2


@pytest.mark.parametrize("mode", MODES)
async def test_code_with_a_mistake_in_it_is_the_users_error_with_its_line(mode: str, tmp_path: Path) -> None:
    async with Bench(folder=tmp_path) as bench:
        write(tmp_path, "return 1")
        await bench.run(plan_of(step(mode, retry={"max_attempts": 3})), "r")
        write(tmp_path, "return (")
        run = await bench.rerun("r", "parse")
        error = run.state.steps["parse"].error
        assert (error.error_type, run.state.steps["parse"].attempt) == ("user_error", 2)
        assert "parse.py" in f"{error.message}{error.traceback}"


async def test_a_changed_step_of_a_plan_file_is_stale_until_it_is_run_again(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text("steps:\n  - id: a\n    shell: echo one\n  - id: b\n    shell: echo {{ steps.a.output.stdout }}\n")
    async with Bench(folder=tmp_path) as bench:
        await bench.run(load_plan(path).plan, "r")
        path.write_text(path.read_text().replace("echo one", "echo two"))
        run = await bench.run(load_plan(path).plan, "r")
        assert [step.marks for step in run.state.steps.values()] == [{"stale"}, {"stale"}]
        run = await bench.rerun("r", "a", downstream=True)
        assert run.outputs["b"]["stdout"] == "two\n"
        assert [step.marks for step in run.state.steps.values()] == [set(), set()]

"""Files and records of tools as an engine makes them: over retries, resumes, forks, the cache and deleting."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from stepchain_tui.executors.testing import use_executor
from stepchain_tui.executors.tool import BaseToolExecutor, ToolExecutorFactory
from stepchain_tui.run.failures import AttemptError, Failure
from stepchain_tui.run.status import ErrorType
from stepchain_tui.run.values import Kept
from stepchain_tui.store import SQLiteStore
from tests.support.engines import Bench, Watched, plan_of


class Painter(BaseToolExecutor):
    """A tool that returns an image for each word, and first fails for a word as often as that is in `failures`."""

    failures: ClassVar[list[str]] = []

    async def _execute_tool(self, args: dict[str, Any], ctx: Any, timeout: float | None) -> Any:
        call = {"call_id": "c", "tool_name": "paint", "arguments": args}
        ctx.ports.tool_started(**call)
        word, error = args["word"], None
        image = ctx.ports.keep_file(f"{word} {self.failures.count(word)}".encode(), suffix=".png")
        if word in self.failures:
            self.failures.remove(word)
            error = AttemptError("not now", error_type=ErrorType.SERVER_ERROR)
        ctx.ports.tool_finished(**call, execution_time=2.0, error=error and Failure.of(error, error.error_type))
        if error is not None:
            raise error
        return image


@pytest.fixture(autouse=True)
def failures() -> Iterator[list[str]]:
    """Return what the next calls fail with."""
    Painter.failures = []
    with use_executor(ToolExecutorFactory, "standard", Painter):
        yield Painter.failures


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SQLiteStore]:
    one = SQLiteStore(tmp_path / "runs.db")
    await one.open()
    yield one
    await one.close()


def paint(step_id: str, word: str, *after: str, **keys: Any) -> dict[str, Any]:
    return {"id": step_id, "tool": "python_code", "args": {"word": word}, "dependencies": list(after), **keys}


def output_of(run: Watched, step_id: str) -> Kept:
    output = run.state.steps[step_id].output
    assert output is not None
    return output


async def counted(store: SQLiteStore) -> tuple[int, int, int]:
    (record,) = await store.read_tools()
    return record.calls, record.succeeded, record.failed


async def content(store: SQLiteStore, run: Watched, step_id: str) -> list[bytes]:
    return [await store.load_file(reference) for reference in output_of(run, step_id).files]


async def test_a_result_has_the_files_of_the_attempt_that_made_it(store: SQLiteStore, failures: list[str]) -> None:
    failures.append("tree")
    async with Bench(store) as bench:
        run = await bench.run(plan_of(paint("a", "tree", retry={"max_attempts": 2})), "r")
        assert run.statuses == {"a": "succeeded"}
        assert await content(store, run, "a") == [b"tree 0"], "not what the attempt before it kept"
        path = Path(run.outputs["a"]["file"])
        assert (path.suffix, path.read_bytes()) == (".png", b"tree 0")
        assert await counted(store) == (2, 1, 1)


async def test_what_is_resumed_or_forked_refers_to_the_files_and_calls_nothing_again(
    store: SQLiteStore, failures: list[str]
) -> None:
    async with Bench(store) as bench:
        failures.append("lake")
        run = await bench.run(plan_of(paint("a", "tree"), paint("b", "lake", "a", retry={"max_attempts": 1})), "r")
        assert run.statuses == {"a": "succeeded", "b": "failed"}
        assert await counted(store) == (2, 1, 1)
        resumed = await bench.resume("r")
        assert resumed.statuses == {"a": "succeeded", "b": "succeeded"}
        assert await counted(store) == (3, 2, 1)
        forked = Watched(bench, await bench.engine.fork("r", "b", new_run_id="child"))
        await forked.end()
        assert output_of(forked, "a").files == output_of(run, "a").files
        assert await counted(store) == (4, 3, 1)
    await store.open()
    assert await store.integrity_check(full=True) == []
    await store.delete_run("r")
    assert await content(store, forked, "a") == [b"tree 0"]
    assert await store.integrity_check(full=True) == []


async def test_a_cached_result_brings_its_files(store: SQLiteStore) -> None:
    plan = plan_of(paint("a", "tree", cache=True))
    async with Bench(store) as bench:
        first = await bench.run(plan, "first")
        await store.delete_run("first")
        second = await bench.run(plan, "second")
        assert "cached" in {str(mark) for mark in second.state.steps["a"].marks}
        assert output_of(second, "a") == output_of(first, "a")
        assert await content(store, second, "a") == [b"tree 0"]
        assert await counted(store) == (1, 1, 0)
        assert await store.integrity_check(full=True) == []


async def test_each_item_of_a_map_has_its_own_files(store: SQLiteStore) -> None:
    async with Bench(store) as bench:
        step = paint("a", "{{ item }}", for_each="{{ ['tree', 'lake', 'tree'] }}")
        run = await bench.run(plan_of(step), "r")
        items = run.state.steps["a"].items
        assert items is not None
        kept = [item.output for item in items]
        assert [[await store.load_file(file) for file in output.files] for output in kept if output is not None] == [
            [b"tree 0"],
            [b"lake 0"],
            [b"tree 0"],
        ]
        assert await counted(store) == (3, 3, 0)
    await store.open()
    assert await store.integrity_check(full=True) == []
    await store.delete_run("r")
    assert store.folder is not None
    assert [path for path in store.folder.rglob("*") if path.is_file()] == []

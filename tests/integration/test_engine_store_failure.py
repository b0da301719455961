"""A store that fails in the middle of a run: it is said, the work stops, and nothing that was reported is lost."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stepchain_tui.core.errors import StoreError
from stepchain_tui.run import Event
from stepchain_tui.store import Batch, SQLiteStore
from tests.support.engines import Bench, Watched, plan_of, shell
from tests.support.world import World


class FullStore(SQLiteStore):
    """A store whose disk becomes full when it is told to."""

    full = False

    def commit(self, batch: Batch, done: Callable[[BaseException | None], None] | None = None) -> None:
        """Refuse every batch once the disk is full."""
        if self.full and done is not None:
            done(StoreError("the disk is full", hint="Free some room."))
            return
        super().commit(batch, done)


@pytest.mark.parametrize("durability", ["process", "power"])
async def test_a_full_disk_ends_the_run_with_a_hint_and_a_resume_goes_on(durability: Any, tmp_path: Path) -> None:
    world = World()
    gate = world.gate("b")
    store = FullStore(tmp_path / "runs.db", durability=durability)
    heard: list[Event] = []
    async with Bench(store, tmp_path) as bench:
        steps = [
            world.step("a"),
            world.step("b", "a"),
            shell("sh", "echo $$ > self; sleep 300", "a"),
            world.step("c", "b"),
        ]
        run = await bench.start(plan_of(*steps), "r")
        run.handle.subscribe(heard.extend)
        await world.called("b")
        async with asyncio.timeout(10):
            while not (tmp_path / "self").exists():
                await asyncio.sleep(0.01)
        store.full = True
        gate.set()
        with pytest.raises(StoreError) as caught:
            await run.end()
        assert caught.value.hint == "Free some room."
        assert not run.handle.live
    assert world.running == []
    pid = int((tmp_path / "self").read_text())
    assert not Path(f"/proc/{pid}").exists()
    again = SQLiteStore(tmp_path / "runs.db")
    await again.open()
    stored = await again.read_events("r")
    assert stored[: len(heard)][-1].seq >= heard[-1].seq or heard[-1] in stored
    assert all(event in stored for event in heard)
    state = await again.load_state("r")
    assert (state.steps["a"].status, state.steps["b"].status) == ("succeeded", "running")
    await again.close()
    world.will("b", "ok")
    async with Bench(SQLiteStore(tmp_path / "runs.db"), tmp_path) as bench:
        handle = await bench.engine.resume("r")
        resumed = Watched(bench, handle)
        await resumed.until_status("c", "succeeded")
        assert world.calls == ["a", "b", "b", "c"]
        await resumed.tell("cancel")
        assert await resumed.end() == "cancelled"
        await resumed.check()


async def test_a_real_database_that_refuses_to_grow_is_such_a_failure(tmp_path: Path) -> None:
    world = World()
    store = SQLiteStore(tmp_path / "runs.db")
    async with Bench(store, tmp_path) as bench:
        gate = world.gate("a")
        run = await bench.start(plan_of(world.step("a"), world.step("b", "a")), "r")
        await world.called("a")

        def shrink(connection: sqlite3.Connection) -> None:
            pages = connection.execute("PRAGMA page_count").fetchone()[0]
            connection.execute(f"PRAGMA max_page_count = {pages}")

        await store.write(shrink)
        world.will("b", "y" * 60_000)
        gate.value = "x" * 60_000  # type: ignore[attr-defined]
        gate.set()
        with pytest.raises(StoreError) as caught:
            await run.end()
        assert "full" in str(caught.value)
        assert caught.value.hint
    async with Bench(SQLiteStore(tmp_path / "runs.db"), tmp_path) as bench:
        world.will("a", "ok")
        again = await bench.resume("r")
        assert again.state.status == "succeeded"
        await again.check()


async def test_a_failing_store_fails_every_run_of_the_engine_and_no_waiter_hangs(tmp_path: Path) -> None:
    world = World()
    world.gate("a", "b")
    store = FullStore(tmp_path / "runs.db")
    async with Bench(store, tmp_path) as bench:
        runs = [await bench.start(plan_of(world.step(name))) for name in "ab"]
        await world.called("a", "b")
        store.full = True
        answer = asyncio.create_task(runs[0].tell("pause"))
        for run in runs:
            with pytest.raises(StoreError):
                await run.end()
        with pytest.raises(StoreError):
            await answer
        with pytest.raises(StoreError):
            await bench.start(plan_of(world.step("c")))
    assert world.running == []

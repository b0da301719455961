"""The engine in a process of its own: it outlives the app if it is told to, and its death loses nothing."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest
from tui_desk import Desk, Person

from stepchain_tui.core.errors import StoreError
from stepchain_tui.tui import host as host_module
from stepchain_tui.tui import run_app
from stepchain_tui.tui.host import ChildHost, HostError
from stepchain_tui.tui.screens.dialogs import Choice

ROOT = Path(__file__).parents[2]


def gated(folder: Path) -> str:
    return (
        "steps:\n  - {id: first, shell: 'echo one'}\n"
        f"  - {{id: gate, shell: 'while [ ! -e {folder}/go ]; do sleep 0.02; done', dependencies: [first]}}\n"
        "  - {id: last, shell: 'echo last', dependencies: [gate]}\n"
    )


@pytest.fixture(autouse=True)
def _no_engine_is_left() -> Iterator[None]:
    yield
    for process in host_module._kept:
        if process.poll() is None:
            process.terminate()
        process.wait()
    host_module._kept.clear()


def child(person: Person) -> ChildHost:
    assert isinstance(person.app.host, ChildHost)
    return person.app.host


async def test_a_run_goes_on_in_a_process_of_its_own_session(desk: Desk) -> None:
    async with desk.app(plan=desk.plan(gated(desk.folder)), in_process=False) as person:
        await person.press("s")
        await person.step_is("gate", "running")
        pid = child(person).pid
        assert pid != os.getpid()
        assert os.getsid(pid) == pid
        assert person.session.view is not None
        assert person.session.view.owner_pid == pid
        (desk.folder / "go").touch()
        await person.run_is("succeeded")
    assert not psutil.pid_exists(pid)


async def test_the_engine_is_started_anew_when_it_dies_and_its_run_goes_on(desk: Desk) -> None:
    async with desk.app(plan=desk.plan(gated(desk.folder)), in_process=False) as person:
        await person.press("s")
        await person.step_is("gate", "running")
        pid = child(person).pid
        os.kill(pid, signal.SIGKILL)
        await person.run_is("interrupted")
        await person.until(lambda: "killed by signal 9" in person.toasts)
        (desk.folder / "go").touch()
        await person.press("p")
        await person.sees("Resume the run?", "gate: attempt 1 began at ", "never reported", "run 2 · reuse 1")
        await person.press("y")
        await person.run_is("succeeded")
        await person.sees("ran 2: gate and last · reused 1")
        assert child(person).pid not in (0, pid)
        assert person.session.steps["first"].attempt == 1


@pytest.mark.parametrize(("key", "status"), [("p", "paused"), ("c", "cancelled")])
async def test_quitting_asks_what_becomes_of_live_runs(desk: Desk, key: str, status: str) -> None:
    async with desk.app(plan=desk.plan(gated(desk.folder)), in_process=False) as person:
        await person.press("s")
        await person.step_is("gate", "running")
        run_id = person.session.run_id
        await person.press("ctrl+q")
        await person.sees("Quit?", "1 run is going on", run_id, "keep running", "pause", "cancel")
        await person.press("escape")
        assert not person.app._exit
        await person.press("ctrl+q")
        await person.until(lambda: isinstance(person.app.screen, Choice))
        await person.pilot.press(key)
        await person.until(lambda: person.app._exit)
        assert person.app.return_code == 0
    async with desk.store() as store:
        assert (await store.get_run(run_id)).shown_status == status


async def test_a_run_that_is_kept_goes_on_without_the_app_and_is_found_again(desk: Desk) -> None:
    async with desk.app(plan=desk.plan(gated(desk.folder)), in_process=False) as person:
        await person.press("s")
        await person.step_is("gate", "running")
        run_id = person.session.run_id
        await person.press("ctrl+q")
        await person.sees("keep running")
        await person.pilot.press("k")
        await person.until(lambda: person.app._exit)
    async with desk.app(run_id=run_id, in_process=False) as person:
        await person.run_is("running")
        assert person.session.view is not None
        assert person.session.view.live
        await person.step_is("gate", "running")
        (desk.folder / "go").touch()
        await person.run_is("succeeded")
    await asyncio.to_thread(host_module._kept[0].wait, 10)


async def test_without_live_runs_quitting_asks_nothing(desk: Desk) -> None:
    async with desk.app(plan=desk.plan(gated(desk.folder)), in_process=False) as person:
        await person.press("ctrl+q")
        await person.until(lambda: person.app._exit)
        assert person.app.return_code == 0


async def test_quitting_leaves_an_open_menu_first(desk: Desk) -> None:
    async with desk.app(plan=desk.plan(gated(desk.folder)), in_process=False) as person:
        await person.press("question_mark")
        await person.until(lambda: person.app.is_asking)
        await person.pilot.press("ctrl+q")
        await person.until(lambda: person.app._exit)
        assert person.app.return_code == 0


@asynccontextmanager
async def run_elsewhere(desk: Desk) -> AsyncIterator[tuple[subprocess.Popen[bytes], str]]:
    """Another process that carries a run out, and that run's id."""
    plan = desk.plan(gated(desk.folder))
    other = subprocess.Popen(
        [sys.executable, "-c", _RUN_ELSEWHERE, str(desk.store_path), str(plan)],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert other.stdout is not None
    try:
        yield other, (await asyncio.to_thread(other.stdout.readline)).decode().strip()
    finally:
        other.terminate()
        other.wait()
        other.stdout.close()


async def test_a_run_of_another_process_is_watched_and_steered(desk: Desk) -> None:
    async with run_elsewhere(desk) as (other, run_id), desk.app(run_id=run_id, in_process=False) as person:
        await person.step_is("gate", "running")
        assert person.session.view is not None
        assert person.session.view.owner_pid == other.pid
        await person.sees(f"carried out by process {other.pid}")
        await person.press("p")
        await person.run_is("paused")
        person.run.select_step("gate")
        await person.press("x")
        await person.step_is("gate", "cancelled")
        await person.run_has_ended("failed")


async def test_quitting_does_not_ask_about_a_run_of_another_process(desk: Desk) -> None:
    async with run_elsewhere(desk) as (other, run_id):
        async with desk.app(run_id=run_id, in_process=False) as person:
            await person.step_is("gate", "running")
            await person.press("b")
            await person.until(lambda: "stops before gate" in person.toasts)
            await person.pilot.press("ctrl+q")
            await person.until(lambda: person.app._exit)
        (desk.folder / "go").touch()
        assert await asyncio.to_thread(other.wait, 20) == 0


_RUN_ELSEWHERE = """
import asyncio, sys
from stepchain_tui.engine import Engine, EngineService
from stepchain_tui.store import SQLiteStore
async def main():
    async with Engine(SQLiteStore(sys.argv[1])) as engine:
        handle = await EngineService(engine).start(sys.argv[2])
        await engine.store.flush()
        print(handle.run_id, flush=True)
        await handle.wait()
asyncio.run(main())
"""


async def test_what_the_engine_refuses_is_told_with_its_hint(desk: Desk) -> None:
    store, log = desk.store_path, desk.folder / "engine.log"
    async with desk.store():
        pass
    host = ChildHost(store, log, lambda _: None)
    with pytest.raises(HostError) as found:
        await host.start("missing.yaml", inputs={}, run_id=None, working_folder=str(desk.folder))
    assert found.value.of_kind == "plan"
    assert "there is no such file" in found.value.message
    await host.end("keep")
    assert log.exists()


@pytest.mark.parametrize(
    ("content", "words"), [(b"this is no database at all", "is not a database"), (None, "is a directory")]
)
def test_a_store_that_cannot_be_used_ends_before_the_app_begins(desk: Desk, content: bytes | None, words: str) -> None:
    if content is None:
        desk.store_path.mkdir()
    else:
        desk.store_path.write_bytes(content)
    with pytest.raises(StoreError, match=words) as found:
        run_app(desk.store_path)
    assert found.value.exit_code == 2


def test_an_unknown_run_ends_before_the_app_begins(desk: Desk) -> None:
    from stepchain_tui.core.errors import UnknownRunError

    with pytest.raises(UnknownRunError):
        run_app(desk.store_path, run_id="nothing")

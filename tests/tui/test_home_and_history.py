"""The first screen and the list of all runs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from tui_desk import Desk

from stepchain_tui.run import events as e
from stepchain_tui.run.state import RunState
from stepchain_tui.run.status import RunStatus
from stepchain_tui.store import Batch, SQLiteStore
from stepchain_tui.tui.screens.editor import EditorScreen
from stepchain_tui.tui.screens.history import PAGE, HistoryScreen
from stepchain_tui.tui.screens.home import HomeScreen

PLAN = "goal: Say [b]hello[/b]\nsteps:\n  - {id: hello, shell: 'echo hello'}\n"
START = datetime(2026, 1, 1, tzinfo=UTC)


def write_runs(store: SQLiteStore, number: int) -> None:
    for n in range(number):
        write_run(store, f"run-{n:05}", n)


def write_run(store: SQLiteStore, run_id: str, n: int, parent: str | None = None, step: str | None = None) -> None:
    at = START + timedelta(minutes=n)
    status = RunStatus.FAILED if n % 10 == 0 else RunStatus.SUCCEEDED
    facts = [
        e.RunCreated(
            seq=1,
            run_id=run_id,
            at=at,
            goal=f"goal number {n}",
            plan={"steps": []},
            steps=(),
            parent_run_id=parent,
            parent_step_id=step,
        ),
        e.RunStarted(seq=2, run_id=run_id, at=at, owner=e.OwnerRecord(pid=1, process_started_at=0.0)),
        e.RunFinished(seq=3, run_id=run_id, at=at + timedelta(seconds=3), status=status),
    ]
    state = RunState()
    for fact in facts:
        state.apply(fact)
    store.commit(Batch(events=list(facts), states={run_id: state}, touched={run_id: None}))


async def test_home_lists_plans_of_the_folder_and_opens_one(desk: Desk) -> None:
    desk.plan(PLAN, "hello.yaml")
    desk.plan("just: data\n", "other.yaml")
    async with desk.app() as person:
        await person.sees("hello", "Say [b]hello[/b]", "nothing has run yet", "samples", "quickstart")
        assert "other" not in person.text
        await person.press("enter")
        await person.sees("ready: s starts", "○ hello")


async def test_home_shows_runs_as_they_end_and_opens_them(desk: Desk) -> None:
    plan = desk.plan(PLAN, "hello.yaml")
    async with desk.app(plan=plan) as person:
        await person.press("s")
        await person.run_is("succeeded")
        run_id = person.session.run_id
        await person.press("H")
        assert isinstance(person.app.screen, HomeScreen)
        await person.sees("✓ succeeded", run_id)
        await person.press("2", "enter")
        assert person.session.run_id == run_id
        assert len(person.app.open_screens()) == 1


async def test_a_new_plan_is_written_and_opens_in_the_editor(desk: Desk) -> None:
    async with desk.app() as person:
        await person.press("n")
        await person.sees("Name of the new plan")
        await person.type("mine")
        await person.press("enter")
        await person.until(lambda: isinstance(person.app.screen, EditorScreen))
        await person.quiet()
        await person.sees("Problems (none)", "hello", "shout")
        assert (desk.folder / "mine.yaml").exists()


async def test_a_plan_is_edited_from_home(desk: Desk) -> None:
    desk.plan(PLAN, "hello.yaml")
    async with desk.app() as person:
        await person.press("e")
        await person.until(lambda: isinstance(person.app.screen, EditorScreen))
        await person.sees("hello.yaml")


async def test_history_is_read_by_page_filtered_and_opened(desk: Desk) -> None:
    async with desk.store() as store:
        write_runs(store, 350)
        await store.flush()
    async with desk.app() as person:
        await person.press("L")
        screen = person.app.screen
        assert isinstance(screen, HistoryScreen)
        await person.until(lambda: screen.table.row_count == PAGE)
        await person.press("end")
        await person.until(lambda: screen.table.row_count == 2 * PAGE)
        await person.press("slash")
        await person.type("number 12")
        await person.quiet()
        await person.until(lambda: screen.table.row_count == 11)
        await person.press("enter", "f", "f", "f", "f", "f", "f")
        await person.sees("✕ failed")
        await person.until(lambda: screen.table.row_count == 1)
        await person.press("y")
        assert person.app.clipboard == "run-00120"
        await person.press("enter")
        assert person.session.run_id == "run-00120"
        await person.run_is("failed")
        await person.press("L", "escape")
        await person.until(lambda: screen.table.row_count == PAGE)
        await person.press("escape")
        assert isinstance(person.app.screen, HomeScreen)


async def test_a_run_that_is_not_there_is_told(desk: Desk) -> None:
    async with desk.app(run_id="nothing") as person:
        await person.until(lambda: "no run 'nothing' in this store" in person.toasts)


async def test_forks_stand_below_their_parents_with_the_step_they_were_forked_at(desk: Desk) -> None:
    async with desk.store() as store:
        write_run(store, "old", 1)
        write_run(store, "gone", 2)
        write_runs(store, 3)
        write_run(store, "child", 10, "old", "parse")
        write_run(store, "orphan", 11, "gone", "fetch")
        write_run(store, "orphan-2", 12, "gone", "load")
        write_run(store, "grandchild", 13, "child", "report")
        await store.flush()
        await store.delete_run("gone")
    async with desk.app(size=(130, 30)) as person:
        await person.press("L")
        screen = person.app.screen
        assert isinstance(screen, HistoryScreen)
        await person.until(lambda: screen.table.row_count == 8)
        await person.press("t")
        await person.until(lambda: screen.table.row_count == 9)
        told = [str(screen.table.get_row_at(row)[6]) for row in range(6)]
        assert told[:3] == ["old", "└ child  at parse", "  └ grandchild  at report"]
        assert told[3:] == ["gone", "└ orphan  at fetch", "└ orphan-2  at load"]
        await person.sees("deleted", "  └ grandchild  at report")
        screen.table.move_cursor(row=3)
        await person.press("enter")
        await person.until(lambda: "this run was deleted" in person.toasts)
        await person.press("j", "enter")
        await person.until(lambda: person.session.run_id == "orphan")
        await person.press("L", "t")
        await person.until(lambda: screen.table.row_count == 8)


async def test_families_are_read_by_page_and_found_by_any_of_their_runs(desk: Desk) -> None:
    async with desk.store() as store:
        write_run(store, "eldest", 0)
        write_runs(store, 350)
        write_run(store, "youngest", 400, "eldest", "a")
        await store.flush()
    async with desk.app() as person:
        await person.press("L", "t")
        screen = person.app.screen
        assert isinstance(screen, HistoryScreen)
        await person.until(lambda: screen.table.row_count == PAGE + 1)
        assert str(screen.table.get_row_at(0)[6]) == "eldest"
        for _ in range(3):
            await person.press("end")
        await person.until(lambda: screen.table.row_count == 352)
        await person.press("slash")
        await person.type("youngest")
        await person.until(lambda: screen.table.row_count == 2)


async def test_a_mark_stays_where_it_was_set(desk: Desk) -> None:
    async with desk.store() as store:
        write_runs(store, 3)
        await store.flush()
    async with desk.app() as person:
        await person.press("L", "j", "space")
        await person.sees(">  ✓ succeeded", "run-00001 is marked: c compares")
        await person.press("t")
        await person.sees(">  ✓ succeeded", "run-00001 is marked: c compares")
        await person.press("c")
        await person.until(lambda: "go to another run" in person.toasts)
        await person.press("space")
        await person.until(lambda: "is marked" not in person.text and ">  ✓" not in person.text)

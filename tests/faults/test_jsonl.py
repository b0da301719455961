"""What becomes of a `JSONLStore` when its writer dies, its disk is full, or somebody edits its files."""

from __future__ import annotations

import errno
import json
import os
import signal
import stat
import subprocess
import sys
import warnings
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from stepchain_tui import AsyncExecutor, Executor, Plan
from stepchain_tui.core.errors import RunLockedError, StoreError, UnknownRunError
from stepchain_tui.core.secrets import Redactor
from stepchain_tui.run import StepStatus
from stepchain_tui.run import events as e
from stepchain_tui.run.state import RunState
from stepchain_tui.store import Batch, Command, JSONLStore, LogLine
from stepchain_tui.store.run_files import CutOffWarning, file_name
from tests.support.command_line import PATIENCE, ROOT, environment

BEGIN = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[JSONLStore]:
    one = JSONLStore(tmp_path / "runs")
    await one.open()
    yield one
    await one.close()


async def another(store: JSONLStore, *, read_only: bool = False) -> JSONLStore:
    """Open the same folder once more, as another process would."""
    other = JSONLStore(store.location)
    await other.open(read_only=read_only)
    return other


def begin(run_id: str = "run-1", steps: int = 3) -> tuple[RunState, Batch]:
    """The first batch of a run, and what it adds up to."""
    outlines = tuple(e.StepOutline(id=f"s{n}", kind="shell") for n in range(steps))
    events: list[e.Event] = [
        e.RunCreated(seq=1, run_id=run_id, at=BEGIN, goal="a goal", plan={"goal": "a goal"}, steps=outlines),
        e.RunStarted(seq=2, run_id=run_id, at=BEGIN, owner=e.OwnerRecord(pid=1, process_started_at=1.0)),
    ]
    state = RunState()
    for event in events:
        state.apply(event)
    return state, Batch(events=events, states={run_id: state}, touched={run_id: None})


def step(state: RunState, step_id: str) -> Batch:
    """One step from beginning to end, with two lines of log."""
    seq, run_id = state.last_seq, state.run_id
    at = BEGIN + timedelta(seconds=seq)
    events: list[e.Event] = [
        e.StepStarted(seq=seq + 1, run_id=run_id, at=at, step_id=step_id, attempt=1),
        e.StepSucceeded(
            seq=seq + 2, run_id=run_id, at=at, step_id=step_id, attempt=1, output=e.Kept({"from": step_id})
        ),
    ]
    for event in events:
        state.apply(event)
    logs = [(run_id, LogLine(at=at, step_id=step_id, attempt=1, text=f"{step_id} says {n}")) for n in range(2)]
    return Batch(events=events, states={run_id: state}, touched={run_id: {step_id}}, logs=logs)


def statuses(state: RunState) -> list[StepStatus]:
    return [found.status for found in state.steps.values()]


# --- the last batch


async def test_a_batch_that_was_cut_off_anywhere_is_left_out_whole(store: JSONLStore) -> None:
    state, first = begin()
    store.commit(first)
    store.commit(step(state, "s0"))
    path = store._files.path("run-1")
    before = path.stat().st_size
    store.commit(step(state, "s1"))
    whole = path.read_bytes()
    for size in range(before + 1, len(whole)):
        path.write_bytes(whole[:size])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CutOffWarning)
            other = await another(store, read_only=True)
            read = await other.load_state("run-1")
            assert statuses(read) == [StepStatus.SUCCEEDED, StepStatus.PENDING, StepStatus.PENDING], size
            assert [line.text for line in await other.read_log("run-1")] == ["s0 says 0", "s0 says 1"]
            assert (await other.get_run("run-1")).last_seq == 4
            await other.close()


async def test_a_cut_off_end_is_told_once_and_gone_with_the_next_write(store: JSONLStore) -> None:
    state, first = begin()
    store.commit(first)
    store.commit(step(state, "s0"))
    path = store._files.path("run-1")
    whole = path.read_bytes()
    with path.open("ab") as file:
        file.write(b'{"type":"step.started","seq":5,"run_id":"run-1","at":"2026-03')
    other = await another(store)
    with pytest.warns(CutOffWarning, match=r"the end of .*run-1.jsonl was cut off"):
        assert (await other.load_state("run-1")) == state
    assert (await other.get_run("run-1")).last_seq == 4
    other.commit(step(state, "s1"))
    await other.flush()
    assert path.read_bytes().startswith(whole)
    assert b"2026-03\n" not in path.read_bytes()
    assert await other.load_state("run-1") == state
    await other.close()


async def test_a_run_whose_first_batch_was_cut_off_was_never_there(store: JSONLStore) -> None:
    state, first = begin()
    store.commit(first)
    path = store._files.path("run-1")
    path.write_bytes(path.read_bytes()[:-20])
    other = await another(store)
    with pytest.warns(CutOffWarning), pytest.raises(UnknownRunError):
        await other.get_run("run-1")
    other.commit(first)
    assert await other.load_state("run-1") == state
    await other.close()


_PLAN = {
    "steps": [{"id": f"s{n}", "shell": f"echo s{n}", "dependencies": [f"s{n - 1}"] if n else []} for n in range(6)]
}

_KILLED = """
import os, signal, sys
from stepchain_tui import Executor, JSONLStore, Plan

wanted, written, write = int(sys.argv[3]), 0, os.write

def counting(descriptor, data):
    global written
    if b'"seq":' in bytes(data):
        written += 1
        if written == wanted:
            write(descriptor, data[:len(data) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
    return write(descriptor, data)

os.write = counting
Executor(store=JSONLStore(sys.argv[1])).execute_plan(Plan.model_validate_json(sys.argv[2]), "r")
"""


@pytest.mark.parametrize("write", [2, 4, 6])
def test_a_run_whose_process_was_killed_within_a_write_is_resumed(tmp_path: Path, write: int) -> None:
    plan = Plan.model_validate(_PLAN)
    killed = subprocess.run(
        [sys.executable, "-c", _KILLED, str(tmp_path / "runs"), json.dumps(_PLAN), str(write)],
        env=environment(),
        cwd=tmp_path,
        timeout=PATIENCE,
        capture_output=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    with pytest.warns(CutOffWarning):
        results = Executor(store=JSONLStore(tmp_path / "runs")).execute_plan(plan, "r")
    assert [(result.status, result.output["stdout"]) for result in results] == [
        (StepStatus.SUCCEEDED, f"s{n}\n") for n in range(6)
    ]


_RESULTS = """
import json, sys
from stepchain_tui import Executor, JSONLStore

results = Executor(store=JSONLStore(sys.argv[1])).get_results("r")
print(json.dumps([[r.step_id, r.status, r.output, r.attempts, str(r.started_at), str(r.finished_at)] for r in results]))
"""


async def test_another_process_reads_the_same_results_and_goes_on_without_doing_anything_twice(tmp_path: Path) -> None:

    made = tmp_path / "made"
    plan = Plan.model_validate(
        {
            "steps": [
                {"id": "large", "shell": "head -c 90000 /dev/zero | tr '\\0' x"},
                {"id": "count", "shell": f"echo once >> {made}; echo '{{{{ steps.large.output.stdout | length }}}}'"},
            ]
        }
    )
    results = await AsyncExecutor(store=JSONLStore(tmp_path / "runs")).execute_plan(plan, "r")
    assert results[1].output["stdout"] == "90000\n"
    read = subprocess.run(
        [sys.executable, "-c", _RESULTS, str(tmp_path / "runs")],
        env=environment(),
        cwd=ROOT,
        timeout=PATIENCE,
        capture_output=True,
        check=True,
    )
    assert json.loads(read.stdout) == [
        [r.step_id, r.status, r.output, r.attempts, str(r.started_at), str(r.finished_at)] for r in results
    ]
    again = await AsyncExecutor(store=JSONLStore(tmp_path / "runs")).execute_plan(plan, "r")
    assert again == results
    assert made.read_text() == "once\n"


# --- damage within


async def test_a_damaged_line_in_the_middle_is_told_like_in_any_store(store: JSONLStore) -> None:
    state, first = begin()
    store.commit(first)
    for step_id in state.steps:
        store.commit(step(state, step_id))
    path = store._files.path("run-1")
    path.write_bytes(path.read_bytes().replace(b'"seq":6', b'"seq":"six"'))
    other = await another(store)
    with pytest.raises(StoreError, match="event 6 of run 'run-1'"):
        await other.load_state("run-1")
    read, corrupt = await other.load_readable("run-1")
    assert [event.seq for event in corrupt] == [6]
    assert statuses(read) == [StepStatus.SUCCEEDED, StepStatus.RUNNING, StepStatus.SUCCEEDED]
    assert [found.step_id for found in await other.list_steps("run-1")] == ["s0", "s1", "s2"]
    assert await other.count_log("run-1") == 6
    await other.close()


async def test_lines_that_somebody_took_out_are_told_as_missing(store: JSONLStore) -> None:
    state, first = begin()
    store.commit(first)
    for step_id in state.steps:
        store.commit(step(state, step_id))
    path = store._files.path("run-1")
    kept = [line for line in path.read_bytes().splitlines(keepends=True) if b'"seq":5,' not in line]
    path.write_bytes(b"".join(line for line in kept if b'"seq":6,' not in line))
    other = await another(store)
    read, corrupt = await other.load_readable("run-1")
    assert [(event.seq, event.problem) for event in corrupt] == [(5, "events 5 to 6 are missing")]
    assert statuses(read) == [StepStatus.SUCCEEDED, StepStatus.PENDING, StepStatus.SUCCEEDED]
    await other.close()


@pytest.mark.parametrize("damaged", [b'"text":"s0 says', b'{"type":"log"'])
async def test_a_damaged_log_line_hides_nothing_else(store: JSONLStore, damaged: bytes) -> None:
    state, first = begin()
    store.commit(first)
    store.commit(step(state, "s0"))
    path = store._files.path("run-1")
    path.write_bytes(path.read_bytes().replace(damaged, b"\xff\xfe\x00" + damaged[3:], 1))
    other = await another(store)
    assert await other.load_readable("run-1") == (state, [])
    assert [line.text for line in await other.read_log("run-1")] == ["s0 says 1"]
    await other.close()


async def test_a_first_line_that_is_damaged_costs_nothing_that_the_events_say(store: JSONLStore) -> None:
    state, first = begin()
    store.commit(first)
    path = store._files.path("run-1")
    path.write_bytes(path.read_bytes().replace(b'{"type":"run"', b'{"type:"run"', 1))
    other = await another(store)
    summary = await other.get_run("run-1")
    assert (summary.goal, summary.created_at, summary.steps_total) == ("a goal", BEGIN, 3)
    assert await other.load_state("run-1") == state
    await other.close()


async def test_a_file_of_a_newer_version_is_not_touched(store: JSONLStore) -> None:
    state, first = begin()
    store.commit(first)
    path = store._files.path("run-1")
    path.write_bytes(path.read_bytes().replace(b'"version":1', b'"version":2', 1))
    before = path.read_bytes()
    other = await another(store)
    with pytest.raises(StoreError, match="newer version") as caught:
        await other.get_run("run-1")
    assert "Upgrade" in caught.value.hint
    other.commit(step(state, "s0"), lambda error: None)
    assert path.read_bytes() == before
    await other.close()


async def test_a_copy_under_another_name_is_no_run(store: JSONLStore) -> None:
    store.commit(begin()[1])
    path = store._files.path("run-1")
    path.with_name("copy.jsonl").write_bytes(path.read_bytes())
    path.with_name("notes.jsonl").write_text('{"mine": true}\n')
    other = await another(store)
    assert [run.run_id for run in await other.list_runs()] == ["run-1"]
    assert (await other.get_run("run-1")).steps_total == 3
    done: list[BaseException | None] = []
    other.commit(begin("notes")[1], done.append)
    assert "no file of run 'notes'" in str(done[0])
    assert path.with_name("notes.jsonl").read_text() == '{"mine": true}\n'
    await other.close()


# --- a disk that does not take it


async def test_a_batch_that_the_disk_does_not_take_leaves_nothing_in_any_run(
    store: JSONLStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    states, batches = zip(*(begin(name) for name in ("a", "b")), strict=True)
    for batch in batches:
        store.commit(batch)
    before = {name: store._files.path(name).read_bytes() for name in ("a", "b")}
    both = [step(state, "s0") for state in states]
    batch = Batch(
        events=[*both[0].events, *both[1].events], states={state.run_id: state for state in states}, logs=both[0].logs
    )
    write, calls = os.write, []

    def full(descriptor: int, data: bytes) -> int:
        calls.append(len(data))
        if len(calls) == 1:
            return write(descriptor, data)
        if len(calls) == 2:
            return write(descriptor, data[:10])
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(os, "write", full)
    told: list[BaseException | None] = []
    store.commit(batch, told.append)
    monkeypatch.undo()
    assert "the disk is full" in str(told[0])
    assert {name: store._files.path(name).read_bytes() for name in ("a", "b")} == before
    assert (await store.get_run("a")).last_seq == 2
    store.commit(batch)
    await store.flush()
    assert await store.load_state("b") == states[1]
    assert await store.count_log("a") == 2


async def test_places_where_no_store_can_be_are_refused_with_a_word(tmp_path: Path) -> None:
    file = tmp_path / "runs.db"
    file.write_text("x")
    with pytest.raises(StoreError, match="is a file") as caught:
        await JSONLStore(file).open()
    assert "folder" in caught.value.hint
    with pytest.raises(StoreError, match="no store at"):
        await JSONLStore(tmp_path / "none").open(read_only=True)
    assert not (tmp_path / "none").exists()
    with pytest.raises(StoreError) as caught:
        await JSONLStore(file / "below").open()
    assert caught.value.hint


# --- names and permissions


async def test_files_are_for_the_user_alone(tmp_path: Path) -> None:
    mask = os.umask(0)
    try:
        store = JSONLStore(tmp_path / "new" / "runs")
        await store.open()
        kept = store.keep("large " * 20_000)
        _state, first = begin()
        store.commit(first)
        store.commit(Batch(breakers={"b": {"state": "open"}}))
        store.acquire_run("run-1").release()
        await store.close()
    finally:
        os.umask(mask)
    assert kept.blob is not None
    found = list((tmp_path / "new").rglob("*"))
    assert len(found) >= 7
    for path in [tmp_path / "new", *found]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


@pytest.mark.parametrize(
    "run_id", ["../up", "/etc/passwd", ".hidden", "a/b", "a\x00b", "ü" * 300, "con~1", "~", "x" * 500, "NUL", "dot."]
)
async def test_any_run_id_is_a_file_within_the_folder(store: JSONLStore, run_id: str) -> None:
    store.commit(begin(run_id)[1])
    await store.flush()
    path = store._files.path(run_id)
    assert path.parent == Path(store.location)
    assert path.exists()
    other = await another(store, read_only=True)
    assert [run.run_id for run in await other.list_runs()] == [run_id]
    await other.close()


def test_ids_that_differ_in_case_alone_have_files_of_their_own_everywhere() -> None:
    names = [file_name(run_id) for run_id in ("report", "Report", "REPORT", "report.jsonl", "re:port", "re@port")]
    assert len({name.casefold() for name in names}) == len(names)
    assert names[0] == "report.jsonl"


# --- several at once


async def test_what_another_process_appends_is_seen_and_answered(store: JSONLStore) -> None:
    state, first = begin()
    lock = store.acquire_run("run-1")
    store.commit(first)
    version = await store.data_version()
    other = await another(store)
    assert (await other.get_run("run-1")).owner_alive is True
    with pytest.raises(RunLockedError):
        other.acquire_run("run-1")
    await other.send_command(Command(id="c", run_id="run-1", command="pause", sent_at=BEGIN))
    assert await store.data_version() != version
    assert [command.id for command in await store.pending_commands(["run-1"])] == ["c"]
    batch = step(state, "s0")
    batch.answers = {"c": {"ok": True, "message": "paused"}}
    store.commit(batch)
    answered = await other.get_command("c")
    assert answered is not None
    assert answered.answer == {"ok": True, "message": "paused"}
    assert len(await other.read_events("run-1", after=2)) == 2
    assert next(found.status for found in await other.list_steps("run-1")) is StepStatus.SUCCEEDED
    lock.release()
    await other.close()


async def test_nothing_is_read_twice(store: JSONLStore, monkeypatch: pytest.MonkeyPatch) -> None:
    states = {}
    for n in range(20):
        states[n], batch = begin(f"run-{n}")
        store.commit(batch)
    other = await another(store)
    await other.list_runs()
    read: list[str] = []
    honest = Path.open

    def counting(path: Path, *arguments: object) -> object:
        read.append(path.name)
        return honest(path, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "open", counting)
    assert len(await other.list_runs()) == 20
    assert read == []
    store.commit(step(states[7], "s0"))
    assert (await other.get_run("run-7")).steps_done == 1
    assert {run.run_id: run.steps_done for run in await other.list_runs()}["run-7"] == 1
    assert set(read) == {"run-7.jsonl"}
    monkeypatch.undo()
    await other.close()


async def test_events_and_log_lines_of_few_runs_are_held(store: JSONLStore) -> None:
    for n in range(30):
        state, batch = begin(f"run-{n}")
        store.commit(batch)
        store.commit(step(state, "s0"))
    for n in range(30):
        assert await store.count_log(f"run-{n}") == 2
    assert sum(run.body is not None for run in store.index.runs.values()) <= 8
    assert [hit["run_id"] for hit in await store.search("says 1", limit=2)] == ["run-29", "run-28"]


async def test_no_secret_reaches_a_file(store: JSONLStore) -> None:
    store.set_redactor("run-1", Redactor({"API_TOKEN": "correct-horse"}))
    _state, first = begin()
    first.logs = [("run-1", LogLine(at=BEGIN, step_id="s0", text="token=correct-horse"))]
    first.breakers = {"b": {"last_error": "correct-horse"}}
    store.commit(first)
    store.keep(["correct-horse " * 9_000])
    await store.send_command(
        Command(id="c", run_id="run-1", command="edit", arguments={"a": "correct-horse"}, sent_at=BEGIN)
    )
    files = [path for path in Path(store.location).rglob("*") if path.is_file()]
    assert len(files) >= 4
    assert not [path for path in files if b"correct-horse" in path.read_bytes()]


async def test_the_cache_file_does_not_grow_for_ever(store: JSONLStore) -> None:
    for n in range(400):
        store.commit(Batch(breakers={"b": {"state": "closed", "failures": n, "last_error": "x" * 500}}))
    await store.close()
    path = Path(store.location) / ".shared.jsonl"
    before = path.stat().st_size
    await store.open()
    assert path.stat().st_size < before / 10
    assert (await store.read_breakers())["b"]["failures"] == 399

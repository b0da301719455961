"""What every store owes, run on each of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from stepchain_tui.core.errors import RunLockedError, StoreError, UnknownRunError
from stepchain_tui.core.secrets import Redactor
from stepchain_tui.run import events as e
from stepchain_tui.run.failures import AttemptError, Failure
from stepchain_tui.run.state import RunState
from stepchain_tui.run.status import ErrorType, RunStatus, StepStatus
from stepchain_tui.run.values import INLINE_LIMIT, Kept
from stepchain_tui.store import (
    AbstractStore,
    Batch,
    CacheEntry,
    Command,
    CorruptEvent,
    JSONLStore,
    LogLine,
    MemoryStore,
    SQLiteStore,
)
from stepchain_tui.store.records import CACHE_LIMIT

BEGIN = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
OWNER = e.OwnerRecord(pid=4711, process_started_at=1.5)


@pytest.fixture(params=["memory", "process", "power", "threaded", "jsonl", "jsonl-power"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[AbstractStore]:
    made: dict[str, Any] = {
        "memory": MemoryStore,
        "jsonl": lambda: JSONLStore(tmp_path / "runs"),
        "jsonl-power": lambda: JSONLStore(tmp_path / "runs", durability="power"),
        "process": lambda: SQLiteStore(tmp_path / "runs.db"),
        "power": lambda: SQLiteStore(tmp_path / "runs.db", durability="power"),
        "threaded": lambda: SQLiteStore(tmp_path / "runs.db", threaded=True),
    }
    one: AbstractStore = made[request.param]()
    await one.open()
    yield one
    await one.close()


class Run:
    """Makes a run's events and hands them to the store."""

    def __init__(self, store: AbstractStore, run_id: str = "run-1", steps: int = 2, **created: Any) -> None:
        self.store, self.state, self.made = store, RunState(), []
        self.touched: set[str] | None = None
        self.add(
            e.RunCreated,
            at=created.pop("at", BEGIN),
            run_id=run_id,
            goal=created.pop("goal", "a goal"),
            plan=created.pop("plan", {"goal": "a goal"}),
            steps=tuple(e.StepOutline(id=f"s{n}", kind="shell") for n in range(steps)),
            **created,
        )

    def add(self, kind: type[Any], **fields: Any) -> Run:
        fields = {"at": BEGIN + timedelta(seconds=self.state.last_seq), "run_id": self.state.run_id, **fields}
        event = kind(seq=self.state.last_seq + 1, **fields)
        self.state.apply(event)
        self.made.append(event)
        if self.touched is not None and "step_id" in fields:
            self.touched.add(fields["step_id"])
        return self

    def started(self) -> Run:
        return self.add(e.RunStarted, owner=OWNER)

    def step(self, step_id: str, output: Any = None, attempt: int = 1) -> Run:
        self.add(e.StepStarted, step_id=step_id, attempt=attempt)
        kept = output if isinstance(output, Kept) else self.store.keep(output)
        return self.add(e.StepSucceeded, step_id=step_id, attempt=attempt, output=kept)

    def batch(self, **more: Any) -> Batch:
        run_id = self.state.run_id
        made = Batch(events=self.made, states={run_id: self.state}, touched={run_id: self.touched}, **more)
        self.made, self.touched = [], set()
        return made

    async def commit(self, **more: Any) -> Run:
        self.store.commit(self.batch(**more))
        await self.store.flush()
        return self


def lines(count: int, step_id: str = "s0", attempt: int = 1, run_id: str = "run-1", **more: Any) -> list[Any]:
    return [
        (run_id, LogLine(at=BEGIN, step_id=step_id, attempt=attempt, text=f"{step_id} {attempt} line {n}", **more))
        for n in range(count)
    ]


def cached(key: str, output: Any = "out", scope: str = "plan / s0", **more: Any) -> CacheEntry:
    """An entry of the cache as the engine makes one."""
    kept = output if isinstance(output, Kept) else Kept(output)
    fields = {"run_id": "run-1", "step_id": "s0", "attempt": 1, "created_at": BEGIN, **more}
    return CacheEntry(key=key, scope=scope, action="a", input=f"i-{key}", code="c", output=kept, **fields)


async def spoil(store: AbstractStore, seq: int, data: bytes, run_id: str = "run-1") -> None:
    """Damage one stored event of the only run."""
    if isinstance(store, SQLiteStore):
        change = "UPDATE events SET data = :data WHERE id & 0xffffffff = :seq"
        await store.write(lambda db: db.execute(change, {"data": data, "seq": seq}))
    elif isinstance(store, JSONLStore):
        path = store._files.path(run_id)
        found = path.read_bytes().split(b"\n")
        places = [place for place, line in enumerate(found) if b'"seq":' in line]
        found[places[seq - 1]] = data
        path.write_bytes(b"\n".join(found))
    elif isinstance(store, MemoryStore):
        store._body(run_id).events[seq - 1] = data


async def test_events_come_back_as_they_were_stored(store: AbstractStore) -> None:
    run = await Run(store).started().step("s0", {"a": [1, "ü", None]}).commit()
    read = await store.read_events("run-1")
    assert [event.seq for event in read] == [1, 2, 3, 4]
    state = RunState()
    for event in read:
        state.apply(event)
    assert state == run.state == await store.load_state("run-1")


async def test_events_are_read_from_a_place_on_and_up_to_a_limit(store: AbstractStore) -> None:
    await Run(store).started().step("s0").commit()
    assert [event.seq for event in await store.read_events("run-1", after=1, limit=2)] == [2, 3]
    assert await store.read_events("run-1", after=4) == []
    raw = [entry async for entry in store.read_raw_events("run-1", after=2)]
    assert [(seq, kind, step) for seq, kind, step, _ in raw] == [(3, "step.started", "s0"), (4, "step.succeeded", "s0")]
    assert e.decode_event(raw[0][3]).seq == 3


async def test_unknown_runs_are_named_with_the_nearest_one(store: AbstractStore) -> None:
    await Run(store, "report-2026").commit()
    for call in (store.read_events, store.get_run, store.list_steps, store.read_log, store.count_log):
        with pytest.raises(UnknownRunError, match="report-2062"):
            await call("report-2062")
    with pytest.raises(UnknownRunError) as caught:
        await store.get_run("report-2062")
    assert "report-2026" in caught.value.hint
    with pytest.raises(UnknownRunError):
        await store.send_command(Command(id="c", run_id="nope", command="pause", sent_at=BEGIN))


async def test_a_run_is_found_by_a_unique_prefix_only(store: AbstractStore) -> None:
    await Run(store, "20260301-a").commit()
    await Run(store, "20260301-b").commit()
    assert (await store.get_run("20260301-b")).run_id == "20260301-b"
    with pytest.raises(UnknownRunError) as caught:
        await store.get_run("20260301")
    assert "20260301-a, 20260301-b" in caught.value.hint
    await store.delete_run("20260301-a")
    assert (await store.get_run("2026")).run_id == "20260301-b"


async def test_summary_rows_follow_the_state(store: AbstractStore) -> None:
    run = await Run(store, steps=3).started().commit()
    run.step("s1", "done")
    run.add(e.StepStarted, step_id="s2", attempt=1)
    failure = Failure(error_type=ErrorType.TOOL_ERROR, message="exit code 3")
    run.add(e.StepFailed, step_id="s2", attempt=1, error=failure)
    run.add(e.ModelTurn, step_id="s1", attempt=1, model="m", input_tokens=10, output_tokens=3)
    await run.commit()
    summary = await store.get_run("run-1")
    assert (summary.steps_total, summary.steps_done, summary.steps_failed) == (3, 2, 1)
    assert (summary.input_tokens, summary.output_tokens, summary.last_seq) == (10, 3, 7)
    assert (summary.created_at, summary.started_at) == (run.state.created_at, run.state.started_at)
    steps = await store.list_steps("run-1")
    assert [(step.step_id, step.status, step.attempts) for step in steps] == [
        ("s0", StepStatus.PENDING, 0),
        ("s1", StepStatus.SUCCEEDED, 1),
        ("s2", StepStatus.FAILED, 1),
    ]
    assert (steps[2].error, steps[2].error_type) == ("exit code 3", ErrorType.TOOL_ERROR)
    assert steps[2].finished_at == run.state.steps["s2"].finished_at


async def test_a_revision_replaces_the_rows_of_all_steps(store: AbstractStore) -> None:
    run = await Run(store, steps=3).started().commit()
    outlines = tuple(e.StepOutline(id=name, kind="http") for name in ("new", "s2"))
    await run.add(e.RunRevised, revision=2, plan={}, steps=outlines).commit()
    assert [(step.step_id, step.position) for step in await store.list_steps("run-1")] == [("new", 0), ("s2", 1)]
    await run.step("s2").commit()
    assert [step.status for step in await store.list_steps("run-1")] == [StepStatus.PENDING, StepStatus.SUCCEEDED]


async def test_events_without_a_state_still_make_rows(store: AbstractStore) -> None:
    run = Run(store).started().step("s1")
    store.commit(Batch(events=run.made))
    await store.flush()
    assert (await store.get_run("run-1")).steps_done == 1
    assert len(await store.list_steps("run-1")) == 2


async def test_a_batch_that_does_not_follow_is_refused_whole(store: AbstractStore) -> None:
    run = await Run(store).started().commit()
    run.add(e.StepQueued, step_id="s0")
    run.made.clear()
    run.add(e.StepStarted, step_id="s0", attempt=1)
    told: list[BaseException | None] = []
    store.commit(run.batch(logs=lines(3)), told.append)
    await store.flush()
    assert isinstance(told[0], StoreError)
    assert told[0].hint
    assert "event 4" in str(told[0])
    assert await store.count_log("run-1") == 0
    assert (await store.get_run("run-1")).last_seq == 2


async def test_a_failed_batch_does_not_hurt_another_run(store: AbstractStore) -> None:
    good, bad = await Run(store, "good").commit(), await Run(store, "bad").commit()
    bad.state.last_seq += 5
    bad.started()
    told: list[BaseException | None] = []
    store.commit(bad.batch(), told.append)
    store.commit(good.started().batch(), told.append)
    await store.flush()
    assert [error is None for error in told] == [False, True]
    assert (await store.get_run("good")).last_seq == 2
    assert (await store.get_run("bad")).last_seq == 1


async def test_an_error_that_nobody_was_told_of_is_raised_by_the_next_call(store: AbstractStore) -> None:
    run = await Run(store).commit()
    run.state.last_seq += 1
    store.commit(run.started().batch())
    with pytest.raises(StoreError, match="does not follow"):
        await store.flush()
    await store.flush()


async def test_batches_are_stored_in_the_order_of_the_calls(store: AbstractStore) -> None:
    run, told = Run(store, steps=50).started(), []
    store.commit(run.batch(), lambda error: told.append((0, error)))
    for n in range(50):
        store.commit(run.step(f"s{n}").batch(), lambda error, n=n + 1: told.append((n, error)))
    await store.flush()
    assert told == [(n, None) for n in range(51)]
    assert await store.load_state("run-1") == run.state


async def test_owner_and_workers_are_kept_and_cleared(store: AbstractStore) -> None:
    run = await Run(store).started().commit(owners={"run-1": OWNER}, workers={"run-1": [{"pid": 7}]})
    assert (await store.get_run("run-1")).owner == OWNER
    assert await store.read_workers("run-1") == [{"pid": 7}]
    store.commit(Batch(owners={"run-1": None}, workers={"run-1": []}))
    await store.flush()
    assert (await store.get_run("run-1")).owner is None
    assert await store.read_workers("run-1") == []
    assert run.state.run_id == "run-1"


# --- events that are damaged


async def test_a_run_that_is_whole_reads_the_same_either_way(store: AbstractStore) -> None:
    run = await Run(store).started().step("s0").commit()
    assert await store.load_readable("run-1") == (run.state, [])
    with pytest.raises(UnknownRunError):
        await store.load_readable("run-2")


@pytest.mark.parametrize("data", [b'{"type":"step.succee', b"", b"\x00\xff", b'{"type":"step.melted","seq":4}'])
async def test_a_damaged_event_is_told_and_the_rest_of_the_run_is_read(store: AbstractStore, data: bytes) -> None:
    run = await Run(store, steps=3).started().step("s0", "zero").step("s1", "one").step("s2", "two").commit()
    await spoil(store, 6, data)
    with pytest.raises(StoreError, match="event 6 of run 'run-1'"):
        await store.load_state("run-1")
    state, corrupt = await store.load_readable("run-1")
    assert [(event.seq, event.step_id) for event in corrupt] == [(6, "")]
    assert "cannot be read" in corrupt[0].problem
    assert [step.status for step in state.steps.values()] == [
        StepStatus.SUCCEEDED,
        StepStatus.RUNNING,
        StepStatus.SUCCEEDED,
    ]
    assert state.steps["s2"].output == Kept("two")
    assert state.last_seq == run.state.last_seq


async def test_a_damaged_last_event_counts_as_one_that_was_there(store: AbstractStore) -> None:
    await Run(store).started().step("s0").commit()
    await spoil(store, 4, b"{")
    state, corrupt = await store.load_readable("run-1")
    assert (state.last_seq, [event.seq for event in corrupt]) == (4, [4])
    assert state.steps["s0"].status is StepStatus.RUNNING


async def test_what_makes_no_sense_without_a_damaged_event_is_told_as_well(store: AbstractStore) -> None:
    run = Run(store).started()
    run.add(e.StepStarted, step_id="s0", attempt=1)
    failure = Failure(error_type=ErrorType.TOOL_ERROR, message="no")
    retry_at = BEGIN + timedelta(seconds=9)
    run.add(e.StepRetryScheduled, step_id="s0", attempt=1, status="failed", error=failure, delay=5.0, retry_at=retry_at)
    run.add(e.StepStarted, step_id="s0", attempt=2, tries=2)
    await run.add(e.StepSucceeded, step_id="s0", attempt=2, output=Kept("done")).commit()
    await spoil(store, 3, b'{"type":"step.started","seq":3,"run_id":"run-1","step_id":"s0"')
    state, corrupt = await store.load_readable("run-1")
    assert [(event.seq, event.type) for event in corrupt] == [(3, ""), (4, "step.retry_scheduled")]
    assert "step 's0' is pending and cannot become retrying" in corrupt[1].problem
    assert state.steps["s0"].output == Kept("done")


async def test_events_of_a_step_that_nobody_knows_are_told(store: AbstractStore) -> None:
    run = await Run(store).started().commit()
    outlines = tuple(e.StepOutline(id=name, kind="http") for name in ("s0", "s1", "new"))
    await run.add(e.RunRevised, revision=2, plan={}, steps=outlines).step("new").step("s1").commit()
    await spoil(store, 3, b"{}")
    state, corrupt = await store.load_readable("run-1")
    assert [(event.seq, event.type, event.step_id) for event in corrupt] == [
        (3, "", ""),
        (4, "step.started", "new"),
        (5, "step.succeeded", "new"),
    ]
    assert state.steps["s1"].status is StepStatus.SUCCEEDED


async def test_events_of_another_run_or_place_are_told(store: AbstractStore) -> None:
    run = await Run(store).started().step("s0").commit()
    succeeded = e.encode_event((await store.read_events("run-1"))[3])
    await run.step("s1").commit()
    await spoil(store, 5, succeeded)
    await spoil(store, 4, succeeded.replace(b'"run-1"', b'"run-2"'))
    state, corrupt = await store.load_readable("run-1")
    assert [event.seq for event in corrupt] == [4, 5]
    assert corrupt[0].problem == "it says that it is of run 'run-2'"
    assert "event 4 of run 'run-1' came after 4" in corrupt[1].problem
    assert [step.status for step in state.steps.values()] == [StepStatus.RUNNING, StepStatus.SUCCEEDED]


async def test_a_run_whose_first_event_is_lost_begins_with_its_rows(store: AbstractStore) -> None:
    await Run(store, goal="mine", plan_path="/p.yaml").started().step("s0", "zero").commit()
    await spoil(store, 1, b'{"type":"run.created"')
    state, corrupt = await store.load_readable("run-1")
    assert [event.seq for event in corrupt] == [1]
    assert (state.run_id, state.goal, state.plan_path, state.created_at) == ("run-1", "mine", "/p.yaml", BEGIN)
    assert [(step.id, step.outline.kind, step.status) for step in state.steps.values()] == [
        ("s0", "shell", StepStatus.SUCCEEDED),
        ("s1", "shell", StepStatus.PENDING),
    ]
    assert state.steps["s0"].output == Kept("zero")


@pytest.mark.parametrize("store", ["process", "power"], indirect=True)  # rows in a file can be lost
@pytest.mark.parametrize(("first", "problem"), [(4, "it is missing"), (1, "events 1 to 4 are missing")])
async def test_missing_events_at_the_end_are_told_too(store: SQLiteStore, first: int, problem: str) -> None:
    await Run(store, goal="mine").started().step("s0").commit()
    await store.write(lambda db: db.execute("DELETE FROM events WHERE id & 0xffffffff >= ?", (first,)))
    state, corrupt = await store.load_readable("run-1")
    assert corrupt == [CorruptEvent(seq=first, problem=problem)]
    assert (state.run_id, state.goal, state.last_seq, list(state.steps)) == ("run-1", "mine", 4, ["s0", "s1"])
    assert await store.integrity_check(full=True) == [f"run 'run-1': event {first} is missing"]


@pytest.mark.parametrize("store", ["process", "power"], indirect=True)  # rows in a file can be lost
async def test_missing_events_are_told_once_for_each_gap(store: SQLiteStore) -> None:
    await Run(store, steps=3).started().step("s0").step("s1").step("s2").commit()
    await store.write(lambda db: db.execute("DELETE FROM events WHERE id & 0xffffffff IN (1, 2, 6)"))
    state, corrupt = await store.load_readable("run-1")
    assert corrupt == [
        CorruptEvent(seq=1, problem="events 1 to 2 are missing"),
        CorruptEvent(seq=6, problem="it is missing"),
    ]
    assert [step.status for step in state.steps.values()] == [
        StepStatus.SUCCEEDED,
        StepStatus.RUNNING,
        StepStatus.SUCCEEDED,
    ]


# --- values


@pytest.mark.parametrize(
    "value", [None, True, 3, -1.5, "text", "ü" * 20_000, [1, {"a": None}], {}, 2**70, float("inf")]
)
async def test_values_are_kept_as_json(store: AbstractStore, value: Any) -> None:
    kept = store.keep(value)
    loaded = await store.load_value(kept)
    assert loaded == (str(value) if value in (2**70, float("inf")) else value)


async def test_a_large_value_is_kept_beside_the_event(store: AbstractStore) -> None:
    value = {"text": "a" * INLINE_LIMIT}
    kept = store.keep(value)
    assert kept.value is None
    assert kept.blob is not None
    assert kept.blob.preview.startswith('{"text":"aaa')
    assert len(kept.blob.preview) == 2_000
    await Run(store).started().step("s0", kept).commit()
    state = await store.load_state("run-1")
    assert state.steps["s0"].output == kept
    assert await store.load_value(kept) == value


async def test_a_value_over_the_limit_is_refused_with_advice(store: AbstractStore) -> None:
    with pytest.raises(AttemptError) as caught:
        store.keep("x" * (10 * 1024 * 1024 + 1))
    assert caught.value.error_type is ErrorType.USER_ERROR
    assert "file" in caught.value.hint


async def test_text_that_utf8_cannot_hold_is_stored_all_the_same(store: AbstractStore) -> None:
    run = Run(store).started()
    run.add(e.StepSkipped, step_id="s0", reason="name \udcff here")
    await run.commit(logs=[("run-1", LogLine(at=BEGIN, step_id="s0", text="bad \udcff\x00\x1b[31m line"))])
    assert (await store.load_state("run-1")).steps["s0"].reason == "name ? here"
    assert [line.text for line in await store.read_log("run-1")] == ["bad ?\x00\x1b[31m line"]


# --- logs


async def test_log_lines_are_numbered_within_the_run(store: AbstractStore) -> None:
    await Run(store).started().commit(logs=lines(3) + lines(2, "s1", stream="stderr", item=4))
    store.commit(Batch(logs=lines(2)))
    await store.flush()
    read = await store.read_log("run-1")
    assert [line.n for line in read] == [1, 2, 3, 4, 5, 6, 7]
    assert read[4] == LogLine(n=5, at=BEGIN, step_id="s1", attempt=1, item=4, stream="stderr", text="s1 1 line 1")


async def test_log_lines_are_chosen_by_step_attempt_item_and_place(store: AbstractStore) -> None:
    run = await Run(store).started().commit()
    for n in range(20):
        store.commit(Batch(logs=lines(1, "s0", 1 + n % 2, item=n % 3) + lines(2, "s1")))
    await store.flush()

    async def numbers(**chosen: Any) -> list[int]:
        return [line.n for line in await store.read_log("run-1", **chosen)]

    of_s0 = [1 + 3 * n for n in range(20)]
    assert await numbers(step_id="s0") == of_s0
    assert await numbers(step_id="s0", attempt=2) == of_s0[1::2]
    assert await numbers(step_id="s0", item=1) == of_s0[1::3]
    assert await numbers(step_id="s0", after=10, before=40) == [n for n in of_s0 if 10 < n < 40]
    assert await numbers(step_id="s0", after=11, before=41, newest=True, limit=3) == [34, 37, 40]
    assert await numbers(after=5, before=9) == [6, 7, 8]
    assert await numbers(newest=True, limit=2) == [59, 60]
    assert await numbers(attempt=2, limit=2) == [4, 10]
    assert await numbers(step_id="none") == []
    assert await store.count_log("run-1") == 60
    assert await store.count_log("run-1", step_id="s0") == 20
    assert await store.count_log("run-1", step_id="s0", attempt=2) == 10
    assert await store.count_log("run-1", attempt=1) == 50
    assert await store.count_log("run-1", step_id="none") == 0
    assert run.state.last_seq == 2


async def test_a_page_of_a_log_is_found_by_position(store: AbstractStore) -> None:
    await Run(store).started().commit(logs=lines(30) + lines(10, attempt=2) + lines(5, "s1"))
    store.commit(Batch(logs=lines(3, attempt=3, item=0) + lines(3, attempt=4, item=1) + lines(3, attempt=3, item=2)))
    await store.flush()

    async def texts(**chosen: Any) -> list[str]:
        return [line.text for line in await store.read_log_page("run-1", **chosen)]

    assert await texts(step_id="s0", offset=28, limit=4) == [
        "s0 1 line 28",
        "s0 1 line 29",
        "s0 2 line 0",
        "s0 2 line 1",
    ]
    assert await texts(step_id="s0", attempt=2, offset=8, limit=200) == ["s0 2 line 8", "s0 2 line 9"]
    assert await texts(step_id="s0", attempt=3, offset=2, limit=2) == ["s0 3 line 2", "s0 3 line 0"]
    assert await texts(step_id="s0", offset=49) == []
    assert await texts(step_id="none") == []


async def test_logs_of_an_attempt_are_there_when_its_end_is(store: AbstractStore) -> None:
    run = await Run(store).started().commit()
    following = store.changes()
    await anext(following)
    store.commit(run.step("s0").batch(logs=lines(5)))
    while len(await store.read_events("run-1")) < 4:
        await anext(following)
    assert await store.count_log("run-1", step_id="s0", attempt=1) == 5
    await following.aclose()  # type: ignore[attr-defined]


# --- history and search


async def test_runs_are_listed_newest_first_and_filtered(store: AbstractStore) -> None:
    for n in range(6):
        await Run(
            store, f"run-{n}", goal=f"goal 50%_{n}", plan_path=f"/p/{n % 2}.yaml", at=BEGIN + timedelta(n)
        ).commit()
    listed = await store.list_runs()
    assert [run.run_id for run in listed] == [f"run-{n}" for n in (5, 4, 3, 2, 1, 0)]
    assert [run.run_id for run in await store.list_runs(limit=2, offset=1)] == ["run-4", "run-3"]
    assert [run.run_id for run in await store.list_runs(text="50%_3")] == ["run-3"]
    assert [run.run_id for run in await store.list_runs(text="RUN-2")] == ["run-2"]
    assert [run.run_id for run in await store.list_runs(plan_path="/p/1.yaml")] == ["run-5", "run-3", "run-1"]
    assert await store.list_runs(text="nothing") == []


async def test_a_run_whose_owner_is_gone_is_shown_as_interrupted(store: AbstractStore) -> None:
    lock = store.acquire_run("live")
    await Run(store, "live").started().commit()
    await Run(store, "dead").started().commit()
    await Run(store, "waits").started().add(e.RunWaiting).commit()
    await Run(store, "new").commit()
    await Run(store, "begun").commit(owners={"begun": OWNER})
    await Run(store, "done").started().add(e.RunFinished, status=RunStatus.SUCCEEDED).commit()
    await Run(store, "paused").started().add(e.RunPaused).commit()
    shown = {run.run_id: run.shown_status for run in await store.list_runs()}
    assert shown == {
        "live": RunStatus.RUNNING,
        "dead": RunStatus.INTERRUPTED,
        "waits": RunStatus.WAITING,
        "new": RunStatus.PENDING,
        "begun": RunStatus.INTERRUPTED,
        "done": RunStatus.SUCCEEDED,
        "paused": RunStatus.PAUSED,
    }
    interrupted = await store.list_runs(statuses=[RunStatus.INTERRUPTED])
    assert {run.run_id for run in interrupted} == {"dead", "begun"}
    assert [run.run_id for run in await store.list_runs(statuses=[RunStatus.RUNNING])] == ["live"]
    assert (await store.get_run("dead")).owner_alive is False
    lock.release()
    assert (await store.get_run("live")).shown_status is RunStatus.INTERRUPTED


async def test_words_are_found_in_logs_outputs_and_errors(store: AbstractStore) -> None:
    run = Run(store).started().step("s0", {"city": "Zürich", "note": "all fine"})
    run.add(e.StepStarted, step_id="s1", attempt=1)
    failure = Failure(error_type=ErrorType.UNKNOWN, message="Connection refused by zurich-db")
    run.add(e.StepFailed, step_id="s1", attempt=1, error=failure)
    await run.commit(logs=[*lines(3), ("run-1", LogLine(at=BEGIN, step_id="s1", attempt=1, text="connection LOST"))])
    await Run(store, "run-2").commit(logs=[("run-2", LogLine(at=BEGIN, step_id="", text="Connection refused again"))])

    async def found(text: str, **chosen: Any) -> list[tuple[Any, ...]]:
        hits = await store.search(text, **chosen)
        return [(hit["run_id"], hit["step_id"], hit["attempt"], hit["kind"]) for hit in hits]

    for _ in range(2):
        assert await found("connection refus") == [("run-2", "", 0, "log"), ("run-1", "s1", 1, "error")]
        assert await found("zürich") == [("run-1", "s0", 1, "output")]
        assert await found("connection", run_id="run-1") == [("run-1", "s1", 1, "error"), ("run-1", "s1", 1, "log")]
        assert await found("connection", limit=1) == [("run-2", "", 0, "log")]
        assert await found("onnection") == []
        assert await found('"quoted* OR (') == []
        assert await found("  ") == []
        assert [hit["n"] for hit in await store.search("LINE 2")] == [3]
        if isinstance(store, SQLiteStore):
            while await store._index_some():
                pass


async def test_forks_know_their_parent_and_outlive_it(store: AbstractStore) -> None:
    await Run(store, "parent").started().step("s0").commit()
    for n in (2, 1):
        at = BEGIN + timedelta(days=n)
        await Run(store, f"child-{n}", parent_run_id="parent", parent_step_id=f"s{n}", at=at).commit()
    await Run(store, "grandchild", parent_run_id="child-1", parent_step_id="s1").commit()
    await Run(store, "stranger").commit()

    async def children(run_id: str) -> list[tuple[Any, ...]]:
        return [(run.run_id, run.parent_run_id, run.parent_step_id) for run in await store.children_of(run_id)]

    expected = [("child-1", "parent", "s1"), ("child-2", "parent", "s2")]
    assert await children("parent") == expected
    assert await children("child-1") == [("grandchild", "child-1", "s1")]
    assert await children("stranger") == await children("nobody") == []
    await store.delete_run("parent")
    assert await children("parent") == expected
    listed = {run.run_id: (run.parent_run_id, run.parent_step_id) for run in await store.list_runs()}
    assert listed == {
        "child-1": ("parent", "s1"),
        "child-2": ("parent", "s2"),
        "grandchild": ("child-1", "s1"),
        "stranger": (None, None),
    }
    assert (await store.get_run("child-2")).parent_step_id == "s2"


async def test_a_fork_whose_owner_is_gone_is_shown_as_interrupted(store: AbstractStore) -> None:
    await Run(store, "child", parent_run_id="parent").started().commit()
    assert [run.shown_status for run in await store.children_of("parent")] == [RunStatus.INTERRUPTED]


# --- what runs share


async def test_a_cached_result_is_found_by_its_key(store: AbstractStore) -> None:
    entry = cached("k1", {"rows": [1, None]}, item=3, attempt=2)
    await Run(store).commit(cache=[entry, cached("k2")])
    assert await store.find_cached("k1") == entry
    assert await store.find_cached("k3") is None
    other = cached("k1", "newer", run_id="run-2", scope="elsewhere")
    store.commit(Batch(cache=[other]))
    await store.flush()
    assert await store.find_cached("k1") == other
    assert await store.clear_cache() == 2
    assert await store.find_cached("k1") is None
    assert await store.clear_cache() == 0


async def test_the_newest_result_of_a_step_is_what_a_miss_is_compared_with(store: AbstractStore) -> None:
    entries = [cached(f"k{n}", created_at=BEGIN + timedelta(seconds=second)) for n, second in enumerate([5, 9, 9, 1])]
    store.commit(Batch(cache=[*entries, cached("far", scope="plan / s1", created_at=BEGIN + timedelta(days=1))]))
    await store.flush()
    assert await store.last_cached("plan / s0") == entries[2]
    assert await store.last_cached("plan / s2") is None


async def test_a_batch_that_is_refused_caches_nothing(store: AbstractStore) -> None:
    run = await Run(store).commit()
    run.state.last_seq += 1
    told: list[BaseException | None] = []
    store.commit(run.started().batch(cache=[cached("k1")], breakers={"openai": {"state": "open"}}), told.append)
    await store.flush()
    assert isinstance(told[0], StoreError)
    assert await store.find_cached("k1") is None
    assert await store.read_breakers() == {}


async def test_results_that_were_not_used_for_the_longest_time_are_let_go(store: AbstractStore) -> None:
    store.commit(Batch(cache=[cached(f"k{n}") for n in range(CACHE_LIMIT)]))
    store.commit(Batch(cache_used=["k0", "unknown"]))
    store.commit(Batch(cache_used=["k2"], cache=[cached(f"new{n}") for n in range(2)]))
    store.commit(Batch(cache=[cached("k3", "again"), cached("new2")]))
    await store.flush()
    found = [name for name in ("k0", "k1", "k2", "k3", "k4", "k5", "k6") if await store.find_cached(name)]
    assert found == ["k0", "k2", "k3", "k6"]
    assert [bool(await store.find_cached(f"new{n}")) for n in range(3)] == [True] * 3
    assert await store.clear_cache() == CACHE_LIMIT


async def test_a_cached_result_outlives_the_run_that_made_it(store: AbstractStore) -> None:
    large = store.keep("large " * 20_000)
    await Run(store).started().step("s0", large).commit(cache=[cached("k1", large)])
    await store.delete_run("run-1")
    entry = await store.find_cached("k1")
    assert entry is not None
    assert entry.run_id == "run-1"
    assert await store.load_value(entry.output) == "large " * 20_000


async def test_a_run_keeps_its_results_when_the_cache_is_cleared(store: AbstractStore) -> None:
    large = store.keep("large " * 20_000)
    await Run(store).started().step("s0", large).commit(cache=[cached("k1", large)])
    await store.clear_cache()
    assert await store.load_value(large) == "large " * 20_000


async def test_what_breakers_are_is_kept_by_name(store: AbstractStore) -> None:
    opened = {"name": "openai", "state": "open", "failures": 5, "until": "2026-03-01T12:00:30Z"}
    store.commit(Batch(breakers={"openai": opened, "tool fetch": {"state": "closed"}}))
    await store.flush()
    assert await store.read_breakers() == {"openai": opened, "tool fetch": {"state": "closed"}}
    store.commit(Batch(breakers={"openai": {"state": "closed"}}))
    await store.flush()
    assert await store.read_breakers() == {"openai": {"state": "closed"}, "tool fetch": {"state": "closed"}}


async def test_what_runs_share_has_no_secret_in_it(store: AbstractStore) -> None:
    store.set_redactor("run-1", Redactor({"API_TOKEN": "correct-horse", "ODD_KEY": "half_open"}))
    scope = "ask correct-horse / s0"
    entry = cached("k1", {"correct-horse": ["correct-horse"]}, scope=scope)
    breaker = {"name": "half_open", "state": "half_open", "last_error": "401 correct-horse"}
    await Run(store).commit(cache=[entry], breakers={"half_open": breaker})
    found = await store.find_cached("k1")
    assert found is not None
    assert found.output == Kept({"correct-horse": ["[secret API_TOKEN]"]})
    assert found.scope == "ask [secret API_TOKEN] / s0"
    assert await store.last_cached(scope) == found
    assert await store.read_breakers() == {"half_open": {**breaker, "last_error": "401 [secret API_TOKEN]"}}


async def test_the_cache_of_a_store_that_is_only_read_stays_as_it_is(store: AbstractStore) -> None:
    await Run(store).commit(cache=[cached("k1")], breakers={"b": {"state": "closed"}})
    await store.close()
    with pytest.raises(StoreError, match="not open"):
        await store.find_cached("k1")
    with pytest.raises(StoreError, match="not open"):
        await store.read_breakers()
    await store.open(read_only=True)
    assert await store.find_cached("k1") == await store.last_cached("plan / s0") == cached("k1")
    assert await store.read_breakers() == {"b": {"state": "closed"}}
    with pytest.raises(StoreError, match="reading only"):
        await store.clear_cache()


# --- commands and changes


async def test_commands_wait_in_order_until_they_are_answered(store: AbstractStore) -> None:
    run = await Run(store).started().commit()
    sent = [
        Command(id=f"c{n}", run_id="run-1", command="pause", arguments={"n": n}, sender="cli", sent_at=BEGIN)
        for n in range(3)
    ]
    for command in sent:
        await store.send_command(command)
    assert await store.pending_commands(["other", "run-1"]) == sent
    assert await store.pending_commands(["other"]) == []
    run.add(e.CommandApplied, command_id="c0", command="pause")
    await run.commit(answers={"c0": {"ok": True, "message": "paused"}})
    assert [command.id for command in await store.pending_commands(["run-1"])] == ["c1", "c2"]
    answered = await store.get_command("c0")
    assert answered is not None
    assert answered.answer == {"ok": True, "message": "paused"}
    assert await store.get_command("none") is None
    with pytest.raises(StoreError, match="c1"):
        await store.send_command(sent[1])


async def test_who_follows_a_store_is_woken_by_each_change(store: AbstractStore) -> None:
    run = await Run(store).commit()
    following = store.changes(poll=30)
    await anext(following)
    before = await store.data_version()
    waiting = asyncio.ensure_future(anext(following))
    await asyncio.wait({waiting}, timeout=0)
    store.commit(run.started().batch())
    await asyncio.wait_for(waiting, 5)
    assert await store.data_version() != before
    assert len(await store.read_events("run-1")) == 2
    last = asyncio.ensure_future(anext(following, "end"))
    await asyncio.wait({last}, timeout=0)
    await store.close()
    assert await asyncio.wait_for(last, 5) == "end"
    await store.open()


# --- ownership, deleting, closing


async def test_a_run_has_one_owner(store: AbstractStore) -> None:
    lock = store.acquire_run("run-1")
    assert store.owner_alive("run-1")
    assert not store.owner_alive("run-2")
    with pytest.raises(RunLockedError) as caught:
        store.acquire_run("run-1")
    assert caught.value.pid > 0
    lock.release()
    lock.release()
    assert not store.owner_alive("run-1")
    store.acquire_run("run-1").release()


async def test_a_deleted_run_leaves_nothing_behind(store: AbstractStore) -> None:
    shared, alone = store.keep("shared " * 20_000), store.keep("alone " * 20_000)
    await Run(store, "keep").started().step("s0", shared).commit(logs=lines(5, run_id="keep"))
    await Run(store, "gone").started().step("s0", shared).step("s1", alone).commit(logs=lines(5, run_id="gone"))
    await store.send_command(Command(id="c", run_id="gone", command="pause", sent_at=BEGIN))
    if isinstance(store, SQLiteStore):
        await store._index_some()
    lock = store.acquire_run("gone")
    with pytest.raises(RunLockedError):
        await store.delete_run("gone")
    lock.release()
    await store.delete_run("gone")
    with pytest.raises(UnknownRunError):
        await store.delete_run("gone")
    assert [run.run_id for run in await store.list_runs()] == ["keep"]
    assert await store.get_command("c") is None
    assert {hit["run_id"] for hit in await store.search("line")} == {"keep"}
    assert [hit["run_id"] for hit in await store.search("shared")] == ["keep"]
    assert await store.load_value(shared) == "shared " * 20_000
    await Run(store, "gone").commit(logs=lines(1, run_id="gone"))
    assert await store.count_log("gone") == 1


async def test_opening_and_closing_twice_is_fine(store: AbstractStore) -> None:
    await store.open()
    await Run(store).commit()
    await store.close()
    await store.close()
    with pytest.raises(StoreError, match="not open"):
        store.commit(Batch())
    with pytest.raises(StoreError, match="not open"):
        await store.list_runs()
    await store.open()
    assert (await store.get_run("run-1")).run_id == "run-1"


async def test_a_store_opened_for_reading_refuses_to_write(store: AbstractStore) -> None:
    await Run(store).commit()
    await store.close()
    await store.open(read_only=True)
    assert (await store.get_run("run-1")).last_seq == 1
    for write in (lambda: store.commit(Batch()), lambda: store.acquire_run("run-1"), lambda: store.keep("x" * 70_000)):
        with pytest.raises(StoreError, match="reading only"):
            write()


async def test_nothing_is_written_without_its_gate(store: AbstractStore) -> None:
    store.set_redactor("run-1", Redactor({"API_TOKEN": "correct-horse"}))
    run = Run(store, goal="use correct-horse", plan={"steps": [{"id": "s0", "shell": "curl correct-horse"}]}).started()
    run.step("s0", {"correct-horse": "correct-horse"})
    run.add(e.StepStarted, step_id="s1", attempt=1)
    failure = Failure(error_type=ErrorType.UNKNOWN, message="bad token correct-horse", traceback="correct-horse")
    run.add(e.StepFailed, step_id="s1", attempt=1, error=failure)
    await run.commit(logs=[("run-1", LogLine(at=BEGIN, step_id="s0", text="token=correct-horse"))])
    state = await store.load_state("run-1")
    assert state.goal == (await store.get_run("run-1")).goal == "use [secret API_TOKEN]"
    assert state.plan["steps"] == [{"id": "s0", "shell": "curl [secret API_TOKEN]"}]
    assert state.steps["s0"].output == Kept({"correct-horse": "[secret API_TOKEN]"})
    assert (await store.list_steps("run-1"))[1].error == "bad token [secret API_TOKEN]"
    assert [line.text for line in await store.read_log("run-1")] == ["token=[secret API_TOKEN]"]
    store.set_redactor("run-1", None)
    assert store.keep("correct-horse").value == "correct-horse"


async def test_a_row_has_no_part_of_a_secret_where_its_error_is_cut(store: AbstractStore) -> None:
    store.set_redactor("run-1", Redactor({"API_TOKEN": "correct-horse"}))
    run = Run(store).started().add(e.StepStarted, step_id="s0", attempt=1)
    failure = Failure(error_type=ErrorType.UNKNOWN, message="x" * 492 + "correct-horse")
    await run.add(e.StepFailed, step_id="s0", attempt=1, error=failure).commit()
    assert (await store.list_steps("run-1"))[0].error == "x" * 492 + "[secret "

"""A run as one file: what is taken from one store to another, and which files are refused."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
import zipfile
from collections.abc import AsyncIterator, Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from stepchain_tui.core.errors import CommandRefusedError, StoreError, UnknownRunError, UsageError
from stepchain_tui.core.secrets import Redactor
from stepchain_tui.run import AttemptStatus, RunStatus, StepStatus
from stepchain_tui.run import events as e
from stepchain_tui.run.state import RunState
from stepchain_tui.store import AbstractStore, Batch, JSONLStore, LogLine, MemoryStore, SQLiteStore
from stepchain_tui.store.archive import ArchiveHeader, export_run
from stepchain_tui.store.archive_check import ArchiveError
from stepchain_tui.store.importing import import_run, trust_run
from stepchain_tui.store.imports import UntrustedRunError

BEGIN = datetime(2026, 3, 1, 12, tzinfo=UTC)
LATER = datetime(2026, 4, 1, 12, tzinfo=UTC)


def make_store(kind: str, folder: Path) -> AbstractStore:
    if kind == "memory":
        return MemoryStore()
    return JSONLStore(folder / "runs") if kind == "jsonl" else SQLiteStore(folder / "runs.db")


@pytest.fixture(params=["sqlite", "jsonl", "memory"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[AbstractStore]:
    one = make_store(request.param, tmp_path / "from")
    await one.open()
    yield one
    await one.close()


@pytest.fixture(params=["sqlite", "jsonl", "memory"])
async def target(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[AbstractStore]:
    one = make_store(request.param, tmp_path / "to")
    await one.open()
    yield one
    await one.close()


def events_of(run_id: str = "run-1", **created: Any) -> list[e.Event]:
    """A run of two steps; the first succeeds, the second is going on in a process."""
    outlines = tuple(e.StepOutline(id=f"s{n}", kind="shell") for n in range(2))
    fields: dict[str, Any] = {"goal": "a goal", "plan": {"goal": "a goal"}, "steps": outlines, **created}
    owner = e.OwnerRecord(pid=4711, process_started_at=1.0)
    step: dict[str, Any] = {"run_id": run_id, "attempt": 1}
    return [
        e.RunCreated(seq=1, run_id=run_id, at=BEGIN, **fields),
        e.RunStarted(seq=2, run_id=run_id, at=BEGIN, owner=owner),
        e.StepStarted(seq=3, at=BEGIN, step_id="s0", **step),
        e.StepSucceeded(seq=4, at=BEGIN + timedelta(seconds=9), step_id="s0", output=e.Kept("zero"), **step),
        e.StepStarted(seq=5, at=BEGIN + timedelta(seconds=10), step_id="s1", **step),
        e.StepSpawned(
            seq=6,
            at=BEGIN + timedelta(seconds=10),
            step_id="s1",
            pid=1,
            process_group=1,
            process_started_at=1.0,
            **step,
        ),
    ]


def fold(events: Iterable[e.Event]) -> RunState:
    state = RunState()
    for event in events:
        state.apply(event)
    return state


async def put(store: AbstractStore, events: list[e.Event], **more: Any) -> RunState:
    state = fold(events)
    store.commit(Batch(events=events, states={state.run_id: state}, touched={state.run_id: None}, **more))
    await store.flush()
    return state


async def export(store: AbstractStore, path: Path, run_id: str = "run-1") -> ArchiveHeader:
    return await export_run(store, run_id, path, program="1.0", now=LATER)


async def take(store: AbstractStore, path: Path, **more: Any) -> Any:
    return await import_run(store, path, now=LATER, **more)


def logged(count: int, run_id: str = "run-1") -> list[tuple[str, LogLine]]:
    streams = ("stdout", "stderr", "engine")
    return [
        (run_id, LogLine(at=BEGIN, step_id="s0", attempt=1, stream=streams[n % 3], text=f"line {n} \x1b[31mü"))
        for n in range(count)
    ]


# --- from store to store


async def test_a_run_is_the_same_in_another_store(store: AbstractStore, target: AbstractStore, tmp_path: Path) -> None:
    large = store.keep({"text": "large " * 20_000, "number": 1.5e-9, "big": 2**63})
    events = [*events_of(parent_run_id="gone", parent_step_id="s0")[:4]]
    events[3] = e.StepSucceeded(seq=4, run_id="run-1", at=BEGIN, step_id="s0", attempt=1, output=large)
    events.append(e.RunFinished(seq=5, run_id="run-1", at=BEGIN, status=RunStatus.CANCELLED))
    state = await put(store, events, logs=logged(4_500))
    header = await export(store, tmp_path / "a.run")
    assert (header.events, header.lines, header.values) == (5, 4_500, 1)
    assert (tmp_path / "a.run").stat().st_mode & 0o777 == 0o600
    summary = await take(target, tmp_path / "a.run")
    assert (summary.run_id, summary.shown_status, summary.parent_run_id) == ("run-1", RunStatus.CANCELLED, "gone")
    assert await target.load_state("run-1") == state
    assert await target.read_log("run-1", limit=9_999) == await store.read_log("run-1", limit=9_999)
    output = (await target.load_state("run-1")).steps["s0"].output
    assert output is not None
    assert await target.load_value(output) == await store.load_value(large)
    assert [hit["n"] for hit in await target.search("4321")] == [4322]
    before, after = await store.list_steps("run-1"), await target.list_steps("run-1")
    assert before == after


async def test_what_was_going_on_is_interrupted_and_its_processes_are_nobodys(
    store: AbstractStore, target: AbstractStore, tmp_path: Path
) -> None:
    await put(store, events_of(), owners={"run-1": e.OwnerRecord(pid=4711, process_started_at=1.0)})
    await export(store, tmp_path / "a.run")
    summary = await take(target, tmp_path / "a.run", run_id="copy")
    assert (summary.run_id, summary.shown_status, summary.owner) == ("copy", RunStatus.INTERRUPTED, None)
    state = await target.load_state("copy")
    assert state.steps["s0"].status is StepStatus.SUCCEEDED
    assert state.steps["s1"].status is StepStatus.PENDING
    attempt = state.steps["s1"].attempts[None, 1]
    assert attempt.status is AttemptStatus.INTERRUPTED
    spawned = [event for event in await target.read_events("copy") if isinstance(event, e.StepSpawned)]
    assert [(event.pid, event.process_group) for event in spawned] == [(0, 0)]


async def test_an_imported_run_is_not_carried_out_before_it_is_trusted(
    store: AbstractStore, target: AbstractStore, tmp_path: Path
) -> None:
    await put(store, events_of())
    await export(store, tmp_path / "a.run")
    await take(target, tmp_path / "a.run")
    mark = (await target.get_run("run-1")).imported
    assert mark is not None
    assert (mark.source, mark.at, mark.whole, mark.trusted) == ("a.run", LATER, True, False)
    with pytest.raises(UntrustedRunError, match=r"imported from a.run") as caught:
        target.acquire_run("run-1")
    assert "--trust" in caught.value.hint
    assert await trust_run(target, "run-1")
    assert not await trust_run(target, "run-1")
    target.acquire_run("run-1").release()
    assert not await trust_run(store, "run-1")
    if not isinstance(target, MemoryStore):
        await target.close()
        await target.open()
        assert (await target.list_runs())[0].imported == (await target.get_run("run-1")).imported
        target.acquire_run("run-1").release()


async def test_an_untrusted_run_can_be_deleted(target: AbstractStore, tmp_path: Path) -> None:
    forge(tmp_path / "a.run")
    await take(target, tmp_path / "a.run")
    await target.delete_run("run-1")
    assert await target.list_runs() == []
    await put(target, events_of())
    assert (await target.get_run("run-1")).imported is None


async def test_no_secret_is_exported(store: AbstractStore, tmp_path: Path) -> None:
    store.set_redactor("run-1", Redactor({"API_TOKEN": "correct-horse"}))
    events = events_of(goal="use correct-horse", inputs={"a": "correct-horse"})
    events[3] = e.StepSucceeded(
        seq=4, run_id="run-1", at=BEGIN, step_id="s0", attempt=1, output=store.keep(["correct-horse " * 9_000])
    )
    line = LogLine(at=BEGIN, step_id="s0", text="correct-horse")
    await put(store, events, logs=[("run-1", line)])
    await export(store, tmp_path / "a.run")
    text = gzip.decompress((tmp_path / "a.run").read_bytes())
    assert b"correct-horse" not in text
    assert text.count(b"[secret API_TOKEN]") > 9_000


async def test_exporting_replaces_no_file_unless_asked(store: AbstractStore, tmp_path: Path) -> None:
    await put(store, events_of())
    path = tmp_path / "mine"
    path.write_text("mine")
    with pytest.raises(UsageError, match="there already") as caught:
        await export(store, path)
    assert "--force" in caught.value.hint
    assert path.read_text() == "mine"
    await export_run(store, "run-1", path, program="1.0", now=LATER, replace=True)
    for bad in (tmp_path, tmp_path / "none" / "a.run"):
        with pytest.raises(UsageError):
            await export(store, bad)
    with pytest.raises(UnknownRunError):
        await export(store, tmp_path / "other", "nope")
    assert sorted(entry.name for entry in tmp_path.iterdir() if entry.is_file()) == ["mine"]


async def test_a_run_with_a_damaged_event_is_not_exported(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "runs.db")
    await store.open()
    await put(store, events_of())
    await store.write(lambda db: db.execute("DELETE FROM events WHERE id & 0xffffffff = 3"))
    with pytest.raises(StoreError, match="event 3 of run 'run-1' is missing"):
        await export(store, tmp_path / "a.run")
    assert not (tmp_path / "a.run").exists()
    await store.close()


async def test_an_id_that_is_taken_needs_another(target: AbstractStore, tmp_path: Path) -> None:
    state = await put(target, events_of())
    forge(tmp_path / "a.run", events_of(goal="another"))
    with pytest.raises(CommandRefusedError, match="a run 'run-1' already") as caught:
        await take(target, tmp_path / "a.run")
    assert "--as" in caught.value.hint
    assert await target.load_state("run-1") == state
    await take(target, tmp_path / "a.run", run_id="run-10")
    assert (await target.get_run("run-10")).goal == "another"
    with pytest.raises(UsageError, match="cannot be a run id"):
        await take(target, tmp_path / "a.run", run_id="../up")


async def test_an_import_that_the_store_does_not_take_leaves_nothing(
    target: AbstractStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forge(tmp_path / "a.run", lines=[line_of(n) for n in range(3_000)])
    commit, calls = target.commit, []

    def failing(batch: Batch, done: Any = None) -> None:
        calls.append(batch)
        if len(calls) == 3:
            raise StoreError("the disk is full")
        commit(batch, done)

    monkeypatch.setattr(target, "commit", failing)
    with pytest.raises(StoreError, match="full"):
        await take(target, tmp_path / "a.run")
    monkeypatch.undo()
    assert await target.list_runs() == []
    assert (await take(target, tmp_path / "a.run")).run_id == "run-1"


async def test_a_run_whose_import_was_cut_off_is_only_good_for_deleting(
    target: AbstractStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forge(tmp_path / "a.run", lines=[line_of(n) for n in range(3_000)])

    async def dead(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("stepchain_tui.store.importing._store_lines_and_values", dead)
    monkeypatch.setattr(target, "delete_run", dead)  # as if the process were gone
    with pytest.raises(KeyboardInterrupt):
        await take(target, tmp_path / "a.run")
    monkeypatch.undo()
    with pytest.raises(UntrustedRunError, match="cut off"):
        await trust_run(target, "run-1")
    with pytest.raises(UntrustedRunError, match="cut off"):
        target.acquire_run("run-1")
    with pytest.raises(CommandRefusedError) as caught:
        await take(target, tmp_path / "a.run")
    assert "stepchain delete run-1" in caught.value.hint
    await target.delete_run("run-1")
    await take(target, tmp_path / "a.run")


# --- hostile files


def line_of(n: int) -> bytes:
    return json.dumps(
        {"type": "log", "at": BEGIN.isoformat(), "step_id": "s0", "attempt": 1, "text": f"l {n}"}
    ).encode()


def forge(
    path: Path,
    events: list[e.Event] | list[bytes] | None = None,
    *,
    lines: Iterable[bytes] = (),
    values: Iterable[bytes] = (),
    more: bytes = b"",
    **header: Any,
) -> Path:
    """Write a file that is good in all that is not given: counts and hash fit what is in it."""
    encoded = [event if isinstance(event, bytes) else e.encode_event(event) for event in events or events_of()]
    lines, values = list(lines), list(values)
    body = b"".join(line + b"\n" for line in (*encoded, *lines, *values)) + more
    head = {
        "format": "stepchain run",
        "version": 1,
        "program": "1.0",
        "run_id": "run-1",
        "exported_at": LATER.isoformat(),
        "events": len(encoded),
        "lines": len(lines),
        "values": len(values),
        "bytes": len(body),
        "sha256": hashlib.sha256(body).hexdigest(),
        **header,
    }
    path.write_bytes(gzip.compress(json.dumps(head).encode() + b"\n" + body))
    return path


def with_event(seq: int, *changes: tuple[bytes, bytes]) -> list[bytes]:
    """The events with one of them changed."""
    found = [e.encode_event(event) for event in events_of()]
    for old, new in changes:
        assert old in found[seq - 1]
        found[seq - 1] = found[seq - 1].replace(old, new)
    return found


def value_line(value: str, sha256: str | None = None) -> bytes:
    digest = sha256 or hashlib.sha256(value.encode()).hexdigest()
    return f'{{"type":"value","sha256":"{digest}","value":{value}}}'.encode()


VALUE = json.dumps("v" * 100)


def with_value(sha256: str | None = None, size: int | None = None) -> list[e.Event]:
    """The events with a large output."""
    digest = hashlib.sha256(VALUE.encode()).hexdigest() if sha256 is None else sha256
    blob = e.Kept(blob={"sha256": digest, "bytes": size or len(VALUE), "preview": ""})  # type: ignore[arg-type]
    events = events_of()
    events[3] = e.StepSucceeded(seq=4, run_id="run-1", at=BEGIN, step_id="s0", attempt=1, output=blob)
    return events


CALL = e.Kept(value={"tool": "rm", "arguments": {}})


def waiting(**keys: Any) -> list[e.Event]:
    """The events with a question that is none."""
    asked = e.StepWaiting(seq=4, run_id="run-1", at=BEGIN, step_id="s0", reason="tool_approval", **keys)
    return [*events_of()[:3], asked]


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("../../etc/passwd", "x")
    return buffer.getvalue()


def tarred() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as file:
        link = tarfile.TarInfo("/etc/link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        file.addfile(link)
    return buffer.getvalue()


DEEP = b"[" * 5_000 + b"]" * 5_000
GOAL = b'"goal":"a goal","plan"'

HOSTILE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "nothing": (lambda p: p.write_bytes(b""), "this is no exported run|ends"),
    "text": (lambda p: p.write_bytes(b"goal: x\n"), "this is no exported run"),
    "a zip file": (lambda p: p.write_bytes(zipped()), "this is no exported run"),
    "a tar file": (lambda p: p.write_bytes(tarred()), "this is no exported run"),
    "other gzip": (lambda p: p.write_bytes(gzip.compress(b"[1]\n")), "this is no exported run"),
    "deep header": (lambda p: p.write_bytes(gzip.compress(DEEP + b"\n")), "no exported run|header cannot be read"),
    "a newer version": (lambda p: forge(p, version=3), "version 3 of the format"),
    "no version": (lambda p: forge(p, version="1; drop"), "version 1; drop of the format"),
    "a wrong hash": (lambda p: forge(p, sha256="0" * 64), "its hash is not the one in its header"),
    "a hash that is a path": (lambda p: forge(p, sha256="../../etc/passwd"), "header cannot be read"),
    "more than it says": (lambda p: forge(p, more=b"more\n"), "more in it than its header says|not whole"),
    "garbage after it": (lambda p: p.write_bytes(forge(p).read_bytes() + b"garbage"), "no exported run"),
    "smaller than it says": (lambda p: forge(p, bytes=10**6), "not whole"),
    "larger than it says": (lambda p: forge(p, bytes=100), "longer than its header allows"),
    "a bomb": (lambda p: forge(p, bytes=10**12), "bytes that become"),
    "an id with controls": (lambda p: forge(p, run_id="a\x1b[31m"), "run id is none"),
    "an id that is a path": (lambda p: forge(p, run_id="../../up"), "run id is none"),
    "events of another run": (lambda p: forge(p, run_id="run-2"), "not numbered one after the other"),
    "a gap": (lambda p: forge(p, [*events_of()[:2], *events_of()[3:]]), "not numbered one after the other"),
    "a repeated event": (lambda p: forge(p, [*events_of()[:2], events_of()[1]]), "not numbered one after the other"),
    "no beginning": (
        lambda p: forge(p, with_event(2, (b'"seq":2', b'"seq":1'))[1:2]),
        "first event does not begin a run",
    ),
    "an unknown event": (
        lambda p: forge(p, with_event(3, (b"step.started", b"step.melted"))),
        "event 3 cannot be read",
    ),
    "not JSON": (lambda p: forge(p, with_event(3, (b'"seq"', b"seq"))), "event 3 cannot be read"),
    "a step that is not there": (lambda p: forge(p, with_event(3, (b'"s0"', b'"s9"'))), "does not fit those before it"),
    "an illegal move": (lambda p: forge(p, with_event(4, (b"step.succeeded", b"step.queued"))), "does not fit those"),
    "a step id that is a path": (lambda p: forge(p, with_event(1, (b'"s1"', b'"../s1"'))), "a step id that is none"),
    "a step id with controls": (
        lambda p: forge(p, with_event(1, (b'"s1"', b'"s\\u001b[2J"'))),
        r"a step id that is none: 's\\x1b\[2J'",
    ),
    "a parent that is none": (
        lambda p: forge(p, with_event(1, (b'"id":"s1"', b'"id":"s1","parents":["a b"]'))),
        "a step id that is none",
    ),
    "NaN": (lambda p: forge(p, with_event(1, (GOAL, b'"goal":"g","inputs":{"a":NaN},"plan"'))), "event 1 cannot be"),
    "infinity": (lambda p: forge(p, with_event(1, (GOAL, b'"goal":"g","inputs":{"a":1e999},"plan"'))), "event 1 "),
    "a huge number": (
        lambda p: forge(p, with_event(1, (GOAL, b'"goal":"g","inputs":{"a":' + b"9" * 60 + b'},"plan"'))),
        "event 1 (has a number that is too large|cannot be read)",
    ),
    "a huge attempt": (lambda p: forge(p, with_event(3, (b'"attempt":1', b'"attempt":9999999999'))), "too large"),
    "an early moment": (lambda p: forge(p, with_event(3, (b"2026-", b"0001-"))), "a moment that is none"),
    "no time zone": (lambda p: forge(p, with_event(3, (b'00Z"', b'00"'))), "a moment that is none"),
    "too deep": (lambda p: forge(p, with_event(1, (GOAL, b'"goal":"g","inputs":{"a":' + DEEP + b'},"plan"'))), "deep"),
    "a log line of no step": (lambda p: forge(p, lines=[line_of(1).replace(b"s0", b"../s0")]), "a log line of step"),
    "a log line that is none": (lambda p: forge(p, lines=[b"{}"]), "line 1 cannot be read"),
    "a huge log line": (lambda p: forge(p, lines=[line_of(1).replace(b"l 1", b"x" * 70_000)]), "a log line of step"),
    "an unknown stream": (
        lambda p: forge(p, lines=[line_of(1).replace(b'"text"', b'"stream":"../x","text"')]),
        "a log line of step",
    ),
    "a value that is missing": (lambda p: forge(p, with_value()), "large output .* is not in it"),
    "a value that is a path": (
        lambda p: forge(p, with_value("../../../etc/passwd")),
        r"event 4 cannot be read: .*blob\.sha256",
    ),
    "a value's name that is a path": (
        lambda p: forge(p, with_value(), values=[value_line(VALUE, "../../x")]),
        "value 1 cannot be read",
    ),
    "a value twice": (lambda p: forge(p, with_value(), values=[value_line(VALUE)] * 2), "is in it twice"),
    "a value of nobody": (lambda p: forge(p, values=[value_line(VALUE)]), "nothing in it refers to"),
    "a value that is another": (
        lambda p: forge(p, with_value(), values=[value_line('"other"', hashlib.sha256(VALUE.encode()).hexdigest())]),
        "is not what its hash says",
    ),
    "a plan with a budget that is none": (
        lambda p: forge(p, with_event(1, (b'"plan":{', b'"plan":{"budget":{"usd":"much"},'))),
        "event 1 has a plan that is none: a budget is no amount",
    ),
    "a plan whose steps are none": (
        lambda p: forge(p, with_event(1, (GOAL, b'"goal":"g","plans":{"a":{"plan":{"steps":[1]}}},"plan"'))),
        "event 1 has a plan that is none: 'steps' is no list",
    ),
    "a question of no attempt": (lambda p: forge(p, waiting()), "event 4 asks what nobody can answer: no attempt"),
    "a question of another attempt": (
        lambda p: forge(p, waiting(attempt=7, input=CALL)),
        "event 4 .*no such attempt waits",
    ),
    "a question about no call": (
        lambda p: forge(p, waiting(attempt=1, input=e.Kept(value=[1, 2]))),
        "event 4 asks what nobody can answer: it does not say what",
    ),
    "a value of another size": (lambda p: forge(p, with_value(size=7), values=[value_line(VALUE)]), "not as long as"),
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_file_is_refused_with_one_word_and_nothing_is_stored(name: str, tmp_path: Path) -> None:
    make, told = HOSTILE[name]
    path = tmp_path / "a.run"
    make(path)
    store = SQLiteStore(tmp_path / "runs.db")
    await store.open()
    with pytest.raises(ArchiveError, match=told) as caught:
        await take(store, path)
    assert str(path) in caught.value.message
    assert caught.value.hint
    assert "\x1b" not in caught.value.message + caught.value.hint
    assert "\n" not in caught.value.message
    assert await store.list_runs() == []
    assert not Path(f"{store.path}.files").exists()
    await store.close()


async def test_a_good_file_made_by_the_same_hand_is_taken(target: AbstractStore, tmp_path: Path) -> None:
    forge(tmp_path / "a.run", with_value(), lines=[line_of(n) for n in range(3)], values=[value_line(VALUE)])
    await take(target, tmp_path / "a.run")
    assert await target.count_log("run-1") == 3


async def test_a_file_that_was_cut_off_anywhere_is_refused(tmp_path: Path) -> None:
    whole = forge(tmp_path / "a.run", lines=[line_of(n) for n in range(20)]).read_bytes()
    store = MemoryStore()
    await store.open()
    for size in range(len(whole)):
        (tmp_path / "a.run").write_bytes(whole[:size])
        with pytest.raises(ArchiveError):
            await take(store, tmp_path / "a.run")
    assert await store.list_runs() == []


async def test_a_changed_byte_is_noticed(tmp_path: Path) -> None:
    body = gzip.decompress(forge(tmp_path / "a.run", lines=[line_of(n) for n in range(9)]).read_bytes())
    store = MemoryStore()
    await store.open()
    (tmp_path / "a.run").write_bytes(gzip.compress(body.replace(b"l 7", b"l 8")))
    with pytest.raises(ArchiveError, match="changed after it was written"):
        await take(store, tmp_path / "a.run")


async def test_a_large_file_is_taken_where_the_user_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stepchain_tui.store.archive_check.LARGE", 1_000)
    forge(tmp_path / "a.run", lines=[line_of(0)] * 20_000)
    store = MemoryStore()
    await store.open()
    with pytest.raises(ArchiveError, match="when unpacked") as caught:
        await take(store, tmp_path / "a.run")
    assert "--large" in caught.value.hint
    await take(store, tmp_path / "a.run", large=True)
    assert await store.count_log("run-1") == 20_000


@pytest.mark.parametrize("end", [b"", b"\\", b'"]'])
def test_the_look_at_how_deep_json_is_takes_no_second_look(end: bytes) -> None:
    from stepchain_tui.store.archive_check import _depth

    assert _depth(b'["' + b'\\"[' * 500_000 + end) == 1


def test_depth_is_counted_outside_of_strings() -> None:
    from stepchain_tui.store.archive_check import _depth

    assert _depth(b'{"a[[[": ["b\\"[[", [1]]}') == 3

"""One contract for the executors of all kinds, held by real parts behind a real engine.

Success, failure with its class, timeout and cancel that stop the work for real, the limit of outputs, the death of what
does the work, and a type of one's own: a kind that is added adds one class of this file.
"""

# ruff: noqa: RUF012 - the steps of a kind are read only

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar

import psutil
import pytest
import pytest_asyncio

from stepchain_tui.executors import executor_factory, kinds_with_executors
from stepchain_tui.run.status import ErrorType, StepStatus
from tests.support.engines import PATIENCE, Bench, Watched, plan_of
from tests.support.http_server import HttpServer, answer, raw

STOPPED_WITHIN = 4.0
LARGE = 11_000_000
CODE = """
import asyncio, os, pathlib, time

def good():
    return {"answer": 42}

def bad():
    raise ConnectionError("nobody there")

def endless(folder):
    pathlib.Path(folder, "pid").write_text(str(os.getpid()))
    time.sleep(300)

async def endless_inline(folder):
    pathlib.Path(folder, "began").touch()
    try:
        await asyncio.sleep(300)
    finally:
        pathlib.Path(folder, "ended").touch()

def large():
    return "x" * 11_000_000

def die():
    os._exit(7)

class Agent:
    async def run_step(self, request, memory, **more):
        what, _, folder = request.partition(" ")
        result = globals()[what](*[folder] * bool(folder))
        return await result if asyncio.iscoroutine(result) else result
"""


class Kind:
    """The steps of one kind that the contract is held by.

    Attributes:
        good: Succeeds with `result`.
        result: What comes of it.
        bad: Fails, as `bad_class`.
        endless: Runs until it is stopped.
        large: Gives more than a step may return.
        cut: Whether it succeeds all the same, with its output cut.
        death: Loses its process or connection while it works, which is a failure of `death_class`.
    """

    name: ClassVar[str]
    good: dict[str, Any]
    result: Any = {"answer": 42}
    bad: dict[str, Any]
    bad_class = ErrorType.SERVER_ERROR
    endless: dict[str, Any]
    large: dict[str, Any]
    cut = False
    death: dict[str, Any]
    death_class = ErrorType.TOOL_ERROR
    plan: dict[str, Any] = {}
    client: Any = None

    def __init__(self, folder: Path, server: HttpServer) -> None:
        self.folder = folder
        self.server = server

    def has_begun(self) -> bool:
        """Whether the endless work is being done."""
        return (self.folder / "pid").exists() and (self.folder / "pid").read_text() != ""

    def kill(self) -> None:
        """Kill what does the work, where `death` does not do so itself."""

    def is_stopped(self) -> bool:
        """Whether nothing is left of it."""
        return not is_alive(int((self.folder / "pid").read_text()))


class Function(Kind):
    name = "function"

    def __init__(self, folder: Path, server: HttpServer) -> None:
        super().__init__(folder, server)
        self.good, self.bad, self.large, self.death = (
            {"function": f"./calls.py:{name}", "mode": "process"} for name in ("good", "bad", "large", "die")
        )
        self.endless = {"function": "./calls.py:endless", "mode": "process", "args": {"folder": str(folder)}}


class InlineFunction(Kind):
    """The same on the engine's loop: nothing of it can die without the engine."""

    name = "function"

    def __init__(self, folder: Path, server: HttpServer) -> None:
        super().__init__(folder, server)
        self.good, self.bad, self.large, self.death = (
            {"function": f"./calls.py:{name}", "mode": "inline"} for name in ("good", "bad", "large", "bad")
        )
        self.death_class = ErrorType.SERVER_ERROR
        self.endless = {"function": "./calls.py:endless_inline", "mode": "inline", "args": {"folder": str(folder)}}

    def has_begun(self) -> bool:
        return (self.folder / "began").exists()

    def is_stopped(self) -> bool:
        return (self.folder / "ended").exists()


class Tool(Kind):
    name = "tool"

    def __init__(self, folder: Path, server: HttpServer) -> None:
        super().__init__(folder, server)
        names = ("good", "bad", "endless", "large", "die")
        self.plan = {"tools": {name: {"function": f"./calls.py:{name}", "mode": "process"} for name in names}}
        self.good, self.bad, self.large, self.death = ({"tool": name} for name in ("good", "bad", "large", "die"))
        self.endless = {"tool": "endless", "args": {"folder": str(folder)}}


class Agent(InlineFunction):
    name = "agent"
    result: Any = None

    def __init__(self, folder: Path, server: HttpServer) -> None:
        super().__init__(folder, server)
        self.plan = {"agents": {"helper": "./calls.py:Agent"}}
        self.good, self.bad, self.large, self.death = (
            {"agent": "helper", "request": name} for name in ("good", "bad", "large", "bad")
        )
        self.endless = {"agent": "helper", "request": f"endless_inline {folder}"}


class Shell(Kind):
    name = "shell"
    good: dict[str, Any] = {"shell": "echo 42"}
    result: Any = {"stdout": "42\n", "stderr": "", "exit_code": 0}
    bad: dict[str, Any] = {"shell": "echo no >&2; exit 3"}
    bad_class = ErrorType.TOOL_ERROR
    large: dict[str, Any] = {"shell": f"head -c {LARGE} /dev/zero | tr '\\0' x"}
    cut = True
    death: dict[str, Any] = {"shell": "kill -9 $$"}

    def __init__(self, folder: Path, server: HttpServer) -> None:
        super().__init__(folder, server)
        self.endless = {"shell": f"echo $$ > {folder}/pid; trap '' TERM; while :; do sleep 300; done"}


class Python(Kind):
    name = "python"
    good: dict[str, Any] = {"python": "{'answer': 42}"}
    bad: dict[str, Any] = {"python": "1 / 0"}
    bad_class = ErrorType.TOOL_ERROR
    endless: dict[str, Any] = {"python": "while True:\n    pass"}
    large: dict[str, Any] = {"python": f"'x' * {LARGE}"}
    death = endless

    def has_begun(self) -> bool:
        return any(child.cpu_times().user > 0.05 for child in sandboxes())

    def kill(self) -> None:
        for child in sandboxes():
            child.kill()

    def is_stopped(self) -> bool:
        before = [(child.pid, child.cpu_times().user) for child in sandboxes()]
        time.sleep(0.05)  # what computes has computed meanwhile
        return all((child.pid, child.cpu_times().user) in before for child in sandboxes())


class Http(Kind):
    name = "http"

    def __init__(self, folder: Path, server: HttpServer) -> None:
        super().__init__(folder, server)
        server.answers = {
            "/good": answer({"answer": 42}),
            "/bad": answer("busy", status="503 Service Unavailable"),
            "/endless": raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", hang_up=False),
            "/large": answer("x" * LARGE),
            "/death": raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"),
        }
        self.good, self.bad, self.endless, self.large, self.death = (
            {"http": {"url": server.url(path), "method": "GET"}} for path in server.answers
        )
        self.death_class = ErrorType.SERVER_ERROR
        self.result = None

    def has_begun(self) -> bool:
        return bool(self.server.exchanges)

    def is_stopped(self) -> bool:
        return self.server.exchanges[0].hung_up.is_set()


class Database(Kind):
    name = "db"
    bad_class = ErrorType.USER_ERROR

    def __init__(self, folder: Path, server: HttpServer) -> None:
        super().__init__(folder, server)
        self.file = folder / "it.db"
        with closing(sqlite3.connect(self.file)) as connection, connection:
            connection.execute("create table t (x)")
        (folder / "broken.db").write_bytes(b"this is no database " * 500)
        counting = "with recursive c(x) as (select 1 union all select x + 1 from c) select count(*) from c"
        self.good, self.bad, self.endless, self.large = (
            {"db": {"url": "sqlite:///it.db", "sql": sql}}
            for sql in (
                "select 42 as answer",
                "select * from nowhere",
                f"insert into t {counting}",
                f"select hex(zeroblob({LARGE // 2})) as x",
            )
        )
        self.death = {"db": {"url": "sqlite:///broken.db", "sql": "select * from t"}}
        self.death_class = ErrorType.USER_ERROR
        self.result = None

    def has_begun(self) -> bool:
        return not self.is_stopped()

    def is_stopped(self) -> bool:
        """Whether somebody else may write: the endless statement holds the lock."""
        with closing(sqlite3.connect(self.file, timeout=0)) as connection:
            try:
                connection.execute("begin immediate")
            except sqlite3.OperationalError:
                return False
            return True


class Client:
    """A model that does what its prompt says."""

    def __init__(self) -> None:
        self.began = self.ended = False

    async def create_response(self, input: str, tools: list[Any], **_: Any) -> dict[str, Any]:  # noqa: A002
        if input == "bad":
            raise ConnectionError("nobody there")
        if input == "endless":
            self.began = True
            try:
                await asyncio.sleep(300)
            finally:
                self.ended = True
        return {"id": "r", "content": "x" * LARGE if input == "large" else "42"}


class Prompt(Kind):
    name = "prompt"
    result: Any = "42"
    good: dict[str, Any] = {"prompt": "good"}
    bad: dict[str, Any] = {"prompt": "bad"}
    endless: dict[str, Any] = {"prompt": "endless"}
    large: dict[str, Any] = {"prompt": "large"}
    death: dict[str, Any] = {"prompt": "bad"}
    death_class = ErrorType.SERVER_ERROR

    def __init__(self, folder: Path, server: HttpServer) -> None:
        super().__init__(folder, server)
        self.client = Client()

    def has_begun(self) -> bool:
        return bool(self.client.began)

    def is_stopped(self) -> bool:
        return bool(self.client.ended)


SUBJECTS: tuple[type[Kind], ...] = (Function, InlineFunction, Tool, Agent, Shell, Python, Http, Database, Prompt)


def is_alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def sandboxes() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if child.name() == "monty" and is_alive(child.pid)]


async def until(found: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < deadline, "waited in vain"
        await asyncio.sleep(0.01)


@pytest_asyncio.fixture(params=SUBJECTS, ids=lambda subject: subject.__name__)
async def kind(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Kind]:
    (tmp_path / "calls.py").write_text(CODE)
    async with HttpServer() as server:
        yield request.param(tmp_path, server)


@pytest_asyncio.fixture
async def bench(kind: Kind) -> AsyncIterator[Bench]:
    async with Bench(folder=kind.folder, client=kind.client) as bench:
        yield bench


def plan_for(kind: Kind, *steps: dict[str, Any]) -> Any:
    return plan_of(*({"retry": {"max_attempts": 1}, **step} for step in steps), max_concurrent=1, **kind.plan)


async def one(bench: Bench, kind: Kind, step: dict[str, Any], *more: dict[str, Any]) -> Watched:
    return await bench.run(plan_for(kind, {"id": "a", **step}, *more))


def test_every_kind_is_held_to_the_contract() -> None:
    assert {subject.name for subject in SUBJECTS} == set(kinds_with_executors())


async def test_a_step_succeeds_with_its_output(bench: Bench, kind: Kind) -> None:
    run = await one(bench, kind, kind.good)
    assert run.statuses == {"a": "succeeded"}, run.state.steps["a"].error
    assert run.state.steps["a"].output is not None
    if kind.result is not None:
        assert run.outputs["a"] == kind.result
    else:
        assert "42" in str(run.outputs["a"])


async def test_a_failure_has_its_class_and_says_what_to_do_and_the_next_step_runs(bench: Bench, kind: Kind) -> None:
    run = await one(bench, kind, kind.bad, {"id": "b", **kind.good})
    error = run.state.steps["a"].error
    assert run.statuses == {"a": "failed", "b": "succeeded"}
    assert error is not None
    assert error.error_type is kind.bad_class, error
    assert error.message


async def test_a_timeout_ends_the_work_for_real_and_frees_its_slot(bench: Bench, kind: Kind) -> None:
    run = await one(bench, kind, {"timeout": 1.5, **kind.endless}, {"id": "b", **kind.good})
    await until(kind.is_stopped, STOPPED_WITHIN)
    error = run.state.steps["a"].error
    assert run.statuses == {"a": "timed_out", "b": "succeeded"}
    assert error is not None
    assert error.error_type is ErrorType.TIMEOUT
    assert "ran longer than its" in error.message
    assert "1.5 s" in error.message


async def test_a_cancel_ends_the_work_for_real_and_frees_its_slot(bench: Bench, kind: Kind) -> None:
    run = await bench.start(plan_for(kind, {"id": "a", **kind.endless}, {"id": "b", **kind.good}))
    await until(kind.has_begun, PATIENCE)
    await run.tell("cancel", step="a")
    await until(kind.is_stopped, STOPPED_WITHIN)
    await run.end()
    assert run.statuses == {"a": "cancelled", "b": "succeeded"}


async def test_an_output_over_the_limit_is_cut_or_refused_with_a_way_out(bench: Bench, kind: Kind) -> None:
    run = await one(bench, kind, kind.large, {"id": "b", **kind.good})
    step = run.state.steps["a"]
    assert run.statuses["b"] == "succeeded"
    if kind.cut:
        assert step.status is StepStatus.SUCCEEDED
        assert step.output is not None
        assert step.output.blob is not None
        assert step.output.blob.bytes < LARGE
        return
    assert step.status is StepStatus.FAILED
    assert step.error is not None
    assert step.error.error_type in (ErrorType.USER_ERROR, ErrorType.TOOL_ERROR), step.error
    assert step.error.hint, step.error.message


async def test_the_death_of_what_does_the_work_fails_this_step_and_no_other(bench: Bench, kind: Kind) -> None:
    run = await bench.start(plan_for(kind, {"id": "a", **kind.death}, {"id": "b", **kind.good}))
    if kind.death is kind.endless:
        await until(kind.has_begun, PATIENCE)
        kind.kill()
    await run.end()
    error = run.state.steps["a"].error
    assert run.statuses == {"a": "failed", "b": "succeeded"}
    assert error is not None
    assert error.error_type is kind.death_class, error


async def test_a_type_of_ones_own_carries_the_step_out(bench: Bench, kind: Kind) -> None:
    factory = executor_factory(kind.name)
    standard = factory.get_executor_class("standard")

    seen: list[str] = []

    class Own(standard):  # type: ignore[misc, valid-type]
        async def execute(self, args: Any, ctx: Any = None) -> Any:
            seen.append(f"{ctx.step_id} {sorted(args)}")
            return await super().execute(args, ctx)

    factory.register("own", Own)
    try:
        plain = await one(bench, kind, kind.good)
        own = await one(bench, kind, {"executor": "own", **kind.good})
    finally:
        factory.unregister("own")
    assert own.statuses == plain.statuses == {"a": "succeeded"}, own.state.steps["a"].error
    assert len(seen) == 1
    assert seen[0].startswith("a ")
    if kind.result is not None:
        assert own.outputs == plain.outputs

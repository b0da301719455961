"""Conversations that are cut off or fail in the middle: the next attempt goes on, nothing is asked or done twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import pytest_asyncio

from stepchain_tui.run.events import ToolFinished
from stepchain_tui.run.status import ErrorType
from tests.support.engines import PATIENCE, Bench, plan_of
from tests.support.model_server import RawModelServer, calls, status, text
from tests.support.prompts import finished, notes, told, turns, write_tools

SLOW = '''
import asyncio, os, subprocess, time
from pathlib import Path

folder = Path(__file__).parent

async def waits(name: str) -> str:
    """Wait until the test says so."""
    with open(folder / "waits.txt", "a") as file:
        file.write(name + "\\n")
    while not (folder / "go").exists():
        await asyncio.sleep(0.005)
    return f"{name} waited"

def stuck() -> str:
    """Hold a thread."""
    (folder / "stuck").touch()
    while not (folder / "go").exists():
        time.sleep(0.005)
    return "free"

def endless() -> str:
    """Hold a process."""
    (folder / "pid.new").write_text(str(os.getpid()))
    (folder / "pid.new").rename(folder / "pid")
    time.sleep(300)
    return ""
'''


@pytest_asyncio.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    (write_tools(tmp_path) / "slow.py").write_text(SLOW)
    async with Bench(folder=tmp_path) as made:
        yield made
        (tmp_path / "go").touch()


@pytest.fixture(scope="module")
def one_server() -> Iterator[RawModelServer]:
    with RawModelServer() as server:
        yield server


@pytest.fixture
def server(one_server: RawModelServer, monkeypatch: pytest.MonkeyPatch) -> RawModelServer:
    one_server.reset()
    for name, value in one_server.environment().items():
        monkeypatch.setenv(name, value)
    return one_server


def ask(*tools: str, **keys: Any) -> dict[str, Any]:
    return {"id": "ask", "prompt": "Work it out", "tools": [f"./{tool}" for tool in tools], **keys}


async def there(path: Path) -> None:
    async with asyncio.timeout(PATIENCE):
        while not path.exists():
            await asyncio.sleep(0.005)


NOTES = calls(("note", {"text": "one"}, "c1"), ("note", {"text": "two"}, "c2"))


async def test_a_retry_after_a_server_error_goes_on_behind_the_calls(bench: Bench, server: RawModelServer) -> None:
    server.answers(NOTES, status(500, "overloaded"), status(429, "slow", retry_after="1"), text("done"))
    found = await bench.run(plan_of(ask("tools.py:note", retry={"max_attempts": 3})))

    assert found.outputs == {"ask": "done"}
    assert sorted(notes(bench.folder)) == ["one", "two"]
    first, *others = server.bodies
    assert len(first["input"]) == 1
    assert [body["input"] for body in others[1:]] == [others[0]["input"]] * 2
    assert [turn.turn for turn in await turns(found)] == [1, 2]
    assert found.state.steps["ask"].attempt == 3
    await found.check()


async def test_where_the_provider_keeps_answers_a_retry_names_the_last_one(
    bench: Bench, server: RawModelServer
) -> None:
    first = calls(("note", {"text": "one"}, "c1"), response_id="r1")
    server.answers(first, status(500, "overloaded"), text("done"))
    step = ask("tools.py:note", retry={"max_attempts": 2}, model="m")
    found = await bench.run(plan_of(step, models={"m": {"stateful": True}}))

    assert found.outputs == {"ask": "done"}
    assert [body.get("previous_response_id") for body in server.bodies] == [None, "r1", "r1"]
    assert [len(body["input"]) for body in server.bodies] == [1, 1, 1]


async def test_a_run_that_failed_goes_on_where_it_stood_when_it_is_resumed(
    bench: Bench, server: RawModelServer
) -> None:
    server.answers(NOTES, status(500, "overloaded"))
    await bench.run(plan_of(ask("tools.py:note", retry={"max_attempts": 1})), "r")
    server.answers(text("done"))
    found = await bench.resume("r")

    assert found.outputs == {"ask": "done"}
    assert sorted(notes(bench.folder)) == ["one", "two"]
    assert len(server.bodies) == 3
    assert told((await turns(found))[-1]) == {"c1": {"written": "one"}, "c2": {"written": "two"}}


async def test_a_rerun_by_hand_begins_anew(bench: Bench, server: RawModelServer) -> None:
    server.answers(calls(("note", {"text": "one"}, "c1")), text("done"))
    found = await bench.run(plan_of(ask("tools.py:note")), "r")
    server.answers(calls(("note", {"text": "again"}, "c1")), text("done anew"))
    found = await bench.rerun("r", "ask")

    assert found.outputs == {"ask": "done anew"}
    assert notes(bench.folder) == ["one", "again"]
    assert len(server.bodies[2]["input"]) == 1


async def test_a_call_that_is_cut_off_by_a_pause_is_made_again_and_its_finished_sibling_is_not(
    bench: Bench, server: RawModelServer
) -> None:
    server.answers(calls(("note", {"text": "one"}, "c1"), ("waits", {"name": "Ada"}, "c2")), text("done"))
    found = await bench.start(plan_of(ask("tools.py:note", "slow.py:waits")), "r")
    await there(bench.folder / "waits.txt")
    await found.until(lambda _: any(isinstance(event, ToolFinished) for event in found.news))
    await found.tell("pause", now=True)
    await found.end()
    (bench.folder / "go").touch()
    found = await bench.resume("r")

    assert found.outputs == {"ask": "done"}
    assert notes(bench.folder) == ["one"]
    assert (bench.folder / "waits.txt").read_text().splitlines() == ["Ada", "Ada"]
    assert told((await turns(found))[-1]) == {"c1": {"written": "one"}, "c2": "Ada waited"}
    assert len(server.bodies) == 2


async def test_the_timeout_of_the_step_ends_a_call_and_the_next_try_makes_it_again(
    bench: Bench, server: RawModelServer
) -> None:
    server.answers(calls(("waits", {"name": "Ada"}, "c1")), text("done"))
    found = await bench.start(plan_of(ask("slow.py:waits", timeout=1.5, retry={"max_attempts": 2})), "r")
    await found.until(lambda state: state.steps["ask"].attempt == 2)
    (bench.folder / "go").touch()
    await found.end()

    assert found.outputs == {"ask": "done"}
    first, second = await finished(found)
    assert first.error is not None
    assert first.error.error_type is ErrorType.TIMEOUT
    assert second.error is None
    assert len(server.bodies) == 2


async def test_cancel_ends_every_call_in_flight_for_real(bench: Bench, server: RawModelServer) -> None:
    tools = {"endless": {"function": "./slow.py:endless", "mode": "process"}}
    server.answers(calls(("endless", {}, "c1"), ("waits", {"name": "Ada"}, "c2"), ("stuck", {}, "c3")), text("never"))
    asked = {**ask(), "tools": ["endless", "./slow.py:waits", "./slow.py:stuck"]}
    found = await bench.start(plan_of(asked, tools=tools), "r")
    for name in ("pid", "waits.txt", "stuck"):
        await there(bench.folder / name)
    process = psutil.Process(int((bench.folder / "pid").read_text()))
    await found.tell("cancel")
    await found.until_status("ask", "cancelled")

    assert not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    (bench.folder / "go").touch()  # a thread cannot be ended, and holds the run until it is free
    assert (await found.end()).value == "cancelled"
    assert all(event.error is not None for event in await finished(found))
    assert len(server.bodies) == 1


async def test_a_thread_that_goes_on_keeps_the_slot_of_its_step(bench: Bench, server: RawModelServer) -> None:
    server.answers(calls(("stuck", {}, "c1")), text("never"))
    plan = plan_of(ask("slow.py:stuck"), {"id": "other", "shell": "echo", "priority": -1}, max_concurrent=1)
    found = await bench.start(plan)
    await there(bench.folder / "stuck")
    await found.tell("cancel", step="ask")
    await found.until_status("ask", "cancelled")
    assert found.statuses["other"] in ("pending", "queued")
    (bench.folder / "go").touch()
    await found.end()
    assert found.statuses["other"] == "succeeded"


FORM = """
import time
from pathlib import Path

from pydantic import BaseModel, field_validator

class Answer(BaseModel):
    name: str

    @field_validator("name")
    @classmethod
    def waits(cls, name):
        (Path(__file__).parent / "stuck").touch()
        while not (Path(__file__).parent / "go").exists():
            time.sleep(0.005)
        return name
"""


async def test_a_check_of_an_answer_that_goes_on_keeps_the_slot_of_its_step(
    bench: Bench, server: RawModelServer
) -> None:
    (bench.folder / "form.py").write_text(FORM)
    server.answers(text('{"name": "x"}'))
    step = {**ask(), "expects": "./form.py:Answer"}
    plan = plan_of(step, {"id": "other", "shell": "echo", "priority": -1}, max_concurrent=1)
    found = await bench.start(plan)
    await there(bench.folder / "stuck")
    await found.tell("cancel", step="ask")
    await found.until_status("ask", "cancelled")
    assert found.statuses["other"] in ("pending", "queued")
    (bench.folder / "go").touch()
    await found.end()
    assert found.statuses["other"] == "succeeded"


async def test_a_secret_that_the_prompt_holds_is_stored_masked_and_sent_again_as_it_is(
    bench: Bench, server: RawModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PASSPHRASE", "open-sesame-4711")
    server.answers(
        calls(("note", {"text": "[secret OTHER]"}, "c1"), said="open-sesame-4711 it is"),
        status(500, "overloaded"),
        text("done"),
    )
    step = {**ask("tools.py:note", retry={"max_attempts": 2}), "prompt": "Say {{ secrets.PASSPHRASE }}"}
    found = await bench.run(plan_of(step, secrets=["PASSPHRASE"]))

    assert found.outputs == {"ask": "done"}
    assert "open-sesame" not in repr(await found.events())
    last = server.bodies[-1]["input"]
    assert last[0]["content"] == "Say open-sesame-4711"
    assert last[1]["content"][0]["text"] == "open-sesame-4711 it is"
    assert last == server.bodies[1]["input"]


async def test_an_input_of_type_secret_is_asked_with_again_as_it_is(bench: Bench, server: RawModelServer) -> None:
    server.answers(calls(("note", {"text": "x"}, "c1")), status(500, "overloaded"), text("done"))
    step = {**ask("tools.py:note", retry={"max_attempts": 2}), "prompt": "Say {{ inputs.phrase }}"}
    plan = plan_of(step, inputs={"phrase": {"type": "secret"}})
    found = await bench.run(plan, inputs={"phrase": "open-sesame-4711"})

    assert found.outputs == {"ask": "done"}
    assert "open-sesame" not in repr(await found.events())
    assert [body["input"][0]["content"] for body in server.bodies] == ["Say open-sesame-4711"] * 3


async def test_a_tool_that_writes_the_mark_of_a_secret_gets_nothing_for_it(
    bench: Bench, server: RawModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PASSPHRASE", "open-sesame-4711")
    server.answers(calls(("note", {"text": "[secret PASSPHRASE]"}, "c1")), status(500, "overloaded"), text("done"))
    step = ask("tools.py:note", retry={"max_attempts": 2})
    found = await bench.run(plan_of(step, secrets=["PASSPHRASE"]))

    assert found.outputs == {"ask": "done"}
    assert all("open-sesame" not in str(body) for body in server.bodies)
    assert notes(bench.folder) == ["[secret PASSPHRASE]"]


async def test_a_secret_input_that_a_tool_finds_is_masked_for_the_model(bench: Bench, server: RawModelServer) -> None:
    (bench.folder / "finds.py").write_text('def find() -> str:\n    """Look."""\n    return "it is open-sesame-4711"\n')
    server.answers(calls(("find", {}, "c1")), text("done"))
    plan = plan_of(ask("finds.py:find"), inputs={"phrase": {"type": "secret"}})
    found = await bench.run(plan, inputs={"phrase": "open-sesame-4711"})

    assert found.outputs == {"ask": "done"}
    assert "it is [secret phrase]" in str(server.bodies[-1]["input"][-1])

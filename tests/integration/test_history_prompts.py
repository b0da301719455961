"""Earlier results in prompts that ask a real model server: how much goes in, what is said of it, what is asked once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from stepchain_tui.run.events import ModelTurn
from stepchain_tui.store import MemoryStore
from tests.support.engines import Bench, plan_of
from tests.support.model_server import RawModelServer, calls, status, text

LONG = "x" * 4_000


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[RawModelServer]:
    with RawModelServer() as found:
        monkeypatch.setenv("OPENAI_BASE_URL", found.url)
        yield found


def long_then(history: Any, **keys: Any) -> Any:
    return plan_of(
        {"id": "long", "shell": f"printf {LONG}"},
        {"id": "short", "shell": "printf short", "dependencies": ["long"]},
        {"id": "ask", "prompt": "the question", "dependencies": ["short"], "history": history, **keys},
    )


def question(body: dict[str, Any]) -> str:
    return str(body["input"][-1]["content"])


async def test_the_size_before_and_after_is_told_with_the_turn_and_in_the_log(server: RawModelServer) -> None:
    server.answers(text("ok"))
    async with Bench() as bench:
        run = await bench.run(long_then({"last": 100}))
        (turn,) = await run.events("model.turn")
        lines = [line.text for line in await run.log("ask") if line.stream == "engine"]
    assert isinstance(turn, ModelTurn)
    assert turn.history_tokens is not None
    assert turn.history_tokens_before is not None
    assert turn.history_tokens < 200 < 1_000 < turn.history_tokens_before
    assert any(
        f"take {turn.history_tokens} tokens, {turn.history_tokens_before} before they were compressed" in line
        for line in lines
    )
    assert "the results of long." in question(server.bodies[0])
    assert LONG not in question(server.bodies[0])


async def test_a_summary_is_asked_once_counted_and_not_asked_again_in_another_try(server: RawModelServer) -> None:
    server.answers(text("it was all x"), status(500, "busy"), text("ok"))
    async with Bench() as bench:
        run = await bench.run(long_then({"summarise": 100}))
        turns = await run.events("model.turn")
    assert run.outputs["ask"] == "ok"
    assert len(server.bodies) == 3
    assert LONG in question(server.bodies[0])
    for body in server.bodies[1:]:
        assert "it was all x" in question(body)
        assert LONG not in question(body)
        assert question(body).endswith("the question")
    assert [turn.turn for turn in turns if isinstance(turn, ModelTurn)] == [0, 1]
    usage = run.state.steps["ask"].usage
    assert usage is not None
    assert usage.turns == 2


async def test_a_summary_that_fails_is_a_warning_and_the_step_goes_on(server: RawModelServer) -> None:
    server.answers(status(500, "busy"), text("ok"))
    async with Bench() as bench:
        run = await bench.run(long_then({"summarise": 100}))
    assert run.outputs["ask"] == "ok"
    assert "short" in question(server.bodies[1])
    last = run.state.steps["ask"].last
    assert last is not None
    assert any("could not be summarised" in warning for warning in last.warnings)


@pytest.mark.parametrize("stateful", [False, True])
async def test_a_conversation_goes_on_with_its_tool_calls_also_after_a_restart(
    stateful: bool, server: RawModelServer, tmp_path: Any
) -> None:
    (tmp_path / "tools.py").write_text("def add(a: int, b: int) -> int:\n    return a + b\n")
    plan = plan_of(
        {"id": "first", "prompt": "1 + 2?", "tools": ["./tools.py:add"], "model": "m"},
        {"id": "gate", "approve": "go on?", "dependencies": ["first"]},
        {"id": "second", "prompt": "twice that?", "dependencies": ["gate"], "history": "continue", "model": "m"},
        models={"m": {"stateful": stateful}},
    )
    server.answers(
        calls(("add", {"a": 1, "b": 2}, "c1"), response_id="r1"),
        text("3", response_id="r2"),
        text("6", response_id="r3"),
    )
    store = MemoryStore()
    async with Bench(store, tmp_path) as bench:
        await bench.run(plan, "r", detach=True)
    async with Bench(store, tmp_path) as bench:
        await bench.tell("r", "approve", step="gate", approved=True)
        run = await bench.resume("r")
    assert run.outputs["second"] == "6"
    asked = server.bodies[2]
    assert question(asked) == "twice that?"
    if stateful:
        assert asked["previous_response_id"] == "r2"
        assert len(asked["input"]) == 1
    else:
        kinds = [item.get("type", "message") for item in asked["input"]]
        assert kinds == ["message", "function_call", "function_call_output", "message", "message"]
        assert asked["input"][0]["content"] == "1 + 2?"

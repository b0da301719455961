"""The whole loop against a model server that is not this project's."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.support.engines import Bench, plan_of
from tests.support.model_server import ModelServer, model_server
from tests.support.prompts import finished, told, turns, write_tools

pytestmark = pytest.mark.needs("llmock")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelServer]:
    with model_server() as found:
        for name, value in found.environment().items():
            monkeypatch.setenv(name, value)
        yield found


@pytest_asyncio.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with Bench(folder=write_tools(tmp_path)) as made:
        yield made


async def test_two_tools_in_one_turn_a_failure_between_and_an_answer(bench: Bench, server: ModelServer) -> None:
    def match(**more: Any) -> dict[str, Any]:
        return {"userMessage": "add up", **more}

    wanted = [
        {"id": "call_a", "name": "add", "arguments": {"a": 1, "b": 2}},
        {"id": "call_b", "name": "note", "arguments": {"text": "hello"}},
    ]
    slow = {"error": {"message": "slow down", "type": "rate_limit_error"}, "status": 429, "retryAfter": 0.1}
    await server.fixtures(
        [
            {"match": match(hasToolResult=False), "response": {"toolCalls": wanted}},
            {"match": match(hasToolResult=True, sequenceIndex=0), "response": slow},
            {"match": match(hasToolResult=True), "response": {"content": "It is 3, and noted."}},
        ]
    )
    step = {"id": "ask", "prompt": "Please add up", "tools": ["./tools.py:add", "./tools.py:note"]}
    found = await bench.run(plan_of(step))

    assert found.outputs == {"ask": "It is 3, and noted."}
    assert sorted(event.tool_name for event in await finished(found)) == ["add", "note"]
    first, last = await turns(found)
    assert (first.finish_reason, last.finish_reason) == ("tool_calls", "stop")
    assert told(last) == {"call_a": 3, "call_b": {"written": "hello"}}
    assert first.provider == last.provider == server.url.split("/")[2]

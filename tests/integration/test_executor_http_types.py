"""HTTP executors by type: tries outside of plans, the examples of document 004, and steps of plans in an engine."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from stepchain_tui.core.clock import FakeClock
from stepchain_tui.core.errors import UsageError
from stepchain_tui.executors.base import CallTimeoutError
from stepchain_tui.executors.http import (
    BaseHttpExecutor,
    GraphQLExecutor,
    HttpExecutorFactory,
    HttpSteps,
    HttpToolExecutor,
    ToolSpec,
)
from stepchain_tui.executors.types import StepCall
from stepchain_tui.run import ErrorType
from tests.support.engines import Bench, plan_of
from tests.support.http_calls import TOKEN, call_for, failure_of, silence
from tests.support.http_server import PATIENCE, HttpServer, answer


@pytest.fixture
async def server() -> AsyncIterator[HttpServer]:
    async with HttpServer() as made:
        yield made


@pytest.fixture
async def steps() -> AsyncIterator[HttpSteps]:
    made = HttpSteps()
    yield made
    await made.close()


# --- tries outside of plans


async def test_a_call_outside_of_plans_is_tried_as_its_spec_says(server: HttpServer) -> None:
    server.answers["/"] = [
        answer(status="503 Busy"),
        answer(status="429 Slow", headers={"Retry-After": "5"}),
        answer("fine"),
    ]
    clock = FakeClock()
    async with HttpToolExecutor(ToolSpec(tool_name="fetch", retry={"max_attempts": 3}), clock) as executor:
        work = asyncio.create_task(executor.execute({"url": server.url(), "method": "POST"}))
        for number, seconds in enumerate((1.0, 5.0)):
            await server.exchange(number)
            async with asyncio.timeout(PATIENCE):
                while clock.next_wake is None:
                    await asyncio.sleep(0)
            assert clock.next_wake - clock.now() == timedelta(seconds=seconds)
            clock.advance(seconds)
        assert (await work)["body"] == "fine"
        server.answers["/no"] = answer(status="404 No")
        await failure_of(executor.execute({"url": server.url("/no")}))

    assert len(server.seen) == 4


def test_a_wrong_retry_names_its_key() -> None:
    with pytest.raises(UsageError, match=r"fetch: retry.max_attempts: "):
        HttpToolExecutor(ToolSpec(tool_name="fetch", retry={"max_attempts": 0}))


# --- document 004


class SeedGraphQL(BaseHttpExecutor):
    async def _execute_http_request(self, args, ctx, timeout):  # type: ignore[no-untyped-def]
        query = args.get("query")
        variables = args.get("variables", {})

        session = await self._get_session()
        async with session.post(
            self.spec.base_url,
            json={"query": query, "variables": variables},
            timeout=aiohttp.ClientTimeout(total=timeout),
        ) as response:
            data = await response.json()
            return {"status": response.status, "data": data}


async def test_the_documents_executor_runs_and_replaces_ours(
    server: HttpServer, steps: HttpSteps, tmp_path: Path
) -> None:
    server.answers["/"] = answer({"data": {"me": 1}})
    HttpExecutorFactory.register("graphql", SeedGraphQL)
    try:
        executor = HttpExecutorFactory.create_executor(
            ToolSpec(tool_name="ask", base_url=server.url()), executor_type="graphql"
        )
        assert isinstance(executor, SeedGraphQL)
        async with executor:
            result = await executor.execute({"query": "{ me }"}, None)
        request = {"url": server.url(), "json": {"query": "{ me }", "variables": {"a": 1}}}
        outcome = await steps.execute(call_for(request, tmp_path, step={"executor": "graphql"}))
    finally:
        HttpExecutorFactory.unregister("graphql")

    assert result == outcome.output == {"status": 200, "data": {"data": {"me": 1}}}
    assert json.loads(server.seen[0].body) == {"query": "{ me }", "variables": {}}
    assert json.loads(server.seen[1].body) == {"query": "{ me }", "variables": {"a": 1}}
    assert HttpExecutorFactory.get_executor_class("graphql") is GraphQLExecutor


async def test_a_custom_executor_inherits_time_words_and_secrecy(
    server: HttpServer, steps: HttpSteps, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVICE_TOKEN", "from-the-environment")

    class Leaky(SeedGraphQL):
        async def _execute_http_request(self, args, ctx, timeout):  # type: ignore[no-untyped-def]
            if "query" in args:
                return await super()._execute_http_request(args, ctx, timeout)
            raise KeyError("from-the-environment")

    server.answers["/"] = silence
    async with Leaky(ToolSpec(tool_name="ask", base_url=server.url(), timeout=1.0)) as executor:
        with pytest.raises(CallTimeoutError):
            await executor.execute({"query": "x"})
        leak = await failure_of_any(executor.execute({}))
    async with Leaky(ToolSpec(tool_name="ask", base_url="http://127.0.0.1:1/")) as executor:
        refused = await failure_of(executor.execute({"query": "x"}))

    assert "from-the-environment" not in str(leak)
    assert leak.__cause__ is None
    assert str(refused) == "ask: cannot connect to 127.0.0.1:1 (connection refused)"


async def failure_of_any(work: Any) -> Exception:
    with pytest.raises(Exception) as caught:
        await work
    return caught.value


async def test_graphql_in_a_plan(server: HttpServer, steps: HttpSteps, tmp_path: Path) -> None:
    server.answers["/graphql"] = [
        answer({"data": {"me": {"name": "Ada"}}}),
        answer({"errors": [{"message": "no such\nfield", "path": ["me", 0]}, {"message": "b"}], "data": None}),
        answer({"errors": [{"message": "wait", "extensions": {"code": "THROTTLED"}}]}),
        answer("<html>", kind="text/html"),
    ]
    request = {"url": server.url("/graphql"), "json": {"query": "query($id: ID) { me }", "variables": {"id": 5}}}

    def call() -> StepCall:
        return call_for(request, tmp_path, step={"executor": "graphql"})

    outcome = await steps.execute(call())
    failed = await failure_of(steps.execute(call()))
    limited = await failure_of(steps.execute(call()))
    no_json = await failure_of(steps.execute(call()))
    del request["json"]["query"]  # type: ignore[attr-defined]
    no_query = await failure_of(steps.execute(call()))

    assert outcome.output == {"status": 200, "data": {"data": {"me": {"name": "Ada"}}}}
    assert json.loads(server.seen[0].body) == {"query": "query($id: ID) { me }", "variables": {"id": 5}}
    assert server.seen[0].method == "POST"
    assert str(failed) == "fetch: GraphQL: no such field (at me.0), and 1 more"
    assert failed.error_type is ErrorType.TOOL_ERROR
    assert limited.error_type is ErrorType.RATE_LIMIT
    assert "no GraphQL answer" in str(no_json)
    assert str(no_query) == "fetch: query: is missing"


# --- in plans


async def test_a_plan_waits_as_the_server_asks_and_keeps_no_secret(
    server: HttpServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVICE", TOKEN)
    server.answers["/login"] = [
        answer(f"slow down, {TOKEN}", status="429 Too Many Requests", headers={"Retry-After": "30"}),
        answer({"user": "Ada", "token": TOKEN}, headers={"X-Echo": TOKEN}),
    ]
    steps = (
        {
            "id": "login",
            "http": {"url": server.url("/login"), "headers": {"Authorization": "Bearer {{ secrets.SERVICE }}"}},
        },
        {
            "id": "send",
            "http": {
                "url": server.url("/send"),
                "method": "POST",
                "json": {"user": "{{ steps.login.output.body.user }}", "n": "{{ 1 + 1 }}"},
                "params": {"status": "{{ steps.login.output.status }}"},
            },
        },
    )
    async with Bench(folder=tmp_path) as bench:
        run = await bench.run(plan_of(*steps, secrets=["SERVICE"]))

        assert run.statuses == {"login": "succeeded", "send": "succeeded"}
        assert bench.clock.jumps == [30.0]
        assert server.seen[0].headers["authorization"] == f"Bearer {TOKEN}"
        assert server.seen[2].query == [("status", "200")]
        assert json.loads(server.seen[2].body) == {"user": "Ada", "n": 2}
        assert server.seen[2].headers["idempotency-key"]
        assert run.outputs["login"]["body"] == {"user": "Ada", "token": "[secret SERVICE]"}
        assert TOKEN not in str(await run.events()) + str(await run.log())
        assert any("POST" in line.text for line in await run.log("send"))


@pytest.mark.parametrize("executor", ["standard", "graphql"])
async def test_a_step_of_any_type_that_takes_too_long_timed_out(
    server: HttpServer, tmp_path: Path, executor: str
) -> None:
    server.answers["/"] = silence
    step = {
        "id": "slow",
        "http": {"url": server.url(), "json": {"query": "{ me }"}},
        "executor": executor,
        "timeout": 2.0,
        "retry": {"max_attempts": 1},
    }
    HttpExecutorFactory.register("graphql", SeedGraphQL)
    try:
        async with Bench(folder=tmp_path) as bench:
            run = await bench.run(plan_of(step))
    finally:
        HttpExecutorFactory.unregister("graphql")

    assert run.statuses == {"slow": "timed_out"}
    await asyncio.wait_for(server.exchanges[0].hung_up.wait(), PATIENCE)

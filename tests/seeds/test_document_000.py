"""Document 000: its examples as printed but for the import, its signatures, and what its text promises."""

from __future__ import annotations

import asyncio
import inspect
import threading
from typing import Any, NotRequired, get_origin, get_type_hints

import pytest

import stepchain_tui
from stepchain_tui import (
    AbstractStore,
    AsyncExecutor,
    AsyncLLMClient,
    CompressionStrategy,
    ErrorType,
    Executor,
    FullHistory,
    LLMClient,
    LLMResponse,
    MemoryStore,
    Plan,
    Scheduler,
    SQLiteStore,
    Step,
    StepResult,
    execute,
)
from stepchain_tui.core.errors import RunLockedError, UsageError
from tests.support.model_server import RawModelServer, text


class FakeClient:
    """What a user writes: no base class, one method."""

    def __init__(self) -> None:
        self.inputs: list[str] = []
        self.given: list[dict[str, Any]] = []
        self.errors: list[Exception] = []

    @property
    def questions(self) -> list[str]:
        """The prompts without the earlier results before them."""
        return [text.rpartition("\n\n")[2] for text in self.inputs]

    def create_response(
        self,
        input: str,  # noqa: A002 - the document's name
        tools: list[dict[str, Any]],
        previous_response_id: str | None = None,
        store: bool = True,
        **kwargs: Any,
    ) -> LLMResponse:
        self.inputs.append(input)
        self.given.append({"tools": tools, "previous_response_id": previous_response_id, "store": store, **kwargs})
        if self.errors:
            raise self.errors.pop(0)
        return {"id": f"resp_{len(self.inputs)}", "content": f"answer to {self.questions[-1]}"}


class FakeAsyncClient(FakeClient):
    """The same, awaitable."""

    async def create_response(self, input: str, tools: list[dict[str, Any]], **kwargs: Any) -> LLMResponse:  # type: ignore[override] # noqa: A002
        await asyncio.sleep(0)
        return FakeClient.create_response(self, input, tools, **kwargs)


class RateLimitError(Exception):
    """Named as the SDK's."""


@pytest.fixture
def client() -> FakeClient:
    return FakeClient()


def the_plan() -> Plan:
    return Plan(
        goal="Fetch and process data from external API",
        steps=[
            Step(id="fetch", prompt="Fetch data from API"),
            Step(id="process", prompt="Process the data", dependencies=["fetch"]),
        ],
    )


def statuses(results: list[StepResult]) -> dict[str, str]:
    return {result.step_id: str(result.status) for result in results}


# --- the examples


def test_the_example_of_the_executor_runs_as_it_is_printed(client: FakeClient) -> None:
    from stepchain_tui import Executor, Plan, Step

    executor = Executor(client=client)
    plan = Plan(
        goal="Fetch and process data from external API",
        steps=[
            Step(id="fetch", prompt="Fetch data from API"),
            Step(id="process", prompt="Process the data", dependencies=["fetch"]),
        ],
    )

    results = executor.execute_plan(plan, run_id="analysis_20240115")

    assert statuses(results) == {"fetch": "succeeded", "process": "succeeded"}
    assert client.questions == ["Fetch data from API", "Process the data"]
    assert [result.output for result in results] == ["answer to Fetch data from API", "answer to Process the data"]


def test_the_example_of_the_async_executor_runs_as_it_is_printed(client: FakeClient) -> None:
    from stepchain_tui import AsyncExecutor

    plan, found = the_plan(), []

    async def main() -> None:
        executor = AsyncExecutor(Executor(client=client), max_concurrent=3)
        results = await executor.execute_plan(plan, "run123")
        found.extend(results)

    asyncio.run(main())
    assert statuses(found) == {"fetch": "succeeded", "process": "succeeded"}


def test_without_a_client_and_a_key_the_variable_and_the_step_are_named() -> None:
    results = Executor().execute_plan(the_plan(), run_id="r")
    assert statuses(results) == {"fetch": "failed", "process": "blocked"}
    assert "OPENAI_API_KEY" in (results[0].error or "")
    assert "'fetch'" in (results[0].error or "")
    assert (results[0].error_type, results[0].attempts) == (ErrorType.USER_ERROR, 1)


# --- signatures


def parameters(function: Any, count: int) -> list[tuple[str, Any]]:
    found = list(inspect.signature(function).parameters.values())[:count]
    assert all(parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD for parameter in found)
    return [(parameter.name, parameter.default) for parameter in found]


EMPTY = inspect.Parameter.empty


def test_the_signatures_are_those_of_the_document() -> None:
    names = ("client", "store", "compression_strategy", "telemetry")
    assert parameters(Executor, 4) == [(name, None) for name in names]
    expected = [("executor", None), ("scheduler", None), ("max_concurrent", 5), ("telemetry", None)]
    assert parameters(AsyncExecutor, 4) == expected
    call = [("self", EMPTY), ("plan", EMPTY), ("run_id", EMPTY), ("resume", True)]
    assert parameters(Executor.execute_plan, 4) == parameters(AsyncExecutor.execute_plan, 4) == call
    assert not inspect.iscoroutinefunction(Executor.execute_plan)
    assert inspect.iscoroutinefunction(AsyncExecutor.execute_plan)
    asked = list(inspect.signature(LLMClient.create_response).parameters.values())[1:]
    assert [(found.name, found.default) for found in asked] == [
        ("input", EMPTY),
        ("tools", EMPTY),
        ("previous_response_id", None),
        ("store", True),
        ("kwargs", EMPTY),
    ]
    assert asked[-1].kind is inspect.Parameter.VAR_KEYWORD


def test_a_response_is_a_dictionary_with_the_documents_keys() -> None:
    hints = get_type_hints(LLMResponse, include_extras=True)
    assert set(hints) == {"id", "content", "tool_calls", "usage"}
    assert {name for name, hint in hints.items() if get_origin(hint) is NotRequired} == {"tool_calls", "usage"}
    assert LLMResponse.__required_keys__ == {"id", "content"}


def test_the_error_types_are_those_of_the_document() -> None:
    names = ("RATE_LIMIT", "SERVER_ERROR", "TOOL_ERROR", "USER_ERROR", "UNKNOWN")
    assert [ErrorType[name].value for name in names] == [name.lower() for name in names]


def test_every_public_name_can_be_imported_from_the_package() -> None:
    for name in stepchain_tui.__all__:
        assert getattr(stepchain_tui, name) is not None
    assert set(stepchain_tui.__all__) <= set(dir(stepchain_tui))
    with pytest.raises(AttributeError):
        _ = stepchain_tui.Nothing


# --- clients


def test_a_client_is_known_by_its_method_alone(client: FakeClient) -> None:
    assert isinstance(client, LLMClient)
    assert isinstance(FakeAsyncClient(), AsyncLLMClient)
    assert not isinstance(object(), LLMClient)


def test_an_async_client_serves_prompts_too() -> None:
    fake = FakeAsyncClient()
    results = Executor(fake).execute_plan(the_plan(), "r")
    assert statuses(results) == {"fetch": "succeeded", "process": "succeeded"}


def test_outputs_reach_the_prompts_that_refer_to_them(client: FakeClient) -> None:
    plan = Plan(steps=[Step(id="a", prompt="one"), Step(id="b", prompt="use {{ steps.a.output }}", system="be short")])
    Executor(client).execute_plan(plan, "r")
    assert client.inputs == ["one", "use answer to one"]
    assert client.given[1]["tools"] == []


def test_a_rate_limit_is_tried_again_and_a_users_error_is_not(client: FakeClient) -> None:
    plan = Plan(
        steps=[Step.model_validate({"id": "a", "prompt": "p", "retry": {"max_attempts": 3, "initial_delay": 0.0}})]
    )
    client.errors = [RateLimitError("slow down"), ConnectionError("gone")]
    results = Executor(client).execute_plan(plan, "r1")
    assert (statuses(results), results[0].attempts, len(client.inputs)) == ({"a": "succeeded"}, 3, 3)
    client.errors = [TypeError("not like this")]
    results = Executor(client).execute_plan(plan, "r2")
    assert (statuses(results), results[0].attempts, len(client.inputs)) == ({"a": "failed"}, 1, 4)
    assert results[0].error_type is ErrorType.USER_ERROR


# --- what a prompt knows of earlier steps


def three_steps() -> Plan:
    return Plan(
        steps=[
            Step(id="a", prompt="one"),
            Step(id="b", shell="echo two", dependencies=["a"]),
            Step(id="c", prompt="three", dependencies=["b"]),
        ]
    )


@pytest.mark.parametrize("strategy", [None, FullHistory()])
def test_by_default_a_prompt_holds_the_output_of_every_step_before_it_word_for_word(
    client: FakeClient, strategy: FullHistory | None
) -> None:
    store = MemoryStore()
    results = Executor(client, store, strategy).execute_plan(three_steps(), "r")
    first, second = client.inputs
    assert first == "one"
    assert "answer to one" in second
    assert results[1].output["stdout"].strip() in second
    assert second.endswith("\n\nthree")


def test_a_strategy_of_the_user_is_asked_once_for_each_prompt_with_the_results_before_it(client: FakeClient) -> None:
    seen: list[list[tuple[str, Any]]] = []

    class Short(CompressionStrategy):
        def compress(self, results: Any) -> str:
            seen.append([(result.step_id, result.output) for result in results])
            return "in short: it went well" if results else ""

    Executor(client, MemoryStore(), Short()).execute_plan(three_steps(), "r")
    shell_output = {"stdout": "two\n", "stderr": "", "exit_code": 0}
    assert seen == [[], [("a", "answer to one"), ("b", shell_output)]]
    assert client.inputs[0] == "one"
    assert "in short: it went well" in client.inputs[1]
    assert "answer to one" not in client.inputs[1]


async def test_a_strategy_of_the_wrapped_executor_is_used_and_one_that_is_none_is_refused(client: FakeClient) -> None:
    class Nothing:
        def compress(self, results: Any) -> None:
            return None

    await AsyncExecutor(Executor(client, MemoryStore(), Nothing())).execute_plan(three_steps(), "r")
    assert client.inputs == ["one", "three"]
    with pytest.raises(UsageError, match="compression_strategy: str is no object with a method compress"):
        Executor(client, compression_strategy="full")
    with pytest.raises(UsageError, match="compression_strategy: FullHistory is no object"):
        Executor(client, compression_strategy=FullHistory)


def test_what_a_strategy_raises_fails_the_step_with_its_class(client: FakeClient) -> None:
    class Broken(CompressionStrategy):
        def compress(self, results: Any) -> str:
            raise TypeError("not like this")

    results = Executor(client, MemoryStore(), Broken()).execute_plan(the_plan(), "r")
    assert (results[0].error, results[0].error_type) == ("not like this", ErrorType.USER_ERROR)
    assert client.inputs == []


def test_a_dependent_step_goes_on_from_its_parents_answer(client: FakeClient) -> None:
    Executor(client, MemoryStore()).execute_plan(three_steps(), "r")
    assert [given["previous_response_id"] for given in client.given] == [None, "resp_1"]


@pytest.mark.parametrize("kept", [True, False])
def test_the_api_is_told_the_parents_answer_where_it_keeps_answers_and_may(
    kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = [
        {"id": "a", "prompt": "one", "model": "m"},
        {"id": "b", "prompt": "two", "model": "m", "dependencies": ["a"]},
    ]
    options = {} if kept else {"options": {"store": False}}
    with RawModelServer() as server:
        server.answers(text("first", response_id="resp_of_a"), text("second", response_id="resp_of_b"))
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        plan = Plan.model_validate({"steps": steps, "models": {"m": {"stateful": True, **options}}})
        results = execute(plan, store=MemoryStore())
    assert [result.output for result in results] == ["first", "second"]
    assert [body["store"] for body in server.bodies] == [kept, kept]
    assert [body.get("previous_response_id") for body in server.bodies] == [None, "resp_of_a" if kept else None]


def test_names_of_tools_become_what_the_api_takes(client: FakeClient) -> None:
    results = execute(
        Plan(steps=[Step(id="a", prompt="p", tools=["python_code", "web_search"])]), client=client, store=MemoryStore()
    )
    assert statuses(results) == {"a": "succeeded"}
    code, search = client.given[0]["tools"]
    assert search == {"type": "web_search"}
    assert (code["type"], code["name"]) == ("function", "python_code")
    assert code["parameters"]["required"] == ["code"]


def test_execute_carries_a_plan_out_and_goes_on_with_a_run_that_is_named(client: FakeClient) -> None:
    store = MemoryStore()
    first = execute(the_plan(), "r", client=client, store=store)
    assert execute(the_plan(), run_id="r", client=client, store=store) == first
    assert len(client.inputs) == 2
    assert statuses(execute(the_plan(), client=client, store=store)) == statuses(first)
    assert len(client.inputs) == 4
    assert len(execute(the_plan(), "r", False, client=client, store=store)) == 2
    assert len(client.inputs) == 6


# --- resume


def test_a_second_call_asks_no_model_and_resume_false_asks_again_with_old_attempts_kept(client: FakeClient) -> None:
    executor = Executor(client)
    first = executor.execute_plan(the_plan(), "r")
    second = executor.execute_plan(the_plan(), "r")
    assert len(client.inputs) == 2
    assert second == first
    third = executor.execute_plan(the_plan(), "r", resume=False)
    assert len(client.inputs) == 4
    assert [result.attempts for result in third] == [2, 2]
    fourth = executor.execute_plan(the_plan(), "r", False)
    assert [result.attempts for result in fourth] == [3, 3]


def test_a_later_call_goes_on_from_the_last_step_that_is_not_done(client: FakeClient) -> None:
    client.errors = [RuntimeError("x"), RuntimeError("x"), RuntimeError("x")]
    steps = [
        {"id": "a", "shell": "true"},
        {"id": "b", "prompt": "p", "dependencies": ["a"], "retry": {"initial_delay": 0.0}},
        {"id": "c", "prompt": "q", "dependencies": ["b"]},
    ]
    plan = Plan.model_validate({"steps": steps})
    store = MemoryStore()
    assert statuses(Executor(client, store).execute_plan(plan, "r")) == {
        "a": "succeeded",
        "b": "failed",
        "c": "blocked",
    }
    results = Executor(client, store).execute_plan(plan, "r")
    assert statuses(results) == {"a": "succeeded", "b": "succeeded", "c": "succeeded"}
    assert [result.attempts for result in results] == [1, 4, 1]
    assert client.questions == ["p"] * 4 + ["q"]


def test_every_step_has_a_result_in_plan_order_also_a_blocked_one(client: FakeClient) -> None:
    client.errors = [TypeError("no")]
    steps = [
        Step(id="z", prompt="p", dependencies=["a"]),
        Step(id="a", prompt="p"),
        Step(id="m", shell="true", when=False),
    ]
    results = Executor(client).execute_plan(Plan(steps=steps), "r")
    assert [(result.step_id, result.status) for result in results] == [
        ("z", "blocked"),
        ("a", "failed"),
        ("m", "skipped"),
    ]
    blocked = results[0]
    assert (blocked.output, blocked.error, blocked.error_type, blocked.attempts) == (None, "a failed", None, 0)
    failed = results[1]
    assert (failed.error, failed.error_type) == ("no", ErrorType.USER_ERROR)
    assert failed.started_at is not None
    assert failed.finished_at == failed.completed_at
    assert not failed.succeeded


# --- stores and schedulers


def test_runs_are_kept_in_the_users_store_where_none_is_given(client: FakeClient, isolated: Any) -> None:
    Executor(client).execute_plan(the_plan(), "in_history")

    async def look() -> list[str]:
        store = SQLiteStore()
        await store.open()
        try:
            return [run.run_id for run in await store.list_runs()]
        finally:
            await store.close()

    assert asyncio.run(look()) == ["in_history"]


def test_a_store_of_the_user_is_used(client: FakeClient) -> None:
    class Counting(MemoryStore):
        commits = 0

        def commit(self, *given: Any) -> None:
            self.commits += 1
            super().commit(*given)

    store = Counting()
    assert isinstance(store, AbstractStore)
    executor = Executor(client, store)
    executor.execute_plan(the_plan(), "r")
    assert executor.store is store
    assert store.commits > 0


async def test_a_scheduler_of_the_user_reverses_the_order(client: FakeClient) -> None:
    class Reversed(Scheduler):
        def sort_key(self, step: Step, position: int) -> Any:
            return -position

    steps = [Step(id=name, prompt=name) for name in "abcd"]
    executor = AsyncExecutor(Executor(client, MemoryStore()), Reversed(), 1)
    await executor.execute_plan(Plan(steps=steps), "r")
    assert client.inputs == ["d", "c", "b", "a"]


async def test_max_concurrent_of_the_executor_holds(client: FakeClient) -> None:
    running, most = 0, 0
    guard = threading.Lock()

    class Slow(FakeAsyncClient):
        async def create_response(self, *given: Any, **keys: Any) -> LLMResponse:  # type: ignore[override]
            nonlocal running, most
            with guard:
                running += 1
                most = max(most, running)
            for _ in range(5):
                await asyncio.sleep(0)
            running -= 1
            return {"id": "r", "content": "ok"}

    steps = [Step(id=f"s{n}", prompt="p") for n in range(9)]
    await AsyncExecutor(max_concurrent=3, store=MemoryStore(), client=Slow()).execute_plan(Plan(steps=steps), "r")
    assert most == 3


# --- loops, threads and concurrent calls


async def test_the_executor_works_inside_a_running_loop(client: FakeClient) -> None:
    results = Executor(client).execute_plan(the_plan(), "r")
    assert statuses(results) == {"fetch": "succeeded", "process": "succeeded"}
    results = Executor(client).execute_plan(the_plan(), "r")
    assert len(client.inputs) == 2


class Gated(FakeAsyncClient):
    """A client that answers when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.gate, self.stopped = asyncio.Event(), asyncio.Event(), 0

    async def create_response(self, *given: Any, **keys: Any) -> LLMResponse:  # type: ignore[override]
        self.asked.set()
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.stopped += 1
            raise
        return {"id": "r", "content": "ok"}


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_two_calls_with_one_run_id_at_once_are_refused_and_the_first_goes_on(kind: str) -> None:
    gated = Gated()
    executor = AsyncExecutor(store=MemoryStore() if kind == "memory" else SQLiteStore(), client=gated)
    first = asyncio.create_task(executor.execute_plan(the_plan(), "r"))
    await gated.asked.wait()
    with pytest.raises(RunLockedError):
        await executor.execute_plan(the_plan(), "r")
    gated.gate.set()
    assert statuses(await asyncio.wait_for(first, 10)) == {"fetch": "succeeded", "process": "succeeded"}


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_one_executor_carries_out_several_runs_at_once(kind: str, client: FakeClient) -> None:
    executor = AsyncExecutor(store=MemoryStore() if kind == "memory" else SQLiteStore(), client=FakeAsyncClient())
    calls = [executor.execute_plan(the_plan(), f"r{n}") for n in range(4)]
    for results in await asyncio.wait_for(asyncio.gather(*calls), 20):
        assert statuses(results) == {"fetch": "succeeded", "process": "succeeded"}


async def test_cancelling_the_call_cancels_the_run_and_stops_its_work() -> None:
    gated, store = Gated(), MemoryStore()
    executor = AsyncExecutor(store=store, client=gated)
    call = asyncio.create_task(executor.execute_plan(the_plan(), "r"))
    await gated.asked.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(call, 10)
    assert gated.stopped == 1
    await store.open()
    state = await store.load_state("r")
    assert (state.status, {step.status for step in state.steps.values()}) == ("cancelled", {"cancelled"})
    gated.gate.set()
    results = await executor.execute_plan(the_plan(), "r")
    assert statuses(results) == {"fetch": "succeeded", "process": "succeeded"}


async def test_a_call_that_is_cancelled_twice_can_be_repeated() -> None:
    gated, store = Gated(), MemoryStore()
    executor = AsyncExecutor(store=store, client=gated)
    for _ in range(2):
        gated.asked.clear()
        call = asyncio.create_task(executor.execute_plan(the_plan(), "r"))
        await gated.asked.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(call, 10)
    gated.gate.set()
    assert statuses(await executor.execute_plan(the_plan(), "r"))["process"] == "succeeded"


def test_functions_of_python_can_be_steps_and_are_resumed(client: FakeClient) -> None:
    calls: list[int] = []

    def double(n: int) -> int:
        calls.append(n)
        return 2 * n

    steps = [Step(id="a", function=double, args={"n": 21}), Step(id="b", prompt="say {{ steps.a.output }}")]
    executor = Executor(client)
    results = executor.execute_plan(Plan(steps=steps), "r")
    assert results[0].output == 42
    assert client.inputs == ["say 42"]
    executor.execute_plan(Plan(steps=steps), "r")
    assert calls == [21]


def test_results_are_read_without_running_anything_also_beside_a_run(tmp_path):
    from stepchain_tui import SQLiteStore
    from stepchain_tui.core.errors import UnknownRunError

    plan = Plan(goal="x", steps=[Step(id="a", shell=f"echo x >> {tmp_path}/calls; echo one")])
    first = Executor(store=SQLiteStore(tmp_path / "runs.db"))
    done = first.execute_plan(plan, run_id="r")
    assert first.get_results("r") == done
    other = Executor(store=SQLiteStore(tmp_path / "runs.db"))
    assert other.get_results("r") == done
    assert (tmp_path / "calls").read_text() == "x\n"
    with pytest.raises(UnknownRunError):
        other.get_results("q")

    async def beside() -> None:
        store = SQLiteStore(tmp_path / "runs.db")
        executor = AsyncExecutor(store=store)
        waits = Plan(steps=[Step(id="a", shell=f"while [ ! -e {tmp_path}/go ]; do sleep 0.01; done")])
        task = asyncio.create_task(executor.execute_plan(waits, "live"))
        while not await _knows(executor, "live"):
            await asyncio.sleep(0.01)
        (tmp_path / "go").touch()
        assert [result.status for result in await task] == ["succeeded"]

    asyncio.run(beside())


async def _knows(executor, run_id: str) -> bool:
    from stepchain_tui.core.errors import UnknownRunError

    try:
        return [result.status for result in await executor.get_results(run_id)] == ["running"]
    except UnknownRunError:
        return False

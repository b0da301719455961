"""What a run does is told as spans: how long each part took, what it was part of, and no contents unasked."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, ClassVar

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from stepchain_tui import AsyncExecutor, Executor, Plan, Step
from stepchain_tui.core.errors import UsageError
from stepchain_tui.core.settings import Settings
from stepchain_tui.core.telemetry import Span, Telemetry
from stepchain_tui.executors.prompt import BasePromptExecutor, PromptExecutorFactory
from stepchain_tui.executors.testing import use_executor
from stepchain_tui.run import AttemptError, ErrorType
from stepchain_tui.store import MemoryStore
from tests.support.engines import Bench, plan_of, shell


class Fake:
    """What a user writes: no base class."""

    def __init__(self, contents: bool = False) -> None:
        self.contents = contents
        self.started: list[Span] = []
        self.spans: list[Span] = []

    def span_started(self, span: Span) -> None:
        assert span.end is None
        self.started.append(span)

    def span_ended(self, span: Span) -> None:
        assert span.end is not None
        self.spans.append(span)

    def named(self, name: str) -> Span:
        (found,) = [span for span in self.spans if span.name == name]
        return found

    def tree(self) -> set[tuple[str, str]]:
        """Return every span by name with the name of what it is part of."""
        names = {span.span_id: span.name for span in self.started}
        return {(span.name, names.get(span.parent_id, "")) for span in self.spans}


class Talking(BasePromptExecutor):
    """Holds a conversation with a tool call in it; `failures` come first."""

    failures: ClassVar[list[Exception]] = []

    async def _execute_prompt(self, args: dict[str, Any], ctx: Any, timeout: float | None) -> Any:
        ports = ctx.ports
        if self.failures:
            ports.model_turn(model="m", provider="api.openai.com", finish_reason="error")
            raise self.failures.pop(0)
        call = {"type": "function_call", "call_id": "c1", "name": "look", "arguments": '{"at": "it"}'}
        ports.model_turn(
            model="gpt-5",
            provider="api.openai.com",
            response_id="r1",
            input_tokens=11,
            output_tokens=7,
            cached_tokens=3,
            reasoning_tokens=2,
            duration=1.5,
            first_text_after=0.25,
            finish_reason="tool_calls",
            request_id="q1",
            sent=[{"role": "user", "content": args["prompt"]}],
            output=[{"type": "reasoning", "summary": [{"text": "hm"}]}, call],
        )
        ports.tool_started(call_id="c1", tool_name="look", arguments={"at": "it"})
        ports.tool_finished(
            call_id="c1", tool_name="look", arguments={"at": "it"}, execution_time=0.1, result={"seen": "all"}
        )
        ports.tool_finished(
            call_id="w1", tool_name="web_search", arguments={}, execution_time=0.0, result="found", hosted=True
        )
        ports.model_turn(
            model="gpt-5",
            turn=2,
            duration=0.5,
            finish_reason="stop",
            sent=[{"type": "function_call_output", "call_id": "c1", "output": '{"seen": "all"}'}],
            output=[{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "done"}]}],
        )
        return "done"


@pytest.fixture
def talking() -> Iterator[list[Exception]]:
    Talking.failures = []
    with use_executor(PromptExecutorFactory, "standard", Talking):
        yield Talking.failures


# --- document 000's face


@pytest.mark.parametrize("face", ["sync", "async", "wrapped"])
async def test_a_plan_and_each_step_have_a_span_at_the_moments_of_the_results(face: str) -> None:
    fake = Fake()
    plan = Plan(goal="two steps", steps=[Step(id="a", shell="true"), Step(id="b", shell="true", dependencies=["a"])])
    if face == "sync":
        results = await asyncio.to_thread(Executor(store=MemoryStore(), telemetry=fake).execute_plan, plan, "r")
    elif face == "async":
        results = await AsyncExecutor(store=MemoryStore(), telemetry=fake).execute_plan(plan, "r")
    else:
        results = await AsyncExecutor(Executor(store=MemoryStore(), telemetry=fake)).execute_plan(plan, "r")
    (whole,) = [span for span in fake.spans if span.kind == "plan"]
    steps = {str(span.attributes["stepchain.step.id"]): span for span in fake.spans if span.kind == "step"}
    assert (whole.name, whole.parent_id, whole.error_type) == ("invoke_workflow two steps", "", "")
    assert len(fake.spans) == len(fake.started) == 3
    for result in results:
        span = steps[result.step_id]
        assert (span.start, span.end) == (result.started_at, result.finished_at)
        assert (span.parent_id, span.trace_id) == (whole.span_id, whole.trace_id)
        assert span.duration == (result.finished_at - result.started_at).total_seconds()  # type: ignore[operator]
    assert whole.start <= steps["a"].start
    assert whole.end is not None
    assert whole.end >= steps["b"].end  # type: ignore[operator]
    assert len({span.span_id for span in fake.spans}) == 3


async def test_spans_of_steps_and_runs_that_overlap_keep_their_parents() -> None:
    fake = Fake()
    executor = AsyncExecutor(store=MemoryStore(), telemetry=fake)
    plans = [Plan(goal=f"goal {n}", steps=[Step(id=name, shell="true") for name in "abc"]) for n in range(2)]
    await asyncio.gather(*(executor.execute_plan(plan, f"r{n}") for n, plan in enumerate(plans)))
    assert len(fake.spans) == 8
    wholes = {span.span_id: span for span in fake.spans if span.kind == "plan"}
    for span in fake.spans:
        if span.kind == "step":
            assert wholes[span.parent_id].trace_id == span.trace_id
            assert wholes[span.parent_id].attributes["stepchain.run.id"] == span.attributes["stepchain.run.id"]


def test_an_object_that_can_get_no_spans_is_refused() -> None:
    with pytest.raises(UsageError, match="telemetry: int has no method span_ended"):
        Executor(telemetry=3)
    with pytest.raises(UsageError, match="telemetry"):
        AsyncExecutor(telemetry=object())


async def test_a_class_made_from_telemetry_needs_only_the_end() -> None:
    class Mine(Telemetry):
        def __init__(self) -> None:  # and need not know what its base wants
            self.names: list[str] = []

        def span_ended(self, span: Span) -> None:
            self.names.append(span.name)

    mine = Mine()
    async with Bench(telemetry=mine) as bench:
        await bench.run(plan_of(shell("a", "true")))
    assert mine.names == ["shell a", "invoke_workflow a goal"]


async def test_an_object_that_raises_ends_the_telling_and_not_the_run(caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        told = 0

        def span_ended(self, span: Span) -> None:
            self.told += 1
            raise RuntimeError("no")

    broken = Broken()
    with caplog.at_level(logging.ERROR, logger="stepchain.telemetry"):
        async with Bench(telemetry=broken) as bench:
            run = await bench.run(plan_of(shell("a", "true"), shell("b", "true")), "r")
    assert set(run.statuses.values()) == {"succeeded"}
    assert broken.told == 1
    assert "run r: nothing more is told of it" in caplog.text


# --- what becomes of runs and attempts


async def test_each_attempt_has_a_span_with_the_class_of_its_failure() -> None:
    fake = Fake()
    step = shell("a", "exit 3", retry={"max_attempts": 2, "initial_delay": 5, "jitter": False}, on_failure="continue")
    async with Bench(telemetry=fake) as bench:
        await bench.run(plan_of(step, shell("b", "exit 1")))
    first, second = [span for span in fake.spans if span.name == "shell a"]
    assert [span.attributes["stepchain.attempt"] for span in (first, second)] == [1, 2]
    assert (first.error_type, first.attributes["stepchain.attempt.status"]) == ("tool_error", "failed")
    assert second.start - first.end == timedelta(seconds=5)  # type: ignore[operator]
    whole = fake.named("invoke_workflow a goal")
    assert (whole.error_type, whole.attributes["stepchain.run.status"]) == ("failed", "failed")
    assert whole.attributes["gen_ai.workflow.name"] == "a goal"


async def test_parts_of_maps_and_plans_are_part_of_them(tmp_path: Any) -> None:
    (tmp_path / "inner.yaml").write_text("inputs: {n: {type: integer}}\nsteps:\n  - {id: deep, shell: 'true'}\n")
    fake = Fake()
    plan = plan_of(
        {"id": "each", "for_each": [1, 2], "shell": "true"},
        {"id": "sub", "plan": "./inner.yaml", "args": {"n": 1}},
        {"id": "subs", "plan": "./inner.yaml", "args": {"n": "{{ item }}"}, "for_each": [1]},
    )
    async with Bench(folder=tmp_path, telemetry=fake) as bench:
        run = await bench.run(plan)
    assert set(run.statuses.values()) == {"succeeded"}, run.state.steps
    whole = "invoke_workflow a goal"
    assert fake.tree() >= {
        ("shell each[0]", "shell each"),
        ("shell each[1]", "shell each"),
        ("shell each", whole),
        ("plan sub", whole),
        ("shell sub/deep", "plan sub"),
        ("plan subs[0]", "plan subs"),
        ("shell subs[0]/deep", "plan subs[0]"),
    }
    assert len(fake.started) == len(fake.spans)


async def test_a_run_that_is_gone_on_with_is_the_same_trace_and_leaves_nothing_open() -> None:
    store, first, second = MemoryStore(), Fake(), Fake()
    plan = plan_of({"id": "ask", "approve": "sure?"}, shell("b", "true", "ask"))
    async with Bench(store, telemetry=first) as bench:
        await bench.run(plan, "r", detach=True)
    assert first.tree() == {("approve ask", "invoke_workflow a goal"), ("invoke_workflow a goal", "")}
    assert first.named("invoke_workflow a goal").attributes["stepchain.run.status"] == "waiting"
    async with Bench(store, telemetry=second) as bench:
        await bench.tell("r", "approve", step="ask", approved=True)
        await bench.resume("r", detach=True)
    assert ("shell b", "invoke_workflow a goal") in second.tree()
    assert {span.trace_id for span in (*first.spans, *second.spans)} == {first.spans[0].trace_id}
    assert len(second.started) == len(second.spans)


async def test_a_replay_tells_nothing_whatever_is_done_with_it(talking: list[Exception]) -> None:
    store, fake = MemoryStore(), Fake()
    async with Bench(store) as bench:
        await bench.run(plan_of({"id": "p", "prompt": "look"}, shell("b", "true", "p")), "r")
    async with Bench(store, telemetry=fake) as bench:
        replayed = await bench.engine.replay("r", live=["shell"], new_run_id="again")
        assert await replayed.wait() == "succeeded"
        await bench.rerun("again", "p")
    assert fake.started == []


async def test_a_cancelled_run_ends_what_is_open() -> None:
    fake = Fake()
    async with Bench(telemetry=fake) as bench:
        run = await bench.start(plan_of(shell("a", "sleep 60")))
        await run.until_status("a", "running")
        await run.tell("cancel")
        await run.end()
    assert fake.named("shell a").attributes["stepchain.attempt.status"] == "cancelled"
    assert fake.named("invoke_workflow a goal").error_type == "cancelled"


# --- models and tools


async def test_turns_and_calls_are_part_of_their_attempt(talking: list[Exception]) -> None:
    fake = Fake()
    async with Bench(telemetry=fake) as bench:
        await bench.run(plan_of({"id": "p", "prompt": "look at it"}), "r")
    assert fake.tree() == {
        ("invoke_workflow a goal", ""),
        ("prompt p", "invoke_workflow a goal"),
        ("chat gpt-5", "prompt p"),
        ("execute_tool look", "prompt p"),
        ("execute_tool web_search", "prompt p"),
    }
    chat = next(span for span in fake.spans if span.kind == "model")
    assert chat.duration == 1.5
    assert {**chat.attributes, "stepchain.cost.usd": 0.0} == {
        "stepchain.cost.usd": 0.0,
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "server.address": "api.openai.com",
        "gen_ai.request.model": "gpt-5",
        "gen_ai.response.model": "gpt-5",
        "gen_ai.response.id": "r1",
        "gen_ai.response.finish_reasons": ["tool_calls"],
        "gen_ai.response.time_to_first_chunk": 0.25,
        "gen_ai.usage.input_tokens": 11,
        "gen_ai.usage.output_tokens": 7,
        "gen_ai.usage.cache_read.input_tokens": 3,
        "gen_ai.usage.reasoning.output_tokens": 2,
        "stepchain.request.id": "q1",
        "gen_ai.conversation.id": "r",
        "stepchain.run.id": "r",
    }
    look, search = fake.named("execute_tool look"), fake.named("execute_tool web_search")
    assert look.attributes["gen_ai.tool.call.id"] == "c1"
    assert (look.attributes["gen_ai.tool.type"], search.attributes["gen_ai.tool.type"]) == ("function", "extension")


async def test_what_a_hostile_server_writes_is_cut(talking: list[Exception]) -> None:
    class Hostile(BasePromptExecutor):
        async def _execute_prompt(self, args: dict[str, Any], ctx: Any, timeout: float | None) -> Any:
            huge = "x\n" * 20_000
            ctx.ports.model_turn(model=huge, response_id=huge, finish_reason=huge, output=[{"type": huge}])
            ctx.ports.tool_started(call_id=huge, tool_name=huge, arguments={})
            ctx.ports.tool_finished(call_id=huge, tool_name=huge, arguments={}, execution_time=-1.0, result="")
            ctx.ports.model_turn(
                model="m", sent=["text", 7, {"content": [3, {"text": None}]}], output=[], duration=-5.0
            )
            return "x"

    fake = Fake()
    with use_executor(PromptExecutorFactory, "standard", Hostile):
        async with Bench(telemetry=fake) as bench:
            run = await bench.run(plan_of({"id": "p", "prompt": "look"}, goal="long\n" * 100, trace=True))
    assert run.statuses == {"p": "succeeded"}
    assert len(fake.spans) == 5
    for span in fake.spans:
        assert len(span.name) < 110
        assert "\n" not in span.name
        assert span.end is not None
        assert span.end >= span.start
        for value in span.attributes.values():
            assert len(value if isinstance(value, str) else json.dumps(value)) < 70_000


async def test_a_failed_answer_is_an_error(talking: list[Exception]) -> None:
    fake = Fake()
    talking.append(AttemptError("busy", error_type=ErrorType.RATE_LIMIT))
    async with Bench(telemetry=fake) as bench:
        await bench.run(plan_of({"id": "p", "prompt": "look"}))
    assert [span.error_type for span in fake.spans if span.name.startswith("chat")] == ["error", "", ""]
    assert [span.error_type for span in fake.spans if span.kind == "step"] == ["rate_limit", ""]


@pytest.mark.parametrize(
    ("trace", "asked", "told"), [(None, False, 0), (True, False, 1), (None, True, 1), (False, True, 0)]
)
async def test_contents_are_told_only_where_the_plan_or_the_settings_ask(
    talking: list[Exception], trace: bool | None, asked: bool, told: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_API_KEY", "sk-very-secret")
    fake = Fake(contents=asked)
    keys = {} if trace is None else {"trace": trace}
    async with Bench(telemetry=fake) as bench:
        await bench.run(plan_of({"id": "p", "prompt": "is sk-very-secret here?"}, **keys))
    everything = json.dumps([span.attributes for span in fake.spans])
    assert "sk-very-secret" not in everything
    assert ("[secret SOME_API_KEY]" in everything) is bool(told)
    assert ("seen" in everything) is bool(told)
    if told:
        first, second = [span.attributes for span in fake.spans if span.kind == "model"]
        assert json.loads(str(first["gen_ai.input.messages"])) == [
            {"role": "user", "parts": [{"type": "text", "content": "is [secret SOME_API_KEY] here?"}]}
        ]
        assert json.loads(str(first["gen_ai.output.messages"])) == [
            {
                "role": "assistant",
                "parts": [
                    {"type": "reasoning", "content": "hm"},
                    {"type": "tool_call", "id": "c1", "name": "look", "arguments": '{"at": "it"}'},
                ],
                "finish_reason": "tool_calls",
            }
        ]
        assert json.loads(str(second["gen_ai.input.messages"])) == [
            {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": '{"seen": "all"}'}]}
        ]
        look = fake.named("execute_tool look").attributes
        assert (look["gen_ai.tool.call.arguments"], look["gen_ai.tool.call.result"]) == (
            '{"at":"it"}',
            '{"seen":"all"}',
        )


async def test_an_agents_step_is_named_after_the_agent(tmp_path: Any) -> None:
    code = "class Clerk:\n    def run_step(self, request, memory):\n        return {'response': 'yes'}\n"
    (tmp_path / "clerk.py").write_text(code)
    fake = Fake()
    plan = plan_of({"id": "a", "agent": "clerk", "request": "hi"}, agents={"clerk": "./clerk.py:Clerk"})
    async with Bench(folder=tmp_path, telemetry=fake) as bench:
        run = await bench.run(plan)
    assert run.statuses == {"a": "succeeded"}
    span = fake.named("invoke_agent clerk")
    assert span.attributes["gen_ai.agent.name"] == "clerk"
    assert span.attributes["gen_ai.operation.name"] == "invoke_agent"


# --- OpenTelemetry


async def test_opentelemetry_gets_the_same_spans_and_measurements(talking: list[Exception]) -> None:
    memory, reader = InMemorySpanExporter(), InMemoryMetricReader()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(memory))
    meters = MeterProvider([reader], shutdown_on_exit=False)
    with provider.get_tracer("the program").start_as_current_span("around"):
        async with Bench(telemetry=Telemetry(provider, meter_provider=meters)) as bench:
            run = await bench.run(plan_of({"id": "p", "prompt": "look"}, shell("bad", "exit 1")))
    spans = {span.name: span for span in memory.get_finished_spans()}
    whole, step, tool = spans["invoke_workflow a goal"], spans["prompt p"], spans["execute_tool look"]
    assert whole.parent is None
    assert step.parent.span_id == whole.context.span_id
    assert tool.parent.span_id == step.context.span_id
    assert {span.context.trace_id for name, span in spans.items() if name != "around"} == {whole.context.trace_id}
    started = run.state.steps["p"].started_at
    assert started is not None
    assert step.start_time == round(started.timestamp() * 1_000_000) * 1_000
    chat = spans["chat gpt-5"]
    assert (chat.kind, tool.kind) == (SpanKind.CLIENT, SpanKind.INTERNAL)
    assert spans["shell bad"].status.status_code is StatusCode.ERROR
    assert spans["shell bad"].attributes["error.type"] == "tool_error"
    data = json.loads(reader.get_metrics_data().to_json())
    metrics = data["resource_metrics"][0]["scope_metrics"][0]["metrics"]
    points = {metric["name"]: metric["data"]["data_points"] for metric in metrics}
    assert {
        point["attributes"]["gen_ai.token.type"]: point["sum"] for point in points["gen_ai.client.token.usage"]
    } == {
        "input": 11,
        "output": 7,
    }
    assert sum(point["sum"] for point in points["gen_ai.client.operation.duration"]) == 2.0
    provider.shutdown()
    meters.shutdown()


@pytest.mark.parametrize("what", ["provider", "tracer"])
async def test_a_tracer_provider_or_a_tracer_will_do(talking: list[Exception], what: str) -> None:
    memory = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(memory))
    async with Bench(telemetry=provider if what == "provider" else provider.get_tracer("mine")) as bench:
        await bench.run(plan_of({"id": "p", "prompt": "look"}))
    assert len(memory.get_finished_spans()) == 6
    provider.shutdown()


# --- nothing unasked


async def test_without_telemetry_nothing_listens_to_a_run() -> None:
    async with Bench(settings=Settings()) as bench:
        await bench.engine.start(bench.source(plan_of(shell("a", "true"))), run_id="r")
        assert not bench.engine.core.recorder._listeners

"""What was said and done with a model is kept turn by turn: the next attempt goes on from there."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from stepchain_tui.engine.takeover import record_death
from stepchain_tui.executors.prompt import BasePromptExecutor, PromptExecutorFactory
from stepchain_tui.executors.testing import use_executor
from stepchain_tui.executors.types import ApprovalNeeded, StepCall
from stepchain_tui.plan import plan_to_json
from stepchain_tui.run.events import ItemInterrupted, StepInterrupted, encode_event
from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.status import ErrorType
from stepchain_tui.store import MemoryStore
from stepchain_tui.store.archive import export_run
from stepchain_tui.store.importing import import_run, trust_run
from tests.support.engines import Bench, Watched, plan_of

KEY = "key of files.delete"
CALL_ITEM = {"type": "function_call", "call_id": "c1", "name": "files_delete", "arguments": "{}"}


class Talking(BasePromptExecutor):
    """A conversation of a test: each attempt does what the script's next function does."""

    script: ClassVar[list[Callable[[StepCall, Any], Any]]] = []
    calls: ClassVar[list[StepCall]] = []

    async def _execute_prompt(self, args: dict[str, Any], ctx: Any, timeout: float | None) -> Any:
        self.calls.append(ctx.call)
        return self.script.pop(0)(ctx.call, ctx.ports)


def turn(number: int, *output: Any, **facts: Any) -> Callable[[Any], None]:
    def tell(ports: Any) -> None:
        sent = [{"role": "user", "content": f"question {number}"}]
        ports.model_turn(model="m", turn=number, sent=sent, output=list(output), **facts)

    return tell


def tool_ended(ports: Any, call_id: str, result: Any) -> None:
    ports.tool_started(call_id=call_id, tool_name="look", arguments={})
    ports.tool_finished(call_id=call_id, tool_name="look", arguments={}, execution_time=0.1, result=result)


def fails(error_type: ErrorType) -> AttemptError:
    return AttemptError("no", error_type=error_type)


@pytest.fixture(autouse=True)
def script() -> Iterator[list[Any]]:
    Talking.script, Talking.calls = [], []
    with use_executor(PromptExecutorFactory, "standard", Talking):
        yield Talking.script


def ask(step_id: str = "ask", **keys: Any) -> dict[str, Any]:
    return {"id": step_id, "prompt": "hello", "model": "scripted", "replies": ["x"], **keys}


def first_turn_then(error: Exception) -> Callable[[StepCall, Any], Any]:
    def attempt(call: StepCall, ports: Any) -> Any:
        turn(1, {"type": "function_call", "call_id": "c1"}, {"type": "function_call", "call_id": "c2"})(ports)
        tool_ended(ports, "c1", {"n": 1})
        raise error

    return attempt


def done(call: StepCall, ports: Any) -> Any:
    return "done"


async def test_a_retry_goes_on_from_the_turns_and_calls_that_ended(script: list[Any]) -> None:
    script += [first_turn_then(fails(ErrorType.SERVER_ERROR)), done]
    async with Bench() as bench:
        run = await bench.run(plan_of(ask()))
        assert run.outputs["ask"] == "done"
        first, second = Talking.calls
        assert first.exchanges == ()
        (exchange,) = second.exchanges
        assert (exchange.turn, exchange.sent[0]["content"], len(exchange.output)) == (1, "question 1", 2)
        assert {call_id: result.value for call_id, result in exchange.results.items()} == {"c1": {"n": 1}}
        assert run.state.steps["ask"].exchanges == {}
        await run.check()


async def test_another_engine_goes_on_from_there_too(script: list[Any]) -> None:
    script += [first_turn_then(fails(ErrorType.SERVER_ERROR)), done]
    store = MemoryStore()
    async with Bench(store) as bench:
        run = await bench.run(plan_of(ask(retry={"max_attempts": 1})))
        assert run.statuses["ask"] == "failed"
    async with Bench(store) as second:
        resumed = await second.resume(run.run_id)
        assert resumed.outputs["ask"] == "done"
        assert [exchange.turn for exchange in Talking.calls[-1].exchanges] == [1]
        await resumed.check()


@pytest.mark.parametrize("how", ["user_error", "rerun", "edit"])
async def test_a_conversation_that_is_over_is_not_gone_on_with(script: list[Any], how: str) -> None:
    error = ErrorType.USER_ERROR if how == "user_error" else ErrorType.SERVER_ERROR
    script += [first_turn_then(fails(error)), done]
    async with Bench() as bench:
        run = await bench.run(plan_of(ask(retry={"max_attempts": 1})))
        if how == "rerun":
            await bench.rerun(run.run_id, "ask")
        else:
            if how == "edit":
                plan = plan_of(ask(prompt="something else", retry={"max_attempts": 1}))
                edited = plan.model_validate_json(plan_to_json(plan)).model_dump(mode="json", exclude_unset=True)
                assert (await bench.tell(run.run_id, "edit", plan=edited, text=""))["ok"]
            await bench.resume(run.run_id)
        assert len(Talking.calls) == 2
        assert Talking.calls[-1].exchanges == ()


async def test_items_of_a_map_have_conversations_of_their_own(script: list[Any]) -> None:
    script += [first_turn_then(fails(ErrorType.SERVER_ERROR)), done, done]
    async with Bench() as bench:
        run = await bench.run(plan_of(ask(for_each=[1, 2], max_concurrent=1)))
        assert run.outputs["ask"] == ["done", "done"]
        assert sorted(len(call.exchanges) for call in Talking.calls) == [0, 0, 1]
        await run.check()


async def test_large_turns_are_loaded_before_the_attempt(script: list[Any]) -> None:
    def large(call: StepCall, ports: Any) -> Any:
        turn(1, {"type": "message", "content": "x" * 100_000})(ports)
        raise fails(ErrorType.SERVER_ERROR)

    script += [large, done]
    async with Bench() as bench:
        run = await bench.run(plan_of(ask()))
        assert run.outputs["ask"] == "done"
        assert len(Talking.calls[-1].exchanges[0].output[0]["content"]) == 100_000


def asks_for_delete(call: StepCall, ports: Any) -> Any:
    if not call.exchanges:
        turn(1, CALL_ITEM)(ports)
    answer = call.answers.get("c1")
    if answer is None and KEY not in call.allowed_tools:
        raise ApprovalNeeded("c1", "files.delete", {"path": "a"}, KEY)
    return "asked nobody" if answer is None else {"approved": answer.approved, "arguments": answer.arguments}


async def asked(run: Watched, step_id: str = "ask") -> Any:
    await run.until_status(step_id, "waiting")
    return run.state.steps[step_id].waiting


async def test_a_no_to_a_models_call_goes_back_to_the_model(script: list[Any]) -> None:
    script += [asks_for_delete, asks_for_delete]
    async with Bench() as bench:
        run = await bench.start(plan_of(ask()))
        assert (await asked(run)).tool_key == KEY
        assert (await run.tell("approve", step="ask", approved=False))["ok"]
        assert await run.end() == "succeeded"
        assert run.outputs["ask"] == {"approved": False, "arguments": None}
        assert len(Talking.calls[-1].exchanges) == 1
        await run.check()


async def test_what_a_person_changed_reaches_the_model_and_what_not_is_left_to_it(script: list[Any]) -> None:
    script += [asks_for_delete, asks_for_delete]
    async with Bench() as bench:
        run = await bench.start(plan_of(ask()))
        await asked(run)
        await run.tell("approve", step="ask", fields={"path": "b"})
        assert await run.end() == "succeeded"
        assert run.outputs["ask"] == {"approved": True, "arguments": {"path": "b"}}


async def test_an_answer_can_hold_for_the_whole_run(script: list[Any]) -> None:
    script += [asks_for_delete] * 3
    async with Bench() as bench:
        run = await bench.start(plan_of(ask(), ask("later", dependencies=["ask"])))
        await asked(run)
        await run.tell("approve", step="ask", remember=True)
        assert await run.end() == "succeeded"
        assert run.outputs["later"] == "asked nobody"
        await run.check()


async def test_what_was_allowed_elsewhere_is_asked_for_again_after_an_import(script: list[Any], tmp_path: Path) -> None:
    script += [asks_for_delete] * 3
    store, file = MemoryStore(), tmp_path / "run.archive"
    async with Bench(store) as bench:
        run = await bench.start(plan_of(ask(), ask("later", dependencies=["ask"], breakpoint="before")))
        await asked(run)
        await run.tell("approve", step="ask", remember=True)
        await asked(run, "later")
        await run.tell("pause")
        await run.end()
        await export_run(store, run.run_id, file, program="0", now=bench.clock.now())
    async with Bench() as elsewhere:
        await import_run(elsewhere.store, file, now=elsewhere.clock.now())
        await trust_run(elsewhere.store, run.run_id)
        again = Watched(elsewhere, await elsewhere.engine.resume(run.run_id))
        await asked(again, "later")
        await again.tell("approve", step="later")
        await again.until(lambda state: state.steps["later"].waiting is not None and state.steps["later"].passed)
        assert Talking.calls[-1].allowed_tools == frozenset()
        assert again.state.steps["later"].waiting.reason == "tool_approval"


async def test_the_word_for_the_whole_run_is_only_for_tools_that_offer_it(script: list[Any]) -> None:
    def once_only(call: StepCall, ports: Any) -> Any:
        if not call.answers:
            raise ApprovalNeeded("c1", "files.delete", {})
        return "done"

    script += [once_only, once_only]
    async with Bench() as bench:
        run = await bench.start(plan_of(ask()))
        await asked(run)
        refused = await run.tell("approve", step="ask", remember=True)
        assert (refused["ok"], "once only" in refused["message"]) == (False, True)
        await run.tell("approve", step="ask")
        assert await run.end() == "succeeded"


async def test_usage_counts_what_is_known_and_says_how_many_turns_are_not(script: list[Any]) -> None:
    def talk(call: StepCall, ports: Any) -> Any:
        turn(1, input_tokens=10, output_tokens=5, cached_tokens=4)(ports)
        turn(2, input_tokens=None, output_tokens=None)(ports)
        return "done"

    script.append(talk)
    async with Bench() as bench:
        run = await bench.run(plan_of(ask()))
        usage = run.state.usage
        assert (usage.turns, usage.input_tokens, usage.output_tokens, usage.unknown_turns) == (2, 10, 5, 1)
        assert (usage.cached_tokens, usage.unpriced_turns >= 1) == (4, True)


async def test_what_a_server_writes_into_ids_and_names_is_masked_and_cut(script: list[Any]) -> None:
    secret, huge = "opensesame42", "x" * 100_000

    def hostile(call: StepCall, ports: Any) -> Any:
        if call.exchanges:
            ports.model_turn(model=huge, response_id=huge, request_id=huge, finish_reason=huge, turn=2, output=[])
            return "done"
        items = [{"type": "function_call", "call_id": f"c {secret}", "name": secret, "arguments": "{}"}]
        ports.model_turn(
            model=f"m {secret}", response_id=f"r {secret}", request_id=secret, finish_reason=secret, output=items
        )
        ports.tool_started(call_id=f"c {secret}", tool_name=secret, arguments={})
        ports.tool_finished(call_id=f"c {secret}", tool_name=secret, arguments={}, execution_time=0.1, result="ok")
        raise ApprovalNeeded(f"c {secret}", secret, {}, KEY)

    script += [hostile, hostile]
    async with Bench() as bench:
        run = await bench.start(plan_of(ask(), secrets=["TOKEN"]), environment={"TOKEN": secret})
        assert secret not in (await asked(run)).question
        assert (await bench.tell(run.run_id, "approve", step="ask", approved=True))["ok"]
        await run.end()
        assert run.outputs["ask"] == "done"
        (exchange,) = Talking.calls[1].exchanges
        ids = [item["call_id"] for item in exchange.output]
        assert ids == list(exchange.results) == list(Talking.calls[1].answers)  # so that nothing is called twice
        events = await bench.store.read_events(run.run_id)
        stored = "".join(encode_event(event).decode() for event in events)
        assert secret not in stored + "".join(line.text for line in await run.log("ask"))
        assert "[secret TOKEN]" in stored
        assert max(len(encode_event(event)) for event in events) < 10_000


async def test_a_secret_that_streams_in_two_pieces_is_masked_in_the_log() -> None:
    secret, begun, ready = "opensesame42", asyncio.Event(), asyncio.Event()

    class Streaming(BasePromptExecutor):
        async def _execute_prompt(self, args: dict[str, Any], ctx: Any, timeout: float | None) -> Any:
            ctx.ports.log("text", "it is opense")
            begun.set()
            await ready.wait()
            ctx.ports.log("text", "same42, and that is opense")
            return "done"

    with use_executor(PromptExecutorFactory, "standard", Streaming):
        async with Bench() as bench:
            run = await bench.start(plan_of(ask(), secrets=["TOKEN"]), environment={"TOKEN": secret})
            await begun.wait()
            async with asyncio.timeout(20):
                while not (lines := await run.log("ask")):
                    await asyncio.sleep(0.01)
            assert [line.text for line in lines] == ["it is "]
            ready.set()
            await run.end()
            said = "".join(line.text for line in await run.log("ask") if line.stream.startswith("text"))
            assert said == "it is [secret TOKEN], and that is opense"


async def test_pieces_of_streamed_text_that_are_stored_together_are_one_line_of_the_log() -> None:
    words = [f"w{number} " for number in range(50)]

    class Fast(BasePromptExecutor):
        async def _execute_prompt(self, args: dict[str, Any], ctx: Any, timeout: float | None) -> Any:
            for word in words:
                ctx.ports.log("text", word)
                ctx.ports._write_piece()
            return "done"

    with use_executor(PromptExecutorFactory, "standard", Fast):
        async with Bench() as bench:
            run = await bench.run(plan_of(ask()))
            lines = [line.text for line in await run.log("ask")]
            assert "".join(lines) == "".join(words)
            assert len(lines) == 1


async def test_a_call_of_the_provider_is_no_result_of_a_call_with_the_same_id(script: list[Any]) -> None:
    def with_hosted(call: StepCall, ports: Any) -> Any:
        turn(1, {"type": "web_search_call", "id": "c1"}, {"type": "function_call", "call_id": "c1"})(ports)
        ports.tool_finished(
            call_id="c1", tool_name="web_search", arguments={}, execution_time=0, result="found", hosted=True
        )
        raise fails(ErrorType.SERVER_ERROR)

    script += [with_hosted, done]
    async with Bench() as bench:
        run = await bench.run(plan_of(ask()))
        assert run.outputs["ask"] == "done"
        assert Talking.calls[-1].exchanges[0].results == {}


def asks_each(call: StepCall, ports: Any) -> Any:
    """Ask for the call of each item; that of the first is tried once more, and so asks after the second's."""
    if call.value == "0" and call.attempt == 1:
        raise fails(ErrorType.SERVER_ERROR)
    if not call.exchanges:
        turn(1, CALL_ITEM)(ports)
    answer = call.answers.get("c1")
    if answer is not None:
        return {"approved": answer.approved, "arguments": answer.arguments}
    if KEY in call.allowed_tools:
        return "asked nobody"
    raise ApprovalNeeded("c1", "files.delete", {"path": call.value}, KEY)


async def test_an_item_that_was_answered_goes_on_before_another_asks(script: list[Any]) -> None:
    script += [asks_each] * 12
    async with Bench() as bench:
        step = ask(for_each=[0, 1, 2], prompt="{{ item }}", max_concurrent=1, retry={"max_attempts": 3})
        run = await bench.start(plan_of(step))
        waiting = await asked(run)
        first = waiting.item
        assert first == 1
        await run.until(lambda state: len(run.bench.clock.jumps) > 0)
        assert waiting.question.startswith(f"ask[{first}] wants to call files.delete")
        assert (await run.tell("approve", step="ask", approved=False))["message"] == f"ask[{first}]: the call is denied"
        await run.until(lambda state: (now := state.steps["ask"].waiting) is not None and now is not waiting)
        assert run.state.steps["ask"].items[first].status == "succeeded"
        await run.tell("approve", step="ask", remember=True)
        assert await run.end() == "succeeded"
        said = run.outputs["ask"]
        assert said[first] == {"approved": False, "arguments": None}
        assert [one for one in said if one == "asked nobody"] == ["asked nobody"]
        await run.check()


async def test_the_question_of_an_item_outlives_its_engine_and_the_item_is_not_taken_for_cut_off(
    script: list[Any],
) -> None:
    script += [asks_for_delete] * 8
    async with Bench() as bench:
        run = await bench.start(plan_of(ask(for_each=[1, 2], max_concurrent=1)))
        waiting = await asked(run)
        state = copy.deepcopy(run.state)
        told: list[tuple[Any, dict[str, Any]]] = []

        class Death:
            """What a journal is told of the end of the engine."""

            def __init__(self) -> None:
                self.state = state

            def emit(self, kind: Any, **fields: Any) -> None:
                told.append((kind, fields))

        record_death(Death())  # type: ignore[arg-type]
        assert state.steps["ask"].waiting == waiting
        assert [kind for kind, _ in told if kind in (ItemInterrupted, StepInterrupted)] == []

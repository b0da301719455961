"""What came before a prompt reaches it: results of earlier steps, or the conversation that it goes on with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from stepchain_tui.executors.prompt import BasePromptExecutor, PromptExecutorFactory
from stepchain_tui.executors.testing import use_executor
from stepchain_tui.llm.history import FullHistory
from stepchain_tui.run import AttemptError, ErrorType
from stepchain_tui.store import MemoryStore, SQLiteStore
from tests.support.engines import Bench, plan_of

LARGE = "x" * 100_000


class Telling(BasePromptExecutor):
    """Tells one turn of a model for each word of the prompt, and keeps the options it was given."""

    options: ClassVar[dict[str, dict[str, Any]]] = {}
    exchanges: ClassVar[dict[str, list[int]]] = {}

    async def _execute_prompt(self, args: dict[str, Any], ctx: Any, timeout: float | None) -> Any:
        assert ctx.call is not None
        self.options[ctx.step_id] = dict(ctx.call.options)
        self.exchanges.setdefault(ctx.step_id, []).append(len(ctx.call.exchanges))
        words = str(args["prompt"]).split()
        if words[-1] == "late" and ctx.call.exchanges:
            return "re late"
        for number, word in enumerate(words, 1):
            ctx.ports.model_turn(
                model="m",
                turn=number,
                provider="api.test",
                response_id=f"{ctx.step_id}-{number}",
                sent=[{"role": "user", "content": word}],
                output=[{"role": "assistant", "content": f"re {word}"}],
            )
        if words[-1] in ("fail", "late"):
            raise AttemptError("busy", error_type=ErrorType.SERVER_ERROR)
        return f"re {words[-1]}"


@pytest.fixture(autouse=True)
def options() -> Iterator[dict[str, dict[str, Any]]]:
    Telling.options, Telling.exchanges = {}, {}
    with use_executor(PromptExecutorFactory, "standard", Telling):
        yield Telling.options


def prompt(step_id: str, text: str, *after: str, **keys: Any) -> dict[str, Any]:
    return {"id": step_id, "prompt": text, "dependencies": list(after), **keys}


def said(*words: str) -> list[dict[str, str]]:
    return [
        item
        for word in words
        for item in ({"role": "user", "content": word}, {"role": "assistant", "content": f"re {word}"})
    ]


async def test_earlier_results_come_with_what_was_asked_those_that_come_first_first(
    options: dict[str, dict[str, Any]],
) -> None:
    plan = plan_of(
        {"id": "list", "shell": "echo one"},
        prompt("a", "hello", "list"),
        prompt("other", "apart"),
        prompt("b", "{{ steps.a.output }} again", history="full"),
    )
    async with Bench() as bench:
        await bench.run(plan)
    assert "earlier" not in options["a"]
    earlier = options["b"]["earlier"]
    assert [(found["step_id"], found["kind"], found["asked"], found["referred"]) for found in earlier] == [
        ("list", "shell", None, False),
        ("a", "prompt", "hello", True),
    ]
    assert earlier[1]["output"] == "re hello"
    assert "continued" not in options["b"]


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_a_conversation_goes_on_with_all_its_turns(
    kind: str, options: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    plan = plan_of(
        prompt("a", f"one {LARGE}"),
        prompt("b", "three", "a", history="continue"),
        {"id": "between", "shell": "true", "dependencies": ["b"]},
        prompt("c", "four five", "between", history="continue"),
        prompt("d", "six", "c", history="continue"),
    )
    store = MemoryStore() if kind == "memory" else SQLiteStore(tmp_path / "s.db")
    async with Bench(store) as bench:
        run = await bench.run(plan)
    assert set(run.statuses.values()) == {"succeeded"}
    assert "continued" not in options["a"]
    assert options["b"]["continued"] == {
        "items": said("one", LARGE),
        "response_id": "a-2",
        "provider": "api.test",
        "model": "m",
    }
    assert options["c"]["continued"]["items"] == said("one", LARGE, "three")
    assert options["d"]["continued"]["items"] == said("one", LARGE, "three", "four", "five")
    assert options["d"]["continued"]["response_id"] == "c-2"
    assert "earlier" not in options["d"]


async def test_a_conversation_that_ended_just_before_it_was_cut_off_goes_on_whole(
    options: dict[str, dict[str, Any]],
) -> None:
    plan = plan_of(prompt("a", "one late"), prompt("b", "two", "a", history="continue"))
    async with Bench() as bench:
        run = await bench.run(plan)
    assert run.outputs["a"] == "re late"
    assert Telling.exchanges["a"] == [0, 2]
    assert options["b"]["continued"]["items"] == said("one", "late")
    assert options["b"]["continued"]["response_id"] == "a-2"


async def test_a_conversation_goes_on_in_a_resume_and_after_a_rerun(options: dict[str, dict[str, Any]]) -> None:
    store = MemoryStore()
    plan = plan_of(
        prompt("a", "one"),
        {"id": "gate", "approve": "go on?", "dependencies": ["a"]},
        prompt("b", "two", "gate", history="continue"),
    )
    async with Bench(store) as bench:
        run = await bench.start(plan, "r", detach=True)
        await run.end()
    async with Bench(store) as bench:
        await bench.tell("r", "approve", step="gate", approved=True)
        await bench.resume("r", detach=True)
        assert options["b"]["continued"]["items"] == said("one")
        await bench.rerun("r", "a", downstream=True, detach=True)
        await bench.tell("r", "approve", step="gate", approved=True)
        await bench.resume("r", detach=True)
    assert options["b"]["continued"]["items"] == said("one")


async def test_a_result_that_was_set_by_hand_is_what_the_conversation_goes_on_from(
    options: dict[str, dict[str, Any]],
) -> None:
    plan = plan_of(prompt("a", "one"), prompt("b", "two", "a", history="continue"))
    async with Bench() as bench:
        await bench.run(plan, "r")
        await bench.tell("r", "pin", step="a", output="mine")
        await bench.rerun("r", "b")
    assert options["b"]["continued"]["items"] == [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "mine"},
    ]
    assert options["b"]["continued"]["response_id"] == ""


async def test_with_a_strategy_of_the_engine_prompts_that_say_nothing_get_results_and_the_last_answers_id(
    options: dict[str, dict[str, Any]],
) -> None:
    strategy = FullHistory()
    plan = plan_of(
        prompt("a", "one two"),
        prompt("b", "three", "a"),
        prompt("c", "four", "b", history="none"),
        prompt("d", "five", "b", history="last"),
    )
    async with Bench(compression=strategy) as bench:
        await bench.run(plan)
    assert (options["a"]["earlier"], options["a"]["compression"]) == ([], strategy)
    assert "continued" not in options["a"]
    assert [found["output"] for found in options["b"]["earlier"]] == ["re two"]
    assert options["b"]["continued"] == {"items": [], "response_id": "a-2", "provider": "api.test", "model": "m"}
    assert not {"earlier", "continued"} & set(options["c"])
    assert "earlier" in options["d"]
    assert "continued" not in options["d"]


async def test_a_map_is_no_conversation_and_a_long_one_is_read_whole(options: dict[str, dict[str, Any]]) -> None:
    chain = [prompt(f"s{n}", f"w{n}", f"s{n - 1}", history="continue") for n in range(1, 40)]
    plan = plan_of(
        prompt("s0", "w0"),
        *chain,
        prompt("each", "{{ item }}", "s39", for_each=["x"]),
        prompt("end", "last", "each", history="continue"),
    )
    async with Bench() as bench:
        run = await bench.run(plan)
    assert set(run.statuses.values()) == {"succeeded"}
    assert options["end"]["continued"]["items"] == said(*(f"w{n}" for n in range(40)))


async def test_a_conversation_is_not_gone_on_with_where_an_earlier_result_has_changed(
    options: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    (tmp_path / "n").write_text("1")
    plan = plan_of(
        {"id": "read", "shell": f"cat {tmp_path / 'n'}"},
        prompt("ask", "one fail", "read", history="full", retry={"max_attempts": 1}),
    )
    async with Bench() as bench:
        await bench.run(plan, "r")
        assert bench.engine.live_runs == ()
        await bench.resume("r")
        assert Telling.exchanges["ask"] == [0, 2]
        (tmp_path / "n").write_text("2")
        await bench.rerun("r", "read")
        await bench.resume("r")
    assert Telling.exchanges["ask"][-1] == 0
    assert options["ask"]["earlier"][0]["output"]["stdout"] == "2"


async def test_a_cached_answer_is_for_the_same_earlier_results_and_the_same_strategy(
    options: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    class Mine(FullHistory):
        pass

    store, number = MemoryStore(), tmp_path / "n"
    plan = plan_of({"id": "read", "shell": f"cat {number}"}, prompt("ask", "one", "read", cache=True))

    async def is_asked(strategy: Any) -> bool:
        options.clear()
        async with Bench(store, compression=strategy) as bench:
            await bench.run(plan)
        return "ask" in options

    number.write_text("1")
    assert await is_asked(FullHistory())
    assert not await is_asked(FullHistory())
    assert await is_asked(Mine())
    number.write_text("2")
    assert await is_asked(FullHistory())
    assert not await is_asked(FullHistory())

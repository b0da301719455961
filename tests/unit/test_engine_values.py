"""Rule 13: outputs are JSON values, large ones are files, and secrets are never stored."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from stepchain_tui.core.errors import InputError
from stepchain_tui.engine import step_results
from stepchain_tui.run import encode_event
from stepchain_tui.run.values import INLINE_LIMIT, OUTPUT_LIMIT
from stepchain_tui.store import SQLiteStore
from tests.support.engines import Bench, Watched, plan_of, shell
from tests.support.world import World

TOKEN = "tok-0123456789abcdef"
PASSWORD = "correct horse battery"


class Odd:
    def __str__(self) -> str:
        return "an odd one"


def path_of(*parts: str) -> Path:
    return Path(*parts)


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (None, None),
        ((1, 2), [1, 2]),
        ({1: {"x": (3,)}}, {"1": {"x": [3]}}),
        (path_of("a", "b"), "a/b"),
        (Decimal("1.50"), "1.50"),
        (float("inf"), "inf"),
        (b"ab", {"text": "ab", "type": "bytes"}),
    ],
)
async def test_an_output_is_a_json_value_and_a_dependent_reads_what_is_kept(value: Any, kept: Any) -> None:
    world = World()
    world.will("a", value)
    async with Bench() as bench:
        run = await bench.run(plan_of(world.step("a"), world.step("b", args={"x": "{{ steps.a.output }}"})))
        assert run.outputs["a"] == kept
        assert run.statuses["b"] == "succeeded"
    assert world.given["b"] == {"x": kept}


async def test_an_object_that_is_no_json_is_kept_as_its_text_and_type() -> None:
    world = World()
    world.will("a", lambda **_: Odd())
    async with Bench() as bench:
        run = await bench.run(plan_of(world.step("a")))
        assert run.outputs["a"]["text"] == "an odd one"
        assert run.outputs["a"]["type"].endswith("Odd")
        await run.check()


async def test_an_output_that_holds_itself_fails_the_step_and_not_the_engine() -> None:
    world = World()
    loop: list[Any] = []
    loop.append(loop)
    world.will("a", loop)
    async with Bench() as bench:
        run = await bench.run(plan_of(world.step("a"), world.step("b")))
        assert run.statuses == {"a": "failed", "b": "succeeded"}
        assert run.state.steps["a"].error.error_type == "user_error"


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_a_large_output_is_a_file_that_dependents_read_whole(kind: str, tmp_path: Path) -> None:
    world = World()
    large = ["x" * 1000] * 100
    world.will("a", large)
    async with Bench(SQLiteStore(tmp_path / "runs.db") if kind == "sqlite" else None) as bench:
        steps = [
            world.step("a"),
            world.step("b", args={"n": "{{ steps.a.output | length }}", "last": "{{ steps.a.output[99] }}"}),
            world.step("c", args={"all": "{{ steps.a.output }}"}),
            world.step("d", "c", when="{{ steps.a.output | length > 99 }}"),
        ]
        run = await bench.run(plan_of(*steps), "r")
        kept = run.state.steps["a"].output
        assert kept.value is None
        assert kept.blob.bytes > INLINE_LIMIT
        assert set(run.statuses.values()) == {"succeeded"}
        results = await step_results(bench.store, run.state)
        assert results[0].output == large
        again = await bench.rerun("r", "c")
        assert again.state.status == "succeeded"
        await again.check()
    assert world.given["b"] == {"n": 100, "last": "x" * 1000}
    assert world.given["c"] == {"all": large}


async def test_an_output_over_ten_megabytes_fails_with_a_hint_to_write_a_file() -> None:
    world = World()
    world.will("a", "x" * (OUTPUT_LIMIT + 1))
    async with Bench() as bench:
        run = await bench.run(plan_of(world.step("a", retry={"max_attempts": 3})))
        error = run.state.steps["a"].error
        assert (run.statuses["a"], error.error_type, world.count("a")) == ("failed", "user_error", 1)
        assert "Write it to a file" in error.hint
        await run.check()


async def test_chain_result_is_the_output_of_the_last_listed_dependency() -> None:
    world = World()
    world.will("a", {"n": 1})
    world.will("b", [2])
    async with Bench() as bench:
        step = world.step("c", "a", "b", args={"whole": "CHAIN_RESULT", "text": "got CHAIN_RESULT"})
        await bench.run(plan_of(world.step("a"), world.step("b"), step))
    assert world.given["c"] == {"whole": [2], "text": "got [2]"}


# --- secrets


async def everything_stored(run: Watched) -> str:
    """Return all that the store holds of a run as text."""
    store = run.bench.store
    events = b"\n".join(encode_event(event) for event in await run.events()).decode()
    lines = "\n".join(line.text for line in await run.log())
    rows = f"{await store.get_run(run.run_id)}{await store.list_steps(run.run_id)}"
    return f"{events}\n{lines}\n{rows}"


async def test_a_secret_reaches_the_step_and_nothing_that_is_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVICE", TOKEN)
    world = World()

    def tell(token: str) -> Any:
        assert token == TOKEN
        return {"echo": f"got {token}", token: "a key"}

    world.will("uses", tell)
    world.will("fails", lambda token: (_ for _ in ()).throw(RuntimeError(f"bad token {token}")))
    async with Bench() as bench:
        given = {"token": "{{ secrets.SERVICE }}"}
        steps = [
            world.step("uses", args=given),
            world.step("fails", args=given),
            shell("prints", "echo out {{ secrets.SERVICE }}; echo err {{ secrets.SERVICE }} >&2"),
            world.step("reads", args={"x": "{{ steps.uses.output.echo }}"}),
        ]
        run = await bench.run(plan_of(*steps, secrets=["SERVICE"]))
        assert run.statuses == {"uses": "succeeded", "fails": "failed", "prints": "succeeded", "reads": "succeeded"}
        text = await everything_stored(run)
        assert TOKEN not in text.replace(f'"{TOKEN}":"a key"', "")
        assert run.outputs["uses"]["echo"] == "got [secret SERVICE]"
        assert "out [secret SERVICE]" in run.outputs["prints"]["stdout"]
        log = [line.text for line in await run.log("prints")]
        assert sorted(log) == ["err [secret SERVICE]", "out [secret SERVICE]"]
        stored = await bench.store.load_state(run.run_id)
        assert stored.steps["fails"].error.message == "bad token [secret SERVICE]"
        inputs = stored.steps["uses"].last.input.value
        assert inputs["args"]["token"] == "[secret SERVICE]"
        await run.check()
    assert world.given["reads"] == {"x": "got [secret SERVICE]"}


async def test_secret_variables_of_the_environment_are_redacted_without_being_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SOME_API_KEY", TOKEN)
    monkeypatch.setenv("TINY_KEY", "short")
    world = World()
    world.will("a", f"{TOKEN} and short")
    async with Bench() as bench:
        run = await bench.run(plan_of(world.step("a")))
        assert run.outputs["a"] == "[secret SOME_API_KEY] and short"


async def test_children_get_no_secret_variables_but_those_that_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIRST_TOKEN", "first-secret-value")
    monkeypatch.setenv("SECOND_TOKEN", "second-secret-value")
    monkeypatch.setenv("THIRD_TOKEN", "third-secret-value")
    monkeypatch.setenv("PLAIN", "plain")
    show = 'echo "${FIRST_TOKEN:+1}${SECOND_TOKEN:+2}${THIRD_TOKEN:+3}$PLAIN"'
    async with Bench() as bench:
        plan = plan_of(shell("none", show), shell("own", show, secrets=["SECOND_TOKEN"]), secrets=["FIRST_TOKEN"])
        run = await bench.run(plan)
        assert run.outputs["none"]["stdout"] == "1plain\n"
        assert run.outputs["own"]["stdout"] == "12plain\n"


async def test_a_secret_input_is_never_stored_and_asked_for_again() -> None:
    world = World()
    world.will("a", RuntimeError("first"), lambda password: f"used {password}")
    step = world.step("a", args={"password": "{{ inputs.password }}"})
    plan = plan_of(step, inputs={"password": {"type": "secret"}, "n": {"type": "integer"}})
    async with Bench() as bench:
        run = await bench.run(plan, "r", inputs={"password": PASSWORD, "n": 3})
        assert run.state.status == "failed"
        assert (run.state.inputs, run.state.secret_inputs) == ({"n": 3}, ("password",))
        assert PASSWORD not in await everything_stored(run)
        with pytest.raises(InputError) as caught:
            await bench.resume("r")
        assert "--input password=" in caught.value.hint
        again = await bench.resume("r", inputs={"password": PASSWORD})
        assert again.state.status == "succeeded"
        assert again.outputs["a"] == "used [secret password]"
        assert PASSWORD not in await everything_stored(again)
    assert world.given["a"] == {"password": PASSWORD}


async def test_a_run_whose_secret_is_missing_can_still_be_cancelled() -> None:
    world = World()
    world.gate("a")
    plan = plan_of(world.step("a"), inputs={"password": {"type": "secret"}})
    async with Bench() as bench:
        run = await bench.start(plan, "r", inputs={"password": PASSWORD})
        await world.called("a")
        await run.tell("pause", now=True)
        await run.end()
        assert (await bench.tell("r", "cancel"))["ok"]


async def test_a_secret_in_an_answer_to_a_question_is_not_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", TOKEN)
    async with Bench() as bench:
        run = await bench.start(plan_of({"id": "ask", "approve": "which?", "fields": {"x": {"type": "text"}}}))
        await run.until_status("ask", "waiting")
        await run.tell("approve", step="ask", fields={"x": TOKEN})
        assert await run.end() == "succeeded"
        assert TOKEN not in await everything_stored(run)


async def test_half_characters_are_written_out_in_keys_and_replaced_in_texts(tmp_path: Path) -> None:
    (tmp_path / "odd.py").write_text('def odd():\n    return {"a\\ud800": "b\\udfff", "ü": [{"\\ud801": 1}]}\n')
    async with Bench(folder=tmp_path) as bench:
        run = await bench.run(plan_of({"id": "odd", "function": "./odd.py:odd"}))
        assert run.outputs["odd"] == {"a\\ud800": "b?", "ü": [{"\\ud801": 1}]}
        await run.check()

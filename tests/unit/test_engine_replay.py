"""Replays: a run carried out again from what another one kept, without a call to anything outside."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from stepchain_tui.core.errors import CommandRefusedError, UsageError
from stepchain_tui.engine.replay_differences import Difference, find_differences, value_changes
from stepchain_tui.executors.factory import Executors
from stepchain_tui.plan import Plan
from stepchain_tui.run.events import ModelTurn, RunCreated
from stepchain_tui.run.state import RunState
from stepchain_tui.run.status import RunStatus
from stepchain_tui.store.base import Batch
from tests.support.engines import Bench, Watched, plan_of, shell

calls: list[Any] = []


def counted(**values: Any) -> Any:
    """Return what it was given; every call is counted."""
    calls.append(values)
    return values


def failing(**values: Any) -> Any:
    """Fail; every call is counted."""
    calls.append(values)
    raise RuntimeError("it is broken")


@pytest.fixture(autouse=True)
def _no_calls_yet() -> None:
    calls.clear()


@contextmanager
def no_executor(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Count every executor that is asked for: what is replayed asks for none."""
    asked: list[str] = []
    get = Executors.get

    def counting(self: Executors, kind: Any, *rest: Any) -> Any:
        asked.append(str(kind))
        return get(self, kind, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(Executors, "get", counting)
        yield asked


async def replay(bench: Bench, run_id: str, **keys: Any) -> Watched:
    """Replay a run and wait until the engine lets go of it."""
    run = Watched(bench, await bench.engine.replay(run_id, **keys))
    await run.end()
    return run


async def differences(bench: Bench, run: Watched) -> list[Difference]:
    recorded = await bench.store.load_state(run.state.replay_of)
    return await find_differences(bench.store, recorded, await bench.store.load_state(run.run_id))


def stored_run(run_id: str, **created: Any) -> Batch:
    """Return a run that was only just made, as a store takes it."""
    state = RunState()
    state.apply(event := RunCreated(seq=1, run_id=run_id, at=datetime.now(UTC), goal="", steps=(), **created))
    return Batch(events=[event], states={run_id: state}, touched={run_id: None})


def function(step_id: str, name: str = "counted", **keys: Any) -> dict[str, Any]:
    return {"id": step_id, "function": f"{__name__}:{name}", **keys}


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with Bench(folder=tmp_path) as opened:
        yield opened


def plan_file(folder: Path, plan: Mapping[str, Any] | Plan) -> str:
    from stepchain_tui.plan import plan_to_json

    path = folder / "changed.json"
    path.write_bytes(plan_to_json(plan if isinstance(plan, Plan) else Plan.model_validate(plan)))
    return str(path)


async def test_a_replay_gives_the_same_results_and_asks_no_executor(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(
        function("a", args={"n": 1}),
        {
            "id": "each",
            "for_each": "{{ [1, 2, 3] }}",
            **{k: v for k, v in function("", args={"n": "{{ item }}"}).items() if k != "id"},
        },
        shell("say", "echo {{ steps.a.output.n }} {{ run.id | quote }}"),
        function("never", when="{{ steps.a.output.n > 1 }}"),
        {
            "id": "told",
            "prompt": "Sum up {{ steps.say.output.stdout }}",
            "model": "scripted",
            "replies": ["all is well"],
        },
        function(
            "bad", "failing", retry={"max_attempts": 2, "initial_delay": 60}, args={"after": "{{ steps.told.output }}"}
        ),
        function("after", dependencies=["bad"]),
    )
    recorded = await bench.run(plan, "first")
    made = len(calls)
    assert made == 6

    with no_executor(monkeypatch) as asked:
        replayed = await replay(bench, "first", new_run_id="again")

    assert asked == []
    assert len(calls) == made
    assert replayed.outputs == recorded.outputs
    assert replayed.statuses == recorded.statuses
    assert replayed.state.steps["bad"].attempt == 1  # the last try is replayed, without the ones before it
    assert replayed.state.steps["bad"].error == recorded.state.steps["bad"].error
    assert replayed.state.replay_of == "first"
    assert replayed.state.status is recorded.state.status
    assert await differences(bench, replayed) == []
    await replayed.check()


async def test_what_was_told_on_the_way_is_told_again_and_costs_nothing(bench: Bench) -> None:
    plan = plan_of(
        {"id": "told", "prompt": "Say hello", "model": "scripted", "replies": ["hello\nworld"]},
        shell("say", "echo out; echo err >&2"),
    )
    recorded = await bench.run(plan, "first")

    replayed = await replay(bench, "first")

    def told(lines: Any) -> list[tuple[str, str]]:
        return [(line.stream, line.text) for line in lines]

    for step in ("told", "say"):
        assert told(await replayed.log(step)) == told(await recorded.log(step))
    (turn,) = [event for event in await replayed.events("model.turn") if isinstance(event, ModelTurn)]
    assert turn.replayed
    assert turn.output is not None
    assert turn.output.value
    assert replayed.state.usage.turns == 0
    assert replayed.state.steps["told"].last is not None
    assert replayed.state.steps["told"].last.cache == "replayed"


async def test_a_changed_step_says_where_the_recording_no_longer_fits(bench: Bench, tmp_path: Path) -> None:
    plan = plan_of(
        function("a", args={"n": 1}),
        function("b", args={"n": "{{ steps.a.output.n }}"}),
        function("c", dependencies=["b"]),
    )
    await bench.run(plan, "first")
    changed = plan_of(
        function("a", args={"n": 1}, description="said otherwise", timeout=5, retry={"max_attempts": 4}),
        function("b", args={"n": "{{ steps.a.output.n + 1 }}"}),
        function("c", dependencies=["b"]),
        function("d", dependencies=["a"]),
    )
    calls.clear()

    replayed = await replay(bench, "first", plan_path=plan_file(tmp_path, changed))

    assert calls == []
    assert replayed.statuses == {"a": "succeeded", "b": "failed", "c": "blocked", "d": "failed"}
    error = replayed.state.steps["b"].error
    assert error is not None
    assert error.error_type == "user_error"
    assert error.message == "the recording no longer fits: step b: args.n: recorded 1, now 2"
    assert "--live" in error.hint
    assert [str(found) for found in await differences(bench, replayed)] == [
        "b: args.n: recorded 1, now 2",
        "d: the step is not in the recording",
    ]


async def test_keys_that_are_not_part_of_the_input_must_be_as_they_were(bench: Bench, tmp_path: Path) -> None:
    prompt = {"id": "told", "prompt": "Say hello", "model": "scripted", "replies": ["hello"]}
    await bench.run(plan_of(prompt), "first")

    changed = plan_of({**prompt, "replies": ["good bye"], "temperature": 0.5})
    replayed = await replay(bench, "first", plan_path=plan_file(tmp_path, changed))

    assert [str(found) for found in await differences(bench, replayed)] == [
        'told: replies[0]: recorded "hello", now "good bye"',
        "told: temperature: recorded nothing, now 0.5",
    ]


async def test_steps_that_are_carried_out_are_held_against_the_recording(bench: Bench) -> None:
    (bench.folder / "made.py").write_text("def number():\n    return {'n': 1}\n")
    plan = plan_of(
        {"id": "made", "function": "./made.py:number"},
        shell("say", "echo {{ steps.made.output.n }}"),
    )
    await bench.run(plan, "first")
    (bench.folder / "made.py").write_text("def number():\n    return {'n': 2 - 1}\n")

    without = await replay(bench, "first")
    (found,) = await differences(bench, without)
    assert str(found) == "made: code: the code behind it is another than it was recorded with"

    same = await replay(bench, "first", live=["function"])
    assert await differences(bench, same) == []

    (bench.folder / "made.py").write_text("def number():\n    return {'n': 3, 'of': 4}\n")
    other = await replay(bench, "first", live=["function"])
    assert [str(found) for found in await differences(bench, other)] == [
        "made: output.n: recorded 1, now 3",
        "made: output.of: recorded nothing, now 4",
        'say: shell: recorded "echo 1", now "echo 3"',
    ]


async def test_secrets_are_not_asked_for_and_compare_masked(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(
        shell("send", "echo {{ secrets.API_TOKEN | quote }} {{ inputs.pin | quote }} {{ secrets.REGION }}"),
        secrets=["API_TOKEN", "REGION"],
        inputs={"pin": {"type": "secret"}},
    )
    environment = {**os.environ, "API_TOKEN": "a-secret-token", "REGION": "eu"}
    recorded = await bench.run(plan, "first", inputs={"pin": "12345678"}, environment=environment)
    assert "[secret API_TOKEN] [secret pin] eu" in recorded.outputs["send"]["stdout"]

    replayed = await replay(bench, "first")

    assert await differences(bench, replayed) == []
    assert replayed.outputs == recorded.outputs
    assert "withheld" not in repr(await replayed.events())


@pytest.mark.parametrize(
    ("recorded", "now", "fits"),
    [
        ("curl -u me:pin x", "curl -u me:[secret PIN] x", True),
        ("curl -u me:pin x", "curl -u 'me:[secret PIN]' x", False),
        ("echo pin; echo '[secret K]'", "echo '[secret PIN]'; echo [secret K]", True),
        ("a short one", "a [secret PIN]", False),
        ("a longer one", "a [secret PIN] one", True),
        ("one-two-three", "[secret A]-[secret B][secret C][secret D]-[secret E]", True),
        ("one-two-three", "[secret A]-[secret B]-[secret C]!", False),
        ("a" * 4_000 + "?", "[secret T]" * 1_000 + "!", False),
        ("a" * 4_000 + "!", "[secret T]" * 1_000 + "b[secret T]!", False),
        ("[secret " * 100_000, "[secret " * 100_000 + "[secret T]", False),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_text_fits_one_with_short_secrets_masked_and_is_looked_at_in_bounded_time(
    recorded: str, now: str, fits: bool
) -> None:
    assert (value_changes(recorded, now) == []) is fits


@pytest.mark.parametrize(
    "kept", [{"plan": {"steps": [{"id": "a"}]}}, {"plan": {"steps": []}, "plans": {"b.yaml": {"plan": {"steps": []}}}}]
)
async def test_a_run_whose_plan_is_none_is_refused_with_a_word(kept: dict[str, Any], bench: Bench) -> None:
    bench.store.commit(stored_run("r", **kept))
    for order in (bench.engine.replay("r"), bench.engine.resume("r")):
        with pytest.raises(UsageError, match="the plan that run 'r' keeps is none: "):
            await order


async def test_results_by_hand_pinned_and_of_maps_of_plans_are_replayed(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "inner.yaml").write_text(
        "inputs: {n: {type: integer}}\nsteps:\n"
        f"  - {{id: one, function: '{__name__}:counted', args: {{n: '{{{{ inputs.n }}}}'}}}}\n"
        "  - {id: two, shell: 'echo {{ steps.one.output.n }}'}\n"
    )
    plan = plan_of(
        function("bad", "failing"),
        function("follows", args={"of": "{{ steps.bad.output }}"}),
        {"id": "single", "plan": "./inner.yaml", "args": {"n": 7}},
        {"id": "many", "plan": "./inner.yaml", "for_each": "{{ [1, 2] }}", "args": {"n": "{{ item }}"}},
    )
    recorded = await bench.run(plan, "first")
    await bench.tell("first", "mark", step="bad", output={"by": "hand"})
    await bench.resume("first")
    state = await bench.store.load_state("first")
    assert state.status == "succeeded"
    (tmp_path / "inner.yaml").unlink()
    calls.clear()

    replayed = await replay(bench, "first")

    assert calls == []
    assert await differences(bench, replayed) == []
    assert replayed.statuses == {step_id: step.status.value for step_id, step in state.steps.items()}
    assert replayed.outputs["many"] == recorded.outputs["many"]
    assert replayed.outputs["single/two"]["stdout"] == "7\n"
    assert replayed.outputs["follows"] == {"of": {"by": "hand"}}


async def test_answers_of_people_are_replayed_also_a_no_and_a_changed_input(bench: Bench) -> None:
    plan = plan_of(
        {"id": "go", "approve": "Go on?", "fields": {"n": {"type": "integer"}}},
        {"id": "stop", "approve": "Really?", "on_failure": "continue", "dependencies": ["go"]},
        function("last", args={"n": "{{ steps.go.output.fields.n }}"}, breakpoint="before", dependencies=["stop"]),
    )
    run = await bench.start(plan, "first")
    await run.until_status("go", "waiting")
    await run.tell("approve", step="go", approved=True, fields={"n": "4"})
    await run.until_status("stop", "waiting")
    await run.tell("approve", step="stop", approved=False)
    await run.until_status("last", "waiting")
    await run.tell("approve", step="last", approved=True, input={"args": {"n": 9}})
    await run.end()
    assert run.outputs["last"] == {"n": 9}
    calls.clear()

    replayed = await replay(bench, "first")

    assert calls == []
    assert replayed.statuses == run.statuses
    assert replayed.outputs == run.outputs
    assert await differences(bench, replayed) == []
    answered = await replayed.events("step.resumed")
    assert [getattr(event, "by", "") for event in answered] == ["Ada", "Ada"]


async def test_a_replay_is_never_carried_out_whatever_is_done_with_it(bench: Bench) -> None:
    await bench.run(plan_of(function("a", args={"n": 1}), function("bad", "failing")), "first")
    await replay(bench, "first", new_run_id="again")
    calls.clear()

    await bench.resume("again")
    await bench.rerun("again", "a")
    assert calls == []
    with pytest.raises(CommandRefusedError, match="is a replay"):
        await bench.engine.fork("again", "a")

    await bench.store.delete_run("first")
    with pytest.raises(CommandRefusedError, match="was deleted"):
        await bench.rerun("again", "a")
    assert calls == []


async def test_a_run_that_is_carried_out_and_unknown_kinds_are_refused(bench: Bench) -> None:
    run = await bench.start(plan_of({"id": "go", "approve": "Go on?"}), "first")
    await run.until_status("go", "waiting")
    await bench.engine.core.recorder.settle()
    with pytest.raises(CommandRefusedError, match="still being carried out"):
        await bench.engine.replay("first")
    await run.tell("approve", step="go", approved=True)
    await run.end()

    with pytest.raises(UsageError, match="no kind of steps 'functions'"):
        await bench.engine.replay("first", live=["functions"])


async def test_what_a_recording_has_no_result_of_ends_there(bench: Bench) -> None:
    run = await bench.start(
        plan_of(shell("a", "echo 1"), {"id": "go", "approve": "Go on?"}, shell("z", "echo 2", "go")),
        "first",
        detach=True,
    )
    await run.end()

    replayed = await replay(bench, "first")

    assert replayed.statuses["a"] == "succeeded"
    assert replayed.statuses["go"] == "cancelled"
    assert replayed.state.steps["go"].reason == "the recording ends before it has a result"
    assert [str(found) for found in await differences(bench, replayed)] == [
        "go: status: the recording ends before it has a result: it was waiting there"
    ]


async def test_a_recording_of_a_run_that_has_no_outcome_is_none_of_a_run_that_has_one(bench: Bench) -> None:
    await bench.run(plan_of(function("a")), "first")
    replayed = await replay(bench, "first")
    recorded = await bench.store.load_state("first")

    recorded.status = RunStatus.PAUSED

    (found,) = await find_differences(bench.store, recorded, replayed.state)
    assert str(found) == 'run: status: recorded "paused", now "succeeded"'


async def test_a_result_that_its_steps_before_would_not_lead_to_again_is_kept(bench: Bench) -> None:
    plan = plan_of(function("a", "failing", on_failure="continue"), function("b", args={"n": 1}, dependencies=["a"]))
    await bench.run(plan, "first")
    await bench.tell("first", "skip", step="a")

    replayed = await replay(bench, "first")

    assert replayed.statuses == {"a": "skipped", "b": "succeeded"}
    assert replayed.state.steps["b"].origin == "first/b"
    assert await differences(bench, replayed) == []


async def test_a_step_that_left_the_plan_is_told(bench: Bench, tmp_path: Path) -> None:
    await bench.run(plan_of(function("a"), function("b")), "first")

    replayed = await replay(bench, "first", plan_path=plan_file(tmp_path, plan_of(function("b"))))

    assert [str(found) for found in await differences(bench, replayed)] == [
        "a: is in the recording, and no longer in the plan"
    ]


async def test_large_outputs_and_kept_files_are_in_the_replay(bench: Bench) -> None:
    recorded = await bench.run(
        plan_of(
            shell("large", "head -c 200000 /dev/zero | tr '\\0' x"),
            shell("size", "echo {{ steps.large.output.stdout | length }}"),
        ),
        "first",
    )

    replayed = await replay(bench, "first")

    for step in ("large", "size"):
        assert replayed.state.steps[step].output == recorded.state.steps[step].output
    assert replayed.outputs["size"]["stdout"] == "200000\n"
    assert await differences(bench, replayed) == []


async def test_what_a_replay_takes_is_in_no_cache_breaker_or_record_of_tools(bench: Bench) -> None:
    plan = plan_of(
        {"id": "twice", "tool": "double", "args": {"n": 1}, "cache": True},
        function("bad", "failing", cache=True),
        tools={"double": {"function": f"{__name__}:counted"}},
    )
    await bench.run(plan, "first")
    tools, breakers = await bench.store.read_tools(), await bench.store.read_breakers()
    await bench.store.clear_cache()

    await replay(bench, "first")

    assert await bench.store.read_tools() == tools
    assert await bench.store.read_breakers() == breakers
    assert await bench.store.clear_cache() == 0

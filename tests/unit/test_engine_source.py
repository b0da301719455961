"""What a run is made from: what overrides the plan leaves the plan as it is."""

from __future__ import annotations

from pathlib import Path

from stepchain_tui.engine import Engine, RunSource
from stepchain_tui.plan import Plan, Step
from stepchain_tui.plan.models import ModelSpec
from stepchain_tui.run.events import RunRevised
from stepchain_tui.store import MemoryStore


async def test_a_number_of_slots_that_was_given_is_kept_and_is_no_change_of_the_plan(tmp_path: Path) -> None:
    plan = Plan(goal="two at once", steps=[Step(id=name, shell="true") for name in ("a", "b", "c")])
    async with Engine(MemoryStore()) as engine:
        first = await engine.start(RunSource(plan=plan, folder=tmp_path, max_concurrent=2), run_id="run")
        assert await first.wait() == "succeeded"
        assert first.state.max_concurrent == 2
        again = await engine.start(RunSource(plan=plan, folder=tmp_path), run_id="run", fresh=True)
        assert await again.wait() == "succeeded"
        assert not [event for event in await engine.store.read_events("run") if isinstance(event, RunRevised)]
    assert plan.max_concurrent == 5


def test_the_variable_of_a_models_key_is_a_secret_whatever_it_is_called(tmp_path: Path) -> None:
    plan = Plan(
        goal="ask",
        steps=[Step(id="ask", prompt="hi", model="mine"), Step(id="look", shell="env")],
        models={"mine": ModelSpec(base_url="http://127.0.0.1:1/v1", api_key_env="GROQ")},
    )
    environment = {"GROQ": "gsk-not-for-others", "HOME": "/home/ada"}
    source = RunSource(plan=plan, folder=tmp_path, environment=environment)
    assert source.redactor.text("it is gsk-not-for-others") == "it is [secret GROQ]"
    assert source.child_environment(source.definition("look")) == {"HOME": "/home/ada"}
    named = Plan(goal="", steps=[Step(id="look", shell="env", secrets=("GROQ",))], models=plan.models)
    source = RunSource(plan=named, folder=tmp_path, environment=environment)
    assert source.child_environment(source.definition("look")) == environment

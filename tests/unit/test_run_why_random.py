"""Whatever a run went through, after each of its events every step can be asked about, and so can the run."""

from __future__ import annotations

import asyncio

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stepchain_tui.run import Event, RunState, compare_runs, explain, explain_run
from stepchain_tui.run.critical_path import critical_path
from tests.support.engines import Bench
from tests.support.random_runs import Drawn, build, drawn_steps
from tests.support.world import World


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(drawn_steps(questions=False, maps=True), st.integers(1, 3))
def test_every_step_has_an_answer_after_every_event(steps: tuple[Drawn, ...], most: int) -> None:
    async def go() -> None:
        async with Bench() as bench:
            run = await bench.run(build(World(), steps, most, 1))
            ask_after_each(await run.events())

    asyncio.run(go())


def ask_after_each(events: list[Event]) -> None:
    state = RunState()
    for count, event in enumerate(events, 1):
        state.apply(event)
        so_far = events[:count]
        assert explain_run(state, so_far, now=event.at).answer.startswith("the run ")
        for step_id in state.steps:
            found = explain(state, so_far, step_id, now=event.at)
            assert found.answer.startswith(f"{step_id} ")
            assert "None" not in found.answer
            assert found.cause in ("", *state.steps)
            seqs = [fact.seq for fact in found.details if fact.seq is not None]
            assert seqs == sorted(seqs)
            assert found.lines()[1:] == [line for line in found.lines() if line.startswith("  ")]
    assert all(found.waiting >= 0 and found.running >= 0 for found in critical_path(state, events))
    assert not any(step.differs for step in compare_runs(state, state).steps)

"""Taking an imported chain into the store: a run that says of each result that it was made elsewhere.

The run bears the mark of an imported one: the app shows it, and asks before it carries any of it out. A script that
carries the chain out by `execute_plan` names the calls itself, which is trust.
"""

from __future__ import annotations

import secrets
from typing import Any

from stepchain_tui.chain.planning import ChainPlan
from stepchain_tui.chain.states import ExecutionState, ExecutionStatus
from stepchain_tui.core.errors import CommandRefusedError
from stepchain_tui.engine import Engine, RunSource
from stepchain_tui.run import events as e
from stepchain_tui.run.state import RunState
from stepchain_tui.run.status import RunStatus
from stepchain_tui.store import Batch, Command
from stepchain_tui.store.imports import ImportMark

_SOURCE = "an exported chain"


async def store_chain(
    engine: Engine, chain: ChainPlan, source: RunSource, state: ExecutionState, *, known: ChainPlan | None, by: str
) -> None:
    """Store a chain that was imported; of one that is known here already, take over the results that it has not.

    Args:
        engine: An open engine.
        chain: The chain with its plan.
        source: What its run is made from.
        state: What became of it elsewhere.
        known: The chain of that id here with its run, where there is one.
        by: Where the results come from, as the history tells it.

    Raises:
        CommandRefusedError: There is a run of that id that is another chain, or none.
        RunLockedError: A living process carries it out.
    """
    finished = {
        chain.steps[order]: result.output
        for order, result in state.results.items()
        if result.status is ExecutionStatus.SUCCESS
    }
    run_id = chain.chain.plan_id
    if known is not None and known.run is not None:
        _refuse_other(known, chain)
        summary = await engine.store.get_run(run_id)
        if summary.imported is None or summary.imported.trusted:
            await _take_over(engine, known.run, finished, by)
            return
        await engine.store.delete_run(run_id)  # it is an earlier import, and nothing of it was carried out here
    await _create(engine, source, run_id, finished, by)


def _refuse_other(known: ChainPlan, chain: ChainPlan) -> None:
    if dict(known.steps) != dict(chain.steps):
        raise CommandRefusedError(
            f"there is a run '{known.chain.plan_id}' already, and its calls are others",
            hint="Import the chain under another id: import_state(state, plan_id='...').",
        )


async def _take_over(engine: Engine, run: RunState, finished: dict[str, Any], by: str) -> None:
    for step_id, output in finished.items():
        if run.steps[step_id].done:
            continue
        command = Command(
            id=f"import-{secrets.token_hex(8)}",
            run_id=run.run_id,
            command="mark",
            arguments={"step": step_id, "output": output},
            sender=by,
            sent_at=engine.clock.now(),
        )
        answer = await engine.apply(command)
        if not answer["ok"]:
            raise CommandRefusedError(answer["message"], hint=answer.get("hint", ""))


async def _create(engine: Engine, source: RunSource, run_id: str, finished: dict[str, Any], by: str) -> None:
    store, now = engine.store, engine.clock.now()
    lock = store.acquire_run(run_id)
    store.set_redactor(run_id, source.redactor)
    try:
        state, events = RunState(), list[e.Event]()

        def emit(kind: type[e.Event], **fields: Any) -> None:
            event = kind(seq=state.last_seq + 1, run_id=run_id, at=now, **fields)
            state.apply(event)
            events.append(event)

        emit(
            e.RunCreated,
            goal=source.plan.goal,
            plan=source.plan_json(),
            steps=source.outlines(),
            plan_folder=str(source.folder),
            working_folder=str(source.working_folder),
            max_concurrent=source.slots,
        )
        for step_id, output in finished.items():
            kept = store.keep(output, source.redactor)
            emit(e.StepSucceeded, step_id=step_id, attempt=0, output=kept, by=by, origin=f"{run_id}/{step_id}")
        if all(step.ended for step in state.steps.values()):
            emit(e.RunFinished, status=RunStatus.SUCCEEDED)
        mark = ImportMark(at=now, source=_SOURCE, whole=True)
        store.commit(
            Batch(
                events=events,
                states={run_id: state},
                touched={run_id: None},
                imported={run_id: mark},
            )
        )
        await store.flush()
    finally:
        store.set_redactor(run_id, None)
        lock.release()

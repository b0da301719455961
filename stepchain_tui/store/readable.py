"""Reading what is left of a run whose events are damaged: as much of it as still makes sense, and what does not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepchain_tui.core.errors import StepChainError
from stepchain_tui.run.events import RunCreated, StepOutline, decode_event
from stepchain_tui.run.state import RunState
from stepchain_tui.store.records import CorruptEvent

if TYPE_CHECKING:
    from stepchain_tui.store.base import AbstractStore


async def fold_readable(store: AbstractStore, run_id: str) -> tuple[RunState, list[CorruptEvent]]:
    """Return the fold of what can be folded, and the rest; see `AbstractStore.load_readable`."""
    state = RunState()
    corrupt: list[CorruptEvent] = []
    expected = 1
    # read before the events: a run that goes on meanwhile has more of these, never fewer
    last = (await store.get_run(run_id)).last_seq
    async for seq, kind, step_id, data in store.read_raw_events(run_id):
        if seq > expected:
            corrupt.append(await _gap(store, run_id, state, expected, seq - 1))
        if problem := apply_readable(state, seq, run_id, data):
            corrupt.append(CorruptEvent(seq=seq, problem=problem, type=kind, step_id=step_id))
            if seq == 1:
                await _begin_from_rows(store, run_id, state)
        expected = seq + 1
    if last >= expected:
        corrupt.append(await _gap(store, run_id, state, expected, last))
        state.last_seq = last
    return state, corrupt


def apply_readable(state: RunState, seq: int, run_id: str, data: bytes) -> str:
    """Take one event into account and return what is wrong with it, an empty string where nothing is."""
    state.last_seq = seq - 1
    try:
        event = decode_event(data)
        if event.run_id != run_id:
            return f"it says that it is of run '{event.run_id}'"
        state.apply(event)
    except StepChainError as error:
        return error.message
    except (LookupError, AttributeError, TypeError, ValueError) as error:
        return f"it does not fit the events before it ({type(error).__name__}: {error})"
    finally:
        state.last_seq = seq
    return ""


async def _gap(store: AbstractStore, run_id: str, state: RunState, first: int, last: int) -> CorruptEvent:
    """Return that the events from `first` to `last` are missing; where the first of all is, the run begins here."""
    if first == 1:
        await _begin_from_rows(store, run_id, state)
    problem = "it is missing" if first == last else f"events {first} to {last} are missing"
    return CorruptEvent(seq=first, problem=problem)


async def _begin_from_rows(store: AbstractStore, run_id: str, state: RunState) -> None:
    """Begin a run whose first event is lost: its rows know its steps, but neither its plan nor what needs what."""
    row = await store.get_run(run_id)
    steps = tuple(StepOutline(id=step.step_id, kind=step.kind) for step in await store.list_steps(run_id))
    state.last_seq = 0
    state.apply(
        RunCreated(
            seq=1,
            run_id=run_id,
            at=row.created_at,
            goal=row.goal,
            plan={},
            steps=steps,
            plan_path=row.plan_path,
            parent_run_id=row.parent_run_id,
            parent_step_id=row.parent_step_id,
        )
    )

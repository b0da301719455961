"""What must hold when nothing happens by itself: what the engine counts is what runs, and nothing is forgotten."""

from __future__ import annotations

from collections.abc import Iterator

from stepchain_tui.engine.driver import Driver
from stepchain_tui.engine.scheduler import limits_of
from stepchain_tui.plan import ActionKind, Step
from stepchain_tui.run import StepState
from stepchain_tui.run.ids import parent_path, split_id
from stepchain_tui.run.status import STEP_ENDED, RunStatus, StepStatus
from tests.support.machine import House
from tests.support.machine_witness import Witness
from tests.support.random_runs import may_start

_NOT_BEGUN = (StepStatus.PENDING, StepStatus.QUEUED)


def check_rest(house: House) -> None:
    """Hold the engine's counts against what runs, and every live run against what it should be doing."""
    engine, taken = house.engine, 0
    for run_id, driver in engine._drivers.items():
        witness = house.witnesses[run_id]
        assert driver.state == witness.state, f"the engine's state of {run_id} is not what is stored"
        calls = [(call.step_id, call.item) for call in house.workshop.running if call.run_id == run_id]
        assert sorted(calls, key=str) == sorted(driver.bodies, key=str), f"slots {list(driver.bodies)}, calls {calls}"
        assert set(calls) == witness.holding, f"calls {calls}, by the events {witness.holding}"
        assert not driver.aside
        assert driver.slots.taken == len(calls), f"{run_id}: {driver.slots.taken} slots taken, {calls} run"
        _check_limits(driver, witness)
        taken += driver.slots.taken
    assert engine.core.slots.taken == taken, f"{engine.core.slots.taken} slots of the engine taken, {taken} by runs"
    for run_id, driver in engine._drivers.items():
        for problem in _forgotten(house, driver, house.witnesses[run_id]):
            raise AssertionError(f"{run_id}: {problem}")
    for run_id, witness in house.witnesses.items():
        if not house.is_live(run_id):
            assert run_id in house.cut_off or not witness.holding, f"nobody carries {run_id} out: {witness.holding}"
            assert not house.store.owner_alive(run_id), f"nobody carries {run_id} out, and it is locked"


def _check_limits(driver: Driver, witness: Witness) -> None:
    for name, slots in driver.limits.items():
        used = [place for place in witness.holding if witness.limit_of(place[0]) == name]
        assert slots.taken == len(used), f"limit {name}: {slots.taken} taken, {used} run"
    for step_id, opened in driver.maps._open.items():
        if opened.work.step.kind is not ActionKind.PLAN:
            items = [place for place in witness.holding if place[0] == step_id]
            assert opened.slots.taken == len(items), f"map {step_id}: {opened.slots.taken} taken, {items} run"
    for path, group in driver.groups._open.items():
        if group.slots is not None:
            parts = [place for place in witness.holding if place[0].startswith(f"{path}/")]
            assert group.slots.taken == len(parts), f"sub-plan {path}: {group.slots.taken} taken, {parts} run"


def _forgotten(house: House, driver: Driver, witness: Witness) -> Iterator[str]:
    """Yield what a live run that rests should be doing and does not."""
    state, now = witness.state, house.clock.now()
    if witness.paused:
        if not witness.holding:
            yield "it is paused, nothing runs, and it is not let go of"
        return
    cap = house.engine.core.slots
    goes_on, asks = bool(witness.holding), False
    for step in state.steps.values():
        asks = asks or step.status is StepStatus.WAITING
        if not _is_open(witness, step):
            continue
        definition = witness.step_of(step.id)
        due = _is_due(definition, step, [state.steps[name] for name in step.outline.parents])
        if due is None:
            yield f"{step.id} is {step.status} although its parents have ended"
        waits = step.status is StepStatus.RETRYING and step.retry_at is not None
        late = waits and step.retry_at is not None and step.retry_at <= now
        if (due or late) and driver.cancelling is None and _has_room(witness, definition, step):
            if cap.free:
                yield f"{step.id} is {step.status} and could begin"
            goes_on = True
        goes_on = goes_on or waits
        for item in step.items or () if step.status is StepStatus.RUNNING else ():
            late = item.retry_at is not None and item.retry_at <= now
            begins = item.status is StepStatus.PENDING or (item.status is StepStatus.RETRYING and late)
            if begins and _has_room(witness, definition, step, item=True):
                if cap.free:
                    yield f"item {item.index} of {step.id} is {item.status} and could begin"
                goes_on = True
            goes_on = goes_on or (item.status is StepStatus.RETRYING and not late)
    if not goes_on and not asks:
        yield "nothing can happen any more, and it is not over"
    if not goes_on and asks and state.status is not RunStatus.WAITING:
        yield f"it only waits for people, and is said to be {state.status}"
    if witness.holding and state.status is RunStatus.WAITING:
        yield f"it is said to wait for people, and {witness.holding} run"


def _is_open(witness: Witness, step: StepState) -> bool:
    """Return whether a step is in the plan itself, or in a sub-plan that is being carried out."""
    if not step.outline.part_of:
        return True
    outer = witness.state.steps[step.outline.part_of]
    if outer.status is not StepStatus.RUNNING:
        return False
    item = step.outline.part_of_item
    return item is None or (outer.items is not None and outer.items[item].status is StepStatus.RUNNING)


def _is_due(definition: Step, step: StepState, parents: list[StepState]) -> bool | None:
    """Return whether a step that has not begun may do so; None where it should have been skipped or blocked."""
    if step.status not in _NOT_BEGUN:
        return False
    if not parents or may_start(definition.trigger_rule.value, parents):
        return True
    return None if all(parent.status in STEP_ENDED for parent in parents) else False


def _has_room(witness: Witness, definition: Step, step: StepState, *, item: bool = False) -> bool:
    state, holding = witness.state, witness.holding
    if len(holding) >= state.max_concurrent:
        return False
    if definition.limit is not None:
        name = witness.limit_of(step.id)
        used = [place for place in holding if witness.limit_of(place[0]) == name]
        if len(used) >= limits_of(witness.source, state)[name]:
            return False
    if item:
        begun = sum(found.status is StepStatus.RUNNING for found in step.items or ())
        at_once = 1 if step.outline.kind == "approve" else definition.max_concurrent
        if (at_once is not None and begun >= at_once) or step.status is StepStatus.WAITING:
            return False
    path = parent_path(step.id)
    while path:
        outer = split_id(path)[0]
        subplan = witness.source.subplan_of(witness.source.definition(outer)).plan
        used = [place for place in holding if place[0].startswith(f"{path}/")]
        if "max_concurrent" in subplan.model_fields_set and len(used) >= subplan.max_concurrent:
            return False
        path = parent_path(outer)
    return True

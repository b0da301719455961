"""Maps: one step over many items. The map itself holds no slot, its items do.

The list is expanded once and kept. An item that succeeded is not done again by any resume; only a rerun expands anew.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from stepchain_tui.core.values import encode_json, to_json_value
from stepchain_tui.engine.body import failed
from stepchain_tui.engine.calling_off import open_attempt, withdraw
from stepchain_tui.engine.scheduler import Slots
from stepchain_tui.engine.work import Stop, Work
from stepchain_tui.plan import ActionKind
from stepchain_tui.run import events as e
from stepchain_tui.run.failures import AttemptError, Failure
from stepchain_tui.run.ids import item_of
from stepchain_tui.run.status import AttemptStatus, ErrorType, StepStatus
from stepchain_tui.run.step_state import ItemState, StepState

if TYPE_CHECKING:
    from stepchain_tui.engine.driver import Driver

_LIVE = (StepStatus.PENDING, StepStatus.RUNNING, StepStatus.RETRYING)
_BAD = (StepStatus.FAILED, StepStatus.TIMED_OUT, StepStatus.CANCELLED)


@dataclass(slots=True)
class _OpenMap:
    """A map that is being carried out: its own attempt, its items' slots and how many are not yet ended."""

    work: Work
    slots: Slots
    left: int
    cancelled: str | None = None
    skipped: str | None = None


class Maps:
    """The open maps of one run."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._open: dict[str, _OpenMap] = {}

    def has_room(self, step_id: str) -> bool:
        """Return whether one more item of the map may run; of questions only one is asked at a time."""
        slots, approvals = self._open[step_id].slots, self._driver.approvals
        if step_id in approvals.open:
            return False
        return not slots.taken if step_id in approvals.one_by_one else slots.free

    def took(self, step_id: str) -> None:
        """Count an item's slot."""
        self._open[step_id].slots.taken += 1

    def gave_back(self, step_id: str) -> None:
        """Count an item's slot as free; the map may have ended meanwhile."""
        if (found := self._open.get(step_id)) is not None:
            found.slots.taken -= 1

    def is_open(self, step_id: str) -> bool:
        """Return whether the map is being carried out."""
        return step_id in self._open

    def expand(self, work: Work) -> None:
        """Make the items of a map whose attempt has begun, and queue them."""
        driver, prepared = self._driver, work.step
        step = driver.state.steps[prepared.id]
        try:
            outlines = tuple(self._outline(item) for item in driver.inputs.items_of(prepared))
        except Exception as error:  # noqa: BLE001 - the plan's expression: becomes the step's failure
            driver.endings.conclude(work, failed(error, prepared.kind))
            return
        before = step.items if step.keep_items else None
        if before is None or [item.key for item in before] != [outline.key for outline in outlines]:
            if before:
                outlines = tuple(_taken_over(outlines, before))
            parts: tuple[e.StepOutline, ...] = ()
            if prepared.kind is ActionKind.PLAN:
                parts = driver.source.parts_of(prepared.id, len(outlines))
                self._withdraw_parts_of_others(step, outlines, before or [])
            driver.emit(e.StepExpanded, step_id=prepared.id, attempt=work.attempt, items=outlines, steps=parts)
            if prepared.kind is ActionKind.PLAN:
                self._begin_parts_anew(step, before or [])
                driver.lay_out()
                driver.journal.recorder.touch_all(driver.run_id, driver.state)
        self._carry_out(work, step)

    def _withdraw_parts_of_others(
        self, step: StepState, outlines: tuple[e.ItemOutline, ...], before: list[ItemState]
    ) -> None:
        """Call off what waits for a person in parts of items that are no more, or are other ones now."""
        driver = self._driver
        kept = {item.index for item, outline in zip(before, outlines, strict=False) if item.key == outline.key}
        for part in list(driver.state.steps.values()):
            item = item_of(part.id, step.id)
            if part.status is not StepStatus.WAITING or item is None or item in kept:
                continue
            reason = f"the items of {step.id} are others now"
            withdraw(driver, part)
            for attempt in list(part.attempts.values()):
                if attempt.item is not None and attempt.status is AttemptStatus.RUNNING:
                    where: dict[str, Any] = {"step_id": part.id, "item": attempt.item, "attempt": attempt.n}
                    driver.emit(e.ItemCancelled, **where, reason=reason)
            driver.emit(e.StepCancelled, step_id=part.id, reason=reason, attempt=open_attempt(part))

    def _begin_parts_anew(self, step: StepState, before: list[ItemState]) -> None:
        """Make the parts of items that another item had before pending: what they did was not for these."""
        driver = self._driver
        items = step.items or []
        same = {item.index for item, known in zip(items, before, strict=False) if item.key == known.key}
        for part in driver.state.steps.values():
            item = item_of(part.id, step.id)
            if item is None or item in same or items[item].status is StepStatus.SUCCEEDED:
                continue
            if part.status is not StepStatus.PENDING:
                driver.emit(e.StepInvalidated, step_id=part.id, reason="expanded anew", cause=step.id, again=True)

    def reopen(self, step: StepState) -> None:
        """Go on with a map of questions that an earlier engine let go of."""
        self._carry_out(Work(self._driver.prepared(step.id), attempt=step.attempt), step)

    def _carry_out(self, work: Work, step: StepState) -> None:
        prepared, items = work.step, step.items or []
        at_once = 1 if prepared.kind is ActionKind.APPROVE else prepared.step.max_concurrent or len(items) or 1
        left = sum(item.status in _LIVE for item in items)
        replay = self._driver.replay
        called_off = replay.called_off(prepared.id) if replay is not None else None
        self._open[prepared.id] = _OpenMap(work, Slots(at_once), left, cancelled=called_off)
        for item in items:
            self._queue(work, item)
        if not left:
            self._finish(prepared.id)

    def _outline(self, item: Any) -> e.ItemOutline:
        value = to_json_value(item)
        key = hashlib.blake2b(encode_json(value), digest_size=16).hexdigest()
        return e.ItemOutline(key=key, value=self._driver.core.store.keep(value, self._driver.source.redactor))

    def reopen_parts(self, parts: list[StepState]) -> None:
        """Go on with the maps among the parts of a sub-plan that was opened again."""
        for part in parts:
            asks = part.waiting is not None and part.waiting.attempt is not None
            if part.outline.is_map and asks and not self.is_open(part.id):
                self.reopen(part)

    def queue_anew(self) -> None:
        """Queue the items of the open maps once more, by the steps as they are now: the queue was dropped."""
        for step_id, found in self._open.items():
            found.work.step = self._driver.prepared(step_id)
            for item in self._driver.state.steps[step_id].items or ():
                if (step_id, item.index) not in self._driver.bodies:
                    self._queue(found.work, item)
            found.left = sum(item.status in _LIVE for item in self._driver.state.steps[step_id].items or ())

    def reopen_items(self) -> None:
        """Queue the items of the open maps of plans that are undone again: a part of theirs is to run anew."""
        driver = self._driver
        for step_id, found in self._open.items():
            if found.work.step.kind is not ActionKind.PLAN:
                continue
            begun = {work.item for work in driver.frontier.queue.waiting() if work.step.id == step_id}
            items = driver.state.steps[step_id].items or ()
            for item in items:
                if item.index not in begun and (step_id, item.index) not in driver.bodies:
                    self._queue(found.work, item)
            found.left = sum(item.status in _LIVE for item in items)

    def _queue(self, work: Work, item: ItemState) -> None:
        again = Work(work.step, item.index, item.tries)
        if item.status is StepStatus.RETRYING and item.retry_at is not None:
            self._driver.alarms.set(again, item.retry_at)
        elif item.status is StepStatus.PENDING:
            self._driver.frontier.enqueue(again)

    def item_ended(self, step_id: str) -> None:
        """Take note that an item has a result; the last one ends the map."""
        found = self._open.get(step_id)
        if found is None:
            return
        found.left -= 1
        if found.left <= 0:
            self._finish(step_id)

    def skip(self, work: Work, reason: str) -> None:
        """Skip the whole map, because an item of it found out that it cannot run here."""
        found = self._open[work.step.id]
        found.skipped = reason
        self._driver.emit(e.ItemCancelled, step_id=work.step.id, item=work.item, attempt=work.attempt, reason=reason)
        self._call_off(work.step.id, reason)
        self.item_ended(work.step.id)

    def cancel(self, step_id: str, reason: str) -> None:
        """Call a map off: running items are stopped, the others do not start."""
        found = self._open[step_id]
        found.cancelled = reason
        self._call_off(step_id, reason)
        self._finish_if_empty(found)

    def skip_by_hand(self, step_id: str, reason: str) -> None:
        """Skip a map of questions that somebody does not want to answer."""
        found = self._open[step_id]
        found.skipped = reason
        self._call_off(step_id, reason)
        self._finish_if_empty(found)

    def _finish_if_empty(self, found: _OpenMap) -> None:
        """End a map that was called off with no item at work, unless its last sub-plan has ended it already."""
        step_id = found.work.step.id
        if found.left <= 0 and self._open.get(step_id) is found:
            self._finish(step_id)

    def _call_off(self, step_id: str, reason: str) -> None:
        driver, found = self._driver, self._open[step_id]
        for work in driver.frontier.queue.waiting():
            if work.step.id == step_id and work.item is not None:
                work.withdrawn = True
        for key, (_, task) in list(driver.alarms.waiting.items()):
            if key[0] == step_id:
                task.cancel()
                del driver.alarms.waiting[key]
        driver.groups.cancel(step_id, reason)
        for item in driver.state.steps[step_id].items or []:
            if driver.groups.is_carried_out(step_id, item.index):
                continue
            running = driver.bodies.get((step_id, item.index))
            if running is not None and running.attempt:
                driver.stop_body(running, Stop.CANCEL, reason)
                continue
            if running is not None:  # its inputs are being loaded
                running.withdrawn = True
                driver.set_aside(running)
            if item.status in _LIVE:
                begun = item.attempt if item.status is StepStatus.RUNNING else 0
                driver.emit(e.ItemCancelled, step_id=step_id, item=item.index, attempt=begun, reason=reason)
                found.left -= 1

    def interrupt(self, reason: str, *, asked: bool) -> None:
        """Send the open maps back to pending, when no item of them runs any more.

        A map whose items only waited was not cut off: nothing of it is in doubt.
        """
        for step_id, found in list(self._open.items()):
            step = self._driver.state.steps[step_id]
            if step.status is StepStatus.RUNNING:
                waited = (
                    asked or step.outline.kind == "plan" or not any(_was_cut_off(step, one) for one in step.items or ())
                )
                where: dict[str, Any] = {"step_id": step_id, "attempt": found.work.attempt}
                self._driver.emit(e.StepInterrupted, **where, reason=reason, asked=waited)
            del self._open[step_id]

    # --- the end of a map

    def _finish(self, step_id: str) -> None:
        driver, found = self._driver, self._open[step_id]
        step = driver.state.steps[step_id]
        if found.cancelled is None and found.skipped is None and any(map(_is_large, step.items or ())):
            driver.side_task(self._finish_large(found, step), f"gather {step_id}")
            return
        del self._open[step_id]
        if found.cancelled is not None:
            driver.emit(e.StepCancelled, step_id=step_id, attempt=found.work.attempt, reason=found.cancelled)
            driver.frontier.step_ended(step_id)
        elif found.skipped is not None:
            driver.emit(e.StepSkipped, step_id=step_id, attempt=found.work.attempt, reason=found.skipped)
            driver.frontier.step_ended(step_id)
        else:
            self._end(found, step, [item.output.value if item.output else None for item in step.items or ()])

    async def _finish_large(self, found: _OpenMap, step: StepState) -> None:
        try:
            values = [
                await self._driver.core.store.load_value(item.output) if item.output else None
                for item in step.items or ()
            ]
        except Exception as error:  # noqa: BLE001 - a kept value that cannot be read: becomes the step's failure
            if self._open.pop(step.id, None) is found:
                self._driver.endings.conclude(found.work, failed(error, found.work.step.kind))
            return
        if self._open.get(step.id) is found:  # else it was called off meanwhile
            del self._open[step.id]
            self._end(found, step, values)

    def _end(self, found: _OpenMap, step: StepState, values: list[Any]) -> None:
        driver, attempt = self._driver, found.work.attempt
        bad = [item for item in step.items or () if item.status in _BAD]
        try:
            output = driver.core.store.keep(values, driver.source.redactor)
        except AttemptError as error:
            driver.endings.fail_step(step.id, attempt, Failure.of(error, error.error_type))
            return
        if bad:
            driver.endings.fail_step(step.id, attempt, _items_failed(step, bad), output)
            return
        made = [step.attempts.get((item.index, item.attempt)) for item in step.items or ()]
        cached = bool(made) and all(one is not None and one.origin for one in made)
        driver.endings.succeed_step(step.id, attempt, output, cached=cached)


def _was_cut_off(step: StepState, item: ItemState) -> bool:
    last = step.attempts.get((item.index, item.attempt))
    return item.status is StepStatus.PENDING and last is not None and last.status is AttemptStatus.INTERRUPTED


def _is_large(item: ItemState) -> bool:
    return item.output is not None and item.output.blob is not None


def _items_failed(step: StepState, bad: list[ItemState]) -> Failure:
    first = bad[0]
    cause = first.error.message if first.error else first.status.value
    return Failure(
        error_type=first.error.error_type if first.error else ErrorType.UNKNOWN,
        message=f"{len(bad)} of {len(step.items or ())} items failed; item {first.index}: {cause}",
        exception=first.error.exception if first.error else "",
        hint="The other items' results are kept: a resume runs only the failed ones.",
        details={"failed_items": [item.index for item in bad[:100]]},
    )


def _taken_over(outlines: Iterable[e.ItemOutline], before: list[ItemState]) -> Iterator[e.ItemOutline]:
    """Yield the outlines of a list that was made anew, with the results of items of the same content taken over."""
    done: dict[str, list[int]] = {}
    for item in before:
        if item.status is StepStatus.SUCCEEDED:
            done.setdefault(item.key, []).append(item.index)
    for outline in outlines:
        known = done.get(outline.key)
        yield msgspec.structs.replace(outline, reuse=known.pop(0)) if known else outline

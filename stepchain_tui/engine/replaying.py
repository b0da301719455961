"""Replays: a run whose exchanges with the outside are taken from the recording of another one.

Scheduling, expressions and conditions are really evaluated, and so are maps and sub-plans. Where a body would call
something (a model, a tool, a server, a database, a process, a function, a person), its recorded result is taken
instead, once it is seen that the step still asks for the same. A kind of steps may be carried out all the same
(`--live`); then its outputs are held against the recorded ones.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from stepchain_tui.core.errors import StepChainError
from stepchain_tui.engine.body import failed
from stepchain_tui.engine.recording import Recorded, Recording
from stepchain_tui.engine.replay_definitions import definition_changes, definition_then
from stepchain_tui.engine.replay_differences import Change, as_details, value_changes
from stepchain_tui.engine.work import Ending, Result, Work
from stepchain_tui.plan import ActionKind
from stepchain_tui.run import events as e
from stepchain_tui.run.comparison import same_value
from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.status import ErrorType
from stepchain_tui.run.values import Kept
from stepchain_tui.store.base import LogLine

if TYPE_CHECKING:
    from stepchain_tui.engine.driver import Driver

LOG_LINES = 10_000
"""Log lines of one attempt that a replay writes again; the recording has the others."""
_PAGE = 2_000
_OF_THE_ENGINE = ("seq", "run_id", "at", "step_id", "attempt", "item")
_HINT = (
    "Run the plan again for a new recording; "
    "`stepchain replay RUN --live KIND` carries out the steps of a kind all the same."
)


class Replay:
    """Gives the attempts of one run their recorded results.

    Args:
        driver: The run.
        recording: What the other run kept.
    """

    def __init__(self, driver: Driver, recording: Recording) -> None:
        self._driver = driver
        self._recording = recording
        self._live = frozenset(driver.state.live)

    @property
    def run(self) -> dict[str, str]:
        """What expressions read of `run`: the recorded run, so that they give what they gave."""
        state = self._recording.state
        return {"id": state.run_id, "started_at": state.started_at.isoformat() if state.started_at else ""}

    def covers(self, work: Work) -> bool:
        """Return whether an attempt's result is taken from the recording."""
        return work.step.kind not in self._live and work.step.kind is not ActionKind.PLAN

    def given_input(self, step_id: str) -> Kept | None:
        """Return what the step got instead of its own input, because a person changed that at a breakpoint."""
        return self._recording.given_input(step_id)

    def model_label(self, work: Work) -> str:
        """Return the model that the recorded attempt went to."""
        recorded = self._recorded(work)
        return recorded.attempt.model if recorded is not None and recorded.attempt is not None else ""

    # --- results that no attempt gives

    def take_over(self, work: Work) -> bool:
        """End a step whose recorded result no attempt gave, as it was ended; returns whether there is such a result.

        It was set by hand, pinned or taken over, or a person skipped it or called it off before it began.
        """
        recorded, step_id, driver = self._recording.step(work.step.id), work.step.id, self._driver
        if work.item is not None or recorded is None or recorded.attempt is not None:
            return False
        if definition_changes(self._recording, work.step.definition):
            return False
        match recorded.end:
            case e.StepSucceeded() as end:
                driver.release(work)
                facts = {"by": end.by, "origin": end.origin, "content_hash": end.content_hash}
                driver.endings.succeed_step(step_id, 0, end.output, **facts)
                return True
            case e.StepSkipped() as end if not _by_itself(end):
                driver.emit(e.StepSkipped, step_id=step_id, reason=end.reason)
            case e.StepCancelled(reason=reason):
                driver.emit(e.StepCancelled, step_id=step_id, reason=reason)
            case _:
                return False
        driver.release(work)
        driver.frontier.step_ended(step_id)
        return True

    def result_of_map(self, work: Work) -> Result | None:
        """Return the result of a map that is not to be expanded, None for one that is."""
        recorded = self._recorded(work)
        changes = self._does_not_fit(work, recorded)
        if not changes and recorded is not None and not recorded.stale and self.covers(work):
            changes = self._work_changes(work)  # told once, and not by every item
        if changes:
            return _misfit(work, changes)
        assert recorded is not None
        if isinstance(recorded.end, e.StepSkipped):
            return _without_work(recorded)
        expanded = self._recording.state.steps[work.step.id].items is not None
        called_off = recorded.end is None or isinstance(recorded.end, e.StepCancelled)
        return _without_work(recorded) if called_off and not expanded else None

    def called_off(self, step_id: str) -> str | None:
        """Return why a map was called off in the recording, None where it was not."""
        recorded = self._recording.step(step_id)
        return recorded.end.reason if recorded is not None and isinstance(recorded.end, e.StepCancelled) else None

    def settled(self, work: Work, result: Result) -> Result:
        """Return the result of a sub-plan as it was recorded, where that was ended by its time or by a person."""
        if work.step.kind is not ActionKind.PLAN or result.ending is not Ending.FAILED:
            return result
        recorded = self._recorded(work)
        if recorded is None:
            return result
        match recorded.end:
            case e.StepTimedOut(error=error) | e.ItemTimedOut(error=error):
                return Result(Ending.TIMED_OUT, failure=error)
            case e.StepCancelled(reason=reason) | e.ItemCancelled(reason=reason):
                return Result(Ending.CANCELLED, reason=reason)
            case _:
                return result

    # --- results of attempts

    def refuse(self, work: Work) -> Result | None:
        """Return the result of a sub-plan or a question that the recording does not fit, None where it does."""
        recorded = self._recorded(work)
        changes = self._does_not_fit(work, recorded) or definition_changes(self._recording, work.step.definition)
        if not changes and recorded is not None and not recorded.stale:
            then, now = self._inputs(work, recorded)
            if then is not None and now is not None and same_value(then, now) is False:
                plain = then.blob is None and now.blob is None
                found = value_changes(then.value, now.value) if plain else [Change("input", note="is another one now")]
                changes = found
        if changes:
            return _misfit(work, changes)
        if work.step.kind is not ActionKind.PLAN and recorded is not None and recorded.end is None:
            return _without_work(recorded)
        return None

    def answer(self, work: Work) -> None:
        """Give an approve step, whose attempt has begun and holds no slot, the answer that it was given."""
        driver, recorded = self._driver, self._recorded(work)
        refused = self.refuse(work)
        said = recorded.answer if recorded is not None else None
        if refused is None and recorded is not None and (said is None or not isinstance(said.answer, dict)):
            refused = _failure_or_cancelled(recorded)
        if refused is not None or said is None:
            driver.endings.conclude(work, refused or Result(Ending.CANCELLED, reason="nobody answered"))
            return
        driver.approvals.ask(work)
        fields = said.answer.get("fields")
        approved = bool(said.answer.get("approved"))
        driver.approvals.answer(
            work.step.id, approved=approved, fields=fields if isinstance(fields, dict) else {}, by=said.by
        )

    async def carry_out(self, work: Work) -> Result:
        """Return the recorded result of an attempt, and tell again what was told on the way to it."""
        try:
            recorded = self._recorded(work)
            changes = self._does_not_fit(work, recorded) or await self._changes(work, recorded)
            if changes:
                return _misfit(work, changes)
            assert recorded is not None
            if recorded.end is None:
                return _without_work(recorded)
            await self._tell_again(work, recorded)
            return await self._result(work, recorded)
        except asyncio.CancelledError:
            return Result(Ending.STOPPED)
        except StepChainError as error:  # a value of the recording that cannot be read
            return failed(error, work.step.kind)

    async def _result(self, work: Work, recorded: Recorded) -> Result:
        match recorded.end:
            case e.StepSucceeded(output=output) | e.ItemSucceeded(output=output):
                work.files = output.files
                if recorded.attempt is not None:
                    work.warnings.extend(recorded.attempt.warnings)
                return Result(Ending.SUCCEEDED, output=await self._load(output))
            case e.StepFailed(error=error, output=beside):
                return Result(Ending.FAILED, failure=error, output=await self._load(beside))
            case e.ItemFailed(error=error):
                return Result(Ending.FAILED, failure=error)
            case e.StepTimedOut(error=error) | e.ItemTimedOut(error=error):
                return Result(Ending.TIMED_OUT, failure=error)
            case _:
                return _without_work(recorded)

    async def _load(self, kept: Kept | None) -> Any:
        return None if kept is None else await self._driver.core.store.load_value(kept)

    # --- whether it fits

    def _recorded(self, work: Work) -> Recorded | None:
        if work.item is None:
            return self._recording.step(work.step.id)
        items = self._driver.state.steps[work.step.id].items
        assert items is not None
        return self._recording.item(work.step.id, work.item, items[work.item].key)

    def _does_not_fit(self, work: Work, recorded: Recorded | None) -> list[Change]:
        """Return why the recording has nothing for an attempt, nothing where it has."""
        what = "this item" if work.item is not None else "the step"
        if recorded is None:
            return [Change(note=f"{what} is not in the recording")]
        match recorded.end:
            case e.StepBlocked(reason=reason) | e.StepSkipped(reason=reason, attempt=None) if _by_itself(recorded.end):
                return [Change(note=f"{what} did not run in the recording: {reason}")]
            case _:
                return []

    async def _changes(self, work: Work, recorded: Recorded | None) -> list[Change]:
        """Return where an attempt asks for something else than the recorded one did."""
        assert recorded is not None
        if recorded.stale:
            return []  # what it was made from is known to be another now
        then, now = self._inputs(work, recorded)
        changes: list[Change] = []
        if then is not None and now is not None and same_value(then, now) is False:
            changes = value_changes(await self._load(then), await self._load(now))
        return [*changes, *self._work_changes(work)] if work.item is None else changes

    def _work_changes(self, work: Work) -> list[Change]:
        """Return where what the step does is something else than it was, besides its input."""
        changes = definition_changes(self._recording, work.step.definition)
        if not changes and self._code_changed(work):
            changes = [Change("code", note="the code behind it is another than it was recorded with")]
        return changes

    def _inputs(self, work: Work, recorded: Recorded) -> tuple[Kept | None, Kept | None]:
        """Return the input as it was recorded and as it is now."""
        now = self._driver.state.steps[work.step.id].attempts.get((work.item, work.attempt))
        return recorded.attempt.input if recorded.attempt else None, now.input if now is not None else None

    def _code_changed(self, work: Work) -> bool:
        """Return whether files behind a step are there, and others than those it was recorded with."""
        recorded_hash = self._recording.state.steps[work.step.id].content_hash
        then = definition_then(self._recording, work.step.id)
        definition, source, hasher = work.step.definition, self._driver.source, self._driver.core.hasher
        files = hasher.files_behind(definition, source)
        if not files or not recorded_hash or then is None or not all(path.is_file() for path in files):
            return False
        return hasher.hash_with_code(then, self._recording.source, files) != recorded_hash

    # --- what was told on the way

    async def _tell_again(self, work: Work, recorded: Recorded) -> None:
        """Write the recorded log, and the turns and calls, as those of this attempt."""
        if recorded.attempt is not None and self._recording.has_log:
            await self._copy_log(work, recorded.attempt.n)
        for call in recorded.calls:
            fields = {name: getattr(call, name) for name in call.__struct_fields__ if name not in _OF_THE_ENGINE}
            if isinstance(call, e.ModelTurn):
                fields |= {"replayed": True, "cost": 0.0}  # nobody was asked: it cost nothing
            elif isinstance(call, e.ToolFinished):
                fields["replayed"] = True
            where = {"step_id": work.step.id, "attempt": work.attempt, "item": work.item}
            self._driver.emit(type(call), **where, **fields)

    async def _copy_log(self, work: Work, attempt: int) -> None:
        core, last, left = self._driver.core, 0, LOG_LINES
        item = -1 if work.item is None else work.item
        recorded, step_id = self._recording.run_id, work.step.id
        while left > 0:
            lines = await core.store.read_log(
                recorded, step_id=step_id, attempt=attempt, item=item, after=last, limit=min(_PAGE, left)
            )
            for line in lines:
                self._write(work, line.stream, line.text)
            if len(lines) < min(_PAGE, left):
                return
            left, last = left - len(lines), lines[-1].n
        self._write(work, "engine", f"the rest of this log is that of run {recorded}")

    def _write(self, work: Work, stream: str, text: str) -> None:
        core = self._driver.core
        line = LogLine(
            at=core.clock.now(),
            step_id=work.step.id,
            attempt=work.attempt,
            item=-1 if work.item is None else work.item,
            stream=stream,
            text=text,
        )
        core.recorder.log(self._driver.run_id, line)


def _by_itself(end: Any) -> bool:
    """Return whether a step that did not run was kept from it by its condition or by other steps, and no person."""
    return isinstance(end, e.StepBlocked) or bool(end.cause) or end.reason == WHEN_IS_FALSE


WHEN_IS_FALSE = "its `when` is false"
"""Why a step is skipped whose condition says so."""


def _without_work(recorded: Recorded) -> Result:
    """Return the result of a step that was skipped or called off, or that the recording has no result of."""
    end = recorded.end
    if isinstance(end, e.StepSkipped):
        return Result(Ending.SKIPPED, reason=end.reason)
    if isinstance(end, e.StepCancelled | e.ItemCancelled):
        return Result(Ending.CANCELLED, reason=end.reason)
    return Result(Ending.CANCELLED, reason="the recording ends before it has a result")


def _failure_or_cancelled(recorded: Recorded) -> Result:
    end = recorded.end
    if isinstance(end, e.StepFailed | e.ItemFailed | e.StepTimedOut | e.ItemTimedOut):
        return Result(Ending.FAILED, failure=end.error)
    return _without_work(recorded)


def _misfit(work: Work, changes: list[Change]) -> Result:
    """Return the failure of an attempt that the recording does not fit."""
    place = work.step.id if work.item is None else f"{work.step.id}[{work.item}]"
    more = f" (and {len(changes) - 1} more)" if len(changes) > 1 else ""
    error = AttemptError(
        f"the recording no longer fits: step {place}: {changes[0].words}{more}",
        error_type=ErrorType.USER_ERROR,
        hint=_HINT,
        details=as_details(changes),
    )
    return failed(error, work.step.kind)

"""The fold: what events add up to, and which moves are not legal."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from stepchain_tui.core.errors import InternalError, UnknownStepError
from stepchain_tui.run import AttemptStatus, ErrorType, Failure, Kept, Mark, RunState, RunStatus, StepStatus
from stepchain_tui.run import events as e
from stepchain_tui.run.status import RUN_ENDED, STEP_ENDED, STEP_IN_FLIGHT, STEP_MOVES

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
OWNER = e.OwnerRecord(pid=7, process_started_at=1.0)
BROKEN = Failure(error_type=ErrorType.TOOL_ERROR, message="broke")


class Fold:
    """A state with a short way to give it events."""

    def __init__(self, *steps: str, maps: tuple[str, ...] = ()) -> None:
        self.state = RunState()
        outlines = tuple(e.StepOutline(id=name, kind="shell", is_map=name in maps) for name in (steps or ("a",)))
        self.add(e.RunCreated, goal="g", plan={"steps": []}, steps=outlines)
        self.add(e.RunStarted, owner=OWNER)

    def add(self, kind: type[Any], **fields: Any) -> Fold:
        seq = self.state.last_seq + 1
        self.state.apply(kind(seq=seq, run_id="r", at=BEGIN + timedelta(seconds=seq), **fields))
        return self

    def step(self, kind: type[Any], step_id: str = "a", **fields: Any) -> Fold:
        return self.add(kind, step_id=step_id, **fields)

    def begin(self, attempt: int = 1, step_id: str = "a", **fields: Any) -> Fold:
        return self.step(e.StepStarted, step_id, attempt=attempt, **fields)

    def retry(self, attempt: int = 1, **fields: Any) -> Fold:
        given = {"status": AttemptStatus.FAILED, "error": BROKEN, "delay": 1.0, "retry_at": BEGIN, "tries": attempt}
        return self.step(e.StepRetryScheduled, attempt=attempt, **{**given, **fields})

    @property
    def a(self) -> Any:
        return self.state.steps["a"]


def into(status: StepStatus) -> Fold:
    """Return a fold whose step `a` has that status."""
    fold = Fold("a", "b")
    match status:
        case StepStatus.PENDING:
            return fold
        case StepStatus.QUEUED:
            return fold.step(e.StepQueued)
        case StepStatus.SKIPPED:
            return fold.step(e.StepSkipped, reason="when")
        case StepStatus.BLOCKED:
            return fold.step(e.StepBlocked, cause="b")
    fold.begin()
    match status:
        case StepStatus.RETRYING:
            return fold.retry()
        case StepStatus.WAITING:
            return fold.step(e.StepWaiting, reason="approval", attempt=1)
        case StepStatus.SUCCEEDED:
            return fold.step(e.StepSucceeded, attempt=1, output=Kept(1))
        case StepStatus.FAILED:
            return fold.step(e.StepFailed, attempt=1, error=BROKEN)
        case StepStatus.TIMED_OUT:
            return fold.step(e.StepTimedOut, attempt=1, error=BROKEN)
        case StepStatus.CANCELLED:
            return fold.step(e.StepCancelled, attempt=1)
    return fold


MOVES: dict[StepStatus, Any] = {
    StepStatus.QUEUED: lambda fold: fold.step(e.StepQueued),
    StepStatus.RUNNING: lambda fold: fold.begin(9),
    StepStatus.RETRYING: lambda fold: fold.retry(),
    StepStatus.WAITING: lambda fold: fold.step(e.StepWaiting, reason="approval"),
    StepStatus.SUCCEEDED: lambda fold: fold.step(e.StepSucceeded, attempt=1, output=Kept(2)),
    StepStatus.FAILED: lambda fold: fold.step(e.StepFailed, attempt=1, error=BROKEN),
    StepStatus.TIMED_OUT: lambda fold: fold.step(e.StepTimedOut, attempt=1, error=BROKEN),
    StepStatus.SKIPPED: lambda fold: fold.step(e.StepSkipped, reason="said so"),
    StepStatus.BLOCKED: lambda fold: fold.step(e.StepBlocked, cause="b"),
    StepStatus.CANCELLED: lambda fold: fold.step(e.StepCancelled),
    StepStatus.PENDING: lambda fold: fold.step(e.StepInterrupted, attempt=1),
}
"""What moves a step to each status."""


def test_the_statuses_are_those_of_the_design() -> None:
    words = "pending queued running retrying waiting succeeded failed timed_out skipped blocked cancelled"
    assert [str(status) for status in StepStatus] == words.split()
    assert " ".join(AttemptStatus) == "running succeeded failed timed_out cancelled interrupted"
    assert " ".join(RunStatus) == "pending running paused waiting succeeded failed cancelled interrupted"
    assert " ".join(ErrorType) == "rate_limit server_error tool_error user_error timeout unknown"
    assert " ".join(sorted(Mark)) == "cached pinned stale"


def test_every_status_is_ended_in_flight_or_pending() -> None:
    assert STEP_ENDED | STEP_IN_FLIGHT | {StepStatus.PENDING} == set(StepStatus)
    assert not STEP_ENDED & STEP_IN_FLIGHT
    assert " ".join(sorted(RUN_ENDED)) == "cancelled failed succeeded"
    assert set(STEP_MOVES) == set(StepStatus)


@pytest.mark.parametrize("to", StepStatus)
@pytest.mark.parametrize("status", StepStatus)
def test_only_moves_of_the_table_are_made_and_all_others_name_what_was_expected(
    status: StepStatus, to: StepStatus
) -> None:
    fold = into(status)
    assert fold.a.status is status
    if to in STEP_MOVES[status]:
        MOVES[to](fold)
        assert fold.a.status is to
        assert {key: n for key, n in fold.state.counts.items() if n} in ({to: 1, "pending": 1}, {"pending": 2})
        return
    with pytest.raises(InternalError, match=rf"step 'a' is {status} and cannot become {to}, only \w+"):
        MOVES[to](fold)


@pytest.mark.parametrize("ended", sorted(STEP_ENDED))
def test_a_step_that_ended_does_not_start_again_by_itself(ended: StepStatus) -> None:
    asked_for = {StepStatus.PENDING, StepStatus.SKIPPED, StepStatus.SUCCEEDED}
    at_a_breakpoint = {StepStatus.WAITING} if ended is StepStatus.SUCCEEDED else set()
    assert STEP_MOVES[ended] == asked_for | at_a_breakpoint


@pytest.mark.parametrize("seq", [0, 2, 4, 5])
def test_an_event_out_of_order_is_refused_and_changes_nothing(seq: int) -> None:
    fold = Fold()
    with pytest.raises(InternalError, match="came after 2"):
        fold.state.apply(e.RunPaused(seq=seq, run_id="r", at=BEGIN))
    assert (fold.state.last_seq, fold.state.status) == (2, RunStatus.RUNNING)


def test_a_step_that_the_plan_does_not_have_is_named_with_the_nearest() -> None:
    with pytest.raises(UnknownStepError) as caught:
        Fold("fetch").state.step("fetc")
    assert caught.value.hint == "did you mean 'fetch'?"


def test_the_last_event_gives_number_and_moment() -> None:
    fold = Fold().begin()
    assert (fold.state.last_seq, fold.state.last_at) == (3, BEGIN + timedelta(seconds=3))


def test_a_success_keeps_output_times_and_its_attempt() -> None:
    fold = into(StepStatus.SUCCEEDED)
    step = fold.a
    assert (step.output, step.error, step.attempt, step.ended) == (Kept(1), None, 1, True)
    assert (step.started_at, step.finished_at) == (BEGIN + timedelta(seconds=3), BEGIN + timedelta(seconds=4))
    assert (step.last.status, step.last.output) == (AttemptStatus.SUCCEEDED, Kept(1))


def test_old_attempts_stay_when_a_step_runs_again() -> None:
    fold = into(StepStatus.SUCCEEDED).step(e.StepInvalidated, reason="rerun")
    assert (fold.a.status, fold.a.finished_at, fold.a.tries) == (StepStatus.PENDING, None, 0)
    fold.begin(2).step(e.StepFailed, attempt=2, error=BROKEN)
    assert [(found.n, found.status) for found in fold.a.attempts.values()] == [(1, "succeeded"), (2, "failed")]
    assert fold.a.attempts[None, 1].output == Kept(1)


def test_a_retry_ends_the_attempt_counts_the_try_and_has_a_time() -> None:
    fold = Fold().begin().retry(tries=1, retry_at=BEGIN + timedelta(hours=1), reason="rate limit")
    step = fold.a
    assert (step.status, step.tries, step.reason) == (StepStatus.RETRYING, 1, "rate limit")
    assert step.retry_at == BEGIN + timedelta(hours=1)
    assert (step.last.status, step.last.error) == (AttemptStatus.FAILED, BROKEN)
    fold.begin(2, tries=2)
    assert (step.retry_at, step.error, step.tries) == (None, None, 2)


def test_an_interruption_costs_no_try_and_counts_only_when_nobody_asked_for_it() -> None:
    fold = Fold().begin(tries=1).step(e.StepInterrupted, attempt=1)
    assert (fold.a.status, fold.a.tries, fold.a.interruptions) == (StepStatus.PENDING, 0, 1)
    fold.begin(2, tries=1).step(e.StepInterrupted, attempt=2, asked=True)
    assert (fold.a.tries, fold.a.interruptions) == (0, 1)
    assert [found.status for found in fold.a.attempts.values()] == ["interrupted", "interrupted"]


def test_a_stale_mark_changes_nothing_else_and_a_new_attempt_takes_it_off() -> None:
    fold = into(StepStatus.SUCCEEDED).step(e.StepInvalidated, reason="rerun", cause="b", stale=True)
    assert (fold.a.status, fold.a.output, fold.a.marks) == (StepStatus.SUCCEEDED, Kept(1), {Mark.STALE})
    fold.step(e.StepInvalidated, reason="rerun")
    assert fold.a.marks == set()


def test_items_keep_their_order_their_results_and_their_numbers_of_attempts() -> None:
    fold = Fold("a", maps=("a",)).begin()
    items = tuple(e.ItemOutline(key=str(n), value=Kept(n)) for n in range(3))
    fold.step(e.StepExpanded, attempt=1, items=items)
    fold.step(e.ItemStarted, attempt=1, item=2).step(e.ItemSucceeded, attempt=1, item=2, output=Kept("two"))
    fold.step(e.ItemStarted, attempt=1, item=0).step(e.ItemFailed, attempt=1, item=0, error=BROKEN)
    found = [(item.index, item.status, item.attempt) for item in fold.a.items]
    assert found == [(0, "failed", 1), (1, "pending", 0), (2, "succeeded", 1)]
    assert (fold.a.items[0].error, fold.a.items[2].output) == (BROKEN, Kept("two"))
    fold.step(e.StepFailed, attempt=1, error=BROKEN).step(e.StepInvalidated, reason="resume", keep_items=True)
    assert [item.status for item in fold.a.items] == ["pending", "pending", "succeeded"]


def test_an_item_that_a_map_does_not_have_is_a_bug() -> None:
    fold = Fold("a", maps=("a",)).begin()
    with pytest.raises(InternalError, match="no item 0"):
        fold.step(e.ItemStarted, attempt=1, item=0)


def test_a_revision_keeps_the_results_of_steps_that_stay_and_remembers_those_that_go() -> None:
    fold = into(StepStatus.SUCCEEDED)
    outlines = (e.StepOutline(id="c", kind="shell"), e.StepOutline(id="a", kind="prompt"))
    fold.add(e.RunRevised, revision=2, plan={"steps": []}, steps=outlines, max_concurrent=2)
    state = fold.state
    assert (list(state.steps), list(state.removed)) == (["c", "a"], ["b"])
    assert (state.steps["a"].output, state.steps["a"].outline.kind) == (Kept(1), "prompt")
    assert {key: n for key, n in state.counts.items() if n} == {"pending": 1, "succeeded": 1}


def test_tokens_add_up_and_unknown_is_not_zero() -> None:
    fold = Fold().begin()
    fold.step(e.ModelTurn, attempt=1, model="m", input_tokens=3, output_tokens=4)
    fold.step(e.ModelTurn, attempt=1, model="m", input_tokens=None, output_tokens=5)
    for usage in (fold.state.usage, fold.a.usage):
        assert (usage.turns, usage.input_tokens, usage.output_tokens, usage.unknown_turns) == (2, 3, 9, 1)


@pytest.mark.parametrize(
    ("event", "fields", "status"),
    [
        (e.RunPaused, {"reason": "by hand"}, "paused"),
        (e.RunWaiting, {"steps": ("a",)}, "waiting"),
        (e.RunInterrupted, {}, "interrupted"),
        (e.RunFinished, {"status": RunStatus.CANCELLED}, "cancelled"),
    ],
)
def test_a_run_goes_on_after_every_kind_of_stop(event: type[Any], fields: dict[str, Any], status: str) -> None:
    fold = Fold().add(event, **fields)
    assert fold.state.status == status
    fold.add(e.RunResumed, reason="resumed", owner=OWNER)
    state = fold.state
    assert (state.status, state.finished_at, state.waiting_for, state.reason) == ("running", None, (), "")


def test_the_same_events_give_the_same_state_again() -> None:
    first, second = into(StepStatus.RETRYING), into(StepStatus.RETRYING)
    assert first.state == second.state
    first.begin(2)
    assert first.state != second.state

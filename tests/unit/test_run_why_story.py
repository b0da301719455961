"""`Story`: the events of a run as a test tells them, each at a second of its choice, and the state they add up to."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from stepchain_tui.run import AttemptStatus, ErrorType, Event, Explanation, Failure, Kept, RunState, explain
from stepchain_tui.run import events as e

BEGIN = datetime(2026, 1, 1, 12, tzinfo=UTC)
BROKEN = Failure(error_type=ErrorType.TOOL_ERROR, message="it broke")
LIMITED = Failure(error_type=ErrorType.RATE_LIMIT, message="429 slow down")


def moment(second: float) -> datetime:
    return BEGIN + timedelta(seconds=second)


class Story:
    """A run. A step is written `b < a` where it needs `a`; other keys of outlines and plan go to `keys`."""

    def __init__(self, *steps: str, run_id: str = "r", keys: dict[str, dict[str, Any]] | None = None, **run: Any):
        self.state, self.events, self.second, self.run_id = RunState(), list[Event](), 0.0, run_id
        written = [(name, parents.split()) for name, _, parents in (step.partition(" < ") for step in steps)]
        known, plan = set(e.StepOutline.__struct_fields__), []
        outlines = []
        for name, parents in written:
            given = (keys or {}).get(name, {})
            outline = {"kind": "shell", **{key: value for key, value in given.items() if key in known}}
            outlines.append(e.StepOutline(id=name, parents=tuple(parents), **outline))
            plan.append({"id": name, **given})
        self.outlines = tuple(outlines)
        self.add(e.RunCreated, goal="g", plan={"steps": plan}, steps=self.outlines, **run)
        self.add(e.RunStarted, owner=e.OwnerRecord(pid=7, process_started_at=1.0))

    def at(self, second: float) -> Self:
        self.second = second
        return self

    def add(self, kind: type[Any], **fields: Any) -> Self:
        event = kind(seq=len(self.events) + 1, run_id=self.run_id, at=moment(self.second), **fields)
        self.events.append(event)
        self.state.apply(event)
        return self

    def step(self, kind: type[Any], step_id: str, **fields: Any) -> Self:
        return self.add(kind, step_id=step_id, **fields)

    def begin(self, step_id: str, tries: int = 1, **fields: Any) -> Self:
        attempt = self.state.steps[step_id].attempt + 1
        return self.step(e.StepStarted, step_id, attempt=attempt, tries=tries, **fields)

    def succeed(self, step_id: str, output: Any = None, **fields: Any) -> Self:
        attempt = self.state.steps[step_id].attempt
        return self.step(e.StepSucceeded, step_id, attempt=attempt, output=Kept(output), **fields)

    def fail(self, step_id: str, error: Failure = BROKEN, kind: type[Any] = e.StepFailed) -> Self:
        return self.step(kind, step_id, attempt=self.state.steps[step_id].attempt, error=error)

    def ran(self, step_id: str, begin: float, end: float, **fields: Any) -> Self:
        return self.at(begin).begin(step_id, **fields).at(end).succeed(step_id)

    def retry(self, step_id: str, delay: float, error: Failure = LIMITED, reason: str = "rate limit") -> Self:
        step = self.state.steps[step_id]
        return self.step(
            e.StepRetryScheduled,
            step_id,
            attempt=step.attempt,
            status=AttemptStatus.FAILED,
            error=error,
            delay=delay,
            retry_at=moment(self.second + delay),
            tries=step.tries,
            max_attempts=step.max_attempts,
            reason=reason,
        )

    def command(self, command: str, by: str = "Ada", **arguments: Any) -> Self:
        return self.add(e.CommandApplied, command_id="c", command=command, arguments=arguments, by=by)

    def expand(self, step_id: str, values: Sequence[Any], steps: tuple[e.StepOutline, ...] = ()) -> Self:
        items = tuple(e.ItemOutline(key=str(value), value=Kept(value)) for value in values)
        return self.step(e.StepExpanded, step_id, attempt=1, items=items, steps=steps)

    def why(self, step_id: str, second: float | None = None) -> Explanation:
        return explain(self.state, self.events, step_id, now=moment(self.second if second is None else second))

    def answer(self, step_id: str, second: float | None = None) -> str:
        return self.why(step_id, second).answer


def texts(found: Explanation) -> str:
    """Return the details as one text, a line each."""
    return "\n".join(fact.text for fact in found.details)


def test_a_story_says_of_a_step_what_was_told() -> None:
    story = Story("a", "b < a").ran("a", 1, 2)
    assert [str(step.status) for step in story.state.steps.values()] == ["succeeded", "pending"]
    assert [event.seq for event in story.events] == [1, 2, 3, 4]

"""Two runs side by side: what differs between their steps, their inputs and what they took.

Only states are compared, nothing is loaded: large outputs are compared by their hash. Values of secret inputs are
never stored, so whether they differ is not known.
"""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from stepchain_tui.run.critical_path import began_at
from stepchain_tui.run.spending import usage_record
from stepchain_tui.run.state import RunState
from stepchain_tui.run.status import RunStatus, StepStatus, worded
from stepchain_tui.run.step_state import StepState, Usage
from stepchain_tui.run.values import Kept
from stepchain_tui.run.why_words import listed, numbered, quoted, spoken

LINES_COMPARED = 20_000
"""Lines of a value that are compared with another; difflib's time grows with their square."""
_sorted_encoder = msgspec.json.Encoder(order="sorted", enc_hook=str)


@dataclass(frozen=True, slots=True)
class StepSide:
    """A step in one of the runs.

    Attributes:
        status: Its status.
        attempts: How many attempts were made at it, over the whole life of the run.
        seconds: From its first try to its end; None where it has not ended, or no attempt led there.
        error: The message of its error, or an empty string.
        content_hash: What its last attempt did, see `plan.hashing`; empty where none was made.
    """

    status: StepStatus
    attempts: int
    seconds: float | None
    error: str
    content_hash: str


@dataclass(frozen=True, slots=True)
class StepComparison:
    """A step in both runs.

    Attributes:
        step_id: The step.
        left: How it stands in the left run, None where that has no such step.
        right: The same of the right run.
        same_output: Whether the outputs are equal; None where neither has one, or one run lacks the step.
        same_work: Whether what it does is the same (action, input sources, code); None where that is not known.
    """

    step_id: str
    left: StepSide | None
    right: StepSide | None
    same_output: bool | None
    same_work: bool | None

    @property
    def ratio(self) -> float | None:
        """How many times as long it took on the right as on the left, None where that is not known."""
        if self.left is None or self.right is None:
            return None
        return _ratio(self.left.seconds, self.right.seconds)

    @property
    def differs(self) -> bool:
        """Whether anything but the time it took and the number of attempts is different."""
        if self.left is None or self.right is None:
            return True
        same = self.left.status is self.right.status and self.left.error == self.right.error
        return not same or self.same_output is False or self.same_work is False


@dataclass(frozen=True, slots=True)
class RunSide:
    """One of the runs.

    Attributes:
        run_id: The run.
        status: Its status.
        seconds: From its start to its end, or to its last event; None where it has not begun.
        usage: The tokens it took.
    """

    run_id: str
    status: RunStatus
    seconds: float | None
    usage: Usage


@dataclass(frozen=True, slots=True)
class InputDifference:
    """An input with another value; where it is secret in a run, both values are None."""

    name: str
    left: Any = None
    right: Any = None
    secret: bool = False


@dataclass(frozen=True, slots=True)
class RunComparison:
    """Two runs side by side.

    Attributes:
        left: The one run.
        right: The other run.
        inputs: The inputs that differ, in the order of the right run's.
        steps: Steps in the plan order of the right run, then those that only the left one has.
    """

    left: RunSide
    right: RunSide
    inputs: tuple[InputDifference, ...]
    steps: tuple[StepComparison, ...]

    @property
    def ratio(self) -> float | None:
        """How many times as long the right run took as the left one, None where that is not known."""
        return _ratio(self.left.seconds, self.right.seconds)

    def lines(self) -> list[str]:
        """Return it as text: the runs, the inputs that differ, then a line for each step."""
        told = [f"left   {_run_line(self.left)}", f"right  {_run_line(self.right)}{_times_as_long(self.ratio)}"]
        for found in self.inputs:
            values = "secret" if found.secret else f"{_shown(found.left)} -> {_shown(found.right)}"
            told.append(f"input {found.name}: {values}")
        told.extend(_step_line(step) for step in self.steps)
        return told

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON value."""
        return {
            "left": _run_json(self.left),
            "right": _run_json(self.right),
            "ratio": self.ratio,
            "inputs": [
                {"name": found.name, "left": found.left, "right": found.right, "secret": found.secret}
                for found in self.inputs
            ],
            "steps": [
                {
                    "id": step.step_id,
                    "left": _side_json(step.left),
                    "right": _side_json(step.right),
                    "ratio": step.ratio,
                    "same_output": step.same_output,
                    "same_work": step.same_work,
                    "differs": step.differs,
                }
                for step in self.steps
            ],
        }


def compare_runs(left: RunState, right: RunState) -> RunComparison:
    """Return what differs between two runs."""
    step_ids = [*right.steps, *(step_id for step_id in left.steps if step_id not in right.steps)]
    steps = tuple(_compare_step(step_id, left.steps.get(step_id), right.steps.get(step_id)) for step_id in step_ids)
    return RunComparison(_run_side(left), _run_side(right), _compare_inputs(left, right), steps)


def output_lines(left: Any, right: Any) -> list[str]:
    """Return the difference of two outputs as the lines of a unified diff, none where they are equal.

    Texts are compared by their lines, other values by those of their JSON, keys sorted.

    Args:
        left: The output on the left, loaded: a JSON value.
        right: The output on the right.
    """
    texts = isinstance(left, str) and isinstance(right, str)
    before, after = (_lines(value, as_text=texts) for value in (left, right))
    cut = max(len(before), len(after)) > LINES_COMPARED
    found = list(
        difflib.unified_diff(before[:LINES_COMPARED], after[:LINES_COMPARED], "left", "right", n=3, lineterm="")
    )
    return [*found, f"... only the first {LINES_COMPARED:,} lines were compared"] if cut else found


def same_value(left: Kept | None, right: Kept | None) -> bool | None:
    """Return whether two kept values are equal, large ones by their hash; None where there is neither."""
    if left is None or right is None:
        return None if left is right else False
    if left.blob is not None or right.blob is not None:
        return left.blob is not None and right.blob is not None and left.blob.sha256 == right.blob.sha256
    return _same(left.value, right.value)


# --- the parts of a comparison


def _same(left: Any, right: Any) -> bool:
    # Python holds True for equal to 1: only their JSON tells them apart.
    return bool(left == right) and _sorted_encoder.encode(left) == _sorted_encoder.encode(right)


def _compare_step(step_id: str, left: StepState | None, right: StepState | None) -> StepComparison:
    if left is None or right is None:
        one, other = (_step_side(step) if step is not None else None for step in (left, right))
        return StepComparison(step_id, one, other, None, None)
    hashes = (left.content_hash, right.content_hash)
    same_work = hashes[0] == hashes[1] if all(hashes) else None
    return StepComparison(
        step_id, _step_side(left), _step_side(right), same_value(left.output, right.output), same_work
    )


def _step_side(step: StepState) -> StepSide:
    began, seconds = began_at(step), None
    if began is not None and step.ended and step.finished_at is not None:
        seconds = max(0.0, (step.finished_at - began).total_seconds())
    error = step.error.message if step.error is not None else ""
    return StepSide(step.status, step.attempt, seconds, error, step.content_hash)


def _run_side(state: RunState) -> RunSide:
    end: datetime | None = state.finished_at or state.last_at
    seconds = (end - state.started_at).total_seconds() if end is not None and state.started_at is not None else None
    return RunSide(state.run_id, state.status, seconds, state.usage)


def _compare_inputs(left: RunState, right: RunState) -> tuple[InputDifference, ...]:
    found: list[InputDifference] = []
    secret = {*left.secret_inputs, *right.secret_inputs}
    for name in dict.fromkeys([*right.inputs, *right.secret_inputs, *left.inputs, *left.secret_inputs]):
        if name in secret:
            if (name in left.secret_inputs) is not (name in right.secret_inputs):
                found.append(InputDifference(name, secret=True))
            continue
        one_lacks_it = (name in left.inputs) is not (name in right.inputs)
        values = left.inputs.get(name), right.inputs.get(name)
        if one_lacks_it or not _same(*values):
            found.append(InputDifference(name, *values))
    return tuple(found)


def _ratio(left: float | None, right: float | None) -> float | None:
    return right / left if left and right is not None else None


# --- as text and JSON


def _lines(value: Any, *, as_text: bool) -> list[str]:
    text = value if as_text else json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, default=str)
    return str(text).split("\n")


def _shown(value: Any) -> str:
    return quoted(json.dumps(value, ensure_ascii=False, default=str), 80)


def _times_as_long(ratio: float | None) -> str:
    return f" ({ratio:.2g} times as long)" if ratio is not None and not 0.95 < ratio < 1.05 else ""


def _tokens(usage: Usage) -> str:
    if not usage.turns:
        return ""
    unknown = f", {numbered(usage.unknown_turns, 'answer')} not counted" if usage.unknown_turns else ""
    return f", {usage.input_tokens + usage.output_tokens:,} tokens{unknown}"


def _run_line(run: RunSide) -> str:
    took = f" after {spoken(run.seconds)}" if run.seconds is not None else ""
    return f"{run.run_id}: {worded(run.status)}{took}{_tokens(run.usage)}"


def _step_line(step: StepComparison) -> str:
    left, right = step.left, step.right
    if left is None or right is None:
        there = left or right
        assert there is not None
        return f"{'-' if right is None else '+'} {step.step_id}: only {'left' if right is None else 'right'}, " + (
            f"{worded(there.status)}{_seconds(there)}"
        )
    notes = []
    if left.status is not right.status:
        notes.append(f"{worded(left.status)} -> {worded(right.status)}")
    else:
        notes.append(worded(left.status))
    if left.seconds is not None and right.seconds is not None:
        notes.append(f"{spoken(left.seconds)} -> {spoken(right.seconds)}{_times_as_long(step.ratio)}")
    if left.attempts != right.attempts:
        notes.append(f"attempts {left.attempts} -> {right.attempts}")
    changed = [what for what, same in (("work", step.same_work), ("output", step.same_output)) if same is False]
    if changed:
        notes.append(f"{listed(changed)} changed")
    if left.error != right.error:
        notes.append(f"error {quoted(left.error, 80) or 'none'} -> {quoted(right.error, 80) or 'none'}")
    return f"{'~' if step.differs else '='} {step.step_id}: {', '.join(notes)}"


def _seconds(side: StepSide) -> str:
    return f" after {spoken(side.seconds)}" if side.seconds is not None else ""


def _run_json(run: RunSide) -> dict[str, Any]:
    return {
        "run_id": run.run_id,
        "status": run.status.value,
        "seconds": run.seconds,
        "usage": usage_record(run.usage),
    }


def _side_json(side: StepSide | None) -> dict[str, Any] | None:
    if side is None:
        return None
    return {
        "status": side.status.value,
        "attempts": side.attempts,
        "seconds": side.seconds,
        "error": side.error,
        "content_hash": side.content_hash,
    }

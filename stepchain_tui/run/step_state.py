"""What is known of one step of a run, of its attempts and of its items: parts of `RunState`, which changes them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import msgspec

from stepchain_tui.run import events as e
from stepchain_tui.run.failures import Failure
from stepchain_tui.run.status import STEP_ENDED, AttemptStatus, Mark, StepStatus
from stepchain_tui.run.values import Kept

BREAKPOINT = "breakpoint"
"""The reason of a wait where a person wanted the run to stop."""
TOOL_APPROVAL = "tool_approval"
"""The reason of a wait for a person's word on a tool call."""
BUDGET = "budget"
"""The reason of a wait at a limit on tokens or money."""
REPLAYED = "replayed"
"""What stands in an attempt's `cache` where its result is taken from the recording of another run."""


@dataclass(slots=True)
class Usage:
    """Tokens and money of a step or run: unknown is not 0.

    Attributes:
        turns: Answers of models.
        unknown_turns: Answers whose provider did not say how many tokens they took.
        cost: US dollars, of the answers whose price is known.
        unpriced_turns: Answers whose cost is not known.
        cached_tokens: How many of the input tokens providers had at hand, None where none said so.
        reasoning_tokens: How many of the output tokens were spent on reasoning, None where no provider said so.
    """

    turns: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    unknown_turns: int = 0
    cost: float = 0.0
    unpriced_turns: int = 0
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None

    def add(self, turn: e.ModelTurn) -> None:
        """Count one answer of a model; one that was replayed cost nothing and is not counted."""
        if turn.replayed:
            return
        self.turns += 1
        if turn.cost is None:
            self.unpriced_turns += 1
        self.cost += turn.cost or 0.0
        self.cached_tokens = _plus(self.cached_tokens, turn.cached_tokens)
        self.reasoning_tokens = _plus(self.reasoning_tokens, turn.reasoning_tokens)
        if turn.input_tokens is None or turn.output_tokens is None:
            self.unknown_turns += 1
        self.input_tokens += turn.input_tokens or 0
        self.output_tokens += turn.output_tokens or 0

    def include(self, other: Usage) -> None:
        """Count what was counted elsewhere."""
        self.turns += other.turns
        self.unknown_turns += other.unknown_turns
        self.unpriced_turns += other.unpriced_turns
        self.cost += other.cost
        self.input_tokens += other.input_tokens
        self.output_tokens += other.output_tokens
        self.cached_tokens = _plus(self.cached_tokens, other.cached_tokens)
        self.reasoning_tokens = _plus(self.reasoning_tokens, other.reasoning_tokens)


def _plus(known: int | None, more: int | None) -> int | None:
    return known if more is None else (known or 0) + more


class AttemptState(msgspec.Struct, gc=False):
    """One go at a step (`item` is None) or at one item of it."""

    n: int
    item: int | None
    status: AttemptStatus
    started_at: datetime
    tries: int = 1
    max_attempts: int = 1
    finished_at: datetime | None = None
    input: Kept | None = None
    output: Kept | None = None
    error: Failure | None = None
    mode: str = ""
    model: str = ""
    content_hash: str = ""
    revision: int = 1
    reason: str = ""
    warnings: tuple[str, ...] = ()
    process: e.StepSpawned | None = None
    """The process of its own that the attempt has, if any."""
    cache: str = ""
    """What the cache said, see `step.started`."""
    origin: str = ""
    """Where an output from the cache was made, as `RUN/STEP`."""
    seq: int = 0
    """The event that it began with."""
    usage: Usage | None = None
    """The answers of models in it, None where none was asked."""


class Answered(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A model's latest answer to a step that is no map.

    Attributes:
        attempt: The attempt that it was given in.
        first_seq: The event of the first turn of its conversation.
        seq: The event of the answer.
        response_id: The provider's id of it.
        provider: Who answered, as in `model.turn`.
        model: The model that answered.
    """

    attempt: int
    first_seq: int
    seq: int
    response_id: str = ""
    provider: str = ""
    model: str = ""


class ItemState(msgspec.Struct, gc=False):
    """One item of a map; `attempt` is the last one begun at this index (0: none), `tries` those used up."""

    index: int
    key: str
    value: Kept
    status: StepStatus = StepStatus.PENDING
    attempt: int = 0
    tries: int = 0
    output: Kept | None = None
    error: Failure | None = None
    retry_at: datetime | None = None


class StepState(msgspec.Struct, gc=False):
    """One step of a run.

    Attributes:
        attempt: The last attempt begun, 0 if none; attempts are numbered over the whole life of the run.
        tries: How many tries of the policy are used up since the step was last made pending.
        attempts: Every attempt ever made, in order, by (item, n).
        items: A map's items, or None before it was expanded.
        reason: Why the step is queued, skipped, blocked, cancelled or pending again.
        cause: The step that this comes from, or an empty string.
        interruptions: How often an attempt was cut off since the last result.
        breakpoint: `before` or `after`: where the run stops for a person; empty for nowhere.
        passed: Its breakpoint was passed: it does not stop there again before it is made to run anew.
        given_input: What it gets until then instead of its own input.
        pinned_output: What it gives while it is pinned.
        origin: Where a result that was taken over was made, as `RUN/STEP`.
        generation: How often its effect was wanted anew; part of the idempotency key.
        wanted_anew: A person ran it again by hand: no kept result will do.
        answers: What persons said of tool calls since then, by item and call id: they are not asked for again.
        usage: The answers of models in all its attempts, None where none was asked.
        spent: Those since it was last made anew: what its budget counts.
        exchanges: What was said and done so far with a model, by item: answers and ended tool calls, which the next
            attempt goes on from. Gone when there is a result, or a failure that another try would only repeat.
        answered: A model's latest answer: where its conversation is among the events.
    """

    outline: e.StepOutline
    status: StepStatus = StepStatus.PENDING
    marks: set[Mark] = msgspec.field(default_factory=set)
    attempt: int = 0
    tries: int = 0
    max_attempts: int = 1
    attempts: dict[tuple[int | None, int], AttemptState] = msgspec.field(default_factory=dict)
    items: list[ItemState] | None = None
    keep_items: bool = False
    output: Kept | None = None
    error: Failure | None = None
    reason: str = ""
    cause: str = ""
    retry_at: datetime | None = None
    waiting: e.StepWaiting | None = None
    interruptions: int = 0
    content_hash: str = ""
    started_at: datetime | None = None
    finished_at: datetime | None = None
    usage: Usage | None = None
    spent: Usage | None = None
    breakpoint: str = ""
    passed: bool = False
    given_input: Kept | None = None
    pinned_output: Kept | None = None
    origin: str = ""
    generation: int = 0
    wanted_anew: bool = False
    answers: dict[tuple[int | None, str], e.ToolApprovalGiven] = {}
    exchanges: dict[int | None, list[e.ModelTurn | e.ToolFinished]] = {}
    answered: Answered | None = None

    @property
    def id(self) -> str:
        """The step's id."""
        return self.outline.id

    @property
    def last(self) -> AttemptState | None:
        """The latest attempt at the step itself, or None."""
        return self.attempts.get((None, self.attempt))

    @property
    def ended(self) -> bool:
        """Whether the step has a result."""
        return self.status in STEP_ENDED

    @property
    def stands_before(self) -> bool:
        """Whether it stands at a breakpoint before its work."""
        return self.waiting is not None and self.waiting.place == "before"

    @property
    def stands_after(self) -> bool:
        """Whether it stands at a breakpoint after its work: it is done, what follows does not go on yet."""
        return self.waiting is not None and self.waiting.place == "after"

    @property
    def done(self) -> bool:
        """Whether it succeeded, also where it stands at a breakpoint after that."""
        return self.status is StepStatus.SUCCEEDED or self.stands_after

    @property
    def held_up(self) -> bool:
        """Whether it has no result of its own because of another step."""
        return self.status is StepStatus.BLOCKED or (self.status is StepStatus.SKIPPED and self.cause != "")

    @property
    def pinned(self) -> bool:
        """Whether it keeps its output whatever happens around it."""
        return Mark.PINNED in self.marks


class RevisionRecord(msgspec.Struct, frozen=True):
    """One revision of a run's plan: its number, the event that made it, when, by whom and why."""

    number: int
    seq: int
    at: datetime
    by: str = ""
    reason: str = ""

"""The events of a run: frozen facts, numbered per run, never changed.

Every event has `seq` (1, 2, 3, ... within its run), `run_id`, `at` (aware, UTC) and, as JSON, `type`; events of a
step have `step_id`, those of one go at it `attempt` (1, 2, ...), those of one item of a map `item` (0, 1, ...).
Events carry decisions (which steps became stale, which items a map has, when the next try is), so that old runs
fold to the same state under new code. The list of types is a contract; so are the words in `tool.finished`.

Nothing here or in the state can be part of a cycle, so the garbage collector need not look at it (`gc=False`): a run
makes many of these, and looking at them would cost it a fifth of its time.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, get_args

import msgspec

from stepchain_tui.core.errors import StoreError
from stepchain_tui.run.failures import Failure
from stepchain_tui.run.status import AttemptStatus, RunStatus
from stepchain_tui.run.values import Kept


class StepOutline(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What a run's state needs to know of one step of its plan.

    Attributes:
        id: The step's id.
        kind: The name of its action, such as `shell`.
        parents: Ids of the steps it needs, listed ones and those its expressions refer to.
        name: What a person calls it; empty where the id serves.
        continues: `on_failure: continue`: its failure fails neither its dependents nor the run.
        is_map: It has `for_each`.
        optional: What cannot run here is skipped.
        breakpoint: `before` or `after`: where the run stops for a person; empty for nowhere.
        part_of: The `plan` step whose part this is; empty for a step of the plan itself.
        part_of_item: Index of the item of that step whose part this is, or None where it is no map.
    """

    id: str
    kind: str
    parents: tuple[str, ...] = ()
    name: str = ""
    continues: bool = False
    is_map: bool = False
    optional: bool = False
    breakpoint: str = ""
    part_of: str = ""
    part_of_item: int | None = None


class ItemOutline(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One item of a map.

    Attributes:
        key: Hash of the item's content; items are matched by it when a map is expanded again.
        value: The item.
        reuse: Index of the earlier item whose result is taken over, or None.
    """

    key: str
    value: Kept
    reuse: int | None = None


class OwnerRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The process that carries a run out: its pid, and when that process started (seconds since the epoch)."""

    pid: int
    process_started_at: float
    host: str = ""


class _Base(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", gc=False):
    seq: int
    run_id: str
    at: datetime


class _StepBase(_Base, frozen=True, kw_only=True, omit_defaults=True, tag_field="type"):
    step_id: str


class _AttemptBase(_StepBase, frozen=True, kw_only=True, omit_defaults=True, tag_field="type"):
    attempt: int


class _ItemBase(_AttemptBase, frozen=True, kw_only=True, omit_defaults=True, tag_field="type"):
    item: int


# --- the run


class RunCreated(_Base, frozen=True, kw_only=True, omit_defaults=True, tag="run.created"):
    """Signals that a run exists and keeps the exact plan it is to carry out.

    Attributes:
        goal: The plan's goal, the run's title.
        plan: The plan as a JSON value.
        steps: What the state needs of each step, in plan order.
        plan_path: The plan's file, or empty for a plan made in Python.
        plan_text: The file's text as it was.
        plan_folder: What `./` in the plan is relative to.
        working_folder: Where the command was typed; inputs of type path are relative to it.
        inputs: The inputs as JSON values; those of type secret are left out.
        secret_inputs: Names of the inputs that were left out.
        max_concurrent: How many steps may run at once.
        parent_run_id: The run that this one was forked from.
        parent_step_id: The step that it was forked at.
        plans: The plans that its `plan` steps run, by file, see `plan.subplans`.
        replay_of: The run whose recording its exchanges with the outside are taken from; empty for none.
        live: Kinds of steps that are carried out all the same, where it is a replay.
    """

    goal: str
    plan: dict[str, Any]
    steps: tuple[StepOutline, ...]
    plan_path: str = ""
    plan_text: str = ""
    plan_folder: str = ""
    working_folder: str = ""
    inputs: dict[str, Any] = {}
    secret_inputs: tuple[str, ...] = ()
    max_concurrent: int = 5
    parent_run_id: str | None = None
    parent_step_id: str | None = None
    plans: dict[str, Any] = {}
    replay_of: str = ""
    live: tuple[str, ...] = ()


class RunStarted(_Base, frozen=True, kw_only=True, omit_defaults=True, tag="run.started"):
    """Signals that an engine began to carry the run out."""

    owner: OwnerRecord
    version: str = ""


class RunPaused(_Base, frozen=True, kw_only=True, omit_defaults=True, tag="run.paused"):
    """Signals that no further step starts; `now` tells that running steps were sent back to pending."""

    reason: str = ""
    now: bool = False


class RunResumed(_Base, frozen=True, kw_only=True, omit_defaults=True, tag="run.resumed"):
    """Signals that the run goes on, after a pause, an end or a dead owner; `reason` says which."""

    reason: str = ""
    owner: OwnerRecord | None = None


class RunWaiting(_Base, frozen=True, kw_only=True, omit_defaults=True, tag="run.waiting"):
    """Signals that nothing can go on until somebody answers; `steps` are those that wait."""

    reason: str = ""
    steps: tuple[str, ...] = ()


class RunInterrupted(_Base, frozen=True, kw_only=True, omit_defaults=True, tag="run.interrupted"):
    """Signals that the engine ended before the run did."""

    reason: str = ""


class RunRevised(_Base, frozen=True, kw_only=True, omit_defaults=True, tag="run.revised"):
    """Signals that the run has a new revision of its plan; steps not in `steps` are gone.

    Attributes:
        revision: Its number; the plan that a run began with is 1.
        inputs: The inputs as JSON values where the revision changed them, else None; secret ones are left out.
        secret_inputs: Names of the inputs that were left out.
        by: Who made it.
    """

    revision: int
    plan: dict[str, Any]
    steps: tuple[StepOutline, ...]
    plan_text: str = ""
    max_concurrent: int = 5
    reason: str = ""
    by: str = ""
    inputs: dict[str, Any] | None = None
    secret_inputs: tuple[str, ...] = ()
    plans: dict[str, Any] = {}


class RunFinished(_Base, frozen=True, kw_only=True, omit_defaults=True, tag="run.finished"):
    """Signals the run's outcome: succeeded, failed or cancelled."""

    status: RunStatus
    reason: str = ""


# --- steps


class StepQueued(_StepBase, frozen=True, kw_only=True, omit_defaults=True, tag="step.queued"):
    """Signals that a step is ready and waits for a slot; `reason` names the limit that is full."""

    reason: str = ""


class StepStarted(_AttemptBase, frozen=True, kw_only=True, omit_defaults=True, tag="step.started"):
    """Signals that an attempt at a step began.

    Attributes:
        tries: Which of the policy's tries this is: 1 for the first.
        max_attempts: How many tries the policy gives.
        input: The step's resolved input, secrets left out.
        content_hash: Hash of action, input sources and code, see `plan.hashing`.
        mode: Where the body runs: inline, thread, process.
        model: The model that a prompt goes to.
        revision: The plan's revision.
        cache: What the cache said, such as `hit` or `miss: the input changed`; empty where it was not asked; `replayed`
            where the result is taken from the recording of another run.
    """

    tries: int = 1
    max_attempts: int = 1
    input: Kept | None = None
    content_hash: str = ""
    mode: str = ""
    model: str = ""
    revision: int = 1
    cache: str = ""


class StepSpawned(_AttemptBase, frozen=True, kw_only=True, omit_defaults=True, tag="step.spawned"):
    """Signals that an attempt has a process of its own, committed before the process may go on.

    Attributes:
        pid: The child.
        process_group: Its process group, ended as a whole by whoever takes the run over.
        process_started_at: When the child started, seconds since the epoch, so that a pid used again is not hit.
        item: Index of the map's item, or None.
    """

    pid: int
    process_group: int
    process_started_at: float
    item: int | None = None


class StepExpanded(_AttemptBase, frozen=True, kw_only=True, omit_defaults=True, tag="step.expanded"):
    """Signals which items a map has; `steps` are the parts of those items, where the map runs a plan."""

    items: tuple[ItemOutline, ...]
    steps: tuple[StepOutline, ...] = ()


class StepWaiting(_StepBase, frozen=True, kw_only=True, omit_defaults=True, tag="step.waiting"):
    """Signals that a step waits for a person.

    Attributes:
        reason: `approval`, `breakpoint`, `tool_approval`, `budget`, or `interrupted` (cut off, and asked for before
            another try).
        question: What is asked.
        fields: What the answer may hold: name -> an input's specification as JSON.
        deadline: When the wait ends by itself.
        on_timeout: What then holds: `deny` or `approve`.
        attempt: The attempt that waits, None for a wait before it.
        item: Index of the map's item that waits, or None.
        place: For a breakpoint the side of the step it is on: `before` or `after`.
        input: For a breakpoint before a step: what the step would get. For a tool call: `{"tool", "arguments"}`. For a
            budget: `{scope, scope_id, unit, limit, spent, needed, model, provider, models}`.
        call_id: For a tool call: which call of the attempt it is.
        content_hash: For a tool call: the hash of what the step does, which the answer is for.
        tool_key: For a tool call: which tool it is; empty where an answer cannot be remembered.
    """

    reason: str
    question: str = ""
    fields: dict[str, Any] = {}
    deadline: datetime | None = None
    on_timeout: str = ""
    attempt: int | None = None
    item: int | None = None
    place: str = ""
    input: Kept | None = None
    call_id: str = ""
    content_hash: str = ""
    tool_key: str = ""


class StepResumed(_StepBase, frozen=True, kw_only=True, omit_defaults=True, tag="step.resumed"):
    """Signals that a wait for a person ended; `answer` is what was said, `by` who said it.

    `input` is what the step gets instead of its own input, where a person changed that at a breakpoint.
    """

    input: Kept | None = None
    answer: Any = None
    by: str = ""
    attempt: int | None = None
    item: int | None = None


class StepRetryScheduled(_AttemptBase, frozen=True, kw_only=True, omit_defaults=True, tag="step.retry_scheduled"):
    """Signals that an attempt failed and that the next one has a time.

    Attributes:
        status: How the attempt ended: failed or timed_out.
        error: Why.
        delay: Seconds until the next try; 0 is at once.
        retry_at: The moment of the next try.
        tries: How many tries are used up.
        max_attempts: How many there are.
        reason: Where the delay comes from, such as `rate limit, Retry-After`.
    """

    status: AttemptStatus
    error: Failure
    delay: float
    retry_at: datetime
    tries: int = 1
    max_attempts: int = 1
    reason: str = ""


class StepSucceeded(_AttemptBase, frozen=True, kw_only=True, omit_defaults=True, tag="step.succeeded"):
    """Signals that a step is done: from now on no resume runs it again.

    Attributes:
        by: Who said so, where no attempt did: a result that was set by hand has attempt 0.
        cached: The output came from the cache.
        origin: Where an output that was taken over was made, as `RUN/STEP`: by the cache or by a fork.
        content_hash: Of a result that was taken over: hash of what made it, see `step.started`.
    """

    output: Kept
    warnings: tuple[str, ...] = ()
    by: str = ""
    cached: bool = False
    origin: str = ""
    content_hash: str = ""


class StepFailed(_AttemptBase, frozen=True, kw_only=True, omit_defaults=True, tag="step.failed"):
    """Signals that a step failed for good. `output` is kept where it has one, such as a denied approval."""

    error: Failure
    output: Kept | None = None


class StepTimedOut(_AttemptBase, frozen=True, kw_only=True, omit_defaults=True, tag="step.timed_out"):
    """Signals that the last try of a step ran into its timeout."""

    error: Failure


class StepSkipped(_StepBase, frozen=True, kw_only=True, omit_defaults=True, tag="step.skipped"):
    """Signals that a step is not to run; `reason` says why, `cause` is the step it comes from.

    `attempt` is set where the skip was found out during one (an optional step without a model).
    """

    reason: str
    cause: str = ""
    attempt: int | None = None


class StepBlocked(_StepBase, frozen=True, kw_only=True, omit_defaults=True, tag="step.blocked"):
    """Signals that a step cannot run because of `cause`, the step that did not succeed."""

    cause: str
    reason: str = ""


class StepCancelled(_StepBase, frozen=True, kw_only=True, omit_defaults=True, tag="step.cancelled"):
    """Signals that a step was called off; `attempt` is the one that was stopped, if any."""

    reason: str = ""
    attempt: int | None = None


class StepInterrupted(_AttemptBase, frozen=True, kw_only=True, omit_defaults=True, tag="step.interrupted"):
    """Signals that an attempt was cut off by the end of its engine or by pause-now; it costs no try.

    `asked` tells that somebody wanted it; only the others count towards asking before a step is tried again.
    """

    reason: str = ""
    asked: bool = False


class StepInvalidated(_StepBase, frozen=True, kw_only=True, omit_defaults=True, tag="step.invalidated"):
    """Signals that a step is to run anew, or, with `stale`, that its result stands on one that changed.

    Attributes:
        reason: `rerun`, `resume`, `edit`, ...
        cause: The step it comes from.
        stale: Only a mark; else the step is pending again with fresh tries.
        keep_items: A map's items that succeeded are taken over.
        again: What it does is wanted once more: its next attempt has a new idempotency key.
    """

    reason: str
    cause: str = ""
    stale: bool = False
    keep_items: bool = False
    again: bool = False


class StepPinned(_StepBase, frozen=True, kw_only=True, omit_defaults=True, tag="step.pinned"):
    """Signals that a step keeps `output` over reruns: it is not carried out; without `pinned`, that it is again."""

    pinned: bool = True
    output: Kept | None = None
    by: str = ""


# --- items of a map


class ItemStarted(_ItemBase, frozen=True, kw_only=True, omit_defaults=True, tag="item.started"):
    """Signals that an attempt at one item began; fields as in `step.started`."""

    tries: int = 1
    max_attempts: int = 1
    input: Kept | None = None
    cache: str = ""


class ItemRetryScheduled(_ItemBase, frozen=True, kw_only=True, omit_defaults=True, tag="item.retry_scheduled"):
    """Signals that an attempt at an item failed and the next has a time; fields as in `step.retry_scheduled`."""

    status: AttemptStatus
    error: Failure
    delay: float
    retry_at: datetime
    tries: int = 1
    max_attempts: int = 1
    reason: str = ""


class ItemSucceeded(_ItemBase, frozen=True, kw_only=True, omit_defaults=True, tag="item.succeeded"):
    """Signals that an item is done: no resume runs it again; `cached` and `origin` as in `step.succeeded`."""

    output: Kept
    warnings: tuple[str, ...] = ()
    cached: bool = False
    origin: str = ""


class ItemFailed(_ItemBase, frozen=True, kw_only=True, omit_defaults=True, tag="item.failed"):
    """Signals that an item failed for good."""

    error: Failure


class ItemTimedOut(_ItemBase, frozen=True, kw_only=True, omit_defaults=True, tag="item.timed_out"):
    """Signals that an item's last try ran into its timeout."""

    error: Failure


class ItemCancelled(_ItemBase, frozen=True, kw_only=True, omit_defaults=True, tag="item.cancelled"):
    """Signals that an item was called off; `attempt` is 0 where none had begun."""

    reason: str = ""


class ItemInterrupted(_ItemBase, frozen=True, kw_only=True, omit_defaults=True, tag="item.interrupted"):
    """Signals that an item's attempt was cut off; it costs no try."""

    reason: str = ""


# --- tools, models, commands


class ToolStarted(_AttemptBase, frozen=True, kw_only=True, omit_defaults=True, tag="tool.started"):
    """Signals that a tool was called within a step."""

    call_id: str
    tool_name: str
    arguments: Any = None
    item: int | None = None


class ToolFinished(_AttemptBase, frozen=True, kw_only=True, omit_defaults=True, tag="tool.finished"):
    """Signals that a tool call ended.

    Attributes:
        execution_time: Seconds that it took.
        cpu_time: Seconds of them that it computed, None where that is not known.
        error: None where it succeeded.
        hosted: The model's provider carried it out.
        replayed: Nothing was called: it was taken from the recording of another run.
    """

    call_id: str
    tool_name: str
    execution_time: float
    cpu_time: float | None = None
    arguments: Any = None
    result: Kept | None = None
    error: Failure | None = None
    item: int | None = None
    hosted: bool = False
    replayed: bool = False


class ToolApprovalAsked(_AttemptBase, frozen=True, kw_only=True, omit_defaults=True, tag="tool.approval_asked"):
    """Signals that a tool call waits for a person's word."""

    call_id: str
    tool_name: str
    arguments: Any = None
    item: int | None = None


class ToolApprovalGiven(_AttemptBase, frozen=True, kw_only=True, omit_defaults=True, tag="tool.approval_given"):
    """Signals what a person said of a tool call.

    Attributes:
        asked: What was asked for, as the person saw it: `{"tool", "arguments"}`.
        arguments: What the person made of it; None where the call is made as it was asked for.
        content_hash: The hash of what the step does: the answer is for that, and for what was asked.
        tool_key: With `remember`: which tool it is, see `executors.types.ApprovalNeeded`.
        remember: Further calls of that tool in this run need no answer.
    """

    call_id: str
    approved: bool
    tool_key: str = ""
    remember: bool = False
    content_hash: str = ""
    asked: Kept | None = None
    arguments: Kept | None = None
    by: str = ""
    item: int | None = None


class ModelTurn(_AttemptBase, frozen=True, kw_only=True, omit_defaults=True, tag="model.turn"):
    """Signals one answer of a model.

    Attributes:
        model: The model's name, `scripted` where the plan wrote the answer.
        response_id: The provider's id of the answer.
        input_tokens: None where the provider did not say.
        output_tokens: None where the provider did not say.
        duration: Seconds from request to end.
        item: Index of the map's item, or None.
        turn: Which answer of the step's conversation it is, from 1.
        agent: The agent that spoke, empty for a prompt's own model.
        provider: Who was asked: the API's host, `client` for a client of the user, `scripted`.
        cached_tokens: How many of the input tokens the provider had at hand, None where it did not say.
        reasoning_tokens: How many of the output tokens were spent on reasoning, None where it did not say.
        cost: What it cost in US dollars, None where the price or the tokens are not known: never 0 for unknown.
        finish_reason: `stop`, `tool_calls`, `length`, `content_filter`, `refusal`, `error` or what the provider said.
        request_id: The provider's id of the request.
        first_text_after: Seconds until the first piece of text, None where there was none.
        sent: The items that were new in the question: a list in the form of the Responses API.
        output: The items of the answer, in that form; None where the answer failed. What is kept here and in
            `tool.finished` is what a resume goes on from.
        content_hash: The hash of what the step asks: a resume goes on from turns of the same hash only.
        history_tokens: Tokens, estimated, that earlier outputs take in the question, None where it holds none.
        history_tokens_before: The same before they were compressed.
        replayed: Nobody was asked: it was taken from the recording of another run.
    """

    model: str
    response_id: str = ""
    input_tokens: int | None = None
    output_tokens: int | None = None
    duration: float = 0.0
    item: int | None = None
    turn: int = 1
    agent: str = ""
    provider: str = ""
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    cost: float | None = None
    finish_reason: str = ""
    request_id: str = ""
    first_text_after: float | None = None
    sent: Kept | None = None
    output: Kept | None = None
    content_hash: str = ""
    history_tokens: int | None = None
    history_tokens_before: int | None = None
    replayed: bool = False


class CommandApplied(_Base, frozen=True, kw_only=True, omit_defaults=True, tag="command.applied"):
    """Signals that somebody's command took effect.

    The events right after it are its effect, but for `breakpoint` and `limits`: they change settings of the run and
    are their own effect, see `RunState`.
    """

    command_id: str
    command: str
    arguments: dict[str, Any] = {}
    by: str = ""


class CommandRefused(_Base, frozen=True, kw_only=True, omit_defaults=True, tag="command.refused"):
    """Signals that somebody's command changed nothing, and why."""

    command_id: str
    command: str
    reason: str
    arguments: dict[str, Any] = {}
    by: str = ""


StepEnd = StepSucceeded | StepFailed | StepTimedOut | StepSkipped | StepBlocked | StepCancelled
"""What gives a step a result."""
StepEvent = (
    StepQueued
    | StepStarted
    | StepSpawned
    | StepExpanded
    | StepWaiting
    | StepResumed
    | StepRetryScheduled
    | StepEnd
    | StepInterrupted
    | StepInvalidated
    | StepPinned
)
ItemEvent = (
    ItemStarted | ItemRetryScheduled | ItemSucceeded | ItemFailed | ItemTimedOut | ItemCancelled | ItemInterrupted
)
RunEvent = RunCreated | RunStarted | RunPaused | RunResumed | RunWaiting | RunInterrupted | RunRevised | RunFinished
CallEvent = ToolStarted | ToolFinished | ToolApprovalAsked | ToolApprovalGiven | ModelTurn
CommandEvent = CommandApplied | CommandRefused
Event = RunEvent | StepEvent | ItemEvent | CallEvent | CommandEvent

EVENT_TYPES: dict[str, type[Event]] = {str(cls.__struct_config__.tag): cls for cls in get_args(Event)}
"""Every event type by its name."""
EVENT_NAMES: dict[type[Event], str] = {cls: name for name, cls in EVENT_TYPES.items()}

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)


def encode_event(event: Event) -> bytes:
    """Return the event as one line of JSON, its `type` first."""
    return _encoder.encode(event)


def decode_event(data: bytes | str) -> Event:
    """Return the event in one line of JSON.

    Raises:
        StoreError: The line is no event of this version: an unknown type, a missing field, broken JSON.
    """
    try:
        return _decoder.decode(data)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise StoreError(
            f"an event cannot be read: {error}",
            hint="It was written by a newer version, or the store is damaged: `stepchain doctor` tells.",
        ) from error

"""What the engine hands to the executor of a step's kind, and what it gets back.

An executor is an object with `async def execute(call) -> Outcome`. It returns when the work is done, raises
`run.failures.AttemptError` (or any exception, which is then classified) when it failed, and when its task is
cancelled it ends the work for real, children included, before the cancellation goes on. It knows nothing of
retries, slots or stores.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import msgspec

from stepchain_tui.core.secrets import Redactor
from stepchain_tui.plan import Step
from stepchain_tui.run.failures import Failure


class CallPorts(Protocol):
    """What a call may tell the engine while it runs. All methods may be called on the event loop's thread only."""

    def log(self, stream: str, text: str) -> None:
        """Keep a piece of output: any text, line ends inside it or missing at its end."""

    def log_from_thread(self, stream: str, text: str) -> None:
        """The same, from any thread."""

    async def spawned(self, pid: int, process_group: int, process_started_at: float) -> None:
        """Return once it is durable that the attempt has this process; only then may the process go on.

        Args:
            pid: The child's process id.
            process_group: Its process group id.
            process_started_at: When it started, seconds since the epoch.
        """

    def model_turn(
        self,
        *,
        model: str,
        response_id: str = "",
        input_tokens: int | None = None,
        output_tokens: int | None = None,
        duration: float = 0.0,
        **facts: Any,
    ) -> None:
        """Keep one answer of a model as an event; what it cost is counted on the way.

        Args:
            model: The model that answered.
            response_id: The provider's id of the answer.
            input_tokens: What the question took, None where that is not known.
            output_tokens: What the answer took, None where that is not known.
            duration: Seconds from request to end.
            **facts: Further fields of `run.events.ModelTurn`: `turn agent provider cached_tokens reasoning_tokens
                finish_reason request_id first_text_after history_tokens history_tokens_before`, and `sent` and `output`
                as lists of plain JSON items.
        """

    def before_turn(self, *, model: str, provider: str, input_tokens: int, output_tokens: int | None = None) -> str:
        """Ask whether a model may be asked now, and return which one is: a person may have chosen a cheaper one.

        Args:
            model: The model that would be asked.
            provider: Who would be asked, as in `model.turn`.
            input_tokens: Tokens of the question, estimated.
            output_tokens: What the answer may take at most, None where nothing is said.

        Raises:
            BudgetReached: The step's or the run's budget would be exceeded.
            AttemptError: There is a budget in dollars and the model's price is not known.
        """
        ...

    def tool_started(self, *, call_id: str, tool_name: str, arguments: Any) -> None:
        """Keep as an event that a tool is called.

        Args:
            call_id: Tells calls of one attempt apart that overlap.
            tool_name: The tool.
            arguments: What it is called with.
        """

    def tool_finished(
        self,
        *,
        call_id: str,
        tool_name: str,
        arguments: Any,
        execution_time: float,
        result: Any = None,
        error: Failure | None = None,
        cpu_time: float | None = None,
        hosted: bool = False,
    ) -> None:
        """Keep as an event how a tool's call ended.

        Args:
            call_id: As it was told when the call started.
            tool_name: The tool.
            arguments: What it was called with.
            execution_time: Seconds that it took.
            result: What it returned.
            error: How it failed, None where it succeeded.
            cpu_time: Seconds of them that it computed, None where that is not known.
            hosted: The model's provider carried it out.
        """

    def keep_file(self, data: bytes, *, suffix: str = "") -> dict[str, Any]:
        """Keep bytes, such as an image, as a file that lives as long as the run's results.

        Args:
            data: At most 10 MB, as an output may have.
            suffix: The end of the file's name, such as `.png`.

        Returns:
            `{"file": path, "sha256": hex digest, "bytes": size}`, to be put into the output.
        """

    def begun(self) -> None:
        """Take note that the work itself begins now: its timeout counts from here, not from the wait for a worker.

        Calls that wait for a worker process must call it; for others the time counts from `execute`.
        """

    def warn(self, text: str) -> None:
        """Keep a warning with the result, such as `ran in a thread: cannot be pickled`."""


class ToolAnswer(msgspec.Struct, frozen=True):
    """What a person said of a tool call.

    Attributes:
        approved: Whether it may be made.
        arguments: The arguments that it is to be made with, as the person left them.
        by: Who said so.
    """

    approved: bool
    arguments: Any = None
    by: str = ""


class Exchange(msgspec.Struct, frozen=True, kw_only=True):
    """One turn of a conversation with a model as an earlier attempt left it; secrets in it may be masked.

    Attributes:
        turn: Its number in the conversation, from 1.
        sent: The items that were new in the question, in the form of the Responses API.
        output: The items of the answer.
        results: The tool calls of this answer that have ended, by call id.
        agent: The agent that spoke, or an empty string.
        model: The model that answered.
        response_id: The provider's id of the answer.
        provider: Who was asked, as in `model.turn`.
    """

    turn: int
    sent: tuple[Mapping[str, Any], ...]
    output: tuple[Mapping[str, Any], ...]
    results: Mapping[str, ToolResult] = {}
    agent: str = ""
    model: str = ""
    response_id: str = ""
    provider: str = ""


class ToolResult(msgspec.Struct, frozen=True, kw_only=True):
    """How a tool call of a conversation ended.

    Attributes:
        value: What it returned, a JSON value.
        error: How it failed, None where it succeeded.
    """

    value: Any = None
    error: Failure | None = None


class StepCall(msgspec.Struct, kw_only=True, eq=False):
    """One attempt at a step, or at one item of it, ready to be carried out.

    Attributes:
        step: The step as the plan has it.
        value: The action's value with its expressions resolved (the prompt's text, the shell's command, ...).
        args: `args` resolved.
        options: The action's companion keys resolved (`system`, `model`, `replies`, `fields`, ...).
        mode: inline, thread, process or cluster.
        timeout: Seconds, or None; the engine cancels the call when it is over.
        environment: The whole environment for a child: without secrets but those the step names, with the step's own.
        cwd: The folder to work in.
        plan_folder: What `./` in the plan is relative to.
        idempotency_key: Stable over retries and resumes of this step (or item).
        secrets: Values of the plan's secrets by name; never stored.
        cluster: The address of the cluster for mode cluster; empty, or `local`, for one on this machine.
        answers: What persons said of this attempt's tool calls, by call id; see `ApprovalNeeded`.
        allowed_tools: The `tool_key` of tools that a person allowed for the whole run.
        redactor: Takes the run's secrets out of what goes to others; None outside of runs.
        exchanges: What was said and done with a model in earlier attempts at just this: the conversation goes on from
            there, nothing of it is done again.
        lingering: Set by an executor whose work cannot be stopped (a thread): done when the work has really ended.
    """

    run_id: str
    step: Step
    attempt: int
    item: int | None
    value: Any
    args: Mapping[str, Any]
    options: Mapping[str, Any]
    mode: str
    timeout: float | None
    environment: Mapping[str, str]
    cwd: Path
    plan_folder: Path
    ports: CallPorts
    idempotency_key: str = ""
    tries: int = 1
    secrets: Mapping[str, str] = msgspec.field(default_factory=dict)
    cluster: str = ""
    answers: Mapping[str, ToolAnswer] = msgspec.field(default_factory=dict)
    allowed_tools: frozenset[str] = frozenset()
    exchanges: tuple[Exchange, ...] = ()
    redactor: Redactor | None = None
    lingering: asyncio.Future[None] | None = None


class Outcome(msgspec.Struct):
    """What came of a call: any Python value; the engine makes it a JSON value."""

    output: Any


class StepExecutor(Protocol):
    """Carries out steps of one kind."""

    async def execute(self, call: StepCall) -> Outcome:
        """Do the work of one attempt and return its output. See the module's docstring for the duties."""


class SkipStep(Exception):  # noqa: N818 - not an error: the step is skipped with a reason
    """Signals that an `optional` step cannot run here and is skipped.

    Args:
        reason: Why, as a person reads it.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class ApprovalNeeded(Exception):  # noqa: N818 - not an error: the attempt waits for an answer
    """Signals that a tool call must not be made before a person allows it.

    Raised before anything of the call was done. The attempt then holds no slot and waits, over restarts too; when
    there is an answer it is carried out once more with that answer in `StepCall.answers`. Denied, a tool step fails;
    a prompt or an agent is carried out once more, and tells its model.

    Args:
        call_id: Tells calls of one attempt apart; the same when the attempt is carried out once more.
        tool_name: The tool.
        arguments: What it would be called with, a JSON value; a person may change them.
        tool_key: Which tool it is, beyond its name: a hash over where it comes from. A person may allow all further
            calls of a key in this run; empty where that is not offered.
    """

    def __init__(self, call_id: str, tool_name: str, arguments: Any, tool_key: str = "") -> None:
        super().__init__(f"{tool_name} needs a person's word")
        self.call_id = call_id
        self.tool_name = tool_name
        self.arguments = arguments
        self.tool_key = tool_key


class BudgetReached(Exception):  # noqa: N818 - not an error: the attempt waits for an answer
    """Signals that a model must not be asked before a person says how to go on: a budget would be exceeded.

    Raised between turns. The attempt then holds no slot and waits, over restarts too; what was said and done stays.

    Args:
        scope: `step` or `run`: whose budget it is.
        unit: `usd` or `tokens`.
        limit: The budget.
        spent: What is spent of it.
        needed: What the next turn is expected to take.
        model: The model that would be asked.
    """

    def __init__(self, scope: str, unit: str, limit: float, spent: float, needed: float, model: str) -> None:
        super().__init__(f"the budget of the {scope} is reached")
        self.scope = scope
        self.unit = unit
        self.limit = limit
        self.spent = spent
        self.needed = needed
        self.model = model

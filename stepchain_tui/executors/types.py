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
    ) -> None:
        """Keep one answer of a model as an event."""

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
    there is an answer it is carried out once more with that answer in `StepCall.answers`, where it is allowed; denied,
    it fails.

    Args:
        call_id: Tells calls of one attempt apart; the same when the attempt is carried out once more.
        tool_name: The tool.
        arguments: What it would be called with, a JSON value; a person may change them.
    """

    def __init__(self, call_id: str, tool_name: str, arguments: Any) -> None:
        super().__init__(f"{tool_name} needs a person's word")
        self.call_id = call_id
        self.tool_name = tool_name
        self.arguments = arguments

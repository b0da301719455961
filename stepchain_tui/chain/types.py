"""What document 003 calls a chain: calls of tools in an order, what became of each, and of all of them.

`ExecutionStatus` is the house's statuses under the document's names. What is wrong with a chain is said when it is
made, as a `ValueError` that names the calls.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from stepchain_tui.chain.braces import uses_chain_result
from stepchain_tui.core.errors import UsageError
from stepchain_tui.core.ids import check_run_id
from stepchain_tui.core.values import to_json_value
from stepchain_tui.plan import find_cycle
from stepchain_tui.run.status import RunStatus, StepStatus

_HINT = "Mend the chain; nothing was called."
_LONGEST_TIMEOUT = 10 * 365 * 86_400
_MOST_ORDERS = 2**31


class ExecutionStatus(StrEnum):
    """Where a call, or a chain, stands: the house's statuses, as document 003 names them.

    The document's own words are understood too: `ExecutionStatus("success")`, `ExecutionStatus("timeout")`.
    """

    PENDING = StepStatus.PENDING.value
    RUNNING = StepStatus.RUNNING.value
    RETRYING = StepStatus.RETRYING.value
    """An attempt failed, and the next one has a time."""
    SUCCESS = StepStatus.SUCCEEDED.value
    FAILED = StepStatus.FAILED.value
    TIMEOUT = StepStatus.TIMED_OUT.value
    """The last attempt took longer than its timeout."""
    SKIPPED = StepStatus.SKIPPED.value
    """Was not called, because a call that it needs did not succeed or a person left it out."""

    @classmethod
    def _missing_(cls, value: object) -> ExecutionStatus | None:
        return cls.__members__.get(value.upper()) if isinstance(value, str) else None

    @classmethod
    def of_step(cls, status: StepStatus) -> ExecutionStatus:
        """Return what the document calls a step's status."""
        return _OF_STEP[status]

    @classmethod
    def of_run(cls, status: RunStatus) -> ExecutionStatus:
        """Return what the document calls a run's status: one that was cut off or waits is pending."""
        return _OF_RUN.get(status, ExecutionStatus.PENDING)

    @property
    def is_final(self) -> bool:
        """Whether nothing more happens by itself."""
        return self in _FINAL


_OF_STEP = {
    StepStatus.PENDING: ExecutionStatus.PENDING,
    StepStatus.QUEUED: ExecutionStatus.PENDING,
    StepStatus.RUNNING: ExecutionStatus.RUNNING,
    StepStatus.RETRYING: ExecutionStatus.RETRYING,
    StepStatus.WAITING: ExecutionStatus.PENDING,
    StepStatus.SUCCEEDED: ExecutionStatus.SUCCESS,
    StepStatus.FAILED: ExecutionStatus.FAILED,
    StepStatus.TIMED_OUT: ExecutionStatus.TIMEOUT,
    StepStatus.SKIPPED: ExecutionStatus.SKIPPED,
    StepStatus.BLOCKED: ExecutionStatus.SKIPPED,
    StepStatus.CANCELLED: ExecutionStatus.FAILED,
}
_OF_RUN = {
    RunStatus.RUNNING: ExecutionStatus.RUNNING,
    RunStatus.SUCCEEDED: ExecutionStatus.SUCCESS,
    RunStatus.FAILED: ExecutionStatus.FAILED,
    RunStatus.CANCELLED: ExecutionStatus.FAILED,
}
_FINAL = frozenset({ExecutionStatus.SUCCESS, ExecutionStatus.FAILED, ExecutionStatus.TIMEOUT, ExecutionStatus.SKIPPED})


@dataclass
class ToolCall:
    """One call of a tool in a chain.

    Attributes:
        tool_name: The tool: `server.tool` for one of an MCP server, or the tool alone.
        parameters: What it is called with: names to JSON values. `CHAIN_RESULT` in them, whole, within text, in lists
            or nested, stands for the output of the last of `dependencies`; all else is taken as it is, braces too.
        order: Its place in the chain, at least 0, and what other calls name it by.
        dependencies: The orders of the calls that must have succeeded first.
        timeout: Seconds that one attempt may take; None for the executor's.

    Raises:
        UsageError: A field is wrong (a `ValueError`); the message names the call and the field.
    """

    tool_name: str
    parameters: dict[str, Any]
    order: int
    dependencies: list[int] = field(default_factory=list)
    timeout: float | None = None

    def __post_init__(self) -> None:
        self.check()

    @property
    def label(self) -> str:
        """How messages name it: `2 (fetch)`."""
        return f"{self.order} ({self.tool_name})"

    @property
    def uses_chain_result(self) -> bool:
        """Whether `CHAIN_RESULT` stands anywhere in its parameters."""
        return uses_chain_result(self.parameters)

    def check(self) -> None:
        """See that the call can be meant.

        Raises:
            UsageError: A field is wrong.
        """
        name: Any = self.tool_name  # callers are not type-checked
        parameters: Any = self.parameters
        dependencies: Any = self.dependencies
        if not isinstance(name, str) or not name.strip():
            raise _wrong("a call", "tool_name must be the name of a tool", "Write ToolCall('search', {...}, order=1).")
        if not _is_order(self.order):
            raise _wrong(f"the call of {self.tool_name}", f"order must be a whole number, not {self.order!r}")
        where = f"call {self.label}"
        if not isinstance(parameters, dict) or not all(isinstance(key, str) for key in parameters):
            raise _wrong(where, "parameters must be a dict of names to values", "Write {'query': 'what to look for'}.")
        try:
            to_json_value(parameters)
        except UsageError as error:
            raise _wrong(where, f"parameters cannot be kept: {error}", error.hint) from None
        if not isinstance(dependencies, list | tuple) or not all(_is_order(order) for order in dependencies):
            raise _wrong(where, "dependencies must be a list of orders", "Write dependencies=[1, 2].")
        if len(set(dependencies)) < len(dependencies):
            raise _wrong(where, f"dependencies name a call twice: {', '.join(map(str, dependencies))}")
        if self.timeout is not None and not is_seconds(self.timeout):
            raise _wrong(where, f"timeout must be a number of seconds over 0, not {self.timeout!r}")
        if not self.dependencies and self.uses_chain_result:
            raise _wrong(
                where,
                "CHAIN_RESULT stands for the output of the last of its dependencies, and it has none",
                "List the order of the call whose output is meant: dependencies=[1].",
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the call as a JSON-able dict."""
        return {
            "tool_name": self.tool_name,
            "parameters": self.parameters,
            "order": self.order,
            "dependencies": list(self.dependencies),
            "timeout": self.timeout,
        }


@dataclass
class ExecutionPlan:
    """A chain: what is to be called, in which order, and what for.

    Attributes:
        plan_id: Names the chain and its run in the history; the same id goes on with the same run.
        tools: The calls.
        goal: What it is for, as the history shows it.

    Raises:
        UsageError: It cannot be carried out (a `ValueError`): an order twice, a dependency that is not there, a cycle.
    """

    plan_id: str
    tools: list[ToolCall]
    goal: str = ""

    def __post_init__(self) -> None:
        self.check()

    def check(self) -> None:
        """See that the chain can be carried out.

        Raises:
            UsageError: It cannot; the message names the calls.
        """
        if not isinstance(self.plan_id, str):
            raise UsageError("plan_id must be text", hint="It names the run in the history.")
        check_run_id(self.plan_id)
        if not self.tools:
            raise _wrong(self._name, "has no calls", "Give at least one ToolCall.")
        calls: dict[int, ToolCall] = {}
        for call in self.tools:
            if not isinstance(call, ToolCall):
                raise _wrong(self._name, f"tools must be ToolCalls, one is {type(call).__name__}")
            call.check()
            if call.order in calls:
                first = calls[call.order]
                raise _wrong(self._name, f"order {call.order} is there twice: {first.tool_name} and {call.tool_name}")
            calls[call.order] = call
        for call in self.tools:
            for order in call.dependencies:
                if order not in calls:
                    raise _wrong(
                        self._name,
                        f"call {call.label} depends on {order}, which is not there",
                        f"There are: {', '.join(calls[known].label for known in sorted(calls))}.",
                    )
        self._check_cycles(calls)

    @property
    def in_order(self) -> list[ToolCall]:
        """The calls by their order."""
        return sorted(self.tools, key=lambda call: call.order)

    @property
    def in_sequence(self) -> list[ToolCall]:
        """The calls as they follow each other in sequence: by their order, a dependency before what needs it."""
        calls = {call.order: call for call in self.tools}
        missing = {order: len(call.dependencies) for order, call in calls.items()}
        followers: dict[int, list[int]] = {order: [] for order in calls}
        for order, call in calls.items():
            for needed in call.dependencies:
                followers[needed].append(order)
        ready = [order for order, count in missing.items() if not count]
        heapq.heapify(ready)
        found: list[ToolCall] = []
        while ready:
            order = heapq.heappop(ready)
            found.append(calls[order])
            for follower in followers[order]:
                missing[follower] -= 1
                if not missing[follower]:
                    heapq.heappush(ready, follower)
        return found

    def levels(self) -> list[list[int]]:
        """Return the orders by level: those of one level depend on earlier levels only.

        For looking at: in parallel a call starts when its own dependencies are done, not when a level is.
        """
        depth: dict[int, int] = {}
        for call in self.in_sequence:
            depth[call.order] = 1 + max((depth[order] for order in call.dependencies), default=-1)
        levels: list[list[int]] = [[] for _ in range(1 + max(depth.values()))]
        for order in sorted(depth):
            levels[depth[order]].append(order)
        return levels

    def to_dict(self) -> dict[str, Any]:
        """Return the chain as a JSON-able dict."""
        return {"plan_id": self.plan_id, "goal": self.goal, "tools": [call.to_dict() for call in self.tools]}

    @property
    def _name(self) -> str:
        return f"chain '{self.plan_id}'"

    def _check_cycles(self, calls: dict[int, ToolCall]) -> None:
        labels = {order: call.label for order, call in calls.items()}
        cycle = find_cycle({labels[order]: [labels[one] for one in calls[order].dependencies] for order in calls})
        if cycle:
            raise _wrong(self._name, f"calls depend on each other: {' -> '.join(cycle)}")


@dataclass
class ExecutionResult:
    """What became of one call so far.

    Attributes:
        tool_call: The call.
        status: Where it stands.
        output: What the tool returned, as a JSON value.
        error: Why it failed, timed out or was skipped; None where it succeeded.
        start_time: When its first attempt began (aware, UTC).
        end_time: When it ended.
        execution_time: Seconds from the one to the other, waits between attempts included; 0.0 until it has ended.
        retry_count: How many attempts were made after the first.
    """

    tool_call: ToolCall
    status: ExecutionStatus = ExecutionStatus.PENDING
    output: Any = None
    error: str | None = None
    start_time: datetime | None = None
    end_time: datetime | None = None
    execution_time: float = 0.0
    retry_count: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return the result as a JSON-able dict; moments are ISO 8601."""
        return {
            "tool_call": self.tool_call.to_dict(),
            "status": self.status.value,
            "output": self.output,
            "error": self.error,
            "start_time": told_moment(self.start_time),
            "end_time": told_moment(self.end_time),
            "execution_time": self.execution_time,
            "retry_count": self.retry_count,
        }


@dataclass
class ExecutionState:
    """What became of a chain so far; while it is carried out, this object follows.

    Attributes:
        plan: The chain.
        results: Every call's result, by order; all are there from the beginning.
        current_step: The order of the first call that is at work or waits for its next attempt; None where none is.
        start_time: When it began (aware, UTC).
        end_time: When it ended.
        total_execution_time: Seconds from the one to the other; 0.0 until it has ended.
        status: Where the chain stands: a success only if no call failed.
    """

    plan: ExecutionPlan
    results: dict[int, ExecutionResult] = field(default_factory=dict)
    current_step: int | None = None
    start_time: datetime | None = None
    end_time: datetime | None = None
    total_execution_time: float = 0.0
    status: ExecutionStatus = ExecutionStatus.PENDING

    def __post_init__(self) -> None:
        for call in self.plan.in_order:
            self.results.setdefault(call.order, ExecutionResult(call))

    def is_complete(self) -> bool:
        """Return whether every call has succeeded, failed, timed out or been skipped."""
        return all(result.status.is_final for result in self.results.values())

    def get_successful_outputs(self) -> dict[int, Any]:
        """Return the outputs of the calls that succeeded, by order."""
        return {
            order: result.output
            for order, result in sorted(self.results.items())
            if result.status is ExecutionStatus.SUCCESS
        }

    def to_dict(self) -> dict[str, Any]:
        """Return the state as a JSON-able dict; see `ChainExecutor.export_state` for one that can be imported."""
        return {
            "plan": self.plan.to_dict(),
            "results": {str(order): result.to_dict() for order, result in sorted(self.results.items())},
            "current_step": self.current_step,
            "start_time": told_moment(self.start_time),
            "end_time": told_moment(self.end_time),
            "total_execution_time": self.total_execution_time,
            "status": self.status.value,
        }


def told_moment(moment: datetime | None) -> str | None:
    """Return a moment as exports write it."""
    return None if moment is None else moment.isoformat()


def is_seconds(value: Any) -> bool:
    """Return whether a value is a number of seconds over 0 that a step's timeout may be."""
    return type(value) in (int, float) and 0 < value <= _LONGEST_TIMEOUT


def _is_order(value: Any) -> bool:
    return type(value) is int and 0 <= value < _MOST_ORDERS


def _wrong(where: str, what: str, hint: str = "") -> UsageError:
    return UsageError(f"{where}: {what}" if not where.startswith("chain") else f"{where} {what}", hint=hint or _HINT)

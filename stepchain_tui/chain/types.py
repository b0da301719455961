"""What document 003 calls a chain: calls of tools, and which needs which.

What is wrong with a chain is said when it is made, as a `ValueError` that names the calls.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from typing import Any

from pydantic_core import PydanticSerializationError, to_json

from stepchain_tui.core.errors import UsageError
from stepchain_tui.core.ids import check_run_id
from stepchain_tui.core.values import to_json_value
from stepchain_tui.plan import compile_template, find_cycle
from stepchain_tui.plan.literals import literal

_HINT = "Mend the chain; nothing was called."
_ENCODE = "Replace what is no Unicode in it, or encode it, such as with base64; nothing was called."
_LONGEST_TIMEOUT = 10 * 365 * 86_400
_MOST_ORDERS = 2**31
_LONGEST_NAME = 200


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
        return compile_template(literal(self.parameters, keep_chain_result=True)).uses_chain_result

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
        if len(name) > _LONGEST_NAME or not name.isprintable() or "{{" in name or "{%" in name:
            raise _wrong("a call", f"{name[:40]!r} cannot be the name of a tool", "Use 'tool' or 'server.tool'.")
        if not _is_order(self.order):
            raise _wrong(f"the call of {self.tool_name}", f"order must be a whole number, not {self.order!r}")
        where = f"call {self.label}"
        if not isinstance(parameters, dict) or not all(isinstance(key, str) for key in parameters):
            raise _wrong(where, "parameters must be a dict of names to values", "Write {'query': 'what to look for'}.")
        try:
            to_json_value(parameters)
        except UsageError as error:
            raise _wrong(where, f"parameters cannot be kept: {error}", error.hint) from None
        for key, value in parameters.items():
            if not _is_utf8({key: value}):
                raise _wrong(where, f"parameter {key!r} holds text that UTF-8 cannot hold", _ENCODE)
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
        goal: Any = self.goal
        if not isinstance(goal, str) or not _is_utf8(goal):
            raise _wrong(self._name, f"has a goal that is no text that UTF-8 can hold: {goal!r:.80}", _ENCODE)
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


def is_seconds(value: Any) -> bool:
    """Return whether a value is a number of seconds over 0 that a step's timeout may be."""
    return type(value) in (int, float) and 0 < value <= _LONGEST_TIMEOUT


def _is_utf8(value: Any) -> bool:
    """Return whether a value can be written as a plan writes it: text, paths and bytes may hold what UTF-8 cannot."""
    try:
        to_json(value, fallback=to_json_value)
    except PydanticSerializationError:
        return False
    return True


def _is_order(value: Any) -> bool:
    return type(value) is int and 0 <= value < _MOST_ORDERS


def _wrong(where: str, what: str, hint: str = "") -> UsageError:
    return UsageError(f"{where}: {what}" if not where.startswith("chain") else f"{where} {what}", hint=hint or _HINT)

"""The state of a chain as a JSON-able dict that can be carried to another machine, and reading one from anywhere.

The dict is `ExecutionState.to_dict()` under a few words that say what it is. One description, `ExportedState`, makes
the JSON schema and checks what is imported: a dict may come from anybody, so all of it is checked before any of it is
believed, and what is wrong is said with its place.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec

from stepchain_tui.chain.states import ExecutionResult, ExecutionState, ExecutionStatus
from stepchain_tui.chain.types import ExecutionPlan, ToolCall
from stepchain_tui.core.errors import StepChainError, UsageError
from stepchain_tui.core.secrets import Redactor
from stepchain_tui.core.values import encode_json, to_json_value
from stepchain_tui.run.values import OUTPUT_LIMIT
from stepchain_tui.store.gate import Gate

FORMAT = "stepchain chain"
VERSION = 1
"""Of the format; a higher one was written by a newer version."""
MOST_CALLS = 100_000
_LONGEST_PROBLEM = 500

Moment = Annotated[datetime, msgspec.Meta(tz=True)]
Duration = Annotated[float, msgspec.Meta(ge=0)]
Order = Annotated[int, msgspec.Meta(ge=0)]


class ChainStateError(UsageError):
    """Signals a dict that is no exported chain that can be imported; nothing was taken over.

    Args:
        problem: What is wrong with it.
        hint: What to do.
    """

    kind = "chain_state"

    def __init__(self, problem: str, hint: str = "") -> None:
        told = "".join(letter if letter.isprintable() else "?" for letter in problem[:_LONGEST_PROBLEM])
        super().__init__(
            f"this state of a chain cannot be imported: {told}",
            hint=hint or "Give the dict that export_state returned, whole; nothing was taken over.",
        )


class ExportedCall(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A `ToolCall`."""

    tool_name: str
    parameters: dict[str, Any]
    order: Order
    dependencies: list[Order]
    timeout: float | None


class ExportedPlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An `ExecutionPlan`."""

    plan_id: str
    goal: str
    tools: Annotated[list[ExportedCall], msgspec.Meta(min_length=1, max_length=MOST_CALLS)]


class ExportedResult(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An `ExecutionResult`."""

    tool_call: ExportedCall
    status: ExecutionStatus
    output: Any
    error: str | None
    start_time: Moment | None
    end_time: Moment | None
    execution_time: Duration
    retry_count: Order


class ExportedState(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `export_state` returns.

    Attributes:
        format: Says what this is.
        version: The format's.
        program: The version of StepChain that wrote it.
        exported_at: When.
        plan: The chain.
        results: Every call's result, by its order as text.
        current_step: As in `ExecutionState`, and so what follows.
    """

    format: str
    version: int
    program: str
    exported_at: Moment
    plan: ExportedPlan
    results: dict[str, ExportedResult]
    current_step: Order | None
    start_time: Moment | None
    end_time: Moment | None
    total_execution_time: Duration
    status: ExecutionStatus


def state_schema() -> dict[str, Any]:
    """Return the JSON schema of what `export_state` returns."""
    return msgspec.json.schema(ExportedState)


def exported(state: ExecutionState, *, program: str, now: datetime) -> dict[str, Any]:
    """Return a state as a JSON-able dict, secrets of the environment taken out as they are of all that is stored.

    Args:
        state: The state.
        program: The version of StepChain.
        now: The moment.
    """
    clean = Gate(Redactor.of_environment(os.environ)).value
    told: dict[str, Any] = to_json_value(state.to_dict())
    told["plan"]["goal"] = clean(told["plan"]["goal"])
    results = told["results"].values()
    for call in (*told["plan"]["tools"], *(result["tool_call"] for result in results)):
        call["parameters"] = clean(call["parameters"])
    for result in results:
        result["output"], result["error"] = clean(result["output"]), clean(result["error"])
    return {"format": FORMAT, "version": VERSION, "program": program, "exported_at": now.isoformat(), **told}


def imported(given: Any) -> tuple[ExecutionState, ExportedState]:
    """Return the state in a dict that `exported` made, and what the dict says of itself.

    Raises:
        ChainStateError: The dict is something else, was damaged, or is of a newer version.
    """
    if not isinstance(given, dict) or given.get("format") != FORMAT:
        raise ChainStateError("it is no exported chain")
    if given.get("version") != VERSION:
        told = f"it has version {str(given.get('version'))[:20]} of the format, and this one knows {VERSION}"
        raise ChainStateError(told, "Upgrade StepChain, then import it.")
    try:
        plain = to_json_value(given)
        _check_results(plain.get("results"))
        found = msgspec.convert(plain, ExportedState)
        _check_moments(found)
        plan = ExecutionPlan(found.plan.plan_id, [_call(call) for call in found.plan.tools], found.plan.goal)
    except msgspec.ValidationError as error:
        raise ChainStateError(str(error)) from None
    except ChainStateError:
        raise
    except (StepChainError, RecursionError) as error:
        raise ChainStateError(str(error)) from None
    orders = {str(call.order): call for call in plan.tools}
    if found.results.keys() != orders.keys():
        raise ChainStateError("its results are not those of its plan's calls")
    results = {call.order: _result(call, found.results[order]) for order, call in orders.items()}
    state = ExecutionState(
        plan=plan,
        results=dict(sorted(results.items())),
        current_step=found.current_step,
        start_time=found.start_time,
        end_time=found.end_time,
        total_execution_time=found.total_execution_time,
        status=found.status,
    )
    return state, found


def _check_results(results: Any) -> None:
    """Check results one by one, so that what is wrong is said with the order of its call. Raises ChainStateError."""
    for order, result in results.items() if isinstance(results, dict) else ():
        try:
            msgspec.convert(result, ExportedResult)
        except msgspec.ValidationError as error:
            place = f"`$.results.{order}"
            told = str(error).replace("`$", place) if "`$" in str(error) else f"{error} - at {place}`"
            raise ChainStateError(told) from None


def _check_moments(state: ExportedState) -> None:
    """See that every moment can be told in UTC: at the ends of the calendar an offset leads out of it.

    Raises:
        ChainStateError: One cannot.
    """
    told = {"exported_at": state.exported_at, "start_time": state.start_time, "end_time": state.end_time}
    for order, result in state.results.items():
        told |= {f"results.{order}.start_time": result.start_time, f"results.{order}.end_time": result.end_time}
    for place, moment in told.items():
        try:
            _ = moment is None or moment.astimezone(UTC)
        except OverflowError:
            raise ChainStateError(f"{moment} is no moment of the calendar in UTC - at `$.{place}`") from None


def _call(call: ExportedCall) -> ToolCall:
    return ToolCall(call.tool_name, call.parameters, call.order, call.dependencies, call.timeout)


def _result(call: ToolCall, found: ExportedResult) -> ExecutionResult:
    if _call(found.tool_call) != call:
        raise ChainStateError(f"the result of {call.order} is of another call than the plan's")
    if len(encode_json(found.output)) > OUTPUT_LIMIT:
        raise ChainStateError(f"the output of call {call.label} is over {OUTPUT_LIMIT // 2**20} MB")
    return ExecutionResult(
        tool_call=call,
        status=found.status,
        output=found.output,
        error=found.error,
        start_time=found.start_time,
        end_time=found.end_time,
        execution_time=found.execution_time,
        retry_count=found.retry_count,
    )

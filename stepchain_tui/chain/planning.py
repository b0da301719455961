"""A chain as a plan of the house, so that the engine carries it out, and a run of such a plan as a chain again.

Each call is a `tool` step, tagged `order:N`. In parallel a step depends on what its call depends on, and on nothing
else. In sequence each step waits, besides, for the end of the call before it, however that ended: directly, where the
call needs nothing, else through a small step (`after_N`) that does nothing but wait. So the order is in the plan and
holds wherever the run goes on.

A call that is changed in a later revision of a chain is another step (`search_1_2`), with all that stands on it: the
engine carries out what is new and keeps the results of the rest.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from stepchain_tui.chain.types import ExecutionPlan, ToolCall
from stepchain_tui.core.errors import StepChainError, UsageError
from stepchain_tui.core.secrets import Redactor, marks_in
from stepchain_tui.core.values import encode_json, to_json_value
from stepchain_tui.plan import (
    ActionKind,
    Defaults,
    Mode,
    OnInterrupt,
    Plan,
    RetrySettings,
    Step,
    TriggerRule,
    compile_template,
    plan_from_json,
)
from stepchain_tui.plan.literals import literal
from stepchain_tui.run.state import RunState
from stepchain_tui.store.gate import Gate

FIRST_DELAY = 1.0
"""Seconds before the second attempt; each wait is twice the one before: `2**attempt` in document 003."""
LONGEST_DELAY = 3600.0
MOST_AT_ONCE = 64
"""Calls of a chain that run at the same time at most, attempts included whose threads go on."""
_ORDER_TAG = "order:"
_ASKED_TAG = "asked:"
"""What a tag begins with that has the name which the call gives its tool, where the tool is called otherwise."""
_WAITING_TAG = "order"
_NO_NAME = re.compile(r"[^A-Za-z0-9_]+")
_LONGEST_NAME = 40


@dataclass(frozen=True)
class ChainPlan:
    """A chain with the plan that carries it out.

    Attributes:
        chain: The chain.
        plan: The plan.
        steps: The order of each call -> the id of its step.
        run: The run that it was read from, where it was.
    """

    chain: ExecutionPlan
    plan: Plan
    steps: Mapping[int, str]
    run: RunState | None = None


def chain_plan(
    chain: ExecutionPlan,
    *,
    parallel: bool,
    max_attempts: int,
    default_timeout: float,
    known: ChainPlan | None = None,
    tools: Mapping[str, str] | None = None,
) -> ChainPlan:
    """Return the plan of a chain.

    Args:
        chain: The chain.
        parallel: A call starts when those it depends on have succeeded; else one after the other, by their orders.
        max_attempts: Attempts at each call, the first included.
        default_timeout: Seconds that an attempt may take where the call says nothing.
        known: An earlier revision of the chain with its run, whose results are kept where calls are the same.
        tools: The tools that are meant, by the names that calls give them: `server.tool` for `tool`.
    """
    ids, meant = _step_ids(chain, known, tools or {})
    steps = _side_by_side(chain, ids, meant) if parallel else _one_by_one(chain, ids, meant)
    plan = Plan(
        goal=chain.goal or f"chain {chain.plan_id}",
        steps=tuple(steps),
        max_concurrent=min(MOST_AT_ONCE, max(2, len(chain.tools) * max_attempts)),  # a stuck thread keeps its slot
        defaults=Defaults(
            timeout=float(default_timeout),
            retry=RetrySettings(
                max_attempts=max_attempts,
                initial_delay=FIRST_DELAY,
                max_delay=LONGEST_DELAY,
                exponential_base=2,
                jitter=False,
            ),
        ),
    )
    return ChainPlan(chain, plan, ids)


def check_secrets(chain: ChainPlan, known: ChainPlan | None) -> None:
    """See that no call that is left to make would get the words that stand for a secret, in place of that.

    Args:
        chain: The chain.
        known: What is known of it, where its results are kept.

    Raises:
        UsageError: One would; the message names the call, the parameter and the variable.
    """
    made = {} if known is None or known.run is None else known.run.steps
    for call in chain.chain.in_order:
        step = made.get(chain.steps[call.order])
        if step is not None and step.done:
            continue
        for name, value in call.parameters.items():
            if marks := marks_in(value):
                raise UsageError(
                    f"call {call.label}: parameter '{name}' holds {', '.join(sorted(marks))}, which stands for a value "
                    "that is never stored",
                    hint="Carry out a plan of your own that has the value itself; nothing was called.",
                )


def _side_by_side(chain: ExecutionPlan, ids: Mapping[int, str], meant: Mapping[int, str]) -> Iterator[Step]:
    for call in chain.in_order:
        yield _step(call, ids, meant, dependencies=tuple(ids[order] for order in call.dependencies))


def _one_by_one(chain: ExecutionPlan, ids: Mapping[int, str], meant: Mapping[int, str]) -> Iterator[Step]:
    """Yield the steps of calls of which each waits for the end of all before it."""
    ended: tuple[str, ...] = ()  # when these have ended, all calls so far have
    last: ToolCall | None = None
    for call in chain.in_sequence:
        step_id, needed = ids[call.order], tuple(ids[order] for order in call.dependencies)
        if not needed:
            yield _step(call, ids, meant, dependencies=ended, trigger_rule=TriggerRule.ALL_DONE)
            ended = (step_id,)
        elif last is None or last.order in call.dependencies:
            yield _step(call, ids, meant, dependencies=needed)
            ended = (*ended, step_id)  # it may be blocked while others of them go on
        else:
            waiting = _waiting_step(last, ids, ended)
            yield waiting
            yield _step(call, ids, meant, dependencies=(waiting.id, *needed))
            ended = (waiting.id, step_id)
        last = call


def _step(call: ToolCall, ids: Mapping[int, str], meant: Mapping[int, str], **keys: Any) -> Step:
    if call.timeout is not None:
        keys["timeout"] = float(call.timeout)
    tags: tuple[str, ...] = (f"{_ORDER_TAG}{call.order}",)
    if meant[call.order] != call.tool_name:
        tags = (*tags, f"{_ASKED_TAG}{call.tool_name}")
    return Step(
        id=ids[call.order],
        tool=meant[call.order],
        args=literal(call.parameters, keep_chain_result=True),
        tags=tags,
        on_interrupt=OnInterrupt.RERUN,
        **keys,
    )


def chain_of(state: RunState) -> ChainPlan | None:
    """Return the chain that a run carries out, None for a run that is none."""
    try:
        plan = plan_from_json(encode_json(state.plan))
        found = _calls_of(plan)
        if not found:
            return None
        goal = "" if plan.goal == f"chain {state.run_id}" else plan.goal
        chain = ExecutionPlan(state.run_id, [call for call, _ in found], goal)
    except (StepChainError, ValueError):  # a plan that only looks like a chain's
        return None
    return ChainPlan(chain, plan, {call.order: step_id for call, step_id in found}, state)


def _calls_of(plan: Plan) -> list[tuple[ToolCall, str]]:
    """Return the calls of a plan with the ids of their steps, none where it is no chain's."""
    orders: dict[str, int] = {}
    for step in plan.steps:
        if _is_waiting(step):
            continue
        tags = [tag for tag in step.tags if tag.startswith(_ORDER_TAG)]
        if step.kind is not ActionKind.TOOL or len(tags) != 1:
            return []
        orders[step.id] = int(tags[0].removeprefix(_ORDER_TAG))
    return [
        (
            ToolCall(
                tool_name=_asked(step),
                parameters=compile_template(step.args or {}).resolve({}),
                order=orders[step.id],
                dependencies=_dependencies_of(step, orders),
                timeout=step.timeout,
            ),
            step.id,
        )
        for step in plan.steps
        if step.id in orders
    ]


def _dependencies_of(step: Step, orders: Mapping[str, int]) -> list[int]:
    """Return the orders of the calls that a step's call needs: what it only waits for is none of them."""
    if step.trigger_rule is TriggerRule.ALL_DONE:
        return []
    return [orders[step_id] for step_id in step.dependencies if step_id in orders]


def _waiting_step(before: ToolCall, ids: Mapping[int, str], dependencies: tuple[str, ...]) -> Step:
    return Step(
        id=f"after_{ids[before.order]}",
        name=f"after {before.label}",
        function="stepchain_tui.chain.waiting:passed",
        mode=Mode.INLINE,
        dependencies=dependencies,
        trigger_rule=TriggerRule.ALL_DONE,
        tags=(_WAITING_TAG,),
    )


def _is_waiting(step: Step) -> bool:
    return step.kind is ActionKind.FUNCTION and step.tags == (_WAITING_TAG,)


def _asked(step: Step) -> str:
    """Return the name that a step's call gives its tool."""
    return next((tag.removeprefix(_ASKED_TAG) for tag in step.tags if tag.startswith(_ASKED_TAG)), str(step.tool))


def _step_ids(
    chain: ExecutionPlan, known: ChainPlan | None, tools: Mapping[str, str]
) -> tuple[dict[int, str], dict[int, str]]:
    """Return the id of each call's step and the tool that is meant, by order.

    A call that is the same in a known run has its id there, and its tool too once it has succeeded; any other has an
    id that was never used.
    """
    run = known.run if known is not None else None
    taken = set() if run is None else {*run.steps, *run.removed}
    clean = Gate(Redactor.of_environment(os.environ)).value  # a known run has its parameters without secrets
    ids: dict[int, str] = {}
    meant: dict[int, str] = {}
    kept: set[int] = set()
    calls_before = {call.order: call for call in known.chain.tools} if known is not None else {}
    steps_before = {step.id: step for step in known.plan.steps} if known is not None else {}
    for call in chain.in_sequence:
        order, before = call.order, calls_before.get(call.order)
        meant[order] = tools.get(call.tool_name, call.tool_name)
        if known is None or run is None or before is None or not _is_same(call, before, kept, clean):
            ids[order] = _new_id(call, taken)
            taken.add(ids[order])
            continue
        ids[order] = known.steps[order]
        kept.add(order)
        if run.steps[ids[order]].done:
            meant[order] = str(steps_before[ids[order]].tool)
    return ids, meant


def _is_same(call: ToolCall, earlier: ToolCall, kept: set[int], clean: Callable[[Any], Any]) -> bool:
    """Return whether a call does what an earlier one did, on results that were kept."""
    if call.uses_chain_result and (not earlier.dependencies or call.dependencies[-1] != earlier.dependencies[-1]):
        return False
    given, before = clean(to_json_value(call.parameters)), clean(to_json_value(earlier.parameters))
    return call.tool_name == earlier.tool_name and given == before and all(order in kept for order in call.dependencies)


def _new_id(call: ToolCall, taken: set[str]) -> str:
    name = _NO_NAME.sub("_", call.tool_name).strip("_")[:_LONGEST_NAME] or "call"
    base = f"{name if name[0].isalpha() or name[0] == '_' else f'call_{name}'}_{call.order}"
    found, number = base, 1
    while found in taken:
        number += 1
        found = f"{base}_{number}"
    return found

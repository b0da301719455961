"""Forecasts: what a plan will probably take, from what its own earlier runs took.

Nothing is guessed from a plan's text: a step that never ran is told as unknown.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterable, Mapping
from typing import Any

import msgspec

from stepchain_tui.engine.source import RunSource
from stepchain_tui.plan import ActionKind
from stepchain_tui.plan.subplans import subplan_key
from stepchain_tui.run.budgets import Limits, run_limits
from stepchain_tui.run.ids import parent_path, split_id
from stepchain_tui.run.spending import dollars
from stepchain_tui.run.state import RunState
from stepchain_tui.run.status import RunStatus
from stepchain_tui.run.step_state import Usage
from stepchain_tui.store.base import AbstractStore

LAST_RUNS = 5
"""Earlier runs that are looked at."""
_LISTED = 50
_LONGEST = 100_000
"""Events of a run above which it is not looked at: nobody waits for a forecast that long."""
_ENDED = (RunStatus.SUCCEEDED, RunStatus.FAILED)
_TALKS = (ActionKind.PROMPT.value, ActionKind.AGENT.value)


class Range(msgspec.Struct, frozen=True):
    """What something took in earlier runs: the least, the mean, the most."""

    low: float
    mean: float
    high: float

    @classmethod
    def of(cls, amounts: Iterable[float]) -> Range | None:
        """Return the range of some amounts, None for none."""
        found = list(amounts)
        return cls(min(found), sum(found) / len(found), max(found)) if found else None

    @classmethod
    def total(cls, parts: Iterable[Range]) -> Range | None:
        """Return what several things take together, None for none."""
        found = list(parts)
        if not found:
            return None
        return cls(sum(one.low for one in found), sum(one.mean for one in found), sum(one.high for one in found))


class StepForecast(msgspec.Struct, frozen=True, kw_only=True):
    """What one step will probably take.

    Attributes:
        step_id: The step; parts of a map of plans count as that map.
        runs: In how many earlier runs it succeeded.
        tokens: Tokens, None where they are not known.
        usd: US dollars, None where they are not known.
    """

    step_id: str
    runs: int = 0
    tokens: Range | None = None
    usd: Range | None = None


class Forecast(msgspec.Struct, frozen=True, kw_only=True):
    """What a plan, or a part of it, will probably take.

    Attributes:
        runs: How many earlier runs it stands on.
        steps: The steps that ask models, in plan order.
        tokens: All steps whose tokens are known together, None where none is.
        usd: All steps whose cost is known together, None where none is.
        unknown_steps: Steps of which neither is known, or not the cost.
        budget: What may be spent.
        warnings: What a person should know before the start.
    """

    runs: int
    steps: tuple[StepForecast, ...]
    tokens: Range | None = None
    usd: Range | None = None
    unknown_steps: tuple[str, ...] = ()
    budget: Limits = Limits()
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data; what is not known is null."""
        found: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(self))
        return found


async def forecast(
    store: AbstractStore,
    source: RunSource,
    *,
    only: Container[str] | None = None,
    of_run: tuple[str, Mapping[str, Usage]] | None = None,
) -> Forecast:
    """Return what a run of a plan will probably take.

    Args:
        store: Where its earlier runs are; those of the same file count, for a plan without one those of the same goal.
        source: The plan.
        only: Ids of the steps that will be carried out, where it is not all of them.
        of_run: The run that goes on, if it is one, with what its results took, see `took_by_step`: that counts too.
    """
    outlines = {outline.id: outline for outline in source.outlines()}
    made: dict[str, list[Usage]] = defaultdict(list)
    wanted = _asking(source, outlines.keys(), only)
    runs = await _earlier(store, source) if wanted else []
    took: list[Mapping[str, Usage]] = []
    if of_run is not None:
        runs = [run_id for run_id in runs if run_id != of_run[0]]
        took += [of_run[1]] if of_run[1] else []
    for run_id in runs:
        took.append(took_by_step(await store.load_state(run_id)))
    for one in took:
        for step_id, usage in _by_known_step(one, outlines.keys()).items():
            made[step_id].append(usage)
    steps = tuple(_step(step_id, made.get(step_id, [])) for step_id in outlines if step_id in wanted)
    tokens = Range.total(step.tokens for step in steps if step.tokens is not None)
    usd = Range.total(step.usd for step in steps if step.usd is not None)
    unknown = tuple(step.step_id for step in steps if step.tokens is None or step.usd is None)
    written = source.plan.budget
    budget = Limits(written.usd, written.tokens) if written is not None else Limits()
    return Forecast(
        runs=len(took),
        steps=steps,
        tokens=tokens,
        usd=usd,
        unknown_steps=unknown,
        budget=budget,
        warnings=tuple(_warnings(budget, tokens, usd)),
    )


async def forecast_of_rest(
    store: AbstractStore, state: RunState, source: RunSource, only: Container[str], took: Mapping[str, Usage]
) -> Forecast:
    """Return what is left of a run will probably take, held against what its budget leaves.

    Args:
        store: Where earlier runs are.
        state: The run.
        source: What it is made from.
        only: Ids of the steps that will be carried out.
        took: What the results of the run took before anything of it was made pending again.
    """
    found = await forecast(store, source, only=only, of_run=(state.run_id, took))
    limits, usage = run_limits(state), state.usage
    left = Limits(
        None if limits.usd is None else max(0.0, limits.usd - usage.cost),
        None if limits.tokens is None else max(0, limits.tokens - usage.input_tokens - usage.output_tokens),
    )
    warnings = tuple(_warnings(left, found.tokens, found.usd, "what is left of the budget,"))
    return msgspec.structs.replace(found, budget=left, warnings=warnings)


def _asking(source: RunSource, step_ids: Iterable[str], only: Container[str] | None) -> set[str]:
    """Return the steps that ask models: prompts, agents, and maps of plans that have some at any depth."""
    known: dict[str, bool] = {}
    found = set()
    for step_id in step_ids:
        definition = source.definition(step_id)
        step = definition.step
        talks = step.kind.value in _TALKS
        if step.plan is not None and step.for_each is not None:
            talks = _talks_inside(source, subplan_key(step, definition.folder), known)
        if talks and (only is None or step_id in only):
            found.add(step_id)
    return found


def _talks_inside(source: RunSource, key: str, known: dict[str, bool]) -> bool:
    """Return whether a plan that others run asks models, itself or in the plans that it runs.

    Args:
        source: What runs it.
        key: The plan's, see `RunSource.subplans`.
        known: What was found of plans already; plans that many others run are looked at once.
    """
    if key not in known:
        subplan, known[key] = source.subplans[key], False
        known[key] = any(step.kind.value in _TALKS for step in subplan.plan.steps) or any(
            _talks_inside(source, subplan_key(step, subplan.folder), known)
            for step in subplan.plan.steps
            if step.plan is not None
        )
    return known[key]


async def _earlier(store: AbstractStore, source: RunSource) -> list[str]:
    if source.path is not None:
        runs = await store.list_runs(limit=_LISTED, plan_path=str(source.path))
    else:
        listed = await store.list_runs(limit=_LISTED, text=source.plan.goal[:200])
        runs = [run for run in listed if run.goal == source.plan.goal and not run.plan_path]
    told = [run for run in runs if run.status in _ENDED and run.input_tokens + run.output_tokens and not run.imported]
    return [run.run_id for run in told if run.last_seq <= _LONGEST][:LAST_RUNS]


def took_by_step(state: RunState) -> dict[str, Usage]:
    """Return what the results of a run took, by step; those that it took over from elsewhere are not among them."""
    return {
        step.id: step.spent
        for step in state.steps.values()
        if step.done and step.spent is not None and step.spent.turns
    }


def _by_known_step(took: Mapping[str, Usage], known: Container[str]) -> dict[str, Usage]:
    """Return the same by the steps that a plan has: a part of a map of plans counts as that map."""
    found: dict[str, Usage] = {}
    for part, usage in took.items():
        step_id = part
        while step_id and step_id not in known:
            step_id = split_id(parent_path(step_id))[0]
        if step_id:
            found.setdefault(step_id, Usage()).include(usage)
    return found


def _step(step_id: str, made: list[Usage]) -> StepForecast:
    counted = [usage for usage in made if not usage.unknown_turns]
    priced = [usage for usage in made if not usage.unpriced_turns]
    return StepForecast(
        step_id=step_id,
        runs=len(made),
        tokens=Range.of(float(usage.input_tokens + usage.output_tokens) for usage in counted),
        usd=Range.of(usage.cost for usage in priced),
    )


def _warnings(budget: Limits, tokens: Range | None, usd: Range | None, name: str = "the budget of") -> Iterable[str]:
    for limit, amounts, told in ((budget.usd, usd, dollars), (budget.tokens, tokens, _tokens)):
        if limit is None or amounts is None or amounts.high <= limit:
            continue
        how = "is expected to exceed" if amounts.mean > limit else "may exceed"
        low, high = told(amounts.low), told(amounts.high)
        yield f"it {how} {name} {told(limit)}: earlier runs took {low if low == high else f'{low} to {high}'}"


def _tokens(amount: float) -> str:
    return f"{amount:,.0f} tokens"

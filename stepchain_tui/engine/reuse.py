"""The cache of results (`cache: true`, or seconds): what was made of the same action, input and code is not made again.

Errors are never kept. A step that a person runs again by hand is made anew, whatever is kept.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import msgspec

from stepchain_tui.core.values import encode_json, to_json_value
from stepchain_tui.engine.work import Work
from stepchain_tui.plan import ActionKind, function_reference
from stepchain_tui.plan.executor_types import CACHED
from stepchain_tui.resilience.cache import KEY_LENGTH, CacheParts, expired_for, explain_miss
from stepchain_tui.run.step_state import StepState
from stepchain_tui.run.values import Kept
from stepchain_tui.run.why_words import spoken
from stepchain_tui.store.base import CacheEntry

if TYPE_CHECKING:
    from stepchain_tui.engine.driver import Driver

CACHED_SECONDS = 300.0
"""For how long, where the step's `cache` says nothing (document 004)."""
HIT = "hit"
MISS = "miss"


class CacheAnswer(msgspec.Struct, frozen=True):
    """What the cache said of one attempt.

    Attributes:
        parts: The three hashes that were asked for.
        said: What the attempt's event keeps: `hit: 3 min old`, `miss: the input changed`.
        entry: The result, on a hit.
    """

    parts: CacheParts
    said: str
    entry: CacheEntry | None = None


def is_cached(work: Work, step: StepState) -> bool:
    """Return whether the cache is asked before this attempt is made."""
    return keeps_result(work) and work.tries == 0 and work.cached is None and not step.wanted_anew


def keeps_result(work: Work) -> bool:
    """Return whether a step's result is kept for other attempts."""
    step = work.step.step
    return step.cache is not False or (step.executor == CACHED and _is_cached_type(work.step.kind))


def _is_cached_type(kind: ActionKind) -> bool:
    """Return whether `executor: cached` is the cache of results, and not a class that somebody registered."""
    from stepchain_tui.executors.function import FunctionExecutorFactory

    return kind is ActionKind.FUNCTION and FunctionExecutorFactory.registry.is_shipped(CACHED)


async def ask_cache(driver: Driver, work: Work) -> CacheAnswer:
    """Return what the cache holds for an attempt whose call is made.

    Raises:
        StoreError: The store cannot be read.
    """
    store, now = driver.core.store, driver.core.clock.now()
    parts, ttl = _parts(driver, work), _seconds(work)
    entry = await store.find_cached(parts.key)
    if entry is not None:
        over = expired_for(entry.created_at, ttl, now)
        if over is None:
            age = max(0.0, (now - entry.created_at).total_seconds())
            return CacheAnswer(parts, f"{HIT}: {spoken(age)} old", entry)
        return CacheAnswer(parts, f"{MISS}: {explain_miss(parts, None, expired_for=over)}")
    last = await store.last_cached(_scope(driver, work))
    known = CacheParts(last.action, last.input, last.code) if last is not None else None
    return CacheAnswer(parts, f"{MISS}: {explain_miss(parts, known)}")


def keep_result(driver: Driver, work: Work, output: Kept) -> None:
    """Keep a result that was made, with the commit that says so."""
    if not keeps_result(work) or work.call is None:
        return
    if any(answer.arguments != work.call.args for answer in work.call.answers.values()):
        return  # made with what a person changed: it is not the result of this input
    parts = work.cached.parts if work.cached is not None else _parts(driver, work)
    entry = CacheEntry(
        key=parts.key,
        scope=_scope(driver, work),
        action=parts.action,
        input=parts.input,
        code=parts.code,
        output=output,
        run_id=driver.run_id,
        step_id=work.step.id,
        attempt=work.attempt,
        item=work.item,
        created_at=driver.core.clock.now(),
    )
    driver.core.recorder.keep_cached(entry)


def origin_of(entry: CacheEntry) -> str:
    """Return where a cached result was made, as `RUN/STEP`."""
    return f"{entry.run_id}/{entry.step_id}"


def _seconds(work: Work) -> float | None:
    wanted = work.step.step.cache
    if wanted is False:
        return CACHED_SECONDS
    return None if wanted is True else float(wanted)


def _scope(driver: Driver, work: Work) -> str:
    plan = driver.state.plan_path or driver.state.goal
    item = "" if work.item is None else str(work.item)
    return f"{plan}/{work.step.id}/{item}"


def _parts(driver: Driver, work: Work) -> CacheParts:
    """Return the hashes of what an attempt does; its input with the secrets in it, so that two accounts never mix."""
    call = work.call
    assert call is not None
    action, code = driver.core.hasher.parts_of(work.step.definition, driver.source)
    value = function_reference(call.value) if work.step.kind is ActionKind.FUNCTION else call.value
    found: dict[str, Any] = {"value": value, "args": call.args, "options": call.options}
    if work.step.takes_environment:
        named = {**(work.step.step.env or {}), **dict.fromkeys(work.step.step.secrets)}
        found["cwd"] = str(call.cwd)
        found["env"] = {name: call.environment.get(name) for name in named}
    digest = hashlib.sha256(encode_json(to_json_value(found))).hexdigest()[:KEY_LENGTH]
    return CacheParts(action, digest, code)

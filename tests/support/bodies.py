"""What the steps of random plans do: each call does the next thing that was drawn for its step, or waits to be told.

A step names its workshop by a key, so that a resume which knows only the kept plan finds the same one.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from stepchain_tui.run import AttemptError, ErrorType
from stepchain_tui.tools.context import StepContext

_workshops: dict[str, Workshop] = {}
_numbers = itertools.count(1)
ERRORS: dict[str, Callable[[], Exception]] = {
    "tool": lambda: RuntimeError("broke"),
    "user": lambda: TypeError("not like this"),
    "server": lambda: ConnectionError("gone"),
    "rate": lambda: AttemptError("slow down", error_type=ErrorType.RATE_LIMIT, retry_after=2.0),
}


@dataclass(eq=False)
class Call:
    """One call of a step's function.

    Attributes:
        run_id: Its run.
        step_id: Its step, as the run calls it.
        item: Its item, or None.
        attempt: Its attempt.
        key: Its idempotency key.
        life: Which engine made it: a call of an engine that was killed is nobody's any more.
        outcome: What it comes to, once it is told.
    """

    run_id: str
    step_id: str
    item: int | None
    attempt: int
    key: str
    life: int
    outcome: asyncio.Future[str] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Workshop:
    """Where the bodies of one test run.

    Args:
        outcomes: What the calls of each step come to, one after the other and from the start again.

    Attributes:
        running: The calls that run.
        on_begin: Told of each call before it does anything.
        all_well: From now on every call succeeds at once.
    """

    def __init__(self, outcomes: dict[str, tuple[str, ...]]) -> None:
        self.key = f"workshop-{next(_numbers)}"
        self.outcomes = outcomes
        self.running: list[Call] = []
        self.on_begin: Callable[[Call], None] = lambda call: None
        self.all_well = False
        self.life = 0
        self._counts: Counter[str] = Counter()
        _workshops[self.key] = self

    def close(self) -> None:
        """Forget this workshop."""
        _workshops.pop(self.key, None)

    def begin(self, name: str, ctx: StepContext) -> tuple[Call, str, int]:
        """Record a call; returns it, what it is to come to, and its number among the calls of the step."""
        call = Call(ctx.run_id, ctx.step_id, ctx.item, ctx.attempt, ctx.idempotency_key, self.life)
        self.running.append(call)
        self.on_begin(call)
        script, n = self.outcomes.get(name) or ("ok",), self._counts[name]
        self._counts[name] += 1
        return call, "ok" if self.all_well else script[n % len(script)], n

    def end(self, call: Call) -> None:
        """Record that a call ended."""
        if call in self.running:
            self.running.remove(call)

    def kill(self) -> None:
        """Take note that the engine is gone, with all that ran."""
        self.life += 1
        self.running.clear()


async def body(world: str, name: str, ctx: StepContext, **_: Any) -> list[int]:
    """Do what was drawn, or what the test says later."""
    here = _workshops[world]
    call, outcome, n = here.begin(name, ctx)
    try:
        if outcome == "wait":
            outcome = await call.outcome
        elif outcome == "stubborn":  # takes its time to stop, and then fails
            try:
                outcome = await call.outcome
            except asyncio.CancelledError:
                for _turn in range(3):
                    await asyncio.sleep(0)
                raise RuntimeError("was disturbed") from None
        elif outcome == "deaf":  # does not care that it is to stop
            try:
                outcome = await call.outcome
            except asyncio.CancelledError:
                outcome = "ok"
        else:
            for _turn in range(n % 3):
                await asyncio.sleep(0)
        if outcome in ERRORS:
            raise ERRORS[outcome]()
        return list(range(n % 4))
    finally:
        here.end(call)

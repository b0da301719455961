"""What an answer about one step is made from: the run, the step, its history, and the moment of the question."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import cached_property
from typing import Any

from stepchain_tui.run import events as e
from stepchain_tui.run.critical_path import critical_path
from stepchain_tui.run.state import RunState
from stepchain_tui.run.step_state import StepState
from stepchain_tui.run.why_chains import Chains
from stepchain_tui.run.why_facts import Fact
from stepchain_tui.run.why_history import History
from stepchain_tui.run.why_times import Times, run_seconds, times_of
from stepchain_tui.run.why_words import spoken

SLOW_SHARE = 0.25
"""Of the run's time: a step that took as much is asked about as slow."""
SLOW_SECONDS = 1.0
_PATH_SHOWN = 8

Answer = tuple[str, str, str]
"""Question, answer and the id of the step that it comes from."""


class Asked:
    """A question about one step.

    Attributes:
        state: The run.
        events: Its events.
        step: The step.
        history: What happened to it.
        now: The moment at which it is asked.
        chains: What waits for what in the run.
        facts: What holds now, told below the history.
    """

    def __init__(
        self, state: RunState, events: Sequence[e.Event], step: StepState, history: History, now: datetime
    ) -> None:
        self.state = state
        self.events = events
        self.step = step
        self.history = history
        self.now = now
        self.chains = Chains(state, now)
        self.facts: list[Fact] = []

    @cached_property
    def times(self) -> Times:
        """Where the step's time went."""
        return times_of(self.state, self.events, self.step.id, self.now)

    @property
    def is_slow(self) -> bool:
        """Whether the step took so much of the run that this is what one would ask about."""
        taken = self.times.taken
        return taken >= SLOW_SECONDS and taken >= SLOW_SHARE * run_seconds(self.state, self.now)

    def add(self, text: str) -> None:
        """Add something that holds now."""
        self.facts.append(Fact(text))

    def written(self, key: str, step_id: str = "") -> Any:
        """Return what the plan says under a key of a step, None where it says nothing or the step is a part."""
        wanted = step_id or self.step.id
        steps: list[dict[str, Any]] = self.state.plan.get("steps", [])
        return next((step.get(key) for step in steps if step.get("id") == wanted), None)

    def add_surroundings(self) -> None:
        """Add what is told of every step: what it is a part of, how its items stand, where its time went."""
        step = self.step
        if step.outline.part_of:
            index = step.outline.part_of_item
            self.add(f"is a part of {step.outline.part_of}" + (f", item {index}" if index is not None else ""))
        if inside := self.chains.inside(step):
            self.add(inside)
        if step.attempts and not step.origin:
            self._add_times()

    def _add_times(self) -> None:
        whole, taken = run_seconds(self.state, self.now), self.times.taken
        if whole > 0 and self.times.words():
            self.add(f"took {spoken(taken)}, {min(1.0, taken / whole):.0%} of the run's {spoken(whole)}")
            self.add(f"where its time went: {self.times.words()}")
        if not self.step.ended:
            return
        path = [found.step_id for found in critical_path(self.state, self.events)]
        if path:
            shown = path if len(path) <= _PATH_SHOWN else [*path[:3], "...", *path[-4:]]
            is_on_it = "is" if self.step.id in path else "is not"
            self.add(f"{is_on_it} on the critical path: {' -> '.join(shown)}")

"""Answers to "why", asked again and again while a run goes on: events are read once and folded once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from stepchain_tui.core.errors import UnknownStepError
from stepchain_tui.run import events as e
from stepchain_tui.run.state import RunState
from stepchain_tui.run.status import RUN_ENDED, RunStatus
from stepchain_tui.run.why import Explanation, explain, explain_run
from stepchain_tui.store.base import AbstractStore

CHUNK = 2_000
"""Events that are read before others get their turn."""


class WhyReader:
    """What was read of one run to answer why; everything but making it belongs to the reader's loop.

    The state is its own: answers are found in a thread beside the loop, in which no other state may be looked at.

    Args:
        run_id: The run.
    """

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self._state = RunState()
        self._events: list[e.Event] = []
        self._turn = asyncio.Lock()

    async def ask(self, store: AbstractStore, *, step_id: str, now: datetime) -> tuple[Explanation, ...]:
        """Return why a step is as it is, and, where the run has stopped, why that did.

        Args:
            store: Where to read.
            step_id: The step; no answer for one that the run does not have.
            now: The moment at which it is asked.
        """
        async with self._turn:
            fresh: list[e.Event] = []
            while True:
                after = fresh[-1].seq if fresh else self._state.last_seq
                found = await store.read_events(self.run_id, after=after, limit=CHUNK)
                fresh += found
                if len(found) < CHUNK:
                    break
            alive = store.owner_alive(self.run_id)
            return await asyncio.to_thread(self._answer, fresh, step_id, now, alive)

    def _answer(self, fresh: Sequence[e.Event], step_id: str, now: datetime, alive: bool) -> tuple[Explanation, ...]:
        for event in fresh:
            self._state.apply(event)
        self._events += fresh
        answers = []
        try:
            answers.append(explain(self._state, self._events, step_id, now=now))
        except UnknownStepError:
            return ()
        status = self._state.status
        if not alive and status is RunStatus.RUNNING:
            words = "the engine that carried the run out is gone; p goes on with it"
            run = explain_run(self._state, self._events, now=now)
            answers.append(replace(run, status=RunStatus.INTERRUPTED, question="why did it stop?", answer=words))
        elif status in RUN_ENDED or not alive:
            answers.append(explain_run(self._state, self._events, now=now))
        return tuple(answers)

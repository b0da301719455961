"""One run, followed: folded in the reader's thread, told to a screen in frames.

A frame is made at most every `FRAME_SECONDS`, and only when the last one was taken: however many events arrive, the
screen gets one picture of what changed. Whether a living process owns the run is no event, so it is looked at beside.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from stepchain_tui.core.errors import StepChainError, UnknownRunError
from stepchain_tui.run import events as e
from stepchain_tui.run.state import RunState
from stepchain_tui.run.status import RUN_ENDED
from stepchain_tui.store.base import AbstractStore, CorruptEvent
from stepchain_tui.tui.calls import CALL_EVENTS, CallRow, ToolCalls, ended_as, read_calls
from stepchain_tui.tui.last_answers import LastAnswers
from stepchain_tui.tui.live_text import TALKS, LiveText, LiveTexts
from stepchain_tui.tui.text import one_line, plural, with_hint
from stepchain_tui.tui.views import Frame, RunView, StepDetail, StepView, parents_of, run_view, step_detail, step_view

FRAME_SECONDS = 0.06
OWNER_SECONDS = 0.5
"""How often it is looked at whether the run's owner lives."""
GRACE_SECONDS = 3.0
"""How long a run that is not there may take to appear."""
CHUNK = 2_000
"""Events that are read and folded before others get their turn."""
Sink = Callable[["RunFeed", Frame], object]


class RunFeed:
    """Follows one run for one screen. Everything but `taken` belongs to the reader's loop.

    Args:
        store: Where to read.
        run_id: The run.
        sink: Takes frames; called on the reader's thread.
        default_model: Names the model of steps that name none, from the run's plan.
    """

    def __init__(
        self, store: AbstractStore, run_id: str, sink: Sink, default_model: Callable[[Mapping[str, Any]], str]
    ) -> None:
        self.run_id = run_id
        self.state = RunState()
        self._store = store
        self._sink = sink
        self._default_model = default_model
        self._model = ""
        self._models: dict[str, str] = {}
        self._changed: dict[str, None] = {}
        self._new_graph = False
        self._calls = ToolCalls()
        self._answers = LastAnswers()
        self._alive = False
        self._log: tuple[str, int | None] | None = None
        self._log_count = 0
        self._live: LiveText | None = None
        self._problem = ""
        self._damage = ""
        self._dirty = asyncio.Event()
        self._taken = asyncio.Event()
        self._taken.set()
        self._loop = asyncio.get_running_loop()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to follow."""
        self._tasks = [
            asyncio.create_task(self._follow(), name=f"follow {self.run_id}"),
            asyncio.create_task(self._watch_owner(), name=f"owner of {self.run_id}"),
            asyncio.create_task(self._send(), name=f"frames of {self.run_id}"),
        ]

    async def stop(self) -> None:
        """Follow no more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def taken(self) -> None:
        """Tell that the last frame was shown; from any thread."""
        with contextlib.suppress(RuntimeError):  # the reader has ended
            self._loop.call_soon_threadsafe(self._taken.set)

    @property
    def idle(self) -> bool:
        """Whether everything that is known was told and shown."""
        return not self._dirty.is_set() and self._taken.is_set()

    async def detail(self, step_id: str) -> StepDetail:
        """Return what the panes of a step show. Raises UnknownStepError."""
        return step_detail(self.state.step(step_id), self._answers)

    async def calls(self, step_id: str) -> tuple[tuple[CallRow, ...], int]:
        """Return a step's tool calls, the newest first, and how many older ones are not listed.

        Raises UnknownStepError.
        """
        step = self.state.step(step_id)
        return self._calls.of(step_id, ended_as(step)), self._calls.dropped(step_id)

    async def watch_log(self, step_id: str | None, attempt: int | None) -> int:
        """Tell from now on how many lines the log of that step has; returns how many there are."""
        self._log = None if step_id is None else (step_id, attempt)
        self._log_count = 0
        step = self.state.steps.get(step_id or "")
        talks = step is not None and step.outline.kind in TALKS
        self._live = LiveText(self._store, self.run_id, step.id) if step is not None and talks else None
        await self._count_log()
        return self._log_count

    # --- what happens in the store

    async def _follow(self) -> None:
        try:
            if await self._is_there():
                async for _ in self._store.changes():
                    await self._take_in()
        except StepChainError as error:
            self._tell_problem(error)

    async def _is_there(self) -> bool:
        """Wait for a run that was started just now: its id is told before its first event is durable."""
        try:
            async with asyncio.timeout(GRACE_SECONDS):
                async for _ in self._store.changes():
                    try:
                        await self._store.get_run(self.run_id)
                    except UnknownRunError as error:
                        missing = error
                    else:
                        return True
        except TimeoutError:
            self._tell_problem(missing)
        return False

    async def _take_in(self) -> None:
        try:
            await self._read_on()
        except (StepChainError, LookupError, AttributeError, TypeError, ValueError):  # as for `store.readable`
            if not await self._take_what_is_readable():
                raise
        self._look_at_owner()
        await self._count_log()
        if self._changed or self._new_graph:
            self._dirty.set()

    async def _read_on(self) -> None:
        while True:
            events = await self._store.read_events(self.run_id, after=self.state.last_seq, limit=CHUNK)
            for event in events:
                self._apply(event)
            if len(events) < CHUNK:
                break
            await asyncio.sleep(0)

    async def _take_what_is_readable(self) -> bool:
        """Show a run without the events that cannot be read, or make no sense without those; say if there are any."""
        state, corrupt = await self._store.load_readable(self.run_id)
        if not corrupt:
            return False
        self.state = state
        self._calls = await read_calls(self._store, self.run_id)
        self._take_plan()
        if (damage := damage_of(corrupt)) != self._damage:
            self._damage = self._problem = damage
        return True

    def _apply(self, event: e.Event) -> None:
        self.state.apply(event)
        match event:
            case e.RunCreated() | e.RunRevised():
                self._take_plan()
            case e.CommandApplied(command="breakpoint", arguments={"step": str(stopped_at)}):
                self._changed[stopped_at] = None
                self._dirty.set()
            case e.StepExpanded() if self.state.steps[event.step_id].outline.kind == "plan":
                self._new_graph = True
                self._changed.update(dict.fromkeys((event.step_id, *(part.id for part in event.steps))))
            case _:
                if type(event) in CALL_EVENTS:
                    self._calls.take(event)
                elif isinstance(event, e.ModelTurn):
                    self._answers.take(event)
                step_id = getattr(event, "step_id", None)
                if step_id is not None:
                    self._changed[step_id] = None
                self._dirty.set()

    def _take_plan(self) -> None:
        self._new_graph = True
        self._changed = dict.fromkeys(self.state.steps)
        self._model = self._default_model(self.state.plan)
        self._models = {
            str(step.get("id")): str(step.get("model") or "")
            for step in self.state.plan.get("steps", ())
            if "prompt" in step or "agent" in step
        }

    async def _count_log(self) -> None:
        if self._log is None:
            return
        watched = self._log
        found = await self._store.count_log(self.run_id, step_id=watched[0], attempt=watched[1])
        if watched == self._log and found != self._log_count:
            self._log_count = found
            if self._live is not None:
                await self._live.read_on()
            self._dirty.set()

    def _look_at_owner(self) -> None:
        alive = self._store.owner_alive(self.run_id)
        if alive != self._alive:
            self._alive = alive
            self._dirty.set()

    async def _watch_owner(self) -> None:
        while True:
            await asyncio.sleep(OWNER_SECONDS if self._alive or self.state.status not in RUN_ENDED else 2.0)
            self._look_at_owner()

    def _tell_problem(self, error: StepChainError) -> None:
        self._problem = with_hint(error)
        self._dirty.set()

    # --- what the screen is told

    async def _send(self) -> None:
        while True:
            await self._dirty.wait()
            await self._taken.wait()
            self._dirty.clear()
            self._taken.clear()
            self._sink(self, self._frame())
            await asyncio.sleep(FRAME_SECONDS)

    def _frame(self) -> Frame:
        state, changed = self.state, self._changed
        self._changed, new_graph, self._new_graph = {}, self._new_graph, False
        steps = {step_id: self._step_view(step_id) for step_id in changed if step_id in state.steps}
        parents = parents_of(state) if new_graph else None
        log = None if self._log is None else (*self._log, self._log_count)
        problem, self._problem = self._problem, ""
        return Frame(self._view(), steps, parents, log, problem, self._text())

    def _text(self) -> tuple[str, LiveTexts] | None:
        """Return what a model is just writing for the step that is watched, where there is anything new."""
        live = self._live
        if live is None or live.step_id not in self.state.steps:
            return None
        texts = live.texts(self.state.steps[live.step_id])
        return (live.step_id, texts)

    def _view(self) -> RunView:
        view = run_view(self.state, alive=self._alive, model=self._model)
        return dataclasses.replace(view, damage=self._damage) if self._damage else view

    def _step_view(self, step_id: str) -> StepView:
        step = self.state.step(step_id)
        model = (self._models.get(step_id) or self._model) if step_id in self._models else ""
        return step_view(step, model, self.state.last_seq)


def damage_of(corrupt: Sequence[CorruptEvent]) -> str:
    """Return in one line what of a run cannot be shown: the first event, and how many more there are."""
    first, more = corrupt[0], len(corrupt) - 1
    step = f" ({first.type} of {first.step_id})" if first.step_id else ""
    others = f", nor {plural(more, 'event')} after it" if more else ""
    why = first.problem.removeprefix("an event cannot be read: ")
    return f"event {first.seq}{step} cannot be read: {one_line(why)}{others}"


def model_label(plan: Mapping[str, Any], settings_model: str) -> str:
    """Return the model that a plan's prompts go to where they name none: its name, `scripted` or `no model`."""
    from stepchain_tui.llm.choice import choose_model

    defaults = plan.get("defaults") or {}
    named = defaults.get("model")
    wanted = {step.get("model") for step in plan.get("steps", ()) if "prompt" in step or "agent" in step}
    if not named and len(wanted) == 1:
        named = wanted.pop()
    if not named and len(wanted) > 1 and None not in wanted:
        return f"{len(wanted)} models"
    models = None
    if plan.get("models"):
        from stepchain_tui.plan.models import ModelSpec

        models = {name: ModelSpec.model_validate(spec) for name, spec in plan["models"].items()}
    return choose_model(named, None, settings_model, os.environ, models).label

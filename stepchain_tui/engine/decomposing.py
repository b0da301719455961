"""From a goal in plain words to a plan that a person edits: the run that asks a model, and what comes of it.

A decomposition is a run as any other: it is kept, counted, tried again, cancelled and replayed as runs are. Its steps
are `draft` (a model writes a plan), `check`, `mend` (the model mends it, once, where it has problems) and `plan`. What
the plan says is never begun from here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stepchain_tui.core.errors import PlanError
from stepchain_tui.core.settings import Settings
from stepchain_tui.engine.asking import asking_plan, model_of, require_model, result_of_asking
from stepchain_tui.engine.engine import Engine
from stepchain_tui.engine.executor import result_of
from stepchain_tui.engine.source import RunSource
from stepchain_tui.engine.tools_at_hand import ToolName, told_tools, usual_tools
from stepchain_tui.llm import SCRIPTED
from stepchain_tui.llm.decomposer import ANSWER_SCHEMA, MAX_STEPS, question, system_text
from stepchain_tui.plan import Plan, parse_plan
from stepchain_tui.plan.literals import literal
from stepchain_tui.run.step_state import Usage

if TYPE_CHECKING:
    from stepchain_tui.store.base import AbstractStore

PLAN_STEP = "plan"
"""The step whose output is the plan."""


@dataclass(frozen=True, slots=True)
class Decomposition:
    """What came of a goal.

    Attributes:
        text: The plan as YAML, to be read and edited.
        problems: What is wrong with it, one line each; nothing of it can run while there are some.
        notes: What the model took for granted.
        effects: What its steps would do outside, one line each.
        steps: How many steps it has.
        run_id: The run that asked the model.
        model: The model that wrote it.
        usage: What it took.
    """

    text: str
    problems: tuple[str, ...]
    notes: tuple[str, ...]
    effects: tuple[str, ...]
    steps: int
    run_id: str
    model: str
    usage: Usage

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data; `usage` has the fields of `Usage`."""
        return {
            "run_id": self.run_id,
            "model": self.model,
            "text": self.text,
            "problems": list(self.problems),
            "notes": list(self.notes),
            "effects": list(self.effects),
            "steps": self.steps,
            "usage": asdict(self.usage),
        }


# --- the run


def decomposition_source(
    goal: str,
    tools: Sequence[Mapping[str, Any]] = (),
    *,
    folder: Path,
    model: str | None = None,
    made_by: str = "",
    max_steps: int = MAX_STEPS,
    temperature: float | None = None,
    replies: Sequence[Any] | None = None,
) -> RunSource:
    """Return what the run of a decomposition is made from.

    Args:
        goal: What the plan is to do.
        tools: The tools at hand, see `tools_at_hand`.
        folder: Where the plan's file will be.
        model: The model that is asked.
        made_by: How the plan's head calls it.
        max_steps: How many steps the plan may have.
        temperature: Of the model.
        replies: The answers of `model: scripted`.

    Raises:
        UsageError: There is no goal, or it is too long.
    """
    inputs = {"question": question(goal, tools, max_steps)}
    place = "stepchain_tui.llm.decomposer"
    further = {
        "folder": literal(str(folder)),
        "made_by": literal(made_by or model or "a model"),
        "max_steps": max_steps,
    }
    first_line = goal.strip().splitlines()[0]
    plan = asking_plan(
        f"plan: {first_line[:120]}",
        inputs,
        system_text(),
        ANSWER_SCHEMA,
        ("check", f"{place}:review"),
        (PLAN_STEP, f"{place}:finish"),
        further,
        model=model,
        replies=replies,
        temperature=temperature,
    )
    return RunSource(plan=plan, folder=folder, working_folder=folder, inputs=inputs, checked=True)


async def decomposition_of(store: AbstractStore, run_id: str) -> Decomposition:
    """Return what came of a run of a decomposition that has ended.

    Raises:
        AttemptError: It made no plan; says why, and what to do.
        UsageError: The run is none of a decomposition.
    """
    state = await store.load_state(run_id)
    found = await result_of_asking(store, state, PLAN_STEP, "plan")
    return Decomposition(
        text=str(found["text"]),
        problems=tuple(found["problems"]),
        notes=tuple(found["notes"]),
        effects=tuple(found["effects"]),
        steps=int(found["steps"]),
        run_id=state.run_id,
        model=model_of(state),
        usage=state.usage,
    )


# --- from Python (document 000)


class TaskDecomposer:
    """Makes plans of goals (document 000). Each goal is a run in the store's history.

    Args:
        client: An `LLMClient` or its awaitable twin; OpenAI, as the environment describes it, if None.
        model: The model; the user's if None.
        max_steps: How many steps a plan may have.
        temperature: Of the model; its own if None.
        store: Where the runs are kept; the user's store if None.
        settings: The user's settings; all defaults if None.
        folder: What `./` in plans is relative to; the current folder if None.
        replies: The answers of `model="scripted"`.
    """

    def __init__(
        self,
        client: Any = None,
        model: str | None = None,
        max_steps: int = MAX_STEPS,
        temperature: float | None = None,
        *,
        store: AbstractStore | None = None,
        settings: Settings | None = None,
        folder: Path | None = None,
        replies: Sequence[Any] | None = None,
    ) -> None:
        self.client = client
        self.model = SCRIPTED if replies is not None and model is None else model
        self.max_steps = max_steps
        self.temperature = temperature
        self._store = store
        self._settings = settings or Settings()
        self._folder = folder
        self._replies = replies

    def decompose(self, goal: str, tools: Iterable[ToolName] | None = None) -> Plan:
        """Return a plan that was not run. Works inside a running loop too.

        Args:
            goal: What it is to do, in plain words.
            tools: The tools at hand, see `tools_at_hand`; the built-in ones, `web_search` and the settings' servers if
                None.

        Raises:
            PlanError: The plan has problems that the model did not mend: `draft` gives it all the same.
            UsageError: There is no goal, no such tool, or no model to ask.
            AttemptError: The model gave no plan.
        """
        return result_of(lambda: self.decompose_async(goal, tools), "decomposition")

    async def decompose_async(self, goal: str, tools: Iterable[ToolName] | None = None) -> Plan:
        """Return a plan that was not run; see `decompose`."""
        found = await self.draft(goal, tools)
        if found.problems:
            raise PlanError(found.problems, hint=f"TaskDecomposer.draft gives its text; the run is {found.run_id}.")
        return parse_plan(found.text, "the draft", self._here).plan

    async def draft(self, goal: str, tools: Iterable[ToolName] | None = None) -> Decomposition:
        """Return the plan's text with its problems, if any; nothing of it is run.

        Raises:
            UsageError: There is no goal, no such tool, or no model to ask.
            AttemptError: The model gave no plan.
        """
        from stepchain_tui.store import SQLiteStore

        settings, folder = self._settings, self._here
        made_by = self.model or "" if self.client is not None else require_model(self.model, settings)
        given = usual_tools(settings) if tools is None else list(tools)
        store = self._store or SQLiteStore(durability=settings.durability)
        async with Engine(store, settings=settings, client=self.client) as engine:
            source = decomposition_source(
                goal,
                await told_tools(engine, given, folder, settings, connect=tools is not None),
                folder=folder,
                model=self.model,
                made_by=made_by,
                max_steps=self.max_steps,
                temperature=self.temperature,
                replies=self._replies,
            )
            handle = await engine.start(source, detach=True)
            await handle.wait()
            return await decomposition_of(engine.store, handle.run_id)

    @property
    def _here(self) -> Path:
        return self._folder or Path.cwd()


def decompose(
    task: str,
    tools: Iterable[ToolName] | None = None,
    model: str | None = None,
    max_steps: int = MAX_STEPS,
    temperature: float | None = None,
    *,
    client: Any = None,
    store: AbstractStore | None = None,
) -> Plan:
    """Return a plan for a goal in plain words, which was not run (document 000); see `TaskDecomposer`."""
    return TaskDecomposer(client, model, max_steps, temperature, store=store).decompose(task, tools)
